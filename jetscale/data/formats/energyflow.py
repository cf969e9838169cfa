"""EnergyFlow's quark and gluon jets, Komiske, Metodiev and Thaler, Zenodo 3164691 and 3066475: .npz of padded arrays.

`X` (N, M, 4) holds the particles' pt (GeV), rapidity, azimuth and PDG id, padded with zeros; `y` (N,) is 1 of a quark
and 0 of a gluon. In the archives `withbc` the quark may be c or b too, which nothing tells: the label is `quark`.
The file has no jets' momenta: each is the sum of its particles.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import numpy as np

from jetscale.data.formats.jets import LABEL, PDG, JetReader, Jets, any_of, bounds_of, plain_map, summed
from jetscale.data.formats.npz import Npz
from jetscale.data.ingest.momenta import PT_FLOOR
from jetscale.errors import DataError
from jetscale.labels import CODES
from jetscale.schema import JET, JET_LABEL, PARTICLE_IDS, PARTICLES

ROWS = 10_000  # jets of a chunk
# Masses (GeV) and charges of the particles that there are: Particle Data Group, Review of Particle Physics (2022).
KNOWN = {22: (0.0, 0), 211: (0.13957, 1), 321: (0.493677, 1), 130: (0.497611, 0), 2112: (0.939565, 0),
         2212: (0.938272, 1), 11: (0.000511, -1), 13: (0.105658, -1)}  # fmt: skip
IDS = np.array(sorted({sign * number for number in KNOWN for sign in (1, -1) if sign > 0 or number not in (22, 130)}))
MASSES = np.array([KNOWN[abs(number)][0] for number in IDS])
CHARGES = np.array([KNOWN[abs(number)][1] * np.sign(number) for number in IDS])


class EnergyflowReader(JetReader):
    """One archive, of jets with or without charm and bottom."""

    columns = JET.plus(JET_LABEL, *PARTICLES.columns, *PARTICLE_IDS.columns)
    npz: Npz

    def __enter__(self) -> Self:
        plain_map(self.how, self.file)
        self.npz = Npz(self.file)
        try:
            self._examine()
        except DataError:
            self.npz.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.npz.close()

    @property
    def entries(self) -> int:
        """How many jets there are."""
        return self.npz.shaped("X").shape[0]

    def _examine(self) -> None:
        """Names and shapes of the arrays, as EnergyFlow has them."""
        particles, labels = self.npz.shaped("X").shape, self.npz.shaped("y").shape
        if len(particles) != 3 or particles[2] != 4:
            raise DataError(f"'X' is {particles}, and must be (N, M, 4): pt, y, phi, PDG id", where=self.file,
                            cure="give the files of Zenodo 3164691 or 3066475 as they are")  # fmt: skip
        if labels != particles[:1]:
            raise DataError(f"'y' is {labels}, and must be ({particles[0]},): a label of every jet", where=self.file,
                            cure="write the file anew")  # fmt: skip

    def parts(self, start: int, stop: int) -> Iterator[Jets]:
        """The jets of [start, stop), in chunks."""
        labels = self.npz.rows("y", start, stop, ROWS)
        for x_BP4, y_B in zip(self.npz.rows("X", start, stop, ROWS), labels, strict=True):
            with np.errstate(all="ignore"):  # odd numbers are for the checks behind
                yield _jets(x_BP4, y_B)


def _jets(x_BP4: np.ndarray, y_B: np.ndarray) -> Jets:
    real_BP = (x_BP4 != 0).any(-1)
    bounds = bounds_of(real_BP)
    pt, rapidity, phi, pdg = x_BP4[real_BP].astype(np.float64).T
    place = np.minimum(np.searchsorted(IDS, pdg), len(IDS) - 1)
    unknown = IDS[place] != pdg
    mass = MASSES[place]
    mt = np.hypot(pt, mass)
    pz, energy = mt * np.sinh(rapidity), mt * np.cosh(rapidity)
    # They lie around the jet, so that their azimuths go beyond its one turn.
    phi = np.where(np.abs(phi) < 3 * np.pi, np.arctan2(np.sin(phi), np.cos(phi)), phi)
    members = {"particle_pt": pt, "particle_eta": np.arcsinh(pz / np.maximum(pt, PT_FLOOR)), "particle_phi": phi,
               "particle_mass": mass, "particle_pdg": IDS[place], "particle_charge": CHARGES[place]}  # fmt: skip
    numbers = summed(bounds, pt * np.cos(phi), pt * np.sin(phi), pz, energy)
    numbers["jet_label"] = np.where(y_B == 1, CODES["quark"], CODES["gluon"])
    return Jets(numbers, members, bounds, {LABEL: (y_B != 0) & (y_B != 1), PDG: any_of(unknown, bounds)})
