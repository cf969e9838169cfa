"""Classical ways to put jets into two groups: what a network has to beat. The public functions here are the list.

Each takes four-vectors (B, J, 4) in GeV with their mask (B, J), True for a real jet, and gives an assignment (B, J)
int64: 0 for a jet in no group, 1 for the group of the leading jet, 2 for the other. Masked jets may hold anything and
are in no group; nor are the jets of an event with fewer than two.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from jetscale.errors import ConfigError, nearest
from jetscale.physics import kinematics
from jetscale.physics.groupings import leading_jets, minimum_mass_asymmetry, partitions

Method = Callable[[Tensor, Tensor], Tensor]

PER_JET_LEFT_OUT = 0.05  # of asymmetry; at no cost two light pairs would always be the answer
USUAL_DELTA_R = 1.0  # of the decay products of one parent
MOST_ROUNDS = 10
EVENTS = 4096  # per piece of work


def asymmetry_6(p4_BJ4: Tensor, mask_BJ: Tensor) -> Tensor:
    """The leading six jets, 3 + 3 with the smallest mass asymmetry (ATLAS, arXiv:1710.07171)."""
    return minimum_mass_asymmetry(p4_BJ4, mask_BJ)


def asymmetry_8(p4_BJ4: Tensor, mask_BJ: Tensor) -> Tensor:
    """The leading eight jets, all of them, 3 + 5 or 4 + 4 with the smallest mass asymmetry."""
    return minimum_mass_asymmetry(p4_BJ4, mask_BJ, leading=8)


def asymmetry_12(p4_BJ4: Tensor, mask_BJ: Tensor) -> Tensor:
    """The leading twelve jets in groups of two or more, with the smallest mass asymmetry + 0.05 per jet left out."""
    return minimum_mass_asymmetry(p4_BJ4, mask_BJ, leading=12, smallest=2, none=range(9), cost=PER_JET_LEFT_OUT)


def delta_r(p4_BJ4: Tensor, mask_BJ: Tensor) -> Tensor:
    """The leading six jets, 3 + 3 with the smallest sum over groups of |mean Delta R of its pairs - 1|.

    Pairs of jets in searches for pair-produced resonances are chosen so (ATLAS, arXiv:1710.07171); of groups of three
    the mean of their three distances counts.
    """
    assigned_BJ = torch.zeros_like(mask_BJ, dtype=torch.int64)
    for row_B, jet_BJ, leading_BJ4 in leading_jets(p4_BJ4, mask_BJ, 6):
        split_CJ = partitions(jet_BJ.shape[1], jet_BJ.shape[1] // 2).to(jet_BJ.device)
        one_BC, two_BC = (_distance_from_usual(leading_BJ4.double(), split_CJ == group) for group in (1, 2))
        best_B = (one_BC + two_BC).argmin(1)
        assigned_BJ[row_B[:, None], jet_BJ] = split_CJ[best_B]
    return assigned_BJ


def hemispheres(p4_BJ4: Tensor, mask_BJ: Tensor) -> Tensor:
    """All jets, each in the hemisphere whose axis is nearer in Lund distance.

    The first axes are the two jets of largest invariant mass, the next ones the sums of the hemispheres' jets, until
    no jet changes, for at most ten rounds (CMS Physics TDR II, J. Phys. G 34 (2007) 995).
    """
    assigned_BJ = torch.zeros_like(mask_BJ, dtype=torch.int64)
    rows = torch.nonzero(mask_BJ.sum(-1) >= 2).squeeze(-1)
    for start in range(0, len(rows), EVENTS):
        row_B = rows[start : start + EVENTS]
        real_BJ = mask_BJ[row_B]
        clean_BJ4 = torch.where(real_BJ[..., None], p4_BJ4[row_B], 0.0).double()
        in_2_BJ = _in_second_hemisphere(clean_BJ4, real_BJ)
        leading_B1 = kinematics.pt(clean_BJ4).masked_fill(~real_BJ, -1.0).argmax(1, keepdim=True)
        assigned_BJ[row_B] = torch.where(real_BJ, 1 + (in_2_BJ ^ in_2_BJ.gather(1, leading_B1)).long(), 0)
    return assigned_BJ


def names() -> tuple[str, ...]:
    """The methods, in the order in which they stand here."""
    ours = [one for one in globals().values() if inspect.isfunction(one) and one.__module__ == __name__]
    return tuple(one.__name__ for one in ours if one not in (names, find) and not one.__name__.startswith("_"))


def find(name: str) -> Method:
    """The method of a name.

    Raises:
        ConfigError: no such method.
    """
    if name not in names():
        raise ConfigError("no such classical method", where=name, cure=nearest(name, names()))
    return cast(Method, globals()[name])


def _distance_from_usual(p4_BJ4: Tensor, member_CJ: Tensor) -> Tensor:
    """|mean Delta R - 1| of the pairs of every group (B, C); a jet alone has mean 0."""
    delta_r_BJJ = kinematics.delta_r(p4_BJ4[:, :, None], p4_BJ4[:, None])
    pair_CJJ = (member_CJ[:, :, None] & member_CJ[:, None]).to(delta_r_BJJ.dtype)
    count_C = member_CJ.sum(1)
    mean_BC = delta_r_BJJ.flatten(1) @ pair_CJJ.flatten(1).T / (count_C * (count_C - 1)).clamp_min(1)
    return (mean_BC - USUAL_DELTA_R).abs()


def _in_second_hemisphere(p4_BJ4: Tensor, mask_BJ: Tensor) -> Tensor:
    """Which real jets are in the hemisphere of the second seed (B, J); neither is ever empty."""
    row_B = torch.arange(len(p4_BJ4), device=p4_BJ4.device)
    first_B, second_B = _seeds(p4_BJ4, mask_BJ)
    axis_B4, other_B4 = p4_BJ4[row_B, first_B], p4_BJ4[row_B, second_B]
    in_2_BJ = torch.zeros_like(mask_BJ)
    in_2_BJ[row_B, second_B] = True
    for _ in range(MOST_ROUNDS):
        nearer_BJ = mask_BJ & (_lund(other_B4, p4_BJ4) < _lund(axis_B4, p4_BJ4))
        both_B = nearer_BJ.any(1) & (mask_BJ & ~nearer_BJ).any(1)
        nearer_BJ = torch.where(both_B[:, None], nearer_BJ, in_2_BJ)
        if nearer_BJ.equal(in_2_BJ):
            break
        in_2_BJ = nearer_BJ
        axis_B4, other_B4 = (torch.einsum("bj,bjx->bx", one.double(), p4_BJ4) for one in (~in_2_BJ & mask_BJ, in_2_BJ))
    return in_2_BJ


def _seeds(p4_BJ4: Tensor, mask_BJ: Tensor) -> tuple[Tensor, Tensor]:
    """The two real jets (B) of largest invariant mass."""
    sum_BJJ4 = p4_BJ4[:, :, None] + p4_BJ4[:, None]
    jets = mask_BJ.shape[1]
    pair_BJJ = mask_BJ[:, :, None] & mask_BJ[:, None] & torch.ones(jets, jets, device=mask_BJ.device).triu(1).bool()
    best_B = kinematics.mass(sum_BJJ4).masked_fill(~pair_BJJ, -1.0).flatten(1).argmax(1)
    return best_B // jets, best_B % jets


def _lund(axis_B4: Tensor, p4_BJ4: Tensor) -> Tensor:
    """Lund distance of jets from an axis (B, J): (E_a - p_a cos theta) E_a / (E_a + E_j)^2."""
    energy_B1, energy_BJ = axis_B4[:, None, 0], p4_BJ4[..., 0]
    momentum_BJ = p4_BJ4[..., 1:].norm(dim=-1).clamp_min(1e-12)
    along_BJ = torch.einsum("bx,bjx->bj", axis_B4[:, 1:], p4_BJ4[..., 1:]) / momentum_BJ
    distance_BJ: Tensor = (energy_B1 - along_BJ) * energy_B1 / (energy_B1 + energy_BJ).square().clamp_min(1e-12)
    return distance_BJ
