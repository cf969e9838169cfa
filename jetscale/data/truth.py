"""Jets and their labels from generated particles: anti-kT clustering with ghosts of the partons that made the jets.

Ghosts are partons scaled down until they carry no momentum: they are clustered with the particles and so say which
jet they went into without changing it. Indices: B event, N particle (all events flat), J jet (flat), I what is
clustered (flat).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from jetscale.config import Config, Values
from jetscale.data.substructure import charged, observables
from jetscale.errors import GenerateError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

HARD = (5, 6)  # where Pythia puts the two outgoing particles of a 2 -> 2 process
FIRST_HADRON, LAST_HADRON = 80, 89  # Pythia's status of what strings and clusters break up into
GHOST_SCALE = 1e-18
INVISIBLE = (12, 14, 16, 1000022)
PARTICLE, PARTON_GHOST, QUARK_GHOST = 0, 1, 2


class Jets(Config):
    """How jets are found, and which of them are kept."""

    radius: float = Field(0.4, gt=0)  # of anti-kT
    min_pt: float = Field(30.0, ge=0)  # GeV
    max_eta: float = Field(2.8, gt=0)
    keep: int = Field(12, ge=1)  # leading jets
    substructure: bool = False  # whether columns say what each jet is made of: multiplicities, width, pTD, C1

    @model_serializer(mode="wrap")
    def _only_if_on(self, plain: SerializerFunctionWrapHandler) -> Values:
        """The option that is off leaves no trace, so that samples made before it keep their names and bytes."""
        values: Values = plain(self)
        return values if self.substructure else {key: value for key, value in values.items() if key != "substructure"}


@dataclass(frozen=True)
class Particles:
    """The generator's records of B events, flat: N particles in all.

    `mother_N` and `daughter_N` are the first of each, counted within the event; `p4_N4` is (px, py, pz, E) in GeV;
    `weight_B` is the generator's weight.
    """

    count_B: Ints
    id_N: Ints
    status_N: Ints
    mother_N: Ints
    daughter_N: Ints
    p4_N4: Floats
    weight_B: Floats

    def __len__(self) -> int:
        return len(self.count_B)

    @property
    def event_N(self) -> Ints:
        return np.repeat(np.arange(len(self)), self.count_B)

    @property
    def first_B(self) -> Ints:
        """Where each event begins."""
        return np.cumsum(self.count_B) - self.count_B


def together(parts: Sequence[Particles]) -> Particles:
    """Several records as one, in their order."""
    names = ("count_B", "id_N", "status_N", "mother_N", "daughter_N", "p4_N4", "weight_B")
    return Particles(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def sources(particles: Particles) -> Ints:
    """Which of the two hard particles each particle descends from: (N,) 1, 2, or 0 for neither."""
    first_N = np.repeat(particles.first_B, particles.count_B)
    label_N = np.zeros(len(first_N), dtype=np.int64)
    above_N = first_N + particles.mother_N
    for label, place in enumerate(HARD, start=1):
        anchor_B = particles.first_B + place
        label_N[anchor_B] = label
        above_N[anchor_B] = anchor_B
    # Every pass doubles the number of generations looked up, so that 16 passes reach 65,536 of them.
    for _ in range(16):
        higher_N = above_N[above_N]
        if np.array_equal(higher_N, above_N):
            break
        above_N = higher_N
    found: Ints = label_N[above_N]
    return found


def last_partons(particles: Particles) -> npt.NDArray[np.bool_]:
    """The partons that hadrons are made from: (N,) bool; their momenta add up to those of the hadrons."""
    first_N = np.repeat(particles.first_B, particles.count_B)
    status_N = np.abs(particles.status_N)
    below_N = status_N[first_N + particles.daughter_N]
    last: npt.NDArray[np.bool_] = (status_N < FIRST_HADRON) & (below_N >= FIRST_HADRON) & (below_N <= LAST_HADRON)
    return last


def hard_quarks(particles: Particles, source_N: Ints) -> npt.NDArray[np.bool_]:
    """The quarks that the two parents decay to, before any radiation; for QCD the two hard partons: (N,) bool."""
    id_N = np.abs(particles.id_N)
    quark: npt.NDArray[np.bool_] = ((id_N <= 6) | (id_N == 21)) & (np.abs(particles.status_N) == 23) & (source_N > 0)
    return quark


def find_jets(particles: Particles, jets: Jets) -> ak.Array:
    """Anti-kT jets in falling pt with both labels, one list per event (arXiv:0802.1189).

    Fields: `pt` (GeV), `eta`, `phi` (rad), `mass` (GeV), `ancestry`, `quark`. `ancestry` is the parent from which most
    of the scalar pt of the jet's partons before hadronisation comes, `quark` that of the hardest decay quark in the jet
    (ghost association, arXiv:0802.1188); 0 is no parent. With `substructure` the fields of `observables` follow.

    Raises:
        GenerateError: fastjet is not installed.
    """
    cluster = fastjet()
    source_N = sources(particles)
    visible_N = (particles.status_N > 0) & ~np.isin(np.abs(particles.id_N), INVISIBLE)
    rows, kind_I, count_B = _clustered(
        particles.event_N, [visible_N, last_partons(particles), hard_quarks(particles, source_N)]
    )
    p4_I4 = particles.p4_N4[rows]
    scaled_I4 = np.where(kind_I[:, None] == PARTICLE, p4_I4, GHOST_SCALE * p4_I4)
    inputs = ak.unflatten(
        ak.zip(dict(zip(("px", "py", "pz", "E"), scaled_I4.T, strict=True)), with_name="Momentum4D"), count_B
    )
    sequence = cluster.ClusterSequence(inputs, cluster.JetDefinition(cluster.antikt_algorithm, jets.radius))
    found = sequence.inclusive_jets(min_pt=jets.min_pt)
    members = sequence.constituent_index(min_pt=jets.min_pt)
    pt_I = np.hypot(p4_I4[:, 0], p4_I4[:, 1])
    jet, item = inside(members, count_B)
    p4_J4 = np.stack([ak.to_numpy(ak.flatten(found[name])) for name in ("px", "py", "pz", "E")], axis=1)
    label_J2 = _labels(len(p4_J4), jet, item, kind_I, source_N[rows], pt_I)
    more: dict[str, Floats] = {}
    if jets.substructure:
        seen = kind_I[item] == PARTICLE
        within = item[seen]
        more = observables(p4_I4[within], charged(particles.id_N[rows[within]]), jet[seen], p4_J4)
    return _in_order(p4_J4, label_J2, more, ak.num(found, axis=1), jets)


def fastjet() -> Any:
    """The library, without its banner.

    Raises:
        GenerateError: it is not installed.
    """
    try:
        import fastjet
        from fastjet._swig import ClusterSequence
    except ImportError:
        raise GenerateError("fastjet is not installed", cure='pip install "jetscale[mc]"') from None
    ClusterSequence.set_fastjet_banner_stream(None)
    return fastjet


def _clustered(event_N: Ints, chosen: Sequence[npt.NDArray[np.bool_]]) -> tuple[Ints, Ints, Ints]:
    """Rows (I,) of the particles to cluster, event by event, the kind of each (I,), and how many an event has (B,)."""
    rows = np.concatenate([np.flatnonzero(mask_N) for mask_N in chosen])
    kind = np.concatenate([np.full(int(mask_N.sum()), kind) for kind, mask_N in enumerate(chosen)])
    order = np.argsort(event_N[rows], kind="stable")
    events = int(event_N[-1]) + 1 if len(event_N) else 0
    return rows[order], kind[order], np.bincount(event_N[rows], minlength=events)


def inside(members: ak.Array, count_B: Ints) -> tuple[Ints, Ints]:
    """The jet, all events flat, and the row of everything that is in a jet."""
    size_J = ak.to_numpy(ak.flatten(ak.num(members, axis=2)))
    start_B = np.cumsum(count_B) - count_B
    start_J = np.repeat(start_B, ak.to_numpy(ak.num(members, axis=1)))
    item = ak.to_numpy(ak.flatten(members, axis=None)).astype(np.int64)
    return np.repeat(np.arange(len(size_J)), size_J), item + np.repeat(start_J, size_J)


def _labels(jets: int, jet: Ints, item: Ints, kind_I: Ints, source_I: Ints, pt_I: Floats) -> Ints:
    """(J, 2): the ancestry and the quark label of every jet, all events flat."""
    share_J3 = np.zeros((jets, 3))
    parton = kind_I[item] == PARTON_GHOST
    np.add.at(share_J3, (jet[parton], source_I[item][parton]), pt_I[item][parton])
    hardest_J3 = np.zeros((jets, 3))
    quark = kind_I[item] == QUARK_GHOST
    np.maximum.at(hardest_J3, (jet[quark], source_I[item][quark]), pt_I[item][quark])
    return np.stack([share_J3.argmax(axis=1), hardest_J3.argmax(axis=1)], axis=1)


def _in_order(p4_J4: Floats, label_J2: Ints, more: dict[str, Floats], count_B: ak.Array, jets: Jets) -> ak.Array:
    """The leading central jets in falling pt; fastjet gives them in no order."""
    px, py, pz, energy = p4_J4.T
    pt = np.hypot(px, py)
    flat = {
        "pt": pt,
        "eta": np.arcsinh(pz / pt),
        "phi": np.arctan2(py, px),
        "mass": np.sqrt(np.maximum(energy**2 - pt**2 - pz**2, 0.0)),
        "ancestry": label_J2[:, 0],
        "quark": label_J2[:, 1],
        **more,
    }
    array = ak.unflatten(ak.zip(flat), count_B)
    central = array[abs(array.eta) < jets.max_eta]
    return central[ak.argsort(central.pt, axis=1, ascending=False, stable=True)][:, : jets.keep]
