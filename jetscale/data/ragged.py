"""Tables as flat numpy arrays: rows are picked, cut and put together at the cost of their numbers, not of calls.

A small batch comes from many chunks, so that what a call costs counts: slicing and joining Arrow tables took longer
than reading them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jetscale.schema import Schema, flat, lengths, one


def take(table: pa.Table, rows: np.ndarray) -> pa.Table:
    """Some rows of a table in a given order, as `pa.Table.take` gives them; columns of lists cost half as much.

    Columns whose lists are equally long share one index of members.
    """
    index = pa.array(rows)
    arrays: list[pa.Array] = []
    known: tuple[np.ndarray, pa.Array, pa.Array] | None = None
    for column in table.columns:
        array = one(column)
        if not pa.types.is_list(array.type):
            arrays.append(array.take(index))
            continue
        bounds = array.offsets.to_numpy()
        if known is None or not np.array_equal(known[0], bounds):
            known = (bounds, *_members(bounds, rows))
        _, ends, members = known
        picked = pc.take(array.values, members, boundscheck=False)
        arrays.append(pa.ListArray.from_arrays(ends, picked, type=array.type))
    return pa.table(arrays, schema=table.schema)


def _members(bounds: np.ndarray, rows: np.ndarray) -> tuple[pa.Array, pa.Array]:
    """Offsets of the picked lists, and where each of their members stands."""
    low_R = bounds[rows]
    length_R = bounds[rows + 1] - low_R
    ends = np.zeros(len(rows) + 1, dtype=np.int32)
    np.cumsum(length_R, out=ends[1:])
    members = np.repeat((low_R - ends[:-1]).astype(np.uint32), length_R)
    members += np.arange(len(members), dtype=np.uint32)  # differences below zero come back by wrapping
    return pa.array(ends), pa.array(members)


@dataclass(frozen=True)
class Flat:
    """A table's columns: `values` of every column, lists flattened, and `bounds` of every collection, (R + 1,).

    `weight_R` is the training weight of every row, `id_R` its event's id.
    """

    sample: str
    values: dict[str, np.ndarray]
    bounds: dict[str, np.ndarray]
    weight_R: np.ndarray
    id_R: np.ndarray


class Piece(NamedTuple):
    """Rows [low, high) of a table."""

    of: Flat
    low: int
    high: int

    @property
    def rows(self) -> int:
        return self.high - self.low

    @property
    def weight_B(self) -> np.ndarray:
        return self.of.weight_R[self.low : self.high]

    @property
    def id_B(self) -> np.ndarray:
        return self.of.id_R[self.low : self.high]

    def cut(self, n: int) -> tuple[Piece, Piece]:
        """The first n rows, or all of them if there are fewer, and the others."""
        middle = min(self.low + n, self.high)
        return Piece(self.of, self.low, middle), Piece(self.of, middle, self.high)


def together(pieces: Sequence[Piece], name: str, spans: Sequence[slice]) -> np.ndarray:
    """One column of some pieces, a stretch of each."""
    return np.concatenate([piece.of.values[name][span] for piece, span in zip(pieces, spans, strict=True)])


def flattened(table: pa.Table, schema: Schema, weight_R: np.ndarray, sample: str = "") -> Flat:
    """A table's columns of a schema; the arrays are Arrow's own.

    Raises:
        DataError: two columns of a collection differ in length.
    """
    bounds = {}
    for collection in schema.collections:
        bounds[collection] = np.concatenate([[0], np.cumsum(lengths(table, collection, schema))])
    ids = flat(table["event_id"]) if "event_id" in table.column_names else np.arange(table.num_rows)
    return Flat(sample, {name: flat(table[name]) for name in schema.names}, bounds, weight_R, ids)
