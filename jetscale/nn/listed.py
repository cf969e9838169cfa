"""Batch normalisation over what is real: padded entries of lists, and rows of no entries, count for nothing."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from jetscale.nn.running import Running


class ListNorm(Running):
    """Batch normalisation (Ioffe, Szegedy, arXiv:1502.03167) of lists (B, N, C) over their real entries, in float32.

    Moments are those of a micro-batch of one worker, and the loss of a step depends on how it is cut into these; the
    engine averages running moments over the workers (`Engine.agree`). They are kept in float32 whatever the precision
    of the weights. Without at least two real entries a batch in training is normalised by the running moments, and
    leaves them alone.
    """

    mean_C: Tensor
    variance_C: Tensor

    def __init__(self, features: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__(momentum)
        self.eps = eps
        self.weight, self.bias = nn.Parameter(torch.ones(features)), nn.Parameter(torch.zeros(features))
        self.register_buffer("mean_C", torch.zeros(features))
        self.register_buffer("variance_C", torch.ones(features))

    def forward(self, x_BNC: Tensor, mask_BN: Tensor | None = None) -> Tensor:
        """(B, N, C) and its mask (B, N) -> the same in the same precision, 0 where padded; without a mask (..., C), of
        which all is real."""
        if mask_BN is None:
            return self._whole(x_BNC)
        wide_BNC = x_BNC if x_BNC.dtype == torch.float64 else x_BNC.float()
        mean_C, variance_C = self.mean_C.to(wide_BNC.dtype), self.variance_C.to(wide_BNC.dtype)
        if self.training:
            real_XC = wide_BNC[mask_BN]
            if len(real_XC) > 1:
                variance_C, mean_C = torch.var_mean(real_XC, dim=0, correction=0)
                self._remember(mean_C.detach(), variance_C.detach(), len(real_XC))
        scaled_BNC = (wide_BNC - mean_C) * torch.rsqrt(variance_C + self.eps)
        out_BNC = scaled_BNC * self.weight.to(wide_BNC.dtype) + self.bias.to(wide_BNC.dtype)
        return torch.where(mask_BN[..., None], out_BNC, 0.0).to(x_BNC.dtype)

    def _whole(self, x: Tensor) -> Tensor:
        """A list without padding, which torch goes through once."""
        rows_XC = (x if x.dtype == torch.float64 else x.float()).flatten(0, -2)
        lines = self.weight.to(rows_XC.dtype), self.bias.to(rows_XC.dtype)
        if self.training and len(rows_XC) > 1:
            out_XC, mean_C, rate_C = torch.native_batch_norm(rows_XC, *lines, None, None, True, 0.0, self.eps)
            self._remember(mean_C.detach(), (rate_C.detach() ** -2 - self.eps).clamp_min(0), len(rows_XC))
        else:
            moments = self.mean_C.to(rows_XC.dtype), self.variance_C.to(rows_XC.dtype)
            out_XC = functional.batch_norm(rows_XC, *moments, *lines, False, 0.0, self.eps)
        return out_XC.view(x.shape).to(x.dtype)

    def _remember(self, mean_C: Tensor, variance_C: Tensor, entries: int) -> None:
        way = self._way()
        self.mean_C.lerp_(mean_C.to(self.mean_C.dtype), way)
        unbiased_C = variance_C * entries / (entries - 1)
        self.variance_C.lerp_(unbiased_C.to(self.variance_C.dtype), way)
