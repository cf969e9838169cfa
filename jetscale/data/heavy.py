"""Hadrons with b and c quarks, and which particles come from their decays. Indices: N particle, I track, V vertex."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jetscale.data.truth import Floats, Ints, Particles

SAME_MM = 1e-3  # what was made no farther apart was made in one place: resonances fly 1e-9 mm, heavy hadrons 0.1 mm
GENERATIONS = 64  # between a heavy hadron and what it decays to at once


@dataclass(frozen=True)
class Produced(Particles):
    """Particles that also say their masses (GeV) and where they were made (mm; the collision is at the origin)."""

    mass_N: Floats
    made_N3: Floats

    @classmethod
    def none(cls) -> Produced:
        """A record of no events."""
        whole, real = np.zeros(0, dtype=np.int64), np.zeros(0)
        return cls(whole, whole, whole, whole, whole, np.zeros((0, 4)), real, real, np.zeros((0, 3)))


@dataclass(frozen=True)
class Vertices:
    """Decays of heavy hadrons by their tracks: jet (V,), momentum (V, 4), place in mm (V, 3) and tracks (V,)."""

    jet_V: Ints
    p4_V4: Floats
    place_V3: Floats
    tracks_V: Ints


def flavour(id_N: Ints) -> Ints:
    """5 for hadrons with a b quark, 4 for those with a c and no b, else 0, by PDG id: (N,)."""
    id_N = np.abs(id_N)
    digits_N3 = np.stack([id_N // 1000 % 10, id_N // 100 % 10, id_N // 10 % 10], axis=1)
    hadron_N = (id_N > 100) & (digits_N3[:, 1:] > 0).all(axis=1)
    heaviest_N = digits_N3.max(axis=1)
    return np.where(hadron_N & ((heaviest_N == 4) | (heaviest_N == 5)), heaviest_N, 0).astype(np.int64)


def flown(particles: Produced, row_I: Ints) -> Ints:
    """What decayed where these particles were made, after a flight: the row of their first ancestor made elsewhere."""
    first_N = np.repeat(particles.first_B, particles.count_B)
    parent_N = first_N + particles.mother_N
    above_I = parent_N[row_I]
    for _ in range(GENERATIONS):
        apart_I = np.abs(particles.made_N3[above_I] - particles.made_N3[row_I]).max(axis=1)
        higher_I = np.where(apart_I < SAME_MM, parent_N[above_I], above_I)
        if np.array_equal(higher_I, above_I):
            break
        above_I = higher_I
    return above_I


def vertices(particles: Produced, row_I: Ints, jet_I: Ints) -> Vertices:
    """The decays of heavy hadrons with two or more of these tracks in one jet; by jet, and there in falling pt."""
    origin_I = flown(particles, row_I)
    heavy_I: npt.NDArray[np.bool_] = flavour(particles.id_N[origin_I]) > 0
    row_I, jet_I, origin_I = row_I[heavy_I], jet_I[heavy_I], origin_I[heavy_I]
    keys = jet_I * len(particles.id_N) + origin_I
    _, first_V, vertex_I, tracks_V = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    p4_V4 = np.zeros((len(first_V), 4))
    np.add.at(p4_V4, vertex_I, particles.p4_N4[row_I])
    several = np.flatnonzero(tracks_V >= 2)
    jet_V = jet_I[first_V]
    order = several[np.lexsort((-np.hypot(p4_V4[several, 0], p4_V4[several, 1]), jet_V[several]))]
    place_V3 = particles.made_N3[row_I[first_V[order]]]
    return Vertices(jet_V[order], p4_V4[order], place_V3, tracks_V[order].astype(np.int64))
