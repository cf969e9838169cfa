"""Many trainings on Ray Tune against the same trainings one after the other in one process: one thread each."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from jetscale.bench.measure import Player, Round, one_thread
from jetscale.bench.result import Figure, Result, Say
from jetscale.bench.train import toy
from jetscale.config import Values
from jetscale.data.cluster import cluster
from jetscale.events import Events
from jetscale.run import Run, resolve
from jetscale.shape import shape
from jetscale.sweep.trial import here
from jetscale.sweep.trials import train_all
from jetscale.train import launch

EVENTS, WARM, PROBED = 20_000, 60, 300  # of the made-up sample; steps before and within what is taken as the pace
LONG_S, LONG, SHORT, QUICKER = 10.0, 1.3, 1.5, 1.6  # targets: for trainings from so many seconds on, and below


def sweep(folder: Path, trials: int, seconds: float, rounds: int, say: Say) -> Result:
    """CPU seconds of a sweep over those of its trainings alone, and how much sooner it is done.

    The sweep pays for all processes of its Ray, whose cluster is running when it begins; the trainings alone pay for
    neither their imports nor their process's start.
    """
    sample = toy(folder, EVENTS)
    with Player(probed, _run(sample, 1, WARM + PROBED), folder / "probe") as player:
        per_s = float(player.play().said)
    runs = {f"seed={seed}": _run(sample, seed, max(1, round(seconds * per_s))) for seed in range(1, trials + 1)}
    say(f"{trials} trainings of {round(seconds * per_s)} steps")
    played: dict[str, list[Round]] = {"alone": [], "sweep": []}
    for _ in range(rounds):
        for name, make in (("alone", alone), ("sweep", swept)):
            with TemporaryDirectory(dir=folder) as out, Player(make, runs, Path(out)) as player:
                player.play()  # imports, and Ray
                played[name].append(player.play())
            spent = played[name][-1].spent
            say(f"{name}: {spent.all_s:.0f} CPU-seconds, {spent.wall_s:.0f} s")
    pairs = list(zip(played["alone"], played["sweep"], strict=True))
    target = LONG if seconds >= LONG_S else SHORT
    figures = [
        Figure("CPU-seconds of the sweep, all processes, over the trainings alone",
               [two.spent.all_s / one.spent.own_s for one, two in pairs], at_most=target),
        Figure("seconds of the trainings alone over the sweep's, one on each core",
               [one.spent.wall_s / two.spent.wall_s for one, two in pairs], at_least=QUICKER),
        Figure("CPU of one training alone", [one.spent.own_s / trials for one, _ in pairs], "s"),
    ]  # fmt: skip
    sizes = {"trials": trials, "seconds": seconds, "rounds": rounds, "events": EVENTS}
    costs = {name: [one.spent._asdict() for one in of] for name, of in played.items()}
    return Result("sweep", figures, sizes, costs)


def _run(sample: Events, seed: int, steps: int) -> Run:
    values: Values = {
        "system": "assigner",
        "stream": {"samples": {"toy": {"events": str(sample.path)}}},
        "horizon": {"steps": steps},
        "scale": {"engine": "torch"},
        "track": {"wandb": False},
        "seed": seed,
    }
    return resolve([("bench", values)], "bench").run


def probed(run: Run, out: Path) -> Iterator[float]:
    """Steps per CPU-second of a training in a process that has had its first steps."""
    with TemporaryDirectory(dir=out.parent) as place:
        warm = here(run.model_copy(update={"horizon": run.horizon.but(steps=WARM)}))
        launch.train(warm, Path(place) / "warm")
        began = time.process_time()
        launch.train(here(run), Path(place) / "probe")
        yield (WARM + PROBED) / (time.process_time() - began)


def alone(runs: Mapping[str, Run], out: Path) -> Iterator[int]:
    """The trainings one after the other in this process."""
    one_thread()
    yield 0
    for name, run in runs.items():
        launch.train(here(run), out / name)
    yield len(runs)


def swept(runs: Mapping[str, Run], out: Path) -> Iterator[int]:
    """The same on Ray Tune."""
    (first, *_) = runs.values()
    with cluster(shape(first.scale.shape)):
        yield 0
        found = train_all(runs, out)
        yield sum(one.status == "done" for one in found.values())
