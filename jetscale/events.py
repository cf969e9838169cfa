"""Events: a sample is a directory of Parquet shards with a manifest beside them.

    sample/_manifest.json      columns with units, counts, sums of weights, cuts, provenance, hashes
    sample/shard-00000.parquet

The manifest's name starts with `_`, so pyarrow, pandas and awkward read the directory as it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jetscale.config import Config, Values, build
from jetscale.errors import DataError, nearest
from jetscale.own import completed
from jetscale.schema import Column, Schema, check, whole

MANIFEST = "_manifest.json"
ROW_GROUP = 2500
SHIPPED = "shipped:"


class Shard(Config):
    """One Parquet file: `row_groups` holds the rows of each of its row groups."""

    file: str
    rows: int
    row_groups: tuple[int, ...]
    sum_weight: float
    sha256: str


class Manifest(Config):
    """What stands in a sample's directory and where it came from."""

    version: Literal[1] = 1
    name: str
    columns: tuple[Column, ...]
    shards: tuple[Shard, ...]
    cuts: Values = {}
    made_by: Values = {}

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.shards)

    @property
    def sum_weight(self) -> float:
        return sum(shard.sum_weight for shard in self.shards)


class Events:
    """A sample on disk, opened by its manifest; shards are read when asked for."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest
        self.schema = Schema(columns=manifest.columns)

    def __repr__(self) -> str:
        return f"Events({self.manifest.name!r}, {self.manifest.rows} events, {str(self.path)!r})"

    def __len__(self) -> int:
        return self.manifest.rows

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits of the content: equal fingerprints, equal rows."""
        return hashlib.sha256("".join(shard.sha256 for shard in self.manifest.shards).encode()).hexdigest()[:16]

    @property
    def origin(self) -> str:
        """The fingerprint of these events before any scoring: equal origins, equal events."""
        return str(self.manifest.made_by.get("sample", self.fingerprint))

    @classmethod
    def open(cls, where: str | Path) -> Events:
        """Open a sample's directory, or `shipped:NAME`, one of the samples inside the package.

        Raises:
            DataError: no such directory, no manifest, or a shard that the manifest names is missing.
        """
        path = locate(where)
        manifest = read_manifest(path)
        for shard in manifest.shards:
            if not (path / shard.file).is_file():
                raise DataError("the manifest names this shard, but it is missing", where=str(path / shard.file),
                                cure="copy it back or make the sample anew")  # fmt: skip
        return cls(path, manifest)

    @classmethod
    def write(cls, array: ak.Array | pa.Table, directory: str | Path, *, name: str | None = None,
              units: Mapping[str, str] | None = None, rows_per_shard: int = 50_000) -> Events:  # fmt: skip
        """Write a user's own events, or jets, as a sample.

        Events need the records `jet_pt, jet_eta, jet_phi, jet_mass` (GeV, radians; one list per event); every other
        column of `JET_EVENTS` is optional. Rows that have a `jet_label`, or particles or vertices, are single jets: of
        them the same columns are one number each, and those of `PARTICLES`, `PARTICLE_IDS`, `IMPACT` and `VERTICES`
        lists. What is absent stands as "not known". All further numbers, one per row or one per jet, particle or
        vertex, are kept; `units` has their units. Jets of events, and particles of jets, are put in falling pt.

        Raises:
            DataError: neither an array nor a table, a missing or unequal column, one that cannot be kept, a value that
                is not finite or out of range, a directory that holds a sample.
        """
        path = Path(directory)
        if (path / MANIFEST).exists():
            raise DataError("already holds a sample", where=str(path), cure="choose another folder or remove this one")
        table, schema = completed(array, units or {}, where=str(path))
        shards = [
            write_shard(table.slice(start, rows_per_shard), path / f"shard-{number:05d}.parquet", schema)
            for number, start in enumerate(range(0, max(table.num_rows, 1), rows_per_shard))
        ]
        manifest = Manifest(name=name or path.name, columns=schema.columns, shards=tuple(shards),
                            made_by={"writer": "Events.write"})  # fmt: skip
        write_manifest(manifest, path)
        return cls.open(path)

    def read(self, columns: Sequence[str] | None = None, shard: Shard | None = None) -> pa.Table:
        """The whole sample, or one of its shards, as an Arrow table.

        Raises:
            DataError: a shard that cannot be read, lacks a column or holds other counts than the manifest says.
        """
        shards = self.manifest.shards if shard is None else (shard,)
        names = list(columns if columns is not None else self.schema.names)
        return pa.concat_tables([self._read_shard(one, names) for one in shards])

    def pieces(self, columns: Sequence[str], shard: Shard, rows: int = ROW_GROUP) -> Iterator[pa.Table]:
        """A shard in tables of at most so many rows, so that no more of it is in memory; of an empty one, one of none.

        Raises:
            DataError: as `read`.
        """
        file, names, seen = self.path / shard.file, list(columns), 0
        self._check_names(file, names)
        try:
            with pq.ParquetFile(file) as parquet:
                for piece in parquet.iter_batches(rows, columns=names):
                    seen += piece.num_rows
                    yield whole(pa.Table.from_batches([piece]).select(names), str(file))
        except (OSError, pa.ArrowException) as problem:
            raise DataError(f"cannot be read: {problem}", where=str(file), cure="make the shard anew") from None
        _check_rows(file, seen, shard)
        if not seen:
            yield self.schema.only(names).arrow.empty_table()

    def _read_shard(self, shard: Shard, names: list[str]) -> pa.Table:
        file = self.path / shard.file
        self._check_names(file, names)
        try:
            table = pq.read_table(file, columns=names, partitioning=None)
        except (OSError, pa.ArrowException) as problem:
            raise DataError(f"cannot be read: {problem}", where=str(file), cure="make the shard anew") from None
        _check_rows(file, table.num_rows, shard)
        return whole(table, str(file))

    def _check_names(self, file: Path, names: Sequence[str]) -> None:
        for name in names:
            if name not in self.schema:
                raise DataError(f"column {name!r} is missing", where=str(file), cure=nearest(name, self.schema.names))


def _check_rows(file: Path, rows: int, shard: Shard) -> None:
    if rows != shard.rows:
        raise DataError(f"has {rows} rows, the manifest says {shard.rows}", where=str(file),
                        cure="the shard was changed after the manifest: make the sample anew")  # fmt: skip


def _refuse_url(path: Path) -> None:
    """A path keeps one of the slashes of a URL, and may have got a folder in front."""
    if found := re.search(r"(?:^|/)([a-z][a-z0-9+.-]+):/+(.*)", str(path)):
        raise DataError("samples at a URL are not read yet", where=f"{found[1]}://{found[2]}",
                        cure="copy it here or mount it, and give the folder")  # fmt: skip


def locate(where: str | Path) -> Path:
    """The directory of a sample; `shipped:NAME` lies inside the package."""
    text = str(where)
    if not text.startswith(SHIPPED):
        return Path(text)
    room = Path(str(resources.files("jetscale"))) / "data" / "sample"
    name = text.removeprefix(SHIPPED)
    known = [path.parent.name for path in room.glob(f"*/{MANIFEST}")]
    if name not in known:
        raise DataError(f"no shipped sample {name!r}", where=text, cure=nearest(name, known))
    return room / name


def write_shard(table: pa.Table, file: Path, schema: Schema, notes: Mapping[str, str] | None = None) -> Shard:
    """Check a table and write it as one Parquet file; `notes` go into the file's own metadata."""
    with shard_in(file, schema, notes) as shard:
        shard.add(table)
    return describe_shard(file)


@contextmanager
def shard_in(file: Path, schema: Schema, notes: Mapping[str, str] | None = None) -> Iterator[Pieces]:
    """A Parquet file that is written in pieces: beside first, then renamed, so that no half of it is ever seen."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.{os.getpid()}.part")
    arrow = schema.arrow.with_metadata(dict(notes or {}))
    try:
        # Measured momenta hardly repeat: dictionaries of them make a file a third larger, and their bytes are smaller
        # and faster to read when those of one weight lie together.
        with pq.ParquetWriter(beside, arrow, compression="zstd", use_dictionary=False,
                              use_byte_stream_split=_floats(schema)) as writer:  # fmt: skip
            pieces = Pieces(writer, file, schema)
            yield pieces
        pieces.check_ids()
        os.replace(beside, file)
    finally:
        beside.unlink(missing_ok=True)


def _floats(schema: Schema) -> list[str]:
    """Parquet's own names of the columns that hold floating-point numbers."""
    return [f"{column.name}.list.element" if column.of else column.name
            for column in schema.each() if column.dtype.startswith("float")]  # fmt: skip


class Pieces:
    """The tables of one shard, checked one by one."""

    def __init__(self, writer: pq.ParquetWriter, file: Path, schema: Schema) -> None:
        self.writer, self.file, self.schema = writer, file, schema
        self.ids: list[np.ndarray] = []

    def add(self, table: pa.Table) -> None:
        """Check a table and write it behind the others."""
        arrow = self.schema.arrow
        table = table.select(self.schema.names).cast(arrow) if table.num_rows else arrow.empty_table()
        check(table, self.schema, str(self.file))
        self.ids.append(table["event_id"].to_numpy())
        self.writer.write_table(table.replace_schema_metadata(self.writer.schema.metadata), row_group_size=ROW_GROUP)

    def note(self, key: str, text: str) -> None:
        """Put a note into the file's own metadata; it must come before the end."""
        self.writer.add_key_value_metadata({key: text})

    def check_ids(self) -> None:
        """Refuse an event id that stands in two of the tables.

        Raises:
            DataError: it does.
        """
        if len(self.ids) > 1 and len(np.unique(np.concatenate(self.ids))) < sum(map(len, self.ids)):
            raise DataError("event_id is not unique", where=str(self.file), cure="give every event an id of its own")


def describe_shard(file: Path) -> Shard:
    """The manifest's entry of a shard that stands on disk."""
    parquet = pq.ParquetFile(file)
    metadata = parquet.metadata
    weights = parquet.read(columns=["weight"])["weight"].to_numpy()
    return Shard(
        file=file.name,
        rows=metadata.num_rows,
        row_groups=tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)),
        sum_weight=float(weights.sum()),
        sha256=_sha256(file),
    )


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a sample's directory; of the shards nothing is looked at.

    Raises:
        DataError: no such directory, or no manifest.
    """
    file = directory / MANIFEST
    if not file.is_file():
        _refuse_url(directory)
        raise DataError("is not a sample: it has no _manifest.json", where=str(directory),
                        cure="make one with jetscale generate or Events.write, or correct the path")  # fmt: skip
    try:
        values = json.loads(file.read_text())
    except ValueError as problem:  # no JSON, or no text at all
        raise DataError(f"is not JSON: {problem}", where=str(file), cure="make the sample anew") from None
    return build(Manifest, values, str(file))


def write_manifest(manifest: Manifest, directory: Path) -> None:
    """Write the manifest last, renamed into place: a directory that has one is complete."""
    write_text(directory / MANIFEST, json.dumps(manifest.values(), indent=1) + "\n")


def write_text(file: Path, text: str) -> None:
    """Write beside, then rename."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.{os.getpid()}.part")
    beside.write_text(text)
    os.replace(beside, file)


def ids_for(namespace: str, shard: int, entries: np.ndarray) -> np.ndarray:
    """Event ids (B,) int64 >= 0: 23 bits of the namespace's hash, 20 of the shard, 20 of the entry in it.

    Raises:
        DataError: more than 1,048,576 shards, or entries in one shard.
    """
    limit = 1 << 20
    if not 0 <= shard < limit or (entries.size and int(entries.max()) >= limit):
        raise DataError(f"shard {shard} or an entry in it is {limit} or more", where=namespace,
                        cure="make fewer or smaller shards")  # fmt: skip
    space = int.from_bytes(hashlib.sha256(namespace.encode()).digest()[:3], "big") >> 1
    return np.int64((space << 40) + (shard << 20)) + entries.astype(np.int64)


def as_awkward(table: pa.Table) -> ak.Array:
    """The same events as an awkward array of records."""
    array: Any = ak.from_arrow(table)
    return array
