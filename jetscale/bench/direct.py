"""The minimum mass asymmetry of 2 + 2 of five jets, done directly: what `jetscale bench grouping` is compared with.

This is the published combinatorial head of stop pairs at the LHC (A. Badea et al., arXiv:2201.02205, code in
badeaa3/cannonball), written anew from its description: sums of all pairs of jets, their masses, the asymmetry of every
two pairs that share no jet, the smallest wins. The published head is a loop over the pairs and over the combinations;
its script feeds it two events at a time unless told otherwise. Here are that loop over the combinations of one event
after the other in plain numpy, and the same loop on a batch of events in torch, as the head itself has it.

    python -m jetscale.bench.direct FILE.json       events, and what either says of them: the numbers to compare with
"""

from __future__ import annotations

import json
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jetscale.physics.decays import boost, isotropic, phase_space

JETS = 5
SEED = 1
PAIRS = list(combinations(range(JETS), 2))
COMBINATIONS = [(one, two) for one, two in combinations(range(len(PAIRS)), 2) if not {*PAIRS[one]} & {*PAIRS[two]}]


def by_event(p4_BJ4: np.ndarray) -> np.ndarray:
    """The two pairs of every event as jets' places, (B, 4): event by event, combination by combination."""
    return np.array([_of_event(p4_J4) for p4_J4 in p4_BJ4])


def _of_event(p4_J4: np.ndarray) -> tuple[int, ...]:
    masses = []
    for one, two in PAIRS:
        total = p4_J4[one] + p4_J4[two]
        masses.append(np.sqrt(total[0] ** 2 - total[1] ** 2 - total[2] ** 2 - total[3] ** 2))
    asymmetries = [abs(masses[one] - masses[two]) / (masses[one] + masses[two]) for one, two in COMBINATIONS]
    one, two = COMBINATIONS[int(np.argmin(asymmetries))]
    return (*PAIRS[one], *PAIRS[two])


def by_batch(p4_BJ4: Tensor) -> Tensor:
    """The same (B, 4) for a batch: every step for all its events, one pair and one combination after the other."""
    pair_BK4 = torch.stack([p4_BJ4[:, list(pair)].sum(1) for pair in PAIRS], 1)
    metric_44 = torch.diag(pair_BK4.new_tensor([1.0, -1.0, -1.0, -1.0]))
    mass_BK = torch.einsum("bki,ij,bkj->bk", pair_BK4, metric_44, pair_BK4).sqrt()
    asymmetry_BC = torch.stack([(mass_BK[:, one] - mass_BK[:, two]).abs() / (mass_BK[:, one] + mass_BK[:, two])
                                for one, two in COMBINATIONS], 1)  # fmt: skip
    jets_C4 = torch.tensor([(*PAIRS[one], *PAIRS[two]) for one, two in COMBINATIONS])
    return jets_C4[asymmetry_BC.nan_to_num(torch.inf).argmin(1)]


def made_up(n: int, jets: int, seed: int = SEED) -> np.ndarray:
    """Two 1 TeV particles to half of the jets each, smeared, and one more jet if these are odd: (n, jets, 4) in GeV."""
    dice = np.random.default_rng(seed)
    axis_B3 = isotropic(n, dice) * dice.uniform(0.1, 0.7, (n, 1))
    decays = [boost(phase_space(np.full(n, 1000.0), jets // 2, dice), sign * axis_B3) for sign in (1, -1)]
    loose = [phase_space(dice.exponential(300.0, n) + 50, 2, dice)[:, :1]] * (jets % 2)
    p4_BJ4 = np.concatenate([*decays, *loose], axis=1)
    return np.asarray(p4_BJ4 * dice.normal(1, 0.05, p4_BJ4.shape[:2]).clip(0.5)[..., None])


def main(file: str, events: int = 100, seed: int = 7) -> None:
    """Write some events, their jets' four-vectors in GeV, and the two pairs of each."""
    p4_BJ4 = made_up(events, JETS, seed).round(3)
    pairs_B4 = by_event(p4_BJ4)
    assert pairs_B4.tolist() == by_batch(torch.from_numpy(p4_BJ4)).tolist()
    lines = [json.dumps({"jets": jets.tolist(), "pairs": pairs.tolist()})
             for jets, pairs in zip(p4_BJ4, pairs_B4, strict=True)]  # fmt: skip
    Path(file).write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main(sys.argv[1])
