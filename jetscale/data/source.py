"""The two sources of bytes: plain pyarrow in this process, and Ray Data. Same items, same tables, bit for bit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, pairwise
from typing import Any

import pyarrow as pa

from jetscale.data.chunks import Reader
from jetscale.data.plan import Chunk, Item

WINDOW = 512  # items that are handed to Ray Data at once
ALONE, TOGETHER = 16, 8  # how many of them are read one by one, and how many by one task after these


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

    The items are handed over in windows, so that a long run does not hold one object per read of its whole life. The
    first of a window are read one by one, since somebody waits for them; later ones a few to a task, because a task
    costs as much as reading half an item. More tasks `at_once` start more processes, which a small machine has no room
    for.
    """

    def __init__(self, readers: Mapping[str, Reader], chunks: Mapping[str, Sequence[Chunk]], task_cpus: float,
                 at_once: int = 2) -> None:  # fmt: skip
        super().__init__(readers, chunks)
        self.task_cpus, self.at_once = task_cpus, at_once

    def read(self, items: Iterable[Item]) -> Iterator[tuple[Item, pa.Table]]:
        """Each item with its rows; decoding runs ahead of the consumer."""
        waiting = iter(items)
        while window := list(islice(waiting, WINDOW)):
            yield from self._window(window)

    def _window(self, window: list[Item]) -> Iterator[tuple[Item, pa.Table]]:
        blocks = self._dataset(window).iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2)
        return zip(window, cut((block for block in blocks if block.num_rows), [item.rows for item in window]),
                   strict=True)  # fmt: skip

    def _dataset(self, window: list[Item]) -> Any:
        import ray.data

        from jetscale.data.rays import Items, Read

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        reads = [Read(self.readers[item.sample], item, self.chunks[item.sample][item.chunk]) for item in window]
        starts = [*range(min(ALONE, len(reads))), *range(ALONE, len(reads), TOGETHER)]
        groups = [reads[low:high] for low, high in pairwise([*starts, len(reads)])]
        return ray.data.read_datasource(
            Items(groups), override_num_blocks=len(groups), num_cpus=self.task_cpus, concurrency=self.at_once
        )


def cut(blocks: Iterable[pa.Table], rows: Iterable[int]) -> Iterator[pa.Table]:
    """The rows of all blocks, one after the other, as tables of so many rows.

    They are copied out of the object store: lanes keep rows for long, and the store must have room for the next ones.
    """
    source = iter(blocks)
    rest: pa.Table | None = None
    for wanted in rows:
        parts: list[pa.Table] = []
        while missing := wanted - sum(part.num_rows for part in parts):
            rest = rest if rest is not None and rest.num_rows else next(source)
            parts.append(rest.slice(0, missing))
            rest = rest.slice(parts[-1].num_rows)
        table = pa.concat_tables(parts)
        yield pa.table([pa.concat_arrays(column.chunks) for column in table.columns], schema=table.schema)
