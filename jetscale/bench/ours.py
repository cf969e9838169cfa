"""A training of our own that makes its steps in turns, when it is told to: the other side of a comparison."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from jetscale.bench.feed import feeding
from jetscale.bench.ingest import convert
from jetscale.bench.jetclass import Size
from jetscale.bench.pace import wrapped_start
from jetscale.config import Values
from jetscale.data.feed import Step, ahead
from jetscale.data.formats.jetclass import LABELS
from jetscale.data.ingest.job import Ingest, load
from jetscale.nn.particles import ParticleInputs
from jetscale.physics.constituents import Selection
from jetscale.run import Run, resolve
from jetscale.tagger import Tagger
from jetscale.train import launch
from jetscale.train.engine import Engine

KEPT = 8  # steps in memory, for those without a feed
SELECTION: Selection = "full"
ENGINE: dict[str, Values] = {"fp32": {"engine": "torch"}, "bf16": {"engine": "deepspeed", "stage": 1}}


def job(files: Sequence[Path]) -> Ingest:
    """The conversion of the files."""
    return load(None, name="jetclass", files=[str(file) for file in files], map="jetclass")


def run_of(system: str, sample: Path, size: Size, precision: str = "fp32", train: float = 1.0) -> Run:
    """A run that validates at its beginning alone, and on next to nothing; `train` is the share of its rows."""
    rest = (1 - train) / 2
    values: Values = {
        "system": system,
        "task": {"features": SELECTION, "classes": {name: [name] for name in LABELS.values()}},
        "stream": {"samples": {"jetclass": {"events": str(sample)}},
                   "split": {"train": train, "validation": rest, "test": rest}},
        "horizon": {"epochs": 1} if train == 1 else {"steps": (size.rounds + 2) * size.steps + 1},
        "precision": precision,
        "scale": {"events_per_step": size.batch, "launch": "here", "source": "pyarrow", **ENGINE[precision]},
        "track": {"wandb": False, "validate_every": 1e6},
        "keep": {"every": 1e6},
    }  # fmt: skip
    return resolve([("bench", values)], "bench").run


def ours(system: str, files: Sequence[Path], sample: Path, out: Path, size: Size, parts: Sequence[str],
         precision: str) -> Iterator[Values]:  # fmt: skip
    """First a turn of training, then what a pass over the sample reads, then the parts in turn, again and again."""
    whole = run_of(system, sample, size)
    training = Turns(run_of(system, sample, size, precision, train=0.98), out, size)
    yield training.turn("training") | {"parameters": training.parameters}
    with feeding(whole, whole.task.columns, "pyarrow") as feed:
        yield read(whole, ahead(feed.steps()))
        while True:
            for part in parts:
                if part == "feed":
                    yield {"jets": sum(step.rows for step in ahead(feed.steps()))}
                elif part == "conversion":
                    yield {"jets": convert(job(files), out.with_name("again"))}
                else:
                    yield training.turn(part)


def read(run: Run, steps: Iterator[Step]) -> Values:
    """Jets and particles of a pass, and the sums of the particles' features."""
    inputs, task = ParticleInputs(SELECTION), run.task
    assert isinstance(task, Tagger)
    jets, particles, sum_C = 0, 0, torch.zeros(len(inputs.names), dtype=torch.float64)
    for step in steps:
        for batch in step.micro:
            cloud = inputs(*task.tensors(batch))
            jets, particles = jets + len(batch.weight_B), particles + int(cloud.mask_BP.sum())
            sum_C += cloud.features_BPC.double().sum((0, 1))
    return {"jets": jets, "particles": particles, "sums": sum_C.tolist()}


class Turns:
    """A training in a thread of its own, from launch to loop the product's, which waits between two turns."""

    def __init__(self, run: Run, out: Path, size: Size) -> None:
        self.run, self.out, self.size, self.parameters = run, out, size, 0
        self.asked: queue.Queue[str] = queue.Queue()
        self.done: queue.Queue[Values | BaseException] = queue.Queue()
        # Nobody waits for its end, which may never come.
        threading.Thread(target=self._train, name="training", daemon=True).start()

    def turn(self, part: str) -> Values:
        """So many steps: of the training, or in the part `step` of its engine alone on batches that it had before.

        Raises:
            JetscaleError: the training failed.
        """
        self.asked.put(part)
        said = self.done.get()
        if isinstance(said, BaseException):
            raise said
        return said

    def _train(self) -> None:
        try:
            with wrapped_start(self._wrapped):
                launch.train(self.run, self.out)
        except BaseException as problem:  # handed to the thread that asks for turns
            self.done.put(problem)

    def _wrapped(self, engine: Engine) -> object:
        # Here, as the launch has just given it the threads of a worker.
        torch.set_num_threads(self.size.threads)
        self.parameters = sum(one.numel() for one in engine.net.parameters())
        return _Waiting(engine, self)


class _Waiting:
    """An engine that makes steps only while it is some training's turn."""

    def __init__(self, engine: Engine, turns: Turns) -> None:
        self.engine, self.turns, self.left, self.kept = engine, turns, 0, list[Step]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def step(self, step: Step) -> dict[str, float]:
        """The engine's step, when it may; the last one of a turn ends it."""
        steps, said = self.turns.size.steps, {"jets": self.turns.size.steps * self.turns.size.batch}
        while not self.left:
            if self.turns.asked.get() == "training":
                self.left = steps
            else:
                for number in range(steps):
                    self.engine.step(self.kept[number % len(self.kept)])
                self.turns.done.put(said)
        self.kept = [*self.kept[1 - KEPT :], step]
        loss = self.engine.step(step)
        self.left -= 1
        if not self.left:
            self.turns.done.put(said)
        return loss
