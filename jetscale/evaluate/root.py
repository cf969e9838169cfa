"""Events as a ROOT file, for those who go on in ROOT."""

from __future__ import annotations

import os
from pathlib import Path

import awkward as ak
import pyarrow as pa
import uproot

from jetscale.errors import DataError
from jetscale.events import Events
from jetscale.schema import Schema, flat, lengths

TREE = "events"
MARK = "jetscale"  # a string beside the tree: the sample's fingerprint
ROWS = 20_000  # of a basket


def write_root(events: Events, file: Path) -> Path:
    """Write a sample as one TTree named `events`, a branch per column; units are those of the sample's manifest.

    Collections become `jet_pt[njet]` and so on, one counter each. Every event stands in it once, in the sample's order,
    so that it can be a friend of the original by `event_id` or by entry. A file that holds this very sample is kept.

    Raises:
        DataError: the file is there and holds something else.
    """
    if file.exists():
        refuse_stranger(file)
        if _mark(file) == events.fingerprint:
            return file
        raise DataError("holds another sample", where=str(file), cure="choose another --out, or remove this file")
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
            root[MARK] = events.fingerprint
        os.replace(beside, file)
    finally:
        beside.unlink(missing_ok=True)
    return file


def refuse_stranger(file: Path) -> None:
    """What stands where a sample is to be written must be a file that `write_root` has written.

    Raises:
        DataError: it is something else.
    """
    if file.exists() and _mark(file) is None:
        raise DataError("is in the way: jetscale has not written it", where=str(file),
                        cure="choose another --out, or move it")  # fmt: skip


def _mark(file: Path) -> str | None:
    """The fingerprint of the sample in a file, None where it holds something else."""
    try:
        with uproot.open(file) as root:
            return str(root[MARK])
    except (OSError, ValueError, KeyError):  # a folder, not in ROOT's format, without a mark
        return None


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
