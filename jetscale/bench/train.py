"""Training steps against a torch loop on tensors in memory: same network, same loss, same optimiser."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from jetscale.bench.measure import Player, Spent
from jetscale.bench.pace import Pace, paced
from jetscale.bench.result import Figure, Result, Say, ratio
from jetscale.config import Values
from jetscale.events import MANIFEST, Events
from jetscale.run import Run, resolve
from jetscale.task import find

LARGE, DEFAULT = {"width": 480}, dict[str, Any]()


class Case(NamedTuple):
    """One engine with one network, and the ratio that it should reach."""

    name: str
    task: Mapping[str, Any]
    scale: Mapping[str, Any]
    block: int
    target: float | None = None


HERE, RAY = {"engine": "torch", "launch": "here"}, {"engine": "deepspeed", "launch": "ray"}
CASES = (
    Case("plain engine, large network", LARGE, HERE, 12, 0.95),
    Case("DeepSpeed under Ray, large network", LARGE, RAY, 12, 0.9),
    Case("DeepSpeed under Ray, 2 workers, large network", LARGE, {**RAY, "workers": 2}, 12, 0.85),
    Case("plain engine, default assigner", DEFAULT, HERE, 100),
    Case("DeepSpeed under Ray, default assigner", DEFAULT, RAY, 100),
)


def train(folder: Path, events: int, rounds: int, source: str, say: Say, cases: tuple[Case, ...] = CASES) -> Result:
    """Steps per second of every case over those of the torch loop, or of torch DDP, beside it."""
    sample = toy(folder, events)
    figures, played, parts = [], {}, {}
    for case in cases:
        pace = Pace(16, case.block, rounds)
        with (
            TemporaryDirectory(dir=folder) as out,
            Player(paced, run_of(case, sample, source, pace), Path(out), pace) as player,
        ):
            workers = player.play().said
        played[case.name] = workers
        spent = {side: _together(workers, side) for side in ("plain", "ours")}
        figures += [
            Figure(f"{case.name}, per CPU-second", ratio(spent["plain"], spent["ours"], "own_s"), at_least=case.target),
            Figure(f"{case.name}, per second", ratio(spent["plain"], spent["ours"], "wall_s")),
        ]
        parts[case.name] = workers[0]["ms_per_step"]
        say(f"{case.name}, {workers[0]['parameters']:,} parameters: {figures[-2].median:.2f}")
    sizes = {"events": events, "rounds": rounds, "source": source, "ms_per_step": parts,
             "parameters": {name: workers[0]["parameters"] for name, workers in played.items()}}  # fmt: skip
    return Result("train", figures, sizes, played)


def toy(folder: Path, events: int) -> Events:
    """The assigner's own small data, written once."""
    path = folder / f"toy-{events}"
    if (path / MANIFEST).is_file():
        return Events.open(path)
    return Events.write(find("assigner").task().toy(events, 1), path)


def run_of(case: Case, sample: Events, source: str, pace: Pace) -> Run:
    """A run of so many steps that validates at its ends alone and is tracked by its log alone."""
    values: Values = {
        "system": "assigner",
        "task": dict(case.task),
        "stream": {"samples": {"toy": {"events": str(sample.path)}},
                   "split": {"train": 0.98, "validation": 0.01, "test": 0.01}},
        "horizon": {"steps": pace.steps},
        "scale": {"source": source, **case.scale},
        "track": {"wandb": False, "validate_every": 1e6},
        "keep": {"every": 1e6},
    }  # fmt: skip
    return resolve([("bench", values)], "bench").run


def _together(workers: list[dict[str, Any]], side: str) -> list[Spent]:
    """Of every round, the wall seconds of the slowest worker and the CPU seconds of all of them."""
    rounds = zip(*(worker["rounds"] for worker in workers), strict=True)
    found = []
    for of_round in rounds:
        cpu_s = sum(one[side]["cpu_s"] for one in of_round)
        found.append(Spent(max(one[side]["wall_s"] for one in of_round), cpu_s, cpu_s))
    return found
