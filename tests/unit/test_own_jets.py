"""A user's own jets become a sample; events are in test_events.py."""

from pathlib import Path

import awkward as ak
import numpy as np
import pytest

from jetscale.errors import DataError
from jetscale.events import Events
from jetscale.labels import CODES
from jetscale.systems.deepjet import DeepJet
from jetscale.systems.pfn import PFN


def own(**more: object) -> ak.Array:
    jets = {"jet_pt": [600.0, 500.0], "jet_eta": [0.1, -0.2], "jet_phi": [1.0, -1.0], "jet_mass": [170.0, 20.0],
            "jet_label": [CODES["top"], CODES["qcd"]], "particle_pt": [[100.0, 500.0, 3.0], [500.0]],
            "particle_eta": [[0.1, 0.2, 0.3], [0.4]], "particle_phi": [[1.0, 1.1, 1.2], [-1.0]],
            "particle_mass": [[0.0, 0.0, 0.0], [0.0]]}  # fmt: skip
    return ak.Array({**jets, **more})


def test_jets_are_kept_with_particles_in_falling_pt(tmp_path: Path) -> None:
    weights = np.array([[1, 2, 3], [4]], dtype=object).tolist()
    Events.write(own(particle_puppi=weights, jet_tau21=[0.2, 0.7]), tmp_path / "jets", units={"jet_tau21": ""})
    sample = Events.open(tmp_path / "jets")
    table = sample.read()
    assert table["particle_pt"].to_pylist() == [[500.0, 100.0, 3.0], [500.0]]
    assert table["particle_puppi"].to_pylist() == [[2, 1, 3], [4]]
    assert table["jet_tau21"].to_pylist() == [0.2, 0.7]
    assert table["jet_label"].to_pylist() == [CODES["top"], CODES["qcd"]]
    assert "particle_pdg" not in table.column_names and "true_mass" not in table.column_names


@pytest.mark.parametrize("task", [PFN(), DeepJet()])
def test_what_is_written_is_the_toy(task: PFN | DeepJet, tmp_path: Path) -> None:
    toy = task.toy(50, 3)
    Events.write(toy, tmp_path / "toy")
    again = Events.open(tmp_path / "toy").read()
    assert set(toy.column_names) <= set(again.column_names)
    assert all(again[name].equals(toy[name]) for name in toy.column_names)


def test_ids_alone_ask_for_momenta_and_get_charges(tmp_path: Path) -> None:
    Events.write(own(particle_pdg=[[22, 211, 130], [11]]), tmp_path / "jets")
    assert Events.open(tmp_path / "jets").read()["particle_charge"].to_pylist() == [[0, 0, 0], [0]]


@pytest.mark.parametrize(("name", "value", "text"), [
    ("particle_eta", [[0.1], [0.2]], "'particle_eta' does not hold one number per particle"),
    ("particle_pt", [1.0, 2.0], r"'particle_pt' is 2 \* float64, not one list of numbers per jet"),
    ("jet_label", [99.5, 0.0], "'jet_label' cannot become int8"),
    ("tracks", [[1.0, 2.0], [3.0]], "one per jet, or one per particle"),
    ("jet_eta", [np.nan, 0.0], "'jet_eta' has 1 values that are not finite"),
    ("particle_pt", [[100.0, -500.0, 3.0], [500.0]], "'particle_pt' has 1 values outside 0 to inf"),
    ("vertex_mass", [[1.0], []], "'vertex_pt' is missing"),
])  # fmt: skip
def test_what_is_wrong_is_named(name: str, value: object, text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=text):
        Events.write(own(**{name: value}), tmp_path / "jets")
    assert not (tmp_path / "jets" / "_manifest.json").exists()
