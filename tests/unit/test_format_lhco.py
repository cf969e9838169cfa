"""The events of the LHC Olympics become events of jets, and what is odd in them is counted or named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from jetscale.data.formats import lhco
from jetscale.data.ingest.ingest import ingest
from jetscale.data.ingest.job import load
from jetscale.errors import ConfigError, GenerateError, JetscaleError
from jetscale.events import Events
from jetscale.physics.toy_jets import jets
from jetscale.schema import EVENT_ID, WEIGHT, check

pandas = pytest.importorskip("pandas")
pytest.importorskip("tables")
fastjet = pytest.importorskip("fastjet")

SLOTS, EVENTS = 700, 30
FEATURES = [f"{name}j{jet}" for jet in (1, 2) for name in ("px", "py", "pz", "m", "tau1", "tau2", "tau3")]


@pytest.fixture
def particles() -> np.ndarray:
    """Thirty events (30, 700, 3) of two jets of particles each, the second jet opposite to the first."""
    columns = jets(2 * EVENTS, ("qcd", "w"), np.random.default_rng(3))
    found = np.zeros((EVENTS, SLOTS, 3))
    for row in range(EVENTS):
        both = [np.stack([columns[f"particle_{name}"][2 * row + jet].values for name in ("pt", "eta", "phi")], axis=1)
                for jet in (0, 1)]  # fmt: skip
        axis = columns["jet_phi"].to_numpy()[2 * row : 2 * row + 2]
        both[1][:, 2] += axis[0] + np.pi - axis[1]
        event = np.concatenate(both)
        event[:, 2] = np.arctan2(np.sin(event[:, 2]), np.cos(event[:, 2]))
        found[row, : len(event)] = event[np.argsort(-event[:, 0])]
    return found


def write(file: Path, particles: np.ndarray, label: np.ndarray | None = None, **settings: object) -> Path:
    """As the organisers did."""
    flat = particles.reshape(len(particles), -1)
    flat = flat if label is None else np.concatenate([flat, label[:, None]], axis=1)
    pandas.DataFrame(flat).to_hdf(file, key="df", mode="w", **{"complib": "blosc", "complevel": 9, **settings})
    return file


def features(n: int) -> pandas.DataFrame:
    """Two jets per event, of which the second is harder in every other one."""
    dice = np.random.default_rng(5)
    numbers = {name: dice.uniform(0.1, 0.9, n) for name in FEATURES}
    for jet in (1, 2):
        pt, phi = 1200 + 100 * ((np.arange(n) + jet) % 2), dice.uniform(-3, 3, n)
        numbers |= {f"pxj{jet}": pt * np.cos(phi), f"pyj{jet}": pt * np.sin(phi), f"pzj{jet}": dice.normal(0, 900, n),
                    f"mj{jet}": dice.uniform(50, 500, n)}  # fmt: skip
    return pandas.DataFrame({**numbers, "label": (np.arange(n) % 3 == 0).astype(float)})


def run(file: Path, out: Path, **given: object) -> Events:
    for _ in ingest(load(None, **{"name": "j", "files": [str(file)], "map": "lhco", **given}), out, here=True):
        pass
    return Events.open(out)


def clustered(event: np.ndarray) -> list[list[float]]:
    """pt, eta, phi and mass of one event's jets by fastjet itself, one particle after another."""
    those = [fastjet.PseudoJet(pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta))
             for pt, eta, phi in event if pt > 0]  # fmt: skip
    sequence = fastjet._swig.ClusterSequence(those, fastjet.JetDefinition(fastjet.antikt_algorithm, 1.0))
    found = sorted(sequence.inclusive_jets(20.0), key=lambda jet: -jet.pt())
    return [[jet.pt(), jet.eta(), jet.phi_std(), max(jet.m(), 0.0), len(jet.constituents())] for jet in found]


@pytest.mark.parametrize("settings", [{}, {"format": "table", "complib": "zlib"}])
def test_particles_become_jets(settings, particles, tmp_path: Path) -> None:
    label = np.arange(EVENTS) % 2
    events = run(write(tmp_path / "events_anomalydetection.h5", particles, label, **settings), tmp_path / "out",
                 events_per_shard=13)  # fmt: skip
    table = events.read()
    check(table, lhco.CLUSTERED.plus(EVENT_ID, WEIGHT), "sample")
    assert events.manifest.made_by["rejected"] == {} and table.num_rows == EVENTS
    assert table["signal"].to_pylist() == label.tolist()
    assert table["true_mass"].to_pylist() == (-label).tolist() == table["decay_mode"].to_pylist()
    names = ("jet_pt", "jet_eta", "jet_phi", "jet_mass", "jet_n_constituent")
    for row, event in enumerate(particles):
        have = np.array([table[name][row].as_py() for name in names]).T
        assert have == pytest.approx(np.array(clustered(event)), rel=1e-4, abs=2e-3)


def test_subjettiness_is_about_subjets(particles, tmp_path: Path) -> None:
    table = run(write(tmp_path / "a.h5", particles), tmp_path / "out").read()
    for row in range(5):
        those = [fastjet.PseudoJet(pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta))
                 for pt, eta, phi in particles[row] if pt > 0]  # fmt: skip
        whole = fastjet._swig.ClusterSequence(those, fastjet.JetDefinition(fastjet.antikt_algorithm, 1.0))
        jet = max(whole.inclusive_jets(20.0), key=lambda one: one.pt())
        inner = fastjet._swig.ClusterSequence(jet.constituents(), fastjet.JetDefinition(fastjet.kt_algorithm, 1.0))
        for n in (1, 2, 3):
            axes = inner.exclusive_jets(n)
            far = sum(one.pt() * min(one.delta_R(axis) for axis in axes) for one in jet.constituents())
            wanted = far / sum(one.pt() for one in jet.constituents())
            assert table[f"jet_tau{n}"][row][0].as_py() == pytest.approx(wanted, rel=1e-4)


def test_black_boxes_have_no_labels(particles, tmp_path: Path) -> None:
    table = run(write(tmp_path / "box.h5", particles), tmp_path / "out").read()
    for name in ("signal", "true_mass", "decay_mode"):
        assert set(table[name].to_pylist()) == {-1}


def test_features_are_two_jets(tmp_path: Path) -> None:
    frame = features(20)
    frame.to_hdf(tmp_path / "f.features.h5", key="df", mode="w")
    table = run(tmp_path / "f.features.h5", tmp_path / "out", events_per_shard=7).read()
    check(table, lhco.JETS.plus(EVENT_ID, WEIGHT), "sample")
    assert table["signal"].to_pylist() == frame["label"].astype(int).tolist()
    for row in range(20):
        for place, jet in enumerate((1, 2) if row % 2 == 0 else (2, 1)):
            px, py, pz = (frame[f"{name}j{jet}"][row] for name in ("px", "py", "pz"))
            wanted = [np.hypot(px, py), np.arcsinh(pz / np.hypot(px, py)), np.arctan2(py, px), frame[f"mj{jet}"][row],
                      *(frame[f"tau{n}j{jet}"][row] for n in (1, 2, 3))]  # fmt: skip
            names = ("jet_pt", "jet_eta", "jet_phi", "jet_mass", "jet_tau1", "jet_tau2", "jet_tau3")
            assert [table[name][row][place].as_py() for name in names] == pytest.approx(wanted, rel=1e-5)


def test_jets_of_nothing_are_none(tmp_path: Path) -> None:
    frame = features(4).drop(columns="label")
    frame.loc[1, FEATURES[7:]] = 0.0
    frame.loc[2, "tau2j1"] = np.nan
    frame.to_hdf(tmp_path / "f.h5", key="df", mode="w")
    events = run(tmp_path / "f.h5", tmp_path / "out")
    table = events.read()
    assert [len(one) for one in table["jet_pt"].to_pylist()] == [2, 1, 2, 2]
    assert -1 in table["jet_tau2"][2].as_py() and set(table["signal"].to_pylist()) == {-1}
    assert sum(events.manifest.made_by["mended"].values()) == 1


def test_odd_events_are_counted(particles, tmp_path: Path) -> None:
    label = np.zeros(EVENTS)
    particles[1], particles[2, 0, 0], particles[3, 1, 1], particles[4, 0, 2] = 0, -5, np.nan, np.inf
    particles[5, 0, 1], label[6], label[7] = 1000, 2, np.nan
    before = run(write(tmp_path / "a.h5", particles[8:], label[8:]), tmp_path / "a").read()
    events = run(write(tmp_path / "odd.h5", particles, label), tmp_path / "out")
    said = dict(events.manifest.made_by)
    assert said["kept"] == EVENTS - 7
    assert said["rejected"] == {"the event has no particles": 1, "the label is none of the format's": 2,
                                "a particle has no finite momentum of positive pt": 4}  # fmt: skip
    assert events.read().slice(1).drop_columns("event_id").equals(before.drop_columns("event_id"))


def test_jets_are_kept_and_their_mass_derived_as_the_map_says(particles, tmp_path: Path) -> None:
    table = run(write(tmp_path / "a.h5", particles), tmp_path / "out", keep={"jet": {"pt": [200, None]}},
                derive={"mjj": {"by": "Mass", "of": "jet", "first": 2}}).read()  # fmt: skip
    assert min(table["jet_pt"].combine_chunks().flatten().to_pylist()) >= 200
    assert table["mjj"].type == pa.float32() and (table["mjj"].to_numpy() > 400).all()


def test_other_files_are_named(particles, tmp_path: Path) -> None:
    frame = features(3)
    frame.drop(columns=["tau3j2", "mj1"]).to_hdf(tmp_path / "less.h5", key="df", mode="w")
    frame.to_hdf(tmp_path / "two.h5", key="df", mode="w")
    frame.to_hdf(tmp_path / "two.h5", key="other")
    pandas.DataFrame(particles[:, :1, :2].reshape(EVENTS, 2)).to_hdf(tmp_path / "odd.h5", key="df", mode="w")
    frame[:0].to_hdf(tmp_path / "none.h5", key="df", mode="w")
    (tmp_path / "text.h5").write_text("0 1 0 1")
    wrong = {
        "less.h5": r"lacks 2 columns: mj1, tau3j2(.|\n)*Zenodo",
        "two.h5": "holds 2 DataFrames, not one: df, other",
        "odd.h5": "has 2 columns, and must have pt, eta and phi",
        "none.h5": "holds no jets",
        "text.h5": "cannot be read as HDF5",
    }
    for number, (file, said) in enumerate(wrong.items()):
        with pytest.raises(JetscaleError, match=said) as problem:
            run(tmp_path / file, tmp_path / f"out{number}")
        assert file in str(problem.value)


def test_a_missing_library_is_named(particles, tmp_path: Path, monkeypatch) -> None:
    def absent() -> None:
        raise GenerateError("fastjet is not installed")

    monkeypatch.setattr(lhco, "fastjet", absent)
    with pytest.raises(JetscaleError, match=r"fastjet is not installed(.|\n)*\.\[mc\](.|\n)*features"):
        run(write(tmp_path / "a.h5", particles), tmp_path / "out")


def test_a_map_cannot_ask_for_more(particles, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, JetscaleError), match=r"map\.energy"):
        run(write(tmp_path / "a.h5", particles), tmp_path / "out", map={"like": "lhco", "energy": "TeV"})
