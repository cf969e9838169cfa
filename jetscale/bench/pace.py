"""A training that lets a plain torch loop have its turn: blocks of steps of both, one after the other, in one process.

The training is the product's own, from launch to loop; only its engine is wrapped. While the plain loop has its turn
the feed is full and idle, and what it read ahead is paid by the training.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from jetscale.bench.measure import one_thread
from jetscale.config import Values
from jetscale.data.feed import Step
from jetscale.run import Run
from jetscale.task import Batch
from jetscale.train import engine as engines
from jetscale.train import launch
from jetscale.train.engine import Engine
from jetscale.train.optimiser import optimiser_of
from jetscale.train.track import Tracker
from jetscale.train.world import World

SETTLE_S = 0.1
Seconds = dict[str, float]


class Pace(NamedTuple):
    """Steps before the first block, steps of a block, and how many blocks each side has."""

    skip: int
    block: int
    rounds: int

    @property
    def steps(self) -> int:
        """Of the whole training: a last block is taken apart."""
        return self.skip + (self.rounds + 1) * self.block + 1


def paced(run: Run, out: Path, pace: Pace) -> Iterator[list[dict[str, Any]]]:
    """Train once; what every worker has measured."""
    launch.__dict__["_worker"] = _Worker(pace)
    with wrapped_start(lambda engine: Paced(engine, out, pace)):
        launch.train(run, out)
    yield [json.loads(file.read_text()) for file in sorted(out.glob("paced-*.json"))]


class _Worker:
    """What Ray Train runs on every worker: the product's own function, with a wrapped engine."""

    def __init__(self, pace: Pace) -> None:
        self.pace, self.work = pace, launch._worker

    def __call__(self, config: Values) -> None:
        one_thread()
        with wrapped_start(lambda engine: Paced(engine, Path(config["out"]), self.pace)):
            self.work(config)


@contextmanager
def wrapped_start(wrapped: Callable[[Engine], object]) -> Iterator[None]:
    """Inside, trainings of this process have an engine that something is wrapped around."""
    made: Callable[[Run, nn.Module, World], Engine] = launch.__dict__["start"]
    launch.__dict__["start"] = lambda run, net, world: wrapped(made(run, net, world))
    try:
        yield
    finally:
        launch.__dict__["start"] = made


class Paced:
    """An engine that, between two blocks of its steps, has a plain loop make as many."""

    def __init__(self, engine: Engine, out: Path, pace: Pace) -> None:
        self.engine, self.out, self.pace = engine, out, pace
        self.done, self.batches = 0, list[Batch]()
        self.plain: Plain | None = None
        self.rounds: list[dict[str, Seconds]] = []
        self.began: Seconds = {}
        self.parts = Parts()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def step(self, step: Step) -> dict[str, float]:
        """The engine's step; before the first of a block, the end of the block before and the plain loop's turn."""
        number, block = self.done - self.pace.skip, self.pace.block
        if number < 0:
            self.batches += [batch.to(self.engine.world.device) for batch in step.micro]
        elif number % block == 0 and number <= (self.pace.rounds + 1) * block:
            self._turn(number // block)
        self.done += 1
        return self.engine.step(step)

    def _turn(self, number: int) -> None:
        if number == 0:
            self.plain = Plain(self.engine.run, self.engine.world, self.batches)
            self.plain.block(self.pace.skip)
        else:
            wall_s = time.monotonic() - self.began["wall_s"]
            time.sleep(SETTLE_S)
            ours = {"wall_s": wall_s, "cpu_s": time.process_time() - self.began["cpu_s"]}
            assert self.plain is not None
            if number <= self.pace.rounds:
                self.rounds.append({"ours": ours, "plain": self.plain.block(self.pace.block)})
            if number == self.pace.rounds:
                self.parts.watch(self.engine)
            if number == self.pace.rounds + 1:
                self._write(ours)
        self.engine.world.wait()
        time.sleep(SETTLE_S)
        self.began = {"wall_s": time.monotonic(), "cpu_s": time.process_time()}

    def _write(self, last: Seconds) -> None:
        assert self.plain is not None
        net: nn.Module = self.plain.net
        per_step = {name: 1000 * seconds / self.pace.block for name, seconds in self.parts.seconds(last).items()}
        steps = self.pace.skip + self.pace.rounds * self.pace.block
        values = {
            "rounds": self.rounds,
            "parameters": sum(parameter.numel() for parameter in net.parameters()),
            "ms_per_step": {"ours": per_step, "plain": {k: 1000 * s / steps for k, s in self.plain.spent.items()}},
        }
        (self.out / f"paced-{self.engine.world.rank:03d}.json").write_text(json.dumps(values))


class Plain:
    """The loop to compare with: the same network, loss and optimiser on batches that are in memory, without more.

    With several workers it is torch's DistributedDataParallel.
    """

    def __init__(self, run: Run, world: World, batches: list[Batch]) -> None:
        self.run, self.batches = run, batches
        self.net: nn.Module = run.task.build(run.seed).to(world.device)
        if world.size > 1:
            self.net = DistributedDataParallel(self.net)
        self.optimiser = optimiser_of(self.net, run.optimiser)
        self.spent: Seconds = {"forward": 0.0, "backward": 0.0, "update": 0.0}

    def block(self, steps: int) -> Seconds:
        """So many steps; seconds of the wall and of this process's CPU."""
        wall_s, cpu_s = time.monotonic(), time.process_time()
        for number in range(steps):
            self._step(self.batches[number % len(self.batches)])
        return {"wall_s": time.monotonic() - wall_s, "cpu_s": time.process_time() - cpu_s}

    def _step(self, batch: Batch) -> None:
        task, clock = self.run.task, [time.perf_counter()]
        values, weights = task.loss(self.net, batch), task.weights(batch)
        means = [(weights[term] * value_B).sum() / weights[term].sum() for term, value_B in values.items()]
        loss = torch.stack(means).sum()
        clock.append(time.perf_counter())
        loss.backward()
        clock.append(time.perf_counter())
        if self.run.optimiser.clip:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.run.optimiser.clip)
        self.optimiser.step()
        self.optimiser.zero_grad()
        clock.append(time.perf_counter())
        for name, low, high in zip(self.spent, clock, clock[1:], strict=False):
            self.spent[name] += high - low


class Parts:
    """Where the seconds of the product's steps go: a stopwatch around each of its parts."""

    def __init__(self) -> None:
        self.spent: Seconds = {}
        self.inside: list[str] = []

    def watch(self, engine: Engine) -> None:
        """From now on, until the process ends."""
        for owner, name, called in (
            (engine, "step", "step"),
            (Batch, "to", "to the device"),
            (engines, "weight_sums", "weight sums"),
            (engines, "shares", "forward"),
            (engine, "_backward", "backward"),
            (engine, "_update", "update"),
            (World, "sum", "reduce"),
            (Tracker, "step", "log"),
        ):
            setattr(owner, name, self._timed(getattr(owner, name), called))

    def _timed(self, function: Callable[..., Any], called: str) -> Callable[..., Any]:
        def timed(*args: Any, **more: Any) -> Any:
            began = time.perf_counter()
            self.inside.append(called)
            try:
                return function(*args, **more)
            finally:
                self.inside.pop()
                seconds = time.perf_counter() - began
                self.spent[called] = self.spent.get(called, 0.0) + seconds
                if self.inside:  # what is counted here is not counted for the part that it belongs to
                    self.spent[self.inside[-1]] = self.spent.get(self.inside[-1], 0.0) - seconds

        return timed

    def seconds(self, whole: Mapping[str, float]) -> Seconds:
        """Of each part of a block; what is left of the steps, and of the loop with its waiting for data."""
        found = {name: seconds for name, seconds in self.spent.items() if name != "step"}
        rest = whole["wall_s"] - sum(self.spent.values())
        return {**found, "rest of the step": self.spent.get("step", 0.0), "loop and feed": rest}
