"""Memory of a training worker on little and on much data, less what its imports cost."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jetscale.bench.measure import Player, forget_peak, resident
from jetscale.bench.result import Figure, Result, Say
from jetscale.bench.sample import parse_size, run_on, sample
from jetscale.config import Values, build
from jetscale.data.cluster import cluster
from jetscale.run import Run
from jetscale.shape import shape
from jetscale.train import launch

SOURCES = ("pyarrow", "ray")
SPLIT = {"train": 0.6, "validation": 0.15, "test": 0.25}
LOOK_S = 0.05


def memory(folder: Path, small: str, large: str, rounds: int, say: Say) -> Result:
    """Peak memory of a worker on the large sample over that on the small one, for both sources."""
    samples = {size: sample(folder, parse_size(size), say) for size in (small, large)}
    played: dict[str, list[dict[str, int]]] = {}
    figures = []
    for source in SOURCES:
        for number in range(rounds):
            for size in (small, large) if number % 2 == 0 else (large, small):
                run = run_on(samples[size], {"source": source, "launch": "here", "engine": "torch"}, SPLIT)
                with TemporaryDirectory(dir=folder) as out, Player(trained, run.values(), Path(out)) as player:
                    player.play()
                    peak = player.play().said
                played.setdefault(f"{source} {size}", []).append(peak)
                say(f"{source} source, {size}: {_above(peak) / 1e6:,.0f} MB above the imports' "
                    f"{peak['imports'] / 1e6:,.0f} MB")  # fmt: skip
        both = list(zip(played[f"{source} {small}"], played[f"{source} {large}"], strict=True))
        figures += [
            Figure(f"{source} source, peak", [_above(b) / _above(a) for a, b in both], at_most=1.1),
            Figure(f"{source} source, peak that is not shared", [b["private"] / a["private"] for a, b in both]),
            Figure(f"{source} source, {small}", [_above(a) / 1e6 for a, _ in both], "MB"),
            Figure(f"{source} source, {large}", [_above(b) / 1e6 for _, b in both], "MB"),
        ]
    sizes = {name: {"bytes": parse_size(name), "events": len(events)} for name, events in samples.items()}
    return Result("memory", figures, {**sizes, "rounds": rounds}, played)


def _above(peak: dict[str, int]) -> int:
    return peak["peak"] - peak["imports"]


def trained(values: Values, out: Path) -> Iterator[dict[str, int]]:
    """First what the imports cost, then a whole training: the peaks of this process in bytes."""
    import ray.data
    import ray.train.torch

    assert ray.train.torch is not None  # imported for its size
    imports = resident()
    yield imports
    run = build(Run, values, "run")
    forget_peak()
    with ExitStack() as stack:
        if run.scale.source == "ray":
            stack.enter_context(cluster(shape(run.scale.shape)))
        private = stack.enter_context(Private())
        launch.train(run, out)
        peak = resident()["peak"]
    found = {"imports": imports["now"], "peak": peak, "private": private.most - imports["own"]}
    (out / "memory.json").write_text(json.dumps(found))
    yield found


class Private:
    """The most that this process held of its own, looked at again and again."""

    def __init__(self, look_s: float = LOOK_S) -> None:
        self.look_s, self.most, self.over = look_s, 0, threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Private:
        self.thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.over.set()
        self.thread.join()

    def _look(self) -> None:
        while not self.over.wait(self.look_s):
            self.most = max(self.most, resident()["own"])
