"""Runs of entries out of the baskets of a TTree or the clusters of an RNTuple: each is decompressed once."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping, Set
from itertools import pairwise
from typing import Any

import awkward as ak
import numpy as np

from jetscale.data.formats.branches import AGAIN, Branches
from jetscale.data.ingest.remote import is_url, unreached
from jetscale.errors import DataError

CHUNK = 10_000_000  # bytes of the branches that are read, decompressed
Arrays = Mapping[str, ak.Array]


def chunks_of(branches: Branches, names: tuple[str, ...], start: int, stop: int, where: str
            ) -> Iterator[tuple[int, int, Arrays]]:  # fmt: skip
    """First entry, number of entries and arrays by key, of one chunk after another."""
    keys = {branches.key(name) for name in names}
    if not keys or start >= stop:
        if start < stop:
            yield start, stop - start, {}
        return
    first = start
    try:
        read = _of_clusters if branches.is_ntuple else _of_baskets
        for rows, arrays in read(branches, keys, start, stop):
            yield first, rows, arrays
            first += rows
    except Exception as problem:  # uproot raises whatever its parsing trips over
        if is_url(where) and isinstance(problem, OSError):
            raise unreached(where, problem) from None
        raise _unread(branches, keys, first, stop, problem, where) from None


def _of_baskets(branches: Branches, keys: Set[str], start: int, stop: int) -> Iterator[tuple[int, Arrays]]:
    tree = branches.tree
    size = sum(branches.fields[key].uncompressed_bytes for key in keys)
    step = max(1, int(CHUNK * tree.num_entries / max(size, 1)))
    for arrays in tree.iterate(sorted(keys), entry_start=start, entry_stop=stop, step_size=step, how=dict):
        yield len(next(iter(arrays.values()))), arrays


def _of_clusters(branches: Branches, keys: Set[str], start: int, stop: int) -> Iterator[tuple[int, Arrays]]:
    """Whole clusters at a time. uproot also reads the one that begins where a chunk ends: it is held for the next."""
    tree, held = branches.tree, dict[str, np.ndarray]()
    step = int(tree.num_entries_for(CHUNK, filter_name=keys.__contains__))
    for first, last in pairwise(_bounds(tree, start, stop, step)):
        fresh: dict[str, np.ndarray] = {}
        array = tree.arrays(filter_name=keys.__contains__, entry_start=first, entry_stop=last,
                            array_cache=ChainMap(fresh, held))  # fmt: skip
        held = fresh
        for begin in range(0, last - first, step):
            piece = array[begin : begin + step]
            yield len(piece), {name: piece[name] for name in piece.fields}


def _bounds(tree: Any, start: int, stop: int, step: int) -> list[int]:
    """The first entries of chunks that are whole clusters, as many as make `step` entries, and `stop`."""
    bounds = [start]
    inside = [one.num_first_entry for one in tree.cluster_summaries if start < one.num_first_entry < stop]
    for here, after in pairwise([*inside, stop]):
        if after - bounds[-1] > step:
            bounds.append(here)
    return [*bounds, stop]


def reason_of(problem: Exception) -> str:
    """An exception in one line."""
    said = " ".join(str(problem).split())
    return f"{said[:200]}{'...' if len(said) > 200 else ''} ({type(problem).__name__})"


def _unread(branches: Branches, keys: Set[str], first: int, stop: int, problem: Exception, where: str) -> DataError:
    """Which branch it was, and in which of its entries."""
    for key in sorted(keys):
        for start, end in _pieces(branches, key, first, stop):
            try:
                _read_one(branches, key, start, end)
            except Exception as reason:
                return DataError(f"branch {key!r} cannot be read in entries {start} to {end - 1}: {reason_of(reason)}",
                                 where=where, cure=AGAIN)  # fmt: skip
    return DataError(f"entries from {first} on cannot be read: {reason_of(problem)}", where=where, cure=AGAIN)


def _read_one(branches: Branches, key: str, start: int, end: int) -> None:
    if branches.is_ntuple:  # of a cluster whatever entry, as uproot reads the whole, and at its end the next one too
        branches.tree.arrays(filter_name=key.__eq__, entry_start=start, entry_stop=start + 1, array_cache=None)
    else:
        branches.fields[key].array(entry_start=start, entry_stop=end, array_cache=None)


def _pieces(branches: Branches, key: str, first: int, stop: int) -> Iterator[tuple[int, int]]:
    """The entries of each basket or cluster."""
    if branches.is_ntuple:
        starts = [one.num_first_entry for one in branches.tree.cluster_summaries]
        offsets = [*starts, branches.tree.num_entries]
    else:
        offsets = branches.fields[key].entry_offsets
    for start, end in pairwise(offsets):
        if start < stop and first < end:
            yield int(start), int(end)
