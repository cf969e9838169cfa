"""HDF5 files, here or at a URL, opened with errors that name them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jetscale.data.ingest import remote
from jetscale.errors import DataError

if TYPE_CHECKING:
    import h5py

MASK = "mask"
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
                        cure="pip install -c cluster/constraints.txt '.[formats]' in the clone") from None  # fmt: skip
    with named(file):
        return h5py.File(remote.opened(file) if remote.is_url(file) else file, "r")


@contextmanager
def named(file: str) -> Iterator[None]:
    """What the HDF5 library cannot read is an error of the file."""
    try:
        yield
    except (OSError, RuntimeError) as problem:
        raise DataError(f"cannot be read as HDF5: {problem}", where=file, cure=CURE) from None


def child(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """What stands in a group under a name, in whatever case."""
    return next((group[one] for one in group if one.lower() == name.lower()), None)


def arrays_in(group: h5py.Group, path: str = "") -> Iterator[tuple[str, h5py.Dataset]]:
    """Every array below a group, by its path from there; a link that leads nowhere is passed over."""
    for name in group:
        one = group.get(name)
        if hasattr(one, "shape"):
            yield f"{path}{name}", one
        elif one is not None:
            yield from arrays_in(one, f"{path}{name}/")


def group_in(place: h5py.Group, name: str) -> h5py.Group | None:
    """A group in a group, None where there is none of the name or it is something else."""
    one = place.get(name)
    return None if hasattr(one, "shape") else one


def mask_in(group: h5py.Group) -> h5py.Dataset | None:
    """The mask that stands beside padded arrays."""
    one = child(group, MASK)
    return one if hasattr(one, "shape") else None
