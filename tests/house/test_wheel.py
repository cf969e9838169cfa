"""What is installed: the wheel holds the jobs and works outside the clone."""

import json
import os
import re
import shlex
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
    quietly = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps"]
    subprocess.run([*quietly, "--target", str(place / "site"), str(wheel)], check=True, capture_output=True)
    return place / "site"


def run(installed: Path, cwd: Path, *words: str) -> str:
    """What a command prints, with the installed wheel and nothing of the clone on the path."""
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(installed)})  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def jetscale(installed: Path, cwd: Path, *arguments: str) -> str:
    return run(installed, cwd, sys.executable, "-m", "jetscale.cli", *arguments)


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


@pytest.fixture(scope="module")
def quickstart(installed, tmp_path_factory) -> tuple[Path, str]:
    """An empty folder outside the clone after `jetscale quickstart`, and what was printed."""
    place = tmp_path_factory.mktemp("outside")
    return place, jetscale(installed, place, "quickstart")


@pytest.mark.ray
def test_the_quickstart_says_what_it_does_and_writes_a_report(quickstart):
    place, printed = quickstart
    assert [line[:4] for line in printed.splitlines() if re.match(r"\d/5 .*\(about", line)] == [
        f"{n}/5 " for n in range(1, 6)
    ]
    assert "pid=" not in printed and "WARNING" not in printed, "banners belong in the log"
    assert "the report is quickstart/report/index.html" in printed
    results = json.loads((place / "quickstart/report/results.json").read_text())
    assert results["verdict"]
    assert (place / "quickstart/report/index.html").stat().st_size > 100_000
    assert list((place / "quickstart/report/figures").glob("*.pdf"))
    assert printed.count("standard errors) over") == 4


@pytest.mark.ray
def test_the_commands_to_try_next_can_be_tried(installed, quickstart):
    place, printed = quickstart
    commands = [shlex.split(line) for line in printed.splitlines() if line.strip().startswith("jetscale ")]
    assert [command[1] for command in commands] == ["train", "train", "score"]
    for _, _, job, *options in commands[:2]:
        sets = options[2:]
        shown = jetscale(installed, place, "show", job, *sets)
        assert "gluino-1500:" in shown or "workers: 2" in shown


@pytest.mark.ray
def test_the_readmes_ten_lines_give_masses(root, installed, quickstart):
    import awkward as ak

    place, _ = quickstart
    jets = {"jet_pt": [[900.0, 300.0, 200.0, 100.0], []], "jet_eta": [[0.1, 0.2, -1.0, 0.4], []],
            "jet_phi": [[0.0, 3.0, -2.0, 1.0], []], "jet_mass": [[90.0, 30.0, 20.0, 10.0], []]}  # fmt: skip
    ak.to_parquet(ak.Array(jets), place / "my_jets.parquet")
    block = next(block for block in python_blocks(root) if "my_jets.parquet" in block)
    printed = run(installed, place, sys.executable, "-c", block)
    assert "'reco_mass': 0.0" in printed and printed.count("reco_confidence") == 2
    jetscale(installed, place, "report", "quickstart/run", "--events", "my_scores", "--out", "my_report")
    assert (place / "my_report" / "index.html").is_file()


@pytest.mark.ray
def test_the_readmes_python_runs(root, installed, tmp_path):
    (tmp_path / "jobs").symlink_to(installed / "jetscale" / "jobs")
    block = next(block for block in python_blocks(root) if "from jetscale.train.launch import train" in block)
    assert "report/index.html" in run(installed, tmp_path, sys.executable, "-c", block)


def python_blocks(root: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (root / "README.md").read_text(), re.MULTILINE | re.DOTALL)
