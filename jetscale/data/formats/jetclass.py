"""JetClass, Qu, Li and Qian, "Particle transformer for jet tagging" (2022), Zenodo 6619768: ROOT files of jets.

A tree `tree` with jets `jet_pt, jet_eta, jet_phi, jet_energy`, one-hot labels `label_QCD` ..., and lists `part_px, ...`
of momenta (GeV), charges, five flags of kinds, and impact parameters (mm) with their errors.
"""

from __future__ import annotations

from collections.abc import Iterator

import awkward as ak
import numpy as np

from jetscale.data.formats.jets import CONTRADICTION, LABEL, NEGATIVE, Jets, any_of, plain_map, records
from jetscale.data.formats.reader import Look
from jetscale.data.formats.root import RootReader
from jetscale.data.ingest.chunk import chunk_of
from jetscale.data.ingest.job import Map
from jetscale.data.ingest.momenta import mass_of_pt
from jetscale.errors import DataError, nearest
from jetscale.labels import CODES
from jetscale.schema import IMPACT, JET, JET_LABEL, PARTICLE_IDS, PARTICLES, Schema

COLUMNS = JET.plus(JET_LABEL, *PARTICLES.columns, *PARTICLE_IDS.columns, *IMPACT.columns)
LABELS = {"QCD": "qcd", "Hbb": "h_bb", "Hcc": "h_cc", "Hgg": "h_gg", "H4q": "h_4q", "Hqql": "h_lepton", "Zqq": "z",
          "Wqq": "w", "Tbqq": "top", "Tbl": "top_lepton"}  # fmt: skip
# The PDG id that stands for a kind, and, of charged ones, the sign that it has for positive charge.
KINDS = {"ChargedHadron": (211, 1), "NeutralHadron": (130, 0), "Photon": (22, 0), "Electron": (11, -1),
         "Muon": (13, -1)}  # fmt: skip
# Momenta are rounded to single precision as pt, eta (which is below 5) and energy, and again as px, py, pz: altogether
# E^2 - p^2 is off by less than 16 times 2^-24, or 1e-6, of E^2. This has ten times the room.
ROUNDING = 1e-5
IMPACTS = {"d0": "part_d0val", "d0_error": "part_d0err", "dz": "part_dzval", "dz_error": "part_dzerr"}
# Read as a tree whose list members are called jets: these are the particles here.
BRANCHES = {
    "event": {
        **{f"whole_{name}": {"branch": f"jet_{name}", "dtype": "float64"} for name in ("pt", "eta", "phi", "energy")},
        **{f"label_{name}": {"branch": f"label_{name}", "dtype": "float64"} for name in LABELS},
    },
    "jet": {
        **{name: f"part_{name}" for name in ("px", "py", "pz", "energy")},
        "total": {"branch": "part_energy", "dtype": "float64"},
        "charge": {"branch": "part_charge", "dtype": "float64"},
        **{f"is{name}": {"branch": f"part_is{name}", "dtype": "float64"} for name in KINDS},
        **{name: {"branch": branch, "dtype": "float64"} for name, branch in IMPACTS.items()},
    },
}  # fmt: skip


class JetclassReader(RootReader):
    """One file of JetClass; rows are its jets as they are, but for masses of nothing that were rounded."""

    def __init__(self, file: str, how: Map) -> None:
        plain_map(how, file, "tree")
        super().__init__(file, Map.model_validate({"tree": how.tree or "tree", "columns": BRANCHES}))

    def look(self) -> Look:
        """What the file holds.

        Raises:
            DataError: a branch of the format is not there, by name.
        """
        for members in self.how.columns.values():
            for one in members.values():
                if (name := one.branch[0]) not in self._branches:
                    raise DataError(f"has no branch {name!r}, which JetClass has", where=self.file,
                                    cure=nearest(name, self._branches))  # fmt: skip
        return super().look().but(columns=COLUMNS.values())

    def read(self, start: int, stop: int, columns: Schema) -> Iterator[ak.Array]:
        """See `Reader.read`."""
        inner = self._plan.columns
        for array in super().read(start, stop, inner):
            chunk = chunk_of(array, inner)
            yield records(_jets(chunk.numbers, chunk.members, chunk.bounds["jet"]), columns)


def _jets(whole: dict[str, np.ndarray], part: dict[str, np.ndarray], bounds: np.ndarray) -> Jets:
    label_BK = np.stack([whole[f"label_{name}"] for name in LABELS], axis=1)
    odd_B = ((label_BK != 0) & (label_BK != 1)).any(1) | (label_BK.sum(1) != 1)
    pdg, contradicts = _pdg(part)
    members = {f"particle_{name}": part[f"jet_{name}"] for name in ("pt", "eta", "phi", "charge", *IMPACTS)}
    members |= {"particle_mass": _mass(part["jet_mass"], part["jet_total"]), "particle_pdg": pdg}
    members["particle_charge"] = np.where(contradicts, 0, members["particle_charge"])
    numbers = {f"jet_{name}": whole[f"whole_{name}"] for name in ("pt", "eta", "phi")}
    with np.errstate(all="ignore"):
        numbers["jet_mass"] = mass_of_pt(*(whole[f"whole_{name}"] for name in ("pt", "eta", "energy")))
    codes = np.array([CODES[name] for name in LABELS.values()])
    numbers["jet_label"] = codes[label_BK.argmax(1)]
    negative_B = any_of(part["jet_total"] < 0, bounds) | (whole["whole_energy"] < 0)
    return Jets(numbers, members, bounds, {
        LABEL: odd_B, NEGATIVE: negative_B, CONTRADICTION: any_of(contradicts, bounds)})  # fmt: skip


def _mass(mass: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """Masses (GeV), 0 where single precision alone made them negative, and else as they are; flat."""
    with np.errstate(all="ignore"):
        rounded = (mass < 0) & (mass * mass < ROUNDING * energy * energy)
    return np.where(rounded, 0.0, mass)


def _pdg(part: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Stand-ins for PDG ids, 0 without a kind, and where kinds and charge contradict each other; flat."""
    charge = part["jet_charge"]
    odd = ~np.isin(charge, (-1, 0, 1))
    pdg, kinds = np.zeros(len(charge)), np.zeros(len(charge))
    for name, (number, sign) in KINDS.items():
        flag = part[f"jet_is{name}"]
        odd |= ~np.isin(flag, (0, 1)) | ((flag == 1) & ((charge != 0) != (sign != 0)))
        pdg += np.where(flag == 1, number * (sign * charge if sign else 1), 0)
        kinds += flag
    odd |= kinds > 1
    return np.where(odd, 0, pdg), odd
