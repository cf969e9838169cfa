"""Items as a source of Ray Data: every task reads a few of them where a slot is free."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

import pyarrow as pa
import ray.data
from ray.data.block import BlockMetadata

from jetscale.data.chunks import Reader
from jetscale.data.plan import Chunk, Item


class Read(NamedTuple):
    """One item and what is needed to read it."""

    reader: Reader
    item: Item
    chunk: Chunk


class Items(ray.data.Datasource):  # type: ignore[misc] # Ray has no types here
    """Groups of reads, one task for each group, in order."""

    def __init__(self, groups: Sequence[Sequence[Read]]) -> None:
        super().__init__()
        self.groups = groups

    def estimate_inmemory_data_size(self) -> int | None:
        """Not known before it is read."""
        return None

    def get_read_tasks(self, parallelism: int, per_task_row_limit: int | None = None,
                       data_context: object = None) -> list[ray.data.ReadTask]:  # fmt: skip
        """One task per group."""
        return [
            ray.data.ReadTask(
                partial(_tables, group),
                BlockMetadata(num_rows=sum(read.item.rows for read in group), size_bytes=None, input_files=None,
                              exec_stats=None),
            )
            for group in self.groups
        ]  # fmt: skip


def _tables(group: Sequence[Read]) -> Iterable[pa.Table]:
    return (read.reader.read(read.item, read.chunk) for read in group)
