"""Single jets with labels and constituents from generated particles.

Indices: N particle (all events flat), J jet, I constituent, T what a jet is matched to, V vertex.
"""

from __future__ import annotations

import awkward as ak
import numpy as np
import pyarrow as pa

from jetscale.data.heavy import Produced, flavour, vertices
from jetscale.data.jet_process import GLUON, QUARKS, JetJob
from jetscale.data.substructure import charged
from jetscale.data.truth import HARD, INVISIBLE, Bools, Floats, Ints, fastjet, hard_quarks, inside, sources
from jetscale.physics.impact import flight, impact
from jetscale.schema import EVENT_ID, IMPACT, JET, JET_LABEL, PARTICLE_IDS, PARTICLES, VERTICES, WEIGHT, Schema

TRACK_PT, TRACK_ETA, TRACK_MM = 0.5, 2.5, 100.0  # GeV; what is slower, or made farther from the beam, leaves no track
HADRON_PT = 5.0  # GeV: softer heavy hadrons give a jet no flavour
PB = WEIGHT.but(unit="pb", missing=None, doc="the jet's share of the cross section of jets that are selected")
FOUND = JET.plus(JET_LABEL, *PARTICLES.columns, *PARTICLE_IDS.columns)  # of a jet
TRACKED = FOUND.plus(*IMPACT.columns, *VERTICES.columns)


def found(job: JetJob) -> Schema:
    """The columns that are found of a jet: all but its id and its weight."""
    return TRACKED if job.tracks else FOUND


def columns(job: JetJob) -> Schema:
    """The columns of a sample of jets."""
    return Schema(columns=(EVENT_ID, PB, *found(job).columns))


def find_labelled(particles: Produced, job: JetJob, draws: np.random.Generator) -> tuple[pa.Table, Floats]:
    """The jets of the job's kind, and their weights (J,); `draws` blurs what a detector would measure.

    The table has the columns that `found` says. A jet's momentum is the sum of its constituents', which are the visible
    particles that anti-kT (arXiv:0802.1189) puts into it.

    Raises:
        GenerateError: fastjet is not installed.
    """
    # Sums are rounded otherwise in C++: a jet on the edge is judged here alone.
    jet_I, row_I, event_J = _clustered(particles, job.origin.radius, 0.999 * job.pt[0])
    p4_J4 = np.zeros((len(event_J), 4))
    np.add.at(p4_J4, jet_I, particles.p4_N4[row_I])
    pt_J, eta_J, _, _ = polar(p4_J4).T
    kept_J = (pt_J >= job.pt[0]) & (pt_J <= job.pt[1])
    kept_J &= (np.abs(eta_J) >= job.abs_eta[0]) & (np.abs(eta_J) <= job.abs_eta[1])
    kept_J[kept_J] = matched(particles, p4_J4[kept_J], event_J[kept_J], job)
    kept = np.flatnonzero(kept_J)
    kept = kept[np.lexsort((-pt_J[kept], event_J[kept]))]
    place_J = np.full(len(event_J), -1)
    place_J[kept] = np.arange(len(kept))
    jet_I, row_I = place_J[jet_I], row_I[place_J[jet_I] >= 0]
    jet_I = jet_I[jet_I >= 0]
    order = np.lexsort((-_pt(particles.p4_N4[row_I]), jet_I))
    table = _table(particles, polar(p4_J4[kept]), jet_I[order], row_I[order], job, draws)
    return table, particles.weight_B[event_J[kept]]


def matched(particles: Produced, p4_J4: Floats, event_J: Ints, job: JetJob) -> Bools:
    """Which jets are of the job's kind, by what lies within the radius of their axis: (J,) bool; see `Origin`.

    Quarks of a decay are taken before they radiate, partons as they leave the hard process, and hadrons with a b or c
    quark count above 5 GeV of pt.
    """
    origin = job.origin
    found_J = np.ones(len(event_J), dtype=np.bool_)
    if origin.quarks:
        source_N = sources(particles)
        quark_T = np.flatnonzero(hard_quarks(particles, source_N))
        jet, row = _near(particles, quark_T, p4_J4, event_J, origin.radius)
        inside_J3 = np.zeros((len(event_J), 3), dtype=np.int64)
        np.add.at(inside_J3, (jet, source_N[row]), 1)
        found_J &= (inside_J3[:, 1:] == origin.quarks).any(axis=1)
    if origin.partons:
        hard_T = (particles.first_B[:, None] + np.array(HARD)).ravel()
        hard_T = hard_T[np.isin(np.abs(particles.id_N[hard_T]), (*QUARKS, GLUON))]
        jet, row = _near(particles, hard_T, p4_J4, event_J, origin.radius)
        rising = np.argsort(_pt(particles.p4_N4[row]))
        hardest_J = np.zeros(len(event_J), dtype=np.int64)
        hardest_J[jet[rising]] = np.abs(particles.id_N[row[rising]])  # the last of a jet stays
        found_J &= np.isin(hardest_J, origin.partons)
    if origin.flavour is not None:
        flavour_N = np.where(_pt(particles.p4_N4) > HADRON_PT, flavour(particles.id_N), 0)
        jet, row = _near(particles, np.flatnonzero(flavour_N), p4_J4, event_J, origin.radius)
        heaviest_J = np.zeros(len(event_J), dtype=np.int64)
        np.maximum.at(heaviest_J, jet, flavour_N[row])
        found_J &= heaviest_J == origin.flavour
    return found_J


def polar(p4_N4: Floats) -> Floats:
    """Transverse momentum, pseudorapidity, azimuth and mass, (N, 4), of (px, py, pz, E)."""
    px, py, pz, energy = p4_N4.T
    pt = np.hypot(px, py)
    eta = np.arcsinh(pz / np.maximum(pt, 1e-12))
    mass = np.sqrt(np.maximum(energy**2 - pt**2 - pz**2, 0.0))
    return np.stack([pt, eta, np.arctan2(py, px), mass], axis=1)


def charges(id_I: Ints) -> Ints:
    """Charges of leptons and hadrons in units of the positron's, by PDG id: (I,).

    Ids without a sign are those of the positive mesons; a baryon's charge is that of its three quarks.
    """
    known = np.abs(id_I)
    quark_3 = np.stack([known // 1000 % 10, known // 100 % 10, known // 10 % 10], axis=1)
    baryon = np.where(quark_3 % 2 == 1, -1, 2).sum(axis=1) // 3
    unit = np.where(known < 100, -1, np.where(quark_3[:, 0] > 0, baryon, 1))
    return np.where(charged(id_I), np.sign(id_I) * unit, 0).astype(np.int64)


def _pt(p4_N4: Floats) -> Floats:
    found: Floats = np.hypot(p4_N4[:, 0], p4_N4[:, 1])
    return found


def _clustered(particles: Produced, radius: float, min_pt: float) -> tuple[Ints, Ints, Ints]:
    """Jet and row of every particle in a jet above a pt, each (I,), and the event of every such jet, (J,)."""
    library = fastjet()
    rows = np.flatnonzero((particles.status_N > 0) & ~np.isin(np.abs(particles.id_N), INVISIBLE))
    count_B = np.bincount(particles.event_N[rows], minlength=len(particles))
    momenta = dict(zip(("px", "py", "pz", "E"), particles.p4_N4[rows].T, strict=True))
    inputs = ak.unflatten(ak.zip(momenta, with_name="Momentum4D"), count_B)
    sequence = library.ClusterSequence(inputs, library.JetDefinition(library.antikt_algorithm, radius))
    members = sequence.constituent_index(min_pt=min_pt)
    jet_I, item_I = inside(members, count_B)
    return jet_I, rows[item_I], np.repeat(np.arange(len(particles)), ak.to_numpy(ak.num(members, axis=1)))


def _near(particles: Produced, target_T: Ints, p4_J4: Floats, event_J: Ints, radius: float) -> tuple[Ints, Ints]:
    """Pairs of a jet and the row of a target within the radius of its axis, in pseudorapidity and azimuth."""
    event_T = particles.event_N[target_T]
    start_J, stop_J = np.searchsorted(event_T, event_J, "left"), np.searchsorted(event_T, event_J, "right")
    count_J = stop_J - start_J
    jet = np.repeat(np.arange(len(event_J)), count_J)
    rank = np.arange(len(jet)) - np.repeat(np.cumsum(count_J) - count_J, count_J)
    row = target_T[start_J[jet] + rank]
    away = polar(p4_J4)[jet, 1:3] - polar(particles.p4_N4[row])[:, 1:3]
    turn = np.abs(away[:, 1])
    close = np.hypot(away[:, 0], np.minimum(turn, 2 * np.pi - turn)) < radius
    return jet[close], row[close]


def _table(particles: Produced, polar_J4: Floats, jet_I: Ints, row_I: Ints, job: JetJob,
           draws: np.random.Generator) -> pa.Table:  # fmt: skip
    """The columns of jets whose constituents are given jet by jet in falling pt."""
    jets, id_I = len(polar_J4), particles.id_N[row_I]
    polar_I4, charge_I = polar(particles.p4_N4[row_I]), charges(id_I)
    polar_I4[:, 3] = np.maximum(particles.mass_N[row_I], 0.0)
    arrays = {name: pa.array(values) for name, values in zip(JET.names, polar_J4.T, strict=True)}
    arrays["jet_label"] = pa.array(np.full(jets, job.label))
    particle = dict(zip((*PARTICLES.names, *PARTICLE_IDS.names), (*polar_I4.T, id_I, charge_I), strict=True))
    if job.tracks:
        made_I3 = particles.made_N3[row_I]
        track_I = (charge_I != 0) & (polar_I4[:, 0] > TRACK_PT) & (np.abs(polar_I4[:, 1]) < TRACK_ETA)
        track_I &= np.hypot(made_I3[:, 0], made_I3[:, 1]) < TRACK_MM
        noise = draws.standard_normal((int(track_I.sum()), 2))
        azimuth_I = polar_J4[jet_I[track_I], 2]
        p_I3 = particles.p4_N4[row_I[track_I], :3]
        seen = impact(made_I3[track_I], p_I3, charge_I[track_I], job.field, azimuth_I, noise)
        for name, values in zip(IMPACT.names, seen, strict=True):
            particle[name] = np.zeros(len(row_I))
            particle[name][track_I] = values
        arrays |= _vertices(particles, row_I[track_I], jet_I[track_I], jets, draws)
    arrays |= _lists(particle, jet_I, jets)
    schema = found(job)
    return pa.table([arrays[column.name].cast(column.arrow) for column in schema.each()], schema=schema.arrow)


def _vertices(particles: Produced, row_I: Ints, jet_I: Ints, jets: int,
              draws: np.random.Generator) -> dict[str, pa.ListArray]:  # fmt: skip
    """The columns of vertices, by the rows and jets of tracks."""
    decays = vertices(particles, row_I, jet_I)
    measured = flight(decays.place_V3, decays.tracks_V, draws.standard_normal(len(decays.jet_V)))
    values_V = (*polar(decays.p4_V4).T, decays.tracks_V, *measured)
    return _lists(dict(zip(VERTICES.names, values_V, strict=True)), decays.jet_V, jets)


def _lists(values: dict[str, np.ndarray], jet_I: Ints, jets: int) -> dict[str, pa.ListArray]:
    """Numbers of members, jet by jet, as lists."""
    offsets = np.concatenate([[0], np.cumsum(np.bincount(jet_I, minlength=jets))]).astype(np.int32)
    return {name: pa.ListArray.from_arrays(offsets, pa.array(numbers)) for name, numbers in values.items()}
