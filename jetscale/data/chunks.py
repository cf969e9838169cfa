"""Chunks of a sample: how its row groups are put together, counted and read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jetscale.data.plan import Chunk, Item, rng
from jetscale.data.ragged import take
from jetscale.data.rows import NOT_TRAINED, Rows, check_stream, rows_of
from jetscale.data.split import counts, part_of, selected
from jetscale.derive import Kept
from jetscale.errors import DataError
from jetscale.events import Events, Shard
from jetscale.schema import EVENT_ID, FILL, WEIGHT, Schema, flat, whole
from jetscale.stream import PARTS, Buckets, Folds, Part, Split, Stream

CHANGED = "the shard was changed after the manifest: make the sample anew"


@dataclass(frozen=True, kw_only=True)
class Reader:
    """What a process needs to read items of one sample; small, so that it can be sent anywhere."""

    directory: str
    rows: Rows
    columns: tuple[str, ...]
    select: Mapping[str, Kept]
    split: Split | Folds
    part: Part
    seed: int
    buckets: Buckets | None = None

    def read(self, item: Item, chunk: Chunk) -> pa.Table:
        """The rows of an item, slice after slice, in the chunk's own order of that epoch.

        Raises:
            DataError: a file that cannot be read, or whose selected rows are not those that were counted.
        """
        wanted = [*self.columns, *(name for name in self.select if name not in self.columns)]
        table = read_groups(Path(self.directory), chunk, self.rows.raw(wanted))
        table = self.rows.make(table, wanted, item.epoch)
        keep_B = selected(table, self.select)
        keep_B &= part_of(table["event_id"].to_numpy(), self.split) == PARTS.index(self.part)
        rows = np.flatnonzero(keep_B)
        if len(rows) != chunk.selected[self.part]:
            raise DataError(f"{len(rows)} selected rows, but {chunk.selected[self.part]} were counted",
                            where=f"{self.directory}/{chunk.groups[0][0]}",
                            cure="the sample changed after the run started: start the run anew")  # fmt: skip
        if item.epoch >= 0:
            rows = self._shuffled(rows, table, item)
        taken = np.concatenate([rows[part.low : part.high] for part in item.slices])
        return take(table.select(self.columns), taken)

    def _shuffled(self, rows: np.ndarray, table: pa.Table, item: Item) -> np.ndarray:
        dice = rng(self.seed, item.sample, item.epoch, item.chunk)
        rows = rows[dice.permutation(len(rows))]
        if not self.buckets:
            return rows
        like = next(name for name in self.columns if self.rows.layout.rows[name].of == self.buckets.of)
        length_B = pc.list_value_length(table[like]).to_numpy()
        return in_buckets(rows, length_B[rows], self.buckets.rows, dice)


def in_buckets(rows: np.ndarray, length_B: np.ndarray, size: int, dice: np.random.Generator) -> np.ndarray:
    """The same rows (B,) in blocks of rows of like length, the blocks in a new order; a pure function of all of it."""
    by_length = rows[np.argsort(length_B, kind="stable")]
    blocks = [by_length[start : start + size] for start in range(0, len(rows), size)]
    return np.concatenate([by_length[:0], *(blocks[number] for number in dice.permutation(len(blocks)))])


def readers(stream: Stream, samples: Mapping[str, Events], columns: Schema, part: Part, seed: int) -> dict[str, Reader]:
    """One reader per sample; `columns` are those that batches hold (`needed`).

    Raises:
        ConfigError: settings of the stream that a sample's rows cannot have.
        DataError: a sample lacks a column.
    """
    names = tuple(dict.fromkeys((*columns.names, *([stream.reweight] if stream.reweight else []))))
    return {
        name: Reader(directory=str(events.path.absolute()), rows=rows_of(stream, name, events, columns, seed),
                     columns=names, select=stream.select, split=stream.split, part=part, seed=seed,
                     buckets=stream.buckets)
        for name, events in samples.items()
    }  # fmt: skip


def read_groups(directory: Path, chunk: Chunk, columns: Sequence[str]) -> pa.Table:
    """All rows of a chunk.

    Raises:
        DataError: a file that is missing, truncated, lacks a column, or has nulls.
    """
    tables = []
    for file in dict.fromkeys(name for name, _ in chunk.groups):
        groups = [group for name, group in chunk.groups if name == file]
        try:
            with pq.ParquetFile(directory / file) as parquet:
                table = parquet.read_row_groups(groups, columns=list(columns), use_threads=False)
        except (OSError, pa.ArrowException) as problem:
            raise DataError(f"cannot be read: {problem}", where=str(directory / file),
                            cure="make the shard anew") from None  # fmt: skip
        tables.append(whole(table, str(directory / file)))
    return pa.concat_tables(tables)


def cut(events: Events, chunk_rows: int) -> list[tuple[tuple[str, int], ...]]:
    """Consecutive row groups put together until they hold at least `chunk_rows` rows; the rest joins the last."""
    found: list[tuple[tuple[str, int], ...]] = []
    groups: list[tuple[str, int]] = []
    rows = 0
    for shard in events.manifest.shards:
        for group, size in enumerate(shard.row_groups):
            groups.append((shard.file, group))
            rows += size
            if rows >= chunk_rows:
                found.append(tuple(groups))
                groups, rows = [], 0
    if groups and found and rows * 2 < chunk_rows:
        found[-1] += tuple(groups)
    elif groups:
        found.append(tuple(groups))
    return found


def check_samples(stream: Stream, samples: Mapping[str, Events], columns: Schema, seed: int) -> dict[str, Rows]:
    """How every sample's rows become those of a task; all that cannot be is refused here, before anything is read.

    Raises:
        ConfigError: settings of the stream that do not fit each other or a sample.
        DataError: a sample lacks a column.
    """
    found = {name: rows_of(stream, name, events, columns, seed) for name, events in samples.items()}
    for rows in found.values():
        check_stream(stream, rows, columns)
    return found


def count(events: Events, stream: Stream, rows: Rows) -> tuple[Chunk, ...]:
    """The sample's chunks with the selected rows of every part: one pass over the ids and the selected columns.

    Raises:
        DataError: a shard that is not its manifest's, or an id that two events have.
    """
    columns = tuple(dict.fromkeys(("event_id", *stream.select)))
    for shard in events.manifest.shards:
        check_shard(events.path / shard.file, shard, events.schema)
    found, ids, seen = [], np.empty(len(events), dtype=np.int64), 0
    for groups in cut(events, stream.chunk_rows):
        raw = read_groups(events.path, Chunk(groups, {}), rows.raw(columns))
        ids[seen : seen + raw.num_rows] = raw[rows.id_name].to_numpy()
        seen += raw.num_rows
        table = rows.make(raw, columns, NOT_TRAINED)
        n = counts(table["event_id"].to_numpy(), selected(table, stream.select), stream.split)
        found.append(Chunk(groups, dict(zip(PARTS, n, strict=True))))
    _check_ids(ids, events, rows.id_name)
    return tuple(found)


def _check_ids(ids: np.ndarray, events: Events, name: str) -> None:
    """Refuse a sample in which two events have one id; the ids (B,) are sorted where they are, being many."""
    ids.sort()
    again = ids[1:][ids[1:] == ids[:-1]]
    if not len(again):
        return
    shards = events.manifest.shards
    times = [int((flat(events.read([name], shard)[name]) == again[0]).sum()) for shard in shards]
    first, second, *_ = np.repeat([shard.file for shard in shards], times)
    raise DataError(f"{name} is not unique, {len(again)} of them repeat: {again[0]} stands in {first} and in {second}",
                    where=str(events.path),
                    cure="make the sample anew, with an id of its own for every event")  # fmt: skip


def check_shard(file: Path, shard: Shard, schema: Schema) -> None:
    """Refuse a file whose rows or columns are not those of its manifest; only its footer is read.

    Raises:
        DataError: a file that cannot be read, or with other row groups, columns or types than the manifest says.
    """
    for fault in faults(file, shard, schema):
        raise fault


def faults(file: Path, shard: Shard, schema: Schema) -> Iterator[DataError]:
    """All that the footer of a file tells against it: each as the error that it is where one is enough."""
    where = str(file)
    try:
        metadata = pq.read_metadata(file)
    except (OSError, pa.ArrowException) as problem:
        yield DataError(f"cannot be read: {problem}", where=where, cure="make the shard anew")
        return
    groups = tuple(metadata.row_group(n).num_rows for n in range(metadata.num_row_groups))
    if groups != shard.row_groups:
        yield DataError(f"has {sum(groups)} rows in {len(groups)} row groups, the manifest says {shard.rows} in "
                        f"{len(shard.row_groups)}", where=where, cure=CHANGED)  # fmt: skip
    arrow = metadata.schema.to_arrow_schema()
    for column in schema.each():
        if column.name not in arrow.names:
            yield DataError(f"column {column.name!r} is missing, the manifest has it", where=where, cure=CHANGED)
        elif (have := arrow.field(column.name).type) != column.arrow:
            yield DataError(f"column {column.name!r} holds {_said(have)}, the manifest says {_said(column.arrow)}",
                            where=where, cure=CHANGED)  # fmt: skip
        elif nulls := _nulls(metadata, column.name):
            yield DataError(f"column {column.name!r} has {nulls} nulls", where=where, cure=FILL)


def _said(kind: pa.DataType) -> str:
    return f"lists of {kind.value_type}" if pa.types.is_list(kind) else str(kind)


def _nulls(metadata: pq.FileMetaData, name: str) -> int:
    """As many as the footer tells: of the numbers in lists it does not say whether they are null or not there."""
    places = [place for place in range(metadata.num_columns) if metadata.schema.column(place).path == name]
    parts = [metadata.row_group(group).column(place) for group in range(metadata.num_row_groups) for place in places]
    found = [part.statistics.null_count for part in parts if part.statistics and part.statistics.has_null_count]
    return sum(found)


def mean_weight(events: Events, stream: Stream, name: str, rows: Rows) -> float:
    """What the physics weights of the sample `name` are divided by (1 where they are not used).

    Raises:
        DataError: weights that are not finite or negative, or that leave nothing to train on.
    """
    if not stream.samples[name].event_weight:
        return 1.0
    columns = tuple(dict.fromkeys(("event_id", "weight", *stream.select)))
    tables = []
    for shard in events.manifest.shards:
        tables.append(rows.make(events.read(rows.raw(columns), shard), columns, NOT_TRAINED))
        _check_weights(tables[-1], events.path / shard.file, stream.negative_weights)
    table = pa.concat_tables(tables)
    weight_B = table["weight"].to_numpy()
    weight_B = np.abs(weight_B) if stream.negative_weights == "abs" else weight_B
    train_B = part_of(table["event_id"].to_numpy(), stream.split) == PARTS.index("train")
    train_B &= selected(table, stream.select)
    for which_B, said in ((train_B, "selected training rows"), (np.ones_like(train_B), "rows")):
        if which_B.any() and not (total := float(weight_B[which_B].sum())) > 0.0:
            raise DataError(f"column 'weight' sums to {total:g} over its {int(which_B.sum())} {said}",
                            where=str(events.path), cure=f"set stream.samples.{name}.event_weight to false, or mend "
                            "the weights")  # fmt: skip
    return float(weight_B.mean())


def _check_weights(table: pa.Table, file: Path, policy: str) -> None:
    """Refuse weights that no policy, or not this one, can use."""
    weight_B = table["weight"].to_numpy()
    cases = [(~np.isfinite(weight_B), "not finite", "mend the weights, or set event_weight to false")]
    if policy == "error":
        cases.append((weight_B < 0, "negative", "set stream.negative_weights to abs or keep, or event_weight to false"))
    for odd_B, said, cure in cases:
        if odd_B.any():
            first = int(np.flatnonzero(odd_B)[0])
            raise DataError(f"column 'weight' has {int(odd_B.sum())} values that are {said}: the first is "
                            f"{weight_B[first]:g}, of event {table['event_id'][first]}", where=str(file),
                            cure=cure)  # fmt: skip


def needed(schema: Schema) -> Schema:
    """The columns that batches hold: the task's, the id and the physics weight."""
    return schema.plus(*(column for column in (EVENT_ID, WEIGHT) if column.name not in schema))
