"""Chunks of a sample: how its row groups are put together, counted and read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jetscale.config import Config
from jetscale.data.plan import Chunk, Item, rng
from jetscale.data.split import counts, part_of, selected
from jetscale.errors import DataError, nearest
from jetscale.events import Events, Shard
from jetscale.schema import Schema
from jetscale.stream import PARTS, Division, Part, Source, Stream


class Reader(Config):
    """What a process needs to read items of one sample; small, so that it can be sent anywhere."""

    directory: str
    columns: tuple[str, ...]
    select: dict[str, tuple[float | None, float | None]]
    split: Division
    part: Part
    seed: int

    def read(self, item: Item, chunk: Chunk) -> pa.Table:
        """The rows of an item, slice after slice, in the chunk's own order of that epoch.

        Raises:
            DataError: a file that cannot be read, or whose selected rows are not those that were counted.
        """
        wanted = [*self.columns, *(name for name in self.select if name not in self.columns)]
        table = read_groups(Path(self.directory), chunk, wanted)
        keep_B = selected(table, self.select)
        keep_B &= part_of(table["event_id"].to_numpy(), self.split) == PARTS.index(self.part)
        rows = np.flatnonzero(keep_B)
        if len(rows) != chunk.selected[self.part]:
            raise DataError(f"{len(rows)} selected rows, but {chunk.selected[self.part]} were counted",
                            where=f"{self.directory}/{chunk.groups[0][0]}",
                            cure="the sample changed after the run started: start the run anew")  # fmt: skip
        if item.epoch >= 0:
            rows = rows[rng(self.seed, item.sample, item.epoch, item.chunk).permutation(len(rows))]
        taken = np.concatenate([rows[part.low : part.high] for part in item.slices])
        return table.select(self.columns).take(pa.array(taken))


def readers(
    stream: Stream, samples: Mapping[str, Events], columns: Sequence[str], part: Part, seed: int
) -> dict[str, Reader]:
    """One reader per sample."""
    return {
        name: Reader(directory=str(events.path.absolute()), columns=tuple(columns), select=stream.select,
                     split=stream.split, part=part, seed=seed)
        for name, events in samples.items()
    }  # fmt: skip


def read_groups(directory: Path, chunk: Chunk, columns: Sequence[str]) -> pa.Table:
    """All rows of a chunk.

    Raises:
        DataError: a file that is missing, truncated, or lacks a column.
    """
    tables = []
    for file in dict.fromkeys(name for name, _ in chunk.groups):
        groups = [group for name, group in chunk.groups if name == file]
        try:
            with pq.ParquetFile(directory / file) as parquet:
                tables.append(parquet.read_row_groups(groups, columns=list(columns), use_threads=False))
        except (OSError, pa.ArrowException) as problem:
            raise DataError(f"cannot be read: {problem}", where=str(directory / file),
                            cure="make the shard anew") from None  # fmt: skip
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


def count(events: Events, stream: Stream) -> tuple[Chunk, ...]:
    """The sample's chunks with the selected rows of every part: one pass over the ids and the selected columns."""
    columns = dict.fromkeys(("event_id", *stream.select))
    check_columns(events, tuple(columns))
    for shard in events.manifest.shards:
        check_shard(events.path / shard.file, shard)
    found = []
    for groups in cut(events, stream.chunk_rows):
        table = read_groups(events.path, Chunk(groups, {}), tuple(columns))
        n = counts(table["event_id"].to_numpy(), selected(table, stream.select), stream.split)
        found.append(Chunk(groups, dict(zip(PARTS, n, strict=True))))
    return tuple(found)


def check_shard(file: Path, shard: Shard) -> None:
    """Refuse a file whose rows are not those of its manifest; only its footer is read.

    Raises:
        DataError: a file that cannot be read, or with other row groups than the manifest says.
    """
    try:
        metadata = pq.read_metadata(file)
    except (OSError, pa.ArrowException) as problem:
        raise DataError(f"cannot be read: {problem}", where=str(file), cure="make the shard anew") from None
    groups = tuple(metadata.row_group(n).num_rows for n in range(metadata.num_row_groups))
    if groups != shard.row_groups:
        raise DataError(f"has {sum(groups)} rows in {len(groups)} row groups, the manifest says {shard.rows} in "
                        f"{len(shard.row_groups)}", where=str(file),
                        cure="the shard was changed after the manifest: make the sample anew")  # fmt: skip


def check_columns(events: Events, columns: Sequence[str]) -> None:
    """Refuse a sample that lacks a column, before any training starts."""
    for name in columns:
        if name not in events.schema:
            raise DataError(f"column {name!r} is missing", where=str(events.path),
                            cure=nearest(name, events.schema.names))  # fmt: skip


def mean_weight(events: Events, source: Source, policy: str) -> float:
    """What the sample's physics weights are divided by (1 where they are not used).

    Raises:
        DataError: negative or all-zero weights that training cannot use.
    """
    if not source.event_weight:
        return 1.0
    weight_B = events.read(["weight"])["weight"].to_numpy()
    if policy == "error" and (weight_B < 0).any():
        raise DataError(f"column 'weight' has {int((weight_B < 0).sum())} negative values", where=str(events.path),
                        cure="set stream.negative_weights to abs or keep, or event_weight to false")  # fmt: skip
    mean = float(np.abs(weight_B).mean() if policy == "abs" else weight_B.mean())
    if not mean > 0.0:
        raise DataError(f"column 'weight' has the mean {mean:g}", where=str(events.path),
                        cure="set event_weight to false for this sample")  # fmt: skip
    return mean


def needed(schema: Schema) -> tuple[str, ...]:
    """The columns that batches hold: the task's, the id and the physics weight."""
    return tuple(dict.fromkeys((*schema.names, "event_id", "weight")))
