"""Where a training can be watched: always a JSON-lines log, and Weights & Biases if the run says so."""

from __future__ import annotations

import json
import math
import netrc
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jetscale.run import Run
from jetscale.task import At


class Tracker:
    """The first worker's record of a run. Without an API key Weights & Biases writes to the run's folder, offline."""

    def __init__(self, run: Run, name: str, out: Path, steps: int) -> None:
        self.steps = steps
        self.began = time.monotonic()
        self.log = (out / "log.jsonl").open("w", buffering=1)
        self.wandb = _start_wandb(run, name, out) if run.track.wandb else None
        self._write({"kind": "start", "steps": steps, "run": name})

    def step(self, at: At, loss: Mapping[str, float], rate: float, events_per_s: float, wait: float) -> None:
        """One line about a step: `wait` is the share of time spent waiting for data."""
        spent = time.monotonic() - self.began
        left = spent / (at.step + 1) * (self.steps - at.step - 1)
        self._write({"kind": "step", "step": at.step + 1, "of": self.steps, "epoch": at.epoch, "loss": dict(loss),
                     "rate": rate, "events_per_s": round(events_per_s, 1), "wait": round(wait, 4),
                     "left_s": round(left, 1)})  # fmt: skip
        values = {f"loss/{term}": value for term, value in loss.items()}
        self._wandb({**values, "rate": rate, "events_per_s": events_per_s, "wait": wait}, at.step + 1)

    def validation(self, at: At, figures: Mapping[str, float]) -> None:
        """One line about a pass over the validation part."""
        # JSON has no NaN: a figure that cannot be formed, an AUC without background say, is null.
        known = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        self._write({"kind": "validation", "step": at.step, "metrics": known})
        self._wandb({f"validation/{name}": value for name, value in figures.items()}, at.step)

    def close(self, status: str) -> None:
        """End the record; a run that is not closed would never appear as finished."""
        self._write({"kind": "end", "status": status, "seconds": round(time.monotonic() - self.began, 1)})
        self.log.close()
        if self.wandb is not None:
            self.wandb.finish(exit_code=0 if status == "done" else 1)

    def _write(self, line: Mapping[str, object]) -> None:
        self.log.write(json.dumps(line, allow_nan=False) + "\n")

    def _wandb(self, values: Mapping[str, float], step: int) -> None:
        if self.wandb is not None:
            self.wandb.log(dict(values), step=step)


def lines(folder: Path, kind: str) -> list[dict[str, Any]]:
    """The lines of one kind in a run's log: start, step, validation or end."""
    every = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line for line in every if line["kind"] == kind]


def has_key() -> bool:
    """Whether Weights & Biases has a key here: in the environment, or where `wandb login` writes it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _start_wandb(run: Run, name: str, out: Path) -> Any:
    import wandb

    mode = os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")
    return wandb.init(
        project=run.track.project,
        id=name,
        name=out.name,
        config=run.values(),
        dir=out,
        mode=mode,  # type: ignore[arg-type]
        resume="allow" if mode == "online" else None,
        settings=wandb.Settings(x_disable_stats=True, console="off", silent=True),
    )
