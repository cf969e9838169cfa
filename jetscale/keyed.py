"""Numbers that are a function of a key and of nothing else: not of order, padding, process or machine."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Whole = TypeVar("Whole", Tensor, np.ndarray)


def mix(key: Whole) -> Whole:
    """A random-looking int64 per int64, same shape, of torch or numpy.

    It is splitmix64 (Steele, Lea, Flood 2014) on wrapped integers.
    """
    key = key + -7046029254386353131
    key = (key ^ _shift(key, 30)) * -4658895280553007687
    key = (key ^ _shift(key, 27)) * -7723592293110705685
    mixed: Whole = key ^ _shift(key, 31)
    return mixed


def uniform(key: Tensor) -> Tensor:
    """A number in (0, 1) per mixed key, same shape, float64 with 52 random bits."""
    return (_shift(key, 12).to(torch.float64) + 0.5) / float(1 << 52)


def uniform_array(key: np.ndarray) -> np.ndarray:
    """The same of a numpy array, which needs no threads."""
    found: np.ndarray = (_shift(key, 12) + 0.5) / float(1 << 52)
    return found


def _shift(key: Whole, bits: int) -> Whole:
    """Logical shift right; there is only the arithmetic one for int64."""
    shifted: Whole = (key >> bits) & ((1 << (64 - bits)) - 1)
    return shifted
