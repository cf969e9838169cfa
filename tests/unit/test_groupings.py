import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import boosted, events, masses, rotated

from jetscale.physics import groupings, kinematics

SEED = st.integers(0, 2**31)


def cross() -> torch.Tensor:
    """Four massless jets of 100 GeV at phi 0, 90, 180, 270 degrees and a fifth, softer one."""
    pt = torch.tensor([[100.0, 100.0, 100.0, 100.0, 10.0]], dtype=torch.float64)
    phi = torch.tensor([[0.0, 0.5, 1.0, 1.5, 0.25]], dtype=torch.float64) * math.pi
    return kinematics.p4(pt, torch.zeros_like(pt), phi, torch.zeros_like(pt))


def test_reconstruct_by_hand():
    found = groupings.reconstruct(cross(), torch.tensor([[1, 2, 1, 2, 0]]))
    assert [field.item() for field in found] == pytest.approx([200.0, 200.0, 200.0, 0.0])
    found = groupings.reconstruct(cross(), torch.tensor([[1, 1, 0, 0, 0]]))
    right_angle = 100 * math.sqrt(2)
    assert [field.item() for field in found] == pytest.approx([right_angle, 0.0, right_angle / 2, 1.0])
    assert [field.item() for field in groupings.reconstruct(cross(), torch.zeros(1, 5, dtype=torch.int64))] == [0.0] * 4


def test_number_of_splits():
    assert [len(groupings.partitions(count, count // 2)) for count in (2, 3, 4, 5, 6)] == [1, 3, 3, 10, 10]
    assert len(groupings.partitions(8, 2)) == 119
    assert len(groupings.partitions(3, 2)) == 0
    splits = {tuple(row) for row in groupings.partitions(6, 3).tolist()}
    assert len(splits) == 10 and all(row[0] == 1 and row.count(1) == 3 for row in splits)


def test_the_true_split_of_two_decays_into_three_is_found():
    masses_of = torch.full((1, 3), 10.0, dtype=torch.float64)
    phi = torch.tensor([[0.0, 2.0, -2.0]], dtype=torch.float64)
    pt = torch.tensor([[300.0, 200.0, 100.0]], dtype=torch.float64)
    one = kinematics.p4(pt, torch.zeros_like(pt), phi, masses_of)
    # a copy turned about the beam weighs the same to the last digit: asymmetry 0
    p4 = torch.stack((one[0, 0], rotated(one, 1.0)[0, 0], one[0, 1], rotated(one, 1.0)[0, 1], one[0, 2],
                      rotated(one, 1.0)[0, 2]))[None]  # fmt: skip
    assigned = groupings.minimum_mass_asymmetry(p4, torch.ones(1, 6, dtype=torch.bool))
    assert assigned.tolist() == [[1, 2, 1, 2, 1, 2]]


def test_the_smallest_asymmetry_is_the_smallest_of_all_ten():
    p4, mask = events(3, n_event=50, n_jet=6, fewest=6)
    best = groupings.reconstruct(p4, groupings.minimum_mass_asymmetry(p4, mask)).asymmetry_B
    every = [groupings.reconstruct(p4, row.expand(50, 6)).asymmetry_B for row in groupings.partitions(6, 3)]
    assert torch.allclose(best, torch.stack(every).amin(0), atol=1e-12)


def test_group_sizes_with_few_jets():
    p4, _ = events(5, n_event=8, n_jet=8, fewest=8)
    mask = torch.arange(8)[None] < torch.arange(8)[:, None]
    for assigned in (groupings.minimum_mass_asymmetry(p4, mask),
                     groupings.random_groups(p4, mask, 1, torch.arange(8))):  # fmt: skip
        sizes = [sorted(((row == 1).sum().item(), (row == 2).sum().item())) for row in assigned]
        assert sizes == [[0, 0], [0, 0], [1, 1], [1, 2], [2, 2], [2, 3], [3, 3], [3, 3]]
        assert (assigned[~mask] == 0).all()


@given(SEED)
@settings(max_examples=15, deadline=None)
def test_everything_is_finite_even_for_empty_events_and_dirty_padding(seed):
    p4, mask = events(seed)
    dirty = torch.where(mask[..., None], p4, torch.nan)
    for assigned in (groupings.minimum_mass_asymmetry(dirty, mask),
                     groupings.random_groups(dirty, mask, 0, torch.arange(len(mask)))):  # fmt: skip
        assert torch.isfinite(masses(dirty, assigned)).all()
    assert torch.isfinite(groupings.minimum_group_mass(dirty, mask)).all()
    assert torch.equal(groupings.minimum_group_mass(dirty, mask), groupings.minimum_group_mass(p4, mask))


def test_no_events_and_no_jets():
    for shape in ((0, 6), (3, 0)):
        p4, mask = torch.zeros(*shape, 4), torch.zeros(shape, dtype=torch.bool)
        assert groupings.minimum_mass_asymmetry(p4, mask).shape == shape
        assert groupings.minimum_group_mass(p4, mask).tolist() == [0.0] * shape[0]


@given(SEED, st.floats(-3, 3), st.floats(-2, 2))
@settings(max_examples=15, deadline=None)
def test_masses_do_not_change_under_rotation_and_longitudinal_boost(seed, angle, rapidity):
    p4, mask = events(seed)
    moved = boosted(rotated(p4, angle), rapidity)
    before = masses(p4, groupings.minimum_mass_asymmetry(p4, mask))
    after = masses(moved, groupings.minimum_mass_asymmetry(moved, mask))
    assert torch.allclose(before, after, rtol=1e-6, atol=1e-4)
    assert torch.allclose(groupings.minimum_group_mass(p4, mask), groupings.minimum_group_mass(moved, mask),
                          rtol=1e-6, atol=1e-4)  # fmt: skip


@given(SEED)
@settings(max_examples=15, deadline=None)
def test_the_order_of_the_jets_does_not_matter(seed):
    p4, mask = events(seed)
    order = torch.randperm(mask.shape[1], generator=torch.Generator().manual_seed(seed))
    straight = groupings.minimum_mass_asymmetry(p4, mask)
    assert torch.equal(groupings.minimum_mass_asymmetry(p4[:, order], mask[:, order]), straight[:, order])
    assert torch.allclose(groupings.minimum_group_mass(p4[:, order], mask[:, order]),
                          groupings.minimum_group_mass(p4, mask), rtol=1e-9)  # fmt: skip


@given(SEED)
@settings(max_examples=15, deadline=None)
def test_the_names_of_the_groups_do_not_matter(seed):
    p4, mask = events(seed)
    assigned = groupings.minimum_mass_asymmetry(p4, mask)
    swapped = torch.where(assigned > 0, 3 - assigned, 0)
    assert torch.equal(masses(p4, assigned), masses(p4, swapped))
    truth = groupings.random_groups(p4, mask, seed, torch.arange(len(mask)))
    assert torch.equal((groupings.best_swap(assigned, truth, mask) == truth).sum(-1),
                       (groupings.best_swap(swapped, truth, mask) == truth).sum(-1))  # fmt: skip


def test_best_swap_counts_only_real_jets_with_a_known_label():
    true = torch.tensor([[2, 2, 1, -1, -1], [1, 2, 0, 0, 0]])
    assigned = torch.tensor([[1, 1, 2, 1, 1], [1, 2, 0, 0, 0]])
    mask = torch.tensor([[True, True, True, True, False], [True, True, True, False, False]])
    assert groupings.best_swap(assigned, true, mask).tolist() == [[2, 2, 1, 2, 2], [1, 2, 0, 0, 0]]
    only_last = torch.tensor([[False, False, False, False, True]])
    assert groupings.best_swap(assigned[:1], true[:1], only_last).tolist() == assigned[:1].tolist()


def test_random_groups_follow_the_event_not_its_place():
    p4, mask = events(1, n_event=300, n_jet=6, fewest=6)
    ids = torch.arange(300) * 1_000_003 - 7
    straight = groupings.random_groups(p4, mask, 4, ids)
    back = groupings.random_groups(p4.flip(0), mask, 4, ids.flip(0)).flip(0)
    assert torch.equal(straight, back)
    assert not torch.equal(straight, groupings.random_groups(p4, mask, 5, ids))


def test_random_groups_use_every_split_alike():
    ids = torch.arange(20_000)
    p4 = cross()[:, :4].expand(20_000, 4, 4)
    assigned = groupings.random_groups(p4, torch.ones(20_000, 4, dtype=torch.bool), 11, ids)
    splits, counts = assigned.unique(dim=0, return_counts=True)
    assert splits.tolist() == [[1, 1, 2, 2], [1, 2, 1, 2], [1, 2, 2, 1]]
    spread = math.sqrt(20_000 * 2 / 9)
    assert all(abs(count - 20_000 / 3) < 4 * spread for count in counts.tolist())


def test_minimum_group_mass_by_hand():
    p4, mask = cross(), torch.tensor([[True, True, True, True, False]])
    # neighbours: two pairs at a right angle, asymmetry 0; opposite jets would weigh 200 each
    assert groupings.minimum_group_mass(p4, mask).item() == pytest.approx(100 * math.sqrt(2))
    pair = torch.tensor([[True, False, True, False, False]])
    assert groupings.minimum_group_mass(p4, pair).item() == 0.0


def test_minimum_group_mass_is_the_least_of_the_allowed_splits():
    p4, mask = events(9, n_event=60, n_jet=8, fewest=8)
    every = [groupings.reconstruct(p4, row.expand(60, 8)) for row in groupings.partitions(8, 2)]
    allowed = torch.stack([torch.where(one.asymmetry_B < 0.3, one.mass_B, torch.inf) for one in every]).amin(0)
    assert torch.allclose(groupings.minimum_group_mass(p4, mask), allowed)
