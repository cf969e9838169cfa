"""SPANet's HDF5 files, arXiv:2106.03898: padded inputs with their masks, and which jets each target particle decays to.

    INPUTS/Source/{MASK, pt, eta, ...}   (N, M); further inputs likewise, or (N,) for whole events
    TARGETS/t1/{b, q1, q2}, t2/...       (N,), the product's place among the M jets; negative: it is not there

Older files have `source`, and the target particles beside it. A branch of a map is a feature of the jets' input, or the
path of an array, from INPUTS or from the top. Two branches are made of the targets: `TARGETS`, the parent of every jet,
and `TARGETS/products`, how many products each parent has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Self

import awkward as ak
import numpy as np

from jetscale.data.formats.hdf5 import arrays_in, child, group_in, mask_in, named, opened
from jetscale.data.formats.padded import content_key
from jetscale.data.formats.reader import Look, Reader
from jetscale.data.formats.targets import Particle, parents, particles_in, products, the_two
from jetscale.data.ingest.job import Map
from jetscale.data.ingest.mapping import Form, Plan, plan
from jetscale.data.ingest.values import Entries, Numbers
from jetscale.errors import DataError, nearest
from jetscale.schema import Schema

if TYPE_CHECKING:
    import h5py

CHUNK = 32_000_000  # bytes
PARENT, PRODUCTS = "TARGETS", "TARGETS/products"
SIN, COS, PHI = "sin_phi", "cos_phi", "phi"
LIST = (None,)


class SpanetReader(Reader):
    """Jets are those that the mask shows, in the file's order."""

    layout: Layout

    def __enter__(self) -> Self:
        self.layout = Layout(opened(self.file), self.file, self.how)
        return self

    def __exit__(self, *_: object) -> None:
        self.layout.hdf5.close()

    def look(self) -> Look:
        """What the file holds; of its events only the generator's weights are read."""
        with named(self.file):
            if not self.layout.entries:
                raise DataError("holds no events", where=self.file, cure="convert the other files without it")
            made = self._plan
            self.layout.check(made.needs(made.columns))
            total = self._sum_weight()
        return Look(entries=self.layout.entries, key=content_key(self.file), columns=made.columns, absent=made.absent,
                    absent_weights=made.absent_weights, weights=tuple(made.weights), sum_weight=total)  # fmt: skip

    def read(self, start: int, stop: int, columns: Schema) -> Iterator[ak.Array]:
        """See `Reader.read`.

        Raises:
            DataError: a target that is no jet, or a jet of both parents, by event and product.
        """
        names = self._plan.needs(columns)
        step = max(1, CHUNK // self.layout.bytes(names))
        for low in range(start, stop, step):
            high = min(low + step, stop)
            with named(self.file):
                part = Part(self.layout, low, high)
                read = {name: part.numbers(name) for name in names}
            yield Entries(self._plan, read, high - low, low, self.file).array(columns)

    @cached_property
    def _plan(self) -> Plan:
        return plan(self.how, self.layout.forms, self.file)

    def _sum_weight(self) -> float | None:
        """Of the generator's weights over all events, None without them."""
        if self.how.weight.generator not in self.layout.arrays:
            return None
        array, step = self.layout.arrays[self.how.weight.generator], CHUNK // 8
        return float(sum(array[low : low + step].sum(dtype=np.float64) for low in range(0, len(array), step)))


class Layout:
    """Where things stand in a file.

    Raises:
        DataError: its groups are not those of this format; when they are first asked for.
    """

    def __init__(self, hdf5: h5py.File, file: str, how: Map) -> None:
        self.hdf5, self.file, self.how = hdf5, file, how

    @property
    def entries(self) -> int:
        return int(self.mask.shape[0])

    @cached_property
    def inputs(self) -> h5py.Group:
        """The group of all inputs, in older files the top."""
        if (inputs := child(self.hdf5, "INPUTS")) is not None:
            return inputs
        if child(self.hdf5, "source") is None:
            raise DataError("has neither INPUTS nor source", where=self.file, cure=nearest("INPUTS", self.hdf5))
        return self.hdf5

    @cached_property
    def jets(self) -> h5py.Group:
        """The input that holds the jets: the one of the map, or the only one that has a mask."""
        older, tree = self.inputs == self.hdf5, self.how.tree
        lists = {
            name: group
            for name in self.inputs
            if (group := group_in(self.inputs, name)) is not None and mask_in(group) is not None
            and (not older or name.lower() == "source")
        }  # fmt: skip
        if tree is not None and tree not in lists:
            raise DataError(f"has no input {tree!r} with a mask", where=self.file, cure=nearest(tree, lists))
        if tree is None and len(lists) != 1:
            raise DataError(f"has {len(lists)} inputs with a mask: {', '.join(lists) or 'none'}", where=self.file,
                            cure="name that of the jets with `tree: NAME` in your map")  # fmt: skip
        return lists[tree or next(iter(lists))]

    @cached_property
    def mask(self) -> h5py.Dataset:
        """Which slots (N, M) are jets."""
        mask = mask_in(self.jets)
        assert mask is not None  # the jets are an input that has one
        if mask.ndim != 2:
            raise DataError(f"{mask.name} is {mask.shape}, and must be (N, M)", where=self.file, cure="write it anew")
        return mask

    @cached_property
    def arrays(self) -> dict[str, h5py.Dataset]:
        """Every array under all of its names."""
        found: dict[str, h5py.Dataset] = {}
        for place in (self.jets, self.inputs, self.hdf5):
            for path, array in arrays_in(place):
                found.setdefault(path, array)
        return found

    @cached_property
    def forms(self) -> dict[str, Form]:
        """What a branch holds per event: arrays that have a mask beside them are lists."""
        forms = {name: self.form(array) for name, array in self.arrays.items()}
        if PHI not in forms and {SIN, COS} <= forms.keys():
            forms[PHI] = Form("float64", forms[SIN].axes, f"of {SIN} and {COS}")
        if self.particles:
            forms |= {PARENT: Form("int8", LIST, "parents"), PRODUCTS: Form("int8", (), "a number of products")}
        return forms

    def form(self, array: h5py.Dataset) -> Form:
        """What an array holds per event."""
        number = array.dtype.name if array.dtype.kind in "fiub" else ""
        listed = array.ndim == 2 and mask_in(array.parent) is not None
        return Form(number, LIST if listed else array.shape[1:], f"{array.dtype} {array.shape}")

    @cached_property
    def particles(self) -> tuple[Particle, ...]:
        """The two parents, or none where the file has no targets."""
        place = child(self.hdf5, "TARGETS") or child(self.hdf5, "target")
        if place is None and self.inputs == self.hdf5:
            place = self.hdf5
        found = [] if place is None else list(particles_in(place, self.jets))
        return the_two(found, self.how.parents, self.file)

    def bytes(self, names: Sequence[str]) -> int:
        """How large an event is in these branches."""
        arrays = [self.mask, *(self.arrays[name] for name in names if name in self.arrays)]
        return sum(array.dtype.itemsize * int(np.prod(array.shape[1:])) for array in arrays)

    def check(self, names: Sequence[str]) -> None:
        """Branches have an entry for every event, and lists are as long as the mask beside them.

        Raises:
            DataError: one has not.
        """
        used = [
            self.arrays[name] for one in names for name in (SIN, COS) * (one == PHI) + (one,) if name in self.arrays
        ]
        if PARENT in names:
            used += [array for particle in self.particles for array in particle.products.values()]
        for array in used:
            beside = mask_in(array.parent) if self.form(array).axes == LIST else None
            wanted = self.mask.shape[:1] if beside is None else (self.entries, *beside.shape[1:])
            if array.shape[: len(wanted)] != wanted:
                raise DataError(f"{array.name} is {array.shape}, and {self.mask.name} is {self.mask.shape}",
                                where=self.file, cure="write the file anew")  # fmt: skip


class Part:
    """Events [low, high) of a file."""

    def __init__(self, layout: Layout, low: int, high: int) -> None:
        self.layout, self.low, self.high = layout, low, high
        self._lists: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def numbers(self, name: str) -> Numbers:
        """What a branch holds: a number per event, or lists."""
        if name == PRODUCTS:
            return Numbers(products(self.layout.particles, self._parents))
        if name == PARENT:
            mask_BM, bounds = self._list(self.layout.jets)
            return Numbers(self._parents[mask_BM], bounds)
        if name not in self.layout.arrays:
            sin, cos = self.numbers(SIN), self.numbers(COS)
            return Numbers(np.arctan2(sin.values.astype(np.float64), cos.values), sin.bounds)
        array = self.layout.arrays[name]
        if self.layout.form(array).axes != LIST:
            return Numbers(array[self.low : self.high])
        mask_BM, bounds = self._list(array.parent)
        return Numbers(array[self.low : self.high][mask_BM], bounds)

    def _list(self, group: h5py.Group) -> tuple[np.ndarray, np.ndarray]:
        """Which slots of an input are there, (B, M), and where its lists begin, (B + 1,)."""
        if group.name not in self._lists:
            mask = mask_in(group)
            assert mask is not None  # a form says list only beside one
            mask_BM = mask[self.low : self.high].astype(bool)
            self._lists[group.name] = mask_BM, np.concatenate([[0], np.cumsum(mask_BM.sum(1), dtype=np.int64)])
        return self._lists[group.name]

    @cached_property
    def _parents(self) -> np.ndarray:
        return parents(self.layout.particles, self._list(self.layout.jets)[0], self.low, self.layout.file)
