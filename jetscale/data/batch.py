"""From Arrow rows to padded tensors, the last thing that happens before the network, and back again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from jetscale.data.ragged import Piece, flattened, together
from jetscale.schema import Schema
from jetscale.task import At, Batch

ROUND_TO = 4


def batch(tables: Sequence[pa.Table], schema: Schema, weight_B: np.ndarray, lane_B: np.ndarray, row_B: np.ndarray,
          at: At, seed: int) -> Batch:  # fmt: skip
    """Pad the rows of some tables: see `padded`."""
    ends = np.cumsum([table.num_rows for table in tables])
    pieces = [
        Piece(flattened(table, schema, weight_B[end - table.num_rows : end]), 0, table.num_rows)
        for table, end in zip(tables, ends, strict=True)
    ]
    return padded(pieces, schema, lane_B, row_B, at, seed)


def padded(pieces: Sequence[Piece], schema: Schema, lane_B: np.ndarray, row_B: np.ndarray, at: At, seed: int) -> Batch:
    """Pad rows to the longest set among them, rounded up to a multiple of four.

    `schema` says which columns belong to which collection. No rows at all give one empty row of weight 0, so that
    every worker has something to go through the network with.
    """
    if not sum(piece.rows for piece in pieces):
        return _filler(schema, at, seed)
    columns: dict[str, Tensor] = {}
    masks: dict[str, Tensor] = {}
    for collection in schema.collections:
        ends = [piece.of.bounds[collection][piece.low : piece.high + 1] for piece in pieces]
        length_B = np.concatenate([end[1:] - end[:-1] for end in ends])
        width = max(ROUND_TO, -(-int(length_B.max()) // ROUND_TO) * ROUND_TO)
        place, members = _places(length_B, width), [slice(int(end[0]), int(end[-1])) for end in ends]
        masks[collection] = torch.from_numpy(np.arange(width) < length_B[:, None])
        for column in schema.each():
            if column.of == collection:
                values = together(pieces, column.name, members)
                columns[column.name] = _scatter(values, place, len(length_B), width)
    rows = [slice(piece.low, piece.high) for piece in pieces]
    for column in schema.each():
        if not column.of:
            columns[column.name] = torch.from_numpy(together(pieces, column.name, rows))
    weight_B = torch.from_numpy(np.concatenate([piece.weight_B for piece in pieces]).astype(np.float32))
    return Batch(columns, masks, weight_B, torch.from_numpy(lane_B), torch.from_numpy(row_B), at, seed)


def _filler(schema: Schema, at: At, seed: int) -> Batch:
    """One empty row of weight 0."""
    shapes = {column.name: (1, ROUND_TO) if column.of else (1,) for column in schema.each()}
    columns = {one.name: torch.from_numpy(np.zeros(shapes[one.name], dtype=one.dtype)) for one in schema.each()}
    masks = {collection: torch.zeros(1, ROUND_TO, dtype=torch.bool) for collection in schema.collections}
    none_B = torch.zeros(1, dtype=torch.int64)
    return Batch(columns, masks, torch.zeros(1), none_B, none_B, at, seed)


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
