"""How good reconstructed masses and groups are: weighted figures of a scored table, with bootstrap errors.

Every figure is a function of one `Table` and nothing else; validation, sweeps and reports call it by its name:
`figures(["f10", "mass_auc"], table)`. A figure that cannot be formed (no signal, no labels) is NaN. Figures of the peak
look at the signal rows (true mass above 0) of the table and those of sculpting at both kinds.
"""

from __future__ import annotations

import inspect
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jetscale.errors import ConfigError, nearest
from jetscale.schema import JET_EVENTS, flat, lengths

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

WINDOW = 0.1
# None seen out of n: fewer than 1.14 expected at 68 % confidence, exp(-1.14) = 0.32.
NONE_SEEN = 1.14


@dataclass(frozen=True)
class Table:
    """Events as one method reconstructs them, one entry per event (B).

    `mass_B` is the reconstructed and `true_mass_B` the true mass in GeV (0 or less: none, or not known);
    `background_B` says which rows are background. `jets_right_B` of the `jets_known_B` jets with a known label are in
    the right group, after the better naming of the groups.
    """

    mass_B: Floats
    true_mass_B: Floats
    weight_B: Floats
    background_B: Bools
    jets_right_B: Ints
    jets_known_B: Ints

    def __len__(self) -> int:
        return len(self.mass_B)

    def __getitem__(self, rows: Bools | Ints) -> Table:
        return Table(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @property
    def signal(self) -> Bools:
        """Which rows (B) are signal."""
        return np.asarray(self.true_mass_B > 0)

    @property
    def ratio(self) -> Floats:
        """Reconstructed over true mass of the signal rows."""
        return self.mass_B[self.signal] / self.true_mass_B[self.signal]

    @property
    def signal_weight(self) -> Floats:
        """Weight of the signal rows."""
        return self.weight_B[self.signal]


def scored(events: pa.Table, label: str) -> Table:
    """The table of scored jet events, with the jets judged by the labels in the column `label`."""
    rows = events.num_rows
    row_J = np.repeat(np.arange(rows), lengths(events, "jet", JET_EVENTS))
    assigned_J, label_J = flat(events["jet_assigned"]), flat(events[label])
    known_J = label_J >= 0
    swapped_J = np.where(assigned_J > 0, 3 - assigned_J, assigned_J)
    right = [np.bincount(row_J[known_J & (named_J == label_J)], minlength=rows) for named_J in (assigned_J, swapped_J)]
    return Table(
        mass_B=flat(events["reco_mass"]).astype(np.float64),
        true_mass_B=flat(events["true_mass"]).astype(np.float64),
        weight_B=flat(events["weight"]),
        background_B=flat(events["decay_mode"]) == 0,
        jets_right_B=np.maximum(*right),
        jets_known_B=np.bincount(row_J[known_J], minlength=rows),
    )


def f10(table: Table) -> float:
    """Share of the signal with |mass / true mass - 1| < 0.1."""
    return _mean(np.abs(table.ratio - 1) < WINDOW, table.signal_weight)


def width(table: Table) -> float:
    """Half the 16-84 % range of mass / true mass, over its median."""
    low, middle, high = quantile(table.ratio, (0.16, 0.5, 0.84), table.signal_weight)
    return float(0.5 * (high - low) / middle) if middle > 0 else np.nan


def half_width(table: Table) -> float:
    """Half the 16-84 % range of mass / true mass."""
    low, high = quantile(table.ratio, (0.16, 0.84), table.signal_weight)
    return float(0.5 * (high - low))


def median(table: Table) -> float:
    """Median of mass / true mass."""
    return float(quantile(table.ratio, (0.5,), table.signal_weight)[0])


def peak_fraction(table: Table) -> float:
    """Largest share of the signal in any window of +-10 % of mass / true mass, wherever the window lies."""
    weight_B = table.signal_weight
    if not weight_B.sum() > 0:
        return np.nan
    order_B = np.argsort(table.ratio, kind="stable")
    ratio_B = table.ratio[order_B]
    below_B = np.concatenate(([0.0], np.cumsum(weight_B[order_B])))
    end_B = np.searchsorted(ratio_B, ratio_B * ((1 + WINDOW) / (1 - WINDOW)), side="right")
    start_B = np.searchsorted(ratio_B, ratio_B, side="left")
    inside_B = np.where(ratio_B > 0, below_B[end_B] - below_B[start_B], 0.0)
    return float(inside_B.max() / below_B[-1])


def mass_auc(table: Table) -> float:
    """Probability that a signal event has a larger mass than a background event: 1 is no sculpting."""
    rows_B = table.signal | table.background_B
    return auc(table.mass_B[rows_B], table.signal[rows_B], table.weight_B[rows_B])


def relative_signal_position(table: Table) -> float:
    """Share of the background with a mass below the signal's median mass."""
    if not (table.signal.any() and table.background_B.any()):
        return np.nan
    peak = quantile(table.mass_B[table.signal], (0.5,), table.signal_weight)[0]
    return _mean(table.mass_B[table.background_B] < peak, table.weight_B[table.background_B])


def background_median(table: Table) -> float:
    """Median mass of the background in GeV."""
    return float(quantile(table.mass_B[table.background_B], (0.5,), table.weight_B[table.background_B])[0])


def jet_accuracy(table: Table) -> float:
    """Share of the signal's jets with a known label that are in the right group."""
    known, right = (
        float(np.sum(table.signal_weight * jets_B[table.signal])) for jets_B in (table.jets_known_B, table.jets_right_B)
    )
    return right / known if known > 0 else np.nan


def event_accuracy(table: Table) -> float:
    """Share of the signal events with known labels in which every such jet is in the right group."""
    known_B = table.signal & (table.jets_known_B > 0)
    return _mean(table.jets_right_B[known_B] == table.jets_known_B[known_B], table.weight_B[known_B])


def roc(score_B: Floats, positive_B: Bools, weight_B: Floats) -> tuple[Floats, Floats]:
    """Efficiencies (of negatives, of positives) of every cut `score >= t`, none to all; equal scores are one cut.

    NaN where one kind has no weight, or a score that has weight is NaN: no cut would say on which side it lies.
    """
    order_B = np.argsort(score_B, kind="stable")[::-1]
    score_B, positive_B, weight_B = score_B[order_B], positive_B[order_B], weight_B[order_B]
    last_B = np.append(score_B[1:] != score_B[:-1], True)[: len(score_B)]
    passed = [np.cumsum(np.where(kind_B, weight_B, 0.0))[last_B] for kind_B in (~positive_B, positive_B)]
    negatives, positives = (np.concatenate(([0.0], sums)) for sums in passed)
    odd = bool(np.isnan(score_B[weight_B != 0]).any())
    if odd or not (negatives[-1] > 0 and positives[-1] > 0):
        return np.full(len(negatives), np.nan), np.full(len(positives), np.nan)
    return negatives / negatives[-1], positives / positives[-1]


def auc(score_B: Floats, positive_B: Bools, weight_B: Floats) -> float:
    """Area under the ROC: the weighted share of pairs in which the positive has the higher score, ties count half."""
    negatives, positives = roc(score_B, positive_B, weight_B)
    return float(np.trapezoid(positives, negatives)) if len(negatives) > 1 else np.nan


def quantile(values_B: Floats, at: Sequence[float], weight_B: Floats) -> Floats:
    """The smallest values at which the weighted share at or below reaches `at`; NaN without weight."""
    if not weight_B.sum() > 0:
        return np.full(len(at), np.nan)
    order_B = np.argsort(values_B, kind="stable")
    # Negative weights can make the sum fall; its running maximum still defines a quantile.
    below_B = np.maximum.accumulate(np.cumsum(weight_B[order_B]))
    place = np.searchsorted(below_B, np.asarray(at) * below_B[-1], side="left")
    return np.asarray(values_B[order_B[place]], dtype=np.float64)


def n_eff(weight_B: Floats) -> float:
    """Effective number of events: (sum w)^2 / sum w^2."""
    squares = float(np.sum(weight_B**2))
    return float(np.sum(weight_B)) ** 2 / squares if squares > 0 else 0.0


def _mean(values_B: Bools, weight_B: Floats) -> float:
    total = float(weight_B.sum())
    return float(weight_B[values_B].sum()) / total if total > 0 else np.nan


def names() -> tuple[str, ...]:
    """The figures of this module: its functions of one Table."""
    found = inspect.getmembers(sys.modules[__name__], inspect.isfunction)
    return tuple(name for name, function in found if function.__annotations__ == {"table": "Table", "return": "float"})


def find(name: str) -> Callable[[Table], float]:
    """The figure of a name.

    Raises:
        ConfigError: no such figure.
    """
    if name not in names():
        raise ConfigError(f"no figure {name!r}", where="metrics", cure=nearest(name, names()))
    function: Callable[[Table], float] = getattr(sys.modules[__name__], name)
    return function


def figures(wanted: Sequence[str], table: Table) -> dict[str, float]:
    """Figures of a table by their names.

    Raises:
        ConfigError: no such figure.
    """
    return {name: find(name)(table) for name in wanted}


class Estimate(NamedTuple):
    """A figure and its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class Bootstrap:
    """Figures of several methods on the same events, and the same figures on resampled events.

    `values[method][figure]` is a number, `replicas[method][figure]` (R) holds it for R resamplings that are the same
    for all methods, so that a difference of two replicas is a replica of the difference.
    """

    values: Mapping[str, Mapping[str, float]]
    replicas: Mapping[str, Mapping[str, Floats]]
    n_eff: float

    def estimate(self, method: str, figure: str) -> Estimate:
        """A method's figure; a share of which none, or all, was seen has the error 1.14 / n_eff."""
        value = self.values[method][figure]
        spread = _spread(self.replicas[method][figure])
        return Estimate(value, NONE_SEEN / self.n_eff if spread == 0 and value in (0.0, 1.0) else spread)

    def difference(self, method: str, other: str, figure: str) -> Estimate:
        """A method's figure less another's, with the error of the difference."""
        value = self.values[method][figure] - self.values[other][figure]
        return Estimate(value, _spread(self.replicas[method][figure] - self.replicas[other][figure]))


def bootstrap(tables: Mapping[str, Table], wanted: Sequence[str], *, replicas: int = 200, seed: int = 0,
              key: str = "") -> Bootstrap:  # fmt: skip
    """Figures of methods with their errors, by drawing events anew (Efron 1979), signal and background apart.

    All tables hold the same events in the same order. The draws of the background depend on the seed alone and those of
    the signal on `key` too: replicas of different signals on the same background belong together, number by number.

    Raises:
        ConfigError: no such figure, or tables of different lengths.
    """
    lengths = {method: len(table) for method, table in tables.items()}
    if len(set(lengths.values())) != 1:
        raise ConfigError(f"tables of different lengths: {lengths}", where="bootstrap", cure="give all the same events")
    first = next(iter(tables.values()))
    counts_RB = _counts(first.background_B, replicas, seed, key)
    drawn = {method: _redrawn(table, counts_RB, wanted) for method, table in tables.items()}
    values = {method: figures(wanted, table) for method, table in tables.items()}
    sizes = [n_eff(first.weight_B[kind_B]) for kind_B in (first.background_B, ~first.background_B) if kind_B.any()]
    return Bootstrap(values, drawn, min(sizes, default=0.0) or 1.0)


def _counts(background_B: Bools, replicas: int, seed: int, key: str) -> Ints:
    """How often each event is drawn in each replica (R, B): as many of each kind as there are."""
    counts_RB = np.zeros((replicas, len(background_B)), dtype=np.int64)
    for kind_B, name in ((background_B, "background"), (~background_B, f"signal {key}")):
        dice = np.random.default_rng([seed, zlib.crc32(name.encode())])
        rows = np.flatnonzero(kind_B)
        for replica in range(replicas if len(rows) else 0):
            counts_RB[replica, rows] = np.bincount(dice.integers(len(rows), size=len(rows)), minlength=len(rows))
    return counts_RB


def _redrawn(table: Table, counts_RB: Ints, wanted: Sequence[str]) -> dict[str, Floats]:
    # Sorted once by mass, so that the sorting in every replica finds its work done.
    order_B = np.argsort(table.mass_B, kind="stable")
    table, counts_RB = table[order_B], counts_RB[:, order_B]
    drawn = [replace(table, weight_B=table.weight_B * counts_B) for counts_B in counts_RB]
    functions = {name: find(name) for name in wanted}
    return {name: np.array([function(one) for one in drawn]) for name, function in functions.items()}


def _spread(replicas_R: Floats) -> float:
    finite_R = replicas_R[np.isfinite(replicas_R)]
    return float(np.std(finite_R, ddof=1)) if len(finite_R) > 1 else np.nan
