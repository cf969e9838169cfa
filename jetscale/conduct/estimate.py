"""How long a study will take, from a few steps, read-outs and resamplings that are made beforehand."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from jetscale import metrics
from jetscale.conduct import samples
from jetscale.conduct.scores import Method
from jetscale.conduct.stages import Work, parallel, unjudged, untrained
from jetscale.conduct.table import FIGURES
from jetscale.data.batch import batch
from jetscale.events import Events
from jetscale.metrics import Table
from jetscale.physics import classical
from jetscale.physics.kinematics import p4
from jetscale.run import Run
from jetscale.shape import shape
from jetscale.study import LOSSES, Found, Training
from jetscale.task import At, Batch

ROWS, TIMES = 256, 3
# Events per CPU-second that pass the usual selection, without further interactions of the protons.
SIGNAL_PER_S, BACKGROUND_PER_S, WITH_MPI = 200.0, 20.0, 0.4
OVER_STEP = 1.15  # a step with the reading of its rows and the optimiser, over forward and backward alone


class Rate(NamedTuple):
    """CPU-seconds of a row in training and in validation."""

    step: float
    validation: float


def estimate(work: Work, found: Mapping[str, Found]) -> list[str]:
    """What is still to be done, in words, and how long that takes on this machine; without GPUs alone."""
    points = [point for loss in LOSSES for point in untrained(work, loss)]
    methods = unjudged(work)
    what = f"{len(points)} trainings and {len(methods)} scorings are to be done"
    first = work.run(work.study.trainings(work.size)[0], found, start=False)
    if shape(first.scale.shape).gpus_per_worker:
        return [f"{what}; how long that takes on GPUs is not known beforehand"]
    if not points and not methods:
        return []
    torch.set_num_threads(1)
    rates = _rates(work, found, points)
    stages = {
        "generating": _generating(work),
        "training": sum(_training(work, one, found, rates[one.network, one.loss]) for one in points),
        "scoring": _scoring(work, found, methods),
    }
    at_once = parallel({"": first})
    shown = ", ".join(f"{name} {_time(seconds / at_once)}" for name, seconds in stages.items() if seconds)
    return [f"{what}: about {_time(sum(stages.values()) / at_once)} with {at_once} at a time ({shown})"]


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _generating(work: Work) -> float:
    seconds = 0.0
    for name, job in samples.jobs(work.study, work.size).items():
        if not (work.out / samples.FOLDER / name).is_dir():
            rate = BACKGROUND_PER_S if job.signal is None else SIGNAL_PER_S
            seconds += job.events / (rate * (WITH_MPI if job.mpi else 1.0))
    return seconds


def _rates(work: Work, found: Mapping[str, Found], points: Sequence[Training]) -> dict[tuple[str, str], Rate]:
    """What a row costs with every network and loss."""
    alike: dict[tuple[str, str], Training] = {(point.network, point.loss): point for point in points}
    return {key: _rate(work, work.run(point, found, start=False)) for key, point in alike.items()}


def _rate(work: Work, run: Run) -> Rate:
    net, rows = run.task.build(run.seed, run.task.neutral()), _batch(work, run)
    step = _seconds(lambda: _forth_and_back(run.task.loss(net, rows)))
    return Rate(OVER_STEP * step / ROWS, _seconds(lambda: run.task.score(net, rows)) / ROWS)


def _forth_and_back(terms: Mapping[str, Tensor]) -> None:
    torch.stack([value_B.mean() for value_B in terms.values()]).sum().backward()


def _training(work: Work, point: Training, found: Mapping[str, Found], rate: Rate) -> float:
    run = work.run(point, found, start=False)
    events = sum(found[name].events for name in run.stream.samples)
    rows = events * work.study.split.train
    horizon = run.horizon
    seen = horizon.events or (horizon.steps or 0) * run.scale.events_per_step or (horizon.epochs or 0) * rows
    looks = seen / rows / run.track.validate_every * min(events * work.study.split.validation,
                                                         run.stream.validation_rows)  # fmt: skip
    return seen * rate.step + looks * rate.validation


def _scoring(work: Work, found: Mapping[str, Found], methods: list[Method]) -> float:
    study = work.study
    events = {name: one.events * (1.0 if name in study.holdouts else study.split.test) for name, one in found.items()}
    below = events[study.background]
    judging = _judging(work) * sum(count + below for name, count in events.items() if name != study.background)
    alike = {_kind(method): method for method in methods}
    costs = {kind: _method(work, found, method) for kind, method in alike.items()}
    return sum(judging + costs[_kind(method)] * sum(events.values()) for method in methods)


def _kind(method: Method) -> str:
    """Methods of one kind cost the same."""
    return f"{method.training.network} {method.readout}" if method.training else method.name


def _judging(work: Work) -> float:
    """CPU-seconds of an event in all resamplings."""
    dice = np.random.default_rng(1)
    size = 2000
    mass_B, ones_B = dice.normal(1000, 200, size), np.ones(size)
    signal_B = np.arange(size) % 2 == 0
    table = Table(mass_B, np.where(signal_B, 1000.0, 0.0), ones_B, ~signal_B, np.ones(size, dtype=np.int64),
                  np.ones(size, dtype=np.int64))  # fmt: skip
    spent = _seconds(lambda: metrics.bootstrap({"": table}, FIGURES, replicas=5))
    return spent / size / 6 * (work.size.replicas + 1)


def _method(work: Work, found: Mapping[str, Found], method: Method) -> float:
    """CPU-seconds of an event with a method."""
    run = work.run(method.training or work.study.trainings(work.size)[0], found, start=False)
    rows = _batch(work, run)
    if method.training:
        task = run.task.but(readout=method.readout)
        net = task.build(run.seed, task.neutral())
        return _seconds(lambda: task.score(net, rows)) / ROWS
    jets = p4(*(rows[f"jet_{part}"].double() for part in ("pt", "eta", "phi", "mass"))), rows.mask("jet")
    return _seconds(lambda: classical.find(method.name)(*jets)) / ROWS


def _batch(work: Work, run: Run) -> Batch:
    """Real events, where some ship, or else the task's own toy."""
    there = [sample.events for sample in work.study.samples.values() if sample.events]
    names = run.task.columns.names
    table = Events.open(there[0]).read(names) if there else run.task.toy(ROWS, 1).select(names)
    table = table.slice(0, ROWS)
    rows = np.arange(table.num_rows)
    return batch([table], run.task.columns, np.ones(len(rows)), 0 * rows, rows, At(0, 0, 0.5), run.seed)


def _seconds(work: Callable[[], Any]) -> float:
    """CPU-seconds of one call, the best of a few after one that is not counted."""
    work()
    spent = []
    for _ in range(TIMES):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return min(spent)
