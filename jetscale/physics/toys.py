"""Made-up events of two equal-mass parents, for a first try of any network that puts jets into groups."""

from __future__ import annotations

import awkward as ak
import numpy as np

from jetscale.physics.decays import boost, isotropic, phase_space

MASSES = [600.0, 900.0, 1200.0, 1500.0, 1800.0]
BODIES = 3


def pairs(n: int, rng: np.random.Generator, extra: int = 2) -> ak.Array:
    """Pairs of 3-body decays at five masses with `extra` jets, smeared by 6 %, and light pairs: (n) events.

    Four of five are signal. Jets below 20 GeV are lost. The columns are those of jet events, in GeV.
    """
    mass_B = rng.choice(MASSES, n)
    signal_B = rng.random(n) < 0.8
    parent_B = np.where(signal_B, mass_B, rng.uniform(100, 300, n))
    recoil_B3 = isotropic(n, rng) * (parent_B * rng.exponential(0.5, n))[:, None]
    beta_B3 = recoil_B3 / np.sqrt(parent_B**2 + (recoil_B3**2).sum(-1))[:, None]
    groups = [boost(phase_space(parent_B, BODIES, rng), sign * beta_B3) for sign in (1, -1)]
    extra_pt_BJ = rng.exponential(60.0, (n, extra)) + 30.0
    direction_BJ3 = np.stack([isotropic(n, rng) for _ in range(extra)], axis=1)
    energy_BJ = extra_pt_BJ / np.maximum(np.hypot(direction_BJ3[..., 0], direction_BJ3[..., 1]), 0.05)
    extra_BJ4 = np.concatenate([energy_BJ[..., None], energy_BJ[..., None] * direction_BJ3], axis=-1)
    jets = 2 * BODIES + extra
    vector_BJ4 = np.concatenate([*groups, extra_BJ4], axis=1) * rng.normal(1.0, 0.06, (n, jets, 1))
    return _events(vector_BJ4, np.tile([1] * BODIES + [2] * BODIES + [0] * extra, (n, 1)), signal_B * mass_B)


def _events(p4_BJ4: np.ndarray, label_BJ: np.ndarray, mass_B: np.ndarray) -> ak.Array:
    pt_BJ = np.hypot(p4_BJ4[..., 1], p4_BJ4[..., 2])
    keep = ak.from_regular(ak.Array(pt_BJ > 20.0))
    lists = {
        "jet_pt": pt_BJ,
        "jet_eta": np.arcsinh(p4_BJ4[..., 3] / np.maximum(pt_BJ, 1e-9)),
        "jet_phi": np.arctan2(p4_BJ4[..., 2], p4_BJ4[..., 1]),
        "jet_mass": np.zeros_like(pt_BJ),
        "jet_parent_ancestry": label_BJ,
        "jet_parent_quark": label_BJ,
    }
    columns = {name: ak.from_regular(ak.Array(values))[keep] for name, values in lists.items()}
    return ak.Array({**columns, "true_mass": mass_B, "decay_mode": np.where(mass_B > 0, BODIES, 0)})
