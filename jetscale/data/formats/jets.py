"""What the readers of samples of jets share: a row is one jet, with its particles as lists; maps name no columns."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

import awkward as ak
import numpy as np

from jetscale.data.formats.padded import content_key
from jetscale.data.formats.reader import REASON, Look, Reader
from jetscale.data.ingest.job import Map
from jetscale.data.ingest.momenta import eta, mass, phi, pt
from jetscale.errors import ConfigError, DataError
from jetscale.schema import Schema

EMPTY, NEGATIVE = "the jet has no particles", "a particle has negative energy"
PDG, LABEL = "a particle has an unknown PDG id", "the label is none of the format's"
CONTRADICTION = "a particle's kinds and charge contradict each other"


class Jets(NamedTuple):
    """Columns of jets (B,) and of particles, flat, with the bounds (B + 1,) of their lists.

    `bad` says of which jets (B,) a reason for leaving them out is true; the first that is counts.
    """

    numbers: dict[str, np.ndarray]
    members: dict[str, np.ndarray]
    bounds: np.ndarray
    bad: dict[str, np.ndarray]


class JetReader(Reader):
    """A file whose rows are jets and whose columns are always the same."""

    columns: ClassVar[Schema]

    @property
    @abstractmethod
    def entries(self) -> int:
        """How many jets there are."""

    @abstractmethod
    def parts(self, start: int, stop: int) -> Iterator[Jets]:
        """The jets of [start, stop), in chunks."""

    def look(self) -> Look:
        """What the file holds.

        Raises:
            DataError: no jets.
        """
        if not self.entries:
            raise DataError("holds no jets", where=self.file, cure="convert the other files without it")
        return Look(entries=self.entries, key=content_key(self.file), columns=self.columns)

    def read(self, start: int, stop: int, columns: Schema) -> Iterator[ak.Array]:
        """See `Reader.read`."""
        for part in self.parts(start, min(stop, self.entries)):
            yield records(part, columns)


def records(part: Jets, columns: Schema, empty: str | None = EMPTY) -> ak.Array:
    """Jets as `Reader.read` yields them, with unit weights and the reason why a jet is to be left out.

    `empty` is the reason for leaving out those whose lists are empty, if they are to be.
    """
    rows = len(part.bounds) - 1
    bounds = ak.index.Index64(part.bounds)
    contents: dict[str, ak.contents.Content] = {}
    with np.errstate(invalid="ignore", over="ignore"):  # odd numbers are for the checks behind
        for column in columns.each():
            values = (part.members if column.of else part.numbers)[column.name].astype(column.dtype)
            flat = ak.contents.NumpyArray(values)
            contents[column.name] = ak.contents.ListOffsetArray(bounds, flat) if column.of else flat
    contents["weight"] = ak.contents.NumpyArray(np.ones(rows))
    reasons = ({empty: np.diff(part.bounds) == 0} if empty else {}) | part.bad
    array = ak.Array(ak.contents.RecordArray(list(contents.values()), list(contents), length=rows))
    code_B = np.select(list(reasons.values()), [np.int64(n) for n in range(1, len(reasons) + 1)], np.int64(0))
    return ak.with_field(array, ak.Array(np.array(["", *reasons])[code_B].tolist()), REASON)


def plain_map(how: Map, file: str, *allowed: str) -> None:
    """See that a map asks for nothing that its format does not have.

    Raises:
        ConfigError: it does.
    """
    asked = Map(format=how.format).values()
    for key, value in how.values().items():
        if value != asked[key] and key not in allowed:
            raise ConfigError(f"map.{key} is {value!r}, and this format has nothing of the kind (in {file})",
                              where=f"format: {how.format}", cure=f"leave out {key}")  # fmt: skip


def bounds_of(real_BP: np.ndarray) -> np.ndarray:
    """Where the lists (B + 1,) of the slots that are particles begin and end."""
    return np.concatenate([[0], np.cumsum(real_BP.sum(1), dtype=np.int64)])


def any_of(bad: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Which jets (B,) have a particle of which `bad`, flat, is true."""
    before = np.concatenate([[0], np.cumsum(bad)])
    return np.asarray(before[bounds[1:]] > before[bounds[:-1]])


def summed(bounds: np.ndarray, px: np.ndarray, py: np.ndarray, pz: np.ndarray, energy: np.ndarray
           ) -> dict[str, np.ndarray]:  # fmt: skip
    """The jets' columns (B,): each the sum of its particles, flat, in GeV."""
    rows = len(bounds) - 1
    jet = np.repeat(np.arange(rows), np.diff(bounds))
    x_B, y_B, z_B, e_B = (np.bincount(jet, one.astype(np.float64), rows) for one in (px, py, pz, energy))
    return {"jet_pt": pt(x_B, y_B), "jet_eta": eta(x_B, y_B, z_B), "jet_phi": phi(x_B, y_B),
            "jet_mass": mass(x_B, y_B, z_B, e_B)}  # fmt: skip
