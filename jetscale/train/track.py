"""A training's own record: one JSON line per logged step and validation, and the same numbers for the boards."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jetscale.events import write_text
from jetscale.run import Run
from jetscale.task import At
from jetscale.train.board import boards

LOG = "log.jsonl"
Line = dict[str, Any]


class Tracker:
    """The first worker's record of a run that makes `steps` steps, so many `per_epoch`, and goes on from step `after`.

    The log then has every step once, whatever was written after the checkpoint that the run goes on from, and the
    boards are drawn from it: they may have lost what was shown to them last.
    """

    def __init__(self, run: Run, name: str, out: Path, steps: int, after: int = 0, per_epoch: float = 0.0) -> None:
        self.steps, self.after = steps, after
        kept = [line for line in lines(out) if after and line["kind"] != "end" and line.get("step", 0) <= after]
        self.seconds_before = max((line.get("seconds", 0.0) for line in kept), default=0.0)
        start: Line = {"kind": "resume", "step": after} if after else {"kind": "start"}
        beginning = [*kept, {**start, "steps": steps, "steps_per_epoch": per_epoch, "run": name}]
        write_text(out / LOG, "".join(json.dumps(line) + "\n" for line in beginning))
        self.log = (out / LOG).open("a", buffering=1)
        self.boards = boards(run, name, out)
        for line in kept:
            self._show(line)
        self.began = time.monotonic()

    def step(self, at: At, loss: Mapping[str, float], rate: float, events_per_s: float, wait: float) -> None:
        """One line about a step: `wait` is the share of time spent waiting for data."""
        done = at.step + 1
        left = (time.monotonic() - self.began) / (done - self.after) * (self.steps - done)
        self._say({"kind": "step", "step": done, "of": self.steps, "epoch": at.epoch, "loss": _known(loss),
                   "rate": rate, "events_per_s": round(events_per_s, 1), "wait": round(wait, 4),
                   "seconds": self._seconds(), "left_s": round(left, 1)})  # fmt: skip

    def validation(self, at: At, figures: Mapping[str, float]) -> None:
        """One line about a pass over the validation part."""
        self._say({"kind": "validation", "step": at.step, "metrics": _known(figures), "seconds": self._seconds()})

    def close(self, status: str) -> None:
        """End the record."""
        self._say({"kind": "end", "status": status, "seconds": self._seconds()})
        self.log.close()
        for board in self.boards:
            board.close(status == "done")

    def _seconds(self) -> float:
        """How long the steps of this log took, those before a restart included."""
        return round(self.seconds_before + time.monotonic() - self.began, 1)

    def _say(self, line: Line) -> None:
        self.log.write(json.dumps(line, allow_nan=False) + "\n")
        self._show(line)

    def _show(self, line: Line) -> None:
        if values := _numbers(line):
            for board in self.boards:
                board.log(values, line["step"])


def lines(folder: Path, kind: str = "") -> list[Line]:
    """The lines of a run's log, or those of one kind: start, resume, step, validation or end.

    A line that the end of a process has cut off is passed over; without a log there are none.
    """
    file = folder / LOG
    texts = file.read_text(errors="replace").splitlines() if file.is_file() else []
    found = [_read(text) for text in texts]
    return [line for line in found if line and kind in ("", line["kind"])]


def _read(text: str) -> Line:
    """A line of a log, empty if it is torn."""
    try:
        line = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return line if isinstance(line, dict) and "kind" in line else {}


def _numbers(line: Line) -> dict[str, float]:
    """What boards draw of a line."""
    found = {f"loss/{term}": value for term, value in line.get("loss", {}).items()}
    found |= {f"validation/{name}": value for name, value in line.get("metrics", {}).items()}
    found |= {name: line[name] for name in ("rate", "events_per_s", "wait") if name in line}
    return {name: value for name, value in found.items() if value is not None}


def _known(values: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no NaN: a figure that cannot be formed, an AUC without background say, is null."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
