"""The readout of whole events: candidates counted, posterior and risk against a slow and plain evaluation."""

from itertools import product

import pytest
import torch
from torch import Tensor

from jetscale.physics.assignments import ASYMMETRY, IMPOSSIBLE, KERNEL, NEARLY, candidates, least_risk
from jetscale.physics.groupings import reconstruct
from jetscale.physics.kinematics import p4


def _events(n: int, jets: int, seed: int = 1, sure: float = 2.0) -> tuple[Tensor, Tensor, Tensor]:
    dice = torch.Generator().manual_seed(seed)
    pt, eta = torch.rand(n, jets, generator=dice) * 500 + 30, torch.rand(n, jets, generator=dice) * 4 - 2
    phi = torch.rand(n, jets, generator=dice) * 6 - 3
    logits = torch.randn(n, jets, 3, generator=dice) * sure
    counts = torch.randint(0, jets + 1, (n, 1), generator=dice)
    return logits.log_softmax(-1), p4(pt, eta, phi, pt * 0.1).double(), torch.arange(jets) < counts


def test_candidates_are_all_assignments_but_for_the_names() -> None:
    assert len(candidates(8)) == (3**8 - 2 * 2**8 + 1) // 2 + 1
    labels = {tuple(row) for row in candidates(4).tolist()}
    for assignment in product((0, 1, 2), repeat=4):
        renamed = tuple(3 - label if label else 0 for label in assignment)
        both_groups = {1, 2} <= set(assignment)
        assert ((assignment in labels) + (renamed in labels) == 1) == both_groups or not any(assignment)


def _slow(log_p_JK: Tensor, p4_J4: Tensor, mask_J: Tensor) -> tuple[list[int], float]:
    """One event, every assignment, no shortcuts."""
    jets = len(mask_J)
    found = []
    for labels in [(0,) * jets, *(c for c in product((0, 1, 2), repeat=jets) if 1 in c and 2 in c)]:
        log_p = sum(
            (float(log_p_JK[j, label]) if mask_J[j] else (0.0 if label == 0 else IMPOSSIBLE))
            for j, label in enumerate(labels)
        )
        groups = reconstruct(p4_J4[None], torch.tensor([labels]))
        found.append((labels, log_p - ASYMMETRY * groups.asymmetry_B.item(), max(groups.mass_B.item(), 1.0)))
    # Both namings are candidates of their own here, none-at-all is counted once and must count as much.
    score = torch.tensor([s for _, s, _ in found], dtype=torch.float64)
    score[0] += torch.log(torch.tensor(2.0))
    p, log_m = score.softmax(0), torch.tensor([m for *_, m in found], dtype=torch.float64).log()
    utility = (torch.exp(-0.5 * ((log_m[:, None] - log_m[None, :]) / KERNEL) ** 2) * p).sum(1)
    near = [n for n in range(len(found)) if utility[n] >= NEARLY * utility.max()]
    best = max(near, key=lambda n: torch.logaddexp(score[n], _twin(found, score, n)).item() if n else score[0].item())
    return list(found[best][0]), utility.max().item()


def _twin(found: list[tuple[tuple[int, ...], float, float]], score: Tensor, n: int) -> Tensor:
    renamed = tuple(3 - label if label else 0 for label in found[n][0])
    return score[[labels for labels, *_ in found].index(renamed)]


def test_least_risk_is_what_a_plain_evaluation_gives() -> None:
    log_p, vectors, mask = _events(25, 5, sure=0.3)
    choice = least_risk(log_p, vectors, mask, keep=10_000)
    for n in range(len(mask)):
        labels, confidence = _slow(log_p[n], vectors[n], mask[n])
        renamed = [3 - label if label else 0 for label in labels]
        assert choice.assigned_BJ[n].tolist() in (labels, renamed)
        assert choice.confidence_B[n].item() == pytest.approx(confidence, rel=1e-4)


def test_padded_jets_and_odd_events() -> None:
    log_p, vectors, mask = _events(40, 12)
    choice = least_risk(log_p, vectors, mask)
    assert (choice.assigned_BJ[~mask] == 0).all()
    assert torch.isfinite(choice.confidence_B).all()
    wide = least_risk(torch.nn.functional.pad(log_p, (0, 0, 0, 3)), torch.nn.functional.pad(vectors, (0, 0, 0, 3)),
                      torch.nn.functional.pad(mask, (0, 3)))  # fmt: skip
    assert wide.assigned_BJ[:, :12].equal(choice.assigned_BJ)


def test_a_certain_network_is_believed() -> None:
    _, vectors, mask = _events(30, 10)
    labels = torch.randint(0, 3, mask.shape, generator=torch.Generator().manual_seed(2))
    labels[:, 0], labels[:, 1] = 1, 2
    mask[:, :2] = True
    certain = torch.nn.functional.one_hot(labels, 3).double().clamp_min(1e-30).log()
    chosen = least_risk(certain, vectors, mask).assigned_BJ
    assert chosen.equal(torch.where(mask, labels, 0))
