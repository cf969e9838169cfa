"""Attention among the members of a set, biased by what is known of every pair of them.

Transformer layers with the norm in front (Vaswani et al., arXiv:1706.03762; Xiong et al., arXiv:2002.04745); numbers of
a pair are added to its attention logits, as in the Particle Transformer (Qu, Li, Qian, arXiv:2202.03772).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

MASKED = -1e4


class BiasedLayer(nn.Module):
    """x + attention(norm x), then x + feed-forward(norm x): commutes with permutations of the set."""

    def __init__(self, width: int, heads: int, factor: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.three, self.mixed = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, factor * width), nn.Linear(factor * width, width)

    def forward(self, x_BJH: Tensor, bias_BNJJ: Tensor) -> Tensor:
        """(B, J, H) and what is added to the logits of every head, (B, heads, J, J) -> (B, J, H)."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.three(self.before_attention(x_BJH)).chunk(3, -1)
        )
        logits_BNJJ = query @ key.mT / query.shape[-1] ** 0.5 + bias_BNJJ
        heads_BJH = (logits_BNJJ.softmax(-1) @ value).transpose(1, 2).flatten(2)
        x_BJH = x_BJH + self.mixed(heads_BJH)
        out: Tensor = x_BJH + self.narrow(functional.gelu(self.wide(self.before_forward(x_BJH))))
        return out


class PairBiasedStack(nn.Module):
    """A set through such layers, whose biases one small MLP makes from the features of pairs."""

    def __init__(self, features: int, pair_features: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.into = nn.Linear(features, width)
        self.bias = nn.Sequential(nn.Linear(pair_features, 24), nn.GELU(), nn.Linear(24, layers * heads))
        self.layers = nn.ModuleList(BiasedLayer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x_BJC: Tensor, pair_BJJC: Tensor, mask_BJ: Tensor) -> Tensor:
        """(B, J, C), features of pairs (B, J, J, C) and the mask (B, J) -> (B, J, H)."""
        bias_BJJN = self.bias(pair_BJJC)
        unseen_BJ = torch.where(mask_BJ, 0.0, MASKED).to(bias_BJJN.dtype)
        bias_BNJJ = bias_BJJN.permute(0, 3, 1, 2) + unseen_BJ[:, None, None, :]
        x_BJH = self.into(x_BJC)
        for layer, part_BNJJ in zip(self.layers, bias_BNJJ.chunk(len(self.layers), 1), strict=True):
            x_BJH = layer(x_BJH, part_BNJJ)
        out: Tensor = self.norm(x_BJH)
        return out
