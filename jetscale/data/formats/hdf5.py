"""HDF5 files, opened with errors that name them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jetscale.errors import DataError

if TYPE_CHECKING:
    import h5py

CURE = "copy the file again, or convert the others without it"


def opened(file: str) -> h5py.File:
    """The file, for reading.

    Raises:
        DataError: no such file, no HDF5, a truncated one, or h5py is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise DataError("h5py is not installed, and HDF5 is read with it", where=file,
                        cure='pip install "jetscale[formats]"') from None  # fmt: skip
    with named(file):
        return h5py.File(file, "r")


@contextmanager
def named(file: str) -> Iterator[None]:
    """What the HDF5 library cannot read is an error of the file."""
    try:
        yield
    except (OSError, RuntimeError) as problem:
        raise DataError(f"cannot be read as HDF5: {problem}", where=file, cure=CURE) from None


def child(group: h5py.Group, *names: str) -> h5py.Group | h5py.Dataset | None:
    """What stands in a group under the first of some names that it has, in whatever case."""
    there = {name.lower(): name for name in reversed(list(group))}
    return next((group[there[name.lower()]] for name in names if name.lower() in there), None)
