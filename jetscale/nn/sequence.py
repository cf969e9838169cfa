"""Convolutions along a list in its order, and residual units of them (He et al., arXiv:1512.03385).

Lists are (B, P, C) with a mask (B, P) of what is real: the rest is 0 after every layer, so that a real entry sees the
same beyond the last one as it would at the end of the list. Without a mask all of a list is real.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from jetscale.nn.listed import ListNorm


class Row(NamedTuple):
    """Lists behind one another in one row, (1, S, C), with 0 between them, so that little of it is padding.

    Of every real entry `place_N` tells where it is in the padded lists, (B * P,), and `slot_N` where in the row, whose
    mask is (1, S). A list begins at a multiple of `step` and has `width_B` slots. After strides that make up `step` one
    0 is left behind each: no list sees another one.
    """

    place_N: Tensor
    slot_N: Tensor
    width_B: Tensor
    mask_1S: Tensor
    step: int

    @classmethod
    def of(cls, mask_BP: Tensor, step: int) -> Row:
        """The row of padded lists, for convolutions whose strides multiply to `step`."""
        number_P = torch.arange(mask_BP.shape[1], device=mask_BP.device)
        length_B = (mask_BP * (number_P + 1)).amax(1)
        width_B = ((length_B + step - 1) // step + 1) * step
        slot_BP = (width_B.cumsum(0) - width_B)[:, None] + number_P
        place_N = mask_BP.flatten().nonzero().squeeze(1)
        slot_N = slot_BP.flatten()[place_N]
        mask_S = torch.zeros(int(width_B.sum()), dtype=torch.bool, device=mask_BP.device)
        return cls(place_N, slot_N, width_B, mask_S.index_fill(0, slot_N, True)[None], step)

    def laid(self, x_BPC: Tensor) -> Tensor:
        """What padded lists hold in a row, (1, S, C)."""
        x_NC = x_BPC.flatten(0, 1).index_select(0, self.place_N)
        return x_NC.new_zeros(self.mask_1S.shape[1], x_NC.shape[1]).index_copy(0, self.slot_N, x_NC)[None]

    def mean(self, x_1QH: Tensor) -> Tensor:
        """After all strides the mean over what is real of every list, (B, H), from (1, Q, H), 0 where there is nothing;
        0 of an empty list."""
        lists = torch.arange(len(self.width_B), device=x_1QH.device)
        list_Q = lists.repeat_interleave(self.width_B // self.step)
        count_B = torch.zeros_like(lists).index_add(0, list_Q, self.mask_1S[0, :: self.step].long())
        wide_QH = x_1QH[0].to(torch.promote_types(x_1QH.dtype, torch.float32))
        sum_BH = wide_QH.new_zeros(len(lists), wide_QH.shape[1]).index_add(0, list_Q, wide_QH)
        return (sum_BH / count_B.clamp_min(1)[:, None]).to(x_1QH.dtype)


def strided(mask_BP: Tensor | None, stride: int) -> Tensor | None:
    """The mask of what a convolution with this stride gives: an entry is real where the one at its centre is."""
    return None if mask_BP is None else mask_BP[:, ::stride]


class Convolved(nn.Module):
    """A convolution over three neighbours, batch normalisation and ReLU."""

    def __init__(self, into: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(into, out, 3, stride, padding=1), ListNorm(out)

    def forward(self, x_BPC: Tensor, mask_BQ: Tensor | None) -> Tensor:
        """(B, P, C), 0 where padded, and the mask of what comes out, (B, Q) -> (B, Q, H), 0 where padded."""
        out: Tensor = self.norm(self.conv(x_BPC.mT).mT, mask_BQ).relu()
        return out


class ResidualUnit(nn.Module):
    """Two convolutions, the first one with the stride, and a shortcut around them; nothing follows the sum.

    The shortcut is a dense layer on every entry that is kept, without a bias, where width or length change.
    """

    def __init__(self, into: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.first, self.second = Convolved(into, out, stride), Convolved(out, out)
        same = into == out and stride == 1
        self.shortcut = None if same else nn.Conv1d(into, out, 1, stride, bias=False)

    def forward(self, x_BPC: Tensor, mask_BQ: Tensor | None) -> Tensor:
        """(B, P, C), 0 where padded, and the mask of what comes out, (B, Q) -> (B, Q, H), 0 where padded."""
        around_BQH = x_BPC if self.shortcut is None else self.shortcut(x_BPC.mT).mT
        out: Tensor = around_BQH + self.second(self.first(x_BPC, mask_BQ), mask_BQ)
        return out
