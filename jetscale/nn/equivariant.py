"""Layers on sets that commute with every permutation of the set (Zaheer et al., arXiv:1703.06114)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def masked_mean(x_BJH: Tensor, mask_BJ: Tensor) -> Tensor:
    """Mean over the real entries, (B, H); 0 for an empty set."""
    real_BJ1 = mask_BJ[..., None].to(x_BJH.dtype)
    return (x_BJH * real_BJ1).sum(1) / real_BJ1.sum(1).clamp_min(1.0)


def masked_max(x_BJH: Tensor, mask_BJ: Tensor) -> Tensor:
    """Maximum over the real entries, (B, H); 0 for an empty set."""
    low = torch.finfo(x_BJH.dtype).min
    highest_BH = x_BJH.masked_fill(~mask_BJ[..., None], low).amax(1)
    return torch.where(mask_BJ.any(1, keepdim=True), highest_BH, 0.0)


class EquivariantLinear(nn.Module):
    """f(x)_i = A x_i + C [mean_j x_j, max_j x_j] + b: what is left of a dense layer when order must not matter."""

    def __init__(self, features: int, out: int) -> None:
        super().__init__()
        self.each = nn.Linear(features, out)
        self.pooled = nn.Linear(2 * features, out, bias=False)

    def forward(self, x_BJC: Tensor, mask_BJ: Tensor) -> Tensor:
        """(B, J, C) with its mask (B, J) -> (B, J, H)."""
        pooled_BC = torch.cat((masked_mean(x_BJC, mask_BJ), masked_max(x_BJC, mask_BJ)), dim=-1)
        out: Tensor = self.each(x_BJC) + self.pooled(pooled_BC)[:, None, :]
        return out


class EquivariantStack(nn.Module):
    """Equivariant layers with LayerNorm and ReLU, residual from the second on, and a last one without: K per entry."""

    def __init__(self, features: int, hidden: int, layers: int, out: int) -> None:
        super().__init__()
        widths = [features, *[hidden] * (layers - 1)]
        self.layers = nn.ModuleList(EquivariantLinear(a, b) for a, b in zip(widths, [*widths[1:], out], strict=True))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths[1:])

    def forward(self, x_BJC: Tensor, mask_BJ: Tensor) -> Tensor:
        """(B, J, C) with its mask (B, J) -> (B, J, K)."""
        for number, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=False)):
            y_BJH = torch.relu(norm(layer(x_BJC, mask_BJ)))
            x_BJC = x_BJC + y_BJH if number else y_BJH
        out: Tensor = self.layers[-1](x_BJC, mask_BJ)
        return out
