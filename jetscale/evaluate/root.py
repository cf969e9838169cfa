"""Events as a ROOT file, for those who go on in ROOT."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import awkward as ak
import numpy as np
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
        if mark_of(file) == events.fingerprint:
            return file
        raise DataError("holds another sample", where=str(file), cure="choose another --out, or remove this file")
    tables = (table for shard in events.manifest.shards for table in events.pieces(events.schema.names, shard, ROWS))
    write_tree(file, TREE, tables, events.schema, events.fingerprint)
    return file


def write_tree(file: Path, name: str, tables: Iterable[pa.Table], schema: Schema, mark: str) -> None:
    """Write tables as one tree, with a mark beside it, into a file that is there whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with uproot.recreate(beside) as root:
            for table in tables:
                branches = branches_of(table, schema)
                if name not in root:
                    root.mktree(name, {branch: ak.type(array).content for branch, array in branches.items()})
                root[name].extend(branches)
            root[MARK] = mark
        os.replace(beside, file)
    finally:
        beside.unlink(missing_ok=True)


def refuse_stranger(file: Path) -> None:
    """What stands where a sample is to be written must be a file that `write_root` has written.

    Raises:
        DataError: it is something else.
    """
    if file.exists() and mark_of(file) is None:
        raise DataError("is in the way: jetscale has not written it", where=str(file),
                        cure="choose another --out, or move it")  # fmt: skip


def mark_of(file: Path) -> str | None:
    """The fingerprint of the sample in a file, None where it holds something else."""
    try:
        with uproot.open(file) as root:
            return str(root[MARK])
    except (OSError, ValueError, KeyError):  # a folder, not in ROOT's format, without a mark
        return None


def branches_of(table: pa.Table, schema: Schema) -> dict[str, ak.Array]:
    """Columns as a tree takes them: a collection is one branch of records, which becomes a branch per column."""
    branches = {column.name: ak.Array(_numbers(table[column.name])) for column in schema.each() if not column.of}
    for collection in schema.collections:
        counts = lengths(table, collection, schema)
        branches[collection] = ak.unflatten(
            ak.zip({
                column.name.removeprefix(f"{collection}_"): _numbers(table[column.name])
                for column in schema.each() if column.of == collection
            }), counts)  # fmt: skip
    return branches


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """All numbers of a column; those of one byte are wider, which ROOT would show as letters."""
    values = flat(column)
    return values.astype(np.int32) if values.dtype == np.int8 else values
