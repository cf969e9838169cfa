"""What a run's folder tells: its learning curves and how long it took, as far as they are there."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jetscale.metrics import Floats
from jetscale.train.track import Line, lines

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
    found = _lines(folder)
    validation = _series(found, "validation", "metrics")
    terms = {name.removeprefix(TERM): pair for name, pair in validation.items() if name.startswith(TERM)}
    figures = {name: pair for name, pair in validation.items() if not name.startswith(TERM)}
    return Curves(_series(found, "step", "loss"), terms, figures)


def seconds(folder: Path | None) -> float | None:
    """How long a run was trained, as the last line of its log has it; None without."""
    spent = [float(line["seconds"]) for line in _lines(folder) if line["kind"] == "end" and "seconds" in line]
    return spent[-1] if spent else None


def _lines(folder: Path | None) -> list[Line]:
    return lines(folder) if folder else []


def _series(found: list[Line], kind: str, key: str) -> Series:
    """A step that was validated again where a training went on counts once, as it was seen last."""
    points: dict[str, dict[float, float]] = {}
    for line in found:
        for name, value in line.get(key, {}).items() if line["kind"] == kind else ():
            if isinstance(value, int | float) and math.isfinite(value):
                points.setdefault(name, {})[line["step"]] = value
    arrays = {name: np.array(list(pairs.items()), dtype=np.float64).T for name, pairs in points.items()}
    return {name: (pair[0], pair[1]) for name, pair in arrays.items()}
