"""Convolutions along a list in its order, and residual units of them (He et al., arXiv:1512.03385).

Lists are (B, P, C) with a mask (B, P) of what is real: the rest is 0 after every layer, so that a real entry sees the
same beyond the last one as it would at the end of the list. Without a mask all of a list is real.
"""

from __future__ import annotations

from torch import Tensor, nn

from jetscale.nn.listed import ListNorm


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
