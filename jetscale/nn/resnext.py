"""ResNeXt: residual networks of grouped convolutions (Xie, Girshick, Dollár, Tu, He, arXiv:1611.05431, table 1).

Images are (B, C, N, N). With 50 layers, four groups of 3, 4, 6 and 3 blocks, the list is that of "ResNeXt-50 (32x4d)";
with 14 layers each of the four groups is one block.
"""

from __future__ import annotations

from itertools import pairwise
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from jetscale.nn.running import Running

Layers = Literal[14, 50]
BLOCKS = MappingProxyType({14: (1, 1, 1, 1), 50: (3, 4, 6, 3)})
FIRST, CARDINALITY = 64, 32
WIDTHS = (128, 256, 512, 1024)  # of the grouped convolutions; a block gives twice as many channels


class ImageNorm(Running):
    """Batch normalisation over images and pixels, with moments kept in float32 whatever the precision of the weights.

    A batch in training that has at most one value of a channel is normalised by the running moments, and leaves them
    alone.
    """

    mean_C: Tensor
    variance_C: Tensor

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__(momentum)
        self.eps = eps
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean_C", torch.zeros(channels))
        self.register_buffer("variance_C", torch.ones(channels))

    def forward(self, x_BCNN: Tensor) -> Tensor:
        """(B, C, N, N) -> the same in the same precision."""
        wide = torch.float64 if x_BCNN.dtype == torch.float64 else torch.float32
        learns = self.training and x_BCNN.numel() > x_BCNN.shape[1]
        # Copies, for torch remembers what it is given until it goes backward, and would find it changed.
        mean_C, variance_C = (one.to(wide, copy=learns) for one in (self.mean_C, self.variance_C))
        out_BCNN = functional.batch_norm(x_BCNN, mean_C, variance_C, self.weight.to(wide), self.bias.to(wide), learns,
                                         self._way() if learns else 0.0, self.eps)  # fmt: skip
        if learns:
            self.mean_C.copy_(mean_C)
            self.variance_C.copy_(variance_C)
        return out_BCNN


class Convolved(nn.Module):
    """A convolution without a bias, and batch normalisation."""

    def __init__(self, into: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(into, out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = ImageNorm(out)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x_BCNN: Tensor) -> Tensor:
        """(B, C, N, N) -> (B, H, N / stride, N / stride)."""
        out: Tensor = self.norm(self.conv(x_BCNN))
        return out


class Block(nn.Module):
    """1x1, 3x3 in 32 groups and 1x1 convolutions, a shortcut around them, ReLU after each but the last, and the sum."""

    def __init__(self, into: int, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.reduce = Convolved(into, width, 1)
        self.grouped = Convolved(width, width, 3, stride, CARDINALITY)
        self.expand = Convolved(width, out, 1)
        same = into == out and stride == 1
        self.shortcut = None if same else Convolved(into, out, 1, stride)

    def forward(self, x_BCNN: Tensor) -> Tensor:
        """(B, C, N, N) -> (B, H, N / stride, N / stride)."""
        around = x_BCNN if self.shortcut is None else self.shortcut(x_BCNN)
        out: Tensor = (around + self.expand(self.grouped(self.reduce(x_BCNN).relu()).relu())).relu()
        return out


class ResNeXt(nn.Module):
    """Images to numbers: (B, C, N, N) -> (B, K).

    `narrowing` divides all channels but those of the first convolution. `pooled`: a maximum over 3x3 with stride 2
    follows the first convolution, as for photographs.
    """

    def __init__(self, channels: int, classes: int, layers: Layers = 50, narrowing: int = 1, pooled: bool = True,
                 dropout: float = 0.0) -> None:  # fmt: skip
        super().__init__()
        self.first, self.pooled = Convolved(channels, FIRST, 7, 2), pooled
        outs = (FIRST, *(2 * width // narrowing for width in WIDTHS))
        blocks = []
        for group, ((into, out), count) in enumerate(zip(pairwise(outs), BLOCKS[layers], strict=True)):
            for number in range(count):
                stride = 2 if group and not number else 1
                blocks.append(Block(out if number else into, out // 2, out, stride))
        self.blocks = nn.ModuleList(blocks)
        self.dropout, self.out = nn.Dropout(dropout), nn.Linear(outs[-1], classes)

    def forward(self, x_BCNN: Tensor) -> Tensor:
        """The classes' numbers, unbounded."""
        x_BCNN = self.first(x_BCNN).relu()
        if self.pooled:
            x_BCNN = functional.max_pool2d(x_BCNN, 3, 2, 1)
        for block in self.blocks:
            x_BCNN = block(x_BCNN)
        out_BK: Tensor = self.out(self.dropout(x_BCNN.mean((2, 3))))
        return out_BK
