"""From Arrow rows to padded tensors, the last thing that happens before the network, and back again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from jetscale.schema import Schema, flat, lengths
from jetscale.task import At, Batch

ROUND_TO = 4


def batch(tables: Sequence[pa.Table], schema: Schema, weight_B: np.ndarray, lane_B: np.ndarray, row_B: np.ndarray,
          at: At, seed: int) -> Batch:  # fmt: skip
    """Pad the rows of some tables to the longest set among them, rounded up to a multiple of four.

    `schema` says which columns belong to which collection. No rows at all give one empty row of weight 0, so that
    every worker has something to go through the network with.
    """
    table = pa.concat_tables(tables) if tables else schema.arrow.empty_table()
    rows = table.num_rows or 1
    columns: dict[str, Tensor] = {}
    masks: dict[str, Tensor] = {}
    for collection in schema.collections:
        length_B = lengths(table, collection, schema) if table.num_rows else np.zeros(1, dtype=np.int64)
        width = max(ROUND_TO, -(-int(length_B.max(initial=0)) // ROUND_TO) * ROUND_TO)
        place = _places(length_B, width)
        masks[collection] = _scatter(np.ones(len(place), dtype=bool), place, rows, width)
        for column in schema.each():
            if column.of == collection:
                columns[column.name] = _scatter(flat(table[column.name]), place, rows, width)
    for column in schema.each():
        if not column.of:
            values = flat(table[column.name]) if table.num_rows else np.zeros(1, dtype=column.dtype)
            columns[column.name] = torch.from_numpy(values.copy())
    if not table.num_rows:
        weight_B, lane_B, row_B = np.zeros(1), np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    return Batch(columns, masks, torch.from_numpy(weight_B.astype(np.float32)), torch.from_numpy(lane_B),
                 torch.from_numpy(row_B), at, seed)  # fmt: skip


def table_of(batch: Batch, columns: Mapping[str, Tensor], schema: Schema) -> pa.Table:
    """Padded columns of a batch as an Arrow table, lists ragged again."""
    arrays = {}
    for column in schema.each():
        values = columns[column.name].detach().cpu().numpy().astype(np.dtype(column.dtype))
        arrays[column.name] = unpad(values, batch.mask(column.of).cpu().numpy()) if column.of else pa.array(values)
    return pa.table(arrays, schema=schema.arrow)


def unpad(values_BJ: np.ndarray, mask_BJ: np.ndarray) -> pa.Array:
    """Padded (B, J) numbers back to ragged Arrow lists."""
    offsets = np.concatenate([[0], np.cumsum(mask_BJ.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values_BJ[mask_BJ]))


def _places(length_B: np.ndarray, width: int) -> np.ndarray:
    """Where each entry of the flattened lists goes in the padded (B * width) array."""
    starts_B = np.cumsum(length_B) - length_B
    return np.repeat(np.arange(len(length_B)) * width - starts_B, length_B) + np.arange(int(length_B.sum()))


def _scatter(values: np.ndarray, place: np.ndarray, rows: int, width: int) -> Tensor:
    padded = np.zeros(rows * width, dtype=values.dtype)
    padded[place] = values
    return torch.from_numpy(padded.reshape(rows, width))
