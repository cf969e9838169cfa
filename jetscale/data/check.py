"""A sample against its manifest: every shard, every number, every event id; all that is wrong, not only the first.

Shards are read in pieces by a few threads. What grows with the sample are its event ids, 16 bytes an event, and as many
again where run, luminosity block and event are columns.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from jetscale.data.chunks import CHANGED, faults
from jetscale.data.ids import repeats
from jetscale.data.provenance import bad_files, miscounts
from jetscale.errors import JetscaleError
from jetscale.events import MANIFEST, Manifest, Shard, locate, read_manifest
from jetscale.keyed import mix
from jetscale.schema import EVENT_ID, FILL, JET_EVENTS, JET_LABEL, Column, Schema, flat, lengths, one

NUMBER = ("run", "luminosity_block", "event")
ROWS = 10_000  # read at once
THREADS = 4
ROUNDING = 1e-9  # of the sum of absolute weights
FEW = 0.01  # effective events, as a share of all
HIGHEST = 50_000.0  # GeV: half of what any collider is planned for
SHOWN = 20
MEND = "drop or mend these events, and make the sample anew"
LABELS = {JET_LABEL.name, *(column.name for column in JET_EVENTS.each() if column.missing is not None)}


class Finding(NamedTuple):
    """Something that is wrong, or at least odd: where, in which column, what, and what to do about it."""

    error: bool
    where: str
    column: str
    what: str
    cure: str


class Checked(NamedTuple):
    """What was found in so many events; 0 events for what concerns the sample as a whole."""

    rows: int
    findings: list[Finding]


@dataclass
class Odd:
    """Values of one kind in one column: how many, and the first."""

    first: str
    cure: str
    count: int = 0


@dataclass
class Seen:
    """What the numbers of one shard are."""

    shard: Shard
    findings: list[Finding] = field(default_factory=list)
    odd: dict[tuple[str, str], Odd] = field(default_factory=dict)
    ends: dict[str, tuple[float, float]] = field(default_factory=dict)
    ids: list[np.ndarray] = field(default_factory=list)
    numbers: list[np.ndarray] = field(default_factory=list)
    weights: np.ndarray = field(default_factory=lambda: np.zeros(3))  # sums of w, |w| and w^2

    def note(self, column: str, what: str, first: str, cure: str, count: int) -> None:
        """So many more values of a kind."""
        self.odd.setdefault((column, what), Odd(first, cure)).count += count


def checking(where: str | Path) -> Iterator[Checked]:
    """Look at a sample step by step; what is found comes with the shards as they are done, and at the end.

    Raises:
        DataError: no sample of this name.
        ConfigError: a manifest that is not one.
    """
    path = locate(where)
    manifest = read_manifest(path)
    schema = Schema(columns=manifest.columns)
    yield Checked(0, [*_of_manifest(manifest), *_of_folder(path, manifest)])
    everything: list[Seen] = []
    for seen in _shards(path, manifest, schema, _cure(manifest)):
        everything.append(seen)
        yield Checked(seen.shard.rows, seen.findings)
        seen.findings = []
    yield Checked(0, [*_of_ids(everything), *_of_numbers(everything), *_of_sample(everything, manifest)])


def _cure(manifest: Manifest) -> str:
    """What to do about a shard that is damaged."""
    if manifest.made_by.get("command") == "ingest" and "scored_by" not in manifest.made_by:
        return "remove it if it is there, and run the same jetscale ingest again, which makes what is missing"
    return "copy it back or make the sample anew"


def _of_manifest(manifest: Manifest) -> Iterator[Finding]:
    names = [column.name for column in manifest.columns]
    for name, times in Counter(names).items():
        if times > 1:
            yield Finding(True, MANIFEST, name, "stands twice among the columns", "make the sample anew")
    for name in ("event_id", "weight"):
        if name not in names:
            yield Finding(True, MANIFEST, name, "is missing", "make the sample anew")
    for file, times in Counter(shard.file for shard in manifest.shards).items():
        if times > 1:
            yield Finding(True, MANIFEST, "", f"names {file} {times} times", "make the sample anew")
    for shard in manifest.shards:
        if sum(shard.row_groups) != shard.rows:
            yield Finding(True, MANIFEST, "", f"says {shard.rows} rows of {shard.file}, and {sum(shard.row_groups)} in "
                          "its row groups", "make the sample anew")  # fmt: skip
    for what in miscounts(manifest):
        yield Finding(True, MANIFEST, "", what, "make the sample anew")


def _of_folder(path: Path, manifest: Manifest) -> Iterator[Finding]:
    """Files that whoever reads the folder as Parquet takes for parts of the sample."""
    known = {shard.file for shard in manifest.shards}
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if name[0] not in "_.")
        for name in sorted(name for name in names if name[0] not in "_."):
            file = str((Path(folder) / name).relative_to(path))
            if file in known:
                continue
            parquet = name.endswith((".parquet", ".parq", ".pq"))
            what = "the manifest does not know it, and whoever reads the folder takes it for a shard"
            yield Finding(parquet, file, "", what, "move it away, or give it a name that begins with _")


def _shards(path: Path, manifest: Manifest, schema: Schema, cure: str) -> Iterator[Seen]:
    """Every shard, in order; a few are looked at at a time."""
    threads = ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1))
    try:
        waiting, shards = [], iter(manifest.shards)
        for shard in islice(shards, 2 * THREADS):
            waiting.append(threads.submit(_shard, path, shard, schema, cure))
        while waiting:
            seen = waiting.pop(0).result()
            waiting += [threads.submit(_shard, path, shard, schema, cure) for shard in islice(shards, 1)]
            yield seen
    finally:
        threads.shutdown(cancel_futures=True)


def _shard(path: Path, shard: Shard, schema: Schema, cure: str) -> Seen:
    """All that is wrong with one shard."""
    seen, file = Seen(shard), path / shard.file
    if not file.is_file():
        seen.findings.append(_error(shard, "", "the manifest names this shard, but it is missing", cure))
        return seen
    with file.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != shard.sha256:
            seen.findings.append(_error(shard, "", "its content is not what the manifest says (sha256)", cure))
    bad = list(faults(file, shard, schema))
    seen.findings += [_error(shard, "", problem.what, problem.cure) for problem in bad]
    try:
        with pq.ParquetFile(file) as parquet:
            have, metadata = parquet.schema_arrow, parquet.metadata
            seen.findings += _of_names(shard, have, schema)
            usable = Schema(columns=tuple(c for c in schema.each()
                                          if c.name in have.names and have.field(c.name).type == c.arrow))  # fmt: skip
            for batch in parquet.iter_batches(ROWS, columns=list(usable.names)):
                _look(pa.Table.from_batches([batch]), usable, seen)
            _of_sums(seen, metadata.num_rows, usable)
    except (OSError, pa.ArrowException) as problem:
        if not bad:  # what the footer tells has been said
            seen.findings.append(_error(shard, "", f"cannot be read: {problem}", "make the shard anew"))
    for (column, what), odd in seen.odd.items():
        seen.findings.append(_error(shard, column, f"{what}: {odd.count}, the first {odd.first}", odd.cure))
    return seen


def _error(shard: Shard, column: str, what: str, cure: str) -> Finding:
    return Finding(True, shard.file, column, what, cure)


def _of_names(shard: Shard, have: pa.Schema, schema: Schema) -> Iterator[Finding]:
    for name in have.names:
        if name not in schema:
            yield Finding(False, shard.file, name, "is in the file and not in the manifest", "nobody will read it")
        elif have.field(name).nullable:
            yield Finding(False, shard.file, name, "may hold nulls, by its type", "write it as not nullable")


def _look(table: pa.Table, schema: Schema, seen: Seen) -> None:
    """All numbers of some rows."""
    null = [column.name for column in schema.each() if _nulls(table, column, seen)]
    whole = schema.only([name for name in schema.names if name not in null])
    for collection in whole.collections:
        try:
            lengths(table, collection, whole)
        except JetscaleError as problem:
            seen.note(problem.where, f"stretches of {ROWS} events with lists of unequal lengths", problem.what,
                      problem.cure, 1)  # fmt: skip
    for column in whole.each():
        _values(table, column, seen)
    if "event_id" in whole:
        seen.ids.append(flat(table["event_id"]).copy())
    if "weight" in whole:
        weight_B = flat(table["weight"])
        with np.errstate(all="ignore"):
            seen.weights += (weight_B.sum(), np.abs(weight_B).sum(), (weight_B**2).sum())
    if all(name in whole and not whole[name].of for name in NUMBER):
        seen.numbers.append(_hashed([flat(table[name]) for name in NUMBER]))


def _nulls(table: pa.Table, column: Column, seen: Seen) -> int:
    array = one(table[column.name])
    count: int = array.null_count + (array.flatten().null_count if column.of else 0)
    if count:
        seen.note(column.name, "nulls", f"among {table.num_rows} rows from row {_rows(seen)} on", FILL, count)
    return count


def _rows(seen: Seen) -> int:
    return sum(map(len, seen.ids))


def _values(table: pa.Table, column: Column, seen: Seen) -> None:
    """Finite, in range, and jets in falling pt."""
    values = flat(table[column.name])
    if not len(values):
        return
    good = np.isfinite(values) if values.dtype.kind == "f" else np.ones(len(values), dtype=bool)
    if not good.all():
        _note(table, column, ~good, "values that are not finite", MEND, seen)
    low = -math.inf if column.low is None else column.low
    high = math.inf if column.high is None else column.high
    outside = good & ((values < low) | (values > high))
    if outside.any():
        _note(table, column, outside, f"values outside {low:g} to {high:g}", MEND, seen)
    if column.name == "jet_pt" and column.of:
        rises = np.zeros(len(values), dtype=bool)
        rises[1:] = values[1:] > values[:-1]
        rises[_starts(table, column)] = False
        if rises.any():
            _note(table, column, rises, "jets above the one before them in their event, where pt must fall",
                  "make the sample anew: its jets are not ordered", seen)  # fmt: skip
    if good.any():
        first, last = float(values[good].min()), float(values[good].max())
        before = seen.ends.get(column.name, (first, last))
        seen.ends[column.name] = (min(before[0], first), max(before[1], last))


def _starts(table: pa.Table, column: Column) -> np.ndarray:
    """Where the lists of filled events begin among the flat values."""
    length_B = one(table[column.name]).value_lengths().to_numpy(zero_copy_only=False)
    starts: np.ndarray = (np.cumsum(length_B) - length_B)[length_B > 0]
    return starts


def _note(table: pa.Table, column: Column, odd: np.ndarray, what: str, cure: str, seen: Seen) -> None:
    place = int(np.argmax(odd))
    value = flat(table[column.name])[place]
    row = place
    if column.of:
        length_B = one(table[column.name]).value_lengths().to_numpy(zero_copy_only=False)
        row = int(np.searchsorted(np.cumsum(length_B), place, side="right"))
    event = f" of event {table['event_id'][row]}" if "event_id" in table.column_names else f" in row {row}"
    seen.note(column.name, what, f"{value:g}{event}", cure, int(odd.sum()))


def _of_sums(seen: Seen, rows: int, schema: Schema) -> None:
    """The sum of weights; nothing is said of weights that could not be summed."""
    total, size, _ = seen.weights
    told = seen.shard.sum_weight
    if "weight" in schema and math.isfinite(total) and abs(total - told) > ROUNDING * size:
        seen.findings.append(_error(seen.shard, "weight", f"sums to {total:.9g} over {rows} rows, the manifest says "
                                    f"{told:.9g}", CHANGED))  # fmt: skip


def _hashed(columns: Sequence[np.ndarray]) -> np.ndarray:
    """One number for several of every row, (B,) int64: among 1e8 different rows two agree with a chance of 3e-4."""
    key_B = torch.zeros(len(columns[0]), dtype=torch.int64)
    for column in columns:
        key_B = mix(key_B + torch.from_numpy(column.astype(np.int64)))
    hashed: np.ndarray = key_B.numpy()
    return hashed


def _of_ids(everything: Sequence[Seen]) -> Iterator[Finding]:
    again, places = _again([(seen.shard.file, seen.ids) for seen in everything])
    if len(again):
        yield Finding(True, ", ".join(dict.fromkeys(places)), "event_id",
                      f"is not unique: {len(again)} of them stand more than once, {again[0]} in "
                      f"{' and in '.join(places)}",
                      "make the sample anew, with an id of its own for every event")  # fmt: skip


def _of_numbers(everything: Sequence[Seen]) -> Iterator[Finding]:
    again, places = _again([(seen.shard.file, seen.numbers) for seen in everything])
    if len(again):
        yield Finding(False, ", ".join(dict.fromkeys(places)), ", ".join(NUMBER),
                      f"{len(again)} events of data stand more than once by their numbers",
                      "if this is data, the same events were ingested twice, perhaps from two data sets")  # fmt: skip


def _again(found: Sequence[tuple[str, list[np.ndarray]]]) -> tuple[np.ndarray, list[str]]:
    """What stands more than once, and the files that the first of it stands in, each as often as it does."""
    pieces = [piece for _, some in found for piece in some]
    again = repeats(np.concatenate([np.zeros(0, dtype=np.int64), *pieces]))
    if not len(again):
        return again, []
    times = [(file, int(sum((piece == again[0]).sum() for piece in some))) for file, some in found]
    return again, [file for file, number in times for _ in range(number)]


def _of_sample(everything: Sequence[Seen], manifest: Manifest) -> Iterator[Finding]:
    """What is odd in the sample as a whole, though each of its shards may be as it should."""
    total, size, squares = np.sum([np.zeros(3), *(seen.weights for seen in everything)], axis=0)
    rows = sum(_rows(seen) for seen in everything)
    if rows and size == 0:
        yield Finding(False, "", "weight", "is 0 in every event", "no training and no figure can use it")
    elif rows and math.isfinite(squares) and (effective := total**2 / squares) < FEW * rows:
        yield Finding(False, "", "weight", f"differs so much that {rows} events count as {effective:.3g}",
                      "look at it with jetscale inspect: a few events decide everything")  # fmt: skip
    yield from _of_momenta(everything)
    if constant := _constant(everything, manifest):
        named = [f"{name} = {value:g}" for name, value in constant.items()]
        more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
        yield Finding(False, "", "", f"columns with one value in every event: {', '.join(named[:SHOWN])}{more}",
                      "nothing can be learnt from them")  # fmt: skip
    for file, (what, cure) in bad_files(manifest.made_by).items():
        yield Finding(False, file, "", f"was not ingested: {what}", cure)


def _of_momenta(everything: Sequence[Seen]) -> Iterator[Finding]:
    """Momenta that a real jet has not: other units, or slots in which there is none."""
    ends = [seen.ends["jet_pt"] for seen in everything if "jet_pt" in seen.ends]
    if (high := max((high for _, high in ends), default=0.0)) > HIGHEST:
        yield Finding(False, "", "jet_pt", f"goes up to {high:.4g} GeV, more than any collider gives",
                      "if the files are in MeV: jetscale ingest ... --set map.energy=MeV")  # fmt: skip
    if any(low == 0 for low, _ in ends):
        yield Finding(False, "", "jet_pt", "is 0 for some jets", "if 0 stands in slots without a jet: jetscale ingest "
                      "... --set map.pad=0")  # fmt: skip


def _constant(everything: Sequence[Seen], manifest: Manifest) -> dict[str, float]:
    """Columns with one value, but for those that are meant to have one: labels, run numbers, scores, and what was set.

    Ids differ, though as floating-point numbers those of a short file are one.
    """
    fixed = manifest.made_by.get("job", {})
    scored = manifest.made_by.get("added", ())  # such as the part of the split
    meant = {EVENT_ID.name, *LABELS, *NUMBER, *scored, *(fixed.get("set", {}) if isinstance(fixed, dict) else {})}
    found = {}
    for column in manifest.columns:
        ends = [seen.ends[column.name] for seen in everything if column.name in seen.ends]
        low, high = min((low for low, _ in ends), default=0.0), max((high for _, high in ends), default=1.0)
        if low == high and column.name not in meant and manifest.rows > 1:
            found[column.name] = low
    return found
