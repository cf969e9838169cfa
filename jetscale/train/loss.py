"""The weighted mean of every term over the whole step, exact for any sharding.

A term has values l_i and weights w_i for the rows of all workers and micro-batches; its mean is sum(w l) / sum(w), both
sums over the whole step. Every micro-batch has a share of it, and these shares add up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from jetscale.errors import TrainError
from jetscale.task import Batch, Task
from jetscale.train.world import World

LEAST = 0.1  # of the sum of sizes: a mean over a smaller sum of weights is noise, over a negative one it climbs


def weight_sums(task: Task, micro: Sequence[Batch], world: World) -> dict[str, Tensor]:
    """Sum of every term's weights over the step, all micro-batches of all workers: one all-reduce.

    Raises:
        TrainError: negative weights that leave next to nothing of a sum, or less.
    """
    parts = [task.weights(batch) for batch in micro]
    terms = list(parts[0])
    local_2T = torch.stack([sum_of([how(part[term].double()) for part in parts]) for how in (torch.clone, torch.abs)
                            for term in terms])  # fmt: skip
    sums_T, sizes_T = world.sum(local_2T).chunk(2)
    for term, left in zip(terms, (sums_T - LEAST * sizes_T).tolist(), strict=True):
        if left < 0:
            raise TrainError(f"negative weights cancel: those of the loss term {term!r} sum to less than {LEAST:g} of "
                             "their sizes in one step", where=type(task).__name__,
                             cure="set stream.negative_weights to abs, or more scale.events_per_step")  # fmt: skip
    return dict(zip(terms, sums_T.unbind(), strict=True))


def sum_of(values: Sequence[Tensor]) -> Tensor:
    """The sum of all numbers in some tensors."""
    return torch.stack([value.sum() for value in values]).sum()


def shares(task: Task, net: nn.Module, batch: Batch, sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """This micro-batch's part of every term's mean; they add up over the step.

    A term whose weights sum to 0 over the whole step gives 0. Rows of weight 0 give 0 whatever their value, and stay
    in the graph, so that every worker goes through the same collective operations.

    Raises:
        TrainError: a term without a weight, or values that are not one per row.
    """
    values, weights = task.loss(net, batch), task.weights(batch)
    if set(values) != set(weights):
        raise TrainError(f"loss gives the terms {sorted(values)}, weights gives {sorted(weights)}",
                         where=type(task).__name__, cure="give every term a value and a weight per row")  # fmt: skip
    found = {}
    for term, value_B in values.items():
        if value_B.shape != batch.weight_B.shape:
            raise TrainError(f"term {term!r} has the shape {tuple(value_B.shape)} for {len(batch)} rows",
                             where=type(task).__name__, cure="return one value per row")  # fmt: skip
        weight_B = weights[term]
        kept_B = torch.where(weight_B != 0, value_B.float(), 0.0)
        scale = torch.where(sums[term] != 0, 1.0 / sums[term], 0.0)
        found[term] = (weight_B * kept_B).sum() * scale.float()
    return found
