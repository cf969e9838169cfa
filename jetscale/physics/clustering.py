"""Jets from a few momenta per event, many events at once; for whole events of particles there is fastjet."""

from __future__ import annotations

import numpy as np

NEVER = 1e-12  # pt^2 in GeV^2 below which nothing is told apart


def anti_kt(p4_BJ4: np.ndarray, mask_BJ: np.ndarray, radius: float) -> np.ndarray:
    """The jet that each momentum goes into, by the place of one of its members: (B, J) int64, -1 where masked.

    Momenta are (E, px, py, pz) in GeV and are added four by four (arXiv:0802.1189); distances are in rapidity and
    azimuth.
    """
    p4_BJ4, alive_BJ = p4_BJ4.astype(np.float64), mask_BJ.copy()
    jet_BJ = np.where(mask_BJ, np.arange(mask_BJ.shape[1]), -1)
    busy_B = np.arange(len(p4_BJ4))
    while True:
        # Once no two are closer than the radius, each is a jet by itself.
        distance_BJJ = _distance(p4_BJ4[busy_B], alive_BJ[busy_B], radius)
        close_B = (distance_BJJ < 1).any(axis=(1, 2))
        busy_B, distance_BJJ = busy_B[close_B], distance_BJJ[close_B]
        if not len(busy_B):
            return jet_BJ
        _step(p4_BJ4, alive_BJ, jet_BJ, busy_B, distance_BJJ)


def _distance(p4_BJ4: np.ndarray, alive_BJ: np.ndarray, radius: float) -> np.ndarray:
    """Squared distances in units of the radius, (B, J, J), infinite to oneself and to what is no more."""
    energy_BJ, pz_BJ = p4_BJ4[..., 0], p4_BJ4[..., 3]
    rapidity_BJ = np.arctanh(np.clip(pz_BJ / np.maximum(energy_BJ, NEVER), -1 + 1e-12, 1 - 1e-12))
    azimuth_BJ = np.arctan2(p4_BJ4[..., 2], p4_BJ4[..., 1])
    turn_BJJ = np.abs(azimuth_BJ[:, :, None] - azimuth_BJ[:, None, :])
    turn_BJJ = np.minimum(turn_BJJ, 2 * np.pi - turn_BJJ)
    square_BJJ = ((rapidity_BJ[:, :, None] - rapidity_BJ[:, None, :]) ** 2 + turn_BJJ**2) / radius**2
    apart_BJJ = alive_BJ[:, :, None] & alive_BJ[:, None, :] & ~np.eye(alive_BJ.shape[1], dtype=bool)
    found: np.ndarray = np.where(apart_BJJ, square_BJJ, np.inf)
    return found


def _step(p4_BJ4: np.ndarray, alive_BJ: np.ndarray, jet_BJ: np.ndarray, busy_B: np.ndarray,
          distance_BJJ: np.ndarray) -> None:  # fmt: skip
    """In each of the busy events merge the two that are nearest, or take away what is a jet."""
    inverse_BJ = 1 / np.maximum((p4_BJ4[busy_B, :, 1:3] ** 2).sum(axis=-1), NEVER)
    pair_BJJ = np.minimum(inverse_BJ[:, :, None], inverse_BJ[:, None, :]) * distance_BJJ
    beam_BJ = np.where(alive_BJ[busy_B], inverse_BJ, np.inf)
    jets = pair_BJJ.shape[1]
    one_B, other_B = np.divmod(pair_BJJ.reshape(len(busy_B), -1).argmin(axis=1), jets)
    row_B = np.arange(len(busy_B))
    merge_B = pair_BJJ[row_B, one_B, other_B] < beam_BJ.min(axis=1)
    alive_BJ[busy_B[~merge_B], beam_BJ[~merge_B].argmin(axis=1)] = False
    event_B, one_B, other_B = busy_B[merge_B], one_B[merge_B], other_B[merge_B]
    p4_BJ4[event_B, one_B] += p4_BJ4[event_B, other_B]
    alive_BJ[event_B, other_B] = False
    gone_BJ = jet_BJ[event_B] == other_B[:, None]
    jet_BJ[event_B] = np.where(gone_BJ, one_B[:, None], jet_BJ[event_B])
