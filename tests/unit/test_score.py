"""Scored samples: every event once, in pieces, on from where it was interrupted, and by folds."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pyarrow.parquet as pq
import pytest
import uproot
from pyarrow.dataset import dataset

import jetscale
from jetscale import cli
from jetscale.config import Values
from jetscale.data.split import part_of
from jetscale.errors import ConfigError, DataError
from jetscale.evaluate.folds import are_folds, held_out_folds
from jetscale.evaluate.score import score, scoring
from jetscale.events import MANIFEST, ROW_GROUP, Events, write_manifest, write_shard
from jetscale.run import Run, resolve
from jetscale.schema import JET_EVENTS
from jetscale.stream import Folds
from jetscale.systems.assigner import Assigner
from jetscale.train.launch import train

FOLDS = 3


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample of uneven shards, one of them empty; another one; a run, and runs of three folds."""
    room = tmp_path_factory.mktemp("room")
    made = Events.write(Assigner().toy(700, 1), room / "toy", rows_per_shard=300)
    empty = write_shard(made.read().slice(0, 0), made.path / "shard-00009.parquet", JET_EVENTS)
    first, *rest = made.manifest.shards
    shards = [shard.values() for shard in (first, empty, *rest)]
    write_manifest(made.manifest.but(shards=shards), made.path)
    Events.write(Assigner().toy(200, 2), room / "fresh")
    train(_run(room), room / "run")
    for test in range(FOLDS):
        train(_run(room, {"split": {"folds": FOLDS, "test": test}}), room / f"fold{test}")
    return room


def _run(room: Path, stream: Values | None = None, **more: object) -> Run:
    values = {"system": "assigner", "task": {"width": 8, "layers": 2, "readout": "argmax"}, "horizon": {"steps": 3},
              "stream": {"samples": {"toy": {"events": str(room / "toy")}}, **(stream or {})},
              "scale": {"engine": "torch", "launch": "here", "events_per_step": 64},
              "track": {"wandb": False}, **more}  # fmt: skip
    return resolve([("test", values)], "test").run


@pytest.fixture
def toy(room: Path) -> Events:
    return Events.open(room / "toy")


def ids(events: Events) -> list[int]:
    return events.read(["event_id"])["event_id"].to_pylist()


def test_every_event_is_there_once_in_the_shard_it_came_from(room: Path, toy: Events, tmp_path: Path) -> None:
    scored = score(room / "run", toy, tmp_path / "scored")
    assert [shard.rows for shard in scored.manifest.shards] == [300, 0, 300, 100]
    for before, after in zip(toy.manifest.shards, scored.manifest.shards, strict=True):
        assert after.file == before.file
        assert scored.read(["event_id"], after).equals(toy.read(["event_id"], before))
    assert scored.read(toy.schema.names).equals(toy.read())
    assert len(set(ids(scored))) == len(toy) == 700


def test_no_more_than_a_row_group_is_in_memory(room: Path, tmp_path: Path) -> None:
    table = Assigner().toy(2 * ROW_GROUP + 7, 4)
    large = Events.write(table, tmp_path / "large", rows_per_shard=len(table))
    done = [0, *scoring([room / "run"], large, tmp_path / "scored")]
    assert max(np.diff(done)) == ROW_GROUP and done[-1] == len(table)
    assert Events.open(tmp_path / "scored").manifest.shards[0].row_groups == (ROW_GROUP, ROW_GROUP, 7)


def test_what_is_interrupted_is_no_sample_and_goes_on(room: Path, toy: Events, tmp_path: Path) -> None:
    going = scoring([room / "run"], toy, tmp_path / "scored")
    assert [next(going) for _ in range(4)] == [300, 300, 300, 300]
    assert next(going) == 600
    going.close()
    assert [path.name for path in sorted((tmp_path / "scored").iterdir())] == [
        "shard-00000.parquet", "shard-00009.parquet"]  # fmt: skip
    before = (tmp_path / "scored" / "shard-00000.parquet").stat().st_mtime_ns
    scored = score(room / "run", toy, tmp_path / "scored")
    assert (scored.path / "shard-00000.parquet").stat().st_mtime_ns == before
    assert scored.fingerprint == score(room / "run", toy, tmp_path / "at once").fingerprint


KILLED = """
import os, signal, sys
from pathlib import Path
from jetscale.evaluate.score import scoring
from jetscale.events import Events
for done in scoring([Path(sys.argv[1])], Events.open(sys.argv[2]), Path(sys.argv[3])):
    if done > 300:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_is_killed_is_no_sample_and_goes_on(room: Path, toy: Events, tmp_path: Path) -> None:
    out = tmp_path / "scored"
    command = [sys.executable, "-c", KILLED, str(room / "run"), str(toy.path), str(out)]
    found = {**os.environ, "PYTHONPATH": str(Path(jetscale.__file__).parents[1])}
    assert subprocess.run(command, check=False, env=found).returncode == -signal.SIGKILL
    assert sorted(path.suffix for path in out.iterdir()) == [".parquet", ".parquet", ".part"]
    with pytest.raises(DataError, match="is not a sample"):
        Events.open(out)
    scored = score(room / "run", toy, out)
    assert scored.fingerprint == score(room / "run", toy, tmp_path / "at once").fingerprint
    assert not list(out.glob(".*"))


def test_shards_of_another_scoring_are_not_gone_on_from(room: Path, toy: Events, tmp_path: Path) -> None:
    score(room / "fold0", toy, tmp_path / "scored")
    (tmp_path / "scored" / MANIFEST).unlink()
    with pytest.raises(DataError, match="no shard of this scoring"):
        score(room / "run", toy, tmp_path / "scored")


def test_a_shard_cut_short_is_not_taken_for_whole(room: Path, toy: Events, tmp_path: Path) -> None:
    score(room / "run", toy, tmp_path / "scored")
    (tmp_path / "scored" / MANIFEST).unlink()
    file = tmp_path / "scored" / "shard-00000.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match="shard-00000"):
        score(room / "run", toy, tmp_path / "scored")


def test_scores_of_other_weights_are_another_sample(room: Path, toy: Events, tmp_path: Path) -> None:
    scored = score(room / "run", toy, tmp_path / "scored")
    manifest = json.loads((scored.path / MANIFEST).read_text())
    manifest["made_by"]["weights"] = "those of before"
    (scored.path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="weights is 'those of before'"):
        score(room / "run", toy, tmp_path / "scored")


@pytest.mark.parametrize(("sample", "part"), [("toy", 2), ("fresh", 3)])
def test_every_event_is_scored_by_the_fold_that_tests_on_it(room: Path, tmp_path: Path, sample: str, part: int) -> None:
    events, folds = Events.open(room / sample), [room / f"fold{test}" for test in range(FOLDS)]
    scored = score(folds[::-1], events, tmp_path / "together")
    assert ids(scored) == ids(events)
    assert set(scored.read(["split"])["split"].to_pylist()) == {part}
    together = scored.read(["jet_none_probability"])["jet_none_probability"].to_pylist()
    for test, run in enumerate(folds):
        alone = score(run, events, tmp_path / run.name).read(["jet_none_probability"])
        tested = part_of(np.array(ids(events)), Folds(folds=FOLDS, test=test)) == 2
        assert 0 < tested.sum() < len(events)
        for row in np.flatnonzero(tested):
            assert together[row] == pytest.approx(alone["jet_none_probability"][row].as_py(), rel=1e-5)


def test_the_command_puts_folds_together(room: Path, tmp_path: Path) -> None:
    words = ["score", *(f"{room}/fold{test}" for test in range(FOLDS)), "--events", f"{room}/toy"]
    assert cli.main([*words, "--out", str(tmp_path / "scored")]) == 0
    assert len(Events.open(tmp_path / "scored").manifest.made_by["folds"]) == FOLDS


def test_a_report_takes_folds_as_one_method(room: Path, tmp_path: Path, monkeypatch) -> None:
    pages = []
    monkeypatch.setattr("jetscale.evaluate.report.report", lambda scored, *_, **__: pages.append(scored))
    folds = [f"{room}/fold{test}" for test in range(FOLDS)]
    assert cli.main(["score", *folds, "--events", f"{room}/toy", "--out", str(tmp_path / "scored")]) == 0
    for given, place in ((room / "toy", "report/scored/folds/toy"), (tmp_path / "scored", "scored")):
        assert cli.main(["report", *folds, "--events", str(given), "--out", str(tmp_path / "report")]) == 0
        [one] = pages.pop()
        assert (one.run_name, one.run_dir, one.events.path) == ("folds", None, tmp_path / place)
        assert set(one.events.read(["split"])["split"].to_pylist()) == {2}


def test_a_missing_fold_is_named_and_nothing_is_written(room: Path, tmp_path: Path, capsys) -> None:
    words = ["score", f"{room}/fold0", f"{room}/fold2", "--events", f"{room}/toy", "--out", str(tmp_path / "scored")]
    assert cli.main(words) == 2
    assert "no run tests on 1" in capsys.readouterr().err
    assert not (tmp_path / "scored").exists()
    assert cli.main(["report", *words[1:-1], str(tmp_path / "report")]) == 2
    told = capsys.readouterr().err
    assert "no run tests on 1" in told and "score with" not in told and "or give one run alone" in told


def _seen(room: Path, runs: list[Path]) -> str:
    """Why runs are not the folds of one method."""
    with pytest.raises(ConfigError) as caught:
        score(runs, Events.open(room / "fresh"), room / "never")
    assert not (room / "never").exists() and caught.value.cure
    return str(caught.value)


def test_folds_are_of_one_split(room: Path, tmp_path: Path) -> None:
    folds = [room / f"fold{test}" for test in range(FOLDS)]
    other = train(_run(room, {"split": {"folds": FOLDS, "test": 1, "seed": 5}}), tmp_path / "other")
    assert are_folds(folds[:2])
    for runs, why in ((folds[:1], "one"), ([folds[0], folds[0]], "the same twice"), ([*folds[1:], other], "a seed"),
                      ([folds[0], room / "run"], "no fold")):  # fmt: skip
        assert not are_folds(runs), why
    assert "not folds of one split" in _seen(room, [folds[0], other])


def _fold(test: int, **more: object) -> Values:
    return {"split": {"folds": FOLDS, "test": test}, **more}


def test_folds_are_of_one_method(room: Path, tmp_path: Path) -> None:
    two = [room / "fold0", room / "fold1"]
    wide = train(_run(room, _fold(2), task={"width": 16, "layers": 2, "readout": "argmax"}), tmp_path / "wide")
    assert "different: task.width: 8 and 16" in _seen(room, [*two, wide])
    fresh = train(_run(room, _fold(2, samples={"toy": {"events": str(room / "fresh")}})), tmp_path / "fresh")
    names = [Events.open(room / name).fingerprint for name in ("toy", "fresh")]
    assert f"different: stream.samples.toy.events: {names[0]} and {names[1]}" in _seen(room, [*two, fresh])
    scale = {"engine": "torch", "launch": "here", "events_per_step": 64, "events_per_micro_batch": 50}
    same = _run(room, _fold(2), seed=7, track={"wandb": False, "log_every": 3}, keep={"last": 1}, scale=scale)
    assert held_out_folds([*two, train(same, tmp_path / "same")]) == [0, 1, 2]


def test_folds_have_not_seen_what_they_test_on(room: Path, tmp_path: Path) -> None:
    warm = [train(_run(room, _fold(test), start=str(room / "run")), tmp_path / f"warm{test}") for test in range(FOLDS)]
    said = _seen(room, warm)
    assert "warm0: has seen events that its fold 0 is to test on" in said and "'train': 0.6" in said
    crossed = [train(_run(room, _fold(test), start=str(room / f"fold{(test + 2) % FOLDS}")), tmp_path / f"x{test}")
               for test in range(FOLDS)]  # fmt: skip
    assert "x0: has seen events that its fold 0 is to test on" in _seen(room, crossed)
    own = [train(_run(room, _fold(test), start=str(room / f"fold{test}")), tmp_path / f"own{test}")
           for test in range(FOLDS)]  # fmt: skip
    assert held_out_folds(own) == [0, 1, 2]
    assert "different: start" in _seen(room, [*own[:2], room / "fold2"])


def test_parquet_with_a_file_for_root_beside_it_is_read_by_everybody(room: Path, toy: Events, tmp_path: Path) -> None:
    words = ["--events", str(toy.path), "--format", "root", "--out"]
    for _ in range(2):
        assert cli.main(["score", f"{room}/run", *words, str(tmp_path / "one")]) == 0
    assert cli.main(["score", f"{room}/run", f"{room}/fold0", *words, str(tmp_path / "two")]) == 0
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["fold0", "fold0.root", "run", "run.root"]
    for folder in (tmp_path / "one", tmp_path / "two" / "run", tmp_path / "two" / "fold0"):
        want = ids(Events.open(folder))
        assert pq.read_table(folder)["event_id"].to_pylist() == want
        assert dataset(folder).to_table()["event_id"].to_pylist() == want
        assert pandas.read_parquet(folder)["event_id"].tolist() == want
        with uproot.open(folder.with_name(f"{folder.name}.root")) as root:
            assert root["events"]["event_id"].array(library="np").tolist() == want


def test_a_file_in_the_way_is_left_alone_before_anything_is_scored(room: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "out.root").write_text("years of work")
    words = ["score", f"{room}/run", "--events", f"{room}/toy", "--format", "root", "--out", str(tmp_path / "out")]
    assert cli.main(words) == 1
    assert "jetscale has not written it" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["out.root"]


def test_a_constant_stands_in_for_a_column(room: Path, toy: Events, tmp_path: Path) -> None:
    light = toy.read().slice(0, 50)
    place = light.column_names.index("jet_mass")
    heavy = [[5.0] * len(jets) for jets in light["jet_mass"].to_pylist()]
    changed = Events.write(light.set_column(place, "jet_mass", [heavy]), tmp_path / "heavy")
    want = score(room / "run", changed, tmp_path / "want")
    got = score(room / "run", Events.write(light, tmp_path / "light"), tmp_path / "got", constants={"jet_mass": 5.0})
    assert got.read(["reco_mass"]).equals(want.read(["reco_mass"]))
    assert got.manifest.made_by["constants"] == {"jet_mass": 5.0}
    assert set(got.read(["jet_mass"])["jet_mass"].combine_chunks().flatten().to_pylist()) == {0.0}
    assert "constants" not in score(room / "run", got, tmp_path / "anew").manifest.made_by


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("jet_mas=1", "did you mean 'jet_mass'"),
        ("jet_mass=much", "NAME=NUMBER"),
        ("jet_mass=-5", "jet_mass: -5 is outside 0 to inf\n  what to do: give mass, in GeV"),
        ("jet_phi=90", "jet_phi: 90 is outside -7 to 7\n  what to do: give azimuth, in rad"),
        ("jet_eta=nan", "jet_eta: nan is not finite"),
        ("jet_eta=inf", "jet_eta: inf is not finite"),
        ("jet_eta=1e39", "jet_eta: 1e+39 is not finite as float32"),
    ],
)
def test_a_constant_that_cannot_be(room: Path, tmp_path: Path, capsys, words: str, hint: str) -> None:
    given = ["score", f"{room}/run", "--events", f"{room}/toy", "--out", str(tmp_path / "out"), "--constant", words]
    assert cli.main(given) == 2
    assert hint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_constant_that_cannot_be_is_not_trained_on(room: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^stream.set.jet_mass: -5 is outside 0 to inf"):
        train(_run(room, {"set": {"jet_mass": -5}}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_sample_with_two_names_must_be_one(room: Path, toy: Events, tmp_path: Path) -> None:
    names = {name: {"events": str(toy.path), "set": {"jet_mass": mass}} for name, mass in (("a", 1), ("b", 5))}
    run = train(_run(room, {"samples": names}), tmp_path / "two")
    with pytest.raises(ConfigError, match=r"as 'a' and as 'b', which differ in set(.|\n)*--constant jet_mass=NUMBER"):
        score(run, toy, tmp_path / "out")
    scored = score(run, toy, tmp_path / "out", constants={"jet_mass": 5}).read(["split"])
    assert set(scored["split"].to_pylist()) == {0, 1, 2}
    same = train(_run(room, {"samples": {**names, "b": names["a"]}}), tmp_path / "same")
    assert len(score(same, toy, tmp_path / "at once")) == len(toy)


def test_scoring_again_leaves_out_what_was_added_before(room: Path, toy: Events, tmp_path: Path) -> None:
    folds = [room / f"fold{test}" for test in range(FOLDS)]
    first = score(folds, toy, tmp_path / "first")
    again, direct = score(room / "run", first, tmp_path / "again"), score(room / "run", toy, tmp_path / "direct")
    assert again.read().equals(direct.read())
    assert "folds" not in again.manifest.made_by


def test_the_rows_of_a_user_s_columns_are_made_at_scoring_too(room: Path, toy: Events, tmp_path: Path) -> None:
    old = toy.read().rename_columns(["pt" if name == "jet_pt" else name for name in toy.schema.names])
    schema = toy.schema.but(columns=[column.but(name="pt") if column.name == "jet_pt" else column
                                     for column in toy.schema.each()])  # fmt: skip
    shard = write_shard(old, tmp_path / "renamed" / "shard-00000.parquet", schema)
    write_manifest(toy.manifest.but(columns=schema.columns, shards=[shard.values()]), tmp_path / "renamed")
    stream = {"samples": {"toy": {"events": str(tmp_path / "renamed")}}, "rename": {"pt": "jet_pt"}}
    run = train(_run(room, stream), tmp_path / "run")
    scored = score(run, Events.open(tmp_path / "renamed"), tmp_path / "scored")
    assert "pt" in scored.schema and "jet_pt" not in scored.schema
    assert pq.read_table(tmp_path / "scored" / "shard-00000.parquet").num_rows == 700
