"""What is installed: the wheel holds the jobs and works outside the clone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def installed(root, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)], cwd=root, check=True,
                   capture_output=True)  # fmt: skip
    (wheel,) = place.glob("*.whl")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-index",
        "--no-deps",
        "--target",
        str(place / "site"),
        str(wheel),
    ]
    subprocess.run(pip, check=True, capture_output=True)
    return place / "site"


def jetscale(installed: Path, cwd: Path, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "jetscale.cli", *arguments], cwd=cwd, capture_output=True, text=True,
                          check=False, env={**os.environ, "PYTHONPATH": str(installed)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_all_that_is_needed(root, installed):
    for source, target in (("jobs", "jobs"), ("cluster/shapes", "shapes"), ("jetscale/data/sample", "data/sample")):
        wanted = {path.relative_to(root / source) for path in (root / source).rglob("*") if path.is_file()}
        have = {
            path.relative_to(installed / "jetscale" / target) for path in (installed / "jetscale" / target).rglob("*")
        }
        assert wanted, f"{source} is empty"
        assert wanted <= have


def test_help_outside_the_clone(installed, tmp_path):
    assert "quickstart" in jetscale(installed, tmp_path, "--help")


def test_show_outside_the_clone(root, installed, tmp_path):
    jobs = sorted((root / "jobs").rglob("*.yaml"))
    train = next(job for job in jobs if "train:" in job.read_text().splitlines())
    shown = jetscale(
        installed, tmp_path, "show", str(installed / "jetscale" / "jobs" / train.relative_to(root / "jobs"))
    )
    assert "horizon:" in shown
