"""How large the filters of an energy flow network are, and how that depends on where they lie.

Komiske, Metodiev, Thaler, arXiv:1810.05165, sec. 6: of filters that divide the plane of emissions evenly,
d ln(1/theta) dphi, the area in rapidity and azimuth grows as theta squared. Arrays: F filter, Y rapidity, X azimuth.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from jetscale.errors import DataError

HALF = 0.5  # of its maximum: where a filter is on
AT_BORDER = 0.2  # share of the contour that may lie on the border of the patch
FEWEST = 3  # filters that a line is laid through


class Size(NamedTuple):
    """A filter's number, the distance of its centre from the axis, and its area, in radians and their square."""

    filter: int
    distance: float
    area: float


class PowerLaw(NamedTuple):
    """area = exp(intercept) (distance / radius)^slope, the slope's error, and how many filters it is of."""

    slope: float
    error: float
    intercept: float
    filters: int


def sizes(filter_FYX: np.ndarray, radius: float) -> list[Size]:
    """Areas and distances of filters on a patch [-radius, radius] squared.

    Of a filter that is on in several places the largest counts. Filters that are never on are left out, and those that
    touch the border along more than a fifth of their contour, or whose centre is nearer than one pixel to the axis.
    """
    pixels = filter_FYX.shape[-1]
    width = 2 * radius / pixels
    middle = -radius + width * (np.arange(pixels) + 0.5)
    found = []
    for number, one_YX in enumerate(filter_FYX):
        if not one_YX.max() > 0:
            continue
        on_YX = _largest(one_YX > HALF * one_YX.max())
        weight_YX = np.where(on_YX, one_YX, 0.0)
        centre = np.array([(weight_YX.sum(1) * middle).sum(), (weight_YX.sum(0) * middle).sum()]) / weight_YX.sum()
        distance = float(np.hypot(*centre))
        if distance >= width and _at_border(on_YX) <= AT_BORDER:
            found.append(Size(number, distance, float(on_YX.sum()) * width**2))
    return found


def power_law(found: list[Size], radius: float, replicas: int = 200, seed: int = 0) -> PowerLaw:
    """The line ln(area) = slope ln(distance / radius) + intercept of least squares; the error from drawn filters.

    Raises:
        DataError: too few filters.
    """
    if len(found) < FEWEST:
        raise DataError(f"{len(found)} filters can be measured, and a power law needs {FEWEST}", where="filters",
                        cure="train longer, or with more latent variables (task.phi)")  # fmt: skip
    x_F = np.log([one.distance / radius for one in found])
    y_F = np.log([one.area for one in found])
    slope, intercept = np.polyfit(x_F, y_F, 1)
    dice = np.random.default_rng(seed)
    drawn: list[float] = []
    while len(drawn) < replicas:
        rows = dice.integers(len(found), size=len(found))
        if np.ptp(x_F[rows]) > 0:
            drawn.append(float(np.polyfit(x_F[rows], y_F[rows], 1)[0]))
    return PowerLaw(float(slope), float(np.std(drawn, ddof=1)), float(intercept), len(found))


def _largest(on_YX: np.ndarray) -> np.ndarray:
    """The largest connected part."""
    parts_YX, count = ndimage.label(on_YX)
    sizes_of = np.bincount(parts_YX.ravel(), minlength=count + 1)
    largest: np.ndarray = parts_YX == 1 + int(sizes_of[1:].argmax())
    return largest


def _at_border(on_YX: np.ndarray) -> float:
    """The share of the pixels of the contour that lie on the border of the patch."""
    contour_YX = on_YX & ~ndimage.binary_erosion(on_YX)
    inner_YX = np.zeros_like(on_YX)
    inner_YX[1:-1, 1:-1] = True
    return float((contour_YX & ~inner_YX).sum() / max(contour_YX.sum(), 1))
