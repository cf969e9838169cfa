"""The study's table: one row per method, read-out, sample and seed, with every figure and its error."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jetscale.metrics import Estimate

FIGURES = ("f10", "width", "half_width", "median", "peak_fraction", "mass_auc", "relative_signal_position",
           "background_median", "jet_accuracy", "event_accuracy")  # fmt: skip
PLACES = ("trained", "inside", "outside", "decay")
NOT_KNOWN = Estimate(math.nan, math.nan)

Place = Literal["trained", "inside", "outside", "decay"]


class Row(NamedTuple):
    """A method on a signal sample, beside the study's background.

    `place` says where the sample lies as the mixed masses see it: trained on, held out with a mass inside or outside
    of theirs, or a decay that none of them has. Classical methods have neither loss, masses, network nor read-out.
    """

    method: str
    loss: str
    masses: str
    weight: float
    network: str
    readout: str
    seed: int
    sample: str
    place: str
    true_mass: float
    decay_mode: int
    n: int
    figures: Mapping[str, Estimate]

    @property
    def classical(self) -> bool:
        return not self.loss

    def values(self) -> dict[str, Any]:
        """One flat row: every figure and, with `_error` behind its name, its error."""
        flat = {key: value for key, value in self._asdict().items() if key != "figures"}
        for name, estimate in self.figures.items():
            flat |= {name: estimate.value, f"{name}_error": estimate.error}
        return flat


KEYS = tuple(field for field in Row._fields if field != "figures")


class Ranked(NamedTuple):
    """Mean probability of no parent, of jets that do come from a parent, at one place in falling pt (from 1)."""

    network: str
    setting: str
    seed: int
    sample: str
    decay_mode: int
    rank: int
    mean: float
    error: float
    n: int


def row_of(values: Mapping[str, Any]) -> Row:
    """A row from its flat form; numbers that could not be formed are NaN."""
    figures = {name: Estimate(_number(values[name]), _number(values[f"{name}_error"]))
               for name in FIGURES if name in values}  # fmt: skip
    return Row(**{key: values[key] for key in KEYS}, figures=figures)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def write(rows: Sequence[Row], file: Path) -> None:
    """Write the table as Parquet, beside and then under its name."""
    beside = file.with_name(f".{file.name}.part")
    pq.write_table(pa.Table.from_pylist([row.values() for row in rows]), beside)
    beside.rename(file)


def read(file: Path) -> list[Row]:
    """The table as it was written."""
    return [row_of(values) for values in pq.read_table(file).to_pylist()]


def combined(rows: Iterable[Row], figure: str, spread: Mapping[str, float]) -> Estimate:
    """A figure as the mean over samples and seeds, with the errors of both the events and the seeds.

    Events are the same for all seeds and share their background, so that their errors are averaged as if they moved
    together: too large rather than too small. To that, in quadrature, comes the deviation between seeds over the root
    of their number; for a network of one seed it is the one in `spread`. NaN without a row.
    """
    by_seed: dict[int, list[Row]] = {}
    for row in rows:
        by_seed.setdefault(row.seed, []).append(row)
    if not by_seed:
        return NOT_KNOWN
    means = [float(np.mean([row.figures[figure].value for row in some])) for some in by_seed.values()]
    error = float(np.mean([row.figures[figure].error for some in by_seed.values() for row in some]))
    if all(row.classical for some in by_seed.values() for row in some):
        return Estimate(float(np.mean(means)), error)
    between = float(np.std(means, ddof=1)) if len(means) > 1 else spread.get(figure, 0.0)
    return Estimate(float(np.mean(means)), math.hypot(error, between / math.sqrt(len(means))))


def less(one: Estimate, other: Estimate) -> Estimate:
    """A difference, with the errors in quadrature: shared events would make it smaller."""
    return Estimate(one.value - other.value, math.hypot(one.error, other.error))


def over(one: Estimate, other: Estimate) -> Estimate:
    """A ratio, with the errors in quadrature."""
    if not other.value:
        return NOT_KNOWN
    value = one.value / other.value
    return Estimate(value, abs(other.value) ** -1 * math.hypot(one.error, value * other.error))


def mean(estimates: Sequence[Estimate]) -> Estimate:
    """A mean, with the mean of the errors: they share their events."""
    if not estimates:
        return NOT_KNOWN
    return Estimate(*(float(np.mean(part)) for part in zip(*estimates, strict=True)))
