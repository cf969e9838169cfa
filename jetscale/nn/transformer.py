"""Transformer blocks on the particles of jets of many sizes, without work on padding.

Blocks are those of the Particle Transformer (Qu, Li, Qian, arXiv:2202.03772): NormFormer's (Shleifer et al.,
arXiv:2110.09456) with what is known of pairs added to the logits of attention, and class attention at the end (Touvron
et al., arXiv:2103.17239). Real particles of all jets stand behind one another in one flat array (N, C), on which all
layers act; for attention alone, jets of like size are padded to one another.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

MASKED = -1e4


class Places(NamedTuple):
    """Where the particles of jets stand, jets in order of size.

    `order_B` has the jets in that order. Of every real particle, `place_N` tells where it is in the batch, (B * P,),
    and `slot_N` where among the slots (M,) of all groups of jets of like size; a group of shape (G, P) has G * P slots.
    """

    order_B: Tensor
    place_N: Tensor
    slot_N: Tensor
    shapes: tuple[tuple[int, int], ...]

    @property
    def slots(self) -> int:
        """M."""
        return sum(jets * particles for jets, particles in self.shapes)

    def padded(self, x_NC: Tensor) -> Tensor:
        """Slots (M, C), 0 without a particle."""
        return x_NC.new_zeros(self.slots, x_NC.shape[1]).index_put((self.slot_N,), x_NC)

    def groups(self, x_MC: Tensor) -> list[Tensor]:
        """The slots of every group, (G, P, C)."""
        parts = x_MC.split([jets * particles for jets, particles in self.shapes])
        return [part.view(*shape, -1) for part, shape in zip(parts, self.shapes, strict=True)]

    def real(self) -> Tensor:
        """Which slots hold a particle, (M,)."""
        return torch.zeros(self.slots, dtype=torch.bool, device=self.slot_N.device).index_fill(0, self.slot_N, True)


def places_of(mask_BP: Tensor, groups: int = 4) -> Places:
    """Take padding out of jets, (B, P) bool, that need not have their particles first."""
    count_B, order_B = mask_BP.sum(1).sort()
    ordered_BP = mask_BP[order_B]
    jet_N, particle_N = ordered_BP.nonzero(as_tuple=True)
    rank_N = ordered_BP.cumsum(1)[jet_N, particle_N] - 1
    parts = [part for part in count_B.tolist() and count_B.tensor_split(groups) if len(part)]
    shapes = tuple((len(part), max(1, int(part[-1]))) for part in parts)
    width_B = torch.tensor([size for jets, size in shapes for _ in range(jets)], device=mask_BP.device)
    slot_N = (width_B.cumsum(0) - width_B)[jet_N] + rank_N
    return Places(order_B, order_B[jet_N] * mask_BP.shape[1] + particle_N, slot_N, shapes)


class Pairs(NamedTuple):
    """Two particles of one jet (E,), the first not before the second, as numbers into the flat array; and where the
    pair stands, either way round, in all groups' (G, P, P)."""

    one_E: Tensor
    other_E: Tensor
    there_E: Tensor
    back_E: Tensor


def pairs_of(places: Places) -> Pairs:
    """All pairs of every jet, a particle with itself among them."""
    number_M = torch.zeros(places.slots, dtype=torch.int64, device=places.slot_N.device)
    number_M[places.slot_N] = torch.arange(len(places.slot_N), device=number_M.device)
    areas = [jets * size * size for jets, size in places.shapes]
    found = []
    for real_GP1, number_GP1, start in zip(
        places.groups(places.real()), places.groups(number_M), accumulate(areas, initial=0), strict=False
    ):
        real_GP, number_GP, size = real_GP1[..., 0], number_GP1[..., 0], real_GP1.shape[1]
        jet_E, one_E, other_E = (real_GP[:, :, None] & real_GP[:, None, :]).tril().nonzero(as_tuple=True)
        row_E = start + jet_E * size * size
        found.append((number_GP[jet_E, one_E], number_GP[jet_E, other_E], row_E + one_E * size + other_E,
                      row_E + other_E * size + one_E))  # fmt: skip
    return Pairs(*(torch.cat(one) for one in zip(*found, strict=True)))


@final
class Spread(torch.autograd.Function):
    """Numbers of pairs (E, H) to both their places of (Q, H), elsewhere MASKED: no sum over equal indices."""

    @staticmethod
    def forward(ctx: Any, x_EH: Tensor, there_E: Tensor, back_E: Tensor, places: int) -> Tensor:
        """(Q, H)."""
        ctx.save_for_backward(there_E, back_E)
        out_QH = x_EH.new_full((places, x_EH.shape[1]), MASKED)
        out_QH[there_E] = x_EH
        out_QH[back_E] = x_EH
        return out_QH

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope_QH: Tensor) -> tuple[Tensor, None, None, None]:
        """A pair's slope is the sum of those at both places, and a particle's with itself that of its one."""
        there_E, back_E = ctx.saved_tensors
        back_EH = slope_QH.index_select(0, back_E) * (there_E != back_E)[:, None]
        return back_EH + slope_QH.index_select(0, there_E), None, None, None


spread: Callable[[Tensor, Tensor, Tensor, int], Tensor] = Spread.apply


@final
class Taken(torch.autograd.Function):
    """Rows (N, C) of (M, C), none twice: so that the gradient needs no sum."""

    @staticmethod
    def forward(ctx: Any, x_MC: Tensor, index_N: Tensor) -> Tensor:
        """(N, C)."""
        ctx.save_for_backward(index_N)
        ctx.rows = len(x_MC)
        return x_MC.index_select(0, index_N)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope_NC: Tensor) -> tuple[Tensor, None]:
        """0 in rows that were not taken."""
        (index_N,) = ctx.saved_tensors
        slope_MC = slope_NC.new_zeros(ctx.rows, slope_NC.shape[1])
        slope_MC[index_N] = slope_NC
        return slope_MC, None


taken: Callable[[Tensor, Tensor], Tensor] = Taken.apply


def biases(x_EH: Tensor, pairs: Pairs, places: Places) -> list[Tensor]:
    """What is added to the logits of attention in every group, (G, H, P, P): MASKED for what is not there."""
    areas = [jets * size * size for jets, size in places.shapes]
    out_QH = spread(x_EH, pairs.there_E, pairs.back_E, sum(areas))
    return [part.view(jets, size, size, -1).permute(0, 3, 1, 2).contiguous()
            for part, (jets, size) in zip(out_QH.split(areas), places.shapes, strict=True)]  # fmt: skip


def attention(qkv_GPC: Tensor, bias_GHPP: Tensor, dropout: float) -> Tensor:
    """Queries, keys and values, (G, P, 3 C), and what is added to logits -> (G, P, C)."""
    query, key, value = (part.unflatten(-1, (bias_GHPP.shape[1], -1)).transpose(1, 2) for part in qkv_GPC.chunk(3, -1))
    out = functional.scaled_dot_product_attention(query, key, value, bias_GHPP, dropout)
    return out.transpose(1, 2).flatten(2)


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
        return functional.dropout(x_NC, self.rate, self.training) if self.rate else x_NC

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
        qkv_MC = places.padded(self.three(self.before_attention(x_NC)))
        rate = self.rate if self.training else 0.0
        parts = [attention(part, bias, rate).flatten(0, 1)
                 for part, bias in zip(places.groups(qkv_MC), biases, strict=True)]  # fmt: skip
        return self.rest(taken(torch.cat(parts), places.slot_N), x_NC)


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
        parts = places.groups(places.padded(self.before_attention(x_NC)))
        hidden = places.groups(~places.real())
        sizes = [jets for jets, _ in places.shapes]
        means = []
        for u_GPC, hidden_GP1, query_GHC, own_G1C in zip(
            parts, hidden, query_BHC.split(sizes), own_B1C.split(sizes), strict=True
        ):
            all_GPC = torch.cat([own_G1C, u_GPC], 1)
            unseen_G1P = functional.pad(hidden_GP1.mT, (1, 0))
            weight_GHP = (query_GHC @ all_GPC.mT).masked_fill(unseen_G1P, MASKED).softmax(-1)
            means.append(weight_GHP @ all_GPC)
        heads_BHD = torch.einsum("bhc,hdc->bhd", torch.cat(means), value)
        return self.rest(heads_BHD.flatten(1) + bias_v, token_BC)
