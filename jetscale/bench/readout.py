"""What a read-out costs per event, with and without the network before it, and a training step of the enumerator.

A read-out alone is the score of a network that has its answer ready. One thread, on signal that ships, with fresh
weights: what is done does not depend on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from jetscale.bench.measure import Player, Spent
from jetscale.bench.result import Figure, Result, Say
from jetscale.data.batch import batch
from jetscale.events import Events
from jetscale.run import Optimiser
from jetscale.task import At, Batch, Task, find
from jetscale.train.optimiser import optimiser_of

SAMPLE = "shipped:gluino-1500"
STEP = 256
MOST_MS = 1.0


class Case(NamedTuple):
    """A side: a system with some settings, and what is done with it."""

    system: str
    settings: Mapping[str, Any]
    what: str

    @property
    def name(self) -> str:
        said = [str(value) if key == "readout" else f"{key} {value}" for key, value in self.settings.items()]
        return ", ".join((self.system, *said, *([self.what] if self.what else [])))


ALONE, WHOLE, TRAINING = "", "with its network", f"a step of {STEP}"
CASES = (
    *(Case(system, {"readout": readout}, ALONE) for system in ("assigner", "enumerator")
      for readout in ("argmax", "map", "mbr")),
    Case("enumerator", {"readout": "mbr", "beam": 2}, ALONE),
    *(Case(system, {"readout": "mbr"}, WHOLE) for system in ("assigner", "enumerator")),
    *(Case("enumerator", {"sampled": sampled}, TRAINING) for sampled in (600, None)),
)  # fmt: skip


def readout(events: int, rounds: int, say: Say) -> Result:
    """Milliseconds of a core for each event, and for each training step; the target is that of the default read-out."""
    played: dict[str, list[Spent]] = {case.name: [] for case in CASES}
    with Player(passes, events) as player:
        player.play()
        for number in range(rounds):
            for case in CASES:
                spent = player.play().spent
                played[case.name].append(spent)
                say(f"round {number + 1} of {rounds}: {case.name}, {1e3 * spent.own_s / _count(case, events):.3g} ms")
    figures = [_figure(case, events, played[case.name]) for case in CASES]
    drawn, every = (figure.rounds for figure in figures[-2:])
    figures.append(Figure("enumerator, a step with all candidates over one with 600",
                          [b / a for a, b in zip(drawn, every, strict=True)]))  # fmt: skip
    sizes = {"events": events, "rounds": rounds, "sample": SAMPLE, "events_per_step": STEP}
    return Result("readout", figures, sizes, {name: [one._asdict() for one in of] for name, of in played.items()})


def _figure(case: Case, events: int, spent: list[Spent]) -> Figure:
    target = MOST_MS if case.what == ALONE and case.settings == {"readout": "mbr"} else None
    unit = "ms/step" if case.what == TRAINING else "ms/event"
    return Figure(case.name, [1e3 * one.own_s / _count(case, events) for one in spent], unit, at_most=target)


def _count(case: Case, events: int) -> int:
    """Events of a pass, or its steps."""
    return max(1, events // STEP) if case.what == TRAINING else events


def passes(events: int) -> Iterator[None]:
    """Every side in turn; the first thing is a short one of each, for its tables."""
    works = [_work(case, events) for case in CASES]
    for work in works:
        work()
    yield
    while True:
        for work in works:
            work()
            yield


def _work(case: Case, events: int) -> Callable[[], None]:
    task = find(case.system).task.model_validate(dict(case.settings))
    net, rows = task.build(1), _rows(task, STEP)
    if case.what == TRAINING:
        return lambda: _train(task, net, rows, _count(case, events))
    net.eval()
    parts = [_rows(task, min(STEP, events - start), start) for start in range(0, events, STEP)]
    nets = [_Ready(task, net, part) for part in parts] if case.what == ALONE else [net] * len(parts)

    def work() -> None:
        with torch.no_grad():
            for one, part in zip(nets, parts, strict=True):
                task.score(one, part)

    return work


class _Ready(nn.Module):
    """A network that has its answer ready."""

    def __init__(self, task: Task, net: nn.Module, rows: Batch) -> None:
        super().__init__()
        self.answer: Any = None
        net.register_forward_hook(lambda _, __, answer: setattr(self, "answer", answer))
        with torch.no_grad():
            task.score(net, rows)
        net._forward_hooks.clear()

    def forward(self, *_: Any) -> Any:
        return self.answer


def _rows(task: Task, rows: int, start: int = 0) -> Batch:
    """Events of the sample, from the beginning again where it is at its end."""
    table = Events.open(SAMPLE).read()
    taken = table.take(np.arange(start, start + rows) % table.num_rows)
    none_B = np.zeros(rows, dtype=np.int64)
    return batch([taken], task.columns, np.ones(rows), none_B, np.arange(rows), At(0, 0, 0.0), 1)


def _train(task: Task, net: nn.Module, rows: Batch, steps: int) -> None:
    """Forward, backward, clipping and update."""
    optimiser = optimiser_of(net, Optimiser())
    for _ in range(steps):
        values, weights = task.loss(net, rows), task.weights(rows)
        torch.stack([(values[term] * weights[term]).mean() for term in values]).sum().backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
