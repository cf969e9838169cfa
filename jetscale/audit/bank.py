"""The probe bank: made-up pairs at masses between and beyond those of a training, in any number of jets.

Everything scales with the mass, the soft jets too: a method that is as good at every mass has no other way to tell one
mass from another than by its size.
"""

from __future__ import annotations

from collections.abc import Sequence

import awkward as ak
import numpy as np
import pyarrow as pa

from jetscale.metrics import Floats
from jetscale.own import complete
from jetscale.physics.decays import boost, isotropic, phase_space

MASSES = 25
BODIES = (2, 3, 4, 5)
USUAL = (600.0, 1800.0)  # GeV: where nothing is said of a training
BEYOND = 0.35  # how far the masses go beyond those of the training
NEAR = 0.01  # a mass so close to one of the training is moved away from it
MOST_EXTRA = 3
SOFTEST = 0.02  # of the mass: jets with less pt are lost
SMEAR = 0.06


def off_grid(trained_on: Sequence[float], number: int = MASSES) -> Floats:
    """Masses in GeV, evenly spread in their logarithm, between and beyond those of a training and at none of them."""
    trained = np.array(sorted(trained_on) or USUAL)
    masses = np.geomspace(trained[0] * (1 - BEYOND), trained[-1] * (1 + BEYOND), number)
    for known in trained_on:
        close = np.abs(masses / known - 1) < NEAR
        masses[close] = known * (1 + np.where(masses[close] < known, -NEAR, NEAR))
    return masses


def bank(masses: Sequence[float] | Floats, events: int, seed: int, *, off_shell: float = 0.0) -> pa.Table:
    """So many made-up events, shared out over the masses, as a table of jet events in GeV.

    Two parents go to 2, 3, 4 or 5 massless bodies each by flat phase space; up to three soft jets are added, energies
    are smeared by 6 %. `off_shell` is the spread of each parent's own mass round the nominal one, as a part of it.
    """
    dice = np.random.default_rng(seed)
    mass_B = np.resize(np.asarray(masses, dtype=np.float64), events)
    bodies_B = dice.choice(BODIES, events)
    parts = [_pairs(mass_B[bodies_B == bodies], bodies, off_shell, dice) for bodies in BODIES]
    array = ak.concatenate([part for part in parts if len(part)])
    return complete(array[np.argsort(ak.to_numpy(array["true_mass"]), kind="stable")], where="probe bank")


def _pairs(mass_B: Floats, bodies: int, off_shell: float, dice: np.random.Generator) -> ak.Array:
    events = len(mass_B)
    own_2B = mass_B * np.maximum(1 + off_shell * dice.normal(size=(2, events)), 0.2)
    push_B3 = isotropic(events, dice) * (mass_B * dice.exponential(0.5, events))[:, None]
    groups = [boost(phase_space(own_B, bodies, dice), sign * push_B3 / np.hypot(own_B, _norm(push_B3))[:, None])
              for sign, own_B in zip((1, -1), own_2B, strict=True)]  # fmt: skip
    energy_BJ = mass_B[:, None] * (0.05 + dice.exponential(0.08, (events, MOST_EXTRA)))
    direction_BJ3 = np.stack([isotropic(events, dice) for _ in range(MOST_EXTRA)], axis=1)
    extra_BJ4 = np.concatenate([energy_BJ[..., None], energy_BJ[..., None] * direction_BJ3], axis=-1)
    extra_BJ4 *= (np.arange(MOST_EXTRA) < dice.integers(0, MOST_EXTRA + 1, (events, 1)))[..., None]
    jets = 2 * bodies + MOST_EXTRA
    smear_BJ1 = np.maximum(dice.normal(1, SMEAR, (events, jets, 1)), 0.5)
    vector_BJ4 = np.concatenate([*groups, extra_BJ4], axis=1) * smear_BJ1
    label_J = np.array([1] * bodies + [2] * bodies + [0] * MOST_EXTRA)
    return _columns(vector_BJ4, np.tile(label_J, (events, 1)), mass_B, bodies)


def _columns(vector_BJ4: Floats, label_BJ: np.ndarray, mass_B: Floats, bodies: int) -> ak.Array:
    pt_BJ = np.hypot(vector_BJ4[..., 1], vector_BJ4[..., 2])
    kept_BJ = ak.from_regular(ak.Array(pt_BJ > SOFTEST * mass_B[:, None]))
    columns = {
        "jet_pt": pt_BJ,
        "jet_eta": np.arcsinh(vector_BJ4[..., 3] / np.maximum(pt_BJ, 1e-9)),
        "jet_phi": np.arctan2(vector_BJ4[..., 2], vector_BJ4[..., 1]),
        "jet_mass": np.zeros_like(pt_BJ),
        "jet_parent_ancestry": label_BJ,
        "jet_parent_quark": label_BJ,
    }
    lists = {name: ak.from_regular(ak.Array(values))[kept_BJ] for name, values in columns.items()}
    return ak.Array({**lists, "true_mass": mass_B, "decay_mode": np.full(len(mass_B), bodies)})


def _norm(vector_B3: Floats) -> Floats:
    return np.asarray(np.linalg.norm(vector_B3, axis=-1))
