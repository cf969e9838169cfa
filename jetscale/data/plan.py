"""The plan: which row is seen at which step in which lane, a pure function of counts and seed.

Position P counts the rows that a sample has given since the start, over all epochs. Lane P mod L takes it. In an epoch
the sample's chunks are put in a new order, their rows one after the other, and this row of rows is cut into one
stretch per lane: lane l walks its own stretch. So every row is seen exactly once per epoch, each lane (and the worker
that serves it) reads only its own chunks, and the place to go on from is one step number.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jetscale.errors import ConfigError
from jetscale.run import Horizon, Run
from jetscale.stream import Part, Stream
from jetscale.task import At

GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


class Chunk(NamedTuple):
    """Consecutive row groups of a sample that are read and shuffled together, and their selected rows per part."""

    groups: tuple[tuple[str, int], ...]
    selected: dict[Part, int]


class Slice(NamedTuple):
    """Rows [low, high) of a chunk's own order, for one lane; `position` is that of the first, the next is L further."""

    lane: int
    low: int
    high: int
    position: int


class Item(NamedTuple):
    """One read: a chunk in one epoch, and the slices of it that some lanes need."""

    sample: str
    epoch: int
    chunk: int
    slices: tuple[Slice, ...]

    @property
    def rows(self) -> int:
        return sum(part.high - part.low for part in self.slices)


@dataclass(frozen=True)
class Order:
    """One sample's rows, epoch after epoch, dealt to lanes."""

    sample: str
    counts: tuple[int, ...]
    lanes: int
    seed: int

    @property
    def rows(self) -> int:
        return sum(self.counts)

    def chunks(self, epoch: int) -> np.ndarray:
        """The order of the chunks in an epoch, (chunks,) int64."""
        order: np.ndarray = rng(self.seed, self.sample, epoch).permutation(len(self.counts))
        return order

    def items(self, lanes: Sequence[int], position: int) -> Iterator[tuple[int, Item]]:
        """Reads for these lanes from a position on, for ever, as (position of the first row needed, item)."""
        for epoch in range(position // self.rows, 1 << 40):
            yield from self._merged(epoch, [part for lane in lanes for part in self._lane(lane, epoch, position)])

    def _lane(self, lane: int, epoch: int, position: int) -> list[tuple[int, Slice]]:
        """(chunk, slice) of one lane's stretch in an epoch, less what lies before the position."""
        start = epoch * self.rows
        turn = (lane - start) % self.lanes  # the lane's positions are start + turn + i * lanes
        low, high = _stretch(self.rows, self.lanes, turn), _stretch(self.rows, self.lanes, turn + 1)
        low += max(0, -(-(position - start - turn) // self.lanes))
        order = self.chunks(epoch)
        ends = np.cumsum(np.asarray(self.counts)[order])
        begins = ends - np.asarray(self.counts)[order]
        found = []
        for place in np.flatnonzero((begins < high) & (ends > low)):
            first, last = max(low, int(begins[place])), min(high, int(ends[place]))
            if first < last:
                index = first - _stretch(self.rows, self.lanes, turn)
                offset = int(begins[place])
                part = Slice(lane, first - offset, last - offset, start + turn + index * self.lanes)
                found.append((int(order[place]), part))
        return found

    def _merged(self, epoch: int, found: list[tuple[int, Slice]]) -> Iterator[tuple[int, Item]]:
        """A chunk is read once per epoch, when its first row is needed."""
        chunks: dict[int, list[Slice]] = {}
        for chunk, part in found:
            chunks.setdefault(chunk, []).append(part)
        merged = [
            (min(part.position for part in parts), Item(self.sample, epoch, chunk, tuple(parts)))
            for chunk, parts in chunks.items()
        ]
        yield from sorted(merged, key=lambda pair: (pair[0], pair[1].chunk))


def _stretch(rows: int, lanes: int, turn: int) -> int:
    """Where the stretch of the lane with this turn begins in the epoch's row of rows."""
    return turn * (rows // lanes) + min(turn, rows % lanes)


def rng(seed: int, *words: str | int) -> np.random.Generator:
    """A generator named by a seed and words."""
    keys = [int.from_bytes(word.encode(), "big") if isinstance(word, str) else word for word in words]
    return np.random.default_rng([seed, *keys])


class Mixture:
    """Rows of every sample in every step: whole numbers within one of the share, summing to the step exactly.

    With shares f_k the step holds floor(N f_k) rows of each sample; the rows that are left over go to the samples in
    whose arc of the cumulated remainders a point falls that moves by the golden ratio from step to step, so that the
    mean share is exact in the long run too.
    """

    def __init__(self, shares: Sequence[float], events_per_step: int, seed: int) -> None:
        wanted = np.asarray(shares, dtype=np.float64) / sum(shares) * events_per_step
        self.base_K = np.floor(wanted + 1e-9).astype(np.int64)
        rest = np.clip(wanted - self.base_K, 0.0, 1.0 - 1e-12)
        left_over = events_per_step - int(self.base_K.sum())
        self.arcs_K = np.minimum(np.cumsum(rest), left_over)
        self.arcs_K[-1] = left_over
        self.start = float(rng(seed, "mixture").random())

    def rows(self, steps: np.ndarray) -> np.ndarray:
        """(S,) step numbers -> (S, K) rows of each sample."""
        point_S = np.mod(self.start + steps * GOLDEN, 1.0)
        reached = np.floor(self.arcs_K[None, :] + point_S[:, None]).astype(np.int64)
        rows_SK: np.ndarray = self.base_K + np.diff(reached, axis=1, prepend=np.int64(0))
        return rows_SK


class Plan:
    """Every step of a training: which rows of which sample, in which lane."""

    def __init__(self, run: Run, chunks: Mapping[str, Sequence[Chunk]]) -> None:
        self.run = run
        self.chunks = {name: tuple(of_sample) for name, of_sample in chunks.items()}
        lanes = run.scale.lanes
        self.orders = [
            Order(name, tuple(chunk.selected["train"] for chunk in of_sample), lanes, run.seed)
            for name, of_sample in self.chunks.items()
        ]
        for order in self.orders:
            if not order.rows:
                raise ConfigError(f"sample {order.sample!r} has no selected rows in its train part",
                                  where="stream", cure="widen stream.select or enlarge stream.split")  # fmt: skip
        self.epoch_of = self._epoch_of(run.stream)
        self.taken = self._taken(run.horizon, run.scale.events_per_step)

    @property
    def steps(self) -> int:
        """Steps of the whole horizon."""
        return len(self.taken) - 1

    @property
    def steps_per_epoch(self) -> float:
        """Mean number of steps in an epoch."""
        return self.steps * self.orders[self.epoch_of].rows / max(int(self.taken[-1, self.epoch_of]), 1)

    def at(self, step: int) -> At:
        """Where a step stands: its number, the epoch of its first row, the done share of the horizon."""
        return At(step, int(self.taken[step, self.epoch_of] // self.orders[self.epoch_of].rows), step / self.steps)

    def dealt(self, step: int, lanes: Sequence[int]) -> list[list[int]]:
        """Rows of each sample that some lanes take in a step, (lanes, K)."""
        every, lane_L1 = self.run.scale.lanes, np.asarray(lanes)[:, None]
        # Positions below this one that belong to the lane.
        low_LK, high_LK = (np.maximum(0, -((lane_L1 - taken_K) // every)) for taken_K in self.taken[step : step + 2])
        rows_LK: list[list[int]] = (high_LK - low_LK).tolist()
        return rows_LK

    def items(self, lanes: Sequence[int], after: int = 0) -> Iterator[Item]:
        """Reads for these lanes from step `after` to the horizon, in the order in which steps need them."""
        streams = [self._needed(k, lanes, after) for k in range(len(self.orders))]
        for _, _, item in heapq.merge(*streams, key=lambda needed: needed[:2]):
            yield item

    def _needed(self, k: int, lanes: Sequence[int], after: int) -> Iterator[tuple[int, int, Item]]:
        end = int(self.taken[-1, k])
        for position, item in self.orders[k].items(lanes, int(self.taken[after, k])):
            if position >= end:
                return
            yield int(np.searchsorted(self.taken[:, k], position, side="right")), k, item

    def _epoch_of(self, stream: Stream) -> int:
        named = [order.sample for order in self.orders]
        if stream.epoch_of is not None:
            return named.index(stream.epoch_of)
        return max(range(len(named)), key=lambda k: self.orders[k].rows)

    def _taken(self, horizon: Horizon, events_per_step: int) -> np.ndarray:
        """Rows of every sample that were taken before each step, (steps + 1, K); the last step may be short."""
        rows_K = np.array([order.rows for order in self.orders], dtype=np.float64)
        given = [source.share for source in self.run.stream.samples.values()]
        shares = (rows_K / rows_K.sum()).tolist() if given[0] is None else [share or 0.0 for share in given]
        mixture = Mixture(shares, events_per_step, self.run.seed)
        goal, of = self._goal(horizon)
        steps = horizon.steps or int((goal + 1) / (events_per_step * (shares[of] if of is not None else 1.0))) + 4
        taken = np.zeros((steps + 1, len(rows_K)), dtype=np.int64)
        np.cumsum(mixture.rows(np.arange(steps)), axis=0, out=taken[1:])
        return taken if horizon.steps else _cut(taken, goal, of)

    def _goal(self, horizon: Horizon) -> tuple[int, int | None]:
        """Rows after which the horizon is reached, and of which sample (None: all together)."""
        if horizon.epochs is not None:
            return math.ceil(horizon.epochs * self.orders[self.epoch_of].rows), self.epoch_of
        return math.ceil(horizon.events or 0), None


def _cut(taken: np.ndarray, goal: int, of: int | None) -> np.ndarray:
    """End at the step that reaches the goal, and shorten it so that it does not pass it."""
    reached = taken.sum(axis=1) if of is None else taken[:, of]
    last = int(np.searchsorted(reached, goal, side="left"))
    cut = taken[: last + 1].copy()
    step_K = cut[last] - cut[last - 1]
    whole = int(reached[last] - reached[last - 1])
    cut[last] = cut[last - 1] + step_K * (goal - int(reached[last - 1])) // whole
    if of is None:
        # Rounding down each sample can leave the step a few rows short of the goal: the fullest sample gives them.
        fullest = int(np.argmax(step_K))
        cut[last, fullest] += goal - int(cut[last].sum())
    return cut
