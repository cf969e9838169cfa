"""Samples merged, skimmed and split: every event exactly once, where it came from is kept, nothing is half done."""

import os
import signal
import subprocess
import sys
import tempfile
from itertools import accumulate
from pathlib import Path

import awkward as ak
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jetscale
from jetscale import cli
from jetscale.config import dump_yaml
from jetscale.data.ingest.ingest import prepare
from jetscale.data.ingest.job import load as job
from jetscale.data.provenance import origins, rejected
from jetscale.data.samples import doubts, merge, merging, split, wanted_parts
from jetscale.data.skim import Skim, load, skim
from jetscale.data.split import part_of
from jetscale.errors import ConfigError, DataError
from jetscale.evaluate.score import score
from jetscale.events import MANIFEST, ROW_GROUP, Events, write_manifest, write_shard
from jetscale.kinds import Count, Sum
from jetscale.run import resolve
from jetscale.schema import Column
from jetscale.stream import PARTS, Split
from jetscale.systems.assigner import Assigner
from jetscale.train.launch import train

NUMBERS = ("jet_pt", "jet_eta", "jet_phi", "jet_mass")
sizes = st.lists(st.integers(0, 40), min_size=1, max_size=4)


def sample(place: Path, rows: int, first: int = 0, per_shard: int = 7, **more: object) -> Events:
    """So many events of 0 to 5 jets, with ids from `first` on, in small shards."""
    dice = np.random.default_rng([rows, first])
    counts = dice.integers(0, 6, rows)
    jets = {name: ak.unflatten(dice.uniform(1, 6, counts.sum()).astype(np.float32), counts) for name in NUMBERS}
    ids = {"event_id": np.arange(first, first + rows), "weight": dice.uniform(-1, 3, rows)}
    return Events.write(ak.zip({**ids, **jets, **more}, depth_limit=1), place, rows_per_shard=per_shard)


def rows_of(*samples: Events) -> list[dict[str, object]]:
    return [row for events in samples for row in events.read().to_pylist()]


def how(**keys: object) -> Skim:
    return Skim.model_validate(keys)


@pytest.fixture
def toy(tmp_path: Path) -> Events:
    return sample(tmp_path / "toy", 60)


@given(sizes, st.integers(1, 30))
@settings(max_examples=15)
def test_a_merge_has_every_event_once_in_full_shards(rows: list[int], per_shard: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place, firsts = Path(folder), [0, *accumulate(rows)]
        parts = [sample(place / f"p{n}", size, firsts[n]) for n, size in enumerate(rows)]
        merged = merge(parts, place / "all", rows=per_shard)
        assert rows_of(merged) == rows_of(*parts)
        assert [shard.rows for shard in merged.manifest.shards[:-1]] == [per_shard] * (len(merged.manifest.shards) - 1)
        assert merged.manifest.sum_weight == pytest.approx(sum(one.manifest.sum_weight for one in parts))
        kept = merged.manifest.made_by["of"]
        assert [(one["name"], one["fingerprint"], one["rows"]) for one in kept] == [
            (one.name, one.fingerprint, len(one)) for one in parts]  # fmt: skip
        assert kept[0]["made_by"] == {"writer": "Events.write"}
        assert origins(merged) == {merged.fingerprint, *(one.fingerprint for one in parts)}


def test_small_shards_become_whole_row_groups(tmp_path: Path) -> None:
    parts = [sample(tmp_path / f"p{n}", 2000, 2000 * n, 500) for n in range(4)]
    merged = merge(parts, tmp_path / "all", rows=6000)
    assert [shard.row_groups for shard in merged.manifest.shards] == [(ROW_GROUP, ROW_GROUP, 1000), (2000,)]


def test_the_same_events_twice_are_refused_by_name(tmp_path: Path, toy: Events) -> None:
    other = sample(tmp_path / "other", 30, first=50)
    with pytest.raises(DataError, match=r"10 event ids stand more than once: 50 in .*toy \(.*\) and in .*other"):
        merge([toy, other], tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_columns_that_differ_are_named(tmp_path: Path, toy: Events) -> None:
    more = sample(tmp_path / "more", 20, 100, met=np.ones(20, dtype=np.float32))
    with pytest.raises(DataError, match="column 'met' is missing") as problem:
        merge([toy, more], tmp_path / "all")
    assert str(toy.path) in str(problem.value) and "--common" in str(problem.value)
    merged = merge([toy, more], tmp_path / "all", common=True)
    assert "met" not in merged.schema and len(merged) == 80
    whole = sample(tmp_path / "whole", 20, 200, met=np.ones(20, dtype=np.int64))
    with pytest.raises(DataError, match="column 'met' has dtype 'int64' here, and 'float32'"):
        merge([more, whole], tmp_path / "other")


def test_room_is_made_for_the_values_of_all(tmp_path: Path, toy: Events) -> None:
    other = sample(tmp_path / "other", 20, 100)
    wider = [column.but(low=None, high=9) if column.name == "jet_pt" else column for column in toy.schema.each()]
    write_manifest(other.manifest.but(columns=[column.values() for column in wider]), other.path)
    merged = merge([toy, Events.open(other.path)], tmp_path / "all")
    assert (merged.schema["jet_pt"].low, merged.schema["jet_pt"].high) == (None, None)
    assert merged.schema["jet_phi"] == toy.schema["jet_phi"]


def made_by(events: Events, **values: object) -> Events:
    write_manifest(events.manifest.but(made_by=values), events.path)
    return Events.open(events.path)


@pytest.mark.parametrize(
    ("first", "second", "doubtful"),
    [
        ({"command": "generate", "job": {"process": "qcd", "seed": 1}},
         {"command": "generate", "job": {"process": "qcd", "seed": 2}}, True),
        ({"command": "generate", "job": {"process": "qcd", "seed": 1}},
         {"command": "generate", "job": {"process": "gluino", "seed": 1}}, False),
        ({"command": "ingest", "job": {"name": "ttbar", "cross_section_pb": 88.3}},
         {"command": "ingest", "job": {"name": "ttbar", "cross_section_pb": 88.3}}, True),
        ({"command": "ingest", "job": {"name": "data"}}, {"command": "ingest", "job": {"name": "data"}}, False),
        ({}, {}, False),
    ],
)  # fmt: skip
def test_one_cross_section_twice_is_told(tmp_path: Path, first: dict, second: dict, doubtful: bool) -> None:
    one, other = made_by(sample(tmp_path / "a", 40), **first), made_by(sample(tmp_path / "b", 30, 100), **second)
    assert bool(doubts([one, other])) == doubtful
    parts = split(one, tmp_path / "parts", Split(train=0.5, validation=0, test=0.5))
    assert doubts(list(parts.values())) == []
    assert bool(doubts([parts["train"], other])) == doubtful


def test_weights_of_different_units_are_told_and_have_none_together(tmp_path: Path) -> None:
    one, other = sample(tmp_path / "a", 8), sample(tmp_path / "b", 8, 100)
    columns = tuple(c.but(unit="pb") if c.name == "weight" else c for c in one.manifest.columns)
    write_manifest(one.manifest.but(columns=[c.values() for c in columns]), one.path)
    one = Events.open(one.path)
    assert "different units: no unit, pb" in doubts([one, other])[0]
    assert merge([one, other], tmp_path / "both").schema["weight"].unit == ""
    assert merge([one], tmp_path / "alone").schema["weight"].unit == "pb"


ends = st.none() | st.integers(-1, 12).map(float)
ranges = st.tuples(ends, ends).filter(lambda pair: None in pair or pair[0] < pair[1])


@given(st.integers(0, 60), st.dictionaries(st.sampled_from(["ht", "n_jet", "weight"]), ranges, max_size=3))
@settings(max_examples=25)
def test_a_skim_counts_every_event_in_or_out(rows: int, select: dict[str, tuple[float | None, float | None]]) -> None:
    derive = {"ht": {"by": "Sum", "of": "jet_pt"}, "n_jet": {"by": "Count", "of": "jet_pt"}}
    with tempfile.TemporaryDirectory() as folder:
        events = sample(Path(folder) / "all", rows)
        kept = skim(events, Path(folder) / "kept", how(select=select, derive=derive))
        low = {name: -np.inf if pair[0] is None else pair[0] for name, pair in select.items()}
        high = {name: np.inf if pair[1] is None else pair[1] for name, pair in select.items()}
        expected, failed = [], {}
        for row in rows_of(events):
            numbers = {"ht": np.float32(sum(row["jet_pt"])), "n_jet": len(row["jet_pt"]), "weight": row["weight"]}
            bad = [name for name in select if not low[name] <= numbers[name] < high[name]]
            if bad:
                failed[bad[0]] = failed.get(bad[0], 0) + 1
            else:
                expected.append(row["event_id"])
        assert [row["event_id"] for row in rows_of(kept)] == expected
        found = rejected(kept.manifest.made_by)
        assert {reason.split()[0]: number for reason, number in found.items()} == failed
        assert len(events) == len(kept) + found.total()


def test_a_skim_of_a_skim_keeps_all_cuts_and_counts_its_own(tmp_path: Path, toy: Events) -> None:
    first = skim(toy, tmp_path / "first", how(select={"ht": (5, None)}, derive={"ht": {"by": "Sum", "of": "jet_pt"}}))
    second = skim(first, tmp_path / "second", how(select={"ht": (None, 12)}, columns=("jet_pt", "ht")))
    assert second.manifest.cuts == {"skim": [{"ht": [5, None]}, {"ht": [None, 12]}]}
    assert second.schema.names == ("event_id", "weight", "jet_pt", "ht")
    assert second.schema["ht"].unit == "GeV"
    assert len(first) - len(second) == rejected(second.manifest.made_by)["ht is not in [-inf, 12)"] > 0
    assert origins(second) == {second.fingerprint, first.fingerprint, toy.fingerprint}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"select": {"jet_pt": (1, None)}}, "'jet_pt' holds a list per event"),
        ({"select": {"wieght": (1, None)}}, "did you mean 'weight'"),
        ({"columns": ("jet_ptt",)}, "did you mean 'jet_pt'"),
        ({"derive": {"ht": {"by": "Sum", "of": "jet_ptt"}}}, "did you mean 'jet_pt'"),
        ({"derive": {"weight": {"by": "Sum", "of": "jet_pt"}}}, "has a column 'weight' already"),
        ({"derive": {"x": {"by": "Uniform", "low": 0, "high": 1}}}, "needs a training"),
    ],
)
def test_what_cannot_be_skimmed_is_named_and_leaves_nothing(
    tmp_path: Path, toy: Events, keys: dict, words: str
) -> None:
    with pytest.raises(ConfigError) as problem:
        skim(toy, tmp_path / "out", how(**keys))
    assert words in str(problem.value)
    assert not (tmp_path / "out").exists()


def test_options_and_a_file_say_the_same(tmp_path: Path) -> None:
    given = load(None, select=["ht=1200:", "n_jet=6:8"], derive=["ht=Sum:jet_pt"], columns=["jet_pt,ht", "run"])
    assert given == Skim(select={"ht": (1200, None), "n_jet": (6, 8)}, derive={"ht": Sum(by="Sum", of="jet_pt")},
                         columns=("jet_pt", "ht", "run"))  # fmt: skip
    file = tmp_path / "cuts.yaml"
    file.write_text(dump_yaml({"skim": given.values()}))
    assert load(file) == given
    wider = load(file, select=["ht=900:"], derive=["n=Count:jet_pt"], sets=["select.run=[1, 2]"])
    assert wider.select == {"ht": (900, None), "n_jet": (6, 8), "run": (1, 2)}
    assert wider.derive["n"] == Count(by="Count", of="jet_pt")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"select": ["ht>1200"]}, "'ht>1200' is not NAME=LOW:HIGH"),
        ({"select": ["ht=1200"]}, "write ht=1200:"),
        ({"select": ["ht=:"]}, "is not NAME=LOW:HIGH"),
        ({"select": ["ht=9:3"]}, "low = 9 is not below high = 3"),
        ({"select": ["ht=9:", "ht=:12"]}, "'ht' stands twice\n  what to do: write met=10:20 for both ends"),
        ({"derive": ["ht=jet_pt"]}, "NAME=KIND:COLUMN"),
        ({"derive": ["ht=Sum:jet_pt", "ht=Count:jet_pt"]}, "'ht' stands twice"),
        ({"derive": ["ht=Summ:jet_pt"]}, "did you mean 'Sum'"),
        ({"sets": ["selct.ht=[1, 2]"]}, "did you mean 'select'"),
    ],
)
def test_options_that_cannot_be_meant(options: dict[str, list[str]], words: str) -> None:
    with pytest.raises(ConfigError) as problem:
        load(None, **options)
    assert words in str(problem.value)


shares = st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)).filter(any)


@given(st.integers(0, 80), shares, st.integers(0, 3))
@settings(max_examples=15)
def test_a_split_on_disk_is_that_of_a_stream(rows: int, share: tuple[int, int, int], seed: int) -> None:
    parts = Split(**dict(zip(PARTS, (n / sum(share) for n in share), strict=True)), seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        events = sample(Path(folder) / "all", rows)
        made = split(events, Path(folder) / "parts", parts, rows=10)
        assert list(made) == wanted_parts(parts)
        for part, one in made.items():
            ids = one.read(["event_id"])["event_id"].to_numpy()
            assert (part_of(ids, parts) == PARTS.index(part)).all()
            assert one.name == f"all-{part}"
        assert sorted(map(repr, rows_of(*made.values()))) == sorted(map(repr, rows_of(events)))
        total = sum(one.manifest.sum_weight for one in made.values())
        assert total == pytest.approx(events.manifest.sum_weight)


def test_the_same_command_again_changes_nothing_and_another_is_refused(tmp_path: Path, toy: Events) -> None:
    out, cut = tmp_path / "out", how(select={"weight": (0, None)})
    first = skim(toy, out, cut)
    before = {file.name: file.stat().st_mtime_ns for file in out.iterdir()}
    assert skim(toy, out, cut).fingerprint == first.fingerprint
    assert {file.name: file.stat().st_mtime_ns for file in out.iterdir()} == before
    with pytest.raises(ConfigError, match=r"settings\.select\.weight: \[0\.0, None\] -> \[1\.0, None\]"):
        skim(toy, out, how(select={"weight": (1, None)}))
    other = sample(tmp_path / "other", 10, 500)
    with pytest.raises(ConfigError, match="command: skim -> merge"):
        merge([toy, other], out)
    merge([toy], tmp_path / "all", name="all")
    with pytest.raises(ConfigError, match=rf"inputs: with other {other.fingerprint}"):
        merge([toy, other], tmp_path / "all", name="all")


def test_what_was_interrupted_is_made_anew_by_the_same_command_alone(tmp_path: Path, toy: Events) -> None:
    out, other = tmp_path / "out", sample(tmp_path / "other", 30, 100)
    steps = merging([toy, other], out, rows=20)
    while next(steps) < 50:
        pass
    steps.close()
    assert sorted(file.name for file in out.iterdir()) == ["_lock", "shard-00000.parquet", "shard-00001.parquet"]
    with pytest.raises(ConfigError, match=r"events_per_shard: 20 -> 30"):
        merge([toy, other], out, rows=30)
    assert rows_of(merge([toy, other], out, rows=20)) == rows_of(toy, other)


def test_two_at_a_time_do_not_take_each_others_shards(tmp_path: Path, toy: Events) -> None:
    first = merging([toy], tmp_path / "out", rows=20)
    next(first)
    with pytest.raises(DataError, match="another jetscale is at work here"):
        merge([toy], tmp_path / "out", rows=20)
    assert list(first)[-1] == len(toy)
    assert rows_of(Events.open(tmp_path / "out")) == rows_of(toy)


def test_strangers_are_left_alone(tmp_path: Path, toy: Events) -> None:
    stranger = tmp_path / "out" / "mine.parquet"
    write_shard(toy.read(), stranger, toy.schema)
    with pytest.raises(DataError, match="is in the way"):
        merge([toy], tmp_path / "out")
    assert stranger.is_file()


def test_nothing_is_written_into_or_below_a_sample(tmp_path: Path, toy: Events) -> None:
    for out in (toy.path, toy.path / "below"):
        with pytest.raises(ConfigError, match="the sample"):
            split(toy, out, Split())
        with pytest.raises(ConfigError, match="the sample"):
            merge([toy], out)
    assert rows_of(Events.open(toy.path)) == rows_of(toy)


def test_nothing_is_written_above_other_samples(tmp_path: Path, toy: Events) -> None:
    """Whoever reads the folder as Parquet would take their events for some of it."""
    split(toy, tmp_path / "parts", Split(train=0.5, validation=0, test=0.5))
    files = job(None, map="flat", files=["a.root"], name="a")
    for make in (
        lambda: merge([toy], tmp_path / "parts"),
        lambda: skim(toy, tmp_path / "parts", Skim()),
        lambda: prepare(files, tmp_path / "parts"),
    ):
        with pytest.raises(ConfigError, match=r"has Parquet files in .*parts/(train|test)"):
            make()
    with pytest.raises(ConfigError, match="lies below the sample"):
        prepare(files, toy.path / "more")
    assert {file.name for file in (tmp_path / "parts").iterdir()} == {"train", "test"}


def test_killed_in_the_middle_it_is_whole_the_next_time(tmp_path: Path) -> None:
    parts = [sample(tmp_path / f"p{n}", 1500, 1500 * n, 400) for n in range(2)]
    code = ("import os, signal, sys\nfrom jetscale.events import Events\nfrom jetscale.data.samples import merging\n"
            "for done in merging([Events.open(one) for one in sys.argv[2:]], sys.argv[1] and __import__('pathlib')"
            ".Path(sys.argv[1]), rows=900):\n    if done > 2800: os.kill(os.getpid(), signal.SIGKILL)")  # fmt: skip
    out = tmp_path / "all"
    words = [sys.executable, "-c", code, str(out), *(str(one.path) for one in parts)]
    root = str(Path(jetscale.__file__).parents[1])
    done = subprocess.run(words, check=False, env={**os.environ, "PYTHONPATH": root})
    assert done.returncode == -signal.SIGKILL
    assert (out / "shard-00001.parquet").is_file() and not (out / MANIFEST).exists()
    assert rows_of(merge(parts, out, rows=900)) == rows_of(*parts)
    assert [file.name for file in out.iterdir() if file.name.startswith(".")] == []


@pytest.fixture(scope="module")
def split_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Events, dict[str, Events]]:
    """A run that was trained on the training part, on disk, of a sample."""
    room = tmp_path_factory.mktemp("room")
    whole = Events.write(Assigner().toy(400, 1), room / "toy")
    parts = split(whole, room / "parts", Split(train=0.5, validation=0.2, test=0.3, seed=3))
    values = {"system": "assigner", "task": {"width": 8, "layers": 2, "readout": "argmax"}, "horizon": {"steps": 2},
              "stream": {"samples": {"toy": {"events": str(parts["train"].path)}},
                         "split": {"train": 0.9, "validation": 0.05, "test": 0.05, "seed": 7}},
              "scale": {"engine": "torch", "launch": "here", "events_per_step": 64},
              "track": {"wandb": False}}  # fmt: skip
    train(resolve([("test", values)], "test").run, room / "run")
    return room / "run", whole, parts


def scored_parts(run: Path, events: Events, out: Path) -> tuple[np.ndarray, np.ndarray]:
    table = score(run, events, out).read(["event_id", "split"])
    return table["event_id"].to_numpy(), table["split"].to_numpy()


def test_a_run_has_not_seen_the_other_parts_of_a_split_on_disk(
    split_run: tuple[Path, Events, dict[str, Events]], tmp_path: Path
) -> None:
    run, whole, parts = split_run
    for part in ("validation", "test"):
        assert set(scored_parts(run, parts[part], tmp_path / part)[1]) == {3}
    ids, seen = scored_parts(run, whole, tmp_path / "whole")
    train_ids = parts["train"].read(["event_id"])["event_id"].to_numpy()
    ours = np.isin(ids, train_ids)
    assert set(seen[~ours]) == {3} and set(seen[ours]) == {0, 1, 2}


def test_a_run_has_seen_the_skim_and_the_merge_of_what_it_was_trained_on(
    split_run: tuple[Path, Events, dict[str, Events]], tmp_path: Path
) -> None:
    run, whole, parts = split_run
    expected = dict(zip(*scored_parts(run, whole, tmp_path / "whole"), strict=True))
    merged = merge([parts["validation"], parts["train"]], tmp_path / "merged")
    skimmed = skim(whole, tmp_path / "skimmed", how(select={"decay_mode": (1, None)}))
    again = skim(score(run, whole, tmp_path / "scored"), tmp_path / "again", how(columns=whole.schema.names))
    for number, events in enumerate((merged, skimmed, again)):
        ids, seen = scored_parts(run, events, tmp_path / f"out{number}")
        assert [expected[one] for one in ids] == list(seen), events.name
        assert {0, 3} <= set(seen) or events is merged


def test_scores_are_columns_like_others(split_run: tuple[Path, Events, dict[str, Events]], tmp_path: Path) -> None:
    run, _, parts = split_run
    scored = [score(run, parts[part], tmp_path / part) for part in ("validation", "test")]
    merged = merge(scored, tmp_path / "merged")
    assert merged.schema.names == scored[0].schema.names and "split" in merged.schema
    assert rows_of(merged) == rows_of(*scored)


def test_an_own_kind_that_changed_is_another_skim(tmp_path: Path, toy: Events) -> None:
    file = tmp_path / "mine.py"
    text = ("import numpy as np\nfrom jetscale.derive import Derived\nfrom jetscale.schema import Column\n\n\n"
            "class Mine(Derived):\n    of: str\n\n    def numbers(self):\n        return (self.of,)\n\n"
            "    def column(self, name, schema):\n"
            "        return Column(name=name, dtype='float32', unit='', doc='')\n\n"
            "    def make(self, table, key_B):\n        return 2 * table[self.of].to_numpy()\n")  # fmt: skip
    file.write_text(text)
    cut = load(None, derive=[f"twice={file}:Mine:weight"], select=["twice=2:"])
    kept = skim(toy, tmp_path / "out", cut)
    assert kept.read()["twice"].to_numpy().min() >= 2
    assert kept.schema["twice"] == Column(name="twice", dtype="float32", unit="", doc="")
    file.write_text(text.replace("2 *", "3 *"))
    with pytest.raises(ConfigError, match=r"derive\.twice"):
        skim(toy, tmp_path / "out", load(None, derive=[f"twice={file}:Mine:weight"], select=["twice=2:"]))


def test_an_empty_sample_stays_a_sample(tmp_path: Path, toy: Events) -> None:
    none = skim(toy, tmp_path / "none", how(select={"weight": (100, None)}))
    assert (len(none), none.manifest.sum_weight, none.read().num_rows) == (0, 0.0, 0)
    assert isinstance(merge([none, toy], tmp_path / "all").read(), pa.Table)


def test_the_commands_do_what_the_functions_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = sample(tmp_path / "one", 40), sample(tmp_path / "other", 30, 100)

    def run(*words: object) -> str:
        assert cli.main([*map(str, words), "--out", str(tmp_path / "out" / str(words[0]))]) == 0
        return capsys.readouterr().out

    assert "merge: 70 events in 4 shards" in run("merge", one.path, other.path, "--events-per-shard", 20)
    cuts = tmp_path / "cuts.yaml"
    cuts.write_text("skim: {derive: {n: {by: Count, of: jet_pt}}, select: {n: [1, null]}}\n")
    told = run("skim", tmp_path / "out" / "merge", cuts, "--derive", "ht=Sum:jet_pt", "--select", "ht=6:").splitlines()
    kept = Events.open(tmp_path / "out" / "skim")
    counts = {line.split("  ")[-1]: int(line.split()[0].replace(",", "")) for line in told if "  " in line}
    assert counts["events in"] == 70 and counts["events out"] == len(kept)
    assert -counts["n is not in [1, inf)"] - counts["ht is not in [6, inf)"] == 70 - len(kept)
    told = run("split", kept.path, "--parts", "train=0.5,test=0.5")
    assert "validation" not in told
    parts = [Events.open(tmp_path / "out" / "split" / part) for part in ("train", "test")]
    assert sum(map(len, parts)) == len(kept)
    for wrong in ("train=0.5", "train=half", "tran=1"):
        assert cli.main(["split", str(one.path), "--parts", wrong, "--out", str(tmp_path / "wrong")]) == 2
    assert not (tmp_path / "wrong").exists()
