"""cannonball's files: five partons of a pair of stops and one emission, arXiv:2201.02205, in .npz or pandas' HDF5.

`.npz` holds `jets` (N, 5, 4) as (E, px, py, pz), and, but for background, `labels` (N, 8): which of the five jets come
of a stop, and which of the last three of these four come of the same one as the first. The table `df` has the same
momenta of any number of jets (`jet_e`, `jet_px`, `jet_py`, `jet_pz`), and of each the place of its `mother` in the
generator's record. Jets are partons, so both conventions of labels agree; in background it is not known which hard
parton they come of. A momentum of nothing but zeros stands where there is no jet.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator
from typing import NamedTuple, Self

import awkward as ak
import numpy as np

from jetscale.data.formats import frames
from jetscale.data.formats.npz import Npz
from jetscale.data.formats.padded import content_key, first, whole_numbers
from jetscale.data.formats.reader import Look, Reader
from jetscale.data.ingest import remote
from jetscale.data.ingest.job import Map
from jetscale.data.ingest.mapping import GEV
from jetscale.data.ingest.momenta import eta, mass, phi, pt
from jetscale.errors import ConfigError, DataError, nearest
from jetscale.schema import JET_EVENTS, Schema

ROWS = 50_000  # events of a chunk
JETS, OF_STOPS, PER_STOP = 5, 4, 2
INCOMING = 2  # so many places of the record, the first ones, are the protons' partons
HT_UNIT = 1.001  # GeV
MOMENTA = ("jet_e", "jet_px", "jet_py", "jet_pz")
MOTHER = "mother"
TABLE = f"df.to_hdf(FILE, key='df', format='table'), with {', '.join(MOMENTA)} and {MOTHER} of every jet as columns"
COLUMNS = JET_EVENTS.only(("true_mass", "decay_mode", "jet_pt", "jet_eta", "jet_phi", "jet_mass",
                           "jet_parent_ancestry", "jet_parent_quark"))  # fmt: skip


class Partons(NamedTuple):
    """Momenta (B, J, 4) as (E, px, py, pz), parents (B, J), quarks per parent (B,)."""

    p4_BJ4: np.ndarray
    parent_BJ: np.ndarray
    quarks_B: np.ndarray


class CannonballReader(Reader):
    """A file of either kind; what it holds is always the same, so the map names no columns."""

    source: Source

    def __enter__(self) -> Self:
        asked = Map(format="cannonball", energy=self.how.energy).values()
        for key, value in self.how.values().items():
            if value != asked[key]:
                raise ConfigError(f"map.{key} is {value!r}, and this format has nothing of the kind",
                                  where="format: cannonball", cure=f"leave out {key}")  # fmt: skip
        self.source = _source(self.file)
        try:
            self.source.examine()
        except DataError:
            self.source.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()

    def look(self) -> Look:
        """What the file holds; momenta in units of HT are refused, as no energy can be had of them."""
        entries = self.source.entries
        if not entries:
            raise DataError("holds no events", where=self.file, cure="convert the other files without it")
        for part in self.source.parts(0, min(entries, 1000)):
            ht_B = np.hypot(part.p4_BJ4[..., 1], part.p4_BJ4[..., 2]).sum(1)
            if self.how.energy == "GeV" and (ht_B < HT_UNIT).all():
                raise DataError("the jets' pt sum to 1 in every event: they are in units of HT", where=self.file,
                                cure="use the file that was written without normToHt; or, to give every event an HT "
                                "of 1 TeV, --set map.energy=TeV")  # fmt: skip
        return Look(entries=entries, key=content_key(self.file), columns=COLUMNS)

    def read(self, start: int, stop: int, columns: Schema) -> Iterator[ak.Array]:
        """The partons as jets, in the file's order."""
        for part in self.source.parts(start, stop):
            real_BJ, arrays = (part.p4_BJ4 != 0.0).any(-1), self._arrays(part)
            values = {column.name: arrays[column.name].astype(column.dtype) for column in columns.each()}
            lists = {name: ak.unflatten(one[real_BJ], real_BJ.sum(1)) for name, one in values.items() if one.ndim == 2}
            yield ak.Array({**values, **lists, "weight": np.ones(len(real_BJ))})

    def _arrays(self, part: Partons) -> dict[str, np.ndarray]:
        """The columns that there are, (B,) or with all slots (B, J)."""
        energy, px, py, pz = np.moveaxis(part.p4_BJ4 * GEV[self.how.energy], -1, 0)
        return {
            "true_mass": np.where(part.quarks_B == 0, 0.0, -1.0),
            "decay_mode": part.quarks_B,
            "jet_pt": pt(px, py),
            "jet_eta": eta(px, py, pz),
            "jet_phi": phi(px, py),
            "jet_mass": mass(px, py, pz, energy),
            "jet_parent_ancestry": part.parent_BJ,
            "jet_parent_quark": part.parent_BJ,
        }


class Source(ABC):
    """One of the two kinds of files, open."""

    entries: int

    @abstractmethod
    def examine(self) -> None:
        """Find out how many entries there are.

        Raises:
            DataError: what is there does not have the format's names and shapes.
        """

    @abstractmethod
    def parts(self, start: int, stop: int) -> Iterator[Partons]:
        """The events of [start, stop), in chunks."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""


class Archive(Source):
    """`jets` and perhaps `labels` in an .npz."""

    def __init__(self, file: str) -> None:
        self.file, self.npz = file, Npz(file)

    def examine(self) -> None:
        """Names and shapes of the arrays."""
        other = sorted({*self.npz.names} - {"jets", "labels"})
        if other:
            raise DataError(f"has an array {other[0]!r}, which is none of this format", where=self.file,
                            cure=nearest(other[0], ("jets", "labels")))  # fmt: skip
        self.entries = self._rows("jets", (JETS, 4))
        self.labelled = "labels" in self.npz.names
        if self.labelled and (rows := self._rows("labels", (JETS + OF_STOPS - 1,))) != self.entries:
            raise DataError(f"has {self.entries} jets and {rows} labels", where=self.file,
                            cure="write the file anew")  # fmt: skip

    def _rows(self, name: str, inside: tuple[int, ...]) -> int:
        rows, *rest = self.npz.shaped(name).shape or (0,)
        if tuple(rest) != inside:
            shape = ", ".join(map(str, (rows, *rest)))
            raise DataError(f"{name!r} is ({shape}), and must be (N, {', '.join(map(str, inside))})", where=self.file,
                            cure="write jets as (E, px, py, pz) of five partons, and their eight labels")  # fmt: skip
        return rows

    def parts(self, start: int, stop: int) -> Iterator[Partons]:
        """Momenta with the parents that the labels tell, -1 in a file without labels."""
        labels = self.npz.rows("labels", start, stop, ROWS) if self.labelled else None
        for p4_BJ4 in self.npz.rows("jets", start, stop, ROWS):
            rows = len(p4_BJ4)
            if labels is None:
                yield Partons(p4_BJ4, np.full((rows, JETS), -1), np.zeros(rows, dtype=np.int64))
            else:
                parent_BJ = self._parents(whole_numbers(next(labels), "labels", self.file), start)
                yield Partons(p4_BJ4, parent_BJ, np.full(rows, PER_STOP))
            start += rows

    def _parents(self, label_BL: np.ndarray, start: int) -> np.ndarray:
        """0 for the emission, 1 for the first jet of a stop and its partner, 2 for the others; (B, 5)."""
        stop_BJ, same_BJ = label_BL[:, :JETS] == 1, label_BL[:, JETS:] == 1
        odd_B = ((label_BL != 0) & (label_BL != 1)).any(1)
        odd_B |= (stop_BJ.sum(1) != OF_STOPS) | (same_BJ.sum(1) != PER_STOP - 1)
        if odd_B.any():
            entry = first(odd_B, start)
            raise DataError(f"event {entry}: the labels {label_BL[entry - start].tolist()} are not those of two jets "
                            "of each stop and one of none", where=self.file, cure="write the labels anew")  # fmt: skip
        with_first_BJ = np.concatenate([np.ones((len(same_BJ), 1), dtype=bool), same_BJ], axis=1)
        parent_BJ = np.zeros(stop_BJ.shape, dtype=np.int64)
        parent_BJ[stop_BJ] = np.where(with_first_BJ, 1, 2).ravel()
        return parent_BJ

    def close(self) -> None:
        """Let go of the file."""
        self.npz.close()


class Frame(Source):
    """The table `df` that pandas wrote."""

    of_jets: dict[str, list[Hashable]]  # of every name its columns, jet by jet

    def __init__(self, file: str) -> None:
        self.file, self.frame = file, frames.Frame(file, "df", TABLE)

    def examine(self) -> None:
        """Find the columns of the table."""
        self.entries = self.frame.entries
        found: dict[str, dict[int, Hashable]] = {}
        for column in self.frame.places:
            name, jet = column if isinstance(column, tuple) and len(column) == 2 else (str(column), 0)
            found.setdefault(name, {})[jet] = column
        for name in (*MOMENTA, MOTHER):
            if name not in found:
                raise DataError(f"df has no columns {name!r}", where=self.file, cure=nearest(name, found))
            if found[name].keys() != found[MOMENTA[0]].keys():
                raise DataError(f"df has {name!r} of other jets than {MOMENTA[0]!r}", where=self.file,
                                cure="write the file anew")  # fmt: skip
        self.of_jets = {name: [columns[jet] for jet in sorted(columns)] for name, columns in found.items()}

    def parts(self, start: int, stop: int) -> Iterator[Partons]:
        """Momenta with the parents that their mothers tell."""
        for low in range(start, stop, ROWS):
            groups = [self.of_jets[name] for name in (*MOMENTA, MOTHER)]
            *momenta, mother = self.frame.read(low, min(low + ROWS, stop), *groups)
            p4_BJ4 = np.stack(momenta, axis=-1).astype(np.float64)
            mother_BJ = whole_numbers(mother, MOTHER, self.file)
            yield Partons(p4_BJ4, *self._parents(mother_BJ, (p4_BJ4 != 0.0).any(-1), low))

    def _parents(self, mother_BJ: np.ndarray, real_BJ: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray]:
        """Parents (B, J) and quarks of each (B,): 1 is the parent of the first jet that has one."""
        heavy_BJ = real_BJ & (mother_BJ >= INCOMING)
        place_B1 = heavy_BJ.argmax(1)[:, None]
        first_BJ = heavy_BJ & (mother_BJ == np.take_along_axis(mother_BJ, place_B1, 1))
        other_BJ = heavy_BJ & ~first_BJ
        other_B1 = np.take_along_axis(mother_BJ, other_BJ.argmax(1)[:, None], 1)
        odd_B = (other_BJ & (mother_BJ != other_B1)).any(1) | (first_BJ.sum(1) != other_BJ.sum(1))
        if odd_B.any():
            entry = first(odd_B, start)
            mothers = mother_BJ[entry - start][real_BJ[entry - start]].tolist()
            raise DataError(f"event {entry}: the mothers {mothers} are not two with as many jets each", where=self.file,
                            cure="keep pairs that decay alike; mothers 0 and 1 are the incoming partons")  # fmt: skip
        quarks_B = first_BJ.sum(1)
        return np.where(quarks_B[:, None] > 0, first_BJ + 2 * other_BJ, -1), quarks_B

    def close(self) -> None:
        """Let go of the file."""
        self.frame.close()


def _source(file: str) -> Source:
    with remote.opened(file) as stream:
        begin = stream.read(4)
    if begin == b"PK\x03\x04":
        return Archive(file)
    if begin == b"\x89HDF":
        return Frame(file)
    raise DataError("is neither .npz nor HDF5", where=file, cure="give the files that cannonball reads")
