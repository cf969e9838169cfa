"""A Study: which trainings are compared on which events. Pure: settings in, named runs out.

The multi-jet study (Sano, Montejo Berlingen, Nagano, 10 January 2024): two losses, trained on one mass, on several and
with background of several weights; two networks; seeds. It is judged on masses and decays that no training has seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from jetscale.config import Config, Values, build, merge, parse_set, read_yaml
from jetscale.errors import ConfigError, nearest
from jetscale.run import Run, resolve
from jetscale.stream import Split

VERB = "study"  # the one top key of a study's file
Loss = Literal["label", "mass"]
Masses = Literal["single", "mixed"]
LOSSES: tuple[Loss, ...] = ("label", "mass")
FIXED = ("name", "events", "seed")  # of a generate job: a sample's name, its size's events and the study's seed
LAYERS = ("training", "label", "mass")
AXES = ("networks", "seeds", "weights", "classical")


class Sample(Config):
    """Events of one process: some that are there, those of a generate job, or either, as the size wants."""

    events: str | None = Field(None, description="a sample's folder, or shipped:NAME")
    generate: Values | None = Field(None, description="a generate job without name, events and seed")

    @model_validator(mode="after")
    def _one_at_least(self) -> Self:
        if self.events is None and self.generate is None:
            raise ValueError("says neither events: nor generate:")
        if given := [key for key in FIXED if key in (self.generate or {})]:
            raise ValueError(f"generate has {given[0]!r}, which the study sets")
        return self


class Compositions(Config):
    """Signal samples that are trained on: one mass, and several of them."""

    single: tuple[str, ...] = Field(min_length=1)
    mixed: tuple[str, ...] = Field(min_length=2)


class Size(Config):
    """How much of it: events, and what of the grid is trained. Without numbers of events nothing is generated."""

    signal_events: int | None = Field(None, gt=0, description="of every signal sample, generated")
    background_events: int | None = Field(None, gt=0)
    networks: tuple[Literal["equivariant", "dense"], ...] = Field(("equivariant",), min_length=1)
    seeds: tuple[int, ...] = Field((1,), min_length=1)
    weights: tuple[float, ...] = Field(min_length=2, description="of background, 1: as much as the signal's in all")
    classical: tuple[str, ...] = Field((), description="methods without a network, see jetscale.physics.classical")
    replicas: int = Field(100, ge=10, description="resamplings behind every error")
    training: Values = Field({}, description="settings of every run, over those of the study")
    label: Values = Field({}, description="of those with the label loss")
    mass: Values = Field({}, description="of those with the mass loss")

    @property
    def generates(self) -> bool:
        """Whether its events are made for it."""
        return self.signal_events is not None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.signal_events is None) != (self.background_events is None):
            raise ValueError("signal_events and background_events belong together")
        for key in ("networks", "seeds", "weights", "classical"):
            values = getattr(self, key)
            if len(set(values)) < len(values):
                raise ValueError(f"{key} names one twice: {list(values)}")
        if min(self.weights) < 0:
            raise ValueError("a weight is below 0")
        return self


class Setting(NamedTuple):
    """What is trained on: one mass or several, and the background's weight."""

    masses: Masses
    weight: float = 0.0

    @property
    def kind(self) -> Literal["single", "mixed", "background"]:
        """Which of the three compositions it is."""
        return "background" if self.weight else self.masses

    def named(self, loss: str) -> str:
        """What it is called with a loss."""
        return f"{loss}-{self.masses}" + (f"-w{self.weight:g}" if self.weight else "")


class Training(NamedTuple):
    """One point of the grid."""

    loss: Loss
    masses: Masses
    weight: float
    network: str
    seed: int

    @property
    def setting(self) -> str:
        """Which of the settings it is, without network and seed."""
        return Setting(self.masses, self.weight).named(self.loss)

    @property
    def name(self) -> str:
        """What its folder is called."""
        return f"{self.setting}-{self.network}-s{self.seed}"


class Found(NamedTuple):
    """Where a sample lies, and what it holds."""

    place: str
    events: int
    true_mass: float
    decay_mode: int


class Study(Config):
    """The grid, its samples and its sizes."""

    samples: dict[str, Sample] = Field(min_length=2)
    train_on: Compositions
    background: str
    background_weight: float = Field(gt=0, description="of the setting signal + background")
    holdouts: tuple[str, ...] = Field(min_length=1, description="signals that no training may see")
    split: Split = Split()
    label: Values = Field({}, description="settings of the runs with the label loss")
    mass: Values = Field({}, description="settings of the runs with the mass loss")
    mass_starts: Literal["label", "fresh"] = Field("label", description="from the label run alike, or from nothing")
    readouts: tuple[str, ...] = Field(("argmax", "mbr"), min_length=1, description="the first one is the talk's")
    training: Values = Field(description="settings of every run: a train job without its stream")
    seed_spread: dict[str, float] = Field({}, description="deviation between seeds, by figure, where one seed is run")
    generate: Values = Field({}, description="settings of every generate job")
    seed: int = Field(1, ge=0, description="of generated events")
    sizes: dict[str, Size] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for name in (*self.train_on.single, *self.train_on.mixed, self.background, *self.holdouts):
            if name not in self.samples:
                raise ValueError(f"no sample {name!r}; {nearest(name, self.samples)}")
        if self.background in (*self.holdouts, *self.train_on.single, *self.train_on.mixed):
            raise ValueError(f"{self.background!r} is the background, and a signal too")
        for masses, least in (("single", 1), ("mixed", 2)):
            named = getattr(self.train_on, masses)
            left = self.signals(masses)
            if len(left) < least:
                held = ", ".join(sorted(set(named) - set(left)))
                raise ValueError(f"holdouts: with {held} held out, {len(left)} of the samples of {masses!r} are left "
                                 f"to train on, and it needs {least}")  # fmt: skip
        return self

    @model_validator(mode="after")
    def _every_part_is_used(self) -> Self:
        if empty := [part for part in ("train", "validation", "test") if not getattr(self.split, part)]:
            raise ValueError(f"split: {empty[0]} has no share, and a study needs all three parts")
        return self

    @model_validator(mode="after")
    def _settings_are_run(self) -> Self:
        for name, size in self.sizes.items():
            for weight in (0.0, self.background_weight):
                if weight not in size.weights:
                    raise ValueError(f"sizes.{name}.weights lacks {weight:g}, which is one of the six settings")
        return self

    def size(self, name: str) -> Size:
        """One of the sizes.

        Raises:
            ConfigError: no size of this name.
        """
        if name not in self.sizes:
            raise ConfigError(f"no size {name!r}", where="--size", cure=nearest(name, self.sizes))
        return self.sizes[name]

    def signals(self, masses: str) -> tuple[str, ...]:
        """The signal samples that a composition trains on: a sample that is held out is trained on by none."""
        return tuple(name for name in getattr(self.train_on, masses) if name not in self.holdouts)

    def used(self, size: Size) -> dict[str, Sample]:
        """The samples that a size has: hold-outs without events are left out where nothing is generated.

        Raises:
            ConfigError: a sample to train on that is not there, or one to be made that no job says how to make.
        """
        trained = {*self.signals("single"), *self.signals("mixed"), self.background}
        found = {}
        for name in [name for name in self.samples if name in trained or name in self.holdouts]:
            sample = self.samples[name]
            wanted = "generate" if size.generates else "events"
            if getattr(sample, wanted) is not None:
                found[name] = sample
            elif name in trained or size.generates:
                raise ConfigError(f"sample {name!r} has no {wanted}:, and this size asks for it", where="samples",
                                  cure=f"say samples.{name}.{wanted}")  # fmt: skip
        if not set(found) & set(self.holdouts):
            raise ConfigError("none of the hold-outs has events:", where="holdouts", cure="hold out one that has")
        return found

    def trainings(self, size: Size) -> list[Training]:
        """The grid: every loss, network and seed on one mass, on several, and on these with background."""
        settings = [Setting("single"), *(Setting("mixed", weight) for weight in sorted(size.weights))]
        return [
            Training(loss, *setting, network, seed)
            for network in size.networks
            for seed in size.seeds
            for loss in LOSSES
            for setting in settings
        ]

    def run(self, size: Size, training: Training, found: Mapping[str, Found], start: Path | None = None) -> Run:
        """The run of a point of the grid.

        A background weight of 1 gives the background as much weight in all as the signals have together.

        Raises:
            ConfigError: settings that cannot be.
        """
        names = self.signals(training.masses)
        streams: Values = {name: {"events": found[name].place} for name in names}
        if training.weight:
            factor = sum(found[name].events for name in names) / found[self.background].events
            weight = float(f"{training.weight * factor:.6g}")
            streams[self.background] = {"events": found[self.background].place, "weight": weight}
        own: Values = {
            "task": {"network": training.network, "loss_on": training.loss, "readout": self.readouts[0]},
            "stream": {"samples": streams, "split": self.split.values()},
            "seed": training.seed,
            **({"start": str(start)} if start else {}),
        }
        layers = [(key, getattr(given, key)) for given in (self, size) for key in ("training", training.loss)]
        layers.append((training.name, own))
        return resolve([layer for layer in layers if layer[1]], f"study, {training.name}").run

    def at(self, name: str) -> Study:
        """The study with one of its sizes alone."""
        return self.model_copy(update={"sizes": {name: self.size(name)}})

    def grown_from(self, other: Study) -> bool:
        """Whether this is another study with longer axes: what that one has made is part of this one."""
        if set(self.sizes) != set(other.sizes) or not set(other.readouts) <= set(self.readouts):
            return False
        sizes = {}
        for name, size in self.sizes.items():
            before = other.sizes[name]
            if not all(set(getattr(before, axis)) <= set(getattr(size, axis)) for axis in AXES):
                return False
            sizes[name] = size.model_copy(update={key: getattr(before, key) for key in (*AXES, "replicas")})
        alike = {"sizes": sizes, "readouts": other.readouts, "seed_spread": other.seed_spread}
        return self.model_copy(update=alike) == other

    def starts_from(self, training: Training) -> Training | None:
        """The training whose network this one starts from."""
        warm = training.loss == "mass" and self.mass_starts == "label"
        return training._replace(loss="label") if warm else None


def load(file: Path, sets: Sequence[str] = ()) -> Study:
    """The study in a YAML file, with settings changed.

    Raises:
        ConfigError: not a study's file, an unknown key, a value that cannot be.
    """
    values = read_yaml(file)
    if set(values) != {VERB} or not isinstance(values[VERB], dict):
        raise ConfigError(f"its top key is {', '.join(map(repr, values)) or 'absent'}, not {VERB!r} with keys",
                          where=str(file), cure=f"put the study under the one key {VERB}:")  # fmt: skip
    said = [(f"--set {one}", parse_set(one)) for one in sets]
    sizes = values[VERB].get("sizes")
    paths = ["", *(f"sizes.{name}." for name in (sizes if isinstance(sizes, dict) else ()))]
    # A horizon is one of three keys, so a new one replaces the old one.
    whole = [f"{path}{layer}.horizon" for path in paths for layer in LAYERS]
    merged, _ = merge([(file.name, values[VERB]), *said], whole, ("samples",))
    return build(Study, merged, str(file))
