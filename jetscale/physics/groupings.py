"""Jets in two groups: masses of given groups, and the classical ways of choosing them.

An assignment (B, J) holds 0 for a jet in no group, 1 and 2 for the groups. Which group is called 1 has no meaning: the
methods here put the leading jet in group 1. A mask is True for a real jet; masked jets may hold anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from jetscale import keyed
from jetscale.physics import kinematics

# Events per piece of work: 119 splits of 8192 events are 62 MB of four-vectors in double precision.
PIECE = 8192
RESOLVED = 1e-3  # GeV: lighter groups of hard jets are massless up to rounding, in double precision


class Groups(NamedTuple):
    """What two groups of jets weigh: masses (B) in GeV, and |m1 - m2| / (m1 + m2) (B)."""

    mass_1_B: Tensor
    mass_2_B: Tensor
    mass_B: Tensor
    asymmetry_B: Tensor


def reconstruct(p4_BJ4: Tensor, assigned_BJ: Tensor) -> Groups:
    """Masses of the two groups, their mean and their asymmetry, each (B); an empty group has mass 0.

    The asymmetry is 0 where both masses are, up to rounding. Computed in the precision of `p4_BJ4` (GeV).
    """
    return _groups(*(_mass_of(p4_BJ4, assigned_BJ == group) for group in (1, 2)))


def minimum_mass_asymmetry(p4_BJ4: Tensor, mask_BJ: Tensor, leading: int = 6) -> Tensor:
    """The split of the leading jets with the smallest |m1 - m2| / (m1 + m2), as an assignment (B, J) int64.

    Six leading jets are split 3 + 3; with fewer jets, every split as equal as possible is tried. All other jets, and
    events with fewer than two jets, are in no group. The asymmetry is that of searches for pair-produced resonances
    (ATLAS, arXiv:1710.07171).
    """
    assigned_BJ = torch.zeros_like(mask_BJ, dtype=torch.int64)
    for row_B, jet_BJ, leading_BJ4 in _leading(p4_BJ4, mask_BJ, leading):
        split_CJ = _splits(leading_BJ4, jet_BJ.shape[1] // 2)
        best_B = _split_masses(leading_BJ4, split_CJ).asymmetry_B.argmin(-1)
        assigned_BJ[row_B[:, None], jet_BJ] = split_CJ[best_B]
    return assigned_BJ


def random_groups(p4_BJ4: Tensor, mask_BJ: Tensor, seed: int, event_id_B: Tensor, leading: int = 6) -> Tensor:
    """One of the splits that `minimum_mass_asymmetry` tries, drawn by seed and event id, as an assignment (B, J) int64.

    The draw depends on the event's id (int64), not on its place in the batch.
    """
    assigned_BJ = torch.zeros_like(mask_BJ, dtype=torch.int64)
    draw_B = keyed.uniform(keyed.mix(keyed.mix(event_id_B.to(torch.int64)) + seed))
    for row_B, jet_BJ, leading_BJ4 in _leading(p4_BJ4, mask_BJ, leading):
        split_CJ = _splits(leading_BJ4, jet_BJ.shape[1] // 2)
        assigned_BJ[row_B[:, None], jet_BJ] = split_CJ[(draw_B[row_B] * len(split_CJ)).long()]
    return assigned_BJ


def minimum_group_mass(p4_BJ4: Tensor, mask_BJ: Tensor, leading: int = 8, asymmetry: float = 0.3) -> Tensor:
    """The smallest mean group mass (B) in GeV over all splits of the leading jets into two groups that are alike.

    Groups hold two jets or more and their asymmetry is below `asymmetry`; where no split is like that, the mass of
    `minimum_mass_asymmetry`. A mass for events without a parent.
    """
    mass_B = reconstruct(p4_BJ4, minimum_mass_asymmetry(p4_BJ4, mask_BJ)).mass_B
    for row_B, _, leading_BJ4 in _leading(p4_BJ4, mask_BJ, leading):
        split_CJ = _splits(leading_BJ4, 2)
        if not len(split_CJ):
            continue
        masses = _split_masses(leading_BJ4, split_CJ)
        allowed_BC = torch.where(masses.asymmetry_B < asymmetry, masses.mass_B, torch.inf)
        least_B = allowed_BC.amin(-1)
        mass_B[row_B] = torch.where(torch.isfinite(least_B), least_B, mass_B[row_B])
    return mass_B


def best_swap(assigned_BJ: Tensor, true_BJ: Tensor, mask_BJ: Tensor) -> Tensor:
    """The assignment (B, J) with its groups renamed where that agrees with more of the true labels.

    Only real jets with a known label (0 or more) count.
    """
    known_BJ = mask_BJ & (true_BJ >= 0)
    swapped_BJ = torch.where(assigned_BJ > 0, 3 - assigned_BJ, assigned_BJ)
    agree_B = ((assigned_BJ == true_BJ) & known_BJ).sum(-1)
    agree_swapped_B = ((swapped_BJ == true_BJ) & known_BJ).sum(-1)
    return torch.where((agree_swapped_B > agree_B)[:, None], swapped_BJ, assigned_BJ)


@cache
def partitions(count: int, smallest: int) -> Tensor:
    """All splits of `count` jets in two groups of at least `smallest`, the first jet in group 1: (C, count) of 1, 2."""
    code_C = torch.arange(2 ** (count - 1))
    in_2_CJ = (code_C[:, None] >> torch.arange(count).flip(0)) & 1
    size_C = in_2_CJ.sum(-1)
    return 1 + in_2_CJ[(size_C >= smallest) & (count - size_C >= smallest)]


def _splits(like: Tensor, smallest: int) -> Tensor:
    return partitions(like.shape[1], smallest).to(like.device)


def _leading(p4_BJ4: Tensor, mask_BJ: Tensor, leading: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Events with equally many leading jets, piece by piece: their rows, their jets' places and four-vectors."""
    pt_BJ = kinematics.pt(p4_BJ4).masked_fill(~mask_BJ, -1.0)
    order_BJ = pt_BJ.argsort(dim=1, descending=True, stable=True)[:, :leading]
    count_B = mask_BJ.sum(-1).clamp_max(leading)
    for count in range(2, order_BJ.shape[1] + 1):
        rows = torch.nonzero(count_B == count).squeeze(-1)
        for start in range(0, len(rows), PIECE):
            row_B = rows[start : start + PIECE]
            jet_BJ = order_BJ[row_B, :count]
            yield row_B, jet_BJ, p4_BJ4[row_B[:, None], jet_BJ]


def _split_masses(p4_BJ4: Tensor, split_CJ: Tensor) -> Groups:
    """Groups of every event under every split: each field (B, C)."""
    sums = (torch.einsum("cj,bjx->bcx", (split_CJ == group).to(p4_BJ4.dtype), p4_BJ4) for group in (1, 2))
    return _groups(*(kinematics.mass(sum_BC4) for sum_BC4 in sums))


def _mass_of(p4_BJ4: Tensor, member_BJ: Tensor) -> Tensor:
    return kinematics.mass(torch.where(member_BJ[..., None], p4_BJ4, 0.0).sum(-2))


def _groups(mass_1: Tensor, mass_2: Tensor) -> Groups:
    total = mass_1 + mass_2
    asymmetry = torch.where(total > RESOLVED, (mass_1 - mass_2).abs() / total.clamp_min(RESOLVED), 0.0)
    return Groups(mass_1, mass_2, 0.5 * total, asymmetry)
