"""Read-outs: from a posterior over assignments to the one that is taken, whatever network made the posterior.

The leading jets are enumerated; the jets behind them follow each candidate. The posterior is broad, so the most
probable candidate (`map`), or the most probable label of each jet (`argmax`), is a poor estimate of the mass: least
risk (`mbr`, minimum Bayes risk) takes the candidate that has most posterior near its own mass.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from jetscale.physics.candidates import LIGHT, candidates, masses, products
from jetscale.physics.kinematics import mass

Readout = Literal["argmax", "map", "mbr"]

IMPOSSIBLE = -1e4
KEEP = 128  # most probable candidates whose masses are compared
KERNEL = 0.10  # of ln mass: how near is near
ASYMMETRY = 10.0  # prior exp(-10 a) on |m1 - m2| / (m1 + m2): the two parents weigh the same
NEARLY = 0.97  # of the best utility: among these the most probable candidate is taken
SLICE = 64  # candidates whose masses are compared with all others at a time
WIDER = 4  # times as many candidates stay when some jets more are enumerated


class Choice(NamedTuple):
    """The assignment of every event (B, J) and how sure that is, 0 to 1 (B).

    Sure is, by read-out, the posterior's share within the kernel (mbr), the posterior of the leading jets' assignment
    (map), or the product of the jets' probabilities (argmax).
    """

    assigned_BJ: Tensor
    confidence_B: Tensor


class Posterior(NamedTuple):
    """Log posterior over candidates (B, C) up to a constant, their labels (C, L), and what follows behind these jets.

    `behind` gives log-probabilities of none, 1, 2 for the other jets, (B, T, R, 3), from T candidates of every event:
    their labels (B, T, L) and their places among all (B, T).
    """

    score_BC: Tensor
    label_CJ: Tensor
    behind: Callable[[Tensor, Tensor], Tensor]

    def best(self, keep: int) -> tuple[Tensor, Tensor, Tensor]:
        """The most probable candidates: their scores (B, T), labels (B, T, L) and `behind` of them."""
        score_BT, top_BT = self.score_BC.topk(min(keep, self.score_BC.shape[1]), dim=1)
        label_BTJ = self.label_CJ[top_BT]
        return score_BT, label_BTJ, self.behind(label_BTJ, top_BT)


def independent(log_p_BJK: Tensor, p4_BJ4: Tensor, mask_BJ: Tensor, *, asymmetry: float = 0.0,
                leading: int = 8) -> Posterior:  # fmt: skip
    """The posterior of a network that labels jets one by one, from log-probabilities (B, J, 3) of none, 1, 2.

    A candidate has the product of its jets' probabilities, summed over both namings of the groups, and a prior
    exp(-asymmetry |m1 - m2| / (m1 + m2)). The other jets keep their own probabilities, in the likelier naming.
    """
    log_p_BJK = torch.where(mask_BJ[..., None], log_p_BJK, log_p_BJK.new_tensor([0.0, IMPOSSIBLE, IMPOSSIBLE]))
    # Not min(): a traced number of jets would make it a symbol even where only one value is possible.
    leading = leading if leading <= mask_BJ.shape[1] else mask_BJ.shape[1]
    one_hot_CJK = _one_hot(leading, log_p_BJK.dtype).to(log_p_BJK.device)
    first_BX = log_p_BJK[:, :leading].flatten(1)
    named_BC, swapped_BC = (first_BX @ one.flatten(1).T for one in (one_hot_CJK, one_hot_CJK[..., [0, 2, 1]]))
    score_BC = torch.logaddexp(named_BC, swapped_BC)
    if asymmetry:
        product_BX = products(p4_BJ4[:, :leading])
        mass_1_BC, mass_2_BC = (masses(product_BX, one_hot_CJK[..., group].float()) for group in (1, 2))
        uneven_BC = (mass_1_BC - mass_2_BC).abs() / (mass_1_BC + mass_2_BC).clamp_min(LIGHT)
        score_BC = score_BC - asymmetry * uneven_BC
    rest_BRK, other_BC = log_p_BJK[:, leading:], swapped_BC > named_BC

    def behind(label_BTJ: Tensor, top_BT: Tensor) -> Tensor:
        swapped_BT = other_BC.gather(1, top_BT)
        return torch.where(swapped_BT[..., None, None], rest_BRK[:, None, :, [0, 2, 1]], rest_BRK[:, None])

    return Posterior(score_BC, candidates(leading).to(log_p_BJK.device), behind)


@cache
def _one_hot(jets: int, dtype: torch.dtype) -> Tensor:
    return functional.one_hot(candidates(jets), 3).to(dtype)


def jet_by_jet(log_p_BJK: Tensor, mask_BJ: Tensor) -> Choice:
    """`argmax`: the most probable label of each jet, from log-probabilities (B, J, 3); padded jets belong to none."""
    best_BJ = log_p_BJK.max(-1)
    log_p_B = torch.where(mask_BJ, best_BJ.values, 0.0).sum(1)
    return Choice(torch.where(mask_BJ, best_BJ.indices, 0), log_p_B.exp())


def marginals(posterior: Posterior, keep: int = KEEP) -> Tensor:
    """Log-probabilities of none, 1, 2 for each jet by itself, (B, J, 3); group 1 is that of the first jet in a group.

    Jets behind the leading ones: over the `keep` most probable candidates.
    """
    p_BC = posterior.score_BC.softmax(1)
    one_hot_CJK = functional.one_hot(posterior.label_CJ, 3).to(p_BC.dtype)
    leading_BJK = (p_BC @ one_hot_CJK.flatten(1)).unflatten(1, (-1, 3))
    score_BT, _, log_p_BTRK = posterior.best(keep)
    behind_BRK = (score_BT.softmax(1)[..., None, None] * log_p_BTRK.exp()).sum(1)
    return torch.cat((leading_BJK, behind_BRK), 1).clamp_min(1e-30).log()


def most_probable(posterior: Posterior) -> Choice:
    """`map`: the most probable candidate, and the most probable label of every jet behind it."""
    _, label_BTJ, log_p_BTRK = posterior.best(1)
    p_B = posterior.score_BC.softmax(1).amax(1)
    return Choice(torch.cat((label_BTJ, log_p_BTRK.argmax(-1)), 2).squeeze(1), p_B)


def least_risk(posterior: Posterior, p4_BJ4: Tensor, *, keep: int = KEEP, beam: int = 0) -> Choice:
    """`mbr`: the assignment whose mass has most posterior around it.

    Of the `keep` most probable candidates the masses of all jets are compared; `beam` jets behind the leading ones are
    enumerated too, with their probabilities in the weight, and the others take their most probable label.
    """
    score_BT, label_BTJ, log_p_BTRK = posterior.best(keep)
    whole_BTJ = torch.cat((label_BTJ, log_p_BTRK.argmax(-1)), 2)
    if beam and log_p_BTRK.shape[2]:
        score_BT, whole_BTJ = _beam(score_BT, whole_BTJ, log_p_BTRK[:, :, :beam], label_BTJ.shape[2], WIDER * keep)
    p_BT = score_BT.softmax(1)
    utility_BT = _utility(p_BT, _masses(p4_BJ4, whole_BTJ))
    # What cannot be may have the mass of what can.
    utility_BT = torch.where(p_BT > 0, utility_BT, 0.0)
    best_B1 = utility_BT.amax(1, keepdim=True)
    chosen_B = score_BT.masked_fill(utility_BT < NEARLY * best_B1, -torch.inf).argmax(1)
    chosen_B1J = chosen_B[:, None, None].expand(-1, 1, whole_BTJ.shape[2])
    return Choice(whole_BTJ.gather(1, chosen_B1J).squeeze(1), best_B1.squeeze(1))


def _beam(score_BT: Tensor, whole_BTJ: Tensor, log_p_BTRK: Tensor, start: int, keep: int) -> tuple[Tensor, Tensor]:
    """Every candidate with every label of the next jets, from number `start` on: the most probable of these."""
    jets = log_p_BTRK.shape[2]
    label_XR = torch.cartesian_prod(*[torch.arange(3, device=whole_BTJ.device)] * jets).reshape(-1, jets)
    gain_BTX = log_p_BTRK.flatten(2) @ functional.one_hot(label_XR, 3).to(log_p_BTRK.dtype).flatten(1).T
    every_BX = (score_BT[..., None] + gain_BTX).flatten(1)
    score_BT, top_BT = every_BX.topk(min(keep, every_BX.shape[1]), dim=1)
    parent_BT = torch.div(top_BT, len(label_XR), rounding_mode="floor")
    whole_BTJ = whole_BTJ.gather(1, parent_BT[..., None].expand(-1, -1, whole_BTJ.shape[2]))
    fresh_BTR = label_XR[top_BT % len(label_XR)]
    return score_BT, torch.cat((whole_BTJ[..., :start], fresh_BTR, whole_BTJ[..., start + jets :]), 2)


def _masses(p4_BJ4: Tensor, label_BTJ: Tensor) -> Tensor:
    """Mean mass of the two groups of every assignment, (B, T) in GeV, in double precision."""
    p4_BJ4 = p4_BJ4.double()
    mass_1_BT, mass_2_BT = (mass((label_BTJ == group).double() @ p4_BJ4) for group in (1, 2))
    return 0.5 * (mass_1_BT + mass_2_BT)


def _utility(p_BT: Tensor, mass_BT: Tensor) -> Tensor:
    """Posterior mass around every candidate's mass, (B, T): sum_t' p_t' exp(-(ln m_t - ln m_t')^2 / (2 kernel^2))."""
    scaled_BT = (mass_BT.clamp_min(1.0).log() / (2**0.5 * KERNEL)).to(p_BT.dtype)
    parts = []
    for part_BX in scaled_BT.split(SLICE, 1):  # all pairs at once would be the most that a scoring keeps in memory
        near_BXT = torch.exp(-(part_BX[:, :, None] - scaled_BT[:, None, :]).square())
        parts.append((near_BXT @ p_BT[..., None]).squeeze(-1))
    return torch.cat(parts, 1)
