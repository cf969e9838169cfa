"""Which branches make which columns: a map, and what a file has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from jetscale.data.ingest.job import VECTOR, WAYS, Branch, Map
from jetscale.data.ingest.momenta import ENERGIES, KINDS, Recipe
from jetscale.errors import DataError, nearest
from jetscale.own import OWN
from jetscale.schema import JET_EVENTS, Column, Number, Schema

ARROW = {"float16": "halffloat", "float32": "float", "float64": "double"}  # whose names are not numpy's
MOMENTA = {"pt": ("GeV", "transverse momentum"), "eta": ("", "pseudorapidity"), "phi": ("rad", "azimuth"),
           "mass": ("GeV", "mass")}  # fmt: skip
GEV = {"MeV": 1e-3, "GeV": 1.0, "TeV": 1e3}


class Form(NamedTuple):
    """What a branch holds for one event: numbers along axes, each of a fixed length or, None, of a list's."""

    number: str  # numpy's name of the type; empty where there is no number
    axes: tuple[int | None, ...] = ()
    said: str = ""  # the type in the file's own words


class Source(NamedTuple):
    """A branch of a map as a file has it."""

    name: str  # in the map
    branches: tuple[str, ...]  # in the file; several where they are numbered
    number: str
    factor: float = 1.0  # from the file's unit to the column's


class Made(NamedTuple):
    """A column and what it is made of; without a formula of its one source."""

    column: Column
    sources: tuple[Source, ...]
    recipe: Recipe


@dataclass(frozen=True)
class Plan:
    """What a file gives: its columns and weights, and what it lacks of a map.

    `leads` has the source that says how many members a collection has, `counts` the branches that say so themselves.
    """

    made: tuple[Made, ...]
    absent: tuple[str, ...]
    weights: Mapping[str, tuple[Source, ...]]
    absent_weights: tuple[str, ...]
    leads: Mapping[str, Source]
    counts: Mapping[str, Source]
    pad: float | None

    @cached_property
    def columns(self) -> Schema:
        return Schema(columns=tuple(made.column for made in self.made))

    def make(self, columns: Schema) -> dict[str, Made]:
        """How the columns are made that this file has."""
        return {made.column.name: made for made in self.made if made.column.name in columns}

    def needs(self, columns: Schema) -> tuple[str, ...]:
        """The branches that these columns and the weights are made of."""
        made = self.make(columns).values()
        sources = [source for one in made for source in one.sources]
        for collection in {one.column.of for one in made if one.column.of}:
            sources += [known[collection] for known in (self.leads, self.counts) if collection in known]
        sources += [source for factors in self.weights.values() for source in factors]
        return tuple(dict.fromkeys(name for source in sources for name in source.branches))


def plan(how: Map, branches: Mapping[str, Form], file: str) -> Plan:
    """Find the branches of a map among those of a file.

    Raises:
        DataError: the jets' four-vectors are not there, or a branch does not hold what its column needs.
    """
    return _Finder(how, branches, file).plan()


class _Finder:
    def __init__(self, how: Map, branches: Mapping[str, Form], file: str) -> None:
        self.how, self.branches, self.file = how, branches, file
        self.absent: list[str] = []
        self.leads: dict[str, Source] = {}

    def plan(self) -> Plan:
        order = sorted(self.how.columns, key=lambda name: (name != "event", name != "jet"))
        made = [one for collection in order for one in self._collection(collection)]
        weights, absent_weights = self._weights()
        counts = {
            collection: self._counts(collection, name)
            for collection, name in self.how.counts.items()
            if collection in self.leads and self._slots(self.leads[collection]) is not None
        }
        return Plan(tuple(made), tuple(self.absent), weights, absent_weights, self.leads, counts, self.how.pad)

    def _collection(self, collection: str) -> Iterator[Made]:
        """The columns of a collection, its momenta first, each followed by its variations."""
        specs, of = self.how.columns[collection], None if collection == "event" else collection
        recipes = self._momenta(collection) if of else {}
        rest = [name for name in specs if not (recipes and name in VECTOR)]
        for member in [*recipes, *rest]:
            name = f"{of}_{member}" if of else member
            recipe = recipes.get(member, Recipe((member,)))
            sources = [self._source(f"{collection}.{one}", specs[one], self._unit(of, one)) for one in recipe.inputs]
            if any(source is None for source in sources):
                self.absent.append(name)
                continue
            found = tuple(source for source in sources if source)
            if of:
                self.leads.setdefault(of, self._lead(collection, recipes) or found[0])
                self._check_slots(of, found)
            column = self._column(name, of, specs.get(member, Branch(branch=(member,))), found[0], member in recipes)
            made = Made(column, found, recipe)
            yield made
            yield from self._varied(made, collection)

    def _momenta(self, collection: str) -> Mapping[str, Recipe]:
        """How pt, eta, phi and mass are made, empty if the map has no whole four-vector there."""
        specs = self.how.columns[collection]
        kinds = [kind for kind in KINDS if specs.keys() >= set(kind)]
        lacks = {kind: [name for name in kind if not self._found(specs[name])] for kind in kinds}
        whole = [kind for kind in kinds if not lacks[kind]]
        if collection == "jet" and not whole:
            kind = min(kinds, key=lambda kind: len(lacks[kind]))
            raise self._no_jets({name: specs[name] for name in lacks[kind]})
        return KINDS[(whole or kinds)[0]] if kinds else {}

    def _no_jets(self, lacking: Mapping[str, Branch]) -> DataError:
        more = {
            name: f" or {len(one.branch) - 1} more names" if one.branch[1:] else "" for name, one in lacking.items()
        }
        said = ", ".join(f"jet_{name} ({one.branch[0]!r}{more[name]})" for name, one in lacking.items())
        first = next(iter(lacking.values())).branch[0]
        return DataError(f"has no branch for {said}", where=self.file,
                         cure=f"{nearest(first, self.branches)}; name them in your map")  # fmt: skip

    def _lead(self, collection: str, recipes: Mapping[str, Recipe]) -> Source | None:
        """The branch whose members are the collection's."""
        if not recipes:
            return None
        name = recipes["pt"].inputs[0] if recipes["pt"].formula is None else "energy"
        return self._source(f"{collection}.{name}", self.how.columns[collection][name], self.how.energy)

    def _unit(self, of: str | None, member: str) -> str:
        """The unit of a branch whose map does not say it."""
        return self.how.energy if of and member in ENERGIES else "rad" if of and member == "phi" else ""

    def _said(self, spec: Branch) -> str:
        """The unit of a branch as its map says it."""
        return self.how.energy if spec.unit == "energy" else spec.unit

    def _column(self, name: str, of: str | None, spec: Branch, source: Source, momentum: bool) -> Column:
        """A column as `JET_EVENTS` has it, a component of a momentum, or one of the map's own."""
        member = name.removeprefix(f"{of}_")
        if name in JET_EVENTS:
            if JET_EVENTS[name].of != of:
                raise DataError(f"{name!r} holds one number per {JET_EVENTS[name].of or 'event'}", where=self.file,
                                cure="give the column of your map another name")  # fmt: skip
            return JET_EVENTS[name]
        if momentum:
            unit, doc = MOMENTA[member]
            return Column(name=name, of=of, dtype="float32", unit=unit, doc=doc, missing=spec.missing)
        unit = self._said(spec) or self._unit(of, member)
        dtype, missing = spec.dtype or _dtype(source), spec.missing
        if missing is not None and dtype.startswith("int"):
            ends = np.iinfo(dtype)
            if not ends.min <= missing <= ends.max or missing % 1:
                raise DataError(f"missing = {missing:g} is no {dtype}, as which branch {source.name!r} gives {name}",
                                where=self.file, cure="give the column a wider dtype in your map")  # fmt: skip
        return Column(name=name, of=of, dtype=dtype, unit="GeV" if unit in GEV else unit,
                      doc=f"branch {' or '.join(spec.branch)}", missing=spec.missing)  # fmt: skip

    def _varied(self, made: Made, collection: str) -> Iterator[Made]:
        """The twins of a column whose branches are varied."""
        for variation, swaps in self.how.variations.items():
            if not any(source.name in swaps for source in made.sources):
                continue
            for side, way in enumerate(WAYS):
                name = f"{made.column.name}_{variation}_{way}"
                sources = self._swapped(made.sources, swaps, side, collection)
                if sources is None:
                    self.absent.append(name)
                    continue
                column = made.column.but(name=name, doc=f"{made.column.doc}; {variation} {way}")
                yield Made(column, sources, made.recipe)

    def _swapped(self, sources: tuple[Source, ...], swaps: Mapping[str, tuple[str, str]], side: int,
                 collection: str) -> tuple[Source, ...] | None:  # fmt: skip
        """The same sources with other branches, None if the file lacks one."""
        swapped = []
        for source in sources:
            if source.name not in swaps:
                swapped.append(source)
                continue
            other = self._source(f"{collection}", Branch(branch=(swaps[source.name][side],)), "")
            if other is None:
                return None
            if collection != "event":
                self._check_slots(collection, (other,))
            swapped.append(other._replace(factor=source.factor))
        return tuple(swapped)

    def _weights(self) -> tuple[dict[str, tuple[Source, ...]], tuple[str, ...]]:
        """The factors of the weight and of its variations, and the names of those that the file lacks."""
        generator = self.how.weight.generator
        names = [*([generator] if generator else []), *self.how.weight.factors]
        found = {name: self._source("event", Branch(branch=(name,)), "") for name in names}
        factors = tuple(source for source in found.values() if source)
        weights, absent = {"weight": factors}, [name for name, source in found.items() if source is None]
        for variation, swaps in self.how.variations.items():
            if not any(source.name in swaps for source in factors):
                continue
            for side, way in enumerate(WAYS):
                swapped = self._swapped(factors, swaps, side, "event")
                if swapped is None:
                    absent.append(f"weight_{variation}_{way}")
                else:
                    weights[f"weight_{variation}_{way}"] = swapped
        return weights, tuple(absent)

    def _counts(self, collection: str, name: str) -> Source:
        source = self._source("event", Branch(branch=(name,)), "")
        if source is None:
            raise DataError(f"no branch {name!r}, which counts.{collection} names", where=self.file,
                            cure=nearest(name, self.branches))  # fmt: skip
        return source

    def _found(self, spec: Branch) -> tuple[str, tuple[str, ...]] | None:
        """The first of a branch's names that the file has, and its branches."""
        for name in spec.branch:
            if branches := tuple(_numbered(name, self.branches, self.file)):
                return name, branches
        return None

    def _source(self, where: str, spec: Branch, unit: str) -> Source | None:
        """A branch that is there, with a fitting type.

        Raises:
            DataError: it is there and does not fit.
        """
        if not (found := self._found(spec)):
            return None
        name, branches = found
        collection = where.partition(".")[0]
        for branch in branches:
            self._check(branch, where, collection, numbered="{n}" in name)
        number = str(np.result_type(*(self.branches[branch].number for branch in branches)))
        return Source(name, branches, number, GEV.get(self._said(spec) or unit, 1.0))

    def _check(self, branch: str, where: str, collection: str, numbered: bool) -> None:
        form, per_event = self.branches[branch], collection == "event" or numbered
        said = form.said or form.number or "objects"
        if own(form.number) is None:
            raise DataError(f"branch {branch!r} holds {said}, no numbers that can be kept", where=self.file,
                            cure="leave it out of your map, or take a number of it as NAME.member")  # fmt: skip
        axes = tuple(axis for axis in form.axes if axis != 1) if per_event else form.axes
        if len(axes) == (0 if per_event else 1):
            return
        wants = "one number per event" if per_event else f"one list of numbers per event, of its {collection}s"
        if not axes:
            cure = f"put it under columns.event, or name the branches of each {collection} with {{n}}"
        elif len(axes) == 1:
            cure = f"take the first of them as {branch}[0], or put it under the name of a collection"
        else:
            cure = f"take the first of them as {branch}[0]" if axes[-1] else "leave it out of your map"
        raise DataError(f"branch {branch!r} holds {_shape(axes)} ({said}), and {where} wants {wants}", where=self.file,
                        cure=cure)  # fmt: skip

    def _check_slots(self, of: str, sources: tuple[Source, ...]) -> None:
        """Arrays of one collection must have the same length."""
        lead = self.leads[of]
        for source in sources:
            if None not in (wanted := self._slots(lead), have := self._slots(source)) and wanted != have:
                said = f"there are {wanted} {of}s in {lead.name!r}, and {have} in {source.name!r}"
                cure = f"all branches under columns.{of} must describe the same {of}s"
                raise DataError(said, where=self.file, cure=cure)

    def _slots(self, source: Source) -> int | None:
        """The length of an array, or how many branches are numbered; None for lists."""
        return len(source.branches) if "{n}" in source.name else self.branches[source.branches[0]].axes[0]


def _numbered(name: str, branches: Mapping[str, Form], file: str) -> Iterator[str]:
    """A branch that a file has, or all that `{n}` stands for, which must be without a gap."""
    if "{n}" not in name:
        if name in branches:
            yield name
        return
    number = 0 if name.replace("{n}", "0") in branches else 1
    while (one := name.replace("{n}", str(number))) in branches:
        yield one
        number += 1
    if (later := name.replace("{n}", str(number + 1))) in branches:
        raise DataError(f"has a branch {later!r}, but no {one!r}", where=file,
                        cure="name the branches that there are one by one, or add the one that is missing")  # fmt: skip


def _dtype(source: Source) -> Number:
    """The type of a column: that of its branch, as wide as it must be; whole numbers with a factor are none."""
    number = own(source.number)
    assert number is not None
    return "float64" if source.factor != 1 and not number.startswith("float") else number


def own(number: str) -> Number | None:
    """The type that a column of numbers with numpy's type has, None for what is no number."""
    return OWN.get(ARROW.get(number, number))


def _shape(axes: tuple[int | None, ...]) -> str:
    if not axes:
        return "one number per event"
    said = ["lists" if axis is None else f"{axis} numbers" for axis in axes]
    return " of ".join(said) if len(said) > 1 else said[0].replace("lists", "a list") + " per event"
