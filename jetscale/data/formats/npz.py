"""Arrays of an .npz archive, row by row: neither the archive nor an array is ever whole in memory."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from math import prod
from typing import IO, NamedTuple

import numpy as np

from jetscale.data.ingest import remote
from jetscale.errors import DataError, nearest

CURE = "copy the file again, or convert the others without it"
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class Shaped(NamedTuple):
    """What an array's header says, and where its numbers begin."""

    shape: tuple[int, ...]
    dtype: np.dtype
    begin: int

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * prod(self.shape[1:])


class Npz:
    """An open archive of numpy arrays.

    Raises:
        DataError: no zip archive, or a truncated one.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        with self._named(), ExitStack() as opening:
            self.archive = opening.enter_context(zipfile.ZipFile(opening.enter_context(remote.opened(file))))
            self.open = opening.pop_all()

    def close(self) -> None:
        """Let go of the file, also where reading stopped midway."""
        self.open.close()

    @property
    def names(self) -> list[str]:
        """The arrays' names."""
        return [name.removesuffix(".npy") for name in self.archive.namelist()]

    def shaped(self, name: str) -> Shaped:
        """The shape and type of an array.

        Raises:
            DataError: no such array, or none of numbers in rows.
        """
        if name not in self.names:
            raise DataError(f"has no array {name!r}", where=self.file, cure=nearest(name, self.names))
        with self._named(), self.archive.open(f"{name}.npy") as stream:
            return self._header(name, stream)

    def rows(self, name: str, start: int, stop: int, step: int) -> Iterator[np.ndarray]:
        """Rows [start, stop) of an array in order, `step` of them at a time."""
        head = self.shaped(name)
        with self._named(), self.open.enter_context(self.archive.open(f"{name}.npy")) as stream:
            stream.seek(head.begin + start * head.row_bytes)
            for low in range(start, stop, step):
                count = min(step, stop - low)
                content = stream.read(count * head.row_bytes)
                if len(content) < count * head.row_bytes:
                    raise DataError(f"the array {name!r} ends early", where=self.file, cure=CURE)
                yield np.frombuffer(content, head.dtype).reshape(count, *head.shape[1:])

    def _header(self, name: str, stream: IO[bytes]) -> Shaped:
        version = np.lib.format.read_magic(stream)
        if version not in HEADERS:
            raise DataError(f"the array {name!r} is in version {version} of numpy's format", where=self.file,
                            cure="save plain numbers with np.savez")  # fmt: skip
        shape, by_columns, dtype = HEADERS[version](stream)
        if dtype.kind not in "fiub":
            raise DataError(f"the array {name!r} is of {dtype}, not of numbers", where=self.file,
                            cure="save plain numbers with np.savez")  # fmt: skip
        if by_columns and len(shape) > 1:
            raise DataError(f"the array {name!r} is stored column by column", where=self.file,
                            cure="save np.ascontiguousarray of it")  # fmt: skip
        return Shaped(shape, dtype, stream.tell())

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError) as problem:
            raise DataError(f"cannot be read as .npz: {problem}", where=self.file, cure=CURE) from None
