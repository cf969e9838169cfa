"""Transformer blocks on the particles of jets of many sizes, without work on padding.

Blocks are those of the Particle Transformer (Qu, Li, Qian, arXiv:2202.03772): NormFormer's (Shleifer et al.,
arXiv:2110.09456) with what is known of pairs added to the logits of attention, and class attention at the end (Touvron
et al., arXiv:2103.17239).
"""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from jetscale.nn.dropout import dropout
from jetscale.nn.places import MASKED, Places


def attention(qkv_GPC: Tensor, bias_GHPP: Tensor, rate: float) -> Tensor:
    """Queries, keys and values, (G, P, 3 C), and what is added to logits -> (G, P, C); `rate` is that of dropout."""
    query, key, value = (one.transpose(1, 2) for one in qkv_GPC.unflatten(2, (3, bias_GHPP.shape[1], -1)).unbind(2))
    logits = (query * query.shape[-1] ** -0.5) @ key.mT + bias_GHPP
    heads_GPC: Tensor = (dropout(logits.softmax(-1), rate) @ value).transpose(1, 2).flatten(2)
    return heads_GPC


class Block(nn.Module):
    """What both kinds of blocks have: attention's weights, and the feed-forward part."""

    def __init__(self, width: int, heads: int, dropout: float, factor: int = 4) -> None:
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.before_attention, self.after_attention = nn.LayerNorm(width), nn.LayerNorm(width)
        self.three, self.mixed = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.before_forward, self.after_forward = nn.LayerNorm(width), nn.LayerNorm(factor * width)
        self.wide, self.narrow = nn.Linear(width, factor * width), nn.Linear(factor * width, width)
        self.of_head, self.of_residual = nn.Parameter(torch.ones(heads)), nn.Parameter(torch.ones(width))
        for matrix in (*self.three.weight.data.chunk(3), *(one.weight for one in (self.mixed, self.wide, self.narrow))):
            nn.init.xavier_uniform_(matrix)
        for layer in (self.three, self.mixed, self.wide, self.narrow):
            nn.init.zeros_(layer.bias)

    def dropped(self, x_NC: Tensor) -> Tensor:
        """Dropout."""
        return dropout(x_NC, self.rate, self.training)

    def rest(self, heads_NC: Tensor, x_NC: Tensor) -> Tensor:
        """What comes after the heads (N, C): their mixing, and the feed-forward part, each added to what was there."""
        # The factor of a head is on the mixing's outputs, as in the reference: cheapest on its weights.
        scale_C = self.of_head.repeat_interleave(len(self.of_residual) // self.heads)
        mixed_NC = functional.linear(heads_NC, self.mixed.weight * scale_C[:, None], self.mixed.bias * scale_C)
        x_NC = x_NC + self.dropped(self.after_attention(mixed_NC))
        hidden_NF = self.after_forward(self.dropped(functional.gelu(self.wide(self.before_forward(x_NC)))))
        return torch.addcmul(self.dropped(self.narrow(hidden_NF)), x_NC, self.of_residual)


@final
class ParticleBlock(Block):
    """Every particle looks at those of its jet."""

    def forward(self, x_NC: Tensor, places: Places, biases: list[Tensor]) -> Tensor:
        """(N, C) -> (N, C)."""
        parts = places.grouped(self.three(self.before_attention(x_NC)))
        rate = self.rate if self.training else 0.0
        heads = [attention(part, bias, rate) for part, bias in zip(parts, biases, strict=True)]
        return self.rest(places.joined(heads), x_NC)


@final
class ClassBlock(Block):
    """A token of every jet looks at itself and at the particles.

    There is one query: keys and values of particles need not be made. q . (K u) = (K^T q) . u, and the weighted mean of
    V u is V times the weighted mean of u.
    """

    def forward(self, token_BC: Tensor, x_NC: Tensor, places: Places) -> Tensor:
        """Tokens in the order of places, (B, C), and particles (N, C) -> tokens (B, C)."""
        query_C3, key, value = (one.unflatten(0, (self.heads, -1)) for one in self.three.weight.chunk(3))
        bias_q, _, bias_v = self.three.bias.chunk(3)  # a key's bias is the same for all, and has no effect
        query_BHD = functional.linear(token_BC, query_C3.flatten(0, 1), bias_q).unflatten(1, (self.heads, -1))
        query_BHC = torch.einsum("bhd,hdc->bhc", query_BHD, key) / math.sqrt(query_BHD.shape[-1])
        own_B1C = self.before_attention(token_BC)[:, None]
        parts, means = places.grouped(self.before_attention(x_NC)), []
        for u_GPC, hidden_GP, query_GHC, own_G1C in zip(
            parts, places.hidden(), places.split(query_BHC), places.split(own_B1C), strict=True
        ):
            all_GPC = torch.cat([own_G1C, u_GPC], 1)
            unseen_G1P = functional.pad(hidden_GP, (1, 0))[:, None]
            weight_GHP = (query_GHC @ all_GPC.mT).masked_fill(unseen_G1P, MASKED).softmax(-1)
            means.append(weight_GHP @ all_GPC)
        heads_BHD = torch.einsum("bhc,hdc->bhd", torch.cat(means), value)
        return self.rest(heads_BHD.flatten(1) + bias_v, token_BC)
