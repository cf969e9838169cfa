"""Jets of CMS NanoAOD with particle-flow candidates become a sample, and what is odd in them is counted or named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from jetscale.bench.nanoaod import nanoaod
from jetscale.data.formats import baskets
from jetscale.data.ingest.ingest import ingest
from jetscale.data.ingest.job import load
from jetscale.errors import ConfigError, JetscaleError
from jetscale.events import Events
from jetscale.labels import CODES
from jetscale.physics.toy_jets import jets
from jetscale.schema import EVENT_ID, IMPACT, JET, JET_LABEL, PARTICLE_IDS, PARTICLES, WEIGHT, check

EVERY = JET.plus(EVENT_ID, WEIGHT, JET_LABEL, *PARTICLES.columns, *PARTICLE_IDS.columns, *IMPACT.columns)
JETS = (2, 0, 1, 3, 0, 1, 2, 3, 0)  # of each event
MEMBERS = ("pt", "eta", "phi", "mass", "pdg", "charge", "d0", "d0_error", "dz", "dz_error")
CMS = dict(zip(MEMBERS, ("pt", "eta", "phi", "mass", "pdgId", "charge", "d0", "d0Err", "dz", "dzErr"), strict=True))


@pytest.fixture
def toys() -> list[dict[str, Any]]:
    """Twelve jets, with particles of every kind that CMS has in the first."""
    columns = jets(sum(JETS), ("qcd", "top"), np.random.default_rng(1))
    made = [{name: one[row].as_py() for name, one in columns.items()} for row in range(sum(JETS))]
    first = made[0]
    first["particle_pdg"][:6], first["particle_charge"][:6] = [11, -11, 13, -13, 22, 130], [-1, 1, -1, 1, 0, 0]
    return made


def events(toys: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """The branches of the file: candidates in no order, some of which are in no jet."""
    dice, rows = np.random.default_rng(2), iter(toys)
    found: dict[str, list[Any]] = {name: [] for name in ("FatJet", "PFCands", "FatJetPFCands")}
    for count in JETS:
        those = [next(rows) for _ in range(count)]
        candidates = [(place, {name: jet[f"particle_{name}"][n] for name in MEMBERS})
                      for place, jet in enumerate(those) for n in range(len(jet["particle_pt"]))]  # fmt: skip
        stray = {**dict.fromkeys(MEMBERS, 1.0), "pdg": 211, "charge": 1}
        candidates += [(None, stray), (-1, stray)]
        order = dice.permutation(len(candidates))
        found["PFCands"].append([cms(candidates[place][1]) for place in order])
        links = [{"jetIdx": candidates[place][0], "pFCandsIdx": at} for at, place in enumerate(order)]
        links = [one for one in links if one["jetIdx"] is not None]
        found["FatJetPFCands"].append([links[place] for place in dice.permutation(len(links))])
        found["FatJet"].append([{name: jet[f"jet_{name}"] for name in ("pt", "eta", "phi", "mass")} | {"tau1": 0.5}
                                for jet in those])  # fmt: skip
    return found


def cms(one: dict[str, float]) -> dict[str, float]:
    """In centimetres, with -1 where there is no track, and 1 or 2 for what is far forward."""
    made = {CMS[name]: value for name, value in one.items()}
    for name in ("d0", "d0Err", "dz", "dzErr"):
        made[name] = made[name] / 10 if one["charge"] else -1.0
    if one["pdg"] in (130, 22) and one["pt"] < 5:
        made["pdgId"] = 1 if one["pdg"] == 130 else 2
    return made


def write(file: Path, content: dict[str, list[Any]], ntuple: bool = False) -> Path:
    """As a tree has them: counters, and a branch of every number; with an account of the weights. Or as an RNTuple."""
    records = {}
    for name, lists in content.items():
        array = ak.Array(lists)
        kinds = {
            one: np.int32 if one.endswith(("Idx", "Mother", "Id", "charge")) else np.float32 for one in array.fields
        }
        records[name] = ak.zip({one: ak.values_astype(array[one], kind) for one, kind in kinds.items()})
    flat = {"event": np.arange(len(JETS), dtype=np.uint64) + 100, "run": np.ones(len(JETS), dtype=np.uint32),
            "genWeight": np.linspace(1, 2, len(JETS)).astype(np.float32)}  # fmt: skip
    with uproot.recreate(file) as root:
        if ntuple:
            flat |= {f"{name}_{one}": array[one] for name, array in records.items() for one in array.fields}
            root.mkrntuple("Events", flat)
            root.mkrntuple("Runs", {"genEventSumw": np.array([30.0])})
            return file
        root.mktree("Events", {**{name: one.dtype for name, one in flat.items()},
                               **{name: one.type.content for name, one in records.items()}})  # fmt: skip
        root["Events"].extend({**flat, **records})
        root.mktree("Runs", {"genEventSumw": "float64"})
        root["Runs"].extend({"genEventSumw": np.array([30.0])})
    return file


def run(file: Path, out: Path, **given: object) -> Events:
    for _ in ingest(load(None, **{"name": "j", "files": [str(file)], "map": "pfnano", **given}), out, here=True):
        pass
    return Events.open(out)


@pytest.mark.parametrize("ntuple", [False, True])
def test_jets_come_with_their_particles(ntuple, toys, tmp_path: Path) -> None:
    sample = run(write(tmp_path / "nano.root", events(toys), ntuple), tmp_path / "out", events_per_shard=5)
    table = sample.read()
    check(table, EVERY, "sample")
    assert sample.manifest.made_by["rejected"] == {} and table.num_rows == len(toys)
    assert table["event"].to_pylist() == np.repeat(np.arange(len(JETS)) + 100, JETS).tolist()
    assert table["weight"].to_numpy() == pytest.approx(np.repeat(np.linspace(1, 2, len(JETS)), JETS), rel=1e-6)
    assert set(table["jet_tau1"].to_pylist()) == {0.5} and set(table["jet_label"].to_pylist()) == {-1}
    for row, jet in enumerate(toys):
        for name in ("jet_pt", "jet_eta", "jet_phi", "jet_mass"):
            assert table[name][row].as_py() == pytest.approx(jet[name], rel=1e-5)
        order = np.argsort(-np.array(jet["particle_pt"], dtype=np.float32), kind="stable")
        charged = np.array(jet["particle_charge"])[order] != 0
        for name in MEMBERS:
            wanted = np.array(jet[f"particle_{name}"])[order]
            wanted = np.where(charged, wanted, 0) if name.startswith("d") else wanted
            assert table[f"particle_{name}"][row].as_py() == pytest.approx(wanted, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("chunk", [1, 3000, baskets.CHUNK])
@pytest.mark.parametrize("shard", [1, 2, 7])
def test_ranges_are_of_jets(chunk, shard, toys, tmp_path: Path, monkeypatch) -> None:
    file = write(tmp_path / "nano.root", events(toys))
    whole = run(file, tmp_path / "whole").read()
    monkeypatch.setattr(baskets, "CHUNK", chunk)
    assert run(file, tmp_path / "parts", events_per_shard=shard).read().equals(whole)


def test_the_cross_section_is_that_of_the_events(toys, tmp_path: Path) -> None:
    table = run(write(tmp_path / "nano.root", events(toys)), tmp_path / "out", cross_section_pb=60.0).read()
    wanted = 2 * np.repeat(np.linspace(1, 2, len(JETS)), JETS)
    assert table["weight"].to_numpy() == pytest.approx(wanted, rel=1e-6)


def test_small_jets_have_the_flavour_of_their_hadrons(toys, tmp_path: Path) -> None:
    content = events(toys)
    small = {"Jet": content["FatJet"], "PFCand": content["PFCands"], "JetPFCand": [
        [{"jetIdx": one["jetIdx"], "pfCandIdx": one["pFCandsIdx"]} for one in each]
        for each in content["FatJetPFCands"]]}  # fmt: skip
    flavours = [(5, 5), (4, 4), (0, 21), (0, -1), (0, 3), (0, 0), (0, 5), (5, 0), (0, 2), (0, 22), (4, 0), (0, -3)]
    each = iter(flavours)
    for jet in (jet for those in small["Jet"] for jet in those):
        jet["hadronFlavour"], jet["partonFlavour"] = next(each)
    table = run(write(tmp_path / "nano.root", small), tmp_path / "out", map="pfnano_ak4").read()
    said = ("bottom", "charm", "gluon", "quark", "quark", None, None, "bottom", "quark", None, "charm", "quark")
    assert table["jet_label"].to_pylist() == [-1 if name is None else CODES[name] for name in said]


def test_a_label_is_set_or_a_branch(toys, tmp_path: Path) -> None:
    content = events(toys)
    table = run(write(tmp_path / "a.root", content), tmp_path / "a", set={"jet_label": CODES["top"]}).read()
    assert set(table["jet_label"].to_pylist()) == {CODES["top"]} and table["jet_label"].type == "int8"
    for number, jet in enumerate(jet for those in content["FatJet"] for jet in those):
        jet["code"] = number if number != 3 else 99
    sample = run(write(tmp_path / "b.root", content), tmp_path / "b",
                 map={"like": "pfnano", "columns": {"jet": {"label": "FatJet_code"}}})  # fmt: skip
    assert sample.read()["jet_label"].to_pylist() == [number for number in range(len(toys)) if number != 3]
    assert sample.manifest.made_by["rejected"] == {"the label is none of the format's": 1}


def test_labels_of_the_generators_record(toys, tmp_path: Path) -> None:
    content, tops = events(toys), (0, 3, 7)
    content["GenPart"] = []
    for number, those in enumerate(content["FatJet"]):
        for place, jet in enumerate(those):
            jet["eta"] = 2.0 * place
        decay = [(6, -1), (24, 0), (5, 0), (2, 1), (-1, 1)] if number in tops else []
        content["GenPart"].append([
            {"pdgId": pdg, "genPartIdxMother": mother, **{one: those[0][one] for one in ("eta", "phi")}}
            for pdg, mother in decay])  # fmt: skip
    table = run(write(tmp_path / "mc.root", content), tmp_path / "out", events_per_shard=4).read()
    wanted = [number in tops and not place for number, count in enumerate(JETS) for place in range(count)]
    assert table["jet_label"].to_pylist() == [CODES["top" if one else "qcd"] for one in wanted]
    assert not [name for name in table.column_names if name.startswith(("gen_", "link_"))]
    content["GenPart"][3][1]["genPartIdxMother"] = 5
    with pytest.raises(JetscaleError, match=r"event 3: 'GenPart_genPartIdxMother' names particle 5 of 5"):
        run(write(tmp_path / "odd.root", content), tmp_path / "bad")


def test_odd_jets_are_counted(toys, tmp_path: Path) -> None:
    content = events(toys)
    members = [[[one["pFCandsIdx"] for one in links if one["jetIdx"] == jet] for jet in range(count)]
               for links, count in zip(content["FatJetPFCands"], JETS, strict=True)]  # fmt: skip
    content["FatJetPFCands"][2] = []  # 1: no particles
    content["PFCands"][0][members[0][0][0]]["pdgId"] = 321  # 1: unknown
    content["PFCands"][0][members[0][1][0]] |= {"pdgId": 22, "charge": 1}  # 1: contradiction
    content["PFCands"][3][members[3][0][0]]["pt"] = np.nan
    content["FatJet"][3][1]["mass"] = -40.0
    content["FatJet"][3][2]["mass"] = -1e-3  # of rounding
    content["FatJetPFCands"][5][0] = {"jetIdx": 0, "pFCandsIdx": 5000}
    sample = run(write(tmp_path / "odd.root", content), tmp_path / "out")
    assert sample.manifest.made_by["rejected"] == {
        "the jet has no particles": 1, "a particle has an unknown PDG id": 1,
        "a particle's kinds and charge contradict each other": 1, "particle_pt is not finite": 1,
        "jet_mass is not in [0, inf)": 1, "its list names particles that are not there": 1}  # fmt: skip
    assert sample.manifest.made_by["kept"] == len(toys) - 6
    assert min(sample.read()["jet_mass"].to_pylist()) == 0


def test_other_files_are_named(toys, tmp_path: Path) -> None:
    content = events(toys)
    write(tmp_path / "links.root", {name: one for name, one in content.items() if name != "FatJetPFCands"})
    write(tmp_path / "none.root", {"FatJet": [*content["FatJet"]]})
    far = [[{**one, "jetIdx": 3} for one in each] for each in content["FatJetPFCands"]]
    write(tmp_path / "far.root", {**content, "FatJetPFCands": far})
    write(tmp_path / "jets.root", {"Jet": content["FatJet"], "PFCands": content["PFCands"]})
    wrong = {
        "links.root": r"has no branch 'FatJetPFCands_jetIdx', 'FatJetPFCands_pFCandsIdx'(.|\n)*the map nanoaod",
        "none.root": r"has no branch 'PFCands_pt', 'PFCands_eta', 'PFCands_phi', 'PFCands_mass', 'FatJetPFC",
        "far.root": r"event 0: 'FatJetPFCands_jetIdx' names jet 3 of 2",
        "jets.root": r"has no branch for jet_pt \('FatJet_pt'\)",
    }
    for number, (file, said) in enumerate(wrong.items()):
        with pytest.raises(JetscaleError, match=said) as problem:
            run(tmp_path / file, tmp_path / f"out{number}")
        assert file in str(problem.value)


def test_plain_nanoaod_is_told_which_map_it_needs(tmp_path: Path) -> None:
    file = nanoaod(tmp_path, 30_000, "TTree")
    with pytest.raises(JetscaleError, match=r"has no branch 'PFCands_pt'(.|\n)*with the map nanoaod"):
        run(file, tmp_path / "out")


@pytest.mark.parametrize(("change", "said"), [
    ({"columns": {"particle": {"d0": {"branch": "PFCands_d0", "unit": "inch"}}}}, "d0 is in 'inch'"),
    ({"like": "flat", "format": "pfnano"}, "columns has no 'link'"),
])  # fmt: skip
def test_a_map_that_does_not_fit_is_named(change, said, toys, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, JetscaleError), match=said):
        run(write(tmp_path / "a.root", events(toys)), tmp_path / "out", map={"like": "pfnano", **change})
