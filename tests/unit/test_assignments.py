"""The read-outs of whole events against slow and plain evaluations."""

from itertools import product

import pytest
import torch
from torch import Tensor

from jetscale.physics.assignments import (
    ASYMMETRY,
    IMPOSSIBLE,
    KERNEL,
    NEARLY,
    Posterior,
    independent,
    jet_by_jet,
    least_risk,
    marginals,
    most_probable,
)
from jetscale.physics.candidates import candidates
from jetscale.physics.groupings import reconstruct
from jetscale.physics.kinematics import p4


def _events(n: int, jets: int, seed: int = 1, sure: float = 2.0) -> tuple[Tensor, Tensor, Tensor]:
    dice = torch.Generator().manual_seed(seed)
    pt, eta = torch.rand(n, jets, generator=dice) * 500 + 30, torch.rand(n, jets, generator=dice) * 4 - 2
    phi = torch.rand(n, jets, generator=dice) * 6 - 3
    logits = torch.randn(n, jets, 3, generator=dice) * sure
    counts = torch.randint(0, jets + 1, (n, 1), generator=dice)
    return logits.log_softmax(-1), p4(pt, eta, phi, pt * 0.1).double(), torch.arange(jets) < counts


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
    choice = least_risk(independent(log_p, vectors, mask, asymmetry=ASYMMETRY), vectors, keep=10_000)
    for n in range(len(mask)):
        labels, confidence = _slow(log_p[n], vectors[n], mask[n])
        renamed = [3 - label if label else 0 for label in labels]
        assert choice.assigned_BJ[n].tolist() in (labels, renamed)
        assert choice.confidence_B[n].item() == pytest.approx(confidence, rel=1e-4)


def _wide(*tensors: Tensor) -> list[Tensor]:
    return [torch.nn.functional.pad(one, (*(0, 0) * (one.ndim - 2), 0, 3)) for one in tensors]


def _all_readouts(log_p: Tensor, vectors: Tensor, mask: Tensor) -> list[Tensor]:
    posterior = independent(log_p, vectors, mask, asymmetry=ASYMMETRY)
    choices = [jet_by_jet(log_p, mask), most_probable(posterior), least_risk(posterior, vectors)]
    for choice in choices:
        assert (choice.assigned_BJ[~mask] == 0).all()
        assert ((choice.confidence_B >= 0) & (choice.confidence_B < 1 + 1e-6)).all()
    return [choice.assigned_BJ for choice in choices]


def test_padded_jets_and_odd_events() -> None:
    log_p, vectors, mask = _events(40, 12)
    assert not mask.any(1).all() and mask.all(1).any()
    for narrow, wide in zip(
        _all_readouts(log_p, vectors, mask), _all_readouts(*_wide(log_p, vectors, mask)), strict=True
    ):
        assert wide[:, :12].equal(narrow)


def test_a_certain_network_is_believed() -> None:
    _, vectors, mask = _events(30, 10)
    labels = torch.randint(0, 3, mask.shape, generator=torch.Generator().manual_seed(2))
    labels[:, 0], labels[:, 1] = 1, 2
    mask[:, :2] = True
    certain = torch.nn.functional.one_hot(labels, 3).double().clamp_min(1e-30).log()
    for chosen in _all_readouts(certain, vectors, mask):
        assert chosen.equal(torch.where(mask, labels, 0))


def test_the_most_probable_assignment_is_what_a_plain_evaluation_gives() -> None:
    log_p, vectors, mask = _events(30, 5, sure=0.5)
    choice = most_probable(independent(log_p, vectors, mask))
    every = [c for c in product((0, 1, 2), repeat=5) if {1, 2} <= set(c)] + [(0,) * 5]
    for n in range(len(mask)):
        real = mask[n].tolist()
        p = {c: float(sum(log_p[n, j, k] for j, k in enumerate(c) if real[j]).exp() if any(real) else 1.0)
             for c in every if not any(k and not real[j] for j, k in enumerate(c))}  # fmt: skip
        both = {c: p[c] + p[tuple(3 - k if k else 0 for k in c)] for c in p}
        chosen = tuple(choice.assigned_BJ[n].tolist())
        assert both[chosen] == pytest.approx(max(both.values()), rel=1e-6)
        # Every assignment stands in `both` under its two names, and none at all alone, with twice its probability.
        total = sum(both.values()) / 2 + both[(0,) * 5] / 2
        assert choice.confidence_B[n].item() == pytest.approx(both[chosen] / total, rel=1e-5)


def _made(n: int = 20, behind: int = 2) -> tuple[Posterior, Tensor, Tensor, Tensor]:
    """A posterior over three leading jets, with probabilities of the jets behind that differ by candidate."""
    dice = torch.Generator().manual_seed(5)
    label_CJ = candidates(3)
    table = torch.randn(n, len(label_CJ), behind, 3, generator=dice, dtype=torch.float64).log_softmax(-1)
    score = torch.randn(n, len(label_CJ), generator=dice, dtype=torch.float64)

    def of(label_BTJ: Tensor, top_BT: Tensor) -> Tensor:
        assert label_BTJ.equal(label_CJ[top_BT])
        return table.gather(1, top_BT[..., None, None].expand(-1, -1, behind, 3))

    return Posterior(score, label_CJ, of), score, table, _events(n, 3 + behind)[1]


def test_each_jet_by_itself_has_its_share_of_all_candidates() -> None:
    posterior, score, table, _ = _made()
    found, p, labels = marginals(posterior).exp(), score.softmax(1), candidates(3)
    assert torch.allclose(found.sum(-1), torch.ones(20, 5, dtype=torch.float64))
    for n, jet, kind in product(range(3), range(3), range(3)):
        assert found[n, jet, kind].item() == pytest.approx(p[n][labels[:, jet] == kind].sum().item())
    for n, jet, kind in product(range(3), range(2), range(3)):
        assert found[n, 3 + jet, kind].item() == pytest.approx((p[n] * table[n, :, jet, kind].exp()).sum().item())


@pytest.mark.parametrize("beam", [0, 1, 2])
def test_a_beam_enumerates_the_jets_behind(beam: int) -> None:
    posterior, score, table, vectors = _made()
    choice = least_risk(posterior, vectors, keep=1000, beam=beam)
    for n in range(20):
        found = []
        for c, first in enumerate(candidates(3).tolist()):
            for more in product((0, 1, 2), repeat=beam):
                own = table[n, c].argmax(-1).tolist()[beam:]
                weight = score[n, c] + sum(table[n, c, r, k] for r, k in enumerate(more))
                found.append(((*first, *more, *own), float(weight)))
        masses = [max(reconstruct(vectors[n][None], torch.tensor([one])).mass_B.item(), 1.0) for one, _ in found]
        p, log_m = torch.tensor([w for _, w in found]).double().softmax(0), torch.tensor(masses).double().log()
        utility = (torch.exp(-0.5 * ((log_m[:, None] - log_m[None]) / KERNEL) ** 2) * p).sum(1)
        near = [k for k in range(len(found)) if utility[k] >= NEARLY * utility.max()]
        assert tuple(choice.assigned_BJ[n].tolist()) == found[max(near, key=lambda k: found[k][1])][0]
        assert choice.confidence_B[n].item() == pytest.approx(utility.max().item(), rel=1e-6)


def test_what_cannot_be_is_not_taken_for_its_mass() -> None:
    """Two assignments are possible, 10 % lighter and heavier than a third, around which most posterior lies."""
    pt = 100 * torch.tensor([[0.0, -0.2, 0.2]]).double().exp()
    zero = torch.zeros_like(pt)
    jets = p4(pt, zero, torch.tensor([[0.0, 1.0, 2.0]]).double() * torch.pi * 2 / 3, zero)
    label_CJ = candidates(3)
    place = {tuple(label): n for n, label in enumerate(label_CJ.tolist())}
    score = torch.full((1, len(label_CJ)), IMPOSSIBLE).double()
    score[0, [place[1, 1, 2], place[1, 2, 1]]] = torch.tensor([0.1, 0.0]).double()
    nothing = torch.zeros(1, len(label_CJ), 0, 3).double()
    choice = least_risk(Posterior(score, label_CJ, lambda _, top_BT: nothing[:, : top_BT.shape[1]]), jets)
    assert choice.assigned_BJ.tolist() == [[1, 1, 2]]
    p = score.softmax(1)[0, place[1, 1, 2]].item()
    assert choice.confidence_B.item() == pytest.approx(p + (1 - p) * 2.71828**-2, rel=1e-4)
