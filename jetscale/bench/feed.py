"""The feed against a bare loop that reads the same Parquet with pyarrow and pads it to the same tensors."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from jetscale.bench.measure import Player
from jetscale.bench.result import Figure, Result, Say, ratio
from jetscale.bench.sample import parse_size, run_on, sample
from jetscale.data.chunks import count, needed, readers
from jetscale.data.cluster import cluster
from jetscale.data.feed import Feed, ahead, weightings
from jetscale.data.plan import Plan
from jetscale.data.source import Bytes, PyarrowBytes, RayBytes
from jetscale.events import Events
from jetscale.run import Run
from jetscale.schema import Schema
from jetscale.shape import shape

ROUND_TO = 4


def feed(folder: Path, size: str, batch: int, rounds: int, say: Say) -> Result:
    """Rows per second of both sources over those of the bare loop, and how long the first batch takes."""
    events = sample(folder, parse_size(size), say)
    sides: dict[str, tuple[Any, ...]] = {"bare loop": (bare, events.path, batch)}
    sides |= {f"{source} source": (ours, events.path, batch, source) for source in ("pyarrow", "ray")}
    played: dict[str, list[Any]] = {name: [] for name in sides}
    with ExitStack() as stack:
        players = {name: stack.enter_context(Player(*side)) for name, side in sides.items()}
        started = {name: player.play() for name, player in players.items()}
        for number in range(rounds + 1):
            for name in list(sides)[:: -1 if number % 2 else 1]:
                played[name].append(players[name].play())
                one = played[name][-1]
                say(f"round {number} of {rounds}: {name}, {len(events) / one.spent.wall_s:,.0f} events/s on the wall")
    cold, warm = {name: of[0] for name, of in played.items()}, {name: of[1:] for name, of in played.items()}
    base = [one.spent for one in warm["bare loop"]]
    arrow, ray = ([one.spent for one in warm[f"{source} source"]] for source in ("pyarrow", "ray"))
    figures = [
        Figure("pyarrow source, per CPU-second", ratio(base, arrow, "own_s"), at_least=0.8),
        Figure("pyarrow source, per second", ratio(base, arrow, "wall_s")),
        Figure("Ray Data source, per CPU-second of all processes", ratio(base, ray, "all_s"), at_least=0.55),
        Figure("Ray Data source, per CPU-second of the training process", ratio(base, ray, "own_s"), at_least=1.2),
        Figure("Ray Data source, per second", ratio(base, ray, "wall_s")),
        Figure("first batch, warm workers", [one.said["first_s"] for one in warm["ray source"]], "s", at_most=1.0),
        Figure("first batch, cold workers", [cold["ray source"].said["first_s"]], "s"),
        Figure("start of Ray itself", [started["ray source"].spent.wall_s], "s"),
        Figure("first batch, pyarrow source", [one.said["first_s"] for one in warm["pyarrow source"]], "s"),
    ]
    sizes = {"bytes": sum(file.stat().st_size for file in events.path.glob("*.parquet")), "events": len(events),
             "events_per_batch": batch, "rounds": rounds}  # fmt: skip
    return Result("feed", figures, sizes, {name: [one._asdict() for one in of] for name, of in played.items()})


def bare(path: Path, batch: int) -> Iterator[dict[str, Any]]:
    """Passes over a sample in the order of its files, without anything that training needs: for comparison."""
    events = Events.open(path)
    schema = events.schema
    yield {}
    while True:
        began, rows, first_s = time.monotonic(), 0, 0.0
        for tensors in _bare_batches(path, [shard.file for shard in events.manifest.shards], schema, batch):
            first_s = first_s or time.monotonic() - began
            rows += len(tensors["event_id"])
        yield {"rows": rows, "first_s": first_s}


def _bare_batches(path: Path, files: list[str], schema: Schema, batch: int) -> Iterator[dict[str, torch.Tensor]]:
    for file in files:
        with pq.ParquetFile(path / file) as parquet:
            for group in range(parquet.num_row_groups):
                table = parquet.read_row_group(group, columns=list(schema.names), use_threads=False).combine_chunks()
                columns = {name: table[name].chunk(0) for name in schema.names}
                for start in range(0, table.num_rows, batch):
                    yield pad_bare(columns, schema, start, min(start + batch, table.num_rows))


def pad_bare(columns: dict[str, pa.Array], schema: Schema, start: int, stop: int) -> dict[str, torch.Tensor]:
    """Rows [start, stop) as padded tensors, from Arrow's own buffers, with one index for a collection's columns."""
    found: dict[str, torch.Tensor] = {}
    for collection in schema.collections:
        of = [column.name for column in schema.each() if column.of == collection]
        offset_B = columns[of[0]].offsets.to_numpy()[start : stop + 1]
        length_B = np.diff(offset_B)
        low, high, width = int(offset_B[0]), int(offset_B[-1]), -(-int(length_B.max(initial=1)) // ROUND_TO) * ROUND_TO
        place = np.repeat(np.arange(stop - start) * width - (offset_B[:-1] - low), length_B) + np.arange(high - low)
        for name in of:
            values = columns[name].values.to_numpy()[low:high]
            padded = np.zeros((stop - start) * width, dtype=values.dtype)
            padded[place] = values
            found[name] = torch.from_numpy(padded.reshape(-1, width))
        mask = np.zeros((stop - start) * width, dtype=bool)
        mask[place] = True
        found[f"{collection}_mask"] = torch.from_numpy(mask.reshape(-1, width))
    for column in schema.each():
        if not column.of:
            found[column.name] = torch.from_numpy(columns[column.name].to_numpy()[start:stop].copy())
    return found


def ours(path: Path, batch: int, source: str) -> Iterator[dict[str, Any]]:
    """Passes over the same sample through the feed, as the training loop asks for it; the first thing is its start."""
    run = run_on(Events.open(path), {"events_per_step": batch, "events_per_micro_batch": batch})
    yield from fed(run, run.task.columns, source)


def fed(run: Run, columns: Schema, source: str) -> Iterator[dict[str, Any]]:
    """Passes of a run's feed over its one sample, with batches of some columns; the first thing is its start."""
    with feeding(run, columns, source) as whole:
        yield {}
        while True:
            began, rows, first_s = time.monotonic(), 0, 0.0
            for step in ahead(whole.steps()):
                first_s = first_s or time.monotonic() - began
                rows += step.rows
            yield {"rows": rows, "first_s": first_s}


@contextmanager
def feeding(run: Run, columns: Schema, source: str) -> Iterator[Feed]:
    """A run's feed over its one sample, as its training has it."""
    with ExitStack() as stack:
        if source == "ray":
            stack.enter_context(cluster(shape("laptop")))
        ((name, sample),) = run.stream.samples.items()
        events = Events.open(sample.events)
        reader = readers(run.stream, {name: events}, needed(columns), "train", run.seed)
        chunks = {name: count(events, run.stream, reader[name].rows)}
        plan = Plan(run, chunks)
        from_: Bytes = PyarrowBytes(reader, chunks)
        if source == "ray":
            given = shape(run.scale.shape)
            from_ = RayBytes(reader, chunks, given.cpus_per_read, given.reads_per_worker)
        yield Feed(plan, from_, columns, weightings(run.stream, {name: 1.0}))
