"""Jets in two groups: masses of given groups, and the classical ways of choosing them.

An assignment (B, J) holds 0 for a jet in no group, 1 and 2 for the groups. Which group is called 1 has no meaning: the
methods here put the leading jet in group 1. A mask is True for a real jet; masked jets may hold anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from jetscale import keyed
from jetscale.physics import kinematics

# Numbers per piece of work: each of half a dozen arrays in double precision is 2 MB then, what a cache holds.
PIECE = 2**18
RESOLVED = 1e-3  # GeV: lighter groups of hard jets are massless up to rounding, in double precision
METRIC = (1.0, -1.0, -1.0, -1.0)
SAME = 1e-9  # asymmetries that differ by less are equal up to rounding


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


def minimum_mass_asymmetry(p4_BJ4: Tensor, mask_BJ: Tensor, leading: int = 6, smallest: int = 3,
                           none: Sequence[int] = (0,), cost: float = 0.0) -> Tensor:  # fmt: skip
    """The split of the leading jets with the smallest |m1 - m2| / (m1 + m2), as an assignment (B, J) int64.

    Every split into two groups of `smallest` jets or more is tried, of half the jets where there are too few for that:
    six jets are split 3 + 3, five 2 + 3. `none` says, in rising order, how many of the leading jets may be in no group;
    each costs `cost`. Of splits that are equal up to rounding the heaviest of those with most jets is taken. All other
    jets, and events with too few jets to split, are in no group. The asymmetry is that of searches for pair-produced
    resonances (ATLAS, arXiv:1710.07171).
    """
    assigned_BJ = torch.zeros_like(mask_BJ, dtype=torch.int64)
    for row_B, jet_BJ, leading_BJ4 in leading_jets(p4_BJ4, mask_BJ, leading):
        pair_B2 = _least_asymmetric(leading_BJ4, smallest, none, cost)
        bit_J = torch.arange(jet_BJ.shape[1], device=pair_B2.device)
        in_1_BJ, in_2_BJ = (pair_B2.T[:, :, None] >> bit_J) & 1
        assigned_BJ[row_B[:, None], jet_BJ] = in_1_BJ + 2 * in_2_BJ
    return assigned_BJ


def random_groups(p4_BJ4: Tensor, mask_BJ: Tensor, seed: int, event_id_B: Tensor, leading: int = 6) -> Tensor:
    """One of the splits that `minimum_mass_asymmetry` tries, drawn by seed and event id, as an assignment (B, J) int64.

    The draw depends on the event's id (int64), not on its place in the batch.
    """
    assigned_BJ = torch.zeros_like(mask_BJ, dtype=torch.int64)
    draw_B = keyed.uniform(keyed.mix(keyed.mix(event_id_B.to(torch.int64)) + seed))
    for row_B, jet_BJ, _ in leading_jets(p4_BJ4, mask_BJ, leading):
        split_CJ = partitions(jet_BJ.shape[1], jet_BJ.shape[1] // 2).to(jet_BJ.device)
        assigned_BJ[row_B[:, None], jet_BJ] = split_CJ[(draw_B[row_B] * len(split_CJ)).long()]
    return assigned_BJ


def minimum_group_mass(p4_BJ4: Tensor, mask_BJ: Tensor, leading: int = 8, asymmetry: float = 0.3) -> Tensor:
    """The smallest mean group mass (B) in GeV over all splits of the leading jets into two groups that are alike.

    Groups hold two jets or more and their asymmetry is below `asymmetry`; where no split is like that, the mass of
    `minimum_mass_asymmetry`. A mass for events without a parent.
    """
    mass_B = reconstruct(p4_BJ4, minimum_mass_asymmetry(p4_BJ4, mask_BJ)).mass_B
    for row_B, jet_BJ, leading_BJ4 in leading_jets(p4_BJ4, mask_BJ, leading):
        pair_C2 = subset_pairs(jet_BJ.shape[1], 2)
        if not len(pair_C2):
            continue
        masses = _pair_masses(subset_masses(leading_BJ4), pair_C2)
        allowed_CB = torch.where(masses.asymmetry_B < asymmetry, masses.mass_B, torch.inf)
        least_B = allowed_CB.amin(0).to(mass_B.dtype)
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


@cache
def subset_pairs(count: int, smallest: int, none: int = 0) -> Tensor:
    """All pairs of subsets that split `count` jets in two groups of at least `smallest`, `none` jets left out: (C, 2).

    Subsets are numbered as in `subset_masses`; the first jet that is not left out is in the first of the two.
    """
    split_CJ = partitions(count - none, smallest)
    bit_KJ = 2 ** torch.tensor(list(combinations(range(count), count - none)))
    return torch.stack([bit_KJ @ (split_CJ == group).long().T for group in (1, 2)], -1).flatten(0, 1)


def subset_masses(p4_BJ4: Tensor) -> Tensor:
    """Masses (2^J, B) in GeV of all subsets of jets, in double precision: bit j of a number says that jet j is in it.

    Two sets together weigh m^2 = m_a^2 + m_b^2 + 2 p_a p_b, so that a subset of the first half of the jets and one of
    the second are six numbers away from their union.
    """
    half = p4_BJ4.shape[1] // 2
    p4_J4B = p4_BJ4.double().permute(1, 2, 0).contiguous()
    low_L4B, high_H4B = (_subset_sums(part_J4B) for part_J4B in (p4_J4B[:half], p4_J4B[half:]))
    squared_HLB = _squared(high_H4B)[:, None] + _squared(low_L4B)
    for axis, sign in enumerate(METRIC):
        squared_HLB.addcmul_(high_H4B[:, None, axis], low_L4B[:, axis], value=2 * sign)
    return squared_HLB.flatten(0, 1).clamp_min_(0.0).sqrt_()


def leading_jets(p4_BJ4: Tensor, mask_BJ: Tensor, leading: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Events with equally many leading jets, two or more, piece by piece: rows (B), places (B, J), four-vectors."""
    pt_BJ = kinematics.pt(p4_BJ4).masked_fill(~mask_BJ, -1.0)
    order_BJ = pt_BJ.argsort(dim=1, descending=True, stable=True)[:, :leading]
    count_B = mask_BJ.sum(-1).clamp_max(leading)
    for count in range(2, order_BJ.shape[1] + 1):
        rows = torch.nonzero(count_B == count).squeeze(-1)
        for row_B in rows.split(max(1, PIECE >> count)):
            jet_BJ = order_BJ[row_B, :count]
            yield row_B, jet_BJ, p4_BJ4[row_B[:, None], jet_BJ]


def _subset_sums(p4_J4B: Tensor) -> Tensor:
    """Four-vectors (2^J, 4, B) of all subsets."""
    sum_S4B = torch.zeros_like(p4_J4B[:1])
    for p4_4B in p4_J4B:
        sum_S4B = torch.cat((sum_S4B, sum_S4B + p4_4B))
    return sum_S4B


def _squared(p4_S4B: Tensor) -> Tensor:
    return p4_S4B[:, 0] ** 2 - p4_S4B[:, 1:].square().sum(1)


def _least_asymmetric(p4_BJ4: Tensor, smallest: int, none: Sequence[int], cost: float) -> Tensor:
    """The best pair of subsets (B, 2) of every event; both empty where no split is possible."""
    count = p4_BJ4.shape[1]
    smallest = min(smallest, count // 2)
    mass_SB = subset_masses(p4_BJ4)
    least_B = mass_SB.new_full((len(p4_BJ4),), torch.inf)
    best_B2 = torch.zeros(len(p4_BJ4), 2, dtype=torch.int64, device=mass_SB.device)
    for left_out in (number for number in none if count - number >= 2 * smallest):
        pair_C2 = subset_pairs(count, smallest, left_out).to(mass_SB.device)
        # An asymmetry is 0 at best: where the cost alone is no less than what was found, nothing can be better.
        rows = torch.nonzero(cost * left_out < least_B - SAME).squeeze(-1)
        for row_B in rows.split(max(1, PIECE // len(pair_C2))):
            every = len(row_B) == len(least_B)
            asymmetry_B, choice_B = _least(_pair_masses(mass_SB if every else mass_SB[:, row_B], pair_C2))
            score_B = asymmetry_B + cost * left_out
            better_B = score_B < least_B[row_B] - SAME
            least_B[row_B] = torch.where(better_B, score_B, least_B[row_B])
            best_B2[row_B] = torch.where(better_B[:, None], pair_C2[choice_B], best_B2[row_B])
    return best_B2


def _least(masses: Groups) -> tuple[Tensor, Tensor]:
    """The smallest asymmetry (B) among candidates (C, B), and the heaviest candidate (B) that has it."""
    least_B = masses.asymmetry_B.amin(0)
    return least_B, masses.mass_B.masked_fill(masses.asymmetry_B > least_B + SAME, -1.0).argmax(0)


def _pair_masses(mass_SB: Tensor, pair_C2: Tensor) -> Groups:
    """Groups of every event under every pair of subsets: each field (C, B)."""
    return _groups(*(mass_SB[pair_C.to(mass_SB.device)] for pair_C in pair_C2.unbind(1)))


def _mass_of(p4_BJ4: Tensor, member_BJ: Tensor) -> Tensor:
    return kinematics.mass(torch.where(member_BJ[..., None], p4_BJ4, 0.0).sum(-2))


def _groups(mass_1: Tensor, mass_2: Tensor) -> Groups:
    total = mass_1 + mass_2
    asymmetry = torch.where(total > RESOLVED, (mass_1 - mass_2).abs() / total.clamp_min(RESOLVED), 0.0)
    return Groups(mass_1, mass_2, 0.5 * total, asymmetry)
