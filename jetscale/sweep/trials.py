"""Many trainings side by side: each in a folder of its own, whatever becomes of the others."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from jetscale.axes import Asha, Metric
from jetscale.config import digest
from jetscale.data.cluster import cluster
from jetscale.errors import ConfigError, JetscaleError
from jetscale.run import Run
from jetscale.shape import shape
from jetscale.sweep.trial import ERROR, Trial, error_of, here, in_group, write_error
from jetscale.sweep.tune import tuned
from jetscale.terminal import BEGINNINGS, Tail
from jetscale.train import checkpoint, launch
from jetscale.train.launch import Counted
from jetscale.train.rungs import Rungs
from jetscale.train.track import lines

Status = Literal["waiting", "running", "done", "stopped", "failed"]
LONGEST = 200  # letters of a name: file systems take 255
OVER = ("done", "stopped", "failed")
LOOK_S = 0.5


class Outcome(NamedTuple):
    """How far a training has come; `figures` are those of the newest validation, at the end of the network kept."""

    name: str
    folder: Path
    status: Status = "waiting"
    epoch: float = 0.0
    figures: Mapping[str, float | None] = {}
    error: str = ""


State = Mapping[str, Outcome]


def train_all(runs: Mapping[str, Run], out: Path, *, stop: Asha | None = None, metric: Metric | None = None,
              group: str = "", counted: Mapping[str, Counted] | None = None) -> dict[str, Outcome]:  # fmt: skip
    """Train every run in the folder `out/NAME`, and say what has become of each; see `training`."""
    *_, last = training(runs, out, stop=stop, metric=metric, group=group, counted=counted)
    return dict(last)


def training(runs: Mapping[str, Run], out: Path, *, stop: Asha | None = None, metric: Metric | None = None,
             group: str = "", counted: Mapping[str, Counted] | None = None) -> Iterator[State]:  # fmt: skip
    """Train every run in the folder `out/NAME`; yields how far all are, each time that something has changed.

    A folder that holds its run trained to the end is left as it is, an unfinished one is gone on with. A training that
    fails leaves `error.txt` in its folder and harms no other. With `stop` those are ended early whose `metric` is not
    good enough. Runs of one worker share processes, which are used again and again; larger ones are Ray Train runs,
    as many at a time as the cluster holds. `group` is that of Weights & Biases, `counted` what `counts` has found.

    Raises:
        ConfigError: names that are no folders, `stop` without `metric`, or a run that is too large for the cluster.
        TrainError: a folder of another run.
    """
    check(runs, stop, metric)
    folders = {name: (out / name).absolute() for name in runs}
    state = {name: Outcome(name, folder) for name, folder in folders.items()}
    grouped = {name: in_group(run, group) for name, run in runs.items()}
    waiting = _prepared(grouped, folders, counted or {})
    trials = [
        Trial(name, here(grouped[name]), folders[name], counted,
              Rungs(stop, metric, folders[name], list(folders.values())) if stop and metric else None)
        for name, counted in waiting.items()
    ]  # fmt: skip
    state |= {name: ended(state[name]) for name in runs if name not in waiting}
    yield dict(state)
    if trials:
        yield from _followed(trials, state)


def _followed(trials: list[Trial], state: dict[str, Outcome]) -> Iterator[State]:
    """The state as the trials' logs and folders tell it, while Ray Tune is at work."""
    watches = {trial.name: Watch(state[trial.name]) for trial in trials}
    with cluster(shape(trials[0].run.scale.shape)), tuned(trials) as at_work:
        while True:
            over = not at_work()  # asked first: what happens until the look is then seen by it
            now = {name: watch.look(over) for name, watch in watches.items()}
            for name in [name for name, outcome in now.items() if outcome.status in OVER]:
                del watches[name]
            if any(state[name] != outcome for name, outcome in now.items()):
                state |= now
                yield dict(state)
            if over:
                return
            time.sleep(LOOK_S)


class Watch:
    """Looks at a training's folder now and then."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.tail = Tail(outcome.folder / "log.jsonl")

    def look(self, over: bool) -> Outcome:
        """How far it is; `over` says that nobody is at work any more."""
        last = self.tail.last()
        if over or "end" in last or (self.outcome.folder / ERROR).is_file():
            self.outcome = ended(self.outcome)
        elif begun := last.get("resume", last.get("start")):
            self.outcome = self.outcome._replace(status="running")
            if line := last.get("validation"):
                epoch = line["step"] / begun["steps_per_epoch"]
                self.outcome = self.outcome._replace(epoch=epoch, figures=line["metrics"])
        return self.outcome


def ended(outcome: Outcome) -> Outcome:
    """What has become of a training that is over; as it was if neither a checkpoint nor an error says so."""
    if error := error_of(outcome.folder):
        return outcome._replace(status="failed", figures={}, error=error)
    if not checkpoint.is_complete(outcome.folder):
        return outcome
    last, kept = checkpoint.newest(outcome.folder), checkpoint.ending(outcome.folder)
    assert last is not None  # it is complete
    begun = [line for line in lines(outcome.folder) if line["kind"] in BEGINNINGS]
    epoch = last[1].step / begun[-1]["steps_per_epoch"] if begun else float(last[1].epoch)
    return outcome._replace(status="stopped" if last[1].ended == "stopped" else "done", epoch=epoch,
                            figures=kept.figures)  # fmt: skip


def check(runs: Mapping[str, Run], stop: Asha | None, metric: Metric | None) -> None:
    """Refuse what cannot be meant.

    Raises:
        ConfigError: names that are no folders, or a rule that stops by no figure.
    """
    for name in runs:
        if not name or name.startswith(".") or set(name) & set("/\\\0\n") or len(name.encode()) > LONGEST:
            raise ConfigError(f"{name!r} cannot be the name of a trial's folder", where="trials",
                              cure=f"use at most {LONGEST} letters and digits, no / and no leading dot")  # fmt: skip
    if stop and not metric:
        raise ConfigError("trials can only be stopped by a figure", where="stop", cure="say which: metric: {name: f10}")


def _prepared(runs: Mapping[str, Run], folders: Mapping[str, Path], counted: Mapping[str, Counted]
              ) -> dict[str, Counted]:  # fmt: skip
    """What is known of the samples of those that are not at their end.

    Raises:
        TrainError: a folder of another run.
    """
    found = {}
    known = {**counts({name: run for name, run in runs.items() if name not in counted}), **counted}
    for name, run in runs.items():
        (folders[name] / ERROR).unlink(missing_ok=True)
        one = known[name]
        if isinstance(one, JetscaleError):
            write_error(folders[name], one)
        elif not launch.finished(run, launch.name_of(run, one), folders[name]):
            found[name] = one
    return found


def counts(runs: Mapping[str, Run]) -> dict[str, Counted | JetscaleError]:
    """What is known of every run's samples, or what is wrong with them; counted once for all that have them alike."""
    known: dict[str, Counted | JetscaleError] = {}
    found = {}
    for name, run in runs.items():
        alike = _samples_of(run)
        if alike not in known:
            known[alike] = _count(run)
        found[name] = known[alike]
    return found


def _count(run: Run) -> Counted | JetscaleError:
    try:
        return launch.prepare(run, run.stream.open())
    except JetscaleError as problem:
        return problem


def _samples_of(run: Run) -> str:
    """What decides the counts: everything of the stream but the mixture and the weights, and the columns needed."""
    stream = run.stream.values()
    sources = {name: {**source, "share": None, "weight": 1.0} for name, source in stream["samples"].items()}
    seed = run.seed if run.stream.derive else 0  # only derived columns may draw
    return digest([{**stream, "samples": sources}, run.task.columns.values(), seed])
