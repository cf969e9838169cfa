"""The targets of SPANet's files: of which parent is a jet?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jetscale.data.formats.hdf5 import MASK, arrays_in, group_in
from jetscale.data.formats.padded import whole_numbers
from jetscale.errors import DataError, nearest

if TYPE_CHECKING:
    import h5py

ONE_EACH = "match every jet to one product"
OTHER_INPUT = "only targets among the jets are read: choose map.parents, or leave TARGETS out of your map"


class Particle(NamedTuple):
    """A target particle, and for each of its products the array of its places among the jets."""

    name: str
    products: dict[str, h5py.Dataset]


def particles_in(place: h5py.Group, but: h5py.Group) -> Iterator[Particle]:
    """The target particles that stand in a group, `but` the one that holds the jets; files of data have none."""
    for name in place:
        group = group_in(place, name)
        if group is None or group == but:
            continue
        # Older files say beside the products whether all of them are there.
        if products := {path: array for path, array in arrays_in(group) if path.lower() != MASK}:
            yield Particle(name, products)


def the_two(found: list[Particle], wanted: tuple[str, str] | None, file: str) -> tuple[Particle, ...]:
    """The two that are parents: those wanted, or the only ones; none where there are none.

    Raises:
        DataError: one that is wanted is not there, or nothing says which of them.
    """
    by_name = {one.name: one for one in found}
    for name in wanted or ():
        if name not in by_name:
            raise DataError(f"has no target particle {name!r}", where=file, cure=nearest(name, by_name))
    if not wanted and len(found) not in (0, 2):
        raise DataError(f"has {len(found)} target particles, not two: {', '.join(by_name)}", where=file,
                        cure="say which two are the parents, --set map.parents=[NAME,NAME], or take TARGETS out of "
                        "your map")  # fmt: skip
    return tuple(by_name[name] for name in wanted) if wanted else tuple(found)


def parents(particles: tuple[Particle, ...], mask_BM: np.ndarray, low: int, file: str) -> np.ndarray:
    """1 and 2 for the jets of their products, 0 for the others, -1 for all of an event without any, (B, M) int8.

    Raises:
        DataError: a product that is no jet, or a jet of both parents, by event, product and jet.
    """
    parent_BM = np.zeros(mask_BM.shape, dtype=np.int8)
    for label, particle in enumerate(particles, 1):
        for product, array in particle.products.items():
            place_B = whole_numbers(array[low : low + len(mask_BM)], array.name, file)
            row_R = np.flatnonzero(place_B >= 0)
            place_R = place_B[row_R]
            said = f"{particle.name}/{product} is jet"
            _refuse(place_R >= mask_BM.shape[1], row_R, place_R, low, file, OTHER_INPUT,
                    f"{said} {{}}, and there is room for {mask_BM.shape[1]}")  # fmt: skip
            _refuse(~mask_BM[row_R, place_R], row_R, place_R, low, file, "write -1 where a product has no jet",
                    f"{said} {{}}, which the mask says is not there")  # fmt: skip
            _refuse(parent_BM[row_R, place_R] == 3 - label, row_R, place_R, low, file, ONE_EACH,
                    f"{said} {{}}, which is of {particles[0].name} as well")  # fmt: skip
            parent_BM[row_R, place_R] = label
    parent_BM[~parent_BM.any(1)] = -1
    return parent_BM


def products(particles: tuple[Particle, ...], parent_BM: np.ndarray) -> np.ndarray:
    """How many products each parent has, -1 where they have not as many or none is a jet, (B,) int8."""
    counts = {len(particle.products) for particle in particles}
    known_B = (parent_BM > 0).any(1) & (len(counts) == 1)
    return np.where(known_B, min(counts), -1).astype(np.int8)


def _refuse(bad_R: np.ndarray, row_R: np.ndarray, place_R: np.ndarray, low: int, file: str, cure: str,
            what: str) -> None:  # fmt: skip
    if bad_R.any():
        first = int(np.flatnonzero(bad_R)[0])
        raise DataError(f"event {low + row_R[first]}: {what.format(place_R[first])}", where=file, cure=cure)
