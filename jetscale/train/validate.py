"""One pass over the validation part: the loss, and the task's figures of the scored table."""

from __future__ import annotations

from itertools import chain, islice, repeat

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from jetscale.data.batch import table_of
from jetscale.data.feed import Pass, in_batches
from jetscale.run import Run
from jetscale.schema import Schema
from jetscale.task import Task
from jetscale.train.world import World

ROWS, FEW = 1024, 32


def validate(task: Task, net: nn.Module, events: Pass, world: World) -> dict[str, float]:
    """Mean of every loss term, `loss_<term>`, and the task's figures, over all workers' rows; the same on each of them.

    Gumbel noise and dropout stay out of the figures; the loss terms are those of training, without dropout.
    """
    net.eval()
    sums: dict[str, list[Tensor]] = {}
    tables: list[pa.Table] = []
    # Every worker makes as many forward passes as the busiest, or ZeRO 3 would wait for ever.
    own, judged = events.number(ROWS), _judged(task)
    batches = chain((batch for _, batch in events.batches(ROWS)), repeat(events.filler()))
    with torch.no_grad():
        for number, there in enumerate(islice(batches, max(world.gather(own)))):
            batch = there.to(world.device)
            weights, (values, scored) = task.weights(batch), task.judge(net, batch)
            for term, weight_B in weights.items():
                value_B = torch.where(weight_B != 0, values[term], 0.0).double()
                sums.setdefault(term, []).append(torch.stack([(weight_B * value_B).sum(), weight_B.double().sum()]))
            if number < own:
                tables.append(table_of(batch, {**batch.columns, **scored}, judged))
    net.train()
    figures: dict[str, float] = {}
    for term, parts in sums.items():
        total, weight = world.sum(torch.stack(parts).sum(0)).tolist()
        figures[f"loss_{term}"] = total / weight if weight else float("nan")
    every = [table for part in world.gather(tables) for table in part]
    return {**figures, **task.figures(pa.concat_tables(every))} if every else figures


def figure_names(run: Run) -> list[str]:
    """What validation of a run's task is made of, tried on a handful of the task's own toy events."""
    task = run.task
    net = task.build(run.seed, task.neutral())
    batch = next(in_batches(task.toy(FEW, run.seed), np.ones(FEW), task.columns, FEW, run.seed))
    with torch.no_grad():
        scored = task.score(net.eval(), batch)
    figures = task.figures(table_of(batch, {**batch.columns, **scored}, _judged(task)))
    return [*(f"loss_{term}" for term in task.weights(batch)), *figures]


def _judged(task: Task) -> Schema:
    """What figures are made of: the outputs and all columns but those of collections without one.

    Their tables are the only thing of a validation that stays in memory.
    """
    every = task.columns.plus(*task.outputs.columns)
    kept = {None, *task.outputs.collections}
    return Schema(columns=tuple(column for column in every.each() if column.of in kept))
