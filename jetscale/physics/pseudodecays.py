"""Parents that decay anew: jets of an event in, jets of the same event with other decays out.

Everything drawn is a function of a seed and the event's id: not of the other events at hand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jetscale import keyed
from jetscale.physics.clustering import anti_kt
from jetscale.physics.decays import boost, phase_space_of

PARENTS = (1, 2)
MOST = 10  # quarks of a parent
DRAWS = 6  # numbers a quark: four of phase space, two of its response
SMALL = 1e-9


@dataclass(frozen=True)
class Labelled:
    """Jets of some events, padded: B event, J jet. Momenta (E, px, py, pz) in GeV; labels 0 none, 1, 2 the parents.

    `like_BJ` is the place of the jet itself; of jets that are new, of the old one that is most like it.
    """

    mask_BJ: np.ndarray
    p4_BJ4: np.ndarray
    label_BJ: np.ndarray
    like_BJ: np.ndarray

    def of(self, parent: int) -> np.ndarray:
        """Jets of a parent, (B, J) bool."""
        found: np.ndarray = self.mask_BJ & (self.label_BJ == parent)
        return found

    @property
    def pt_BJ(self) -> np.ndarray:
        return np.asarray(np.hypot(self.p4_BJ4[..., 1], self.p4_BJ4[..., 2]))


def choose(id_B: np.ndarray, seed: int, bodies: Sequence[int]) -> np.ndarray:
    """The number of quarks that the parents of each event go to, one of `bodies`: (B,) int64."""
    which_B = (_uniform(id_B, seed, 1)[:, 0] * len(bodies)).astype(np.int64)
    found: np.ndarray = np.array(bodies, dtype=np.int64)[which_B]
    return found


def decayed(jets: Labelled, id_B: np.ndarray, mass_B: np.ndarray, bodies_B: np.ndarray, *, seed: int, radius: float,
            response: float = 1.0, smear: float = 0.0) -> Labelled:  # fmt: skip
    """The events with both parents, of masses (B) in GeV, decayed anew by flat phase space: jets by falling pt.

    A parent has the momentum of its jets. Quarks, and the jets of no parent, are made into jets by anti-kT; a jet is
    the parent's from which most of its pt comes. A quark has no mass and a jet has: that of the old jet of a parent
    whose pt is nearest, scaled to the new pt, is added in square. `response` and `smear` are the mean and the relative
    width of what is seen of a quark's momentum.
    """
    slots = len(PARENTS), MOST, DRAWS
    noise_BPQX = _uniform(id_B, seed, 1 + math.prod(slots))[:, 1:].reshape(-1, *slots)
    parts, masks, labels = [jets.p4_BJ4], [jets.of(0)], [jets.label_BJ]
    for place, parent in enumerate(PARENTS):
        momentum_B3 = (jets.p4_BJ4[..., 1:] * jets.of(parent)[..., None]).sum(axis=1)
        quark_BQ4 = _quarks(momentum_B3, mass_B, bodies_B, noise_BPQX[:, place, :, :4])
        seen_BQ = response * np.exp(smear * _normal(noise_BPQX[:, place, :, 4], noise_BPQX[:, place, :, 5]))
        parts.append(quark_BQ4 * seen_BQ[..., None])
        masks.append(np.arange(MOST) < bodies_B[:, None])
        labels.append(np.full((len(id_B), MOST), parent))
    p4_BI4, mask_BI, label_BI = (np.concatenate(some, axis=1) for some in (parts, masks, labels))
    return _by_pt(_jets(p4_BI4, label_BI, anti_kt(p4_BI4, mask_BI, radius), jets))


def _uniform(id_B: np.ndarray, seed: int, count: int) -> np.ndarray:
    """Numbers in (0, 1) of each event, (B, count) float64."""
    event_B = keyed.mix(keyed.mix(np.array(id_B, dtype=np.int64)) + seed)
    return keyed.uniform_array(keyed.mix(event_B[:, None] + np.arange(count)))


def _normal(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Normal numbers of uniform ones (Box and Muller 1958)."""
    return np.asarray(np.sqrt(-2 * np.log(first)) * np.cos(2 * np.pi * second))


def _quarks(momentum_B3: np.ndarray, mass_B: np.ndarray, bodies_B: np.ndarray, uniform_BQ4: np.ndarray) -> np.ndarray:
    """The quarks of one parent in each event, (B, MOST, 4), zero beyond their number."""
    quark_BQ4 = np.zeros((len(mass_B), MOST, 4))
    velocity_B3 = momentum_B3 / np.sqrt(mass_B**2 + (momentum_B3**2).sum(axis=1))[:, None]
    for bodies in np.unique(bodies_B):
        rows = np.flatnonzero(bodies_B == bodies)
        at_rest_RQ4 = phase_space_of(mass_B[rows], uniform_BQ4[rows, :bodies])
        quark_BQ4[rows, :bodies] = boost(at_rest_RQ4, velocity_B3[rows])
    return quark_BQ4


def _jets(p4_BI4: np.ndarray, label_BI: np.ndarray, jet_BI: np.ndarray, old: Labelled) -> Labelled:
    """What was clustered as jets, each at the place of one of its members."""
    items = jet_BI.shape[1]
    inside_BJI = (jet_BI[:, None, :] == np.arange(items)[:, None]) & (jet_BI >= 0)[:, None, :]
    pt_BI = np.hypot(p4_BI4[..., 1], p4_BI4[..., 2])
    p4_BJ4 = np.einsum("bji,bix->bjx", inside_BJI, p4_BI4)
    share_BJK = np.stack([np.einsum("bji,bi->bj", inside_BJI, pt_BI * (label_BI == k)) for k in (0, *PARENTS)], axis=-1)
    mask_BJ, size_BJ = inside_BJI.any(axis=2), inside_BJI.sum(axis=2)
    label_BJ = np.where(mask_BJ, share_BJK.argmax(axis=-1), 0)
    first = old.mask_BJ.shape[1]
    as_before_BJ = (np.arange(items) < first) & (size_BJ == 1)  # untouched, and so of no parent
    like_BJ = np.where(as_before_BJ, np.minimum(np.arange(items), first - 1), _nearest(p4_BJ4, old))
    new = Labelled(mask_BJ, p4_BJ4, label_BJ, like_BJ)
    return Labelled(mask_BJ, np.where(as_before_BJ[..., None], p4_BJ4, _massive(new, old)), label_BJ, like_BJ)


def _nearest(p4_BJ4: np.ndarray, old: Labelled) -> np.ndarray:
    """The old jet of a parent that is nearest in pt to each new jet: (B, J)."""
    pt_BJ = np.hypot(p4_BJ4[..., 1], p4_BJ4[..., 2])
    apart_BJK = np.abs(np.log(pt_BJ + SMALL)[:, :, None] - np.log(old.pt_BJ + SMALL)[:, None, :])
    found: np.ndarray = np.where((old.mask_BJ & (old.label_BJ > 0))[:, None, :], apart_BJK, np.inf).argmin(axis=2)
    return found


def _massive(new: Labelled, old: Labelled) -> np.ndarray:
    """The momenta of new jets, (B, J, 4), with the mass of their like."""
    square_BJ = old.p4_BJ4[..., 0] ** 2 - (old.p4_BJ4[..., 1:] ** 2).sum(axis=-1)
    relative_BJ = np.maximum(square_BJ, 0) / np.maximum(old.pt_BJ, SMALL) ** 2
    extra_BJ = np.take_along_axis(relative_BJ, new.like_BJ, axis=1) * new.pt_BJ**2
    energy_BJ = np.sqrt(new.p4_BJ4[..., 0] ** 2 + extra_BJ)
    return np.concatenate([energy_BJ[..., None], new.p4_BJ4[..., 1:]], axis=-1)


def _by_pt(jets: Labelled) -> Labelled:
    order_BJ = np.argsort(np.where(jets.mask_BJ, -jets.pt_BJ, np.inf), axis=1, kind="stable")
    mask_BJ, label_BJ, like_BJ = (np.take_along_axis(some, order_BJ, axis=1)
                                  for some in (jets.mask_BJ, jets.label_BJ, jets.like_BJ))  # fmt: skip
    return Labelled(mask_BJ, np.take_along_axis(jets.p4_BJ4, order_BJ[..., None], axis=1), label_BJ, like_BJ)
