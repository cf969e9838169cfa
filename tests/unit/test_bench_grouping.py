"""The groups that are benchmarked are those of the published head, event by event."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from jetscale.bench import direct
from jetscale.bench.grouping import CASES, passes, two_of_five
from jetscale.cli import main
from jetscale.physics.classical import asymmetry_8, asymmetry_12

STORED = Path(__file__).parents[1] / "reference" / "grouping.json"


def pairs_of(assigned: Tensor) -> list[set[frozenset[int]]]:
    return [{frozenset(np.flatnonzero(row == group).tolist()) for group in (1, 2)} for row in assigned.numpy()]


def sets(pairs: np.ndarray) -> list[set[frozenset[int]]]:
    return [{frozenset(row[:2]), frozenset(row[2:])} for row in pairs.tolist()]


@pytest.mark.reference
def test_all_ways_give_the_stored_groups() -> None:
    stored = json.loads(STORED.read_text())
    jets, want = np.array([one["jets"] for one in stored]), sets(np.array([one["pairs"] for one in stored]))
    assert len(want) == 100 and len({str(sorted(map(sorted, one))) for one in want}) > 10
    assert sets(direct.by_event(jets)) == want
    assert sets(direct.by_batch(torch.from_numpy(jets)).numpy()) == want
    assert pairs_of(two_of_five(torch.from_numpy(jets))) == want


def test_all_ways_agree_on_other_events() -> None:
    jets = direct.made_up(1000, 5, seed=3)
    want = sets(direct.by_event(jets))
    assert pairs_of(two_of_five(torch.from_numpy(jets))) == want
    assert sets(direct.by_batch(torch.from_numpy(jets)).numpy()) == want


def test_pairs_that_share_no_jet_are_fifteen() -> None:
    assert len(direct.PAIRS) == 10 and len(direct.COMBINATIONS) == 15


def test_the_script_writes_its_numbers_again(tmp_path: Path) -> None:
    direct.main(str(tmp_path / "again.json"), events=30, seed=5)
    assert len(json.loads((tmp_path / "again.json").read_text())) == 30


def test_made_up_jets_have_two_heavy_parents() -> None:
    for jets in (5, 8, 12):
        p4 = direct.made_up(200, jets)
        assert p4.shape == (200, jets, 4) and np.isfinite(p4).all() and (p4[..., 0] > 0).all()
        half = p4[:, : jets // 2].sum(1)
        mass = np.sqrt(half[:, 0] ** 2 - (half[:, 1:] ** 2).sum(-1))
        assert 900 < np.median(mass) < 1100


def test_every_side_has_its_turn_there_and_back() -> None:
    rounds = passes(1000)
    next(rounds)
    assert [next(rounds) for _ in range(2 * len(CASES))] == [*CASES, *reversed(CASES)]


def test_all_of_twelve_and_eight_jets_are_looked_at() -> None:
    real = torch.ones(50, 12, dtype=torch.bool)
    p4 = torch.from_numpy(direct.made_up(50, 12))
    assert (asymmetry_12(p4, real) > 0).float().mean() > 0.9
    assert ((asymmetry_8(p4, real) > 0).sum(1) == 8).all()


def test_the_command_says_every_side_and_its_target(tmp_path: Path) -> None:
    assert main(["bench", "grouping", "--events", "1000", "--rounds", "1", "--out", str(tmp_path / "g.json")]) == 0
    found = json.loads((tmp_path / "g.json").read_text())
    assert [one["at_least"] for one in found["figures"]][:3] == [50.0, None, None]
    assert set(found["rounds"]) == set(CASES)
    rate = {one["name"]: one["median"] for one in found["figures"] if one["unit"] == "events/CPU-s"}
    assert found["figures"][1]["median"] == pytest.approx(rate["ours"] / rate["direct, batches of 8192"])
