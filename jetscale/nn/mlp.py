"""Plain dense layers."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class MLP(nn.Module):
    """Linear layers with ReLU and dropout between them: (..., C) -> (..., K)."""

    def __init__(self, features: int, hidden: int, layers: int, out: int, dropout: float = 0.0) -> None:
        super().__init__()
        widths = [features, *[hidden] * layers]
        blocks = [
            nn.Sequential(nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout))
            for before, after in pairwise(widths)
        ]
        self.layers = nn.Sequential(*blocks, nn.Linear(widths[-1], out))

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., K)."""
        out: Tensor = self.layers(x)
        return out


class RowMLP(nn.Module):
    """One hidden layer with ReLU, for many things with few features: a number for each.

    The features stand in rows, (B, C, N) for N things of every event, and every event shifts the hidden layer of its
    own by (B, H). In this layout a processor is three times as fast as with the features last.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        into, out = nn.Linear(features, hidden), nn.Linear(hidden, 1)
        self.into, self.into_bias = into.weight, into.bias
        self.out, self.out_bias = out.weight, out.bias

    def forward(self, x_BCN: Tensor, shift_BH: Tensor) -> Tensor:
        """(B, C, N) and (B, H) -> (B, N)."""
        rows = x_BCN.shape[0]  # len() would make it a constant in a traced graph
        start_BH1 = (shift_BH + self.into_bias)[..., None]
        hidden_BHN = torch.baddbmm(start_BH1, self.into.expand(rows, -1, -1), x_BCN).relu()
        return torch.bmm(self.out.expand(rows, -1, -1), hidden_BHN).squeeze(1) + self.out_bias
