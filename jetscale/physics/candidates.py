"""The candidates of an enumeration: what a few leading jets may be, none, group 1 or group 2, and what that weighs.

Which group is called 1 has no meaning, so a candidate stands for both namings: its first jet in a group is in group 1.
A set of candidates is given by labels, (C, J) for all events or (B, 1, J) for one candidate of each event's own.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from jetscale import keyed

LIGHT = 1.0  # GeV: of two groups that weigh less together, rounding alone would decide which is heavier
SHARP = 0.05  # width of the feature that is 1 where both groups weigh the same
FEATURES = 9


@cache
def candidates(jets: int, most_none: int | None = None) -> Tensor:
    """All assignments of `jets` jets with both groups in use, names aside, and none at all in front: (C, jets) int64.

    With `most_none`, only those that leave at most so many jets out.
    """
    most = jets if most_none is None else most_none
    found = [(0,) * jets]
    for labels in product((0, 1, 2), repeat=jets):
        named = [label for label in labels if label]
        if named and named[0] == 1 and 2 in named and jets - len(named) <= most:
            found.append(labels)
    return torch.tensor(found)


def place(label_BJ: Tensor, most_none: int | None = None) -> Tensor:
    """Where the assignments (B, J) of 0, 1, 2, however named, are among `candidates`, (B) int64; -1 if they are not."""
    jets = label_BJ.shape[1]
    code_B = (label_BJ * (3 ** torch.arange(jets, device=label_BJ.device))).sum(1)
    return _places(jets, most_none).to(label_BJ.device)[code_B]


@cache
def _places(jets: int, most_none: int | None) -> Tensor:
    label_CJ = candidates(jets, most_none)
    place_X = torch.full((3**jets,), -1)
    for named_CJ in (label_CJ, torch.where(label_CJ > 0, 3 - label_CJ, 0)):
        place_X[(named_CJ * 3 ** torch.arange(jets)).sum(1)] = torch.arange(len(label_CJ))
    return place_X


def drawn(count: int, wanted: int, seed: int, step: int, device: torch.device | None = None) -> Tensor:
    """`wanted` different places of 1 to `count`: a function of seed and step alone, (wanted) int64."""
    one = torch.ones(1, dtype=torch.int64, device=device)
    key = keyed.mix(keyed.mix(keyed.mix(one * seed) + step) + torch.arange(count, device=device))
    return 1 + key.argsort(stable=True)[:wanted]


def over(number_BF: Tensor, table_CF: Tensor) -> Tensor:
    """Sums of an event's numbers that a table of candidates asks for, (B, C); the table is (C, F) or (B, 1, F)."""
    return (number_BF[:, None, :] @ table_CF.mT).squeeze(1)


def members(label_CJ: Tensor, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Which jets are in group 1 and in group 2: two tensors of the labels' shape, 0 or 1."""
    return (label_CJ == 1).to(dtype), (label_CJ == 2).to(dtype)


def pairs(member_CJ: Tensor) -> Tensor:
    """Which ordered pairs of jets are in the group, (..., J * J)."""
    return (member_CJ[..., :, None] * member_CJ[..., None, :]).flatten(-2)


def products(p4_BJ4: Tensor) -> Tensor:
    """p_i p_j of every pair of jets in GeV^2, (B, J * J) float32, from double precision."""
    double_BJ4 = p4_BJ4.double()
    product_BJJ = double_BJ4 @ (double_BJ4 * double_BJ4.new_tensor([1.0, -1.0, -1.0, -1.0])).mT
    return product_BJJ.flatten(1).float()


def masses(product_BX: Tensor, member_CJ: Tensor) -> Tensor:
    """Masses of a group in every event, (B, C) in GeV: m^2 is the sum of p_i p_j over all pairs in the group.

    One matrix product, and no difference of large numbers, so that single precision is enough.
    """
    return over(product_BX, pairs(member_CJ)).clamp_min(0.0).sqrt()


class Kinematics(NamedTuple):
    """What candidates weigh: mean mass in GeV and |m1 - m2| / (m1 + m2), (B, C), and nine features (B, 9, C)."""

    mass_BC: Tensor
    asymmetry_BC: Tensor
    feature_BFC: Tensor


def kinematics(p4_BJ4: Tensor, whole_B: Tensor, label_CJ: Tensor) -> Kinematics:
    """Of the leading jets' candidates; `whole_B` is the mass of all jets together, the unit of the features (GeV)."""
    member_1, member_2 = members(label_CJ)
    product_BX, x_BJ, y_BJ = products(p4_BJ4), p4_BJ4[..., 1].float(), p4_BJ4[..., 2].float()
    mass_1, mass_2 = masses(product_BX, member_1), masses(product_BX, member_2)
    x_1, y_1, x_2, y_2 = (over(one, of) for of in (member_1, member_2) for one in (x_BJ, y_BJ))
    pt_1, pt_2 = (x_1.square() + y_1.square()).sqrt(), (x_2.square() + y_2.square()).sqrt()
    total, unit_B1 = mass_1 + mass_2, whole_B.float()[:, None].clamp_min(LIGHT)
    asymmetry = (mass_1 - mass_2).abs() / total.clamp_min(LIGHT)
    counts = [one.sum(-1) for one in (member_1, member_2)]
    features = (
        4 * asymmetry,
        torch.exp(-asymmetry / SHARP),
        2 * total / unit_B1 - 1,
        (x_1 * x_2 + y_1 * y_2) / (pt_1 * pt_2).clamp_min(LIGHT),
        4 * ((x_1 + x_2).square() + (y_1 + y_2).square()).sqrt() / unit_B1,
        3 * (pt_1 + pt_2) / unit_B1 - 1,
        4 * torch.minimum(mass_1, mass_2) / unit_B1 - 1,
        (torch.minimum(*counts) / 2 - 1.5).expand_as(total),
        ((label_CJ.shape[-1] - counts[0] - counts[1]) / 2).expand_as(total),
    )
    return Kinematics(0.5 * total, asymmetry, torch.stack(features, 1))
