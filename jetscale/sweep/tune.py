"""Ray Tune at work on trials, in a thread of its own: what it has done is read off the trials' folders."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

from jetscale.config import Values
from jetscale.errors import ConfigError
from jetscale.shape import shape
from jetscale.sweep.trial import Trial, train_trial, write_error
from jetscale.train.failure import failure
from jetscale.train.launch import source

TUNES = ".tune-"
RETRIES = 1  # of a trial whose process dies
DRIVER_CPUS = 0.01  # of a trial that waits for its own workers
# Tune's own records would be written for nobody: the trials' folders are the truth.
QUIET = {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
         "TUNE_DISABLE_SIGINT_HANDLER": "1"}  # fmt: skip


@contextmanager
def tuned(trials: Sequence[Trial]) -> Iterator[Callable[[], bool]]:
    """Train all of them; yields a function that says whether somebody is still at work. It needs a Ray at hand.

    Raises:
        ConfigError: a trial that is too large for the cluster.
    """
    alike: dict[tuple[bool, int, str], list[Trial]] = {}
    for trial in trials:
        alike.setdefault((trial.large, trial.run.scale.workers, trial.run.scale.shape), []).append(trial)
    waves = [(wave, at_once(wave[0])) for _, wave in sorted(alike.items())]
    for left in trials[0].folder.parent.glob(f"{TUNES}*"):
        shutil.rmtree(left, ignore_errors=True)
    problems: list[Exception] = []

    def work() -> None:
        try:
            for wave, number in waves:
                _fit(wave, number)
        except Exception as problem:  # handed to whoever looks
            problems.append(problem)

    thread = threading.Thread(target=work, name="jetscale-tune", daemon=True)
    thread.start()
    yield thread.is_alive
    thread.join()
    if problems:
        raise problems[0]


def at_once(trial: Trial) -> int:
    """How many trials like this one the cluster holds at a time, with the reading of their samples.

    Raises:
        ConfigError: not even one.
    """
    import ray

    have, nodes = ray.cluster_resources(), [node for node in ray.nodes() if node["Alive"]]
    cpus = have.get("CPU", 0.0)
    if len(nodes) == 1 and not trial.large:
        cpus = min(cpus, os.cpu_count() or 1)  # a Ray of one machine has more logical CPUs than cores
    need, given = needs(trial), shape(trial.run.scale.shape)
    gpus = trial.run.scale.workers * given.gpus_per_worker
    fitting = min(cpus / need, have.get("GPU", 0.0) / gpus if gpus else float("inf"))
    if fitting < 1:
        raise ConfigError(f"needs {need:g} CPUs and {gpus:g} GPUs, and the cluster has {have.get('CPU', 0.0):g} and "
                          f"{have.get('GPU', 0.0):g}", where=f"trial {trial.name}",
                          cure="use fewer scale.workers, another scale.shape or a larger cluster")  # fmt: skip
    return int(fitting)


def needs(trial: Trial) -> float:
    """CPUs that a trial keeps busy: its workers, and with Ray Data the tasks that read for them."""
    scale, given = trial.run.scale, shape(trial.run.scale.shape)
    if not trial.large:
        return given.cpus_per_worker
    reads = given.reads_per_worker * given.cpus_per_read if source(trial.run) == "ray" else 0.0
    return scale.workers * (given.cpus_per_worker + reads) + DRIVER_CPUS


def _fit(wave: Sequence[Trial], number: int) -> None:
    """Train trials that are alike, so many at a time."""
    os.environ.update(QUIET)
    from ray import tune

    given, by_name = shape(wave[0].run.scale.shape), {trial.name: trial for trial in wave}
    gpus = {"GPU": given.gpus_per_worker} if given.gpus_per_worker and not wave[0].large else {}
    own = {"CPU": DRIVER_CPUS if wave[0].large else given.cpus_per_worker, **gpus}
    wave[0].folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=TUNES, dir=wave[0].folder.parent, ignore_cleanup_errors=True) as storage:
        results = tune.Tuner(
            tune.with_resources(tune.with_parameters(_train, trials=by_name), own),
            param_space={"name": tune.grid_search(list(by_name))},
            tune_config=tune.TuneConfig(
                max_concurrent_trials=number, reuse_actors=True, trial_name_creator=_id, trial_dirname_creator=_id
            ),
            run_config=tune.RunConfig(
                name="tune", storage_path=storage, verbose=0, failure_config=tune.FailureConfig(max_failures=RETRIES)
            ),
        ).fit()
    for result in results:
        if result.error is not None and result.config is not None:
            folder = by_name[result.config["name"]].folder
            write_error(folder, failure(result.error, folder))


def _train(config: Values, trials: Mapping[str, Trial]) -> None:
    """The function that Ray Tune runs in its processes, one trial after the other in each of them."""
    train_trial(trials[config["name"]])


def _id(trial: Any) -> str:
    return str(trial.trial_id)
