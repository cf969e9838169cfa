"""A training whose workers or whose driver are killed gives the losses of one that was left alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jetscale.config import Values
from jetscale.events import Events
from jetscale.run import Run, resolve
from jetscale.train import checkpoint
from jetscale.train.launch import train
from jetscale.train.track import lines

pytestmark = pytest.mark.ray
MORTAL = str(Path(__file__).with_name("mortal.py"))
STEPS = 40


def _run(folder: Path, scale: Values, task: Values | None = None) -> Run:
    values = {"system": MORTAL, "task": {"notes": str(folder), **(task or {})}, "scale": scale,
              "stream": {"samples": {"toy": {"events": str(folder / "toy")}}}}  # fmt: skip
    return resolve([("test", values)], "test").run


def _losses(out: Path) -> list[float]:
    logged = lines(out, "step")
    assert [line["step"] for line in logged] == list(range(1, STEPS + 1)), "every step is logged once"
    return [line["loss"]["mass"] for line in logged]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    Events.write(_task().toy(3000, 1), folder / "toy", rows_per_shard=701)
    return folder


def _task() -> object:
    from jetscale.task import find

    return find(MORTAL).task()


@pytest.fixture(scope="module")
def alone(toy: Path) -> list[float]:
    """The losses of two workers that nobody kills."""
    return _losses(train(_run(toy, {"workers": 2, "stage": 2}), toy / "alone"))


def test_a_killed_worker_changes_no_loss(toy: Path, ray_here: None, alone: list[float]) -> None:
    task = {"dies_at": 22}
    out = train(_run(toy, {"workers": 2, "stage": 2}, task), toy / "worker")
    assert (toy / "died").exists(), "the worker was killed"
    (resumed,) = lines(out, "resume")
    assert 0 < resumed["step"] <= 22, "it did not begin anew"
    assert _losses(out) == pytest.approx(alone, rel=1e-6)
    assert not list(out.glob("ray-*")), "what Ray kept is gone"


DRIVER = """
from pathlib import Path
import sys
from test_resume import _run
from jetscale.train.launch import train
folder = Path(sys.argv[1])
train(_run(folder, {"workers": 2, "stage": 1}), folder / "driver")
"""


def test_a_killed_driver_changes_no_loss_at_another_world_size_and_stage(toy: Path, alone: list[float]) -> None:
    out = toy / "driver"
    (toy / "slow").touch()
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(toy)], env={**os.environ, "PYTHONPATH": path},
                              start_new_session=True)  # fmt: skip
    try:
        _until(lambda: len(checkpoint.every(out)) > 1 and len(lines(out, "step")) > 16)
        os.kill(driver.pid, signal.SIGKILL)
    finally:
        driver.kill()
        driver.wait()
    found = checkpoint.newest(out)
    assert found is not None and 0 < found[1].step < STEPS, "it was killed on its way"
    # Ray ends the workers of a dead driver within seconds; meanwhile they go on writing, and are waited for.
    (out / "checkpoints" / ".step-00000099.part").mkdir()
    train(_run(toy, {"workers": 1, "launch": "here", "stage": 3}), out)
    assert found[1].step <= lines(out, "resume")[0]["step"] < STEPS
    assert _losses(out) == pytest.approx(alone, rel=1e-4)
    left = sorted(place.name for place in (out / "checkpoints").iterdir())
    assert left == [place.name for place in checkpoint.every(out)], "old ones and orphans are pruned"
    assert len(left) == 2


def _until(true: object, seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.2)
