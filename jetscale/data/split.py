"""Which part of the split an event belongs to: a hash of its id, the same in whatever order or shard it is read."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import torch

from jetscale.derive import Kept, within
from jetscale.errors import ConfigError
from jetscale.keyed import mix, uniform
from jetscale.stream import PARTS, Folds, Split


def part_of(event_id_B: np.ndarray, split: Split | Folds) -> np.ndarray:
    """0 train, 1 validation, 2 test, (B,) int8."""
    key_B = mix(mix(torch.from_numpy(np.array(event_id_B))) + split.seed)
    share_B = uniform(key_B).numpy()
    if isinstance(split, Folds):
        fold_B = (share_B * split.folds).astype(np.int64)
        return np.select([fold_B == split.test, fold_B == split.validation], [2, 1]).astype(np.int8)
    return np.searchsorted([split.train, split.train + split.validation], share_B, side="right").astype(np.int8)


def selected(table: pa.Table, select: Mapping[str, Kept]) -> np.ndarray:
    """Rows whose columns lie in their [low, high) ranges, or hold one of their labels, (B,) bool.

    Raises:
        ConfigError: a column that holds a list per event.
    """
    for name in select:
        if pa.types.is_nested(table[name].type):
            single = [field.name for field in table.schema if not pa.types.is_nested(field.type)]
            raise ConfigError(f"{name!r} holds a list per event, not one number", where="stream.select",
                              cure=f"select on one of {', '.join(single)}, ...")  # fmt: skip
    return within(table, select)


def counts(event_id_B: np.ndarray, keep_B: np.ndarray, split: Split | Folds) -> list[int]:
    """Selected rows of each part."""
    return [int(n) for n in np.bincount(part_of(event_id_B, split)[keep_B], minlength=len(PARTS))]
