"""DataFrames that pandas wrote into HDF5, read without pandas: its own way would run code that a file may hold.

pandas has two layouts. `table` is one array of records KEY/table, which have blocks of columns as fields; `fixed` has
every block as an array KEY/block0_values with the columns' names in KEY/block0_items. Both stand row by row.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import numpy as np

from jetscale.data.formats.hdf5 import CURE, group_in, opened
from jetscale.errors import DataError, nearest

if TYPE_CHECKING:
    import h5py

LEVELS = (
    "the names of {key}'s columns have levels, and it is in pandas' fixed format",
    "write it as a table: df.to_hdf(FILE, key=KEY, format='table')",
)
FILLER = "value_type"  # an attribute that arrays of nothing have, as pandas puts a number into them
Place = tuple[str, int]  # a block, and the column in it


class _Plain(pickle.Unpickler):
    """pandas pickles the names of its columns; these need no classes, and whatever does is refused."""

    def find_class(self, module: str, name: str) -> object:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


class Frame:
    """One DataFrame of a file: `places` says where each of its columns stands, by its name; `entries` are its rows.

    Raises:
        DataError: no HDF5, no DataFrame under `key` (or, without a key, none or several in the file), names that cannot
            be read or are not as many as the columns; `cure` says what the format wants. Of blocks without names,
            those that `published` has of the same number of columns are taken.
    """

    def __init__(self, file: str, key: str | None, cure: str, published: Sequence[list[str]] = ()) -> None:
        self.file, self.cure, self.published = file, cure, published
        self.hdf5: h5py.File = opened(file)
        try:
            with _sound(file):
                self.key = self._only_key() if key is None else key
                self.records, self.blocks = self._layout()
                self.places = dict(self._places())
                self.entries = self._entries()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self.hdf5.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, start: int, stop: int, *columns: Sequence[Hashable]) -> list[np.ndarray]:
        """The rows [start, stop) of some columns, (B, N), of each group of them one array.

        Raises:
            DataError: they cannot be read.
        """
        places = [[self.places[name] for name in group] for group in columns]
        with _sound(self.file):
            rows = None if self.records is None else self.records[start:stop]
            blocks = {block: self.blocks[block][start:stop] if rows is None else rows[block].reshape(len(rows), -1)
                      for block in dict.fromkeys(block for group in places for block, _ in group)}  # fmt: skip
        return [_picked(blocks, group) if group else np.zeros((stop - start, 0)) for group in places]

    def need(self, columns: Sequence[Hashable]) -> None:
        """See that there are columns.

        Raises:
            DataError: there are not.
        """
        if lacking := [str(name) for name in columns if name not in self.places]:
            said = f"{self.key!r} lacks {len(lacking)} columns: {', '.join(lacking[:8])}"
            near = nearest(lacking[0], map(str, self.places))
            raise DataError(said, where=self.file, cure=f"{near}; {self.cure}")

    def _only_key(self) -> str:
        keys = [name for name in self.hdf5 if (group := group_in(self.hdf5, name)) is not None and _is_frame(group)]
        if len(keys) != 1:
            said = f"holds {len(keys)} DataFrames, not one: {', '.join(keys)}" if keys else "holds no DataFrame"
            raise DataError(said, where=self.file, cure=self.cure)
        return str(keys[0])

    def _layout(self) -> tuple[h5py.Dataset | None, dict[str, h5py.Dataset]]:
        """The records of a table, or else the blocks of the fixed layout."""
        group = group_in(self.hdf5, self.key)
        if group is None or not _is_frame(group):
            raise DataError(f"has no table {self.key!r}", where=self.file,
                            cure=f"{nearest(self.key, self.hdf5)}; {self.cure}")  # fmt: skip
        records = group.get("table")
        blocks = {} if records is not None else {
            name: group[name] for name in group if name.startswith("block") and name.endswith("_values")}  # fmt: skip
        for one in (records, *blocks.values()):
            if one is not None:
                decoded(one, self.file)
        return records, blocks

    def _entries(self) -> int:
        one = self.records or next(iter(self.blocks.values()))
        return 0 if FILLER in one.attrs else int(one.shape[0])

    def _places(self) -> Iterator[tuple[Hashable, Place]]:
        for block, width, said in self._named_blocks():
            names = next((one for one in self.published if len(one) == width), []) if said is None else said
            if len(names) != width:
                published = "; as published it is of " + " or ".join(str(len(one)) for one in self.published)
                raise DataError(f"{block} of {self.key!r} is of {width} columns and has names of {len(names)}"
                                f"{published if self.published else ''}", where=self.file, cure=self.cure)  # fmt: skip
            for column, name in enumerate(names):
                yield name, (block, column)

    def _named_blocks(self) -> Iterator[tuple[str, int, Sequence[Hashable] | None]]:
        """Every block with how many columns it has, and their names if it says them."""
        if self.records is not None:
            for block in (name for name in self.records.dtype.names if name != "index"):
                width = int(np.prod(self.records.dtype[block].shape, dtype=int))
                kind = self.records.attrs.get(f"{block}_kind")
                yield block, width, None if kind is None else plain(kind, self.key, self.file, self.cure)
            return
        for block, values in self.blocks.items():
            items = self.hdf5[self.key].get(block.replace("_values", "_items"))
            if items is None:
                raise DataError(LEVELS[0].format(key=self.key), where=self.file, cure=LEVELS[1])
            decoded(items, self.file)
            names = items[()]
            if names.dtype.kind not in "SiuO" or names.ndim != 1 or FILLER in items.attrs:
                raise DataError(f"the names of {self.key}'s columns cannot be read: they are {names.dtype}",
                                where=self.file, cure=self.cure)  # fmt: skip
            width = len(names) if FILLER in values.attrs else values.shape[1]
            yield block, width, [one.decode() if isinstance(one, bytes) else one for one in names.tolist()]


@contextmanager
def _sound(file: str) -> Iterator[None]:
    """Whatever a damaged file makes h5py trip over is an error of the file."""
    try:
        yield
    except DataError:
        raise
    except Exception as problem:
        said = f"cannot be read as HDF5: {problem} ({type(problem).__name__})"
        raise DataError(said, where=file, cure=CURE) from None


def _picked(blocks: dict[str, np.ndarray], places: Sequence[Place]) -> np.ndarray:
    if len({block for block, _ in places}) == 1:
        return np.asarray(blocks[places[0][0]][:, [column for _, column in places]])
    return np.stack([blocks[block][:, column] for block, column in places], axis=1)


def _is_frame(group: h5py.Group) -> bool:
    table = group.get("table")
    if table is not None:
        return getattr(table, "dtype", np.dtype("f4")).names is not None
    return "axis0" in group or "block0_values" in group


def plain(content: bytes, key: str, file: str, cure: str) -> list[Hashable]:
    """The names of columns out of an attribute of the table under `key`.

    Raises:
        DataError: it holds something else.
    """
    try:
        return list(_Plain(io.BytesIO(bytes(content))).load())
    except (pickle.UnpicklingError, EOFError, ValueError, KeyError, IndexError, TypeError) as problem:
        raise DataError(f"the names of {key}'s columns cannot be read: {problem}", where=file, cure=cure) from None


def decoded(array: h5py.Dataset, file: str) -> None:
    """See that what an array is compressed with is known here; PyTables knows more than the HDF5 library.

    Raises:
        DataError: it is not, by its name.
    """
    from h5py import h5z

    settings = array.id.get_create_plist()
    for place in range(settings.get_nfilters()):
        number, _, _, name = settings.get_filter(place)
        if not h5z.filter_avail(number) and not (_plugins() and h5z.filter_avail(number)):
            raise DataError(f"is compressed with {name.decode() or number}, which h5py does not know", where=file,
                            cure="pip install hdf5plugin; or write it anew: ptrepack --complib=zlib --complevel=5 FILE "
                            "NEW, of PyTables; or name the folder of the plugin in HDF5_PLUGIN_PATH")  # fmt: skip


def _plugins() -> bool:
    """blosc, bzip2 and others, where their package is installed."""
    try:
        import hdf5plugin
    except ImportError:
        return False
    return bool(hdf5plugin.version)
