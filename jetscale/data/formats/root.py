"""Events in ROOT files: TTrees and RNTuples, read in chunks whose memory does not grow with the file."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from functools import cached_property
from types import TracebackType
from typing import Any, Self

import awkward as ak
import numpy as np
import uproot
from uproot.source.fsspec import FSSpecSource

from jetscale.data.formats.baskets import chunks_of, reason_of
from jetscale.data.formats.branches import AGAIN, Branches
from jetscale.data.formats.reader import Look, Reader
from jetscale.data.ingest.job import Map
from jetscale.data.ingest.mapping import Plan, plan
from jetscale.data.ingest.remote import finite_waits
from jetscale.data.ingest.values import Entries
from jetscale.errors import DataError, nearest
from jetscale.schema import Schema

TREES = ("TTree", "TNtuple", "TNtupleD", "TChain", "ROOT::RNTuple", "ROOT::Experimental::RNTuple")


class RootReader(Reader):
    """A ROOT file, local or at a URL."""

    def __init__(self, file: str, how: Map) -> None:
        super().__init__(file, how)
        self._root: Any = None
        self._trees: dict[str, str] = {}

    def __enter__(self) -> Self:
        finite_waits()
        try:
            # A mapping, as uproot takes what stands behind a colon in a plain path for a tree.
            self._root = uproot.open({self.file: None}, object_cache=None, array_cache=None)
            kinds = self._root.classnames(cycle=False)
            self._trees = {name: kind for name, kind in kinds.items() if kind in TREES}
        except Exception as problem:  # uproot raises whatever its parsing trips over
            self._close()
            raise _unopened(self.file, problem) from None
        if error := _cut(self.file, self._root.file.source.num_bytes, self._root.file.fEND):
            self._close()
            raise error
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        self._close()

    def _close(self) -> None:
        if self._root is not None:
            self._root.close()

    def look(self) -> Look:
        """See `Reader.look`; of the events at most the generator's weights are read, if the file has not their sum.

        A file without entries is none, unless it says what the weights summed to before all of its events went.
        """
        if not self._entries and self._account is None:
            raise DataError(f"tree {self._name!r} has no entries", where=self.file, cure="leave the file out")
        plan = self._plan
        return Look(entries=self._entries, key=self._key, columns=plan.columns, absent=plan.absent,
                    absent_weights=(*plan.absent_weights, *self._unaccounted()), weights=tuple(plan.weights),
                    sum_weight=self._sum_weight())  # fmt: skip

    def read(self, start: int, stop: int, columns: Schema) -> Iterator[ak.Array]:
        """See `Reader.read`; of each branch there is `baskets.CHUNK` bytes in memory, or one basket or cluster.

        Raises:
            DataError: a branch whose bytes cannot be read, by name and entries; members of a collection that differ in
                number; a number that its column cannot hold.
        """
        names = self._plan.needs(columns)
        for first, rows, arrays in chunks_of(self._branches, names, start, min(stop, self._entries), self.file):
            read = {name: self._branches.numbers(name, arrays, first, self.file) for name in names}
            yield Entries(self._plan, read, rows, first, self.file).array(columns)

    @cached_property
    def _name(self) -> str:
        """The tree's name, as the map says it, or the only one's."""
        said = ", ".join(f"{name!r}" for name in self._trees)
        if not self._trees:
            raise DataError("holds no TTree and no RNTuple", where=self.file,
                            cure=f"if its writing was cut off: {AGAIN}")  # fmt: skip
        if (tree := self.how.tree) is not None:
            if tree not in self._trees:
                raise DataError(f"has no tree {tree!r}", where=self.file, cure=nearest(tree, self._trees))
            return tree
        if len(self._trees) > 1:
            raise DataError(f"holds {len(self._trees)} trees: {said}", where=self.file,
                            cure="choose one of them: --tree NAME, or `tree: NAME` in your map")  # fmt: skip
        return next(iter(self._trees))

    def _open(self, name: str) -> Branches:
        try:
            branches = Branches(self._root[name])
            if branches.is_ntuple:
                len(branches.tree.page_link_list)  # read here, so that a fault in it is the tree's and no branch's
        except Exception as problem:
            said = f"tree {name!r} cannot be read: {reason_of(problem)}"
            raise DataError(said, where=self.file, cure=AGAIN) from None
        return branches

    @property
    def _entries(self) -> int:
        return int(self._branches.tree.num_entries)

    @cached_property
    def _key(self) -> str:
        said = f"{self._root.file.uuid} {self._root.file.fEND} {self._name} {self._entries}"
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    @cached_property
    def _branches(self) -> Branches:
        return self._open(self._name)

    @cached_property
    def _plan(self) -> Plan:
        made = plan(self.how, self._branches, self.file)
        if not self._branches.is_ntuple:
            for name in made.needs(made.columns):
                branch = self._branches.fields[self._branches.key(name)]
                if branch.num_entries != self._entries:
                    raise DataError(f"branch {name!r} has {branch.num_entries} entries, its tree {self._entries}",
                                    where=self.file, cure=AGAIN)  # fmt: skip
        return made

    def _sum_weight(self) -> float | None:
        """Of the generator's weights: by the file's own account, or over its events; None without them."""
        generator = self.how.weight.generator
        if generator is None or generator not in self._branches:
            return None
        return _sum(*(self._account or (self._branches, generator)), self.file)

    @cached_property
    def _account(self) -> tuple[Branches, str] | None:
        """Where the file says itself what the generator's weights summed to."""
        how = self.how.weight.sum
        if how is None or how.tree not in self._trees:
            return None
        account = self._open(how.tree)
        return next(((account, name) for name in how.branch if name in account), None)

    def _unaccounted(self) -> Iterator[str]:
        """The sum that the map names, where the file has the weights and not their sum."""
        how = self.how.weight
        if how.sum is not None and self._account is None and how.generator in self._branches:
            yield f"{how.sum.tree}/{how.sum.branch[0]}"


def _sum(branches: Branches, name: str, where: str) -> float:
    """Over all entries but those whose weight is no number: these events are rejected, and counted, later."""
    total = 0.0
    for first, _, arrays in chunks_of(branches, (name,), 0, int(branches.tree.num_entries), where):
        values = branches.numbers(name, arrays, first, where).values
        total += float(values[np.isfinite(values)].sum(dtype=np.float64))
    return total


def _unopened(file: str, problem: Exception) -> DataError:
    """Why a file could not be opened: by its first bytes and its size, if it has any."""
    try:
        with FSSpecSource(file) as source:
            size = int(source.num_bytes)
            head = bytes(source.chunk(0, min(size, 64)).raw_data)
    except Exception as reason:
        said = "is a folder" if isinstance(reason, IsADirectoryError) else f"cannot be opened: {reason_of(reason)}"
        return DataError(said, where=file, cure="correct the path or URL; see that it is there and may be read")
    if not head:
        return DataError("is empty: 0 bytes", where=file, cure=AGAIN)
    if head[:4] != b"root":
        return DataError(f"is not a ROOT file: it begins with {head[:16]!r}", where=file, cure="give ROOT files; "
                         "a page of HTML means that the server wants another URL or a login")  # fmt: skip
    corrupt = DataError(f"is corrupt: {reason_of(problem)}", where=file, cure=AGAIN)
    return _cut(file, size, _said_end(head)) or corrupt


def _cut(file: str, size: int | None, end: int) -> DataError | None:
    """Whether less of a file is there than it says; some servers do not say how much."""
    if size is None or size >= end:
        return None
    return DataError(f"is truncated: it has {size} of {end} bytes", where=file, cure=AGAIN)


def _said_end(head: bytes) -> int:
    """How long the file says it is: fEND of a ROOT file's header, of 8 bytes in large files."""
    if len(head) < 20:
        return 64
    version, _, end = struct.unpack(">3i", head[4:16])
    return int(struct.unpack(">q", head[12:20])[0] if version >= 1_000_000 else end)
