"""The one training loop, for every system. It knows no physics and no Ray."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from jetscale.data.feed import Feed, Pass, Step, ahead
from jetscale.errors import TrainError
from jetscale.run import Run
from jetscale.task import At
from jetscale.train import checkpoint
from jetscale.train.engine import Engine, rate_at
from jetscale.train.track import Tracker
from jetscale.train.validate import validate
from jetscale.train.world import World


def train(run: Run, engine: Engine, feed: Feed, validation: Pass, world: World, track: Tracker | None,
          out: Path) -> dict[str, float]:  # fmt: skip
    """Make every step of the horizon; the figures of the last validation."""
    plan = feed.plan
    clock = _Clock()
    figures = _check(run, engine, validation, world, track, plan.at(0))
    for step in clock.watch(ahead(feed.steps())):
        loss = engine.step(step)
        done = step.at.step + 1
        clock.rows += step.rows
        if done >= min(plan.steps, plan.steps_per_epoch):
            _refuse_empty_terms(engine, done)
        if track and (done % run.track.log_every == 0 or done == plan.steps):
            track.step(step.at, loss, rate_at(run.optimiser, step.at.fraction), *clock.read())
        if _due(done, plan.steps, plan.steps_per_epoch * run.track.validate_every):
            figures = _check(run, engine, validation, world, track, At(done, step.at.epoch, done / plan.steps))
            clock.again()
    weights = engine.weights()
    if world.first:
        checkpoint.save(out, weights, At(plan.steps, step.at.epoch, 1.0), figures)
    return figures


def _refuse_empty_terms(engine: Engine, done: int) -> None:
    """A term that has had no weight in any step teaches nothing, and nobody would notice."""
    for term, steps in engine.dropped.items():
        if steps == done:
            raise TrainError(f"no event has a weight in the loss term {term!r}: its truth is not known",
                             where=engine.run.system,
                             cure="train on samples with truth (labels 0, 1, 2; true_mass; decay_mode)")  # fmt: skip


def _check(run: Run, engine: Engine, validation: Pass, world: World, track: Tracker | None, at: At) -> dict[str, float]:
    figures = validate(run.task, engine.net, validation, world)
    if track:
        track.validation(at, figures)
    return figures


def _due(done: int, steps: int, every: float) -> bool:
    """After every so many steps, and after the last one."""
    return done == steps or int(done / every) > int((done - 1) / every)


class _Clock:
    """Events per second and the share of time spent waiting for data, since the last reading."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.waited = 0.0
        self.rows = 0

    def watch(self, steps: Iterator[Step]) -> Iterator[Step]:
        while True:
            asked = time.monotonic()
            step = next(steps, None)
            self.waited += time.monotonic() - asked
            if step is None:
                return
            yield step

    def read(self) -> tuple[float, float]:
        spent = max(time.monotonic() - self.began, 1e-9)
        reading = self.rows / spent, self.waited / spent
        self.again()
        return reading

    def again(self) -> None:
        self.began, self.waited, self.rows = time.monotonic(), 0.0, 0
