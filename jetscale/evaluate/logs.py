"""What a run's folder tells: its learning curves and its digest, as far as they are there."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jetscale.metrics import Floats

LOG = "log.jsonl"
# What validation calls a loss term, so that it is not taken for a figure.
TERM = "loss_"


Series = dict[str, tuple[Floats, Floats]]


class Curves(NamedTuple):
    """Loss terms in training and on the validation part, and figures on the latter: `{name: (steps, values)}`."""

    terms: Series
    validation_terms: Series
    figures: Series

    @property
    def losses(self) -> list[str]:
        return list(dict.fromkeys((*self.terms, *self.validation_terms)))


def curves(folder: Path | None) -> Curves:
    """The learning curves in a run's log; empty without one. Lines cut off by an end of the process are passed over."""
    lines = _lines(folder)
    validation = _series(lines, "validation", "metrics")
    terms = {name.removeprefix(TERM): pair for name, pair in validation.items() if name.startswith(TERM)}
    figures = {name: pair for name, pair in validation.items() if not name.startswith(TERM)}
    return Curves(_series(lines, "step", "loss"), terms, figures)


def digest(folder: Path | None) -> str:
    """The digest that names a run's work, as its log has it; empty without."""
    named = [str(line["run"]) for line in _lines(folder) if line.get("kind") == "start" and "run" in line]
    return named[-1] if named else ""


def seconds(folder: Path | None) -> float | None:
    """How long a run was trained, as the last line of its log has it; None without."""
    spent = [float(line["seconds"]) for line in _lines(folder) if line.get("kind") == "end" and "seconds" in line]
    return spent[-1] if spent else None


def _lines(folder: Path | None) -> list[dict[str, Any]]:
    file = folder / LOG if folder else None
    if file is None or not file.is_file():
        return []
    found = []
    for text in file.read_text().splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(line, dict):
            found.append(line)
    return found


def _series(lines: list[dict[str, Any]], kind: str, key: str) -> Series:
    points: dict[str, list[tuple[float, float]]] = {}
    for line in lines:
        for name, value in line.get(key, {}).items() if line.get("kind") == kind else ():
            if isinstance(value, int | float) and math.isfinite(value):
                points.setdefault(name, []).append((line["step"], value))
    arrays = {name: np.array(pairs, dtype=np.float64).T for name, pairs in points.items()}
    return {name: (pair[0], pair[1]) for name, pair in arrays.items()}
