"""The numbers of a file's branches become those of columns, a few ten megabytes at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import awkward as ak
import numpy as np

from jetscale.data.ingest.mapping import Made, Plan, Source
from jetscale.errors import DataError
from jetscale.schema import JET_EVENTS, Column, Schema


class Numbers(NamedTuple):
    """Of a branch: a number per event (B,), a row of them (B, M), or, with `bounds` (B + 1,), lists end to end."""

    values: np.ndarray
    bounds: np.ndarray | None = None


class Members(NamedTuple):
    """Of a collection: `bounds` (B + 1,) of its lists; `taken_BM` says which slots of an array the members fill."""

    bounds: np.ndarray
    taken_BM: np.ndarray | None = None


class Entries:
    """A run of a file's entries, from the one called `first`."""

    def __init__(self, plan: Plan, read: Mapping[str, Numbers], rows: int, first: int, file: str) -> None:
        self.plan, self.read, self.rows, self.first, self.file = plan, read, rows, first, file
        self._members: dict[str, Members] = {}
        self._values: dict[tuple[Source, str | None], np.ndarray] = {}

    def array(self, columns: Schema) -> ak.Array:
        """The columns as records, those that the file lacks with their `missing`, and the weights.

        Raises:
            DataError: members of a collection that differ in number, a number that its column cannot hold, a column
                that the file lacks and that has no `missing`.
        """
        makes = self.plan.make(columns)
        contents = {}
        with np.errstate(all="ignore"):  # odd numbers are for the checks behind
            for column in columns.each():
                values = self._made(column, makes[column.name]) if column.name in makes else self._missing(column)
                content = ak.contents.NumpyArray(values)
                if column.of:
                    bounds = ak.index.Index64(self._members_of(column.of).bounds)
                    content = ak.contents.ListOffsetArray(bounds, content)
                contents[column.name] = content
            for name, factors in self.plan.weights.items():
                contents[name] = ak.contents.NumpyArray(self._weight(factors))
        return ak.Array(ak.contents.RecordArray(list(contents.values()), list(contents), length=self.rows))

    def _made(self, column: Column, made: Made) -> np.ndarray:
        """A column's numbers, (B,) or flat, in its type."""
        inputs = [self._numbers(source, column.of) for source in made.sources]
        if made.recipe.formula is None:
            values, factor = inputs[0], made.sources[0].factor
            values = values if factor == 1 else values * np.float64(factor)
        else:
            values = made.recipe.formula(*(one.astype(np.float64) * source.factor
                                           for one, source in zip(inputs, made.sources, strict=True)))  # fmt: skip
        return self._cast(values, column, made.sources[0])

    def _missing(self, column: Column) -> np.ndarray:
        if column.missing is None:
            raise DataError(f"column {column.name!r} has no branch here, and nothing to stand for it", where=self.file,
                            cure="give it `missing` in your map, or leave it out")  # fmt: skip
        rows = int(self._members_of(column.of).bounds[-1]) if column.of else self.rows
        return np.full(rows, column.missing, dtype=column.dtype)

    def _weight(self, factors: Iterable[Source]) -> np.ndarray:
        product = np.ones(self.rows)
        for source in factors:
            product *= self._numbers(source, None)
        return product

    def _numbers(self, source: Source, of: str | None) -> np.ndarray:
        """The numbers of a source in the file's type, (B,) or those of the collection's members, flat."""
        key = (source, of)
        if key not in self._values:
            flat = self.read[source.branches[0]].values.reshape(self.rows) if of is None else self._flat(source, of)
            self._values[key] = flat
        return self._values[key]

    def _flat(self, source: Source, of: str) -> np.ndarray:
        members, numbers = self._members_of(of), self._stacked(source)
        if numbers.bounds is not None:
            if numbers.bounds is not members.bounds and not np.array_equal(numbers.bounds, members.bounds):
                raise self._unequal(source, of, np.diff(numbers.bounds))
            return numbers.values
        slots, length_B = numbers.values.shape[1], np.diff(members.bounds)
        if int(length_B.max(initial=0)) > slots:
            raise self._unequal(source, of, np.minimum(length_B, slots))
        taken_BM = np.arange(slots) < length_B[:, None] if members.taken_BM is None else members.taken_BM
        whole = slots * self.rows == members.bounds[-1]
        flat: np.ndarray = numbers.values.ravel() if whole else numbers.values[taken_BM]
        return flat

    def _stacked(self, source: Source) -> Numbers:
        """Branches that are numbered, side by side."""
        if "{n}" not in source.name:
            return self.read[source.branches[0]]
        columns = [self.read[name].values.reshape(self.rows) for name in source.branches]
        return Numbers(np.stack(columns, axis=1))

    def _members_of(self, of: str) -> Members:
        if of not in self._members:
            self._members[of] = self._find_members(of)
        return self._members[of]

    def _find_members(self, of: str) -> Members:
        """Where a file has nothing of a collection, its lists are empty."""
        if of not in self.plan.leads:
            return Members(np.zeros(self.rows + 1, dtype=np.int64))
        lead = self.plan.leads[of]
        numbers = self._stacked(lead)
        if numbers.bounds is not None:
            return Members(numbers.bounds)
        slots = numbers.values.shape[1]
        if of in self.plan.counts:
            taken_BM = np.arange(slots) < self._count(of, slots)[:, None]
        elif self.plan.pad is not None:
            taken_BM = numbers.values != self.plan.pad  # numpy rounds the pad as the file's type does
        else:
            taken_BM = np.ones(numbers.values.shape, dtype=bool)
        return Members(np.concatenate([[0], np.cumsum(taken_BM.sum(1), dtype=np.int64)]), taken_BM)

    def _count(self, of: str, slots: int) -> np.ndarray:
        source = self.plan.counts[of]
        count_B = self._numbers(source, None)
        bad = np.flatnonzero((count_B < 0) | (count_B > slots))
        if bad.size:
            said = (
                f"{_named(source)} says {count_B[bad[0]]} in entry {self.first + bad[0]}, and there is room for {slots}"
            )
            raise DataError(said, where=self.file, cure=f"correct counts.{of} in your map")
        return count_B

    def _unequal(self, source: Source, of: str, length_B: np.ndarray) -> DataError:
        lead, wanted_B = self.plan.leads[of], np.diff(self._members_of(of).bounds)
        row = int(np.flatnonzero(length_B != wanted_B)[0])
        return DataError(
            f"in entry {self.first + row} {_named(lead)} has {wanted_B[row]} {of}s, and {_named(source)} has "
            f"{length_B[row]}", where=self.file, cure=f"all branches under columns.{of} must describe the same {of}s: "
            "put one of another collection under its name")  # fmt: skip

    def _cast(self, values: np.ndarray, column: Column, source: Source) -> np.ndarray:
        """The same numbers in the column's type; whole numbers stay what they are."""
        if values.dtype == column.dtype:
            return values
        cast: np.ndarray = values.astype(column.dtype)
        if cast.dtype.kind == "i" and not np.can_cast(values.dtype, cast.dtype):
            low, high = np.iinfo(cast.dtype).min, np.iinfo(cast.dtype).max
            bad = np.flatnonzero((cast != values) | (values < low) | (values > high))
            if bad.size:
                entry = self._entry(bad[0], column.of)
                raise DataError(f"{_named(source)} holds {values[bad[0]]} in entry {entry}, and {column.name} is "
                                f"{column.dtype}", where=self.file, cure=_wider(column))  # fmt: skip
        return cast

    def _entry(self, index: int, of: str | None) -> int:
        bounds = self._members_of(of).bounds if of else np.arange(self.rows + 1)
        return self.first + int(np.searchsorted(bounds, index, side="right")) - 1


def _wider(column: Column) -> str:
    if column.name in JET_EVENTS:
        return f"make it of another branch: it is {column.doc}"
    if column.dtype == "int64":
        return "name no branch of this file for it in your map: no whole numbers are wider"
    return "give the column a wider dtype in your map"


def _named(source: Source) -> str:
    first, *rest = source.branches
    return f"branch {first!r}" + (f" to {rest[-1]!r}" if rest else "")
