"""Numbers fitted once over the training part: those of derived columns and those that a task needs.

One pass, chunk by chunk, in this process or as Ray tasks. What the chunks contribute is added in their order, so that
the numbers are the same bits however many tasks there were. Rows count as they do in the training: by their weight and
by their sample's share of the mixture.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import islice
from typing import TypeVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from jetscale.config import Values, build
from jetscale.data.chunks import Reader, needed, readers
from jetscale.data.cluster import cluster
from jetscale.data.feed import Weighting, in_batches, training_weight, weightings
from jetscale.data.plan import Chunk, Item, Slice
from jetscale.data.rows import NOT_TRAINED, rows_of
from jetscale.derive import Fitted, Tally
from jetscale.errors import DataError, JetscaleError
from jetscale.events import Events
from jetscale.run import Run
from jetscale.schema import EVENT_ID, WEIGHT, Schema
from jetscale.shape import shape
from jetscale.stream import Stream
from jetscale.task import Aggregate
from jetscale.task import Fitted as Numbers

ROWS = 1024
AHEAD = 64
Chunks = Mapping[str, Sequence[Chunk]]
Sums = dict[str, dict[str, Tensor]]
T = TypeVar("T")


@dataclass(frozen=True)
class TrainingPart:
    """The rows of the training part with their weights, chunk by chunk; can be sent anywhere."""

    readers: Mapping[str, Reader]
    chunks: Chunks
    weighting: Mapping[str, Weighting]
    factor: Mapping[str, float]

    @classmethod
    def of(cls, stream: Stream, samples: Mapping[str, Events], columns: Schema, chunks: Chunks,
           means: Mapping[str, float], seed: int) -> TrainingPart:  # fmt: skip
        """The rows of a stream with some columns."""
        rows = {name: sum(chunk.selected["train"] for chunk in of_sample) for name, of_sample in chunks.items()}
        every = sum(rows.values())
        factor = {
            name: 1.0 if source.share is None else source.share * every / max(rows[name], 1)
            for name, source in stream.samples.items()
        }
        return cls(readers(stream, samples, columns, "train", seed), chunks, weightings(stream, means), factor)

    def items(self) -> list[Item]:
        """Every chunk with rows, whole."""
        return [
            Item(name, NOT_TRAINED, number, (Slice(0, 0, chunk.selected["train"], 0),))
            for name, of_sample in self.chunks.items()
            for number, chunk in enumerate(of_sample)
            if chunk.selected["train"]
        ]

    def read(self, item: Item) -> tuple[pa.Table, np.ndarray]:
        """Rows and their weights, (B,) float64."""
        table = self.readers[item.sample].read(item, self.chunks[item.sample][item.chunk])
        return table, training_weight(table, self.weighting[item.sample]) * self.factor[item.sample]


def fit_stream(run: Run, samples: Mapping[str, Events], chunks: Chunks, means: Mapping[str, float]) -> Run:
    """The run with the fitted numbers of its derived columns: what the resolved run says.

    `chunks` and `means` are what counting has found. Columns that are made of fitted ones take another pass. Numbers
    that the run already has are those of another training part, and are not believed.

    Raises:
        DataError: nothing can be learnt from the training part.
    """
    run = run.model_copy(update={"stream": run.stream.unfitted()})
    while ready := _ready(run.stream, samples, run.seed):
        plain = run.stream.model_copy(update={"reweight": None, "buckets": None})
        part = TrainingPart.of(plain, samples, Schema(columns=(EVENT_ID, WEIGHT)), chunks, means, run.seed)
        seen = reduce(_tallied, _over(run, part.items(), partial(_tallies, _reading(part, ready), ready)))
        derive = {name: how.but(fitted=how.fit(seen[name])) for name, how in ready.items()}
        stream = run.stream.model_copy(update={"derive": {**run.stream.derive, **derive}})
        run = run.model_copy(update={"stream": stream})
    return run


def fit(run: Run, samples: Mapping[str, Events], chunks: Chunks, means: Mapping[str, float]) -> Numbers:
    """What the run's task needs to build its network; nothing is read if it needs nothing.

    Raises:
        DataError: values that cannot be used, or no weight at all.
    """
    needs = run.task.needs()
    if not needs:
        return {}
    part = TrainingPart.of(run.stream, samples, needed(run.task.columns), chunks, means, run.seed)
    sums = reduce(_added, _over(run, part.items(), partial(_sums, part, run.values())))
    for name, aggregate in needs.items():
        _refuse(name, aggregate, sums[name])
    return {name: aggregate.numbers(sums[name]) for name, aggregate in needs.items()}


def _ready(stream: Stream, samples: Mapping[str, Events], seed: int) -> dict[str, Fitted]:
    """Derived columns that are to be fitted and rest on none that is still to be."""
    waiting = {name: how for name, how in stream.derive.items() if isinstance(how, Fitted) and not how.fitted}
    if not waiting:
        return {}
    ids = Schema(columns=(EVENT_ID,))
    every = [rows_of(stream, name, events, ids, seed) for name, events in samples.items()]
    return {
        name: how
        for name, how in waiting.items()
        if all(set(rows.ancestors(name)) & waiting.keys() <= {name} for rows in every)
    }


def _reading(part: TrainingPart, fitted: Mapping[str, Fitted]) -> TrainingPart:
    """The same rows with the columns that are looked at, where a sample does not set the outcome itself."""
    found = {}
    for sample, reader in part.readers.items():
        ours = [how for name, how in fitted.items() if name in reader.rows.derive]
        looked_at = [column for how in ours for column in (*how.numbers(), *how.lists())]
        found[sample] = replace(reader, columns=tuple(dict.fromkeys((*reader.columns, *looked_at))))
    return replace(part, readers=found)


def _tallies(part: TrainingPart, fitted: Mapping[str, Fitted], item: Item) -> dict[str, Tally]:
    table, weight_B = part.read(item)
    made = part.readers[item.sample].rows.derive
    none = Tally(np.zeros(0), np.zeros(0), np.zeros(0))
    return {name: how.tally(table, weight_B) if name in made else none for name, how in fitted.items()}


def _tallied(some: dict[str, Tally], others: dict[str, Tally]) -> dict[str, Tally]:
    return {name: one.plus(others[name]) for name, one in some.items()}


def _sums(part: TrainingPart, run: Values, item: Item) -> Sums:
    task = build(Run, run, "run").task
    table, weight_B = part.read(item)
    batches = in_batches(table, weight_B, task.columns, ROWS, 0)
    needs = task.needs()
    with _one_thread():
        return reduce(_added, ({name: need.sums(batch) for name, need in needs.items()} for batch in batches))


def _added(some: Sums, others: Sums) -> Sums:
    return {
        name: {key: tensor + others[name][key] for key, tensor in of_need.items()} for name, of_need in some.items()
    }


def _refuse(name: str, aggregate: Aggregate, sums: Mapping[str, Tensor]) -> None:
    for what, cure in aggregate.refusals(sums):
        raise DataError(what, where=f"fit of {name!r}", cure=cure)


def _over(run: Run, items: Sequence[Item], look: Callable[[Item], T]) -> Iterator[T]:
    """What is seen of each chunk, in order."""
    if run.scale.launch == "here":
        yield from map(look, items)
        return
    given = shape(run.scale.shape)
    with cluster(given):
        import ray

        task = ray.remote(num_cpus=given.cpus_per_read)(_looked)
        sent, left = ray.put(look), iter(items)
        waiting = deque(task.remote(sent, item) for item in islice(left, AHEAD))
        while waiting:
            try:
                yield ray.get(waiting.popleft())
            except ray.exceptions.RayTaskError as problem:
                if isinstance(problem.cause, JetscaleError):
                    raise problem.cause from None
                raise
            waiting.extend(task.remote(sent, item) for item in islice(left, 1))


def _looked(look: Callable[[Item], T], item: Item) -> T:
    return look(item)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Threads would change the order in which a sum is made."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
