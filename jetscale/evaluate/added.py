"""Columns added to a sample, whoever they are from: the same events, the same ids, each exactly once.

Shards are written one by one, each with a stamp that says what was scored with what; a scoring that was interrupted
keeps the whole ones and goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jetscale import __version__
from jetscale.config import Values, digest
from jetscale.errors import DataError
from jetscale.events import MANIFEST, Events, Manifest, Shard, describe_shard, shard_in, write_manifest
from jetscale.schema import Schema

STAMP = "jetscale.scored"
SAID = ("scored_by", "sample", "untrained", "added", "weights", "folds", "constants")


def adding(events: Events, out: Path, added: Schema, read: Collection[str], made_by: Values,
           columns: Callable[[pa.Table], pa.Table]) -> Iterator[int]:  # fmt: skip
    """Write a sample with the columns `added`, made table by table; how many events are done so far.

    `made_by` says what they are from; a sample that is there already with the same is kept. Columns that another
    scoring has added are left out, unless they are among those that are `read`.

    Raises:
        DataError: `out` holds something else.
    """
    made_by = {**made_by, "sample": events.origin, "added": list(added.names)}
    if (out / MANIFEST).is_file():
        _refuse_another(Events.open(out), made_by)
        yield len(events)
        return
    old = {name for name in events.manifest.made_by.get("added", []) if name not in read}
    raw = events.schema.only([name for name in events.schema.names if name not in old])
    schema = raw.plus(*added.columns)
    whole, done, shards = _whole(out, events, made_by), 0, []
    for shard in events.manifest.shards:
        if shard.file not in whole:
            with shard_in(out / shard.file, schema, {STAMP: _stamp(made_by, shard)}) as pieces:
                for table in events.pieces(raw.names, shard):
                    pieces.add(_beside(table, columns(table), schema))
                    yield done + sum(map(len, pieces.ids))
        done += shard.rows
        shards.append(describe_shard(out / shard.file))
        yield done
    write_manifest(_manifest(events, schema, shards, made_by), out)


def _beside(table: pa.Table, added: pa.Table, schema: Schema) -> pa.Table:
    kept = {name: table[name] for name in table.column_names if name not in added.column_names}
    return pa.table({**kept, **{name: added[name] for name in added.column_names}}).select(schema.names)


def _stamp(made_by: Mapping[str, Any], shard: Shard) -> str:
    return digest([made_by, shard.sha256, __version__])


def _whole(out: Path, events: Events, made_by: Mapping[str, Any]) -> set[str]:
    """Shards of this very scoring that an interrupted one has left; what it left half done goes.

    Raises:
        DataError: shards of something else.
    """
    stamps = {shard.file: _stamp(made_by, shard) for shard in events.manifest.shards}
    for file in out.glob("*.parquet"):
        if file.name not in stamps or _stamped(file) != stamps[file.name]:
            raise DataError("is in the way: it is no shard of this scoring", where=str(file),
                            cure="choose another --out, or remove this folder")  # fmt: skip
    for name in stamps:
        for half in out.glob(f".{name}.*.part"):
            half.unlink(missing_ok=True)
    return {name for name in stamps if (out / name).is_file()}


def _stamped(file: Path) -> str:
    try:
        notes = pq.read_metadata(file).metadata or {}
    except (OSError, pa.ArrowException):
        return ""
    return str(notes.get(STAMP.encode(), b"").decode())


def _manifest(events: Events, schema: Schema, shards: Sequence[Shard], made_by: Mapping[str, Any]) -> Manifest:
    history = {key: value for key, value in events.manifest.made_by.items() if key not in SAID}
    return events.manifest.but(columns=[column.values() for column in schema.each()],
                               shards=[shard.values() for shard in shards],
                               made_by={**history, **made_by})  # fmt: skip


def _refuse_another(there: Events, made_by: Mapping[str, Any]) -> None:
    for key in SAID:
        have, want = there.manifest.made_by.get(key), made_by.get(key)
        if have != want:
            raise DataError(f"holds another sample: {key} is {have!r}, not {want!r}",
                            where=str(there.path), cure="choose another --out, or remove this folder")  # fmt: skip
