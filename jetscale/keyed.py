"""Numbers that are a function of a key and of nothing else: not of order, padding, process or machine."""

from __future__ import annotations

import torch
from torch import Tensor


def mix(key: Tensor) -> Tensor:
    """A random-looking int64 per int64, same shape: splitmix64 (Steele, Lea, Flood 2014) on wrapped integers."""
    key = key + -7046029254386353131
    key = (key ^ _shift(key, 30)) * -4658895280553007687
    key = (key ^ _shift(key, 27)) * -7723592293110705685
    return key ^ _shift(key, 31)


def uniform(key: Tensor) -> Tensor:
    """A number in (0, 1) per mixed key, same shape, float64 with 52 random bits."""
    return (_shift(key, 12).to(torch.float64) + 0.5) / float(1 << 52)


def _shift(key: Tensor, bits: int) -> Tensor:
    """Logical shift right; torch has only the arithmetic one for int64."""
    return (key >> bits) & ((1 << (64 - bits)) - 1)
