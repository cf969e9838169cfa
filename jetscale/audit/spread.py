"""Functions as points: how far those of other compositions lie from each other, against those of other seeds.

Every trained function is described by its responses on one fixed bank of probes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from jetscale.audit.transfer import at_least
from jetscale.errors import ConfigError
from jetscale.metrics import Floats, Ints

COMPONENTS = 10
LEAST = 1e-6  # of the responses' own size: seeds that agree better agree up to rounding
NOTHING = 1e-9  # a variance of standardised responses: rounding
FEWEST_SEEDS = 5  # for a distribution of functions


class Spread(NamedTuple):
    """Variance between compositions over that within them, `f` (1: the composition does not matter), and its p-value.

    `smallest_p` is the least that so few functions can give; `points_KC` are the functions in principal components.
    """

    between: float
    within: float
    f: float
    p: float
    smallest_p: float
    points_KC: Floats


class Distance(NamedTuple):
    """How far a composition's functions lie from the seeds of the reference, `distance` in its expected spread."""

    composition: str
    distance: float
    p: float


def spread(response_KP: Floats, composition_K: Sequence[str], *, permutations: int = 999, seed: int = 0) -> Spread:
    """F = Var_between / Var_within of functions (K) from their responses on probes (P).

    Responses are standardised by the spread within compositions, probe by probe, then taken to ten principal
    components. The p-value is from permuted names of compositions, all of it done anew for each.

    Raises:
        ConfigError: fewer than two compositions, or one with a single function: seeds are needed to compare with.
    """
    group_K = _groups(composition_K)
    points_KC = components(response_KP, group_K)
    between, within = variances(points_KC, group_K)
    f, dice = _ratio(between, within), np.random.default_rng(seed)
    drawn = []
    for _ in range(permutations):
        permuted_K = dice.permutation(group_K)
        drawn.append(_ratio(*variances(components(response_KP, permuted_K), permuted_K)))
    return Spread(between, within, f, at_least(f, np.array(drawn)), _smallest_p(group_K, permutations), points_KC)


def components(response_KP: Floats, group_K: Ints) -> Floats:
    """The functions as points (K, C) in at most ten principal components of their standardised responses.

    By the K products of functions with each other, which are far fewer than the P of probes.
    """
    deviation_P = np.sqrt(_squares(response_KP, group_K).sum(0) / (len(group_K) - group_K.max() - 1))
    # Few seeds give a bad deviation of each probe, and dividing by one that is too small by chance would make F large:
    # half of it is the typical one, which is never less than rounding.
    typical = max(float(np.median(deviation_P)), LEAST * float(np.abs(response_KP).mean()), np.finfo(float).tiny)
    standard_KP = (response_KP - response_KP.mean(0)) / np.sqrt(0.5 * (deviation_P**2 + typical**2))
    square_C, axis_KC = np.linalg.eigh(standard_KP @ standard_KP.T)
    number = min(COMPONENTS, len(group_K) - 1, response_KP.shape[1])
    largest = np.argsort(square_C)[::-1][:number]
    return np.asarray(axis_KC[:, largest] * np.sqrt(square_C[largest].clip(0.0)), dtype=np.float64)


def variances(points_KC: Floats, group_K: Ints) -> tuple[float, float]:
    """Mean squares between and within compositions, as in the analysis of variance, summed over the components."""
    within = float(_squares(points_KC, group_K).sum())
    between = float(((points_KC - points_KC.mean(0)) ** 2).sum()) - within
    groups = int(group_K.max()) + 1
    return max(between, 0.0) / (groups - 1), within / (len(group_K) - groups)


def distances(response_KP: Floats, composition_K: Sequence[str], reference: str) -> list[Distance]:
    """How far every other composition's functions lie from a Gaussian through those of the reference.

    The Gaussian has the covariance of Ledoit and Wolf (2004) in the principal components of the reference's functions.
    The p-value is that of the mean squared distance, which has the chi2 distribution for a new seed of the reference.

    Raises:
        ConfigError: fewer than five functions of the reference.
    """
    from sklearn.covariance import LedoitWolf
    from sklearn.decomposition import PCA

    own_K = np.array([name == reference for name in composition_K])
    if own_K.sum() < FEWEST_SEEDS:
        raise ConfigError(f"{own_K.sum()} seeds give no distribution of functions, and {FEWEST_SEEDS} are the fewest",
                          where="one_class", cure="set seeds: 5, or one_class: false")  # fmt: skip
    size_P = np.maximum(response_KP[own_K].std(0, ddof=1), LEAST * float(np.abs(response_KP).mean()) + 1e-300)
    standard_KP = (response_KP - response_KP[own_K].mean(0)) / size_P
    # Half as many components as seeds: in as many as there are, every new function would lie outside.
    pca = PCA(min(COMPONENTS, int(own_K.sum()) // 2), svd_solver="full").fit(standard_KP[own_K])
    points_KC = pca.transform(standard_KP)
    gaussian, seeds, number = LedoitWolf().fit(points_KC[own_K]), int(own_K.sum()), points_KC.shape[1]
    # A new function differs from the mean of the seeds, which has an error of its own.
    squared_K = gaussian.mahalanobis(points_KC) * seeds / (seeds + 1)
    found = []
    for name in dict.fromkeys(one for one in composition_K if one != reference):
        chosen_K = np.array([one == name for one in composition_K])
        mean, freedom = float(squared_K[chosen_K].mean()), number * int(chosen_K.sum())
        tail = torch.special.gammaincc(torch.tensor(freedom / 2), torch.tensor(freedom / 2 * mean / number))
        found.append(Distance(name, float(np.sqrt(mean / number)), float(tail)))
    return found


def _groups(composition_K: Sequence[str]) -> Ints:
    """The number of each function's composition (K); every one needs two functions or more."""
    names = list(dict.fromkeys(composition_K))
    if len(names) < 2:
        raise ConfigError(f"{len(names)} compositions have no spread between them", where="spread",
                          cure="give two or more, or switch it off: spread=off")  # fmt: skip
    for name in names:
        if list(composition_K).count(name) < 2:
            raise ConfigError(f"{name!r} has a single seed, and there is no spread between seeds", where="spread",
                              cure="give two seeds or more, or switch it off: spread=off")  # fmt: skip
    return np.array([names.index(name) for name in composition_K], dtype=np.int64)


def _squares(values_KX: Floats, group_K: Ints) -> Floats:
    """Squared deviations from the own composition's mean, (K, X)."""
    means_GX = np.stack([values_KX[group_K == group].mean(0) for group in range(group_K.max() + 1)])
    return np.asarray((values_KX - means_GX[group_K]) ** 2)


def _ratio(between: float, within: float) -> float:
    """F; 0 where all functions are the same up to rounding."""
    return between / max(within, NOTHING) if between > NOTHING else 0.0


def _smallest_p(group_K: Ints, permutations: int) -> float:
    """The least p-value that so few functions can give: one over the number of ways to group them."""
    sizes = np.bincount(group_K)
    logs = np.cumsum(np.log(np.arange(1, len(group_K) + 1)))
    ways = logs[-1] - sum(logs[size - 1] for size in sizes)
    alike = sum(logs[count - 1] for count in np.bincount(sizes) if count > 1)
    return max(float(np.exp(alike - ways)), 1 / (1 + permutations))
