"""Dropout whose random numbers cost little: 16 bits each, four from every draw of torch's own generator."""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 1 << 16


def dropout(x: Tensor, rate: float, training: bool = True) -> Tensor:
    """Some numbers are 0, and the others as much larger as the mean asks for; the same shape and precision.

    `rate` is met to within one in 65536, and the mean exactly. Drawn from torch's own generator of the device.
    """
    kept = max(1, round((1 - rate) * LEVELS))
    if not training or kept == LEVELS:
        return x
    draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64, device=x.device).random_(-(2**63), None)
    # In place the comparison gives numbers, not truth values: converting these would cost more than drawing them.
    kept_X = draws.view(torch.int16)[: x.numel()].lt_(kept - LEVELS // 2).view(x.shape)
    return x * kept_X.to(x.dtype).mul_(LEVELS / kept)
