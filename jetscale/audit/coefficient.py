"""The nearest-training-mass coefficient: does a reconstructed mass follow the masses that a training has had?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jetscale.audit.verdicts import DECIDED
from jetscale.errors import DataError
from jetscale.metrics import Floats, Ints

FEWEST = 5  # mass points: the errors come from how these scatter
MOST = 60  # more masses than this are a spectrum, and are put together by size
PER = 1000.0  # GeV: keeps the four columns of like size


class Coefficient(NamedTuple):
    """The regression m_reco ~ constant + true m_true + value (m_near - m_true) + ht HT, and the error of `value`.

    0 is a mass that knows nothing of the training, 1 one that always is the nearest training mass. `masses` is the
    number of mass points; with few of them the error is wider, by Student's t.
    """

    value: float
    error: float
    constant: float
    true: float
    ht: float
    masses: int
    events: int


def coefficient(mass_B: Floats, true_mass_B: Floats, ht_B: Floats, trained_on: Sequence[float]) -> Coefficient:
    """Least squares with errors clustered by mass point; masses and HT (B) in GeV.

    With one training mass m_near is the same for all events and cannot be told from the constant: it is then left
    out, which is right for whatever is proportional to the true mass.

    Raises:
        DataError: fewer than five mass points, or training masses that do not tell the columns apart.
    """
    point_B = points(true_mass_B)
    number = int(point_B.max(initial=-1)) + 1
    if number < FEWEST:
        raise DataError(f"has {number} mass points, and {FEWEST} are the fewest", where="nearest_mass",
                        cure="give samples of more masses, or none for the made-up ones")  # fmt: skip
    near_B = nearest(true_mass_B, trained_on)
    columns = [true_mass_B / PER, (near_B - true_mass_B) / PER, ht_B / PER]
    if len(trained_on) > 1:
        columns.append(np.ones(len(mass_B)))
    design_BC = np.stack(columns, -1)
    if np.linalg.matrix_rank(design_BC) < design_BC.shape[1]:
        raise DataError("the nearest training mass is a function of the true mass and HT", where="nearest_mass",
                        cure="give samples of more masses, or none for the made-up ones")  # fmt: skip
    found_C, error_C = _least_squares(design_BC, mass_B / PER, point_B)
    constant = float(PER * found_C[3]) if len(found_C) > 3 else 0.0
    return Coefficient(float(found_C[1]), float(error_C[1]), constant, float(found_C[0]), float(found_C[2]), number,
                       len(mass_B))  # fmt: skip


def nearest(mass_B: Floats, trained_on: Sequence[float]) -> Floats:
    """The nearest training mass of every event, (B,) in GeV."""
    trained_K = np.asarray(sorted(trained_on), dtype=np.float64)
    return np.asarray(trained_K[np.abs(mass_B[:, None] - trained_K).argmin(1)])


def points(true_mass_B: Floats) -> Ints:
    """The mass point of every event, (B,): its mass, or where there are very many, one of sixty ranges of mass."""
    masses, point_B = np.unique(true_mass_B, return_inverse=True)
    if len(masses) > MOST:
        edges = np.quantile(true_mass_B, np.linspace(0, 1, MOST + 1)[1:-1])
        point_B = np.searchsorted(edges, true_mass_B, side="right")
    return np.asarray(point_B, dtype=np.int64)


def _least_squares(design_BC: Floats, wanted_B: Floats, point_B: Ints) -> tuple[Floats, Floats]:
    """Coefficients (C) and their errors, which hold when the residuals of one mass point belong together.

    The sandwich of Liang and Zeger (1986) with the factor for few clusters; G - 1 degrees of freedom widen it to what
    two standard errors of a normal distribution mean.
    """
    bread_CC = np.linalg.inv(design_BC.T @ design_BC)
    found_C = bread_CC @ (design_BC.T @ wanted_B)
    residual_B1 = (wanted_B - design_BC @ found_C)[:, None]
    number, (events, columns) = int(point_B.max()) + 1, design_BC.shape
    scores_GC = np.zeros((number, columns))
    np.add.at(scores_GC, point_B, design_BC * residual_B1)
    few = number / (number - 1) * (events - 1) / (events - columns)
    covariance_CC = few * bread_CC @ (scores_GC.T @ scores_GC) @ bread_CC
    return found_C, np.sqrt(np.diag(covariance_CC)) * student(number - 1) / DECIDED


def student(freedom: int) -> float:
    """How many standard errors mean 95.45 % (two of a normal distribution) with so many degrees of freedom.

    Cornish and Fisher's expansion (Abramowitz and Stegun 26.7.5), good to 1 % from four degrees on.
    """
    z = DECIDED
    terms = ((z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return z + math.fsum(term / freedom**power for power, term in enumerate(terms, 1))
