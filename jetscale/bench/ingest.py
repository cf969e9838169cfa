"""Conversion of ROOT files against a bare loop of uproot, awkward and pyarrow, and what it saves in every epoch."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import uproot

from jetscale.bench.feed import fed, pad_bare
from jetscale.bench.measure import Player, Round, Spent, resident
from jetscale.bench.memory import Private
from jetscale.bench.nanoaod import TREE, Kind, nanoaod
from jetscale.bench.result import Figure, Result, Say, ratio
from jetscale.bench.sample import parse_size
from jetscale.config import Values
from jetscale.data.cluster import cluster
from jetscale.data.ingest.ingest import ingest as converted
from jetscale.data.ingest.job import Ingest, Map, load
from jetscale.events import ROW_GROUP, Events
from jetscale.run import resolve
from jetscale.schema import Column, Schema
from jetscale.shape import shape

KINDS: dict[Kind, int] = {"TTree": 1, "RNTuple": 1, "TTree with LZMA": 4}  # by what the size is divided
SMALLER = ("10MB", "200MB")  # less than a chunk, and more than a shard
MANY, PART = 8, 4  # files that workers share, and by what the size of each is divided
MEMORY_ROUNDS = 2
LOOK_S = 0.01
Rounds = dict[str, list[Round]]
Peaks = dict[str, list[dict[str, int]]]


def ingest(
    folder: Path, size: str, large: str, batch: int, rounds: int, say: Say, smaller: tuple[str, str] = SMALLER
) -> Result:
    """Events per second over those of the bare loop, two workers over one, memory, and when conversion has paid."""
    files = {kind: nanoaod(folder, parse_size(size) // part, kind, say=say) for kind, part in KINDS.items()}
    many = [nanoaod(folder, parse_size(size) // PART, "TTree", seed, say) for seed in range(1, MANY + 1)]
    played = _played(_sides(folder, files, many, batch), rounds, say)
    peaks = {one: [_peak(folder, one, say) for _ in range(MEMORY_ROUNDS)] for one in (*smaller, large)}
    sizes = {
        "bytes": {kind: file.stat().st_size for kind, file in files.items()},
        "events": {kind: played[f"bare {kind}"][0].said["rows"] for kind in KINDS},
        "events_per_batch": batch,
        "rounds": rounds,
    }
    return Result(
        "ingest",
        figures(played, peaks),
        sizes,
        {**{k: [one._asdict() for one in of] for k, of in played.items()}, **peaks},
    )


def figures(played: Rounds, peaks: Peaks) -> list[Figure]:
    """Of all sides' rounds, and of the peaks of memory by the file's size, the largest last."""
    return [*_against_bare(played), *_workers(played), *_memory(peaks), *_epochs(played)]


def _sides(folder: Path, files: dict[Kind, Path], many: list[Path], batch: int) -> dict[str, tuple[Any, ...]]:
    sides: dict[str, tuple[Any, ...]] = {}
    for kind, file in files.items():
        sides[f"bare {kind}"] = (bare, file, folder / f"bare-{kind}.parquet")
        sides[f"ours {kind}"] = (ours, [file], folder / f"ours-{kind}")
        sides[f"epoch {kind}"] = (root_epochs, file, batch)
    for workers in (1, 2):
        sides[f"workers {workers}"] = (ours, many, folder / f"workers-{workers}", workers)
    sides["epoch Parquet"] = (parquet_epochs, folder / "ours-TTree", batch)
    return sides


def _played(sides: dict[str, tuple[Any, ...]], rounds: int, say: Say) -> Rounds:
    """All sides in turn; the first round, which finds nothing in any cache, does not count."""
    played: Rounds = {name: [] for name in sides}
    with ExitStack() as stack:
        players = {name: stack.enter_context(Player(*side)) for name, side in sides.items()}
        for player in players.values():
            player.play()
        for number in range(rounds + 1):
            for name in list(sides)[:: -1 if number % 2 else 1]:
                said, spent = one = players[name].play()
                played[name] += [one] if number else []
                say(f"round {number} of {rounds}: {name}, {said['rows'] / spent.wall_s:,.0f} events/s on the wall")
    return played


def _against_bare(played: Rounds) -> list[Figure]:
    found = []
    for kind in KINDS:
        base, other = _spent(played, f"bare {kind}"), _spent(played, f"ours {kind}")
        found += [
            Figure(f"{kind}, per CPU-second", ratio(base, other, "own_s"), at_least=0.6),
            Figure(f"{kind}, per second", ratio(base, other, "wall_s")),
        ]
    return found


def _workers(played: Rounds) -> list[Figure]:
    one, two = _spent(played, "workers 1"), _spent(played, "workers 2")
    return [Figure("two Ray workers over one, per second", ratio(one, two, "wall_s"), at_least=1.6)]


def _memory(peaks: Peaks) -> list[Figure]:
    small, middle, large = peaks
    above = {size: [one["peak"] - one["imports"] for one in of] for size, of in peaks.items()}
    whole = [b["peak"] / a["peak"] for a, b in zip(peaks[small], peaks[large], strict=True)]
    grown = [b / a for a, b in zip(above[middle], above[large], strict=True)]
    return [
        Figure(f"peak memory, {large} over {middle}, above imports", grown, at_most=1.1),
        Figure(f"peak memory, {large} over {small}", whole, at_most=1.1),
        *(Figure(f"peak above imports, {size}", [one / 1e6 for one in of], "MB") for size, of in above.items()),
    ]


def _epochs(played: Rounds) -> list[Figure]:
    """CPU-seconds of all threads, as everything here may have one core; per event, as not all files have as many."""
    found = []
    parquet = _per_event(played, "epoch Parquet")
    for kind in KINDS:
        root, once = _per_event(played, f"epoch {kind}"), _per_event(played, f"ours {kind}")
        found.append(Figure(f"epoch from {kind} over Parquet", [a / b for a, b in zip(root, parquet, strict=True)]))
        saved = [a - b for a, b in zip(root, parquet, strict=True)]
        if min(saved) > 0:  # else it never has
            paid = [a / b for a, b in zip(once, saved, strict=True)]
            found.append(Figure(f"{kind}: conversion has paid after", paid, "epochs"))
    return found


def _per_event(played: Rounds, name: str) -> list[float]:
    return [one.spent.own_s / one.said["rows"] for one in played[name]]


def _spent(played: Rounds, name: str) -> list[Spent]:
    return [one.spent for one in played[name]]


def job(files: Sequence[Path]) -> Ingest:
    """Files with the map that ships, without anything that selects."""
    return load(None, name="nanoaod", files=[str(file) for file in files], map="nanoaod")


def mapped(how: Map, tree: Any) -> Schema:
    """The branches of a tree that a map asks for, under their own names."""
    given = set(tree.keys())
    asked = [(of, one.branch) for of, members in how.columns.items() for one in members.values()]
    asked += [("event", (name,)) for name in (how.weight.generator or "", *how.weight.factors)]
    asked += [("event", swap) for swaps in how.variations.values() for swap in swaps.values()]
    columns = {}
    for of, names in asked:
        for name in [name for name in names if name in given][:1]:
            columns[name] = Column(name=name, of=None if of == "event" else of, dtype="float32", unit="", doc="")
    return Schema(columns=tuple(columns.values()))


def bare(file: Path, out: Path) -> Iterator[dict[str, Any]]:
    """The same branches from ROOT to Parquet, without anything else that a sample needs: for comparison."""
    how = job([file]).map
    yield {}
    while True:
        rows = 0
        with uproot.open(file) as source, ExitStack() as stack:
            writer = None
            for table in _tables(source[TREE], mapped(how, source[TREE])):
                # As the shards of a sample are written.
                writer = writer or stack.enter_context(
                    pq.ParquetWriter(out, table.schema, compression="zstd", use_dictionary=False)
                )
                writer.write_table(table, row_group_size=ROW_GROUP)
                rows += table.num_rows
        yield {"rows": rows}


def _tables(tree: Any, columns: Schema) -> Iterator[pa.Table]:
    for chunk in tree.iterate(columns.names):
        yield ak.to_arrow_table(chunk, extensionarray=False, list_to32=True)


def ours(files: Sequence[Path], out: Path, workers: int = 0) -> Iterator[dict[str, Any]]:
    """Conversions of files to a sample: here, or by so many workers of a Ray that runs."""
    asked = job(files)
    with ExitStack() as stack:
        if workers:
            stack.enter_context(cluster(shape("laptop")))
            _leave(workers)
        yield {}
        while True:
            yield {"rows": convert(asked, out, here=not workers)}


def convert(asked: Ingest, out: Path, *, here: bool = True) -> int:
    """Make a sample anew; its events."""
    shutil.rmtree(out, ignore_errors=True)
    for _ in converted(asked, out, here=here):
        pass
    return len(Events.open(out))


def _leave(cpus: int) -> None:
    """Take all but so many of Ray's CPUs, and do nothing with them."""
    import ray
    from ray.util import placement_group

    if taken := ray.cluster_resources()["CPU"] - cpus:
        ray.get(placement_group([{"CPU": taken}]).ready())


def root_epochs(file: Path, batch: int) -> Iterator[dict[str, Any]]:
    """Passes over the same branches that read ROOT every time, shuffle what they have read, and pad it: to compare."""
    how, dice = job([file]).map, np.random.default_rng(1)
    yield {}
    while True:
        rows = 0
        with uproot.open(file) as source:
            columns = mapped(how, source[TREE])
            for table in _tables(source[TREE], columns):
                shuffled = table.take(dice.permutation(table.num_rows))
                arrays = {name: shuffled[name].combine_chunks() for name in columns.names}
                for start in range(0, table.num_rows, batch):
                    stop = min(start + batch, table.num_rows)
                    rows += len(pad_bare(arrays, columns, start, stop)["event"])
        yield {"rows": rows}


def parquet_epochs(path: Path, batch: int) -> Iterator[dict[str, Any]]:
    """Passes over the converted sample through the feed, once it is there; all that came of branches is read."""
    how = job([path]).map
    names = {one if of == "event" else f"{of}_{one}" for of, members in how.columns.items() for one in members}
    yield {}
    columns = Events.open(path).schema
    run = resolve([("bench", _training(path, batch))], "bench").run
    passes = fed(run, columns.only(name for name in columns.names if name in names), "pyarrow")
    next(passes)
    yield from passes


def _training(path: Path, batch: int) -> Values:
    return {
        "system": "assigner",
        "stream": {"samples": {"nanoaod": {"events": str(path)}}, "split": {"train": 1, "validation": 0, "test": 0}},
        "horizon": {"epochs": 1},
        "scale": {"events_per_step": batch, "events_per_micro_batch": batch},
    }


def _peak(folder: Path, size: str, say: Say) -> dict[str, int]:
    file = nanoaod(folder, parse_size(size), "TTree", say=say)
    with Player(peaks, file, folder / f"peak-{size}") as player:
        player.play()
        peak: dict[str, int] = player.play().said
    say(f"{size}: {(peak['peak'] - peak['imports']) / 1e6:,.0f} MB above the imports' {peak['imports'] / 1e6:,.0f} MB")
    return peak


def peaks(file: Path, out: Path) -> Iterator[dict[str, int]]:
    """What the imports cost, then a conversion: the most that this process held of its own, in bytes."""
    asked = job([file])
    imports = resident()["own"]
    yield {"imports": imports}
    with Private(LOOK_S) as private:
        convert(asked, out)
    yield {"imports": imports, "peak": private.most}
