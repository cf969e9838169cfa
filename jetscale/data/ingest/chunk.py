"""Events of a file in memory: flat numbers with the bounds of their lists, so that cuts and orders cost little."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import awkward as ak
import numpy as np
import pyarrow as pa

from jetscale.derive import Range, between
from jetscale.schema import Column, Schema


@dataclass(frozen=True)
class Chunk:
    """`numbers` of every event, (B,); `members` of every event's lists, flat, and `bounds` of the lists, (B + 1,)."""

    rows: int
    numbers: dict[str, np.ndarray]
    members: dict[str, np.ndarray]
    bounds: dict[str, np.ndarray]
    columns: Schema

    def collection(self, name: str) -> list[str]:
        """The columns of a collection."""
        return [column.name for column in self.columns.each() if column.of == name]

    def values(self, column: Column) -> np.ndarray:
        """All numbers of a column, (B,) or flat."""
        return self.members[column.name] if column.of else self.numbers[column.name]

    def plus(self, column: Column, values: np.ndarray) -> Chunk:
        """The same with a column, which may take another's place."""
        columns, added = self.columns.plus(column), {column.name: values}
        if column.of:
            return replace(self, columns=columns, members=self.members | added)
        return replace(self, columns=columns, numbers=self.numbers | added)

    def only(self, keep_B: np.ndarray) -> Chunk:
        """Some of the events."""
        if keep_B.all():
            return self
        chunk = replace(self, rows=int(keep_B.sum()), numbers={k: v[keep_B] for k, v in self.numbers.items()})
        for collection, bounds in self.bounds.items():
            length_B = np.diff(bounds)
            keep_M = np.repeat(keep_B, length_B)
            chunk = chunk.with_members(collection, keep_M, _bounds(length_B[keep_B]))
        return chunk

    def only_members(self, collection: str, keep_M: np.ndarray) -> Chunk:
        """Some of the members of every event."""
        if keep_M.all():
            return self
        before = np.concatenate([[0], np.cumsum(keep_M)])
        return self.with_members(collection, keep_M, before[self.bounds[collection]])

    def with_members(self, collection: str, taken_M: np.ndarray, bounds: np.ndarray) -> Chunk:
        """Members by a mask or an order, with their new bounds."""
        picked = {name: self.members[name][taken_M] for name in self.collection(collection)}
        return replace(self, members={**self.members, **picked}, bounds={**self.bounds, collection: bounds})

    def ordered(self, collection: str, by: str) -> Chunk:
        """Every event's members in falling order of a column; equal ones stay as they are."""
        values_M, bounds = self.members[by], self.bounds[collection]
        falls = values_M[1:] <= values_M[:-1]
        falls[bounds[(bounds > 0) & (bounds < len(values_M))] - 1] = True
        if falls.all():
            return self
        lists = ak.contents.ListOffsetArray(ak.index.Index64(bounds), ak.contents.NumpyArray(values_M))
        place = ak.argsort(ak.Array(lists), axis=1, ascending=False, stable=True)
        order_M = ak.to_numpy(ak.flatten(place, axis=1)) + np.repeat(bounds[:-1], np.diff(bounds))
        return self.with_members(collection, order_M, bounds)

    def table(self) -> pa.Table:
        """The same in Arrow."""
        offsets = {name: pa.array(bounds.astype(np.int32)) for name, bounds in self.bounds.items()}
        arrays = []
        for column in self.columns.each():
            values = pa.array(self.values(column), type=column.arrow.value_type if column.of else column.arrow)
            arrays.append(pa.ListArray.from_arrays(offsets[column.of], values, type=column.arrow)
                          if column.of else values)  # fmt: skip
        return pa.table(arrays, schema=self.columns.arrow)


def chunk_of(array: ak.Array, columns: Schema) -> Chunk:
    """The fields of an array of records that are columns."""
    numbers, members, bounds = dict[str, np.ndarray](), dict[str, np.ndarray](), dict[str, np.ndarray]()
    for column in columns.each():
        # Past awkward's own functions, which take a millisecond each.
        layout = array[column.name].layout
        if not column.of:
            numbers[column.name] = ak.to_numpy(layout, allow_missing=False)
            continue
        lists = layout.to_ListOffsetArray64(True)
        ends = np.asarray(lists.offsets.data)
        members[column.name] = ak.to_numpy(lists.content[: ends[-1]], allow_missing=False)
        bounds.setdefault(column.of, ends)
    return Chunk(len(array), numbers, members, bounds, columns)


def events_with(chunk: Chunk, column: Column, bad: np.ndarray) -> np.ndarray:
    """Events to which a bad number of a column belongs, (B,) bool; `bad` is as the column's values."""
    if not column.of:
        return bad
    found_B = np.zeros(chunk.rows, dtype=bool)
    found_B[np.searchsorted(chunk.bounds[column.of], np.flatnonzero(bad), side="right") - 1] = True
    return found_B


def kept(chunk: Chunk, keep: Mapping[str, Mapping[str, Range]]) -> tuple[Chunk, dict[str, int]]:
    """The chunk without members outside their ranges, and how many of each collection these were."""
    left: dict[str, int] = {}
    for collection, ranges in keep.items():
        keep_M = np.ones(len(chunk.members[f"{collection}_{next(iter(ranges))}"]), dtype=bool)
        for name, ends in ranges.items():
            keep_M &= between(chunk.members[f"{collection}_{name}"], ends)
        left[collection] = int(len(keep_M) - keep_M.sum())
        chunk = chunk.only_members(collection, keep_M)
    return chunk, left


def _bounds(length_B: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(length_B, dtype=np.int64)])
