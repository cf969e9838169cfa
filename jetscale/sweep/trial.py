"""One trial: a run that is trained in its folder, and whose failure is written down there."""

from __future__ import annotations

import gc
import traceback
from pathlib import Path
from typing import NamedTuple

from jetscale.config import Values, build
from jetscale.data.work import said
from jetscale.errors import JetscaleError
from jetscale.events import write_text
from jetscale.run import Run
from jetscale.train import launch
from jetscale.train.launch import Counted
from jetscale.train.rungs import Rungs

ERROR = "error.txt"


class Trial(NamedTuple):
    """A run with its folder, what is known of its samples, and what may stop it."""

    name: str
    run: Run
    folder: Path
    counted: Counted
    rungs: Rungs | None = None

    @property
    def large(self) -> bool:
        """Whether it is a Ray Train run of its own, instead of a training in the trial's process."""
        return self.run.scale.launch == "ray"

    def __reduce__(self) -> tuple[object, ...]:
        """To another process the run goes as plain values: a user's own system is no module that it could import."""
        return _received, (self.name, self.run.values(), self.folder, self.counted, self.rungs)


def _received(name: str, run: Values, folder: Path, counted: Counted, rungs: Rungs | None) -> Trial:
    return Trial(name, build(Run, run, f"trial {name}"), folder, counted, rungs)


def here(run: Run) -> Run:
    """The run as it is done inside a trial: with one worker, in the trial's own process; its digest is the same."""
    if run.scale.workers > 1:
        return run
    return run.model_copy(update={"scale": run.scale.but(launch="here", source="pyarrow")})


def in_group(run: Run, group: str) -> Run:
    """The run in a group of Weights & Biases."""
    return run.model_copy(update={"track": run.track.but(group=group)}) if group else run


def train_trial(trial: Trial) -> None:
    """Train; what goes wrong stands in the folder afterwards and ends nothing else."""
    try:
        launch.train(trial.run, trial.folder, trial.counted, trial.rungs)
    except Exception as problem:  # one failure must not end the others
        write_error(trial.folder, problem)
    gc.collect()  # a network of the trial before would otherwise stay beside the next one's


def write_error(folder: Path, problem: Exception) -> None:
    """What was wrong, and for what is not ours also where."""
    folder.mkdir(parents=True, exist_ok=True)
    where = "" if isinstance(problem, JetscaleError) else "\n" + "".join(traceback.format_exception(problem))
    write_text(folder / ERROR, f"{said(problem)}\n{where}")


def error_of(folder: Path) -> str:
    """What was wrong, without where; empty if nothing was."""
    file = folder / ERROR
    return file.read_text().partition("\n\n")[0].strip() if file.is_file() else ""
