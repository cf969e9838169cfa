"""Padded arrays, as networks like them, become lists per event."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import awkward as ak
import numpy as np
import vector

from jetscale.errors import DataError
from jetscale.schema import Column, Schema

FACTOR = {"MeV": 1e-3, "GeV": 1.0, "TeV": 1e3}
CARTESIAN = ("px", "py", "pz", "energy")


def lists(values_BJ: np.ndarray, mask_BJ: np.ndarray) -> ak.Array:
    """The entries (B, J) where the mask holds, one list per event, in their order."""
    return ak.unflatten(ak.Array(values_BJ[mask_BJ]), mask_BJ.sum(1))


def polar(momenta: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`pt, eta, phi, mass` in double precision, from these, or from `energy` with `pt, eta, phi` or `px, py, pz`.

    The mass of a space-like vector is negative, so that nothing is mended here.
    """
    given = {name: values.astype(np.float64) for name, values in momenta.items()}
    if "mass" in given:
        return given
    made = vector.array({name: given[name] for name in (*CARTESIAN[:3], *given) if name in given})
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return {"pt": made.pt, "eta": made.eta, "phi": made.phi, "mass": made.mass}


def records(arrays: Mapping[str, ak.Array], columns: Schema, further: Mapping[str, np.ndarray]) -> ak.Array:
    """Events as records with the fields of `columns`, in their types, and further ones as they are.

    `arrays` has numbers (B,) and lists; a column that it lacks is filled with its `missing`.
    """
    like = {column.of: arrays[column.name] for column in columns.each() if column.of and column.name in arrays}
    rows = len(next(iter(further.values())))
    found = {column.name: ak.values_astype(arrays.get(column.name, _filled(column, like, rows)), column.dtype)
             for column in columns.each()}  # fmt: skip
    return ak.Array({**found, **further})


def first(bad_B: np.ndarray, start: int) -> int:
    """The entry of the first bad event, in a chunk that begins at `start`."""
    return start + int(np.flatnonzero(bad_B)[0])


def whole_numbers(values: np.ndarray, name: str, where: str) -> np.ndarray:
    """The same as int64.

    Raises:
        DataError: numbers with a fraction, or not finite.
    """
    if values.dtype.kind in "iub":
        return values.astype(np.int64)
    with np.errstate(invalid="ignore"):
        odd = ~(values == np.round(values))
    if odd.any():
        raise DataError(f"{name} holds {values[odd].flat[0]:g} where a whole number is meant", where=where,
                        cure="write it as integers")  # fmt: skip
    return values.astype(np.int64)


def content_key(file: str) -> str:
    """Sixteen hex digits of a local file's content."""
    with Path(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def _filled(column: Column, like: Mapping[str, ak.Array], rows: int) -> ak.Array:
    missing = np.nan if column.missing is None else column.missing
    if not column.of:
        return ak.Array(np.full(rows, missing))
    if column.of not in like:
        return ak.unflatten(ak.Array(np.zeros(0)), np.zeros(rows, dtype=np.int64))
    return ak.full_like(like[column.of], missing, dtype=np.float64)
