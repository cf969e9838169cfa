"""What is lost at what a training has not seen: the leave-one-out matrix, inside and outside of the trained grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jetscale.errors import ConfigError
from jetscale.metrics import Estimate, Floats

TINY = 1e-9


class Transfer(NamedTuple):
    """Summary of a leave-one-out matrix.

    `gap` is T = 1 - mean over d of Q(d | without d) / Q(d | with all) with its error from seeds, `p` the share of
    permuted names that give as large a gap, and `worst` the largest loss, at `worst_at`.
    """

    gap: Estimate
    p: float
    worst: Estimate
    worst_at: str


def losses(out_SDD: Floats, full_SD: Floats) -> Floats:
    """1 - Q(d | without d) / Q(d | with all) of every seed and part, (S, D)."""
    left_SD = np.diagonal(out_SDD, axis1=1, axis2=2)
    return np.asarray(1 - left_SD / np.maximum(full_SD, TINY))


def transfer(out_SDD: Floats, full_SD: Floats, names: Sequence[str], events: int, *, permutations: int = 999,
             seed: int = 0) -> Transfer:  # fmt: skip
    """The summary of qualities Q: `out_SDD[s, d, e]` is that at part e of the training without part d with seed s.

    Were leaving out d no worse for d than for any other part, the names of what was left out could be permuted within
    every seed: that gives the p-value. Errors are those of `lost`, for qualities that are shares of so many events.

    Raises:
        ConfigError: fewer than two parts.
    """
    if len(names) < 2:
        raise ConfigError(f"{len(names)} parts cannot be left out one by one", where="transfer",
                          cure="give two or more")  # fmt: skip
    loss_SD = losses(out_SDD, full_SD)
    gap = float(loss_SD.mean())
    dice, parts = np.random.default_rng(seed), np.arange(len(names))
    relative_SDD = out_SDD / np.maximum(full_SD, TINY)[:, None, :]
    drawn = [1 - np.mean([one[parts, dice.permutation(parts)] for one in relative_SDD]) for _ in range(permutations)]
    worst = int(loss_SD.mean(0).argmax())
    left_SD = np.diagonal(out_SDD, axis1=1, axis2=2)
    return Transfer(lost(left_SD, full_SD, events), at_least(gap, np.array(drawn)),
                    lost(left_SD[:, [worst]], full_SD[:, [worst]], events), names[worst])  # fmt: skip


def lost(out_SC: Floats, full_SC: Floats, events: int) -> Estimate:
    """1 - Q_out / Q_full, the mean over seeds and columns, where Q are shares of `events` events.

    The error is that of the mean over seeds, as far as there are several, and that of the events that all seeds share.
    """
    ratio_C = out_SC.mean(0) / np.maximum(full_SC.mean(0), TINY)
    relative_C = sum((1 - q_C) / np.maximum(q_C * events, TINY) for q_C in (out_SC.mean(0), full_SC.mean(0)))
    from_events = float(np.sqrt((ratio_C**2 * relative_C).sum())) / len(ratio_C)
    value = mean((1 - out_SC / np.maximum(full_SC, TINY)).mean(1))
    return Estimate(value.value, float(np.hypot(np.nan_to_num(value.error), from_events)))


def mean(values_S: Floats) -> Estimate:
    """The mean over seeds with its error; NaN for the error of one seed."""
    error = float(np.std(values_S, ddof=1) / np.sqrt(len(values_S))) if len(values_S) > 1 else np.nan
    return Estimate(float(values_S.mean()), error)


def at_least(value: float, drawn_R: Floats) -> float:
    """The p-value of a statistic among those of permutations: the share that is as large, itself included."""
    return float((1 + np.sum(drawn_R >= value - TINY)) / (1 + len(drawn_R)))


def inside(point: tuple[float, float], others: Sequence[tuple[float, float]]) -> bool:
    """Whether a point of the (mass, decay mode) plane lies in the convex hull of others, its border included.

    It does unless all others can be seen within less than half a turn: then a line parts them from it.
    """
    steps = np.array([(x - point[0], y - point[1]) for x, y in others], dtype=np.float64).reshape(-1, 2)
    steps /= np.maximum(np.abs(steps).max(0, initial=0.0), TINY)
    if not len(steps) or (np.hypot(*steps.T) < TINY).any():
        return bool(len(steps))
    angles = np.sort(np.arctan2(steps[:, 1], steps[:, 0]))
    widest = np.diff(np.append(angles, angles[0] + 2 * np.pi)).max()
    return bool(widest <= np.pi + TINY)


def sides(cells: Mapping[str, tuple[float, float]], parts: Mapping[str, Sequence[str]]) -> dict[str, bool]:
    """For every cell that some part leaves out: whether it lies inside the hull of what is then left to train on.

    `cells` are points (mass, decay mode) by the name of their sample, `parts` the samples that are left out together.
    """
    found: dict[str, bool] = {}
    for left_out in parts.values():
        trained = [point for name, point in cells.items() if name not in left_out]
        found |= {name: inside(cells[name], trained) for name in left_out}
    return found
