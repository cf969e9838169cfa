"""The benchmark against weaver-core compares like with like: the same jets, the same features, networks of one size."""

import json
import math
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
from players import HELD, holding

from jetscale.bench.against import against, compare, figures, whole
from jetscale.bench.ingest import convert
from jetscale.bench.jetclass import FILES, MEAN, MOST, SPREAD, Size, columns_of, jetclass
from jetscale.bench.measure import BenchError, Peak, Player, Round, Spent
from jetscale.bench.ours import job
from jetscale.cli import main
from jetscale.data.formats.jetclass import LABELS
from jetscale.errors import ConfigError
from jetscale.events import Events
from jetscale.labels import CODES

READ = {"jets": 40, "particles": 2000, "sums": [10.0, -300.0]}
TINY = Size(jets=40, batch=4, steps=1, threads=1, rounds=1)


def quiet(line: str) -> None:
    """Nobody listens."""


def test_made_up_jets_have_as_many_particles_as_those_of_jetclass() -> None:
    columns = columns_of(4000, "QCD", np.random.default_rng(3))
    counts = ak.num(columns["part_px"]).to_numpy()
    assert counts.mean() == pytest.approx(MEAN, rel=0.02) and counts.std() == pytest.approx(SPREAD, rel=0.05)
    assert counts.min() >= 1 and counts.max() <= MOST
    assert ak.sum(columns["part_px"], axis=1).to_numpy() == pytest.approx(
        (columns["jet_pt"] * np.cos(columns["jet_phi"])), rel=1e-4, abs=0.05
    )


def test_files_are_made_once_of_their_seed_and_all_their_jets_are_good(tmp_path: Path) -> None:
    files = jetclass(tmp_path, 60)
    before = [file.stat().st_mtime_ns for file in files]
    assert jetclass(tmp_path, 60) == files and [file.stat().st_mtime_ns for file in files] == before
    again, other = jetclass(tmp_path / "again", 60), jetclass(tmp_path, 60, seed=2)
    first, second, third = (uproot.open(of[0])["tree"].arrays() for of in (files, again, other))
    assert ak.array_equal(first, second) and not ak.array_equal(first["jet_pt"], third["jet_pt"])
    assert list(tmp_path.glob(".*")) == []
    assert convert(job(files), tmp_path / "sample") == 60
    sample = Events.open(tmp_path / "sample")
    assert sample.manifest.made_by["rejected"] == {}
    codes = sample.read(["jet_label"])["jet_label"].to_pylist()
    assert {name: codes.count(CODES[LABELS[name]]) for name in FILES.values()} == dict.fromkeys(FILES.values(), 6)


def test_both_sides_train_and_have_read_the_same(tmp_path: Path) -> None:
    pytest.importorskip("weaver", reason="needs weaver-core")
    result = against(tmp_path, "particlenet", TINY, quiet, ("fp32",))
    result.write(tmp_path / "out.json")
    values = json.loads((tmp_path / "out.json").read_text())
    read = values["sizes"]["read"]
    assert read["weaver"]["jets"] == read["ours, fp32"]["jets"] == 40
    assert read["weaver"]["particles"] == read["ours, fp32"]["particles"] > 1000
    assert read["weaver"]["sums"] == pytest.approx(read["ours, fp32"]["sums"], rel=1e-3, abs=0.05)
    assert {*values["rounds"]} == {
        f"{side}, {part}" for side in ("weaver", "ours, fp32") for part in ("training", "step", "feed")
    } | {"ours, fp32, conversion"}
    assert all(one["jets"] in (4, 40) and one["wall_s"] > 0 for of in values["rounds"].values() for one in of)
    assert min(values["sizes"]["peak_bytes"].values()) > 50_000_000


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"jets": 39}, "has read 39 jets, weaver 40"),
        ({"particles": 2001}, "2001 particles"),
        ({"sums": [10.0, -301.0]}, "feature 1 is -301"),
    ],
)
def test_what_is_not_the_same_is_not_compared(changed: dict, said: str) -> None:
    begun = {"weaver": {"parameters": 7}, "ours, fp32": {"parameters": 7}}
    compare(begun, {"weaver": READ, "ours, fp32": {**READ, "sums": [10.01, -300.01]}})
    with pytest.raises(BenchError, match=said):
        compare(begun, {"weaver": READ, "ours, fp32": {**READ, **changed}})
    with pytest.raises(BenchError, match="8 parameters, weaver's 7"):
        compare({**begun, "ours, fp32": {"parameters": 8}}, {"weaver": READ, "ours, fp32": READ})


def rounds(jets: int, wall_s: float, cpu_s: float) -> list[Round]:
    return [Round({"jets": jets}, Spent(wall_s, 0.0, cpu_s))]


def test_figures_are_ratios_of_jets_per_second() -> None:
    played = {
        "weaver": {"training": rounds(320, 16, 32), "step": rounds(320, 16, 30), "feed": rounds(1000, 0.2, 0.3)},
        "ours, fp32": {"training": rounds(320, 4, 7), "step": rounds(320, 3, 6), "feed": rounds(1000, 0.02, 0.03),
                       "conversion": rounds(1000, 0.5, 0.54)},
        "ours, bf16": {"training": rounds(320, 2, 4), "step": rounds(320, 2, 3)},
    }  # fmt: skip
    found = {one.name: one for one in figures("particlenet", played, {"weaver": 10**9})}
    assert found["training, fp32: times weaver's, per second"].median == pytest.approx(4)
    assert found["training, fp32: times weaver's, per CPU-second"].median == pytest.approx(32 / 7)
    assert found["training, bf16: times weaver's, per second"].met is False
    assert found["step alone, bf16: times weaver's, per CPU-second"].at_least is None
    assert found["feed alone: times weaver's, per second"].met is True
    assert found["conversion has paid after"].median == pytest.approx(2)
    assert found["peak memory of training, weaver"].median == 1000


def test_files_and_batches_are_full() -> None:
    for jets in (1, 1000, 20_000):
        size = whole(TINY._replace(jets=jets, batch=32))
        assert size.jets % math.lcm(10, 32) == 0 and abs(size.jets - jets) <= 160


def test_memory_of_a_process_and_its_descendants_is_seen() -> None:
    with Player(holding) as player:
        with Peak(player.tree.root) as before:
            player.play()
        with Peak(player.tree.root, look_s=0.01) as peak:
            player.play()
    assert 2 * HELD < peak.most - before.most < 3 * HELD


def test_a_system_and_weaver_go_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd) -> None:
    assert main(["bench", "train", "particlenet"]) == 2
    assert main(["bench", "train", "--against", "weaver"]) == 2
    assert capfd.readouterr().err.count("go together") == 2
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"weaver-core is not installed(.|\n)*\[weaver\]"):
        against(tmp_path, "particlenet", TINY, quiet)
