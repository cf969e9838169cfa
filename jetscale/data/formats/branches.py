"""The branches of a TTree or the fields of an RNTuple: what they hold, and their numbers out of awkward's arrays."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
import uproot

from jetscale.data.ingest.mapping import Form
from jetscale.data.ingest.values import Numbers
from jetscale.errors import DataError

AGAIN = "copy or make the file anew, or leave it out"
INDEXED = re.compile(r"(.+)\[(\d+)\]")
NOTHING = Form("")


class Place(NamedTuple):
    """Where the numbers of a name stand: in a branch, in a member of its objects, at an index."""

    key: str  # uproot's own
    inside: tuple[str, ...] = ()
    at: int | None = None


class Branches(Mapping[str, Form]):
    """What stands under the names of a tree.

    A name is a branch's own or its whole path (`Jet.PT`, `Jet/Jet.PT`); `NAME.x` is the member x of the objects in
    NAME, and `NAME[0]` the first of the numbers that it holds per event, or per member.
    """

    def __init__(self, tree: Any) -> None:
        self.tree = tree
        self.is_ntuple = isinstance(tree, uproot.behaviors.RNTuple.RNTuple)
        self.keys_by_name: dict[str, str] = {}
        self.fields: dict[str, Any] = {}
        self.names: dict[str, None] = {}  # of each field one, in order
        self._forms: dict[str, Any] = {}
        for key, field in tree.items(recursive=not self.is_ntuple):
            if tree.get(key) is not field:  # of two that have one name, uproot reads the other
                continue
            self.fields[key] = field
            self.names[field.name] = None
            for name in (key, field.name, field.name.split("[")[0]):
                self.keys_by_name.setdefault(name, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, name: str) -> Form:
        place = self.place(name)
        form = described(self._form(place.key), place.inside)
        if place.at is None:
            return form._replace(said=self._typename(place.key))
        *outer, inner = form.axes or [0]
        if outer if inner is None else inner <= place.at:
            raise KeyError(name)
        return form._replace(axes=tuple(outer))

    def place(self, name: str) -> Place:
        """Where a name's numbers stand.

        Raises:
            KeyError: nowhere.
        """
        for path in (name, name.replace(".", "/")):
            if path in self.keys_by_name:
                return Place(self.keys_by_name[path])
        if found := INDEXED.fullmatch(name):
            return self.place(found[1])._replace(at=int(found[2]))
        outer, dot, inner = name.rpartition(".")
        while dot:
            if outer in self.keys_by_name:
                inside = tuple(inner.split("."))
                described(self._form(self.keys_by_name[outer]), inside)
                return Place(self.keys_by_name[outer], inside)
            outer, dot, more = outer.rpartition(".")
            inner = f"{more}.{inner}"
        raise KeyError(name)

    def key(self, name: str) -> str:
        """What uproot is to read for a name; of an RNTuple's objects no more than the member."""
        place = self.place(name)
        return ".".join((place.key, *place.inside)) if self.is_ntuple else place.key

    def numbers(self, name: str, arrays: Mapping[str, ak.Array], first: int, where: str) -> Numbers:
        """The numbers of a name out of what uproot has read.

        Raises:
            DataError: an entry whose list is too short for the index.
        """
        place = self.place(name)
        array = arrays[place.key]
        for member in place.inside:
            array = array[member]
        numbers = _unpacked(array.layout)
        ends = numbers.bounds
        if ends is not None and (ends[-1] > len(numbers.values) or (np.diff(ends) < 0).any()):
            said = f"branch {name!r} has lists that do not follow each other, behind entry {first}"
            raise DataError(said, where=where, cure=AGAIN)
        if place.at is None:
            return numbers
        if numbers.values.ndim > 1:
            return Numbers(numbers.values[:, place.at], numbers.bounds)
        assert numbers.bounds is not None
        short = np.flatnonzero(np.diff(numbers.bounds) <= place.at)
        if short.size:
            length = np.diff(numbers.bounds)[short[0]]
            raise DataError(f"branch {place.key!r} holds {length} numbers in entry {first + short[0]}, and {name!r} is "
                            "asked for", where=where, cure="put it under the name of a collection: there, every event "
                            "may have its own length")  # fmt: skip
        return Numbers(numbers.values[numbers.bounds[:-1] + place.at])

    def _typename(self, key: str) -> str:
        try:
            return str(self.fields[key].typename)
        except Exception:  # uproot has no names for some of the types that it reads
            return ""

    def _form(self, key: str) -> Any:
        """Awkward's form of a field, None where it has none."""
        if key not in self._forms:
            try:
                self._forms[key] = (
                    self.tree.to_akform(filter_name=lambda name: name == key)[0].content(key) if self.is_ntuple
                    else self.fields[key].interpretation.awkward_form(self.tree.file)
                )  # fmt: skip
            except Exception:  # whatever a class of C++ makes uproot stumble over, it holds no plain numbers
                self._forms[key] = None
        return self._forms[key]


def described(form: Any, inside: tuple[str, ...] = ()) -> Form:
    """What an awkward form holds, or a member of it.

    Raises:
        KeyError: it has no such member.
    """
    axes: list[int | None] = []
    rest = list(inside)
    while form is not None and form.parameter("__array__") is None:
        if form.is_record:
            if not rest:
                return NOTHING
            if rest[0] not in form.fields:
                raise KeyError(rest[0])
            form = form.content(rest.pop(0))
        elif form.is_list:
            axes.append(form.size if form.is_regular else None)
            form = form.content
        elif form.is_numpy and not rest:
            return Form(form.primitive, (*axes, *form.inner_shape))
        else:
            break
    if rest:
        raise KeyError(rest[0])
    return NOTHING


def _unpacked(layout: Any) -> Numbers:
    """Numbers without awkward's wrapping, copied only where they do not stand end to end."""
    if layout.is_list and not layout.is_regular:
        packed = layout.to_ListOffsetArray64(True)
        bounds = np.asarray(packed.offsets.data)
        return Numbers(_dense(packed.content[: max(bounds[-1], 0)]), bounds)
    return Numbers(_dense(layout))


def _dense(layout: Any) -> np.ndarray:
    array: np.ndarray = ak.to_numpy(layout, allow_missing=False)
    return array
