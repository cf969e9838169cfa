"""What is enumerated, where the truth stands in it, and what candidates weigh, against plain evaluations."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from jetscale.physics.candidates import candidates, drawn, kinematics, place
from jetscale.physics.groupings import reconstruct
from jetscale.physics.kinematics import mass, p4, phi, pt


def _vectors(n: int, jets: int) -> Tensor:
    dice = torch.Generator().manual_seed(1)
    pt, eta = torch.rand(n, jets, generator=dice) * 900 + 30, torch.rand(n, jets, generator=dice) * 5 - 2.5
    return p4(pt.double(), eta.double(), torch.rand(n, jets, generator=dice).double() * 6 - 3, 0.1 * pt.double())


def _renamed(labels: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(3 - label if label else 0 for label in labels)


def test_candidates_are_all_assignments_but_for_the_names() -> None:
    assert len(candidates(8)) == (3**8 - 2 * 2**8 + 1) // 2 + 1
    assert len(candidates(8, 5)) == 2997 + 1 and len(candidates(8, 3)) == 127 + 8 * 63 + 28 * 31 + 56 * 15 + 1
    labels = {tuple(row) for row in candidates(4).tolist()}
    for assignment in product((0, 1, 2), repeat=4):
        both_groups = {1, 2} <= set(assignment)
        named = (assignment in labels) + (_renamed(assignment) in labels)
        assert (named == 1) == both_groups or not any(assignment)
    few = {tuple(row) for row in candidates(4, 1).tolist()}
    assert few == {labels for labels in labels if labels.count(0) <= 1 or not any(labels)}


@pytest.mark.parametrize("most_none", [None, 1])
def test_every_assignment_has_its_place_under_either_name(most_none: int | None) -> None:
    listed = [tuple(row) for row in candidates(5, most_none).tolist()]
    every = list(product((0, 1, 2), repeat=5))
    for labels, found in zip(every, place(torch.tensor(every), most_none).tolist(), strict=True):
        wanted = [n for n, one in enumerate(listed) if one in (labels, _renamed(labels))]
        assert found == (wanted[0] if wanted else -1)


def test_a_draw_is_a_function_of_seed_and_step() -> None:
    first = drawn(2997, 600, seed=3, step=7)
    assert first.equal(drawn(2997, 600, seed=3, step=7))
    assert len(first.unique()) == 600 and first.min() >= 1 and first.max() <= 2997
    for other in (drawn(2997, 600, seed=3, step=8), drawn(2997, 600, seed=4, step=7)):
        shared = len(set(first.tolist()) & set(other.tolist()))
        assert 80 < shared < 160, "two independent draws share 120 of 600"
    seen = np.bincount(torch.cat([drawn(90, 30, 1, step) for step in range(900)]).numpy(), minlength=91)
    assert seen[0] == 0 and abs(seen[1:] - 300).max() < 5 * 300**0.5


def test_candidates_weigh_what_their_jets_weigh() -> None:
    vectors, labels = _vectors(6, 6), candidates(6, 3)
    whole = mass(vectors.sum(1))
    found = kinematics(vectors, whole, labels)
    for n in range(6):
        groups = reconstruct(vectors[n].expand(len(labels), -1, -1), labels)
        assert torch.allclose(found.mass_BC[n].double(), groups.mass_B, rtol=1e-5, atol=1e-2)
        assert torch.allclose(found.asymmetry_BC[n].double(), groups.asymmetry_B, atol=2e-5)
        one, two = ((vectors[n] * (labels == group)[..., None]).sum(1) for group in (1, 2))
        m_1, m_2, none = groups.mass_1_B, groups.mass_2_B, (labels == 0).sum(1)
        count = torch.minimum((labels == 1).sum(1), (labels == 2).sum(1))
        cosine = torch.where(count > 0, torch.cos(phi(one) - phi(two)), 0.0)
        wanted = [4 * groups.asymmetry_B, torch.exp(-groups.asymmetry_B / 0.05), 2 * (m_1 + m_2) / whole[n] - 1, cosine,
                  4 * pt(one + two) / whole[n], 3 * (pt(one) + pt(two)) / whole[n] - 1,
                  4 * torch.minimum(m_1, m_2) / whole[n] - 1, count / 2 - 1.5, none / 2]  # fmt: skip
        for k, feature in enumerate(wanted):
            assert torch.allclose(found.feature_BFC[n, k].double(), feature.double(), atol=5e-4), k


def test_an_event_s_own_candidate_is_one_of_all() -> None:
    vectors, labels = _vectors(10, 5), candidates(5)
    own = torch.arange(10) * 7
    every, one = (kinematics(vectors, mass(vectors.sum(1)), of) for of in (labels, labels[own][:, None]))
    assert torch.allclose(one.mass_BC[:, 0], every.mass_BC.gather(1, own[:, None])[:, 0], rtol=1e-6)
    at_B9 = own[:, None, None].expand(-1, 9, 1)
    assert torch.allclose(one.feature_BFC, every.feature_BFC.gather(2, at_B9), atol=1e-5)
