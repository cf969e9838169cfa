"""What the readers of padded arrays share."""

from __future__ import annotations

import numpy as np

from jetscale.data.ingest.files import stamp
from jetscale.errors import DataError


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
    """Sixteen hex digits that name a file's content, here or at a URL."""
    return stamp(file).hash.rpartition(":")[2][:16]
