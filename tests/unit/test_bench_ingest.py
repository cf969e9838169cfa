"""The benchmark of conversion compares like with like: the same files, the same events, the same numbers."""

import json
import math
from pathlib import Path

import awkward as ak
import pyarrow.parquet as pq
import pytest
import uproot

from jetscale.bench.ingest import KINDS, bare, figures, ingest, job, mapped, ours, parquet_epochs, peaks, root_epochs
from jetscale.bench.measure import Round, Spent
from jetscale.bench.nanoaod import BLOCK, COLLECTIONS, TREE, Kind, nanoaod
from jetscale.events import Events

SIZE = 400_000


def quiet(line: str) -> None:
    """Nobody listens."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def tree_file(folder: Path) -> Path:
    return nanoaod(folder, SIZE, "TTree")


def read(file: Path, names: list[str] | None = None) -> dict[str, ak.Array]:
    with uproot.open(file) as source:
        return {name: source[TREE][name].array() for name in names or source[TREE].keys()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_made_once_of_its_seed_alone(kind: Kind, folder: Path, tmp_path: Path) -> None:
    names = ["event", "genWeight", "nJet", "Jet_pt", "Jet_jetId", "FatJet_msoftdrop", "HLT_Path00"]
    file = nanoaod(folder, SIZE, kind)
    before = file.stat().st_mtime_ns
    assert nanoaod(folder, SIZE, kind) == file and file.stat().st_mtime_ns == before
    first, again = read(file, names), read(nanoaod(tmp_path, SIZE, kind), names)
    other = read(nanoaod(tmp_path, SIZE, kind, seed=2), names)
    assert all(ak.array_equal(first[name], again[name]) for name in names)
    assert not ak.array_equal(first["Jet_pt"], other["Jet_pt"])
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_as_large_as_asked_and_of_many_pieces(kind: Kind, tmp_path: Path) -> None:
    size = 12_000_000
    file = nanoaod(tmp_path, size, kind)
    assert file.stat().st_size == pytest.approx(size, rel=0.05)
    found = read(file, ["event", "nJet", "Jet_pt", "Jet_eta", "MET_pt"])
    assert len(found["event"]) > BLOCK and found["event"].to_list() == list(range(len(found["event"])))
    assert ak.array_equal(ak.num(found["Jet_pt"]), found["nJet"], dtype_exact=False)
    assert ak.mean(found["nJet"]) == pytest.approx(COLLECTIONS["Jet"].mean, rel=0.05)
    assert ak.min(found["Jet_pt"]) >= 0 and not ak.array_equal(found["Jet_pt"][:3], found["Jet_pt"][BLOCK : BLOCK + 3])


def test_most_of_a_file_is_nothing_that_is_mapped(tree_file: Path) -> None:
    with uproot.open(tree_file) as source:
        columns = mapped(job([tree_file]).map, source[TREE])
        assert set(columns.names) <= set(source[TREE].keys())
        assert len(columns.names) < len(source[TREE].keys()) / 4
    assert {"Jet_pt", "Jet_btagDeepFlavB", "PuppiMET_pt", "event", "genWeight"} <= set(columns.names)
    assert columns["Jet_pt"].of == "jet" and columns["PuppiMET_pt"].of is None


@pytest.mark.parametrize("kind", KINDS)
def test_both_sides_write_the_same_numbers(kind: Kind, folder: Path, tmp_path: Path) -> None:
    file = nanoaod(folder, SIZE, kind)
    sides = (bare(file, tmp_path / "bare.parquet"), ours([file], tmp_path / "ours"))
    for side in sides:
        next(side)
    first, second = ({next(side)["rows"] for side in sides}, {next(side)["rows"] for side in sides})
    assert first == second == {len(read(file, ["event"])["event"])}
    plain, made = pq.read_table(tmp_path / "bare.parquet"), Events.open(tmp_path / "ours").read()
    assert plain["event"].to_pylist() == made["event"].to_pylist()
    assert plain["genWeight"].to_pylist() == made["weight"].to_pylist()
    for name in ("pt", "eta", "mass", "area"):
        columns = (plain[f"Jet_{name}"].to_pylist(), made[f"jet_{name}"].to_pylist())
        assert [sorted(one) for one in columns[0]] == [sorted(one) for one in columns[1]]


def test_both_epochs_see_every_row(tree_file: Path, tmp_path: Path) -> None:
    conversion = ours([tree_file], tmp_path / "ours")
    next(conversion)
    rows = next(conversion)["rows"]
    for epochs in (root_epochs(tree_file, 64), parquet_epochs(tmp_path / "ours", 64)):
        next(epochs)
        assert [next(epochs)["rows"] for _ in range(2)] == [rows, rows]


def test_the_memory_of_a_conversion_is_seen(tree_file: Path, tmp_path: Path) -> None:
    seen = peaks(tree_file, tmp_path / "ours")
    imports = next(seen)["imports"]
    assert next(seen)["peak"] >= imports > 1_000_000
    assert Events.open(tmp_path / "ours")


def test_figures_are_ratios_of_their_sides() -> None:
    seconds = {**dict.fromkeys([f"{side} {kind}" for side in ("bare", "ours", "epoch") for kind in KINDS], 1.0),
               "ours TTree": 2.0, "epoch TTree": 1.5, "bare RNTuple": 3.0, "ours RNTuple": 4.0, "epoch RNTuple": 0.4,
               "workers 1": 5.0, "workers 2": 2.5, "epoch Parquet": 0.5}  # fmt: skip
    played = {name: [Round({"rows": 10}, Spent(one, one, one))] * 2 for name, one in seconds.items()}
    peaks = {size: [{"imports": 100, "peak": peak}] for size, peak in {"10MB": 150, "100MB": 160, "1GB": 165}.items()}
    found = {one.name: one.median for one in figures(played, peaks)}
    assert found["TTree, per CPU-second"] == 0.5 and found["RNTuple, per CPU-second"] == 0.75
    assert found["two Ray workers over one, per second"] == 2
    assert found["peak memory, 1GB over 10MB"] == 1.1
    assert found["peak memory, 1GB over 100MB, above imports"] == pytest.approx(65 / 60)
    assert found["epoch from TTree over Parquet"] == pytest.approx(3)
    assert found["TTree: conversion has paid after"] == pytest.approx(2), "a second saved a time, after two seconds"
    assert found["epoch from RNTuple over Parquet"] < 1 and "RNTuple: conversion has paid after" not in found


def test_epochs_are_compared_by_events() -> None:
    spent = {name: Round({"rows": rows}, Spent(1, 1, 1)) for name, rows in
             {"bare": 10, "ours": 10, "epoch": 10, "workers": 10}.items()}  # fmt: skip
    played = {f"{side} {kind}": [one] for side, one in spent.items() for kind in (*KINDS, "1", "2")}
    played["epoch Parquet"] = [Round({"rows": 40}, Spent(1, 1, 1))]
    peaks = {size: [{"imports": 1, "peak": 2}] for size in ("small", "middle", "large")}
    found = {one.name: one.median for one in figures(played, peaks)}
    assert found["epoch from TTree over Parquet"] == pytest.approx(4)


@pytest.mark.slow
def test_all_sides_have_their_turn(folder: Path, tmp_path: Path) -> None:
    result = ingest(folder, "400KB", "1MB", 64, 1, quiet, ("200KB", "500KB"))
    result.write(tmp_path / "out.json")
    values = json.loads((tmp_path / "out.json").read_text())
    assert all(math.isfinite(one) and one > 0 for figure in values["figures"] for one in figure["rounds"])
    sides = {name: of for name, of in values["rounds"].items() if name not in ("200KB", "500KB", "1MB")}
    assert {name.split()[0] for name in sides} == {"bare", "ours", "workers", "epoch"}
    for name, of in sides.items():
        kind = name.partition(" ")[2]
        rows = {one["said"]["rows"] for one in of}
        if not name.startswith("workers"):
            assert rows == {values["sizes"]["events"][kind if kind in KINDS else "TTree"]}, name
    assert {one["said"]["rows"] for one in sides["workers 1"]} == {one["said"]["rows"] for one in sides["workers 2"]}
