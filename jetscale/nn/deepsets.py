"""Deep sets (Zaheer et al., arXiv:1703.06114), as energy and particle flow networks use them (arXiv:1810.05165)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class Stack(nn.Module):
    """Dense layers with ReLU, from He's uniform weights (arXiv:1502.01852): (..., C) -> (..., H).

    `last` leaves out the last ReLU.
    """

    def __init__(self, widths: tuple[int, ...], last: bool = False) -> None:
        super().__init__()
        layers = [nn.Linear(a, b) for a, b in pairwise(widths)]
        for layer in layers:
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        self.layers, self.last = nn.ModuleList(layers), last

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., H)."""
        for number, layer in enumerate(self.layers, start=1):
            x = layer(x)
            x = x if self.last and number == len(self.layers) else x.relu()
        return x


class FlowNetwork(nn.Module):
    """F(sum_i w_i Phi(p_i)): features (B, P, C) and weights (B, P), 0 of padding, to logits (B, K)."""

    def __init__(self, features: int, phi: tuple[int, ...], f: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.phi, self.f = Stack((features, *phi)), Stack((phi[-1], *f, classes), last=True)

    def forward(self, x_BPC: Tensor, weight_BP: Tensor) -> Tensor:
        """(B, P, C) and (B, P) -> (B, K)."""
        latent_BH = torch.einsum("bp,bph->bh", weight_BP, self.phi(x_BPC))
        out: Tensor = self.f(latent_BH)
        return out
