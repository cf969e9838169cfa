"""JetClass files become samples of jets, and what is odd in them is counted or named."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from jetscale.data.ingest.ingest import ingest
from jetscale.data.ingest.job import load
from jetscale.errors import ConfigError, JetscaleError
from jetscale.events import Events
from jetscale.labels import CODES
from jetscale.physics.toy_jets import jets
from jetscale.schema import EVENT_ID, IMPACT, JET, JET_LABEL, PARTICLE_IDS, PARTICLES, WEIGHT, check

NAMES = {"QCD": "qcd", "Hbb": "h_bb", "Hcc": "h_cc", "Hgg": "h_gg", "H4q": "h_4q", "Hqql": "h_lepton", "Zqq": "z",
         "Wqq": "w", "Tbqq": "top", "Tbl": "top_lepton"}  # fmt: skip
KINDS = {"ChargedHadron": 211, "NeutralHadron": 130, "Photon": 22, "Electron": 11, "Muon": 13}
EVERY = JET.plus(EVENT_ID, WEIGHT, JET_LABEL, *PARTICLES.columns, *PARTICLE_IDS.columns, *IMPACT.columns)


@pytest.fixture
def toys() -> dict[str, ak.Array]:
    """Forty jets, four of each label, with an electron, a positron and both muons in the first."""
    columns = jets(40, tuple(NAMES.values()), np.random.default_rng(1))
    made = {name: ak.Array(one.to_pylist()) for name, one in columns.items()}
    pdg = made["particle_pdg"].to_list()
    pdg[0][:4] = [11, -11, 13, -13]
    charge = made["particle_charge"].to_list()
    charge[0][:4] = [-1, 1, -1, 1]
    return made | {"particle_pdg": ak.Array(pdg), "particle_charge": ak.Array(charge)}


def branches(toys: dict[str, ak.Array]) -> dict[str, ak.Array]:
    """The same as the branches of JetClass."""
    pt, eta, phi, mass = (toys[f"particle_{name}"] for name in ("pt", "eta", "phi", "mass"))
    kinds = {f"part_is{name}": abs(toys["particle_pdg"]) == number for name, number in KINDS.items()}
    tracks = {"d0val": "d0", "d0err": "d0_error", "dzval": "dz", "dzerr": "dz_error"}
    lists = {
        "part_px": pt * np.cos(phi), "part_py": pt * np.sin(phi), "part_pz": pt * np.sinh(eta),
        "part_energy": np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2), "part_charge": toys["particle_charge"],
        **{f"part_{name}": toys[f"particle_{ours}"] for name, ours in tracks.items()}, **kinds,
    }  # fmt: skip
    energy = np.sqrt((toys["jet_pt"] * np.cosh(toys["jet_eta"])) ** 2 + toys["jet_mass"] ** 2)
    labels = {f"label_{name}": (toys["place"] == place) for place, name in enumerate(NAMES)}
    flat = {**{f"jet_{name}": toys[f"jet_{name}"] for name in ("pt", "eta", "phi")}, "jet_energy": energy, **labels}
    return {name: ak.values_astype(one, np.float32) for name, one in {**flat, **lists}.items()}


def write(file: Path, content: dict[str, ak.Array]) -> Path:
    with uproot.recreate(file) as root:
        root.mktree("tree", {name: ("var * float32" if one.ndim == 2 else "float32") for name, one in content.items()})
        root["tree"].extend(content)
    return file


def run(file: Path, out: Path, **given: object) -> Events:
    for _ in ingest(load(None, name="j", files=[str(file)], map="jetclass", **given), out, here=True):
        pass
    return Events.open(out)


def test_jets_come_as_they_were_written(toys: dict[str, ak.Array], tmp_path: Path) -> None:
    events = run(write(tmp_path / "HToBB_000.root", branches(toys)), tmp_path / "out", events_per_shard=13)
    table = events.read()
    check(table, EVERY, "sample")
    assert events.manifest.made_by["rejected"] == {}
    assert set(table.column_names) == set(EVERY.names)
    for name in ("jet_pt", "jet_eta", "jet_phi", "jet_mass"):
        assert table[name].to_numpy() == pytest.approx(toys[name].to_numpy(), rel=1e-3, abs=0.05)
    wanted = [CODES[list(NAMES.values())[place]] for place in toys["place"]]
    assert table["jet_label"].to_pylist() == wanted
    order = ak.argsort(toys["particle_pt"], ascending=False)
    for column in (*PARTICLES.columns, *PARTICLE_IDS.columns, *IMPACT.columns):
        if column.name != "particle_mass":
            have = np.concatenate([np.asarray(row) for row in table[column.name].to_pylist()])
            assert have == pytest.approx(ak.flatten(toys[column.name][order]).to_numpy(), rel=1e-4, abs=1e-5)


def test_odd_jets_are_counted(toys: dict[str, ak.Array], tmp_path: Path) -> None:
    content = branches(toys)
    lists = {name: one.to_list() for name, one in content.items()}
    for name in [name for name in lists if name.startswith("part_")]:
        lists[name][3] = []
    lists["part_px"][4][0] = float("nan")
    lists["part_energy"][5][0] = -1.0
    lists["label_QCD"][6], lists["label_Hbb"][6] = 1.0, 1.0
    lists["part_isPhoton"][7][0], lists["part_isMuon"][7][0] = 1.0, 1.0
    lists["jet_pt"][8] = float("inf")
    odd = {name: ak.values_astype(ak.Array(one), np.float32) for name, one in lists.items()}
    said = run(write(tmp_path / "odd.root", odd), tmp_path / "out").manifest.made_by
    assert said["rejected"] == {
        "the jet has no particles": 1, "a particle has negative energy": 1, "the label is none of the format's": 1,
        "a particle's kinds and charge contradict each other": 1, "jet_pt is not finite": 1,
        "particle_pt is not finite": 1,
    }  # fmt: skip
    assert said["kept"] == 34


def test_energies_below_the_momentum_are_counted(toys: dict[str, ak.Array], tmp_path: Path) -> None:
    content = branches(toys)
    energy = content["part_energy"].to_list()
    for row, share in ((3, 0.2), (4, 0.99), (5, 0.0)):
        energy[row][0] *= share
    content["part_energy"] = ak.values_astype(ak.Array(energy), np.float32)
    events = run(write(tmp_path / "low.root", content), tmp_path / "out")
    assert events.manifest.made_by["rejected"] == {"particle_mass is not in [0, inf)": 3}
    assert events.manifest.made_by["kept"] == 37


def test_masses_of_nothing_may_be_rounded(toys: dict[str, ak.Array], tmp_path: Path) -> None:
    """Momenta at all angles, rounded as pt, eta, phi and energy, and again as px, py, pz."""
    draws, lengths = np.random.default_rng(2), ak.num(toys["particle_pt"])
    pt, eta, phi = (draws.uniform(*ends, int(ak.sum(lengths))) for ends in ((0.1, 900), (-5, 5), (-np.pi, np.pi)))
    energy = pt * np.cosh(eta)
    pt, eta, phi = (values.astype(np.float32).astype(float) for values in (pt, eta, phi))
    rounded = {"px": pt * np.cos(phi), "py": pt * np.sin(phi), "pz": pt * np.sinh(eta), "energy": energy}
    content = branches(toys)
    for name, values in rounded.items():
        content[f"part_{name}"] = ak.unflatten(values.astype(np.float32), lengths)
    events = run(write(tmp_path / "light.root", content), tmp_path / "out")
    assert events.manifest.made_by["rejected"] == {}
    mass = np.concatenate([np.asarray(row) for row in events.read()["particle_mass"].to_pylist()])
    assert (mass == 0).any() and (mass >= 0).all()


def test_a_missing_branch_is_named(toys: dict[str, ak.Array], tmp_path: Path) -> None:
    content = branches(toys)
    content["part_dzvalue"] = content.pop("part_dzval")
    with pytest.raises(JetscaleError, match=r"has no branch 'part_dzval'(.|\n)*part_dzvalue"):
        run(write(tmp_path / "other.root", content), tmp_path / "out")


def test_lists_that_differ_in_length_are_named(toys: dict[str, ak.Array], tmp_path: Path) -> None:
    content = branches(toys)
    content["part_charge"] = content["part_charge"][:, 1:]
    with pytest.raises(JetscaleError, match=r"part_charge"):
        run(write(tmp_path / "short.root", content), tmp_path / "out")


def test_a_map_cannot_ask_for_more(toys: dict[str, ak.Array], tmp_path: Path) -> None:
    file = write(tmp_path / "a.root", branches(toys))
    with pytest.raises((ConfigError, JetscaleError), match=r"map\.energy"):
        for _ in ingest(load(None, name="j", files=[str(file)], map={"like": "jetclass", "energy": "MeV"}),
                        tmp_path / "out", here=True):  # fmt: skip
            pass
