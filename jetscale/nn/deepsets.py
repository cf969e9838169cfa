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
        summed = self._padded if torch.compiler.is_exporting() else self._flat
        out: Tensor = self.f(summed(x_BPC, weight_BP))
        return out

    def _flat(self, x_BPC: Tensor, weight_BP: Tensor) -> Tensor:
        """The sum over particles, (B, H), without any work on those of no weight; it is taken in float32 or better."""
        counts_BP = weight_BP != 0
        latent_NH = self.phi(x_BPC[counts_BP]) * weight_BP[counts_BP][:, None]
        jet_N = counts_BP.nonzero()[:, 0]
        wide_NH = latent_NH.to(torch.promote_types(latent_NH.dtype, torch.float32))
        sum_BH = wide_NH.new_zeros(len(weight_BP), wide_NH.shape[1]).index_add(0, jet_N, wide_NH)
        out_BH: Tensor = sum_BH.to(latent_NH.dtype)
        return out_BH

    def _padded(self, x_BPC: Tensor, weight_BP: Tensor) -> Tensor:
        """The same for tracing."""
        return torch.einsum("bp,bph->bh", weight_BP, self.phi(x_BPC))
