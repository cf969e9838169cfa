"""Plain dense layers."""

from __future__ import annotations

from itertools import pairwise

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
