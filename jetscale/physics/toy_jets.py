"""Made-up jets with constituents, for a first try of any tagger: decays to prongs, each with a leading-log shower.

A prong emits along itself with a density that is flat in ln 1/z, ln 1/theta and azimuth, in proportion to its colour
factor (Altarelli, Parisi 1977); heavy flavours have displaced tracks and vertices. Arrays come as Arrow columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from jetscale.physics.decays import boost, phase_space

QUARK, GLUON = 4.0 / 3.0, 3.0
ALPHA, RADIUS, SOFTEST, NARROWEST = 0.25, 0.8, 0.005, 0.005
SPECIES = np.array([211, -211, 130, 22])  # with the shares below
SHARES = (0.3, 0.3, 0.1, 0.3)
RESOLUTION = 0.02  # mm, of impact parameters


class Kind(NamedTuple):
    """What a label's jets are made of: the mass (GeV, 0 of a single prong), prongs, colour factors, heavy prongs."""

    mass: float
    prongs: int
    colour: float
    flavour: str = ""
    heavy: int = 0


KINDS: dict[str, Kind] = {
    "qcd": Kind(0, 1, 2.2), "quark": Kind(0, 1, QUARK), "gluon": Kind(0, 1, GLUON),
    "charm": Kind(0, 1, QUARK, "charm", 1), "bottom": Kind(0, 1, QUARK, "bottom", 1),
    "w": Kind(80.4, 2, QUARK), "z": Kind(91.2, 2, QUARK), "top": Kind(172.5, 3, QUARK, "bottom", 1),
    "top_lepton": Kind(120.0, 2, QUARK, "bottom", 1), "h_bb": Kind(125.0, 2, QUARK, "bottom", 2),
    "h_cc": Kind(125.0, 2, QUARK, "charm", 2), "h_gg": Kind(125.0, 2, GLUON), "h_4q": Kind(125.0, 4, QUARK),
    "h_lepton": Kind(100.0, 2, QUARK), "resonance": Kind(300.0, 2, QUARK),
}  # fmt: skip
LIFETIME = {"bottom": 0.45, "charm": 0.15}  # mm, a scale for impact parameters
VERTEX_MASS, VERTEX_SHARE = {"bottom": 2.5, "charm": 1.2, "": 0.7}, {"bottom": 0.7, "charm": 0.35, "": 0.02}


def jets(n: int, names: Sequence[str], rng: np.random.Generator) -> dict[str, pa.Array]:
    """Jets with pt 550 to 650 GeV: columns of jets, their particles and vertices, and `place`, which of `names`."""
    place_B = np.arange(n) % len(names)
    parts = [_of_kind(int((place_B == number).sum()), KINDS[name], rng) for number, name in enumerate(names)]
    # From label after label back to label by turns.
    order = np.argsort(np.argsort(place_B, kind="stable"), kind="stable")
    columns = {name: pa.concat_arrays([part[name] for part in parts]).take(pa.array(order)) for name in parts[0]}
    return {**columns, "place": pa.array(place_B)}


def _of_kind(n: int, kind: Kind, rng: np.random.Generator) -> dict[str, pa.Array]:
    pt_B, eta_B, phi_B = rng.uniform(550, 650, n), rng.uniform(-2, 2, n), rng.uniform(-np.pi, np.pi, n)
    prong_BJ3 = _prongs(n, kind, pt_B, rng)
    jet_I, z_I, away_I2, prong_I = _showered(prong_BJ3, kind.colour, rng)
    pt_I = z_I * pt_B[jet_I]
    eta_I, phi_I = eta_B[jet_I] + away_I2[:, 0], phi_B[jet_I] + away_I2[:, 1]
    order = np.lexsort((-pt_I, jet_I))
    jet_I, pt_I, eta_I, phi_I, prong_I = (one[order] for one in (jet_I, pt_I, eta_I, phi_I, prong_I))
    offsets = pa.array(np.concatenate([[0], np.cumsum(np.bincount(jet_I, minlength=n))]).astype(np.int32))
    pdg_I = rng.choice(SPECIES, len(pt_I), p=SHARES)
    tracks = _tracks(pdg_I, (prong_I < kind.heavy), kind.flavour, rng)
    lists = {"pt": pt_I, "eta": eta_I, "phi": _wrapped(phi_I), "mass": np.zeros(len(pt_I)), "pdg": pdg_I, **tracks}
    columns = {f"particle_{name}": pa.ListArray.from_arrays(offsets, pa.array(one)) for name, one in lists.items()}
    return {**_jet(n, jet_I, pt_I, eta_I, phi_I), **columns, **_vertices(kind, pt_B, eta_B, phi_B, rng)}


def _prongs(n: int, kind: Kind, pt_B: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Share of pt, and place about the axis of every prong, (B, prongs, 3)."""
    if kind.prongs == 1:
        return np.tile([1.0, 0.0, 0.0], (n, 1, 1))
    at_rest_BJ4 = phase_space(np.full(n, kind.mass), kind.prongs, rng)
    energy_B = np.hypot(pt_B, kind.mass)
    moving_BJ4 = boost(at_rest_BJ4, np.stack([pt_B / energy_B, 0 * pt_B, 0 * pt_B], axis=1))
    pt_BJ = np.hypot(moving_BJ4[..., 1], moving_BJ4[..., 2])
    eta_BJ = np.arcsinh(moving_BJ4[..., 3] / np.maximum(pt_BJ, 1e-9))
    phi_BJ = np.arctan2(moving_BJ4[..., 2], moving_BJ4[..., 1])
    return np.stack([pt_BJ / pt_B[:, None], eta_BJ, phi_BJ], axis=-1)


def _showered(prong_BJ3: np.ndarray, colour: float, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """The jet, share of pt, place (I, 2) and prong of every particle: emissions, and what they leave of their prong."""
    n, prongs, _ = prong_BJ3.shape
    share_X, place_X2 = prong_BJ3[..., 0].ravel(), prong_BJ3[..., 1:].reshape(-1, 2)
    mean = 2 * ALPHA * colour / np.pi * np.log(0.5 / SOFTEST) * np.log(RADIUS / NARROWEST)
    count_X = rng.poisson(mean, n * prongs)
    prong_E = np.repeat(np.arange(n * prongs), count_X)
    z_E = SOFTEST * (0.5 / SOFTEST) ** rng.random(len(prong_E))
    # Emissions share what the hard particle loses: together never more than nine tenths.
    sum_X = np.bincount(prong_E, z_E, n * prongs)
    z_E *= (np.minimum(sum_X, 0.9) / np.maximum(sum_X, 1e-9))[prong_E]
    theta_E = NARROWEST * (RADIUS / NARROWEST) ** rng.random(len(prong_E))
    azimuth_E = rng.uniform(-np.pi, np.pi, len(prong_E))
    place_E2 = place_X2[prong_E] + theta_E[:, None] * np.stack([np.cos(azimuth_E), np.sin(azimuth_E)], axis=1)
    prong_I = np.concatenate([np.arange(n * prongs), prong_E])
    z_I = np.concatenate([1 - np.minimum(sum_X, 0.9), z_E]) * share_X[prong_I]
    inside_I = np.hypot(*np.concatenate([place_X2, place_E2]).T) < 1.2 * RADIUS
    inside_I[: n * prongs] = True
    found = prong_I // prongs, z_I, np.concatenate([place_X2, place_E2]), prong_I % prongs
    return tuple(one[inside_I] for one in found)


def _tracks(pdg_I: np.ndarray, heavy_I: np.ndarray, flavour: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Charge and impact parameters (mm): displaced with an exponential tail in heavy prongs."""
    charged_I = np.abs(pdg_I) == 211
    displaced_I = heavy_I & (rng.random(len(pdg_I)) < 0.5)
    scale_I = np.where(displaced_I, LIFETIME.get(flavour, 0.0), 0.0)
    size = {name: rng.exponential(1.0, len(pdg_I)) * scale_I for name in ("d0", "dz")}
    error_I = RESOLUTION * rng.uniform(0.8, 1.5, len(pdg_I))
    smeared = {name: one + rng.normal(0, 1, len(pdg_I)) * error_I for name, one in size.items()}
    found = {"d0": smeared["d0"], "d0_error": error_I, "dz": smeared["dz"], "dz_error": error_I}
    tracks = {name: np.where(charged_I, one, 0.0) for name, one in found.items()}
    return {"charge": np.sign(pdg_I) * charged_I, **tracks}


def _vertices(kind: Kind, pt_B: np.ndarray, eta_B: np.ndarray, phi_B: np.ndarray, rng: np.random.Generator
              ) -> dict[str, pa.Array]:  # fmt: skip
    """At most two secondary vertices a jet, one for each heavy prong at most, and now and then a false one."""
    n = len(pt_B)
    count_B = rng.binomial(max(kind.heavy, 1), VERTEX_SHARE[kind.flavour], n)
    of_V = np.repeat(np.arange(n), count_B)
    size, rows = LIFETIME.get(kind.flavour, 0.05), len(of_V)
    d3d_V, tracks_V = 10 * size * rng.exponential(1.0, rows) + 0.1, 2 + rng.poisson(1.5 + (size > 0.3), rows)
    values = {
        "pt": pt_B[of_V] * rng.beta(3, 5, rows),
        "eta": eta_B[of_V] + rng.normal(0, 0.03, rows),
        "phi": _wrapped(phi_B[of_V] + rng.normal(0, 0.03, rows)),
        "mass": VERTEX_MASS[kind.flavour] * rng.gamma(4.0, 0.25, rows),
        "n_track": tracks_V,
        "dxy": d3d_V * rng.uniform(0.2, 1.0, rows),
        "dxy_error": 0.1 * rng.uniform(0.8, 1.5, rows),
        "d3d": d3d_V,
        "d3d_error": 0.12 * rng.uniform(0.8, 1.5, rows),
    }
    offsets = pa.array(np.concatenate([[0], np.cumsum(count_B)]).astype(np.int32))
    return {f"vertex_{name}": pa.ListArray.from_arrays(offsets, pa.array(one)) for name, one in values.items()}


def _jet(n: int, jet_I: np.ndarray, pt_I: np.ndarray, eta_I: np.ndarray, phi_I: np.ndarray) -> dict[str, pa.Array]:
    """The sum of the particles."""
    parts = (pt_I * np.cos(phi_I), pt_I * np.sin(phi_I), pt_I * np.sinh(eta_I), pt_I * np.cosh(eta_I))
    px_B, py_B, pz_B, energy_B = (np.bincount(jet_I, part, n) for part in parts)
    pt_B = np.hypot(px_B, py_B)
    square_B = energy_B**2 - pt_B**2 - pz_B**2
    values = {"pt": pt_B, "eta": np.arcsinh(pz_B / np.maximum(pt_B, 1e-9)), "phi": np.arctan2(py_B, px_B),
              "mass": np.sqrt(np.maximum(square_B, 0.0))}  # fmt: skip
    return {f"jet_{name}": pa.array(one) for name, one in values.items()}


def _wrapped(phi: np.ndarray) -> np.ndarray:
    turned: np.ndarray = np.remainder(phi + np.pi, 2 * np.pi) - np.pi
    return turned
