"""What a jet is made of, in a few numbers that tell quarks from gluons. Indices: I constituent (flat), J jet."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

BETA = 0.2  # of C1: small angles count, which is where gluons differ from quarks


def charged(id_I: Ints) -> npt.NDArray[np.bool_]:
    """Which particles carry charge, by the quarks in their PDG ids (scheme of the Review of Particle Physics)."""
    known, place_I = np.unique(np.abs(id_I), return_inverse=True)
    digit_K3 = np.stack([known // 1000 % 10, known // 100 % 10, known // 10 % 10], axis=1)
    charge_K3 = np.where(digit_K3 % 2 == 1, -1, 2) * (digit_K3 > 0)
    baryon_K = digit_K3[:, 0] > 0
    charge_K = charge_K3[:, 1] + np.where(baryon_K, charge_K3[:, 0] + charge_K3[:, 2], -charge_K3[:, 2])
    hadron_K = (known > 100) & (digit_K3[:, 1:] > 0).all(axis=1)
    found: npt.NDArray[np.bool_] = np.where(hadron_K, charge_K != 0, np.isin(known, (11, 13, 15)))[place_I]
    return found


def observables(p4_I4: Floats, charged_I: npt.NDArray[np.bool_], jet_I: Ints, p4_J4: Floats) -> dict[str, Floats]:
    """Multiplicities, width, pTD, share of the hardest and C1 of every jet, each (J,); momenta (px, py, pz, E) in GeV.

    `jet_I` is the jet of each constituent. Angles are in rapidity and azimuth. Width: mean distance to the jet's axis,
    by pt; pTD: sqrt(sum pt^2) / sum pt (arXiv:1211.7038); C1: the energy correlator of two constituents with beta 0.2
    (arXiv:1305.0007, eq. 2). A jet of nothing has 0 everywhere.
    """
    jets = len(p4_J4)
    pt_I = np.hypot(p4_I4[:, 0], p4_I4[:, 1])
    place_I2, axis_J2 = _place(p4_I4), _place(p4_J4)
    sum_J = np.bincount(jet_I, pt_I, jets)
    hardest_J = np.zeros(jets)
    np.maximum.at(hardest_J, jet_I, pt_I)
    away_I = _distance(place_I2, axis_J2[jet_I])
    return {
        "n_constituent": np.bincount(jet_I, minlength=jets).astype(np.float64),
        "n_charged": np.bincount(jet_I[charged_I], minlength=jets).astype(np.float64),
        "width": _over(np.bincount(jet_I, pt_I * away_I, jets), sum_J),
        "ptd": _over(np.sqrt(np.bincount(jet_I, pt_I**2, jets)), sum_J),
        "lead_fraction": _over(hardest_J, sum_J),
        "c1": _over(_correlator(pt_I, place_I2, jet_I, jets), sum_J**2),
    }


def _place(p4: Floats) -> Floats:
    """Rapidity and azimuth, (..., 2)."""
    rapidity = np.arctanh(np.clip(p4[:, 2] / p4[:, 3], -1 + 1e-12, 1 - 1e-12))
    return np.stack([rapidity, np.arctan2(p4[:, 1], p4[:, 0])], axis=1)


def _distance(one: Floats, other: Floats) -> Floats:
    turn = np.abs(one[:, 1] - other[:, 1])
    found: Floats = np.hypot(one[:, 0] - other[:, 0], np.minimum(turn, 2 * np.pi - turn))
    return found


def _over(above_J: npt.NDArray[Any], below_J: npt.NDArray[Any]) -> Floats:
    found: Floats = np.divide(above_J, below_J, out=np.zeros(len(above_J)), where=below_J > 0)
    return found


def _correlator(pt_I: Floats, place_I2: Floats, jet_I: Ints, jets: int) -> Floats:
    """Sum of pt_i pt_j distance_ij^beta over the pairs of each jet: (J,)."""
    order = np.argsort(jet_I, kind="stable")
    jet_I, pt_I, (rapidity_I, azimuth_I) = jet_I[order], pt_I[order], place_I2[order].T.copy()
    later_I = np.cumsum(np.bincount(jet_I, minlength=jets))[jet_I] - np.arange(len(order)) - 1  # behind each in its jet
    first = np.repeat(np.arange(len(order)), later_I)
    second = first + 1 + np.arange(len(first)) - np.repeat(np.cumsum(later_I) - later_I, later_I)
    turn = np.abs(np.repeat(azimuth_I, later_I) - azimuth_I[second])
    square = (np.repeat(rapidity_I, later_I) - rapidity_I[second]) ** 2 + np.minimum(turn, 2 * np.pi - turn) ** 2
    sum_I = np.bincount(first, pt_I[second] * square ** (BETA / 2), len(order))
    return np.asarray(np.bincount(jet_I, pt_I * sum_I, jets), dtype=np.float64)
