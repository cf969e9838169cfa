"""EnergyFlow's archives become samples of jets, and what is odd in them is counted or named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jetscale.data.ingest.ingest import ingest
from jetscale.data.ingest.job import load
from jetscale.errors import JetscaleError
from jetscale.events import Events
from jetscale.labels import CODES
from jetscale.physics.toy_jets import jets
from jetscale.schema import EVENT_ID, JET, JET_LABEL, PARTICLE_IDS, PARTICLES, WEIGHT, check

MASS = {211: 0.13957, 130: 0.497611, 22: 0.0}
EVERY = JET.plus(EVENT_ID, WEIGHT, JET_LABEL, *PARTICLES.columns, *PARTICLE_IDS.columns)


@pytest.fixture
def padded() -> tuple[np.ndarray, np.ndarray, list[dict[str, list[float]]]]:
    """X and y of thirty jets, and the jets that they are made of."""
    columns = jets(30, ("gluon", "quark"), np.random.default_rng(2))
    rows = [{name: columns[name][row].as_py() for name in PARTICLES.plus(*PARTICLE_IDS.columns).names}
            for row in range(30)]  # fmt: skip
    x_BP4 = np.zeros((30, max(len(row["particle_pt"]) for row in rows) + 2, 4))
    for row, one in enumerate(rows):
        pt, eta = np.array(one["particle_pt"]), np.array(one["particle_eta"])
        mass = np.array([MASS[abs(number)] for number in one["particle_pdg"]])
        y = np.arcsinh(pt * np.sinh(eta) / np.hypot(pt, mass))
        x_BP4[row, : len(pt)] = np.stack([pt, y, np.array(one["particle_phi"]) + 2 * np.pi, one["particle_pdg"]], 1)
    return x_BP4, columns["place"].to_numpy().astype(np.float64), rows


def run(file: Path, out: Path, **given: object) -> Events:
    for _ in ingest(load(None, name="j", files=[str(file)], map="energyflow", **given), out, here=True):
        pass
    return Events.open(out)


def write(file: Path, **arrays: np.ndarray) -> Path:
    np.savez_compressed(file, **arrays)
    return file


def test_jets_come_as_they_were_written(padded, tmp_path: Path) -> None:
    x_BP4, y_B, rows = padded
    events = run(write(tmp_path / "QG_jets.npz", X=x_BP4, y=y_B), tmp_path / "out", events_per_shard=11)
    table = events.read()
    check(table, EVERY, "sample")
    assert set(table.column_names) == set(EVERY.names)
    assert events.manifest.made_by["rejected"] == {}
    assert table["jet_label"].to_pylist() == [CODES["quark" if one else "gluon"] for one in y_B]
    for row, one in enumerate(rows):
        order = np.argsort(-np.array(one["particle_pt"]), kind="stable")
        have = table.slice(row, 1).to_pylist()[0]
        for name in ("particle_pt", "particle_eta", "particle_phi", "particle_pdg", "particle_charge"):
            assert have[name] == pytest.approx(np.array(one[name])[order], rel=1e-4, abs=1e-4)
        assert have["particle_mass"] == pytest.approx([MASS[abs(number)] for number in have["particle_pdg"]])


def test_a_jet_is_the_sum_of_its_particles(tmp_path: Path) -> None:
    x_BP4 = np.zeros((2, 3, 4))
    x_BP4[0, :2] = [[30, 0, 0, 22], [40, 0, np.pi / 2, 22]]
    x_BP4[1, 0] = [10, 1.0, 1.0, -2212]
    table = run(write(tmp_path / "two.npz", X=x_BP4, y=np.array([1.0, 0.0])), tmp_path / "out").read()
    assert table["jet_pt"].to_pylist() == pytest.approx([50, 10])
    assert table["jet_mass"].to_pylist() == pytest.approx([np.sqrt(70**2 - 50**2), 0.938272], rel=1e-5)
    assert table["particle_charge"].to_pylist() == [[0, 0], [-1]]
    assert table["jet_eta"][1].as_py() == pytest.approx(np.arcsinh(np.hypot(10, 0.938272) * np.sinh(1) / 10))


def test_odd_jets_are_counted(padded, tmp_path: Path) -> None:
    x_BP4, y_B, _ = padded
    x_BP4[1], x_BP4[2, 0, 3], y_B[3], x_BP4[4, 0, 0], x_BP4[5, 0, 0] = 0, 999, 2, np.nan, -1
    said = run(write(tmp_path / "odd.npz", X=x_BP4, y=y_B), tmp_path / "out").manifest.made_by
    assert said["rejected"] == {
        "the jet has no particles": 1, "a particle has an unknown PDG id": 1, "the label is none of the format's": 1,
        "jet_pt is not finite": 1, "particle_pt is not in [0, inf)": 1,
    }  # fmt: skip
    assert said["kept"] == 25


WRONG = {
    "three numbers": ({"X": np.zeros((3, 5, 3)), "y": np.zeros(3)}, r"'X' is \(3, 5, 3\)"),
    "few labels": ({"X": np.zeros((3, 5, 4)), "y": np.zeros(2)}, r"'y' is \(2,\)"),
    "no labels": ({"X": np.zeros((3, 5, 4))}, r"has no array 'y'"),
    "no jets": ({"X": np.zeros((0, 5, 4)), "y": np.zeros(0)}, r"holds no jets"),
}


@pytest.mark.parametrize("name", WRONG)
def test_other_arrays_are_named(name: str, tmp_path: Path) -> None:
    arrays, said = WRONG[name]
    with pytest.raises(JetscaleError, match=said) as problem:
        run(write(tmp_path / "wrong.npz", **arrays), tmp_path / "out")
    assert "wrong.npz" in str(problem.value)
