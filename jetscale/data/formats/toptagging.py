"""The reference sample of top tagging, Kasieczka, Plehn, Thompson and Russell, Zenodo 2603256: HDF5 of pandas.

Rows of `table` are jets: `E_0, PX_0, PY_0, PZ_0` to `.._199` are their particles' momenta (GeV), by falling pt and
padded with zeros; `is_signal_new` is 1 of a top and 0 of a light quark or gluon. A jet is the sum of its particles.
`truthE, ...`, the top quark before it decays, is no input and is left; so is `ttv`, as the parts are files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import numpy as np

from jetscale.data.formats.frames import Frame
from jetscale.data.formats.jets import LABEL, NEGATIVE, JetReader, Jets, any_of, bounds_of, plain_map, summed
from jetscale.data.ingest.momenta import eta, mass, phi, pt
from jetscale.errors import DataError
from jetscale.labels import CODES
from jetscale.schema import JET, JET_LABEL, PARTICLES

KEY = "table"
ROWS = 5_000  # jets of a chunk
MOMENTA, SIGNAL = ("E", "PX", "PY", "PZ"), "is_signal_new"
PARTICLES_OF_A_JET = 200
# What stands in the two blocks of the table, as it was published, should it not say so itself.
PUBLISHED = (
    [f"{name}_{slot}" for slot in range(PARTICLES_OF_A_JET) for name in MOMENTA] + [f"truth{name}" for name in MOMENTA],
    ["ttv", SIGNAL],
)
CURE = "give train.h5, val.h5 or test.h5 of Zenodo 2603256; df.to_hdf(FILE, key='table', format='table') writes such"


class TopTaggingReader(JetReader):
    """One file of the reference sample, or one of any number of particles that is written alike."""

    columns = JET.plus(JET_LABEL, *PARTICLES.columns)
    frame: Frame
    momenta: tuple[str, ...]  # the names of four columns per particle

    def __enter__(self) -> Self:
        plain_map(self.how, self.file)
        self.frame = Frame(self.file, KEY, CURE, PUBLISHED)
        slots = sum(1 for name in self.frame.places if str(name).startswith("E_"))
        self.momenta = tuple(f"{name}_{slot}" for slot in range(max(slots, 1)) for name in MOMENTA)
        try:
            self.frame.need((*self.momenta, SIGNAL))
        except DataError:
            self.frame.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.frame.close()

    @property
    def entries(self) -> int:
        """How many jets there are."""
        return self.frame.entries

    def parts(self, start: int, stop: int) -> Iterator[Jets]:
        """The jets of [start, stop), in chunks."""
        for low in range(start, stop, ROWS):
            flat_BN, signal_B1 = self.frame.read(low, min(low + ROWS, stop), self.momenta, [SIGNAL])
            with np.errstate(all="ignore"):  # odd numbers are for the checks behind
                yield _jets(flat_BN.reshape(len(flat_BN), -1, len(MOMENTA)), signal_B1[:, 0])


def _jets(p4_BP4: np.ndarray, signal_B: np.ndarray) -> Jets:
    real_BP = (p4_BP4 != 0).any(-1)
    bounds = bounds_of(real_BP)
    energy, px, py, pz = p4_BP4[real_BP].astype(np.float64).T
    members = {"particle_pt": pt(px, py), "particle_eta": eta(px, py, pz), "particle_phi": phi(px, py),
               "particle_mass": mass(px, py, pz, energy)}  # fmt: skip
    numbers = summed(bounds, px, py, pz, energy)
    numbers["jet_label"] = np.where(signal_B == 1, CODES["top"], CODES["qcd"])
    odd_B = (signal_B != 0) & (signal_B != 1)
    return Jets(numbers, members, bounds, {LABEL: odd_B, NEGATIVE: any_of(energy < 0, bounds)})
