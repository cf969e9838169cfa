"""A sample that is written as its events come: tables of any length become shards of so many events.

What an interrupted command has left is told by what its shards say they are of. It is made anew by the same command,
and another one is refused.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jetscale.config import Values, leaves
from jetscale.errors import ConfigError, DataError
from jetscale.events import (
    MANIFEST,
    ROW_GROUP,
    Events,
    Manifest,
    Pieces,
    Shard,
    describe_shard,
    shard_in,
    write_manifest,
)
from jetscale.lock import held
from jetscale.schema import Schema

STAMP = "jetscale.work"
LOCK = "_lock"
ROWS = 100_000  # events of a shard
SHOWN = 8


class Shards:
    """The shards of one sample, in the order of its events; all but the last have `rows` of them."""

    def __init__(self, out: Path, schema: Schema, work: Values, rows: int) -> None:
        self.out, self.schema, self.work, self.rows = out, schema, work, rows
        self.done: list[Shard] = []
        self.waiting: deque[pa.Table] = deque()
        self.held, self.written = 0, 0
        self.open: ExitStack | None = None
        self.pieces: Pieces | None = None

    def add(self, table: pa.Table) -> None:
        """More events, with at least the columns of the schema; they are written in whole row groups."""
        if table.num_rows:
            self.waiting.append(table.select(self.schema.names))
            self.held += table.num_rows
        while self.held >= self._wanted():
            self._write(self._wanted())

    def finish(self, name: str, cuts: Values, made_by: Values) -> Events:
        """Write what is left, and the manifest."""
        if self.held or not (self.done or self.pieces):
            self._write(self.held)
        if self.pieces:
            self._close()
        made_by = {**made_by, **self.work}
        columns, shards = tuple(self.schema.each()), tuple(self.done)
        write_manifest(Manifest(name=name, columns=columns, shards=shards, cuts=cuts, made_by=made_by), self.out)
        return Events.open(self.out)

    def _wanted(self) -> int:
        return min(ROW_GROUP, self.rows - self.written)

    def _write(self, rows: int) -> None:
        if self.pieces is None:
            self.open = ExitStack()
            file = self.out / f"shard-{len(self.done):05d}.parquet"
            self.pieces = self.open.enter_context(shard_in(file, self.schema, {STAMP: json.dumps(self.work)}))
        self.pieces.add(self._taken(rows))
        self.written += rows
        if self.written == self.rows:
            self._close()

    def _taken(self, rows: int) -> pa.Table:
        found, missing = [], rows
        while missing:
            table = self.waiting.popleft()
            found.append(table.slice(0, missing))
            if table.num_rows > missing:
                self.waiting.appendleft(table.slice(missing))
            missing -= found[-1].num_rows
        self.held -= rows
        return pa.concat_tables(found).combine_chunks() if found else self.schema.arrow.empty_table()

    def _close(self) -> None:
        assert self.open is not None
        self.open.close()
        self.open, self.pieces, self.written = None, None, 0
        self.done.append(describe_shard(self.out / f"shard-{len(self.done):05d}.parquet"))

    def give_up(self, problem: BaseException) -> None:
        """Leave no half of a shard behind."""
        if self.open is not None:
            self.open.__exit__(type(problem), problem, problem.__traceback__)


def working(command: str, settings: Values, samples: Sequence[Events]) -> Values:
    """What names a piece of work, so that the same one can be told from another."""
    inputs = [f"{events.name} {events.fingerprint}" for events in samples]
    return {"command": command, "settings": settings, "inputs": inputs}


def check_place(samples: Sequence[Events], out: Path) -> None:
    """Refuse to write into what is read, and what `check_folder` refuses.

    Raises:
        ConfigError: names the folder.
    """
    if out.resolve() in [events.path.resolve() for events in samples]:
        raise ConfigError(f"is the sample {out.resolve()}", where=f"--out {out}", cure="choose another folder")
    check_folder(out)


def check_folder(out: Path) -> None:
    """Refuse a folder below a sample, or above Parquet files: whoever reads a folder of Parquet takes all below it.

    Raises:
        ConfigError: names the sample or the folder below.
    """
    place, where = out.resolve(), f"--out {out}"
    for folder in place.parents:
        if (folder / MANIFEST).is_file():
            raise ConfigError(f"lies below the sample {folder}", where=where, cure="choose another folder")
    for inside, folders, names in os.walk(place):
        folders[:] = [name for name in folders if name[0] not in "_."]
        if Path(inside) != place and any(name.endswith(".parquet") for name in names):
            raise ConfigError(f"has Parquet files in {inside}, which would be taken for a part of the sample",
                              where=where, cure="choose another folder")  # fmt: skip


@contextmanager
def shards_in(out: Path, schema: Schema, work: Values, rows: int) -> Iterator[Shards]:
    """A folder that a sample is written to; what the same work has left half done there goes first.

    Raises:
        ConfigError: shards of another command.
        DataError: files that are no shards of any such command, or somebody else is at work there.
    """
    _left(out, work)  # what is refused leaves no folder behind
    out.mkdir(parents=True, exist_ok=True)
    busy = DataError("another jetscale is at work here", where=str(out), cure="wait for it, or choose another --out")
    with held(out / LOCK, busy):
        for file in (*_left(out, work), *out.glob(".shard-*.part")):
            file.unlink()
        shards = Shards(out, schema, work, rows)
        try:
            yield shards
        except BaseException as problem:
            shards.give_up(problem)
            raise


def is_done(out: Path, work: Values) -> bool:
    """Whether the folder holds this very sample, whole.

    Raises:
        ConfigError: a sample that another command made.
    """
    if not (out / MANIFEST).is_file():
        _left(out, work)
        return False
    made_by = Events.open(out).manifest.made_by
    _refuse_another({key: made_by[key] for key in work if key in made_by}, work, out)
    return True


def _left(out: Path, work: Values) -> list[Path]:
    """The shards that this work has left there."""
    found = sorted(out.glob("*.parquet"))
    for file in found:
        said = _said_by(file)
        if said is None:
            raise DataError("is in the way: it is no shard of this command", where=str(file),
                            cure="choose another --out, or remove this folder")  # fmt: skip
        _refuse_another(said, work, out)
    return found


def _said_by(file: Path) -> Values | None:
    try:
        note = (pq.read_metadata(file).metadata or {}).get(STAMP.encode())
        values = json.loads(note) if note else None
    except (OSError, pa.ArrowException, json.JSONDecodeError):
        return None
    return values if isinstance(values, dict) else None


def _refuse_another(there: Values, work: Values, out: Path) -> None:
    if lines := _differences(there, work):
        more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        shown = "\n  ".join([*lines[:SHOWN], *more])
        raise ConfigError(f"holds what another command made:\n  {shown}", where=str(out),
                          cure="choose another --out, or take back the change")  # fmt: skip


def _differences(before: Values, after: Values) -> list[str]:
    """`key: old -> new`; of inputs, which went and which came."""
    old, new = leaves(_plain(before)), leaves(_plain(after))
    lines = []
    for key in dict.fromkeys([*old, *new]):
        was, now = old.get(key, "(absent)"), new.get(key, "(absent)")
        if key == "inputs" and sorted(was) != sorted(now):
            lines += [f"inputs: without {one}" for one in was if one not in now]
            lines += [f"inputs: with {one}" for one in now if one not in was]
        elif was != now:
            lines.append(f"{key}: {was} -> {now}")
    return lines


def _plain(values: Mapping[str, Any]) -> Values:
    """As it is after a round through JSON."""
    plain: Values = json.loads(json.dumps(values))
    return plain
