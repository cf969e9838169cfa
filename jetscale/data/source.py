"""The two sources of bytes: plain pyarrow in this process, and Ray Data. Same items, same tables, bit for bit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa

from jetscale.data.chunks import Reader
from jetscale.data.plan import Chunk, Item

WINDOW = 512


class Bytes(ABC):
    """Reads items in the order in which they are asked for."""

    def __init__(self, readers: Mapping[str, Reader], chunks: Mapping[str, Sequence[Chunk]]) -> None:
        self.readers, self.chunks = dict(readers), {name: tuple(of) for name, of in chunks.items()}

    @abstractmethod
    def read(self, items: Iterable[Item]) -> Iterator[tuple[Item, pa.Table]]:
        """Each item with its rows."""

    def _read(self, item: Item) -> pa.Table:
        return self.readers[item.sample].read(item, self.chunks[item.sample][item.chunk])


class PyarrowBytes(Bytes):
    """Reads in the training process itself: one machine, nothing to start."""

    def read(self, items: Iterable[Item]) -> Iterator[tuple[Item, pa.Table]]:
        """Each item with its rows, read when it is asked for."""
        for item in items:
            yield item, self._read(item)


class RayBytes(Bytes):
    """Ray Data decodes on whichever node has a free slot, and streams the tables in order.

    The items are handed over in windows, so that a long run does not hold one object per read of its whole life.
    """

    def __init__(self, readers: Mapping[str, Reader], chunks: Mapping[str, Sequence[Chunk]], task_cpus: float) -> None:
        super().__init__(readers, chunks)
        self.task_cpus = task_cpus

    def read(self, items: Iterable[Item]) -> Iterator[tuple[Item, pa.Table]]:
        """Each item with its rows; decoding runs ahead of the consumer."""
        waiting = iter(items)
        while window := list(islice(waiting, WINDOW)):
            yield from self._window(window)

    def _window(self, window: list[Item]) -> Iterator[tuple[Item, pa.Table]]:
        blocks = self._dataset(window).iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2)
        parts = (block for block in blocks if block.num_rows)
        for item in window:
            tables, rows = [], 0
            while rows < item.rows:
                tables.append(next(parts))
                rows += tables[-1].num_rows
            yield item, pa.concat_tables(tables)

    def _dataset(self, window: list[Item]) -> Any:
        import ray.data

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        read = self._read

        def load(numbers: pa.Table) -> pa.Table:
            return pa.concat_tables([read(window[number.as_py()]) for number in numbers["id"]])

        return ray.data.range(len(window), override_num_blocks=len(window)).map_batches(
            load, batch_format="pyarrow", batch_size=None, num_cpus=self.task_cpus, zero_copy_batch=True
        )
