"""LHC Olympics 2020, Kasieczka, Nachman and Shih, Zenodo 4536377 and 6466204: HDF5 of pandas, rows are events.

`events_anomalydetection*.h5` have columns 0, 1, 2, ...: pt (GeV), eta and phi of 700 massless particles, padded with
zeros, and behind them 1 for signal and 0 for background, which the black boxes lack. They are clustered here as the
organisers do it: anti-kT jets, R = 1, above 20 GeV. The files `*features.h5` have two jets per event as `pxj1, pyj1,
pzj1, mj1` (GeV) with N-subjettiness `tau1j1, tau2j1, tau3j1`, the same of `j2`, and `label`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import awkward as ak
import numpy as np

from jetscale.data.formats.frames import Frame
from jetscale.data.formats.jets import LABEL, JetReader, Jets, any_of, bounds_of, plain_map, records
from jetscale.data.formats.reader import Look
from jetscale.data.ingest.momenta import eta, mass, phi, pt
from jetscale.data.truth import fastjet, inside
from jetscale.errors import DataError, GenerateError
from jetscale.schema import JET_EVENTS, SUBSTRUCTURE, Column, Schema

ROWS = 2_000  # events of a chunk
RADIUS, MIN_PT = 1.0, 20.0  # GeV
TAUS = (1, 2, 3)
PER_PARTICLE = 3
FEATURES = tuple(f"{name}j{jet}" for jet in (1, 2) for name in ("px", "py", "pz", "m", *(f"tau{n}" for n in TAUS)))
NOTHING, ODD = "the event has no particles", "a particle has no finite momentum of positive pt"
CURE = "give events_anomalydetection*.h5, with or without features, as Zenodo 4536377 or 6466204 has them"
SIGNAL = Column(name="signal", dtype="int8", unit="", missing=-1, low=-1, high=1,
                doc="1 signal, 0 background, -1 not known")  # fmt: skip
JETS = JET_EVENTS.only(("true_mass", "decay_mode", "jet_pt", "jet_eta", "jet_phi", "jet_mass")).plus(
    SIGNAL,
    *(Column(name=f"jet_tau{n}", of="jet", dtype="float32", unit="", missing=-1,
             doc=f"N-subjettiness of {n} axes, beta = 1; -1 not known") for n in TAUS),
)  # fmt: skip
CLUSTERED = JETS.plus(SUBSTRUCTURE["jet_n_constituent"])


class LhcoReader(JetReader):
    """One file of either kind; which it is, the names of its columns tell."""

    columns = JETS
    frame: Frame
    slots: int  # for particles; none where the file has jets
    labels: list[object]  # the names of the columns with labels: one or none

    def __enter__(self) -> Self:
        plain_map(self.how, self.file)
        self.frame = Frame(self.file, None, CURE)
        try:
            self._examine()
        except DataError:
            self.frame.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.frame.close()

    @property
    def entries(self) -> int:
        """How many events there are."""
        return self.frame.entries

    def look(self) -> Look:
        """See `JetReader.look`."""
        return super().look().but(columns=(CLUSTERED if self.slots else JETS).values())

    def read(self, start: int, stop: int, columns: Schema) -> Iterator[ak.Array]:
        """See `Reader.read`."""
        for part in self.parts(start, min(stop, self.entries)):
            yield records(part, columns, empty=None)

    def parts(self, start: int, stop: int) -> Iterator[Jets]:
        """The events of [start, stop), in chunks; members are their jets."""
        wanted = range(self.slots * PER_PARTICLE) if self.slots else FEATURES
        for low in range(start, stop, ROWS):
            values_BN, label_BL = self.frame.read(low, min(low + ROWS, stop), wanted, self.labels)
            with np.errstate(all="ignore"):  # odd numbers are for the checks behind
                numbers, odd_B = _truth(label_BL, len(values_BN))
                if self.slots:
                    members, bounds, bad = _clustered(values_BN.reshape(len(values_BN), -1, PER_PARTICLE))
                else:
                    (members, bounds), bad = _given(values_BN), {}
            yield Jets(numbers, members, bounds, {LABEL: odd_B, **bad})

    def _examine(self) -> None:
        """Which kind it is, with all of its columns.

        Raises:
            DataError: neither, or fastjet is not installed and it is needed.
        """
        names = self.frame.places
        if "pxj1" in names or not all(isinstance(name, int) for name in names):
            self.frame.need(FEATURES)
            self.slots, self.labels = 0, [name for name in ("label",) if name in names]
            return
        self.slots, more = divmod(len(names), PER_PARTICLE)
        if set(names) != set(range(len(names))) or more > 1 or not self.slots:
            raise DataError(f"has {len(names)} columns, and must have pt, eta and phi of each particle, as 700 times 3 "
                            "are 2100, and one more for the label or none", where=self.file, cure=CURE)  # fmt: skip
        self.labels = [len(names) - 1] if more else []
        try:
            fastjet()
        except GenerateError:
            raise DataError("fastjet is not installed, and these particles are to be clustered", where=self.file,
                            cure="pip install -c cluster/constraints.txt '.[mc]' in the clone; or convert the file of "
                            "features") from None  # fmt: skip


def _truth(label_BL: np.ndarray, rows: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What the label says, -1 where it says nothing, and where (B,) it is no label; the parents' masses differ."""
    label_B = label_BL[:, 0] if label_BL.shape[1] else np.full(rows, -1)
    odd_B = ~np.isin(label_B, (0, 1)) if label_BL.shape[1] else np.zeros(rows, dtype=bool)
    background_B = label_B == 0
    return {"signal": np.where(odd_B, -1, label_B), "true_mass": np.where(background_B, 0.0, -1.0),
            "decay_mode": np.where(background_B, 0, -1)}, odd_B  # fmt: skip


def _given(values_BN: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The two jets of each event; one of nothing but zeros is none."""
    flat_JC = values_BN.astype(np.float64).reshape(len(values_BN), 2, -1)
    real_BJ = (flat_JC[..., :3] != 0).any(-1)
    px, py, pz, jet_mass, *taus = flat_JC[real_BJ].T
    members = {"jet_pt": pt(px, py), "jet_eta": eta(px, py, pz), "jet_phi": phi(px, py), "jet_mass": jet_mass,
               **{f"jet_tau{n}": tau for n, tau in zip(TAUS, taus, strict=True)}}  # fmt: skip
    return members, bounds_of(real_BJ)


def _clustered(x_BP3: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, np.ndarray]]:
    """Jets of particles (pt, eta, phi), with their bounds (B + 1,), and which events (B,) cannot be clustered."""
    real_BP = (x_BP3 != 0).any(-1)
    bounds = bounds_of(real_BP)
    pt_I, eta_I, phi_I = x_BP3[real_BP].astype(np.float64).T
    p4_I4 = np.stack([pt_I * np.cos(phi_I), pt_I * np.sin(phi_I), pt_I * np.sinh(eta_I), pt_I * np.cosh(eta_I)], axis=1)
    odd_B = any_of(~(np.isfinite(p4_I4).all(1) & (pt_I > 0)), bounds)
    count_B = np.where(odd_B, 0, np.diff(bounds))
    p4_I4 = p4_I4[np.repeat(~odd_B, np.diff(bounds))]
    p4_J4, jet_I, item_I, jets_B = _jets_of(p4_I4, count_B)
    px, py, pz, energy = p4_J4.T
    size_J = np.bincount(jet_I, minlength=len(p4_J4))
    taus = _subjettiness(p4_I4[item_I], size_J)
    members = {"jet_pt": pt(px, py), "jet_eta": eta(px, py, pz), "jet_phi": phi(px, py),
               "jet_mass": mass(px, py, pz, energy), "jet_n_constituent": size_J,
               **{f"jet_tau{n}": taus[:, place] for place, n in enumerate(TAUS)}}  # fmt: skip
    return members, np.concatenate([[0], np.cumsum(jets_B)]), {NOTHING: np.diff(bounds) == 0, ODD: odd_B}


def _jets_of(p4_I4: np.ndarray, count_B: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Momenta (J, 4) of all jets, the jet and the place of every particle in one, and how many jets an event has."""
    library = fastjet()
    sequence = library.ClusterSequence(_lists(p4_I4, count_B), library.JetDefinition(library.antikt_algorithm, RADIUS))
    found = sequence.inclusive_jets(min_pt=MIN_PT)
    jet_I, item_I = inside(sequence.constituent_index(min_pt=MIN_PT), count_B)
    p4_J4 = np.stack([ak.to_numpy(ak.flatten(found[name])) for name in ("px", "py", "pz", "E")], axis=1)
    return p4_J4, jet_I, item_I, ak.to_numpy(ak.num(found, axis=1))


def _subjettiness(p4_I4: np.ndarray, size_J: np.ndarray) -> np.ndarray:
    """N-subjettiness (J, 3) of jets, arXiv:1011.2268, about the axes of exclusive kT subjets, over R sum pt."""
    if not len(size_J):
        return np.zeros((0, len(TAUS)))
    library = fastjet()
    whole = library.JetDefinition(library.kt_algorithm, RADIUS)
    sequence = library.ClusterSequence(_lists(p4_I4, size_J), whole)
    found = sequence.njettiness(axes_definition="KT_Axes", njets=list(TAUS), beta=1.0, R0=RADIUS)
    return np.asarray(ak.to_numpy(found)).reshape(len(size_J), len(TAUS))


def _lists(p4_I4: np.ndarray, count_B: np.ndarray) -> ak.Array:
    momenta = dict(zip(("px", "py", "pz", "E"), p4_I4.T, strict=True))
    return ak.unflatten(ak.zip(momenta, with_name="Momentum4D"), count_B)
