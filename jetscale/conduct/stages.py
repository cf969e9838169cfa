"""A study from its samples to its page, stage by stage; what is done is found again, so that it can end at any time.

out/study.yaml     the study, at one size
out/samples        what was generated; out/parts has the parts that are judged
out/runs/NAME      a run's folder for every training
out/networks       the same networks with other read-outs
out/scored         scored samples, by method and read-out
out/judged         rows of the table, by method and read-out
out/study.parquet, ranks.parquet, claims.json, figures/, index.html
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from jetscale.conduct import report, samples
from jetscale.conduct.scores import JUDGED, Bench, Method, judge
from jetscale.conduct.table import Place, Ranked, Row
from jetscale.config import build, difference, dump_yaml, read_yaml
from jetscale.data.work import each, said
from jetscale.errors import ConfigError, JetscaleError, TrainError, nearest
from jetscale.evaluate.logs import seconds
from jetscale.events import write_text
from jetscale.run import Run
from jetscale.shape import shape
from jetscale.study import LOSSES, VERB, Found, Loss, Size, Study, Training
from jetscale.sweep.trials import Outcome, training
from jetscale.train import checkpoint

Stage = Literal["samples", "label", "mass", "score", "report"]
STAGES: tuple[Stage, ...] = get_args(Stage)
RUNS, KEPT = "runs", "study.yaml"


class Progress(NamedTuple):
    """How far a stage is, in units of its own, and a word on what is under way."""

    stage: Stage
    done: float
    of: float
    what: str = ""


@dataclass
class Clock:
    """How long there is: `seconds` None is for ever. `longest` is the longest piece of work so far, by kind."""

    seconds: float | None = None
    begun: float = field(default_factory=time.monotonic)
    longest: dict[str, float] = field(default_factory=dict)

    def allows(self, kind: str) -> bool:
        """Whether there is time for one more piece of work of a kind."""
        if self.seconds is None:
            return True
        return time.monotonic() - self.begun + self.longest.get(kind, 0.0) < self.seconds

    def took(self, kind: str, since: float) -> None:
        self.longest[kind] = max(self.longest.get(kind, 0.0), time.monotonic() - since)


class Work(NamedTuple):
    """A study at one size, in its folder."""

    study: Study
    size: Size
    name: str
    out: Path

    def folder(self, point: Training) -> Path:
        return self.out / RUNS / point.name

    def points(self, loss: Loss) -> list[Training]:
        return [point for point in self.study.trainings(self.size) if point.loss == loss]

    def run(self, point: Training, found: Mapping[str, Found], start: bool = True) -> Run:
        before = self.study.starts_from(point) if start else None
        return self.study.run(self.size, point, found, self.folder(before) if before else None)

    @property
    def methods(self) -> list[Method]:
        """Every network with every read-out, then the methods without a network."""
        return [
            *(Method(point.name, point, readout)
              for point in self.study.trainings(self.size) for readout in self.study.readouts),
            *(Method(name) for name in self.size.classical),
        ]  # fmt: skip


def check(work: Work) -> dict[str, Found]:
    """Refuse what cannot come to its end, before anything is started; what the samples will hold.

    Raises:
        ConfigError: settings of a run or of a generate job that cannot be, no such classical method or read-out, or a
            folder of another study.
        DataError: a sample that is missing.
    """
    from jetscale.physics import classical

    for name in work.size.classical:
        if name not in classical.names():
            raise ConfigError(f"no classical method {name!r}", where=f"sizes.{work.name}.classical",
                              cure=nearest(name, classical.names()))  # fmt: skip
    found = samples.expected(work.study, work.size)
    for point in work.study.trainings(work.size):
        run = work.run(point, found, start=False)
        shape(run.scale.shape)
        for readout in work.study.readouts:
            run.task.but(readout=readout)
    _refuse_another(work)
    return found


def _refuse_another(work: Work) -> None:
    file = work.out / KEPT
    if not file.is_file():
        if others := sorted(one.name for one in work.out.glob("[!._]*") if one.suffix != ".log"):
            raise ConfigError(f"holds {others[0]!r} and no study", where=str(work.out), cure="choose another --out")
        return
    there = build(Study, read_yaml(file)[VERB], str(file))
    here = work.study.at(work.name)
    if not here.grown_from(there):
        shown = "\n  ".join(difference(there, here))
        raise ConfigError(f"holds another study:\n  {shown}", where=f"--out {work.out}",
                          cure="choose another --out, or take back the change")  # fmt: skip


def conducting(work: Work, *, until: Stage = "report", most_s: float | None = None) -> Iterator[Progress]:
    """Go through the stages; whatever is there from an earlier time is taken as it is. It needs a Ray at hand.

    With `most_s` seconds no piece of work is begun that would probably not be done in time; `left` says what is left.

    Raises:
        ConfigError, DataError: see `check`.
        GenerateError: shards that could not be made.
        TrainError: trainings or scorings that failed, with their causes; the others are kept.
    """
    check(work)
    work.out.mkdir(parents=True, exist_ok=True)
    write_text(work.out / KEPT, dump_yaml({VERB: work.study.at(work.name).values()}))
    clock, wanted = Clock(most_s), STAGES[: STAGES.index(until) + 1]
    yield from _sampled(work, clock)
    if "label" not in wanted or not samples.complete(work.study, work.size, work.out):
        return
    found = samples.found(work.study, work.size, work.out)
    for loss in [loss for loss in LOSSES if loss in wanted]:
        yield from _trained(work, loss, found, clock)
        if untrained(work, loss):
            return
    if "score" not in wanted:
        return
    judged: dict[str, tuple[list[Row], list[Ranked]]] = {}
    yield from _scored(work, found, clock, judged)
    if "report" in wanted and len(judged) == len(work.methods):
        yield Progress("report", 0, 1)
        rows = [row for method in work.methods for row in judged[method.key][0]]
        ranks = [one for method in work.methods for one in judged[method.key][1]]
        report.write(work.study.at(work.name), work.size, work.out, found, rows, ranks,
                     {point: work.folder(point) for point in work.study.trainings(work.size)})  # fmt: skip
        yield Progress("report", 1, 1)


def _sampled(work: Work, clock: Clock) -> Iterator[Progress]:
    total = sum(job.events for job in samples.jobs(work.study, work.size).values())
    done = dict[str, int]()
    start = time.monotonic()
    for name, events, of in samples.generating(work.study, work.size, work.out):
        done[name] = events
        yield Progress("samples", sum(done.values()), total, f"{name}: {events:,} of {of:,} events")
        clock.took("samples", start)
        start = time.monotonic()
        if not clock.allows("samples") and not samples.complete(work.study, work.size, work.out):
            return


def untrained(work: Work, loss: Loss) -> list[Training]:
    """The points of the grid that have not been trained to their end."""
    return [point for point in work.points(loss) if not checkpoint.is_complete(work.folder(point))]


def unjudged(work: Work) -> list[Method]:
    """The methods that have no rows yet."""
    return [method for method in work.methods if not (work.out / JUDGED / f"{method.key}.json").is_file()]


def left(work: Work) -> list[str]:
    """What is still to be done, stage by stage, in words; nothing once the page is there."""
    found = [] if samples.complete(work.study, work.size, work.out) else ["samples"]
    found += [f"{number} {loss} trainings" for loss in LOSSES if (number := len(untrained(work, loss)))]
    found += [f"{number} scorings"] if (number := len(unjudged(work))) else []
    return [*found, "the page"] if found or not (work.out / report.PAGE).is_file() else []


def _trained(work: Work, loss: Loss, found: Mapping[str, Found], clock: Clock) -> Iterator[Progress]:
    """Train all points of a loss; those that are done come first, so that it is seen whose they are."""
    runs = {point.name: work.run(point, found) for point in work.points(loss)}
    missing = [point.name for point in untrained(work, loss)]
    done = [name for name in runs if name not in missing]
    clock.longest[loss] = max([seconds(work.out / RUNS / name) or 0.0 for name in done], default=0.0)
    for batch in _batches(missing, clock, parallel(runs)) or [[]]:
        if batch and not clock.allows(loss):
            return
        start = time.monotonic()
        for state in training({name: runs[name] for name in (*done, *batch)}, work.out / RUNS, group="study"):
            over = sum(outcome.status == "done" for outcome in state.values())
            yield Progress(loss, over, len(runs), _under_way(state))
            last = state
        if broken := [outcome for outcome in last.values() if outcome.status != "done"]:
            causes = "\n".join(f"  {one.name}: {one.error or 'was interrupted'}" for one in broken)
            raise TrainError(f"{len(broken)} of {len(batch)} trainings failed\n{causes}", where=str(work.out / RUNS),
                             cure="mend the cause, then the same command once more: the others are kept")  # fmt: skip
        done += batch
        clock.took(loss, start)


def _under_way(state: Mapping[str, Outcome]) -> str:
    """The trainings that are at work, with their newest figure."""
    running = [one for one in state.values() if one.status == "running"]
    return ", ".join(f"{one.name} epoch {one.epoch:.0f}"
                     + (f" f10 {one.figures['f10']:.3f}" if one.figures.get("f10") is not None else "")
                     for one in running)  # fmt: skip


def parallel(runs: Mapping[str, Run]) -> int:
    """How many trainings this machine holds at a time."""
    scale = next(iter(runs.values())).scale
    return max(1, int((os.cpu_count() or 1) / (shape(scale.shape).cpus_per_worker * scale.workers)))


def _batches(names: Sequence[str], clock: Clock, number: int) -> list[list[str]]:
    """All at once, or as many as there is room for where time is short: between two batches it can end."""
    if clock.seconds is None:
        return [list(names)] if names else []
    rest = iter(names)
    return [list(batch) for batch in iter(lambda: list(islice(rest, number)), [])]


def _scored(work: Work, found: Mapping[str, Found], clock: Clock,
            judged: dict[str, tuple[list[Row], list[Ranked]]]) -> Iterator[Progress]:  # fmt: skip
    """Score and judge with every method; fills `judged`."""
    methods = {method.key: method for method in work.methods}
    yield Progress("score", 0, len(methods))
    events = samples.judged(work.study, work.size, work.out)
    where = {name: str(one.path.absolute()) for name, one in events.items()}
    bench = Bench(work.out.absolute(), where, found, places(work.study, found), work.study.background,
                  _label(work, found), work.size.replicas)  # fmt: skip
    problems = []
    for batch in _batches(list(methods), clock, os.cpu_count() or 1):
        if not clock.allows("score"):
            return
        start = time.monotonic()
        tasks = {key: (methods[key], _folder(work, methods[key])) for key in batch}
        for key, result in each(judge, bench, tasks, retries=1):
            if isinstance(result, Exception):
                problems.append(f"  {key}: {said(result)}")
            else:
                judged[key] = result
            yield Progress("score", len(judged), len(methods), key)
        clock.took("score", start)
    if problems:
        raise JetscaleError(f"{len(problems)} scorings failed\n" + "\n".join(problems), where=str(work.out),
                            cure="mend the cause, then the same command once more: the others are kept")  # fmt: skip


def _folder(work: Work, method: Method) -> Path | None:
    return work.folder(method.training).absolute() if method.training else None


def _label(work: Work, found: Mapping[str, Found]) -> str:
    task = work.run(work.study.trainings(work.size)[0], found, start=False).task
    return f"jet_parent_{getattr(task, 'label', 'ancestry')}"


def places(study: Study, found: Mapping[str, Found]) -> dict[str, Place]:
    """Where every signal lies, as the mixed masses see it."""
    trained = [found[name] for name in study.signals("mixed")]
    masses, modes = [one.true_mass for one in trained], {one.decay_mode for one in trained}
    kinds: dict[str, Place] = {}
    for name, one in found.items():
        if name == study.background:
            continue
        if one.decay_mode not in modes:
            kinds[name] = "decay"
        elif name not in study.holdouts:
            kinds[name] = "trained"
        else:
            kinds[name] = "inside" if min(masses) <= one.true_mass <= max(masses) else "outside"
    return kinds
