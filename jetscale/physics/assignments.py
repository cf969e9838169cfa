"""Assignments of all jets at once: a posterior over them, and the one whose mass is least wrong.

Jets taken one by one give the most probable label of each; together these can be an improbable event. Here every
assignment of the leading jets is a candidate, with the product of its jets' probabilities. The posterior is broad, so
the most probable candidate is a poor estimate of the mass: the candidate is taken that has most posterior near its
own mass (minimum Bayes risk).
"""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from jetscale.physics.groupings import reconstruct

IMPOSSIBLE = -1e4
KERNEL = 0.10  # of ln mass: how near is near
ASYMMETRY = 10.0  # prior exp(-10 a) on |m1 - m2| / (m1 + m2): the two parents weigh the same
LIGHT = 1.0  # GeV: groups that weigh less together are alike
NEARLY = 0.97  # of the best utility: among these the most probable candidate is taken


class Choice(NamedTuple):
    """The assignment of every event (B, J) and its share of the posterior within the kernel (B)."""

    assigned_BJ: Tensor
    confidence_B: Tensor


@cache
def candidates(jets: int) -> Tensor:
    """All assignments of `jets` jets to none, 1, 2 with both groups in use, names aside; and none at all: (C, jets)."""
    found = [(0,) * jets]
    for labels in product((0, 1, 2), repeat=jets):
        named = [label for label in labels if label]
        if named and named[0] == 1 and 2 in named:
            found.append(labels)
    return torch.tensor(found)


def least_risk(log_p_BJK: Tensor, p4_BJ4: Tensor, mask_BJ: Tensor, leading: int = 8, keep: int = 128) -> Choice:
    """The assignment whose mass has most posterior mass around it, from log-probabilities (B, J, 3) of none, 1, 2.

    The leading jets are enumerated; the others take their own most probable label, named as the candidate names the
    groups. Of the `keep` most probable candidates the masses are compared. Padded jets belong to none.
    """
    log_p_BJK = torch.where(mask_BJ[..., None], log_p_BJK, log_p_BJK.new_tensor([0.0, IMPOSSIBLE, IMPOSSIBLE]))
    # Not min(): a traced number of jets would make it a symbol even where only one value is possible.
    leading = leading if leading <= mask_BJ.shape[1] else mask_BJ.shape[1]
    score_BC, swapped_BC = _scores(log_p_BJK[:, :leading], p4_BJ4[:, :leading], leading)
    score_BT, top_BT = score_BC.topk(min(keep, score_BC.shape[1]), dim=1)
    whole_BTJ = _complete(candidates(leading).to(top_BT.device)[top_BT], swapped_BC.gather(1, top_BT), log_p_BJK)
    mass_BT = reconstruct(p4_BJ4[:, None], whole_BTJ).mass_B
    utility_BT = _utility(score_BT.softmax(1), mass_BT)
    best_B1 = utility_BT.amax(1, keepdim=True)
    chosen_B = score_BT.masked_fill(utility_BT < NEARLY * best_B1, -torch.inf).argmax(1)
    chosen_B1J = chosen_B[:, None, None].expand(-1, 1, whole_BTJ.shape[2])
    return Choice(whole_BTJ.gather(1, chosen_B1J).squeeze(1), best_B1.squeeze(1))


def _scores(log_p_BJK: Tensor, p4_BJ4: Tensor, jets: int) -> tuple[Tensor, Tensor]:
    """Log posterior (B, C) up to a constant, over both namings of the groups, and where the second is likelier."""
    one_hot_CJK = _one_hot(jets, log_p_BJK.dtype).to(log_p_BJK.device)
    named_BC = log_p_BJK.flatten(1) @ one_hot_CJK.flatten(1).T
    swapped_BC = log_p_BJK.flatten(1) @ one_hot_CJK[..., [0, 2, 1]].flatten(1).T
    mass_1_BC, mass_2_BC = (_masses(p4_BJ4, one_hot_CJK[..., group]) for group in (1, 2))
    # Of two groups of a massless jet each, rounding alone would decide which is heavier.
    asymmetry_BC = (mass_1_BC - mass_2_BC).abs() / (mass_1_BC + mass_2_BC).clamp_min(LIGHT)
    return torch.logaddexp(named_BC, swapped_BC) - ASYMMETRY * asymmetry_BC, swapped_BC > named_BC


@cache
def _one_hot(jets: int, dtype: torch.dtype) -> Tensor:
    return functional.one_hot(candidates(jets), 3).to(dtype)


def _masses(p4_BJ4: Tensor, member_CJ: Tensor) -> Tensor:
    """Masses of many groups in every event, (B, C): m^2 is the sum of p_i p_j over all pairs in the group.

    One matrix product, and no difference of large numbers, so that single precision is enough.
    """
    double_BJ4 = p4_BJ4.double()
    product_BJJ = double_BJ4 @ (double_BJ4 * double_BJ4.new_tensor([1.0, -1.0, -1.0, -1.0])).transpose(1, 2)
    pair_CJJ = member_CJ[:, :, None] * member_CJ[:, None, :]
    squared_BC = product_BJJ.flatten(1).to(member_CJ.dtype) @ pair_CJJ.flatten(1).T
    return squared_BC.clamp_min(0.0).sqrt()


def _complete(label_BTJ: Tensor, swapped_BT: Tensor, log_p_BJK: Tensor) -> Tensor:
    """Candidates of the leading jets, and behind them the other jets' own labels in the candidate's naming."""
    rest_BJ = log_p_BJK[:, label_BTJ.shape[2] :].argmax(-1)
    renamed_BJ = torch.where(rest_BJ > 0, 3 - rest_BJ, rest_BJ)
    rest_BTJ = torch.where(swapped_BT[..., None], renamed_BJ[:, None], rest_BJ[:, None])
    return torch.cat((label_BTJ, rest_BTJ), dim=2)


def _utility(p_BT: Tensor, mass_BT: Tensor) -> Tensor:
    """Posterior mass around every candidate's mass, (B, T): sum_t' p_t' exp(-(ln m_t - ln m_t')^2 / (2 kernel^2))."""
    log_BT = mass_BT.clamp_min(1.0).log().to(p_BT.dtype)
    near_BTT = torch.exp(-0.5 * ((log_BT[:, :, None] - log_BT[:, None, :]) / KERNEL).square())
    return torch.einsum("btu,bu->bt", near_BTT, p_BT)
