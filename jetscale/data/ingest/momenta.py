"""Four-vectors as files have them become pt, eta, phi and mass: GeV and radians, in double precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

ENERGIES = frozenset({"pt", "mass", "energy", "px", "py", "pz"})
PT_FLOOR = 1e-12  # GeV
ROUNDING = 1e-6  # of E^2: what single precision leaves of E^2 - p^2, with room


class Recipe(NamedTuple):
    """How a component is made of others; without a formula it stands as it is."""

    inputs: tuple[str, ...]
    formula: Callable[..., np.ndarray] | None = None


def pt(px: np.ndarray, py: np.ndarray) -> np.ndarray:
    """Transverse momentum."""
    return np.asarray(np.hypot(px, py))


def phi(px: np.ndarray, py: np.ndarray) -> np.ndarray:
    """Azimuth in [-pi, pi]; 0 for an empty vector."""
    return np.asarray(np.arctan2(py, px))


def eta(px: np.ndarray, py: np.ndarray, pz: np.ndarray) -> np.ndarray:
    """Pseudorapidity, asinh(pz / pt); finite along the beam, where it is infinite, and 0 for an empty vector."""
    return np.asarray(np.arcsinh(pz / np.maximum(np.hypot(px, py), PT_FLOOR)))


def mass(px: np.ndarray, py: np.ndarray, pz: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """Mass: sqrt(E^2 - p^2), 0 where rounding alone made that negative, and -sqrt(p^2 - E^2) where more did."""
    return _root(energy, np.hypot(np.hypot(px, py), pz))


def mass_of_pt(pt: np.ndarray, eta: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """Mass, as above."""
    return _root(energy, pt * np.cosh(eta))


def _root(energy: np.ndarray, momentum: np.ndarray) -> np.ndarray:
    squared = (energy - momentum) * (energy + momentum)
    rounded = (squared < 0) & (squared > -ROUNDING * energy * energy)
    return np.where(rounded, 0.0, np.copysign(np.sqrt(np.abs(squared)), squared))


PLAIN = {name: Recipe((name,)) for name in ("pt", "eta", "phi", "mass")}
# Of the kinds that a file has, the first is taken: what has a mass need not be given one by subtraction.
KINDS: dict[tuple[str, ...], dict[str, Recipe]] = {
    ("pt", "eta", "phi", "mass"): PLAIN,
    ("pt", "eta", "phi", "energy"): {**PLAIN, "mass": Recipe(("pt", "eta", "energy"), mass_of_pt)},
    ("px", "py", "pz", "energy"): {
        "pt": Recipe(("px", "py"), pt),
        "eta": Recipe(("px", "py", "pz"), eta),
        "phi": Recipe(("px", "py"), phi),
        "mass": Recipe(("px", "py", "pz", "energy"), mass),
    },
}
