"""Events as a ROOT file, for those who go on in ROOT."""

from __future__ import annotations

import os
from pathlib import Path

import awkward as ak
import pyarrow as pa
import uproot

from jetscale.events import Events
from jetscale.schema import Schema, flat, lengths

TREE = "events"
ROWS = 20_000  # of a basket


def write_root(events: Events, file: Path) -> Path:
    """Write a sample as one TTree named `events`, a branch per column; units are those of the sample's manifest.

    Collections become `jet_pt[njet]` and so on, one counter each. Every event stands in it once, in the sample's order,
    so that it can be a friend of the original by `event_id` or by entry.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with uproot.recreate(beside) as root:
            for shard in events.manifest.shards:
                for table in events.pieces(events.schema.names, shard, ROWS):
                    branches = _branches(table, events.schema)
                    if TREE not in root:
                        root.mktree(TREE, {name: ak.type(array).content for name, array in branches.items()})
                    root[TREE].extend(branches)
        os.replace(beside, file)
    finally:
        beside.unlink(missing_ok=True)
    return file


def _branches(table: pa.Table, schema: Schema) -> dict[str, ak.Array]:
    branches = {column.name: ak.Array(flat(table[column.name])) for column in schema.each() if not column.of}
    for collection in schema.collections:
        counts = lengths(table, collection, schema)
        branches[collection] = ak.unflatten(
            ak.zip({
                column.name.removeprefix(f"{collection}_"): flat(table[column.name])
                for column in schema.each() if column.of == collection
            }), counts)  # fmt: skip
    return branches
