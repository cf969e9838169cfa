"""Images of jets: the pt of particles in square pixels of pseudorapidity (or rapidity) and azimuth.

Three ways to look at a jet. `raw`: the cells of a grid that is fixed in the detector, and pt in units of 100 GeV.
`axis`: about the jet's axis, mirrored to positive pseudorapidities, in shares of the jet's pt (Qu, Gouskos,
arXiv:1902.08570). `preprocessed`: about the pt-weighted mean, the principal axis upright, the halves with more pt above
and to the right, in shares of the particles' pt (de Oliveira et al., arXiv:1511.05190).

The first axis of an image is that of pseudorapidity, the second one that of azimuth. What lies outside is in no pixel;
`outside` says how much that is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from jetscale.physics.centred import centred
from jetscale.physics.constituents import TINY, about_axis, kinds
from jetscale.physics.kinematics import delta_phi

Preprocess = Literal["raw", "axis", "preprocessed"]
UNIT = 100.0  # GeV, of raw images


def placed(how: Preprocess, jet: Mapping[str, Tensor], particle: Mapping[str, Tensor], mask_BP: Tensor, width: float
           ) -> tuple[Tensor, Tensor]:  # fmt: skip
    """What the particles count, (B, P), and where they are in the image, (B, P, 2); 0 where padded.

    `jet` has pt, eta, phi (B,), `particle` pt, eta, phi, mass (B, P). `width` is that of a pixel: a raw image starts at
    a line of the grid whose lines are so far apart, the one that puts the axis nearest to the middle.
    """
    if how == "preprocessed":
        return centred(particle, mask_BP, turned=True)
    pt_BP = torch.where(mask_BP, particle["pt"], 0.0)
    if how == "axis":
        count_BP, places = pt_BP / jet["pt"][:, None].clamp_min(TINY), about_axis(jet, particle)
    else:
        eta_B1, phi_B1 = ((jet[name] / width).round()[:, None] * width for name in ("eta", "phi"))
        count_BP, places = pt_BP / UNIT, (particle["eta"] - eta_B1, delta_phi(particle["phi"], phi_B1))
    return count_BP, torch.where(mask_BP[..., None], torch.stack(places, -1), 0.0)


def cells(place_BP2: Tensor, size: int, reach: float) -> Tensor:
    """The pixel of every particle, (B, P) int64, in an image of size x size over [-reach, reach] squared.

    Pixels are counted along the second axis first; one more, size * size, is all that lies outside, or nowhere (NaN).
    A pixel holds its lower edges; the last ones hold the upper edge of the image too.
    """
    step_BP2 = ((place_BP2 + reach) * (size / (2 * reach))).floor().clamp(0, size - 1)
    inside_BP = ((place_BP2 >= -reach) & (place_BP2 <= reach)).all(-1)
    return torch.where(inside_BP, step_BP2[..., 0] * size + step_BP2[..., 1], size * size).long()


def image(count_BCP: Tensor, cell_BP: Tensor, size: int) -> Tensor:
    """The sums of every pixel, a channel for each set of counts: (B, C, P) and `cells` -> (B, C, size, size)."""
    empty_BCX = count_BCP.new_zeros(*count_BCP.shape[:2], size * size + 1)
    sums_BCX = empty_BCX.scatter_add(2, cell_BP[:, None].expand_as(count_BCP), count_BCP)
    image_BCNN: Tensor = sums_BCX[..., :-1].unflatten(-1, (size, size))
    return image_BCNN


def outside(count_BP: Tensor, cell_BP: Tensor, size: int) -> Tensor:
    """The share of the particles' pt that is in no pixel, (B,)."""
    lost_B = torch.where(cell_BP == size * size, count_BP, 0.0).sum(1)
    return (lost_B / count_BP.sum(1).clamp_min(TINY)).clamp_max(1.0)


def by_detector(count_BP: Tensor, particle: Mapping[str, Tensor]) -> Tensor:
    """What tracks, an electromagnetic and a hadron calorimeter see, (B, 3, P), by the particles' pdg and charge.

    An ideal detector: whatever is charged has a track, photons and electrons end in the second, all else but muons ends
    in the third, so that particles with a track are seen twice.
    """
    kind = kinds(particle["pdg"], particle["charge"])
    second_BP = kind["photon"] + kind["electron"]
    third_BP = 1.0 - second_BP - kind["muon"]
    track_BP = (particle["charge"] != 0).to(count_BP.dtype)
    return torch.stack([track_BP, second_BP, third_BP], 1).to(count_BP.dtype) * count_BP[:, None]
