"""Trainings on Ray Tune: a trial among others is what it is alone, whatever becomes of them, and of the driver."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jetscale.config import Values
from jetscale.events import Events
from jetscale.run import Run, read, resolve
from jetscale.sweep import tune
from jetscale.sweep.trial import Trial, here
from jetscale.sweep.trials import Outcome, train_all
from jetscale.task import find
from jetscale.train import checkpoint, launch
from jetscale.train.track import lines

pytestmark = pytest.mark.ray
MORTAL = str(Path(__file__).with_name("mortal.py"))
TIMES = ("seconds", "left_s", "events_per_s", "wait")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    Events.write(find(MORTAL).task().toy(1500, 1), folder / "toy", rows_per_shard=400)
    return folder


def _run(folder: Path, task: Values | None = None, **more: object) -> Run:
    values = {"system": MORTAL, "task": {"notes": str(folder), **(task or {})},
              "stream": {"samples": {"toy": {"events": str(folder / "toy")}}}, **more}  # fmt: skip
    return resolve([("test", values)], "test").run


def _said(out: Path) -> list[Values]:
    """The log without times."""
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines(out)]


ALONE = """
import json, sys
from pathlib import Path
from jetscale.config import build
from jetscale.run import Run
from jetscale.sweep.trial import here
from jetscale.train.launch import train
for name, values in json.loads(sys.argv[1]).items():
    train(here(build(Run, values, "test")), Path(sys.argv[2]) / name)
"""


@pytest.fixture(scope="module")
def runs(toy: Path) -> dict[str, Run]:
    """Four that are well, with both engines; one that cannot learn, and one whose process is killed."""
    torch, deepspeed = ({"scale": {"engine": engine}} for engine in ("torch", "deepspeed"))
    return {
        "first": _run(toy, **torch),
        "broken": _run(toy, **torch, optimiser={"rate": 1e30, "clip": 0.0}),
        "second": _run(toy, **torch, seed=2),
        "third": _run(toy, **deepspeed, seed=3),
        "fourth": _run(toy, **deepspeed, seed=4),
        "killed": _run(toy, {"dies_at": 22}, **deepspeed, seed=5),
    }


@pytest.fixture(scope="module")
def trained(toy: Path, runs: dict[str, Run], ray_here: None) -> dict[str, Outcome]:
    """All of them one after the other, in one process as long as it lives."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tune, "at_once", lambda _: 1)
        return train_all(runs, toy / "trials")


def test_a_failing_trial_is_recorded_and_harms_no_other(trained: dict[str, Outcome]) -> None:
    assert {name: one.status for name, one in trained.items()} == {
        "first": "done", "broken": "failed", "second": "done", "third": "done", "fourth": "done", "killed": "done",
    }  # fmt: skip
    broken = trained["broken"]
    assert "the loss of step 1 is not finite" in broken.error
    assert (broken.folder / "error.txt").read_text().startswith(broken.error)


def test_a_killed_trial_goes_on_in_another_process(toy: Path, trained: dict[str, Outcome]) -> None:
    assert (toy / "died").exists(), "it was killed"
    (resumed,) = lines(trained["killed"].folder, "resume")
    assert 0 < resumed["step"] <= 22, "it did not begin anew"
    assert trained["killed"].figures["mass_auc"] is not None


def test_a_trial_in_a_used_process_equals_the_trial_alone(
    toy: Path, runs: dict[str, Run], trained: dict[str, Outcome]
) -> None:
    pids = [json.loads(line) for line in (toy / "pids").read_text().splitlines()]
    first = {one["seed"]: one["pid"] for one in reversed(pids)}
    assert len(trained) == 6 and len({first[seed] for seed in range(1, 6)}) == 1, "all in one process"
    names = ("second", "fourth")
    given = [json.dumps({name: runs[name].values()}) for name in names]
    alone = [subprocess.Popen([sys.executable, "-c", ALONE, one, str(toy / "alone")]) for one in given]
    assert [one.wait(300) for one in alone] == [0, 0]
    for name in names:
        ours, theirs = toy / "trials" / name, toy / "alone" / name
        assert _said(ours) == _said(theirs) and len(lines(ours, "step")) == 40
        for file in ("weights.safetensors", "memory-000.safetensors", "at.json"):
            mine, other = (checkpoint.every(place)[-1] / file for place in (ours, theirs))
            assert mine.read_bytes() == other.read_bytes(), f"{name}: {file}"


def test_a_finished_trial_is_left_and_a_new_one_trained(toy: Path, runs: dict[str, Run], trained: object) -> None:
    before = {name: (toy / "trials" / name / "log.jsonl").read_bytes() for name in ("first", "second")}
    more = {"first": runs["first"], "second": runs["second"], "new": _run(toy, scale={"engine": "torch"}, seed=9)}
    found = train_all(more, toy / "trials")
    assert [one.status for one in found.values()] == ["done"] * 3
    assert {name: (toy / "trials" / name / "log.jsonl").read_bytes() for name in before} == before


SWEEP = """
import sys
from pathlib import Path
from test_sweep_ray import _slow
from jetscale.sweep.trials import train_all
train_all(_slow(Path(sys.argv[1])), Path(sys.argv[1]) / "cut")
"""


def _slow(toy: Path) -> dict[str, Run]:
    return {f"seed={seed}": _run(toy, scale={"engine": "torch"}, seed=seed) for seed in (11, 12, 13, 14)}


def test_a_killed_driver_loses_nothing_that_was_finished(toy: Path, ray_here: None) -> None:
    out = toy / "cut"
    (toy / "slow").touch()
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    driver = subprocess.Popen([sys.executable, "-c", SWEEP, str(toy)], env={**os.environ, "PYTHONPATH": path},
                              start_new_session=True)  # fmt: skip
    try:
        until = time.monotonic() + 600
        while not any(map(checkpoint.is_complete, out.glob("seed=*"))):
            assert time.monotonic() < until and driver.poll() is None, "no trial came to its end"
            time.sleep(0.05)
        os.kill(driver.pid, signal.SIGKILL)
    finally:
        driver.kill()
        driver.wait()
        (toy / "slow").unlink()
    done = {place: (place / "log.jsonl").read_bytes() for place in out.glob("seed=*") if checkpoint.is_complete(place)}
    assert 0 < len(done) < 4, "it was killed on its way"
    found = train_all(_slow(toy), out)
    assert [one.status for one in found.values()] == ["done"] * 4
    assert {place: (place / "log.jsonl").read_bytes() for place in done} == done
    assert not list(out.glob(".tune-*")), "what Ray kept is gone"


def test_a_larger_trial_is_a_ray_train_run(toy: Path, ray_here: None) -> None:
    run = _run(toy, scale={"workers": 2, "engine": "torch"})
    trial = Trial("large", here(run), toy / "large" / "two", launch.prepare(run, run.stream.open()))
    assert tune.at_once(trial) == 1, "four logical CPUs hold the workers of one such trial, and of half another"
    (found,) = train_all({"two": run}, toy / "large").values()
    assert found.status == "done" and len(lines(found.folder, "step")) == 40
    assert read(found.folder).scale.workers == 2
