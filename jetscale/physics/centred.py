"""Particles as shares of their jet's pt about its centre, in rapidity and azimuth; turned and mirrored on demand."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from jetscale.physics.constituents import TINY, rapidity
from jetscale.physics.kinematics import delta_phi


def centred(particle: Mapping[str, Tensor], mask_BP: Tensor, turned: bool = False) -> tuple[Tensor, Tensor]:
    """Shares of the particles' scalar sum of pt, (B, P), and places about the mean weighted with them, (B, P, 2).

    The places are in rapidity and azimuth; both are 0 where padded (Komiske, Metodiev, Thaler, arXiv:1810.05165).
    `turned`: the principal axis of the pt-weighted places points along the second coordinate, and the half planes with
    more pt are the upper and the right one.
    """
    pt_BP = torch.where(mask_BP, particle["pt"], 0.0)
    share_BP = pt_BP / pt_BP.sum(1, keepdim=True).clamp_min(TINY)
    # Azimuths are counted from the hardest particle first, so that a mean of them has a meaning.
    hardest_B1 = pt_BP.topk(1, dim=1).indices
    away_BP = delta_phi(particle["phi"], particle["phi"].gather(1, hardest_B1))
    place_BP2 = torch.stack([rapidity(particle), away_BP], -1)
    place_BP2 = torch.where(mask_BP[..., None], place_BP2, 0.0)
    mean_B12 = (share_BP[..., None] * place_BP2).sum(1, keepdim=True)
    about_BP2 = torch.where(mask_BP[..., None], place_BP2 - mean_B12, 0.0)
    return share_BP, upright(share_BP, about_BP2) if turned else about_BP2


def upright(share_BP: Tensor, place_BP2: Tensor) -> Tensor:
    """Turn places about the origin until their principal axis is the second coordinate, then mirror, (B, P, 2)."""
    x_BP, y_BP = place_BP2.unbind(-1)
    xx_B, yy_B, xy_B = ((share_BP * one).sum(1) for one in (x_BP * x_BP, y_BP * y_BP, x_BP * y_BP))
    # The axis of most spread lies at half of this angle from the first coordinate; it goes to a right angle.
    turn_B1 = (0.5 * (torch.pi - torch.atan2(2 * xy_B, xx_B - yy_B)))[:, None]
    cosine_B1, sine_B1 = torch.cos(turn_B1), torch.sin(turn_B1)
    turned_BP2 = torch.stack([cosine_B1 * x_BP - sine_B1 * y_BP, sine_B1 * x_BP + cosine_B1 * y_BP], -1)
    positive_B12 = (share_BP[..., None] * (turned_BP2 > 0)).sum(1, keepdim=True)
    negative_B12 = (share_BP[..., None] * (turned_BP2 < 0)).sum(1, keepdim=True)
    return torch.where(negative_B12 > positive_B12, -turned_BP2, turned_BP2)
