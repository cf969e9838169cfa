"""From `jetscale train` to the first step, against the smallest script that does the same with the same libraries."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from jetscale.bench.measure import LOOK_S, ONE_THREAD, BenchError, Spent, Tree
from jetscale.bench.result import Figure, Result, Say
from jetscale.bench.train import toy
from jetscale.config import dump_yaml
from jetscale.events import Events
from jetscale.shape import shape

ALONE = {"RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0",
         "RAY_TRAIN_V2_ENABLED": "1"}  # fmt: skip
LONGEST_S = 300.0
SMALLEST = Path(__file__).with_name("smallest.py")


def start(folder: Path, events: int, rounds: int, say: Say) -> Result:
    """Seconds until the first step is done over those of the smallest script."""
    sample = toy(folder, events)
    sides = {"smallest script": _smallest, "jetscale train": _jetscale}
    played: dict[str, list[Spent]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides)[:: -1 if number % 2 else 1]:
            with TemporaryDirectory(dir=folder) as place:
                played[name].append(sides[name](Path(place), sample))
            say(f"round {number + 1} of {rounds}: {name}, {played[name][-1].wall_s:.1f} s")
    both = list(zip(played["jetscale train"], played["smallest script"], strict=True))
    figures = [
        Figure("jetscale train over the smallest script, seconds", [a.wall_s / b.wall_s for a, b in both], at_most=1.3),
        Figure("the same, CPU-seconds of all processes", [a.all_s / b.all_s for a, b in both]),
        *(Figure(name, [one.wall_s for one in of], "s") for name, of in played.items()),
    ]
    rounds_ = {name: [one._asdict() for one in of] for name, of in played.items()}
    return Result("start", figures, {"events": events, "rounds": rounds}, rounds_)


def _jetscale(place: Path, sample: Events) -> Spent:
    job, out = place / "job.yaml", place / "run"
    run = {
        "system": "assigner",
        "stream": {"samples": {"toy": {"events": str(sample.path)}}},
        "horizon": {"steps": 1},
        "scale": {"source": "ray"},
        "track": {"wandb": False, "log_every": 1},
    }
    job.write_text(dump_yaml({"train": run}))
    log = out / "log.jsonl"
    return _until([sys.executable, "-m", "jetscale.cli", "train", str(job), "--out", str(out)], place,
                  lambda: log.is_file() and '"kind": "step"' in log.read_text())  # fmt: skip


def _smallest(place: Path, sample: Events) -> Spent:
    laptop, done = shape("laptop"), place / "done"
    cpus = max(laptop.local_cpus, os.cpu_count() or 1)
    words = [str(SMALLEST), str(done), str(sample.path), str(cpus), str(laptop.local_object_store)]
    return _until([sys.executable, *words], place, done.is_file)


def _until(words: list[str], place: Path, done: Callable[[], bool]) -> Spent:
    """What a command has cost when something is done; it is then ended with all that it started.

    Raises:
        BenchError: the command ended before, or takes too long.
    """
    began = time.monotonic()
    with (place / "output.log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, env={**os.environ, **ONE_THREAD, **ALONE})
    tree = Tree(process.pid)
    try:
        while not done():
            tree.cpu_s()
            if process.poll() is not None and not done():
                raise BenchError(f"ended with {process.returncode}: {(place / 'output.log').read_text()[-2000:]}",
                                 where=" ".join(words), cure="run it by hand")  # fmt: skip
            if time.monotonic() - began > LONGEST_S:
                raise BenchError(f"no step after {LONGEST_S:g} s", where=" ".join(words), cure="run it by hand")
            time.sleep(LOOK_S / 4)
        wall_s, cpu_s = time.monotonic() - began, tree.cpu_s()
        process.wait(timeout=LONGEST_S)
    finally:
        tree.cpu_s()
        tree.kill()
        process.wait()
    return Spent(wall_s, cpu_s, cpu_s)
