"""The golden JSON: which luminosity blocks of which runs are certified, as CMS and ATLAS write it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jetscale.errors import ConfigError

LAST = (1 << 32) - 1
CURE = 'it must hold {"RUN": [[first block, last block], ...], ...}'


@dataclass(frozen=True)
class Golden:
    """Disjoint stretches of (run, luminosity block), both ends included, in rising order."""

    first: np.ndarray
    last: np.ndarray

    def certified(self, run_B: np.ndarray, block_B: np.ndarray) -> np.ndarray:
        """Which events lie in a certified block, (B,) bool."""
        at_B = _place(run_B, block_B)
        before_B = np.searchsorted(self.first, at_B, side="right") - 1
        if not len(self.first):
            return np.zeros(len(at_B), dtype=bool)
        inside_B: np.ndarray = (before_B >= 0) & (at_B <= self.last[np.maximum(before_B, 0)])
        return inside_B


def load(file: Path) -> Golden:
    """The mask in a JSON file.

    Raises:
        ConfigError: no such file, or not of that form.
    """
    try:
        values = json.loads(file.read_text())
    except OSError as problem:
        raise ConfigError(f"cannot be read: {problem.strerror}", where=str(file), cure="check golden:") from None
    except ValueError as problem:
        raise ConfigError(f"is not JSON: {problem}", where=str(file), cure=CURE) from None
    if not isinstance(values, dict):
        raise ConfigError(f"holds a {type(values).__name__}", where=str(file), cure=CURE)
    stretches: list[tuple[int, int]] = []
    for run, blocks in values.items():
        stretches += _stretches(run, blocks, file)
    low, high = np.array(sorted(stretches), dtype=np.int64).reshape(-1, 2).T
    # Where stretches overlap, the last block so far counts.
    return Golden(low, np.maximum.accumulate(high) if len(high) else high)


def _stretches(run: object, blocks: Any, file: Path) -> list[tuple[int, int]]:
    try:
        pairs = np.array(blocks) if blocks else np.empty((len(blocks), 2), dtype=np.int64)
        if pairs.dtype.kind != "i" or pairs.shape[1:] != (2,):
            raise TypeError
        # What is written as an end beyond all blocks must not reach into the next run.
        place = _place(np.full(pairs.shape, int(str(run))), np.minimum(pairs, LAST))
    except (ValueError, TypeError, OverflowError):
        raise ConfigError(f"run {run!r} has {str(blocks)[:80]}", where=str(file), cure=CURE) from None
    if (pairs[:, 0] > pairs[:, 1]).any():
        raise ConfigError(f"run {run!r} has a block that ends before it begins", where=str(file), cure=CURE)
    return [(int(low), int(high)) for low, high in place]


def _place(run: np.ndarray, block: np.ndarray) -> np.ndarray:
    """One rising int64 for both."""
    place: np.ndarray = (run.astype(np.int64) << 32) + block.astype(np.int64)
    return place
