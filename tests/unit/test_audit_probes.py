"""Probes do to events what they say, and a function's violation is what a plain evaluation gives."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from jetscale.audit.bank import BEYOND, bank, off_grid
from jetscale.audit.jets import check_jets, counts, ht, jet_columns, vectors
from jetscale.audit.probes import moved, names, violation
from jetscale.errors import ConfigError, DataError
from jetscale.events import Events
from jetscale.physics.decays import boost
from jetscale.physics.kinematics import mass


@pytest.fixture(scope="module")
def toys() -> pa.Table:
    return bank(off_grid((900.0, 1700.0)), 400, 1)


def test_the_bank_is_off_the_grid_and_scales_with_the_mass() -> None:
    masses = off_grid((900.0, 1300.0, 1700.0))
    assert masses[0] == pytest.approx(900 * (1 - BEYOND))
    assert masses[-1] == pytest.approx(1700 * (1 + BEYOND))
    assert min(abs(masses / known - 1).min() for known in (900, 1300, 1700)) > 0.009
    light, heavy = (bank([size], 3000, 2) for size in (500.0, 2000.0))
    assert ht(heavy) == pytest.approx(4 * ht(light), rel=1e-4)
    assert set(light["decay_mode"].to_pylist()) == {2, 3, 4, 5}


def test_true_groups_of_the_bank_have_their_mass() -> None:
    events = bank([1000.0], 2000, 3)
    vectors_BJ4, mask_BJ = vectors(events)
    label_BJ = torch.zeros(mask_BJ.shape, dtype=torch.int64)
    label_BJ[mask_BJ] = torch.tensor(np.concatenate(events["jet_parent_quark"].to_pylist())).long()
    for group in (1, 2):
        found_B = mass((vectors_BJ4 * (label_BJ == group)[..., None]).sum(1))
        assert found_B.median().item() == pytest.approx(1000, rel=0.03)
    spread = bank([1000.0], 2000, 3, off_shell=0.2)
    assert not spread["jet_pt"].equals(events["jet_pt"])
    assert bank([1000.0], 2000, 3).equals(events)


@pytest.mark.parametrize("probe", names())
def test_a_probe_is_a_function_of_its_seed_and_keeps_the_rest(toys: pa.Table, probe: str) -> None:
    change = moved(probe, toys, 5)
    assert change.table.schema == toys.schema
    assert change.table.equals(moved(probe, toys, 5).table)
    assert not change.table.equals(toys)
    assert counts(change.table).tolist() == counts(toys).tolist()
    for name in ("event_id", "true_mass", "weight"):
        assert change.table[name].equals(toys[name])


def test_jets_are_moved_whole_and_within_their_event(toys: pa.Table) -> None:
    after = moved("permutation", toys, 1).table
    for before_event, after_event in zip(*(table.select(jet_columns(toys)).to_pylist() for table in (toys, after)),
                                         strict=True):  # fmt: skip
        jets = [sorted(zip(*event.values(), strict=True)) for event in (before_event, after_event)]
        assert jets[0] == jets[1]


def test_a_boost_is_that_of_four_vectors() -> None:
    sample = Events.open("shipped:gluino-1100").read().slice(0, 200)
    change = moved("boost", sample, 2)
    before_BJ4, _ = vectors(sample)
    after_BJ4, _ = vectors(change.table)
    first = after_BJ4[:, 0]
    # The rapidity of the first jet says by how much the event was boosted.
    shift_B = (torch.atanh(first[:, 3] / first[:, 0]) - torch.atanh(before_BJ4[:, 0, 3] / before_BJ4[:, 0, 0])).numpy()
    beta_B3 = np.stack([np.zeros_like(shift_B), np.zeros_like(shift_B), np.tanh(shift_B)], -1)
    wanted = boost(before_BJ4.numpy(), beta_B3)
    assert np.abs(shift_B).max() < 0.51
    assert np.abs(shift_B).std() > 0.1
    assert after_BJ4.numpy() == pytest.approx(wanted, rel=1e-4, abs=0.02)


def test_masses_of_events_follow_every_probe(toys: pa.Table) -> None:
    whole_B = mass(vectors(toys)[0].sum(1)).numpy()
    for probe in names():
        change = moved(probe, toys, 3)
        assert mass(vectors(change.table)[0].sum(1)).numpy() == pytest.approx(change.factor_B * whole_B, rel=1e-4)
    factor_B = moved("scale", toys, 3).factor_B
    assert (factor_B.min(), factor_B.max()) == pytest.approx((0.5, 2.0), rel=0.05)


def test_a_violation_is_the_mean_change_over_the_spread_with_its_error() -> None:
    dice = np.random.default_rng(1)
    before, after, factor = dice.normal(500, 30, 1000), dice.normal(500, 30, 1000), dice.uniform(0.5, 2, 1000)
    found = violation(before, after, factor)
    assert found.value == pytest.approx(np.abs(after - factor * before).mean() / before.std())
    many = [violation(*dice.normal(0, 1, (2, 500)), np.ones(500), replicas=2).value for _ in range(100)]
    assert np.mean(many) == pytest.approx(2 / np.sqrt(np.pi), rel=0.02)
    assert violation(*dice.normal(0, 1, (2, 500)), np.ones(500)).error == pytest.approx(np.std(many), rel=0.3)


def test_constants_break_the_scale_and_nothing_else() -> None:
    same = np.full(100, 700.0)
    assert violation(same, same, np.ones(100)) == (0.0, 0.0)
    assert violation(same, same, np.full(100, 2.0)).value > 1e6


def test_what_cannot_be_probed() -> None:
    with pytest.raises(ConfigError, match="rotation"):
        moved("rotations", bank([500.0], 10, 1), 1)
    with pytest.raises(DataError, match="jet_mass"):
        check_jets(pa.table({"jet_pt": [[1.0]], "jet_eta": [[1.0]], "jet_phi": [[1.0]]}), "mine")
    with pytest.raises(DataError, match="no events"):
        check_jets(bank([500.0], 10, 1).slice(0, 0), "mine")
