"""The feed: from the plan to padded batches, for the lanes that one worker serves."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from itertools import islice
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import torch

from jetscale.data.batch import batch, padded
from jetscale.data.plan import Chunk, Item, Plan, Slice
from jetscale.data.ragged import Flat, Piece, flattened
from jetscale.data.source import Bytes, PyarrowBytes
from jetscale.errors import DataError
from jetscale.schema import Schema
from jetscale.stream import Part, Stream
from jetscale.task import At, Batch

T = TypeVar("T")
Ids = tuple[tuple[str, np.ndarray], ...]  # (sample, event ids), in the order of a batch's rows


class Step(NamedTuple):
    """One global step as this worker sees it: whole lanes in every micro-batch, as many of them on every worker."""

    at: At
    micro: tuple[Batch, ...]
    rows: int
    ids: tuple[Ids, ...] = ()


class Weighting(NamedTuple):
    """How a sample's rows are weighted in training.

    A factor, what its physics weight is divided by (0: unused), the derived column that multiplies it, and what becomes
    of negative weights.
    """

    factor: float
    mean: float
    reweight: str | None
    negative: Literal["error", "abs", "keep"]


def weightings(stream: Stream, means: Mapping[str, float]) -> dict[str, Weighting]:
    """Every sample's weighting."""
    return {
        name: Weighting(source.weight, means[name] if source.event_weight else 0.0, stream.reweight,
                        stream.negative_weights)
        for name, source in stream.samples.items()
    }  # fmt: skip


class Feed:
    """The steps of a training, for the lanes of one worker."""

    def __init__(self, plan: Plan, source: Bytes, schema: Schema, weighting: Mapping[str, Weighting], *,
                 rank: int = 0, world: int = 1) -> None:  # fmt: skip
        scale = plan.run.scale
        share, rows_per_lane = scale.lanes // world, scale.events_per_step / scale.lanes
        self.plan, self.source, self.schema, self.weighting = plan, source, schema, dict(weighting)
        self.lanes = range(rank * share, (rank + 1) * share)
        self.lanes_per_micro = _lanes_per_micro(share, rows_per_lane, scale.events_per_micro_batch)

    def steps(self, after: int = 0) -> Iterator[Step]:
        """The steps from number `after` on, in order."""
        read = self.source.read(self.plan.items(self.lanes, after))
        waiting = _Waiting(((item, self._flat(item, table)) for item, table in read), self.plan, after)
        for number in range(after, self.plan.steps):
            dealt = self.plan.dealt(number, self.lanes)
            taken = [(lane, waiting.take(lane, wanted)) for lane, wanted in zip(self.lanes, dealt, strict=True)]
            at = self.plan.at(number)
            starts = range(0, len(taken), self.lanes_per_micro)
            micro = [taken[start : start + self.lanes_per_micro] for start in starts]
            rows = int((self.plan.taken[number + 1] - self.plan.taken[number]).sum())
            yield Step(at, tuple(self._batch(lanes, at) for lanes in micro), rows, tuple(map(_ids, micro)))

    def last(self, done: int, most: int) -> Iterator[Step]:
        """The last steps before number `done`, at most so many, in order; nothing is read before one is asked for.

        They are read in place, as those of a validation: Ray's reads of them would wait for the training's own, which
        wait for the training.
        """
        near, first = copy(self), max(0, done - most)
        near.source = PyarrowBytes(self.source.readers, self.source.chunks)
        return islice(near.steps(first), done - first)

    def _batch(self, lanes: Sequence[tuple[int, list[Piece]]], at: At) -> Batch:
        sizes = [sum(piece.rows for piece in pieces) for _, pieces in lanes]
        lane_B = np.repeat([lane for lane, _ in lanes], sizes)
        row_B = np.arange(len(lane_B)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        pieces = [piece for _, of_lane in lanes for piece in of_lane]
        return padded(pieces, self.schema, lane_B, row_B, at, self.plan.run.seed)

    def _flat(self, item: Item, table: pa.Table) -> Flat:
        return flattened(table, self.schema, training_weight(table, self.weighting[item.sample]), item.sample)


def _ids(lanes: Sequence[tuple[int, list[Piece]]]) -> Ids:
    return tuple((piece.of.sample, piece.id_B) for _, pieces in lanes for piece in pieces)


def training_weight(table: pa.Table, how: Weighting) -> np.ndarray:
    """Training weight of every row, (B,) float64.

    Raises:
        DataError: a derived weight that is negative where it may not be.
    """
    weight_B: np.ndarray = np.full(table.num_rows, how.factor)
    if how.mean:
        weight_B = table["weight"].to_numpy() / how.mean * how.factor
    if how.reweight:
        factor_B = table[how.reweight].to_numpy()
        if how.negative == "error" and (factor_B < 0).any():
            row = int(np.flatnonzero(factor_B < 0)[0])
            raise DataError(f"{how.reweight} is {factor_B[row]:g} for event {table['event_id'][row]}",
                            where="stream.reweight", cure="make it 0 or more, or set stream.negative_weights to abs "
                            "or keep")  # fmt: skip
        weight_B = weight_B * factor_B
    return np.abs(weight_B) if how.negative == "abs" else weight_B


class _Waiting:
    """Rows that were read and not yet used, by sample, lane and position."""

    def __init__(self, read: Iterator[tuple[Item, Flat]], plan: Plan, after: int) -> None:
        self.read, self.lanes = read, plan.run.scale.lanes
        self.begin = {order.sample: int(plan.taken[after, k]) for k, order in enumerate(plan.orders)}
        self.next: dict[tuple[str, int], int] = {}
        self.pieces: dict[tuple[str, int, int], Piece] = {}

    def take(self, lane: int, wanted: Sequence[int]) -> list[Piece]:
        """The next rows of a lane: so many of each sample."""
        return [piece for sample, n in zip(self.begin, wanted, strict=True) for piece in self._take(sample, lane, n)]

    def _take(self, sample: str, lane: int, n: int) -> Iterator[Piece]:
        begin = self.begin[sample]
        position = self.next.get((sample, lane), begin + (lane - begin) % self.lanes)
        while n:
            while (sample, lane, position) not in self.pieces:
                self._receive(*next(self.read))
            used, rest = self.pieces.pop((sample, lane, position)).cut(n)
            yield used
            n -= used.rows
            position += used.rows * self.lanes
            if rest.rows:
                self.pieces[sample, lane, position] = rest
        self.next[sample, lane] = position

    def _receive(self, item: Item, table: Flat) -> None:
        start = 0
        for part in item.slices:
            rows = part.high - part.low
            self.pieces[item.sample, part.lane, part.position] = Piece(table, start, start + rows)
            start += rows


class Pass:
    """One ordered pass over a part of the samples, each row once: for validation and scoring.

    With `most` it takes only some chunks, evenly spread over each sample, so as to see about so many rows in all. With
    `shares` each sample counts by its share (None: by its rows) whatever its part has been read of, as in training.
    """

    def __init__(self, chunks: Mapping[str, Sequence[Chunk]], part: Part, source: Bytes, schema: Schema,
                 weighting: Mapping[str, Weighting], *, seed: int, rank: int = 0, world: int = 1,
                 most: int | None = None, shares: Mapping[str, float | None] | None = None) -> None:  # fmt: skip
        self.chunks, self.part, self.source, self.schema = chunks, part, source, schema
        self.weighting, self.seed, self.rank, self.world, self.most = dict(weighting), seed, rank, world, most
        self.factor = self._factor(shares or {})

    def items(self) -> Iterator[Item]:
        """Whole chunks in their order on disk, dealt to the workers in turn."""
        for turn, (name, n, rows) in enumerate(self._chosen()):
            if turn % self.world == self.rank:
                yield Item(name, -1, n, (Slice(0, 0, rows, 0),))

    def _chosen(self) -> Iterator[tuple[str, int, int]]:
        """(sample, chunk, rows) of the chunks that are read."""
        every = sum(chunk.selected[self.part] for of in self.chunks.values() for chunk in of)
        stride = max(1, math.ceil(every / self.most)) if self.most else 1
        for name, of in self.chunks.items():
            filled = [(name, n, chunk.selected[self.part]) for n, chunk in enumerate(of) if chunk.selected[self.part]]
            yield from filled[::stride]

    def _factor(self, shares: Mapping[str, float | None]) -> dict[str, float]:
        """What every sample's weights are multiplied by."""
        rows = {name: sum(chunk.selected[self.part] for chunk in of) for name, of in self.chunks.items()}
        seen = {name: sum(n for sample, _, n in self._chosen() if sample == name) for name in rows}
        every, found = sum(rows.values()), {}
        for name, own in seen.items():
            share = shares.get(name)
            wanted = rows[name] / max(every, 1) if share is None else share
            found[name] = wanted * sum(seen.values()) / own if own else 0.0
        return found

    def number(self, rows: int) -> int:
        """How many batches of at most so many rows this worker has."""
        return sum(math.ceil(item.rows / rows) for item in self.items())

    def filler(self) -> Batch:
        """A batch of one empty row of weight 0."""
        none = np.zeros(0, dtype=np.int64)
        return batch([], self.schema, none, none, none, At(0, 0, 1.0), self.seed)

    def batches(self, rows: int) -> Iterator[tuple[str, Batch]]:
        """(sample, batch) of at most so many rows."""
        for item, table in self.source.read(self.items()):
            weight_B = training_weight(table, self.weighting[item.sample]) * self.factor[item.sample]
            for part in in_batches(table, weight_B, self.schema, rows, self.seed):
                yield item.sample, part


def in_batches(table: pa.Table, weight_B: np.ndarray, schema: Schema, rows: int, seed: int) -> Iterator[Batch]:
    """Batches of at most so many rows of a table, outside of any training."""
    for start in range(0, table.num_rows, rows):
        part = table.slice(start, rows)
        n = part.num_rows
        yield batch([part], schema, weight_B[start : start + n], np.zeros(n, dtype=np.int64),
                    np.arange(start, start + n), At(0, 0, 1.0), seed)  # fmt: skip


def ahead(things: Iterator[T], depth: int = 2) -> Iterator[T]:
    """The same things, made in a thread of their own so that the consumer finds the next one ready."""
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def put(thing: T | None, problem: BaseException | None) -> bool:
        while not stop.is_set():
            try:
                ready.put((thing, problem), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def make() -> None:
        # With a second team of threads beside the consumer's, OpenMP sees more threads than cores, and lets all of them
        # sleep at every barrier: steps of ParticleNet took 1.3 times as long.
        torch.set_num_threads(1)
        try:
            for thing in things:
                if not put(thing, None):
                    return
            put(None, StopIteration())
        except BaseException as problem:  # handed to the consumer, which raises it
            put(None, problem)

    torch.get_num_threads()  # asked once, the consumer's own number stays what it is
    thread = threading.Thread(target=make, name="feed", daemon=True)
    thread.start()
    try:
        while True:
            thing, problem = ready.get()
            if isinstance(problem, StopIteration):
                return
            if problem is not None:
                raise problem
            assert thing is not None
            yield thing
    finally:
        stop.set()
        thread.join(timeout=5.0)


def _lanes_per_micro(share: int, rows_per_lane: float, most: int) -> int:
    """As many whole lanes as fit into a micro-batch and divide the worker's share evenly."""
    fitting = [n for n in range(1, share + 1) if share % n == 0 and n * rows_per_lane <= most]
    return max(fitting, default=1)
