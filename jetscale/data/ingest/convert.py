"""One range of one file becomes one shard: every entry is written, or counted under the reason why it is not."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from jetscale.config import digest
from jetscale.data.formats.open import entered
from jetscale.data.formats.reader import REASON
from jetscale.data.ingest import files
from jetscale.data.ingest.chunk import Chunk, chunk_of, events_with, kept
from jetscale.data.ingest.files import Stamp
from jetscale.data.ingest.golden import Golden
from jetscale.data.ingest.job import Ingest
from jetscale.data.ragged import take
from jetscale.data.rows import Rows
from jetscale.data.work import said
from jetscale.derive import Ends, between, content
from jetscale.errors import ConfigError, DataError, nearest
from jetscale.events import ROW_GROUP, Shard, describe_shard, shard_in
from jetscale.schema import EVENT_ID, JET_EVENTS, WEIGHT, Column, Schema

STAMP = "jetscale.ingested"
# What may change without making the rows anew: the name, more files, and what the weights sum to.
FREE = {"name", "files", "cross_section_pb", "luminosity_fb", "sum_of_weights"}
ENTRY_BITS = 27
KEY_BITS = 36
ROUNDING = 1e-3  # a mass so much below zero, in units of the momentum, is one of zero that was rounded
JET_INDEX = Column(name="jet_index", of="jet", dtype="int32", unit="", low=0,
                   doc="the jet's place in the file's own list")  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """What turns entries into rows: the job, the columns of its files, and the certified blocks.

    Raises:
        ConfigError: settings of the job that the columns do not allow, when `schema` is first asked for.
    """

    job: Ingest
    columns: Schema  # what readers give
    weights: tuple[str, ...] = ("weight",)
    golden: Golden | None = None

    @cached_property
    def digest(self) -> str:
        """Twelve hex digits that name what becomes of an entry, but for the scale of its weight."""
        said = self.job.model_dump(mode="json", exclude=FREE | {"golden", "derive"}, exclude_defaults=True)
        golden = hashlib.sha256(b"".join(part.tobytes() for part in (self.golden.first, self.golden.last))
                                ).hexdigest() if self.golden else None  # fmt: skip
        derive = {name: content(how) for name, how in self.job.derive.items()}
        return digest([said, derive, golden, self.columns.values(), self.weights])

    @cached_property
    def read(self) -> Schema:
        """The columns before any is derived."""
        unit = "pb" if self.job.cross_section_pb and not self.job.luminosity_fb else ""
        doc = "physics weight" if not unit else "the event's share of the cross section"
        weights = [WEIGHT.but(name=name, unit=unit, doc=doc, missing=None) for name in self.weights]
        fixed = [_constant(name, self.columns) for name in self.job.set]
        if not _lists_jets(self.columns):
            return Schema(columns=(EVENT_ID, *weights)).plus(*self.columns.columns, *fixed)
        jets = JET_EVENTS.plus(*(c for c in self.columns.each() if c.name in JET_EVENTS))
        ours = Schema(columns=(EVENT_ID, *weights)).plus(*(c for c in jets.each() if c.name != "weight"))
        return ours.plus(*self.columns.columns, JET_INDEX, *fixed)

    @cached_property
    def rows(self) -> Rows:
        """How further columns are derived."""
        for name, how in self.job.derive.items():
            if how.drawn or hasattr(how, "fit"):
                raise ConfigError(f"by: {how.by} needs a training", where=f"derive.{name}",
                                  cure="derive it in the stream of a training")  # fmt: skip
            if name in self.read:
                raise ConfigError(f"there is a column {name!r} already", where=f"derive.{name}",
                                  cure="choose another name")  # fmt: skip
        return Rows("ingest", self.read, {}, {}, dict(self.job.derive), None, {}, 0)

    @cached_property
    def schema(self) -> Schema:
        """The columns of the sample."""
        derived = (self.rows.layout.rows[name] for name in self.rows.layout.order)
        schema = self.read.plus(*derived)
        self._check(schema)
        return schema

    def _check(self, schema: Schema) -> None:
        self._check_set(schema)
        for collection, ranges in self.job.keep.items():
            known = [c.name.removeprefix(f"{collection}_") for c in self.columns.each() if c.of == collection]
            for name in ranges:
                if name not in known:
                    raise ConfigError(f"{collection} has no {name!r}", where=f"keep.{collection}.{name}",
                                      cure=nearest(name, known))  # fmt: skip
        for name in self.job.select:
            flat = [column.name for column in schema.each() if not column.of]
            if name not in flat:
                raise ConfigError(f"there is no number {name!r} per event", where=f"select.{name}",
                                  cure=nearest(name, flat))  # fmt: skip
        if self.golden and (absent := {"run", "luminosity_block"} - set(schema.names)):
            raise ConfigError(f"golden needs the column {min(absent)!r}, which the files lack or the map does not name",
                              where="golden", cure="map it under columns.event")  # fmt: skip

    def _check_set(self, schema: Schema) -> None:
        ours = (EVENT_ID.name, JET_INDEX.name, *self.weights)
        for name, value in self.job.set.items():
            column, where = schema[name], f"set.{name}"
            if name in ours or (column.of and name in self.columns):
                raise ConfigError(f"{name} cannot be one number for all events", where=where,
                                  cure="choose another name")  # fmt: skip
            low, high = (-np.inf if column.low is None else column.low, np.inf if column.high is None else column.high)
            with np.errstate(all="ignore"):
                kept = np.float64(value).astype(column.dtype)
            if not low <= value <= high or not np.isfinite(kept) or (kept.dtype.kind == "i" and kept != value):
                raise ConfigError(f"{value:g} is no {column.dtype} from {low:g} to {high:g}", where=where,
                                  cure=f"it holds {column.doc}")  # fmt: skip


@dataclass
class Counts:
    """What became of the entries of a range. Every entry is kept or rejected once; members are counted apart."""

    entries: int = 0
    kept: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    mended: Counter[str] = field(default_factory=Counter)
    members_left_out: Counter[str] = field(default_factory=Counter)

    def plus(self, other: Counts) -> Counts:
        """Both together."""
        return Counts(self.entries + other.entries, self.kept + other.kept, self.rejected + other.rejected,
                      self.mended + other.mended, self.members_left_out + other.members_left_out)  # fmt: skip

    def values(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return {"entries": self.entries, "kept": self.kept, "rejected": dict(self.rejected),
                "mended": dict(self.mended), "members_left_out": dict(self.members_left_out)}  # fmt: skip

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Counts:
        """From `values`."""
        return cls(values["entries"], values["kept"], Counter(values["rejected"]), Counter(values["mended"]),
                   Counter(values["members_left_out"]))  # fmt: skip


@dataclass(frozen=True)
class Part:
    """Entries [start, stop) of a file, with what names its content: its stamp, and `key` in event ids."""

    file: str
    stamp: Stamp
    key: str
    start: int
    stop: int


def convert(recipe: Recipe, part: Part, scale: float, out: Path) -> tuple[Shard, Counts]:
    """Write the shard of a part; its weights are multiplied by `scale`.

    Raises:
        DataError: the file cannot be read, or not as it was when it was looked at.
    """
    counts = Counts()
    _same(part)
    with entered(part.file, recipe.job.map, part.stamp.hash) as source, shard_in(out, recipe.schema) as pieces:
        chunks = source.read(part.start, part.stop, recipe.columns)
        for table in in_groups(map(partial(_table, recipe, part, scale, counts), chunks)):
            pieces.add(table)
        if counts.entries != part.stop - part.start or counts.kept + counts.rejected.total() != counts.entries:
            raise DataError(f"{counts.entries} entries came, not {part.stop - part.start}", where=part.file,
                            cure="the file changed while it was read: run the same command again")  # fmt: skip
        _same(part)
        note = {"file": part.file, "hash": part.stamp.hash, "start": part.start, "stop": part.stop, "scale": scale}
        pieces.note(STAMP, json.dumps({**note, **counts.values()}))
    return describe_shard(out), counts


def _same(part: Part) -> None:
    if files.stamp(part.file, part.stamp).hash != part.stamp.hash:
        raise DataError("changed while it was being converted", where=part.file, cure="run the same command again")


def in_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of whole row groups, but for the last, so that a strict selection leaves no tiny ones."""
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        waiting.append(table)
        rows += table.num_rows
        if rows >= ROW_GROUP:
            whole = pa.concat_tables(waiting)
            full = rows - rows % ROW_GROUP
            # A copy of the rest: a slice would keep all of it.
            waiting, rows = [whole.slice(full).combine_chunks()], rows - full
            yield whole.slice(0, full)
    if rows:
        yield pa.concat_tables(waiting)


def rescale(recipe: Recipe, old: Path, scale: float, new: Path) -> tuple[Shard, Counts]:
    """Write a shard again, with another scale of its weights; equal to converting it anew up to rounding.

    Raises:
        DataError: the shard cannot be read.
    """
    note = stamp(old)
    try:
        with pq.ParquetFile(old) as parquet, shard_in(new, recipe.schema) as pieces:
            for batch in parquet.iter_batches(ROW_GROUP):
                pieces.add(_scaled(recipe, pa.Table.from_batches([batch]), scale / note["scale"]))
            pieces.note(STAMP, json.dumps({**note, "scale": scale}))
    except (OSError, pa.ArrowException, KeyError) as problem:
        if isinstance(problem, OSError) and problem.errno:  # of the disk, not of the shard
            raise
        raise DataError(f"cannot be read: {problem}", where=str(old), cure="remove it, and run again") from None
    return describe_shard(new), Counts.of(note)


def stamp(shard: Path) -> dict[str, Any]:
    """What `convert` noted in a shard; nothing for a file that it did not finish."""
    try:
        notes = pq.read_metadata(shard).metadata or {}
        note = json.loads(notes[STAMP.encode()])
    except (OSError, pa.ArrowException, KeyError, json.JSONDecodeError):
        return {}
    return note if isinstance(note, dict) else {}


def ids_of(key: str, entries: np.ndarray, file: str = "") -> np.ndarray:
    """Event ids (B,) int64 >= 0 of a file's entries: 36 bits of its key, 27 of the entry; `file` is named in errors.

    Raises:
        DataError: more than 134,217,728 entries.
    """
    if entries.size and int(entries[-1]) >> ENTRY_BITS:
        raise DataError(f"entry {int(entries[-1])} is beyond {1 << ENTRY_BITS}", where=file, cure="split the file")
    return np.int64((int(key, 16) & ((1 << KEY_BITS) - 1)) << ENTRY_BITS) + entries.astype(np.int64)


def _table(recipe: Recipe, part: Part, scale: float, counts: Counts, array: ak.Array) -> pa.Table:
    """The rows of a chunk; what became of its entries is added to the counts."""
    entries_B = np.arange(len(array), dtype=np.int64) + part.start + counts.entries
    counts.entries += len(array)
    chunk = _chunk(recipe, array, ids_of(part.key, entries_B, part.file))
    if REASON in array.fields:
        reason_B = np.asarray(array[REASON].to_list())
        known_B = reason_B != ""
        counts.rejected.update(reason_B[known_B].tolist())
        chunk = chunk.only(~known_B)
    if recipe.golden:
        golden_B = recipe.golden.certified(chunk.numbers["run"], chunk.numbers["luminosity_block"])
        chunk = _reject(chunk, ~golden_B, "not in the golden JSON", counts)
    chunk, left_out = kept(chunk, recipe.job.keep)
    counts.members_left_out.update(left_out)
    chunk = _sound(_mended(chunk, counts), counts)
    for collection in chunk.bounds:
        if f"{collection}_pt" in chunk.members:
            chunk = chunk.ordered(collection, f"{collection}_pt")
    table = _selected(recipe, _derived(recipe, _filled(recipe, chunk).table(), counts), counts)
    counts.kept += table.num_rows
    # Last, so that what is derived and selected does not depend on how many files there are.
    return _scaled(recipe, table, scale)


def _chunk(recipe: Recipe, array: ak.Array, id_B: np.ndarray) -> Chunk:
    """The reader's columns with weights, ids, and the place of every jet."""
    weights = tuple(recipe.read[name] for name in recipe.weights)
    chunk = chunk_of(array, Schema(columns=(*weights, *recipe.columns.columns)))
    if not _lists_jets(recipe.columns):
        return chunk.plus(EVENT_ID, id_B)
    bounds = chunk.bounds["jet"]
    place_M = np.arange(bounds[-1]) - np.repeat(bounds[:-1], np.diff(bounds))
    return chunk.plus(EVENT_ID, id_B).plus(JET_INDEX, place_M.astype(np.int32))


def _lists_jets(columns: Schema) -> bool:
    """Whether rows are events with lists of jets, and not jets themselves."""
    return any(column.of == "jet" for column in columns.each())


def _reject(chunk: Chunk, bad_B: np.ndarray, why: str, counts: Counts) -> Chunk:
    if number := int(bad_B.sum()):
        counts.rejected[why] += number
    return chunk.only(~bad_B)


def _mended(chunk: Chunk, counts: Counts) -> Chunk:
    """Masses that rounding has made negative are zero, and so are their variations."""
    for collection in chunk.bounds:
        pt, eta, mass = (f"{collection}_{name}" for name in ("pt", "eta", "mass"))
        if not {pt, eta, mass} <= chunk.members.keys():
            continue
        twins = [name for name in chunk.collection(collection) if name.startswith(f"{mass}_")]
        for name in (mass, *(name for name in twins if chunk.columns[name].low == 0)):
            values_M = chunk.members[name]
            below_M = values_M < 0
            if not below_M.any():
                continue
            with np.errstate(over="ignore", invalid="ignore"):
                momentum_M = chunk.members[pt] * np.cosh(chunk.members[eta])
                rounded_M = below_M & (values_M >= -ROUNDING * momentum_M)
            counts.mended[f"{name} below 0 by rounding"] += int(rounded_M.sum())
            chunk = chunk.plus(chunk.columns[name], np.where(rounded_M, 0, values_M).astype(values_M.dtype))
    return chunk


def _sound(chunk: Chunk, counts: Counts) -> Chunk:
    """The events all of whose numbers are in range and finite; a `missing` stands for one that is not finite."""
    for column in chunk.columns.each():
        values = chunk.values(column)
        if values.dtype.kind != "f" or (finite := np.isfinite(values)).all():
            pass
        elif column.missing is not None:
            counts.mended[f"{column.name} not finite, now {column.missing:g}"] += int((~finite).sum())
            values = np.where(finite, values, column.missing).astype(values.dtype)
            chunk = chunk.plus(column, values)
        else:
            chunk = _reject(chunk, events_with(chunk, column, ~finite), f"{column.name} is not finite", counts)
            values = chunk.values(column)
        bad = np.zeros(len(values), dtype=bool)
        if column.low is not None:
            bad |= values < column.low
        if column.high is not None:
            bad |= values > column.high
        if bad.any():
            why = f"{column.name} is not in {_said((column.low, column.high))}"
            chunk = _reject(chunk, events_with(chunk, column, bad), why, counts)
    return chunk


def _filled(recipe: Recipe, chunk: Chunk) -> Chunk:
    """With the columns that are one number, and what is not known of the truth."""
    for column in recipe.read.each():
        fixed = recipe.job.set.get(column.name)
        if fixed is None and column.name not in chunk.columns:
            fixed = column.missing
        if fixed is not None:
            size = chunk.bounds[column.of][-1] if column.of else chunk.rows
            chunk = chunk.plus(column, np.full(size, fixed))
    return Chunk(chunk.rows, chunk.numbers, chunk.members, chunk.bounds, recipe.read)


def _scaled(recipe: Recipe, table: pa.Table, scale: float) -> pa.Table:
    if scale == 1.0:
        return table
    for name in recipe.weights:
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(place), pa.array(table[name].to_numpy() * scale))
    return table


def _derived(recipe: Recipe, table: pa.Table, counts: Counts) -> pa.Table:
    """With the derived columns; events in which one is not finite are rejected."""
    for name in recipe.rows.layout.order:
        column = recipe.schema[name]
        try:
            made = recipe.job.derive[name].make(table, torch.zeros(table.num_rows, dtype=torch.int64))
            array = (made if isinstance(made, pa.Array) else pa.array(made)).cast(column.arrow)
            table = table.append_column(pa.field(name, column.arrow, nullable=False), array)
        except Exception as problem:  # a user's own kind raises what it likes
            raise DataError(f"cannot be made: {said(problem)}", where=f"derive.{name}",
                            cure=f"see {recipe.job.derive[name].by}") from problem  # fmt: skip
        if not column.of and (values_B := array.to_numpy(zero_copy_only=False)).dtype.kind == "f":
            table = _only(table, np.isfinite(values_B), f"{name} is not finite", counts)
    return table


def _selected(recipe: Recipe, table: pa.Table, counts: Counts) -> pa.Table:
    for name, ends in recipe.job.select.items():
        table = _only(table, between(table[name].to_numpy(), ends), f"{name} is not in {_said(ends)}", counts)
    return table


def _only(table: pa.Table, keep_B: np.ndarray, why: str, counts: Counts) -> pa.Table:
    if keep_B.all():
        return table
    counts.rejected[why] += int(len(keep_B) - keep_B.sum())
    return take(table, np.flatnonzero(keep_B))


def _said(ends: Ends) -> str:
    low, high = ends
    return f"[{'-inf' if low is None else f'{low:g}'}, {'inf' if high is None else f'{high:g}'})"


def _constant(name: str, columns: Schema) -> Column:
    for schema in (columns, JET_EVENTS):
        if name in schema:
            return schema[name]
    return Column(name=name, dtype="float32", unit="", doc="one number for all events")
