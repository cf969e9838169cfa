"""Scores beside the files that the events came from: for every source file a tree that is a friend of its own.

    OUT.friends/ttbar/file_12.root: scores     as many entries as the source's tree, in its order

Events that the sample does not have stand in it with `selected` 0 and without scores, so that the n-th entry of one
tree is the n-th of the other. `event_id` names source and entry, as in the sample.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jetscale.data.ingest.convert import ENTRY_BITS, JET_INDEX, ids_of
from jetscale.data.provenance import roots
from jetscale.errors import DataError
from jetscale.evaluate.root import mark_of, refuse_stranger, write_tree
from jetscale.events import Events, Shard
from jetscale.schema import Column, Schema, flat, one

TREE = "scores"
ROWS = 100_000  # entries that are in memory
SELECTED = Column(name="selected", dtype="int8", unit="", doc="1 where the sample has the event, 0 where it has not")
NAMES = ("run", "luminosity_block", "event")  # what experiments call an event


class Origin(NamedTuple):
    """A file that events of the sample came from."""

    file: str
    key: str
    entries: int


class Span(NamedTuple):
    """A shard that has events of an origin, all of them in [low, high) of its entries."""

    shard: Shard
    low: int
    high: int


def origins(events: Events) -> list[Origin]:
    """The files that a sample was made of, none if it was not made of files."""
    found = {
        one["key"]: Origin(one["file"], one["key"], one["entries"])
        for root in roots(events) if root.made_by.get("command") == "ingest"
        for one in root.made_by["files"]
    }  # fmt: skip
    return list(found.values())


def write_friends(events: Events, folder: Path) -> Iterator[Path]:
    """Write what scoring added, a file for each that the sample was made of; one that is there already is kept.

    Files have the names of their sources, below the folder that all of these share. A branch per jet has our order of
    jets, which falls in pt, and `jet_index` is the jet's place in the source.

    Raises:
        DataError: a file is there and holds something else; before any is written.
    """
    sources = origins(events)
    places = [folder / name for name in names_of([one.file for one in sources])]
    for place in places:
        refuse_stranger(place)
        if place.exists() and mark_of(place) != events.fingerprint:
            raise DataError(
                "holds scores of another sample", where=str(place), cure="choose another --out, or remove it"
            )
    where, schema = _where(events), _schema(events)
    for source, place in zip(sources, places, strict=True):
        if not place.exists():
            tables = _tables(events, source, where.get(_bits(source), []), schema)
            write_tree(place, TREE, tables, schema, events.fingerprint)
        yield place


def names_of(files: Sequence[str]) -> list[str]:
    """Names for files that are to stand in one folder: the ends of their paths, from where they differ, with .root."""
    paths = [re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/]*", "", file) for file in files]
    paths = [os.path.normpath(f"/{path}").lstrip("/") for path in paths]  # the dots of a URL must not lead elsewhere
    shared = os.path.commonpath([str(Path(path).parent) for path in paths]) if paths else ""
    names = [os.path.relpath(path, shared or ".") for path in paths]
    names = [name if name.endswith(".root") else f"{name}.root" for name in names]
    return names if len({*names}) == len(names) else [f"{number}/{name}" for number, name in enumerate(names)]


def _bits(source: Origin) -> int:
    return int(ids_of(source.key, np.zeros(1, dtype=np.int64))[0]) >> ENTRY_BITS


def _where(events: Events) -> dict[int, list[Span]]:
    """The shards that have events of each origin, by its bits in their ids."""
    found: dict[int, list[Span]] = {}
    for shard in events.manifest.shards:
        id_B = flat(events.read(["event_id"], shard)["event_id"])
        key_B, entry_B = id_B >> ENTRY_BITS, id_B & ((1 << ENTRY_BITS) - 1)
        for key in np.unique(key_B).tolist():
            own = entry_B[key_B == key]
            found.setdefault(key, []).append(Span(shard, int(own.min()), int(own.max()) + 1))
    return found


def _schema(events: Events) -> Schema:
    """What a friend holds: names of the event, and what scoring added."""
    added = events.manifest.made_by.get("added", [])
    jets = any(events.schema[name].of == "jet" for name in added)
    names = [*NAMES, *([JET_INDEX.name] if jets else []), *added]
    ours = [events.schema[name] for name in names if name in events.schema]
    return Schema(columns=(events.schema["event_id"], SELECTED, *ours))


def _tables(events: Events, source: Origin, spans: Sequence[Span], schema: Schema) -> Iterator[pa.Table]:
    """All entries of a source, some at a time."""
    for low in range(0, source.entries, ROWS):
        high = min(low + ROWS, source.entries)
        near = [one for one in spans if one.low < high and low < one.high]
        rows = _rows(events, source, near, low, high, schema)
        yield _spread(rows, ids_of(source.key, np.arange(low, high)), schema)


def _rows(events: Events, source: Origin, spans: Sequence[Span], low: int, high: int, schema: Schema) -> pa.Table:
    """The sample's events of entries [low, high) of a source, in its order."""
    names = [name for name in schema.names if name != SELECTED.name]
    first, last = ids_of(source.key, np.array([low, high - 1]))
    found = [events.schema.only(names).arrow.empty_table()]
    for span in spans:
        for table in events.pieces(names, span.shard):
            id_B = table["event_id"]
            found.append(table.filter(pc.and_(pc.greater_equal(id_B, first), pc.less_equal(id_B, last))))
    rows = pa.concat_tables(found)
    return rows.sort_by("event_id").append_column(SELECTED.name, pa.array(np.ones(rows.num_rows, dtype=np.int8)))


def _spread(rows: pa.Table, id_B: np.ndarray, schema: Schema) -> pa.Table:
    """The same with a row for every id; where the sample has none, nothing is selected, scores are NaN or -1."""
    place_R = np.searchsorted(id_B, flat(rows["event_id"]))
    arrays = {}
    for column in schema.each():
        if column.of:
            length_B = np.zeros(len(id_B), dtype=np.int32)
            length_B[place_R] = pc.list_value_length(one(rows[column.name])).to_numpy(zero_copy_only=False)
            ends = pa.array(np.concatenate([[0], np.cumsum(length_B)]).astype(np.int32))
            arrays[column.name] = pa.ListArray.from_arrays(ends, pa.array(flat(rows[column.name])))
        else:
            fill = np.nan if column.dtype.startswith("float") else -1
            values_B = np.full(len(id_B), 0 if column == SELECTED else fill, dtype=column.dtype)
            values_B[place_R] = flat(rows[column.name])
            arrays[column.name] = pa.array(values_B)
    return pa.table({**arrays, "event_id": pa.array(id_B)}).cast(schema.arrow)
