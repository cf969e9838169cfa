"""Toy decays: flat massless n-body phase space and boosts, for data that anyone can make in a second."""

from __future__ import annotations

import numpy as np


def phase_space(mass_B: np.ndarray, bodies: int, rng: np.random.Generator) -> np.ndarray:
    """Flat phase space of `bodies` massless particles in the rest frame of masses (B) in GeV, (B, bodies, 4).

    RAMBO: isotropic vectors with energies -ln(u1 u2), boosted and scaled to the wanted total
    (Kleiss, Stirling, Ellis, Comput. Phys. Commun. 40 (1986) 359). (E, px, py, pz).
    """
    return phase_space_of(mass_B, np.stack([rng.random((len(mass_B), bodies)) for _ in range(4)], axis=-1))


def phase_space_of(mass_B: np.ndarray, uniform_BJ4: np.ndarray) -> np.ndarray:
    """The same as a function of numbers in (0, 1), four a body: two of direction, two of energy."""
    cosine, azimuth = -1 + 2 * uniform_BJ4[..., 0], -np.pi + 2 * np.pi * uniform_BJ4[..., 1]
    first, second = (1e-12 + (1 - 1e-12) * uniform_BJ4[..., slot] for slot in (2, 3))
    energy = -np.log(first * second)
    sine = np.sqrt(1 - cosine**2)
    raw = np.stack([energy, energy * sine * np.cos(azimuth), energy * sine * np.sin(azimuth), energy * cosine], axis=-1)
    total = raw.sum(axis=1)
    invariant = np.sqrt(total[:, 0] ** 2 - (total[:, 1:] ** 2).sum(-1))
    at_rest = boost(raw, -total[:, 1:] / total[:, :1])
    return np.asarray(at_rest * (mass_B / invariant)[:, None, None])


def boost(p4_BJ4: np.ndarray, beta_B3: np.ndarray) -> np.ndarray:
    """Boost (B, J, 4) vectors by velocities (B, 3)."""
    square_B = (beta_B3**2).sum(-1)
    gamma_B = 1 / np.sqrt(1 - square_B)
    along_BJ = np.einsum("bjx,bx->bj", p4_BJ4[..., 1:], beta_B3)
    factor_B = np.where(square_B > 1e-12, (gamma_B - 1) / np.maximum(square_B, 1e-12), 0.0)
    energy_BJ = gamma_B[:, None] * (p4_BJ4[..., 0] + along_BJ)
    push_BJ = factor_B[:, None] * along_BJ + gamma_B[:, None] * p4_BJ4[..., 0]
    momentum_BJ3 = p4_BJ4[..., 1:] + push_BJ[..., None] * beta_B3[:, None, :]
    return np.concatenate([energy_BJ[..., None], momentum_BJ3], axis=-1)


def isotropic(n: int, rng: np.random.Generator) -> np.ndarray:
    """Unit vectors (n, 3)."""
    cosine, azimuth = rng.uniform(-1, 1, n), rng.uniform(-np.pi, np.pi, n)
    sine = np.sqrt(1 - cosine**2)
    return np.stack([sine * np.cos(azimuth), sine * np.sin(azimuth), cosine], axis=-1)
