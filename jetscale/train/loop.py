"""The one training loop, for every system. It knows no physics and no Ray."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path

from jetscale.data.feed import Feed, Pass, Step, ahead
from jetscale.errors import TrainError
from jetscale.run import Run
from jetscale.task import At
from jetscale.train import checkpoint
from jetscale.train.best import Watch, seen, spent
from jetscale.train.checkpoint import Point
from jetscale.train.engine import Engine, NotFiniteError, rate_at
from jetscale.train.moments import STEPS
from jetscale.train.odd import write_odd
from jetscale.train.track import Tracker
from jetscale.train.validate import validate
from jetscale.train.world import World


def train(run: Run, engine: Engine, feed: Feed, validation: Pass, world: World, track: Tracker | None,
          out: Path, point: Point) -> Point:  # fmt: skip
    """Make every step from a point to the horizon, or until patience is at its end or the world has seen enough.

    Returns where the training then stands.
    """
    plan, best, clock = feed.plan, run.best, _Clock()
    if not point.step:
        point = _check(run, engine, feed, validation, world, track, plan.at(0), point)
        if best and run.start:
            checkpoint.save(out, engine, point)
    for step in clock.watch(ahead(feed.steps(point.step))):
        loss = _step(engine, step, out)
        at = At(step.at.step + 1, step.at.epoch, (step.at.step + 1) / plan.steps)
        clock.rows += step.rows
        if at.step >= min(plan.steps, plan.steps_per_epoch):
            _refuse_empty_terms(engine, at.step)
        if track and (at.step % run.track.log_every == 0 or at.step == plan.steps):
            track.step(step.at, loss, rate_at(run.optimiser, step.at.fraction), *clock.read())
        if checked := _due(at.step, plan.steps, plan.steps_per_epoch * run.track.validate_every):
            point = _check(run, engine, feed, validation, world, track, at, point)
        ended = "horizon" if at.step == plan.steps else "early" if checked and spent(point.watch, best) else None
        if checked and not ended and not world.go_on(at.step / plan.steps_per_epoch):
            ended = "stopped"
        better = checked and best is not None and point.watch.step == at.step
        if ended or better or _due(at.step, plan.steps, plan.steps_per_epoch * run.keep.every):
            point = point.but(**at._asdict(), dropped=engine.dropped, ended=ended)
            engine.agree()
            checkpoint.save(out, engine, point)
        if checked or point.step == at.step:
            clock.again()
        if ended:
            break
    return point


def _step(engine: Engine, step: Step, out: Path) -> dict[str, float]:
    try:
        return engine.step(step)
    except NotFiniteError as problem:
        file = write_odd(engine, step, out)
        raise NotFiniteError(problem.what, where=problem.where,
                             cure=f"look at the events in {file}; {problem.cure}") from None  # fmt: skip


def _refuse_empty_terms(engine: Engine, done: int) -> None:
    """A term that has had no weight in any step teaches nothing, and nobody would notice."""
    reweight = engine.run.stream.reweight
    for term, steps in engine.dropped.items():
        if steps == done:
            zero = f", or {reweight!r}, which stream.reweight names, is 0" if reweight else ""
            raise TrainError(f"no event has a weight in the loss term {term!r}: its truth is not known{zero}",
                             where=engine.run.system,
                             cure=engine.run.task.TRUTH)  # fmt: skip


def _check(run: Run, engine: Engine, feed: Feed, validation: Pass, world: World, track: Tracker | None, at: At,
           point: Point) -> Point:  # fmt: skip
    """Validate; the point with the figures and with the best validation so far."""
    engine.agree()
    with engine.averaged(ahead(feed.last(at.step, STEPS))):
        figures = validate(run.task, engine.net, validation, world)
    if track:
        track.validation(at, figures)
    known = {name: value if math.isfinite(value) else None for name, value in figures.items()}
    watch = seen(point.watch, run.best, figures, at.step)
    # A network that has learned nothing is no candidate, however sharp its peak; one to start from is.
    return point.but(figures=known, watch=watch if at.step or run.start else Watch())


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
