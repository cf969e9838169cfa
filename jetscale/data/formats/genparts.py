"""What a large jet comes from, by the generator's record of NanoAOD: a decay all of whose prongs lie in it.

Indices: E event, G particle of the record, flat, J jet, flat, D decay, P prong.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jetscale.labels import CODES, UNKNOWN

RADIUS = 0.8  # within which of a jet's axis a prong lies in it
TOP, Z, W, HIGGS = 6, 23, 24, 25
HEAVY, LEPTONS = (TOP, Z, W, HIGGS), (11, 13, 15)
BOTTOM, CHARM, GLUON = 5, 4, 21
COPIES = 1000  # more than any particle has


class Record(NamedTuple):
    """Particles (G,) with the bounds (E + 1,) of the events' lists; `mother` counts within the event, -1 is none."""

    eta: np.ndarray
    phi: np.ndarray
    pdg: np.ndarray
    mother: np.ndarray
    bounds: np.ndarray


class Prongs(NamedTuple):
    """Visible daughters (P,) of heavy particles, with their mothers and whose decay they count in, by their places.

    Daughters of a W or Z that a top or Higgs decays to stand here twice, as they count in both decays.
    """

    particle: np.ndarray
    mother: np.ndarray
    decay: np.ndarray


def labels(record: Record, eta_J: np.ndarray, phi_J: np.ndarray, event_J: np.ndarray) -> np.ndarray:
    """Codes (J,) of `jetscale.labels`.

    Tops, Z, W and Higgs bosons are looked at where they decay; those that come of a top or a Higgs count with it, and
    by themselves too. A jet has the label of the decay with the most prongs of those that lie in it whole; it is `qcd`
    where no visible daughter of any of these lies in it; and not known where some do and make no whole decay that has a
    name.
    """
    prongs = _prongs(record)
    kind_G, wanted_G = _kinds(record, prongs)
    jet, prong = _pairs(record, prongs, event_J)
    particle = prongs.particle[prong]
    with np.errstate(all="ignore"):  # odd jets are for the checks behind
        turn = np.abs(record.phi[particle] - phi_J[jet]) % (2 * np.pi)
        near = np.hypot(record.eta[particle] - eta_J[jet], np.minimum(turn, 2 * np.pi - turn)) < RADIUS
    jet, decay = jet[near], prongs.decay[prong[near]]
    label_J = np.full(len(eta_J), CODES["qcd"])
    label_J[jet] = UNKNOWN
    pair, count = np.unique(jet * len(kind_G) + decay, return_counts=True)
    pair_J, pair_D = np.divmod(pair, max(len(kind_G), 1))
    whole = (count == wanted_G[pair_D]) & (kind_G[pair_D] != UNKNOWN)
    order = np.flatnonzero(whole)[np.argsort(count[whole], kind="stable")]
    label_J[pair_J[order]] = kind_G[pair_D[order]]  # the last that is written has the most prongs
    return label_J


def _prongs(record: Record) -> Prongs:
    """What the last copies of heavy particles decay to; generators write a particle again for every recoil."""
    size, pdg_G = len(record.pdg), np.abs(record.pdg)
    event_G = np.repeat(np.arange(len(record.bounds) - 1), np.diff(record.bounds))
    mother_G = np.where(record.mother >= 0, record.bounds[event_G] + record.mother, -1)
    has_G = mother_G >= 0
    same_G = has_G & (record.pdg[mother_G] == record.pdg)
    copied_G = np.zeros(size, dtype=bool)
    copied_G[mother_G[same_G]] = True
    first_G = np.arange(size)  # of the copies of a particle
    for _ in range(COPIES):
        further = np.where(same_G[first_G], mother_G[first_G], first_G)
        if (further == first_G).all():
            break
        first_G = further
    heavy_G = np.isin(pdg_G, HEAVY)
    of_G = np.where(has_G & ~same_G & heavy_G[mother_G] & ~copied_G[mother_G], mother_G, -1)
    seen_G = (of_G >= 0) & (((pdg_G >= 1) & (pdg_G <= BOTTOM)) | np.isin(pdg_G, LEPTONS)
                            | ((pdg_G == GLUON) & (pdg_G[of_G] == HIGGS)))  # fmt: skip
    particle = np.flatnonzero(seen_G)
    mother = of_G[particle]
    above = of_G[first_G[mother]]  # the top or Higgs that a W comes of
    twice = above >= 0
    return Prongs(np.concatenate([particle, particle[twice]]), np.concatenate([mother, mother[twice]]),
                  np.concatenate([mother, above[twice]]))  # fmt: skip


def _kinds(record: Record, prongs: Prongs) -> tuple[np.ndarray, np.ndarray]:
    """Of the decay of every particle the label, -1 where it has none, and how many prongs it has, each (G,)."""
    size, pdg_G, pdg_P = len(record.pdg), np.abs(record.pdg), np.abs(record.pdg[prongs.particle])

    def count(chosen_P: np.ndarray) -> np.ndarray:
        return np.bincount(prongs.decay[chosen_P], minlength=size)

    all_G = count(np.ones(len(pdg_P), dtype=bool))
    quarks_G, leptons_G, gluons_G = count(pdg_P <= BOTTOM), count(np.isin(pdg_P, LEPTONS)), count(pdg_P == GLUON)
    two_G, by_w_G = (quarks_G == 2) & (all_G == 2), count(pdg_G[prongs.mother] == W)
    kinds = {
        "w": (pdg_G == W) & two_G,
        "z": (pdg_G == Z) & two_G,
        "top": (pdg_G == TOP) & (quarks_G == 3) & (all_G == 3),
        "top_lepton": (pdg_G == TOP) & (quarks_G == 1) & (leptons_G == 1),
        "h_bb": (pdg_G == HIGGS) & two_G & (count(pdg_P == BOTTOM) == 2),
        "h_cc": (pdg_G == HIGGS) & two_G & (count(pdg_P == CHARM) == 2),
        "h_gg": (pdg_G == HIGGS) & (gluons_G == 2) & (all_G == 2),
        "h_4q": (pdg_G == HIGGS) & (quarks_G == 4) & (by_w_G == 4),
        "h_lepton": (pdg_G == HIGGS) & (quarks_G == 2) & (leptons_G == 1) & (by_w_G == 3),
    }
    return np.select(list(kinds.values()), [CODES[name] for name in kinds], UNKNOWN), all_G


def _pairs(record: Record, prongs: Prongs, event_J: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every jet with every prong of its event."""
    event_P = np.searchsorted(record.bounds, prongs.particle, side="right") - 1
    order = np.argsort(event_P, kind="stable")
    start_J, stop_J = (np.searchsorted(event_P[order], event_J, side) for side in ("left", "right"))
    count_J = stop_J - start_J
    jet = np.repeat(np.arange(len(event_J)), count_J)
    rank = np.arange(len(jet)) - np.repeat(np.cumsum(count_J) - count_J, count_J)
    return jet, order[np.repeat(start_J, count_J) + rank]
