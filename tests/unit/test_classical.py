"""Classical methods against plain loops over every assignment of small events, and their symmetries."""

from collections.abc import Iterator
from itertools import combinations, product
from math import comb

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import boosted, events, masses, rotated
from torch import Tensor

from jetscale.errors import ConfigError
from jetscale.physics import classical, groupings, kinematics
from jetscale.physics.groupings import SAME

SEED = st.integers(0, 2**31)
ALL = classical.names()
Labels = tuple[int, ...]


def of(jets: list[Tensor], labels: Labels, group: int) -> list[Tensor]:
    return [jet for jet, label in zip(jets, labels, strict=True) if label == group]


def mass(jets: list[Tensor]) -> float:
    return float(kinematics.mass(torch.stack(jets).sum(0)))


def labellings(count: int, smallest: int, most_none: int) -> Iterator[Labels]:
    """Every way to label jets 0, 1, 2, the first that is not 0 being 1."""
    for labels in product((0, 1, 2), repeat=count):
        named = [label for label in labels if label]
        sizes = named.count(1), named.count(2)
        if named[:1] == [1] and min(sizes) >= smallest and labels.count(0) <= most_none:
            yield labels


def slow_asymmetry(jets: list[Tensor], smallest: int, most_none: int) -> Labels:
    """One event, jet by jet, no shortcuts: least score, then fewest left out, then heaviest."""
    found = []
    for labels in labellings(len(jets), min(smallest, len(jets) // 2), most_none):
        one, two = mass(of(jets, labels, 1)), mass(of(jets, labels, 2))
        score = abs(one - two) / (one + two) + 0.05 * labels.count(0)
        found.append((score, labels.count(0), -(one + two), labels))
    least = min(score for score, *_ in found)
    return min(one[1:] for one in found if one[0] < least + SAME)[-1]


def slow_delta_r(jets: list[Tensor]) -> Labels:
    def score(labels: Labels) -> float:
        total = 0.0
        for group in (1, 2):
            pairs = [kinematics.delta_r(a, b).item() for a, b in combinations(of(jets, labels, group), 2)]
            total += abs(sum(pairs) / len(pairs) - 1) if pairs else 1
        return total

    return min(labellings(len(jets), len(jets) // 2, 0), key=score)


def slow_hemispheres(jets: list[Tensor]) -> Labels:
    def lund(axis: Tensor, jet: Tensor) -> float:
        cosine = axis[1:] @ jet[1:] / axis[1:].norm() / jet[1:].norm()
        return float((axis[0] - axis[1:].norm() * cosine) * axis[0] / (axis[0] + jet[0]) ** 2)

    axes = list(max(combinations(jets, 2), key=lambda pair: mass(list(pair))))
    labels: Labels = ()
    for _ in range(classical.MOST_ROUNDS):
        new = tuple(1 if lund(axes[0], jet) <= lund(axes[1], jet) else 2 for jet in jets)
        if new == labels or len(set(new)) == 1:
            break
        labels = new
        axes = [torch.stack(of(jets, labels, group)).sum(0) for group in (1, 2)]
    return labels if labels[0] == 1 else tuple(3 - label for label in labels)


SLOW = {
    "asymmetry_6": lambda jets: slow_asymmetry(jets[:6], 3, 0),
    "asymmetry_8": lambda jets: slow_asymmetry(jets[:8], 3, 0),
    "asymmetry_12": lambda jets: slow_asymmetry(jets[:12], 2, 12),
    "delta_r": lambda jets: slow_delta_r(jets[:6]),
    "hemispheres": slow_hemispheres,
}


def test_the_methods_are_those_of_the_module() -> None:
    assert tuple(SLOW) == ALL
    assert classical.find("delta_r") is classical.delta_r
    with pytest.raises(ConfigError, match=r"hemisphere: no such classical method(.|\n)*did you mean 'hemispheres'"):
        classical.find("hemisphere")


@pytest.mark.parametrize("name", ALL)
def test_a_plain_loop_over_all_assignments_gives_the_same(name: str) -> None:
    p4, mask = events(7, n_event=30, n_jet=8 if name == "asymmetry_8" else 7, fewest=2)
    found = classical.find(name)(p4, mask)
    for jets, real, labels in zip(p4, mask, found, strict=True):
        want = SLOW[name](list(jets[real]))
        assert tuple(labels.tolist()) == want + (0,) * (len(labels) - len(want))


def few_good_splits(jets: int, n: int) -> tuple[Tensor, Tensor]:
    """One hard jet and soft ones: no split of all is balanced, so that many are better left out."""
    p4, mask = events(11, n_event=n, n_jet=jets, fewest=jets)
    p4[:, 0] = kinematics.p4(*(torch.tensor(number, dtype=torch.float64) for number in (3000.0, 0.1, 0.2, 900.0)))
    return p4, mask


def test_jets_are_left_out_where_that_is_worth_its_cost() -> None:
    p4, mask = few_good_splits(7, 20)
    found = classical.asymmetry_12(p4, mask)
    assert ((found == 0).sum(1) > 0).any() and ((found == 0).sum(1) < 4).all()
    for jets, labels in zip(p4, found, strict=True):
        assert tuple(labels.tolist()) == slow_asymmetry(list(jets), 2, 12)


def test_nothing_is_left_untried() -> None:
    p4, mask = few_good_splits(10, 2)
    least = []
    for none in range(7):
        member = (groupings.subset_pairs(10, 2, none)[..., None] >> torch.arange(10)) & 1
        one, two = (kinematics.mass(torch.einsum("cj,bjx->bcx", member[:, group].double(), p4)) for group in (0, 1))
        least.append(((one - two).abs() / (one + two)).amin(1) + 0.05 * none)
    found = classical.asymmetry_12(p4, mask)
    best = torch.stack(least).amin(0)
    assert torch.allclose(masses(p4, found)[1] + 0.05 * (found == 0).sum(1), best, atol=1e-9)


def test_twelve_jets_have_so_many_assignments() -> None:
    sizes = [len(groupings.subset_pairs(12, 2, none)) for none in range(9)]
    assert sizes == [
        comb(12, none) * sum(comb(12 - none, one) for one in range(2, 11 - none)) // 2 for none in range(9)
    ]
    assert sum(sizes) == 237_127


def test_equal_asymmetries_go_to_most_jets_and_then_to_the_heaviest() -> None:
    """Pairs that are copies of each other, turned about the beam, weigh the same however they are put together."""
    pt = torch.tensor([[300.0, 300.0, 300.0, 300.0]], dtype=torch.float64)
    phi = torch.tensor([[0.0, 1.0, 3.0, 4.0]], dtype=torch.float64)
    p4, mask = kinematics.p4(pt, 0 * pt, phi, 0 * pt), torch.ones(1, 4, dtype=torch.bool)
    # 1 rad and 1 rad, 3 and 3, 4 and 2: the second split is as balanced as the first and heavier
    assert classical.asymmetry_12(p4, mask).tolist() == [[1, 2, 1, 2]]
    collinear = p4[:, :1].expand(1, 12, 4)
    assert (classical.asymmetry_12(collinear, torch.ones(1, 12, dtype=torch.bool)) > 0).all()


@pytest.mark.parametrize("name", ALL)
def test_odd_events_and_dirty_padding(name: str) -> None:
    p4, mask = events(3, n_event=40, n_jet=14)
    found = classical.find(name)(torch.where(mask[..., None], p4, torch.nan), mask)
    assert found.dtype == torch.int64
    assert torch.equal(found, classical.find(name)(p4, mask))
    assert (found[~mask] == 0).all() and (found[mask.sum(1) < 2] == 0).all()
    assert ((found == 1).any(1) & (found == 2).any(1))[mask.sum(1) >= 2].all()
    for shape in ((0, 6), (3, 0), (3, 1)):
        nothing = classical.find(name)(torch.zeros(*shape, 4), torch.ones(shape, dtype=torch.bool))
        assert nothing.tolist() == torch.zeros(shape).tolist()
    zeros = classical.find(name)(torch.zeros(2, 6, 4), torch.ones(2, 6, dtype=torch.bool))
    assert ((zeros >= 0) & (zeros <= 2)).all()


@pytest.mark.parametrize("name", ALL)
@given(SEED, st.floats(-3, 3), st.floats(0.1, 10))
@settings(max_examples=5)
def test_order_rotation_and_scale_change_nothing(name: str, seed: int, angle: float, scale: float) -> None:
    p4, mask = events(seed, n_jet=12)
    found = classical.find(name)(p4, mask)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(classical.find(name)(p4[:, order], mask[:, order]), found[:, order])
    assert torch.equal(classical.find(name)(scale * rotated(p4, angle), mask), found)


@pytest.mark.parametrize("name", [name for name in ALL if name.startswith("asymmetry")])
@given(SEED, st.floats(-2, 2))
@settings(max_examples=8)
def test_a_boost_along_the_beam_changes_no_asymmetry(name: str, seed: int, rapidity: float) -> None:
    p4, mask = events(seed, n_jet=10)
    assert torch.equal(classical.find(name)(boosted(p4, rapidity), mask), classical.find(name)(p4, mask))


def test_all_subsets_weigh_what_their_sums_weigh() -> None:
    p4, _ = events(2, n_event=6, n_jet=9, fewest=9)
    member = (torch.arange(2**9)[:, None] >> torch.arange(9)) & 1
    want = kinematics.mass(torch.einsum("sj,bjx->sbx", member.double(), p4))
    assert torch.allclose(groupings.subset_masses(p4), want, rtol=1e-9, atol=1e-5)


@pytest.mark.parametrize("none", range(4))
def test_subset_pairs_are_all_splits_once(none: int) -> None:
    want = {labels for labels in labellings(7, 2, none) if labels.count(0) == none}
    bit = 2 ** torch.arange(7)
    codes = {tuple(sum(bit[j].item() for j in range(7) if labels[j] == group) for group in (1, 2)) for labels in want}
    pairs = groupings.subset_pairs(7, 2, none)
    assert len(pairs) == len(codes) and {tuple(row) for row in pairs.tolist()} == codes
