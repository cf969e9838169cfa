"""When a loss is not finite: which events were in the step, and which of them it came from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from jetscale.data.feed import Step
from jetscale.events import write_text
from jetscale.task import Batch
from jetscale.train.engine import Engine

FILE = "odd-events.json"
Event = tuple[str, int]


def write_odd(engine: Engine, step: Step, out: Path) -> Path:
    """Write the ids of a step's events by sample, and of those whose own loss is not finite. Collective."""
    everything: list[Event] = []
    odd: list[Event] = []
    for batch, ids in zip(step.micro, step.ids, strict=True):
        events = [(sample, event_id) for sample, column in ids for event_id in column.tolist()]
        odd_B = _odd(engine, batch.to(engine.world.device)).tolist()
        everything += events
        # A micro-batch without events holds one filler row, which is none.
        odd += [event for event, bad in zip(events, odd_B, strict=bool(events)) if bad]
    gathered = engine.world.gather((everything, odd))
    if engine.world.first:
        found = {"step": step.at.step, "not_finite": _by_sample([one for _, own in gathered for one in own]),
                 "in_the_step": _by_sample([one for own, _ in gathered for one in own])}  # fmt: skip
        write_text(out / FILE, json.dumps(found, indent=1) + "\n")
    return out / FILE


def _odd(engine: Engine, batch: Batch) -> Tensor:
    """Rows with a loss that counts and is not finite, (B,) bool."""
    task = engine.run.task
    with torch.no_grad():
        values, weights = task.loss(engine.net, batch), task.weights(batch)
    odd_BT = torch.stack([~torch.isfinite(values[term]) & (weight_B != 0) for term, weight_B in weights.items()], -1)
    return odd_BT.any(-1)


def _by_sample(events: Sequence[Event]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for sample, event_id in events:
        found.setdefault(sample, []).append(event_id)
    return found
