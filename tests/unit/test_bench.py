"""Benchmarks measure both sides and say so; how fast anything is, no test says."""

import json
import os
import subprocess
import sys
import time
from mmap import mmap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from players import BUSY_S, CODE, failing, spinning
from rich.console import Console

from jetscale.bench.feed import bare, feed, ours, pad_bare
from jetscale.bench.measure import BenchError, Player, Spent, Tree, forget_peak, resident
from jetscale.bench.memory import trained
from jetscale.bench.particles import Particles
from jetscale.bench.result import Figure, Result, ratio
from jetscale.bench.sample import parse_size, run_on, sample
from jetscale.bench.start import start
from jetscale.bench.train import CASES, train
from jetscale.cli import main
from jetscale.data.batch import batch
from jetscale.errors import ConfigError
from jetscale.events import Events
from jetscale.task import At


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def small(folder: Path) -> Events:
    return sample(folder, 1_000_000)


def quiet(line: str) -> None:
    """Nobody listens."""


def in_json(result: Result, tmp_path: Path) -> dict:
    result.write(tmp_path / "out.json")
    values = json.loads((tmp_path / "out.json").read_text())
    assert set(values) == {"bench", "machine", "versions", "sizes", "figures", "rounds"}
    assert values["machine"]["cores"] == os.cpu_count() and {"torch", "ray", "pyarrow"} <= set(values["versions"])
    for figure in values["figures"]:
        assert figure["low"] <= figure["median"] <= figure["high"] and len(figure["rounds"]) >= 1
        assert figure["met"] is None or figure["at_least"] is not None or figure["at_most"] is not None
    return values


def test_processes_that_have_ended_are_counted() -> None:
    with Player(spinning, 3) as player:
        player.play()
        _, spent = player.play()
    assert spent.own_s < BUSY_S
    assert spent.all_s == pytest.approx(3 * BUSY_S, rel=0.8), "a naive count has 0 here"
    assert spent.wall_s > 3 * BUSY_S


def test_a_player_that_fails_is_named() -> None:
    with Player(failing) as player:
        assert player.play().said == 1
        with pytest.raises(BenchError, match="of its own"):
            player.play()


def test_nothing_of_a_tree_is_left() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    tree = Tree(process.pid)
    tree.cpu_s()
    tree.kill()
    assert process.wait(timeout=10) != 0


def test_the_peak_is_seen_and_forgotten() -> None:
    forget_peak()  # what tests before this one have held
    before = resident()["peak"]
    with mmap(-1, 80_000_000) as held:  # not what tests before this one have freed and still hold
        held.write(bytes(80_000_000))
        assert resident()["peak"] > before + 40_000_000
    forget_peak()
    assert resident()["peak"] < before + 40_000_000


@given(st.lists(st.floats(0.1, 10), min_size=1), st.floats(0.1, 10))
def test_a_ratio_is_that_of_two_measured_sides(seconds: list[float], factor: float) -> None:
    base = [Spent(one, one, one) for one in seconds]
    other = [Spent(one * factor, 2 * one * factor, 4 * one * factor) for one in seconds]
    for of, times in (("wall_s", 1), ("own_s", 2), ("all_s", 4)):
        assert ratio(base, other, of) == pytest.approx([1 / factor / times] * len(seconds))


def test_targets_and_their_verdicts() -> None:
    assert Figure("a", [0.7, 0.9, 0.8], at_least=0.8).met is True
    assert Figure("a", [0.7, 0.9, 0.79], at_least=0.8).met is False
    assert Figure("a", [1.2], "s", at_most=1.0).met is False
    assert Figure("a", [1.2], "s").met is None
    console = Console(record=True, width=120)
    console.print(Result("feed", [Figure("one", [0.5], at_least=0.8), Figure("two", [2.0], "s")], {}, {}).table())
    text = console.export_text()
    assert "missed" in text and ">= 0.8" in text and "2 s" in text


@pytest.mark.parametrize(("text", "bytes_"), [("50MB", 50_000_000), ("1GB", 10**9), ("1.5 g", 1_500_000_000), ("7", 7)])
def test_sizes(text: str, bytes_: int) -> None:
    assert parse_size(text) == bytes_


@pytest.mark.parametrize("text", ["", "many", "-1MB", "1.2.3GB", "0GB"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="not a size"):
        parse_size(text)


def test_the_sample_has_its_size_and_is_made_once(folder: Path, small: Events) -> None:
    files = sorted(small.path.glob("*.parquet"))
    assert sum(file.stat().st_size for file in files) == pytest.approx(1_000_000, rel=0.1)
    before = [file.stat().st_mtime_ns for file in files]
    assert sample(folder, 1_000_000).fingerprint == small.fingerprint
    assert [file.stat().st_mtime_ns for file in files] == before


def test_the_bare_loop_makes_the_tensors_of_the_feed() -> None:
    task = Particles()
    table = task.toy(50, 3)
    columns = {name: table[name].combine_chunks() for name in task.columns.names}
    plain = pad_bare(columns, task.columns, 10, 30)
    none = np.zeros(20, dtype=np.int64)
    full = batch([table.slice(10, 20)], task.columns, np.ones(20), none, none, At(0, 0, 0.0), 1)
    assert all(plain[name].equal(full[name]) for name in task.columns.names)
    assert plain["particle_mask"].equal(full.mask("particle"))


def test_both_loops_see_every_row(small: Events) -> None:
    for rounds in (bare(small.path, 64), ours(small.path, 64, "pyarrow")):
        next(rounds)
        said = next(rounds)
        assert said["rows"] == len(small) and said["first_s"] > 0


def test_training_on_the_sample_is_measured(small: Events, tmp_path: Path) -> None:
    run = run_on(small, {"source": "pyarrow", "launch": "here", "engine": "torch"})
    rounds = trained(run.values(), tmp_path / "run")
    assert next(rounds)["now"] > 0
    peak = next(rounds)
    assert peak["peak"] > 0 and (tmp_path / "run" / "checkpoints").is_dir()


def test_the_plain_engine_and_a_torch_loop_take_turns(folder: Path, tmp_path: Path) -> None:
    case = CASES[3]._replace(task={"width": 8, "layers": 2}, block=3)
    values = in_json(train(folder, 1000, 2, "pyarrow", quiet, (case,)), tmp_path)
    (worker,) = values["rounds"][case.name]
    assert len(worker["rounds"]) == 2
    assert all(side[kind] > 0 for turn in worker["rounds"] for side in turn.values() for kind in ("wall_s", "cpu_s"))
    assert {"forward", "backward", "update", "weight sums", "loop and feed"} <= set(worker["ms_per_step"]["ours"])
    assert set(worker["ms_per_step"]["plain"]) == {"forward", "backward", "update"}


@pytest.mark.ray
def test_the_feed_is_measured_with_both_sources(folder: Path, small: Events, tmp_path: Path) -> None:
    values = in_json(feed(folder, "1MB", 64, 1, quiet), tmp_path)
    assert set(values["rounds"]) == {"bare loop", "pyarrow source", "ray source"}
    assert all(one["said"]["rows"] == len(small) for side in values["rounds"].values() for one in side)
    assert {figure["name"] for figure in values["figures"]} >= {
        "first batch, warm workers",
        "first batch, cold workers",
    }


@pytest.mark.slow
def test_deepspeed_under_ray_and_ddp_take_turns(folder: Path, tmp_path: Path) -> None:
    case = CASES[2]._replace(task={"width": 8, "layers": 2}, block=3)
    values = in_json(train(folder, 1000, 1, "auto", quiet, (case,)), tmp_path)
    assert len(values["rounds"][case.name]) == 2


@pytest.mark.slow
def test_the_start_is_measured(folder: Path, tmp_path: Path) -> None:
    values = in_json(start(folder, 1000, 1, quiet), tmp_path)
    assert set(values["rounds"]) == {"smallest script", "jetscale train"}


def test_a_tree_outlives_its_root() -> None:
    process = subprocess.Popen([sys.executable, "-c", CODE])
    tree = Tree(process.pid)
    while process.poll() is None:
        seen = tree.cpu_s()
        time.sleep(0.02)
    assert tree.cpu_s() == pytest.approx(max(seen, BUSY_S), abs=0.2)


def test_the_toy_is_a_table_of_its_columns() -> None:
    table = Particles().toy(5, 1)
    assert table.schema.equals(Particles.columns.arrow) and isinstance(table, pa.Table)


def test_a_command_prints_and_writes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd) -> None:
    def measured(folder: Path, events: int, rounds: int, say) -> Result:
        say(f"{events} events")
        assert folder.is_dir()
        return Result("start", [Figure("ratio of two", [1.0, 1.2], at_most=1.3)], {"rounds": rounds}, {})

    monkeypatch.setattr("jetscale.bench.start.start", measured)
    out = tmp_path / "start.json"
    assert main(["bench", "start", "--rounds", "2", "--out", str(out)]) == 0
    assert json.loads(out.read_text())["sizes"] == {"rounds": 2}
    printed = capfd.readouterr().out
    assert "20000 events" in printed and "ratio of two" in printed and "met" in printed


def test_a_command_refuses_places_that_cannot_be(tmp_path: Path, capfd) -> None:
    assert main(["bench", "start", "--out", str(tmp_path)]) == 2
    (tmp_path / "file").touch()
    assert main(["bench", "start", "--keep", str(tmp_path / "file")]) == 2
    assert capfd.readouterr().err.count("what to do") == 2
