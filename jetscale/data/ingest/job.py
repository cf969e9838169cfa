"""What is converted: the map from branches to columns, and the job that asks for files to be converted with it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationInfo, field_validator, model_validator

from jetscale.config import Config, Values, build, merge, parse_set, read_yaml
from jetscale.derive import Derived, Range, absolute
from jetscale.errors import ConfigError, nearest
from jetscale.kinds import derived
from jetscale.schema import Number

Energy = Literal["MeV", "GeV", "TeV"]
ENERGIES = {"MeV", "GeV", "TeV", "energy"}
Word = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
KINEMATICS = ({"pt", "eta", "phi", "mass"}, {"pt", "eta", "phi", "energy"}, {"px", "py", "pz", "energy"})
VECTOR = frozenset.union(*map(frozenset, KINEMATICS))
WAYS = ("up", "down")


def _names(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _short(value: Any) -> Any:
    """`Jet_pt`, or a list of names, instead of `{branch: ...}`."""
    return {"branch": value} if isinstance(value, str | list | tuple) else value


class Branch(Config):
    """Where a column comes from.

    Of several names the first that a file has is taken, as versions of a format differ. `{n}` in a name stands for 1,
    2, 3, ... (or from 0): one branch per member of a collection, as in `jet{n}_pt`; those that hold `pad` are no
    members. `NAME[0]` is the first of the numbers that a branch holds per event, or per member, and `NAME.x` the member
    x of an object.
    """

    branch: Annotated[tuple[str, ...], BeforeValidator(_names), Field(min_length=1)]
    unit: str = Field("", description="in the file; MeV and TeV become GeV; `energy` is that of the four-vectors")
    dtype: Number | None = Field(None, description="of the column; without it, that of the branch")
    missing: float | None = Field(None, description="stands where a file lacks the branch, and for what is not finite")

    @field_validator("unit")
    @classmethod
    def _energies_are_known(cls, unit: str) -> str:
        if unit not in ENERGIES and unit.lower() in {one.lower() for one in ENERGIES}:
            raise ValueError(nearest(unit, ENERGIES))
        return unit


Branches = dict[Word, Annotated[Branch, BeforeValidator(_short)]]


class Sum(Config):
    """Where a file says how much its generator's weights summed to before anybody skimmed it."""

    tree: str
    branch: Annotated[tuple[str, ...], BeforeValidator(_names), Field(min_length=1)]


class Weight(Config):
    """The branches whose product is an event's weight."""

    generator: str | None = Field(None, description="the generator's weight, whose sum normalises the sample")
    factors: tuple[str, ...] = Field((), description="more factors, each of them if the files have it")
    sum: Sum | None = Field(None, description="without it, the sum is taken over the events of the files")


class Map(Config):
    """How the branches of a format become columns; what stands under `map:` in its YAML file.

    `columns` has the numbers per event under `event`, and those per member under the name of their collection:
    `jet: {pt: Jet_pt}` gives the column `jet_pt`. Only the four-vectors of the jets are required: `pt, eta, phi` with
    `mass` or `energy`, or `px, py, pz, energy`.
    """

    format: Literal["root", "spanet", "cannonball", "jetclass", "energyflow", "top_tagging", "lhco", "pfnano"] = "root"
    tree: str | None = Field(None, description="without it, the only tree or RNTuple of the file")
    energy: Energy = Field("GeV", description="unit of all four-vectors in the files")
    pad: float | None = Field(None, description="what stands in numbered or padded branches where there is no member")
    parents: tuple[str, str] | None = Field(None, description="of spanet: two of its target particles, if it has more")
    counts: dict[Word, str] = Field(
        {}, description="collection: branch with the number of its members, where they fill the front of an array"
    )
    columns: dict[Word, Branches] = {}
    weight: Weight = Weight()
    variations: dict[Word, dict[str, tuple[str, str]]] = Field(
        {}, description="name: {branch: [up, down]}; every column made of the branch gets a twin _NAME_up and _down"
    )

    @model_validator(mode="after")
    def _jets_are_whole(self) -> Self:
        if self.format != "root":
            return self
        if "jet" not in self.columns:
            raise ValueError("columns has no jet: their four-vectors are required")
        for collection, members in self.columns.items():
            kinds = VECTOR & members.keys()
            if collection == "jet" and not any(kinds >= kind for kind in KINEMATICS):
                wanted = "pt, eta, phi, mass; or pt, eta, phi, energy; or px, py, pz, energy"
                raise ValueError(f"columns.jet has {', '.join(sorted(kinds)) or 'no momenta'}, and must have {wanted}")
        return self

    @model_validator(mode="after")
    def _units_of_momenta(self) -> Self:
        for collection, members in self.columns.items():
            for member in members.keys() & VECTOR if collection != "event" else ():
                known = {"rad"} if member == "phi" else set() if member == "eta" else ENERGIES
                if (unit := members[member].unit) and unit not in known:
                    raise ValueError(f"columns.{collection}.{member} cannot be in {unit!r}; {nearest(unit, known)}")
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        factors = {self.weight.generator, *self.weight.factors}
        names = ["event_id", "weight", "jet_index", *self._twins("weight", factors)]
        for collection, members in self.columns.items():
            for member, one in members.items():
                name = member if collection == "event" else f"{collection}_{member}"
                names += [name, *self._twins(name, set(one.branch))]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two columns would have the name {name!r}: rename one")
        return self

    def _twins(self, name: str, branches: set[str | None]) -> list[str]:
        varied = [variation for variation, swaps in self.variations.items() if branches & swaps.keys()]
        return [f"{name}_{variation}_{way}" for variation in varied for way in WAYS]

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        branches = {name for members in self.columns.values() for one in members.values() for name in one.branch}
        branches |= {*self.weight.factors, self.weight.generator or ""} - {""}
        for variation, swaps in self.variations.items():
            for name in swaps.keys() - branches:
                raise ValueError(f"variations.{variation}: no column is made of {name!r}; {nearest(name, branches)}")
        for collection in self.counts.keys() - self.columns.keys():
            raise ValueError(f"counts.{collection}: columns has no {collection!r}")
        return self


class Ingest(Config):
    """A sample to be made of files: what stands under `ingest:` in its YAML file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    files: tuple[str, ...] = Field(
        min_length=1, description="paths, patterns, URLs, or @LIST.txt with one of them a line"
    )
    map: Map
    cross_section_pb: float | None = Field(None, gt=0, description="scales the weights to sum to it, before selection")
    luminosity_fb: float | None = Field(None, gt=0, description="and further to events in so many inverse femtobarns")
    sum_of_weights: float | None = Field(None, gt=0, description="of the generator, over all events ever generated")
    golden: str | None = Field(None, description="JSON file of certified runs and luminosity blocks")
    set: dict[Word, float] = Field({}, description="columns that are one number for all events")
    keep: dict[Word, Annotated[dict[Word, Range], Field(min_length=1)]] = Field(
        {}, description="members that are kept, as jet: {pt: [30, null]}: the others leave their event"
    )
    derive: dict[Word, SerializeAsAny[Derived]] = {}
    select: dict[Word, Range] = Field(
        {}, description="events that are kept: columns in [low, high); weights are compared before they are scaled"
    )
    events_per_shard: int = Field(100_000, gt=0, description="entries of a file that one task reads")

    @field_validator("derive", mode="before")
    @classmethod
    def _kinds(cls, values: Any, info: ValidationInfo) -> Any:
        if not isinstance(values, dict):
            return values
        where = (info.context or {}).get("where", "derive")
        return {
            name: derived({**one, "by": absolute(one.get("by"))}, where, f"derive.{name}")
            if isinstance(one, dict) else one
            for name, one in values.items()
        }  # fmt: skip

    @model_validator(mode="after")
    def _normalised(self) -> Self:
        if self.luminosity_fb is not None and self.cross_section_pb is None:
            raise ValueError("luminosity_fb needs cross_section_pb (pb)")
        if self.sum_of_weights is not None and self.cross_section_pb is None:
            raise ValueError("sum_of_weights is only used with cross_section_pb")
        return self


def shipped() -> dict[str, Path]:
    """The maps that ship, by name."""
    room = Path(str(resources.files("jetscale"))) / "data" / "ingest" / "maps"
    return {file.stem: file for file in sorted(room.glob("*.yaml"))}


def load_map(where: str, above: Sequence[Path] = ()) -> Values:
    """The keys of a map, by its name or its YAML file; `above` are the files that are like it.

    Raises:
        ConfigError: no such map, not a `map:` file, or one that is like itself.
    """
    file = shipped().get(where, Path(where).expanduser())
    if not file.is_file():
        raise ConfigError(f"no map {where!r}", where="map", cure=f"{nearest(where, shipped())}, or your own FILE.yaml")
    if file in above:
        raise ConfigError("is like itself", where=str(file), cure="name another map after `like:`")
    values: Values = _map(_under("map", read_yaml(file), file), [*above, file])
    build(Map, values, str(file), "map")
    return values


def load(path: Path | None, sets: Sequence[str] = (), tree: str | None = None, **given: object) -> Ingest:
    """The job of a YAML file, or of what is `given` alone; `map` is a name, a file, or keys, and may be `{like: NAME}`
    with keys that differ. Later ones win: the file, what is given, `--set`.

    Raises:
        ConfigError: not an `ingest:` file, an unknown key, a map that does not exist.
    """
    where = str(path) if path else "ingest"
    layers = [(where, _under("ingest", read_yaml(path), path))] if path else []
    layers.append(("command line", {key: value for key, value in given.items() if value is not None}))
    if tree is not None:
        layers.append(("--tree", {"map": {"tree": tree}}))
    for one in sets:
        layers.append(("--set", parse_set(one)))
    layers = [(name, {**values, "map": _map(values["map"])} if "map" in values else values) for name, values in layers]
    return build(Ingest, merge(layers)[0], where, "ingest")


def _map(value: Any, above: Sequence[Path] = ()) -> Any:
    if isinstance(value, str):
        return load_map(value, above)
    if isinstance(value, dict) and isinstance(value.get("like"), str):
        rest = {key: one for key, one in value.items() if key != "like"}
        return merge([("map", load_map(value["like"], above)), ("job", rest)])[0]
    return value


def _under(key: str, values: Values, path: Path) -> Values:
    """What stands under a file's one top key."""
    other = [name for name in values if name != key]
    if other or not isinstance(values.get(key), dict):
        raise ConfigError(f"{other[0]!r} stands where {key!r} belongs" if other else f"{key!r} holds no keys",
                          where=str(path), cure=f"put everything under the one top key {key}:")  # fmt: skip
    inside: Values = values[key]
    return inside
