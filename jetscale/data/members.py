"""Events taken apart into the members of a collection, and put together again."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from jetscale.errors import DataError
from jetscale.schema import Column, Schema, flat, lengths
from jetscale.stream import Each


def index_name(each: Each) -> str:
    """The column that holds a member's place in its event."""
    return f"{each.of}_index"


def counts_name(each: Each, collection: str) -> str:
    """The column of how many of a nested collection each member has."""
    return f"{each.of}_n_{collection}"


def exploded_column(column: Column, each: Each | None) -> Column:
    """What a column of events becomes."""
    return column.but(of=None) if each and column.of == each.of else column


def exploded(table: pa.Table, each: Each, columns: Mapping[str, Column], where: str) -> pa.Table:
    """One row per member of a collection, and a column with its place in the event.

    Numbers per member stand alone, a nested collection becomes that member's own, everything else is repeated.

    Raises:
        DataError: members whose lists differ in length, or counts that do not add up to a nested collection.
    """
    length_B = _members(table, each, columns)
    member_R, event_R, index_R = _places(length_B, each.first)
    arrays: dict[str, pa.Array] = {}
    for name in table.column_names:
        column, of = table[name].combine_chunks(), columns[name].of
        if of == each.of:
            arrays[name] = column.flatten().take(pa.array(member_R))
        elif of and counts_name(each, of) in table.column_names:
            count_M = flat(table[counts_name(each, of)])
            _check_counts(name, count_M, length_B, lengths(table.select([name]), of, _only(columns, [name])), where)
            arrays[name] = _lists(count_M, column.flatten()).take(pa.array(member_R))
        else:
            arrays[name] = column.take(pa.array(event_R))
    return pa.table({**arrays, index_name(each): pa.array(index_R, pa.int32())})


def imploded(table: pa.Table, scores: pa.Table, outputs: Schema, each: Each, columns: Mapping[str, Column]) -> pa.Table:
    """Outputs of the members of some events, (R,) in their order, as columns of these events, (B,).

    `table` holds the events, `columns` describes it. Members after the first ones get the output's `missing`.
    """
    length_B = _members(table, each, columns)
    member_R, _, _ = _places(length_B, each.first)
    arrays = {}
    for column in outputs.each():
        values = flat(scores[column.name])
        if column.of:
            count_M = flat(table[counts_name(each, column.of)])
            scored_M = np.zeros(len(count_M), dtype=bool)
            scored_M[member_R] = True
            length = np.bincount(np.repeat(np.arange(len(length_B)), length_B), count_M, len(length_B))
            arrays[column.name] = _lists(length, _filled(values, np.repeat(scored_M, count_M), column))
        else:
            scored_M = np.zeros(int(length_B.sum()), dtype=bool)
            scored_M[member_R] = True
            arrays[column.name] = _lists(length_B, _filled(values, scored_M, column))
    return pa.table(arrays)


def _members(table: pa.Table, each: Each, columns: Mapping[str, Column]) -> np.ndarray:
    """How many members each event has, (B,) int64."""
    return lengths(table, each.of, _only(columns, [name for name in table.column_names if name in columns]))


def _places(length_B: np.ndarray, first: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every row: the place among all members, the event, the place in the event; each (R,)."""
    event_M = np.repeat(np.arange(len(length_B)), length_B)
    index_M = np.arange(len(event_M)) - np.repeat(np.cumsum(length_B) - length_B, length_B)
    member_R = np.flatnonzero(index_M < first) if first else np.arange(len(event_M))
    return member_R, event_M[member_R], index_M[member_R]


def _check_counts(name: str, count_M: np.ndarray, length_B: np.ndarray, have_B: np.ndarray, where: str) -> None:
    said_B = np.bincount(np.repeat(np.arange(len(length_B)), length_B), count_M, len(length_B))
    if not np.array_equal(said_B, have_B):
        row = int(np.flatnonzero(said_B != have_B)[0])
        raise DataError(f"event {row} of a chunk: {name} has {have_B[row]} entries, the counts say {said_B[row]:g}",
                        where=where, cure="mend the counts, one per member")  # fmt: skip


def _filled(values: np.ndarray, scored: np.ndarray, column: Column) -> pa.Array:
    whole = np.full(len(scored), 0 if column.missing is None else column.missing, dtype=np.dtype(column.dtype))
    whole[scored] = values
    return pa.array(whole)


def _lists(length: np.ndarray, values: pa.Array) -> pa.Array:
    ends = np.concatenate([[0], np.cumsum(length)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), values)


def _only(columns: Mapping[str, Column], names: list[str]) -> Schema:
    return Schema(columns=tuple(columns[name] for name in names))
