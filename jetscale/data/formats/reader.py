"""What every format offers: a look at a file, and its events in ranges, in our columns and units."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Self

import awkward as ak

from jetscale.config import Config
from jetscale.data.ingest.job import Map
from jetscale.schema import Schema

REASON = "left_out_because"


class Look(Config):
    """What a file holds, found without reading its events.

    `columns` is what `Reader.read` yields of it, with types and units, without `weight` and its variations. `key` names
    the file's content for event ids: the same by whatever path it is reached. `sum_weight` is what the generator's
    weights sum to, by the file's own account or over its events, None where there is no such weight. `absent` are
    columns of the map whose branches the file lacks, `absent_weights` are factors, variations and that account
    likewise. `weights` are the names of the weights that `Reader.read` yields: `weight`, and its variations as
    `weight_NAME_up`, `_down`.
    """

    entries: int
    key: str
    columns: Schema
    absent: tuple[str, ...] = ()
    absent_weights: tuple[str, ...] = ()
    weights: tuple[str, ...] = ("weight",)
    sum_weight: float | None = None


class Reader(AbstractContextManager["Reader"], ABC):
    """One open file of a format, read with a map. Errors are `DataError`s that name file and branch."""

    def __init__(self, file: str, how: Map) -> None:
        self.file, self.how = file, how

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def look(self) -> Look:
        """What the file holds.

        Raises:
            DataError: a truncated file, no or several trees, an empty one, a missing or unfit branch; named, with the
                nearest names.
        """

    @abstractmethod
    def read(self, start: int, stop: int, columns: Schema) -> Iterator[ak.Array]:
        """The events of [start, stop) in order, in chunks of a few ten megabytes, as records.

        Fields are those of `columns`, in the types, units and order that it has, one list per event where a column is
        of a collection; those that the file lacks stand with their `missing`. Further fields: `weight` (float64, the
        product of the map's factors, 1 without any) and its variations `weight_NAME_up` and `_down`. Nothing is left
        out or mended: non-finite and odd values come as they are. Where a format knows more, a field `REASON` says
        why an event is to be left out, and is empty where it is not.
        """
