"""How well classes of jets are told apart: figures of probabilities, with weights and errors.

A figure looks at one class as signal and at others as background. Of several classes the discriminant of a signal S
against a background B is P(S) / (P(S) + P(B)), with the probabilities of all background classes added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jetscale.metrics import NONE_SEEN, Bools, Floats, Ints, auc, n_eff, roc

EFFICIENCIES = (0.3, 0.5)


class Rejection(NamedTuple):
    """1 / background efficiency at a signal efficiency, its binomial error, and whether it is a lower bound only."""

    value: float
    error: float
    bound: bool


def discriminant(probability_BK: Floats, signal: Sequence[int], background: Sequence[int]) -> Floats:
    """P(S) / (P(S) + P(B)), (B,); 0 where neither has any probability."""
    signal_B, background_B = probability_BK[:, list(signal)].sum(1), probability_BK[:, list(background)].sum(1)
    both_B = signal_B + background_B
    found: Floats = np.divide(signal_B, both_B, out=np.zeros(len(both_B)), where=both_B > 0)
    return found


def balanced(class_B: Ints, weight_B: Floats) -> Floats:
    """Weights that make all classes count alike, (B,), with the same sum as before: a class's cross section says
    nothing of a tagger. Classes whose weights do not sum to more than 0 keep theirs."""
    sum_K = np.bincount(class_B, weight_B, minlength=1)
    some_K = sum_K > 0
    factor_K = np.divide(sum_K[some_K].sum() / max(some_K.sum(), 1), sum_K, out=np.ones(len(sum_K)), where=some_K)
    found: Floats = weight_B * factor_K[class_B]
    return found


def accuracy(probability_BK: Floats, class_B: Ints, weight_B: Floats) -> float:
    """Weighted share of jets whose likeliest class is their own, with all classes counting alike."""
    weight_B = balanced(class_B, weight_B)
    total = float(weight_B.sum())
    right_B = probability_BK.argmax(1) == class_B if len(class_B) else np.zeros(0, dtype=bool)
    return float(weight_B[right_B].sum()) / total if total > 0 else np.nan


def rejection(score_B: Floats, signal_B: Bools, weight_B: Floats, at: float) -> Rejection:
    """1 / eps_B where eps_S = `at`, linear in (eps_S, log eps_B) between two cuts.

    The error is binomial, with the effective number of background jets: 1/eps_B * sqrt((1 - eps_B) / (n eps_B)). Where
    no background passes, the value is the lower bound n / 1.14 at 68 % confidence.
    """
    background, signal = roc(score_B, signal_B, weight_B)
    weight_N = weight_B[~signal_B]
    if len(background) < 2 or not np.isfinite(background[-1]) or not np.isfinite(signal[-1]):
        return Rejection(np.nan, np.nan, False)
    n = float(weight_N.sum() ** 2 / (weight_N**2).sum())
    place = int(np.searchsorted(signal, at, side="left"))
    low, high = background[max(place - 1, 0)], background[place]
    if high <= 0:
        return Rejection(n / NONE_SEEN, np.nan, True)
    share = (at - signal[place - 1]) / (signal[place] - signal[place - 1]) if place else 1.0
    passing = float(np.exp(np.log(low) + share * (np.log(high) - np.log(low)))) if low > 0 else float(high)
    return Rejection(1.0 / passing, float(np.sqrt(max(1.0 - passing, 0.0) / (n * passing))) / passing, False)


def confusion(probability_BK: Floats, class_B: Ints, weight_B: Floats) -> Floats:
    """Weighted share of the jets of a class (rows) that are likeliest of each class (columns), (K, K); NaN of none."""
    classes = probability_BK.shape[1]
    found_B = probability_BK.argmax(1)
    counts = np.bincount(class_B * classes + found_B, weight_B, classes * classes).reshape(classes, classes)
    of_class = counts.sum(1, keepdims=True)
    shares: Floats = np.divide(counts, of_class, out=np.full_like(counts, np.nan), where=of_class > 0)
    return shares


class Reliability(NamedTuple):
    """A bin of probability: what was said and what was so, as weighted means, and the binomial error of the latter."""

    said: float
    seen: float
    error: float


def calibration(probability_B: Floats, own_B: Bools, weight_B: Floats, bins: int = 10) -> list[Reliability]:
    """The share of jets that are of a class against the probability given for it, in equal bins that hold any jets."""
    bin_B = np.minimum((probability_B * bins).astype(np.int64), bins - 1)
    found = []
    for number in range(bins):
        rows_B = bin_B == number
        weights = weight_B[rows_B]
        total, size = float(weights.sum()), n_eff(weights)
        if total > 0 and size > 0:
            seen = float(weights[own_B[rows_B]].sum()) / total
            said = float((weights * probability_B[rows_B]).sum()) / total
            found.append(Reliability(said, seen, float(np.sqrt(max(seen * (1 - seen), 0.0) / size))))
    return found


def figures(probability_BK: Floats, class_B: Ints, weight_B: Floats, classes: Sequence[str], *,
            bounds: bool = True) -> Mapping[str, float]:  # fmt: skip
    """Accuracy, and of every class but the first, against the first: AUC and 1/eps_B at 30 and 50 % signal efficiency.

    Of two classes the names are plain (`auc`, `rejection_30`), of more they end in the signal's (`auc_top`), and `auc`
    is the mean over these. Without `bounds` a rejection of which only a lower bound is known is NaN: a bound says how
    many jets there are, and is not to be compared with values.
    """
    found = {"accuracy": accuracy(probability_BK, class_B, weight_B)}
    of_class: dict[str, dict[str, float]] = {}
    for number, name in enumerate(classes[1:], start=1):
        rows_B = (class_B == 0) | (class_B == number)
        score_B = discriminant(probability_BK[rows_B], [number], [0])
        signal_B, weights = class_B[rows_B] == number, weight_B[rows_B]
        of_class[name] = {"auc": auc(score_B, signal_B, weights)}
        for at in EFFICIENCIES:
            found_at = rejection(score_B, signal_B, weights, at)
            of_class[name][f"rejection_{100 * at:.0f}"] = np.nan if found_at.bound and not bounds else found_at.value
    if len(classes) == 2:
        return {**found, **of_class[classes[1]]}
    ended = {f"{figure}_{name}": value for name, own in of_class.items() for figure, value in own.items()}
    return {**found, "auc": float(np.mean([own["auc"] for own in of_class.values()])), **ended}
