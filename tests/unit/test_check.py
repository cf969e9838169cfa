"""A sample against its manifest: each kind of damage is found where it is, all of them at once, and nothing else."""

import json
import shutil
from itertools import pairwise
from pathlib import Path

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.dataset import dataset

from jetscale import cli
from jetscale.data.check import Finding, checking
from jetscale.data.samples import merge
from jetscale.data.skim import Skim, skim
from jetscale.errors import JetscaleError
from jetscale.events import MANIFEST, Events, describe_shard, read_manifest, write_manifest

ROWS, PER_SHARD = 40, 10


@pytest.fixture
def good(tmp_path: Path) -> Path:
    dice = np.random.default_rng(1)
    counts = dice.integers(1, 5, ROWS)
    jets = {name: ak.unflatten(dice.uniform(1, 6, counts.sum()).astype(np.float32), counts)
            for name in ("jet_pt", "jet_eta", "jet_phi", "jet_mass", "jet_tag")}  # fmt: skip
    numbers = {"weight": dice.uniform(0.5, 1.5, ROWS), "met": dice.uniform(0, 100, ROWS).astype(np.float32),
               "run": np.repeat([1, 2], ROWS // 2), "luminosity_block": np.arange(ROWS) // 3,
               "event": np.arange(ROWS) + 100}  # fmt: skip
    Events.write(ak.zip({**jets, **numbers}, depth_limit=1), tmp_path / "good", rows_per_shard=PER_SHARD)
    return tmp_path / "good"


def found(path: Path) -> list[Finding]:
    steps = list(checking(path))
    return [one for step in steps for one in step.findings]


def errors(path: Path) -> list[Finding]:
    return [one for one in found(path) if one.error]


def shard(number: int) -> str:
    return f"shard-{number:05d}.parquet"


def change(path: Path, number: int, names: dict[str, object], *, told: bool = True) -> None:
    """Other values in a shard, past all checks; `told` makes the manifest know counts and hash of it."""
    file = path / shard(number)
    table = pq.read_table(file, partitioning=None)
    for name, values in names.items():
        field = table.schema.field(name)
        array = values if isinstance(values, pa.Array) else pa.array(values, type=field.type)
        table = table.set_column(table.schema.get_field_index(name), pa.field(name, array.type, field.nullable), array)
    pq.write_table(table, file)
    if told:
        tell(path, number)


def tell(path: Path, number: int) -> None:
    manifest = json.loads((path / MANIFEST).read_text())
    manifest["shards"][number] = describe_shard(path / shard(number)).values()
    (path / MANIFEST).write_text(json.dumps(manifest))


def lists(path: Path, number: int, name: str) -> list[list[float]]:
    return pq.read_table(path / shard(number), partitioning=None)[name].to_pylist()


def test_a_good_sample_has_nothing_against_it(good: Path) -> None:
    assert found(good) == []
    assert sum(step.rows for step in checking(good)) == ROWS


@pytest.mark.parametrize("name", ["qcd", "gluino-1500", "jets-top"])
def test_what_ships_is_whole(name: str) -> None:
    assert found(Path(f"shipped:{name}")) == []


def test_a_missing_and_an_unreadable_shard_are_listed_with_the_rest(good: Path) -> None:
    (good / shard(0)).unlink()
    (good / shard(1)).write_bytes(b"PAR1 and then nothing")
    half = (good / shard(2)).read_bytes()
    (good / shard(2)).write_bytes(half[: len(half) // 2])
    change(good, 3, {"met": [float("nan"), *range(9)]})
    assert {one.where for one in errors(good)} == {shard(n) for n in range(4)}
    said = " ".join(one.what for one in errors(good))
    assert "is missing" in said and "cannot be read" in said and "not finite" in said


def test_damage_inside_a_shard_is_found_by_its_hash(good: Path) -> None:
    file = good / shard(1)
    content = bytearray(file.read_bytes())
    content[200] ^= 255
    file.write_bytes(content)
    assert any(one.where == shard(1) and "sha256" in one.what for one in errors(good))


def test_damage_can_be_mended_by_the_command_that_made_the_sample(good: Path) -> None:
    (good / shard(1)).unlink()
    assert [one.cure for one in errors(good)] == ["copy it back or make the sample anew"]
    edit(good, command="ingest")
    (one,) = errors(good)
    assert "run the same jetscale ingest again" in one.cure


@pytest.mark.parametrize(
    ("column", "place", "value", "words"),
    [
        ("met", 3, float("inf"), "values that are not finite: 1, the first inf of event 13"),
        ("decay_mode", 2, -5, "values outside -1 to inf: 1, the first -5 of event 12"),
    ],
)
def test_a_bad_number_is_named_with_its_event(good: Path, column: str, place: int, value: float, words: str) -> None:
    values = lists(good, 1, column)
    values[place] = value
    change(good, 1, {column: values})
    (one,) = errors(good)
    assert (one.where, one.column) == (shard(1), column)
    assert words in one.what


def test_a_weight_that_is_no_number_is_named_and_not_summed(good: Path) -> None:
    change(good, 1, {"weight": [float("nan"), *range(9)]}, told=False)
    hashed, odd = errors(good)
    assert "sha256" in hashed.what
    assert (odd.column, odd.what) == ("weight", "values that are not finite: 1, the first nan of event 10")


def test_bad_numbers_of_jets_are_named_with_their_event(good: Path) -> None:
    phi, pt = lists(good, 2, "jet_phi"), lists(good, 2, "jet_pt")
    long = next(row for row, values in enumerate(pt) if len(values) > 1)
    phi[4][-1] = 90.0
    pt[long] = sorted(pt[long])
    change(good, 2, {"jet_phi": phi, "jet_pt": pt})
    found = {one.column: one.what for one in errors(good)}
    assert found.keys() == {"jet_phi", "jet_pt"}
    assert found["jet_phi"] == "values outside -7 to 7: 1, the first 90 of event 24"
    assert "pt must fall" in found["jet_pt"] and found["jet_pt"].endswith(f"of event {20 + long}")


def test_pt_may_rise_from_event_to_event(good: Path) -> None:
    pt = lists(good, 0, "jet_pt")
    pt.sort(key=lambda values: values[0])
    assert any(low[-1] < high[0] for low, high in pairwise(pt))
    names = [name for name in pq.read_schema(good / shard(0)).names if name.startswith("jet_")]
    change(good, 0, {name: pt for name in names if "parent" not in name} | {
        name: [[-1] * len(values) for values in pt] for name in names if "parent" in name})  # fmt: skip
    assert errors(good) == []


def test_lists_of_other_lengths(good: Path) -> None:
    tags = lists(good, 1, "jet_tag")
    tags[2].append(0.5)
    change(good, 1, {"jet_tag": tags})
    (one,) = errors(good)
    assert (one.where, one.column) == (shard(1), "jet_tag")
    assert "event 2" in one.what


def test_nulls_among_numbers_and_inside_lists(good: Path) -> None:
    met, tags = lists(good, 0, "met"), lists(good, 0, "jet_tag")
    met[1], tags[3][0] = None, None
    table = pq.read_table(good / shard(0), partitioning=None)
    fields = [field.with_nullable(True) for field in table.schema]
    open_ = table.cast(pa.schema(fields))
    for name, values in (("met", met), ("jet_tag", tags)):
        place = open_.schema.get_field_index(name)
        open_ = open_.set_column(place, fields[place], pa.array(values, type=fields[place].type))
    pq.write_table(open_, good / shard(0))
    tell(good, 0)
    assert {one.column for one in errors(good) if "nulls" in one.what} >= {"jet_tag"}
    assert any("'met' has 1 nulls" in one.what for one in errors(good))
    assert any(one.column == "met" and "may hold nulls" in one.what for one in found(good))


def test_columns_and_types_that_the_manifest_does_not_know(good: Path) -> None:
    file = good / shard(3)
    table = pq.read_table(file, partitioning=None)
    table = table.drop_columns(["met"]).append_column("more", pa.array(np.zeros(10)))
    table = table.set_column(table.schema.get_field_index("run"), "run", table["run"].cast(pa.float64()))
    pq.write_table(table, file)
    tell(good, 3)
    said = [one.what for one in errors(good)]
    assert any("'met' is missing" in what for what in said) and any("'run' holds double" in what for what in said)
    assert len(said) == 2
    (extra,) = [one for one in found(good) if not one.error and one.column == "more"]
    assert extra.where == shard(3)


def test_counts_and_sums_that_are_not_those_of_the_manifest(good: Path) -> None:
    manifest = json.loads((good / MANIFEST).read_text())
    manifest["shards"][0]["sum_weight"] *= 1.001
    manifest["shards"][1]["row_groups"] = [4, 6]
    manifest["shards"][2]["rows"] = 11
    (good / MANIFEST).write_text(json.dumps(manifest))
    found = {(one.where, one.what.split()[0]) for one in errors(good)}
    assert found == {(shard(0), "sums"), (shard(1), "has"), (MANIFEST, "says")}


def test_an_id_that_stands_twice_is_found_across_shards(good: Path) -> None:
    ids = lists(good, 3, "event_id")
    ids[5], ids[6] = 2, 14
    change(good, 3, {"event_id": ids})
    (one,) = errors(good)
    assert one.where == f"{shard(0)}, {shard(3)}"
    assert f"2 of them stand more than once, 2 in {shard(0)} and in {shard(3)}" in one.what


def test_an_event_of_data_that_stands_twice_is_a_warning(good: Path) -> None:
    change(good, 2, {"run": lists(good, 1, "run"), "luminosity_block": lists(good, 1, "luminosity_block"),
                     "event": lists(good, 1, "event")})  # fmt: skip
    (one,) = found(good)
    assert not one.error
    assert one.where == f"{shard(1)}, {shard(2)}" and one.what.startswith("10 events of data stand more than once")


def test_a_shard_that_the_manifest_names_twice(good: Path) -> None:
    manifest = json.loads((good / MANIFEST).read_text())
    manifest["shards"].append(manifest["shards"][0])
    (good / MANIFEST).write_text(json.dumps(manifest))
    assert {one.what.split()[0] for one in errors(good)} == {"names", "is"}  # and its ids are not unique


def test_what_readers_of_the_folder_would_take_in(good: Path) -> None:
    for place in ("copy.parquet", "below/copy.parquet", "_aside/copy.parquet", ".hidden.parquet", "_log.txt"):
        (good / place).parent.mkdir(exist_ok=True)
        shutil.copy(good / shard(0), good / place)
    (good / "notes.txt").write_text("of mine")
    listed = {one.where: one.error for one in found(good)}
    assert listed == {"copy.parquet": True, "below/copy.parquet": True, "notes.txt": False}
    (good / "notes.txt").unlink()
    taken = {str(Path(file).relative_to(good)) for file in dataset(good).files}
    assert taken == {*(shard(n) for n in range(4)), "copy.parquet", "below/copy.parquet"}


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("weight", 0.0, "is 0 in every event"),
        ("met", 7.0, "columns with one value in every event: met = 7"),
        ("true_mass", 1500.0, None),
    ],
)
def test_what_is_odd_and_no_error(good: Path, column: str, values: float, words: str | None) -> None:
    for number in range(4):
        change(good, number, {column: [values] * 10})
    assert [(one.error, one.what) for one in found(good)] == ([] if words is None else [(False, words)])


def test_ids_that_are_one_floating_point_number_are_no_constant(good: Path) -> None:
    for number in range(4):
        change(good, number, {"event_id": [(1 << 62) + 10 * number + entry for entry in range(10)]})
    assert not found(good)


def test_scores_may_have_one_value(good: Path) -> None:
    for number in range(4):
        change(good, number, {"met": [3.0] * 10})
    assert len(found(good)) == 1
    edit(good, added=["met"])
    assert not found(good)


def test_weights_of_which_one_decides_everything(tmp_path: Path) -> None:
    rows = 1000
    jets = ak.unflatten(np.ones(rows, dtype=np.float32), 1)
    weights = np.where(np.arange(rows) == 0, 1e6, 1.0)
    Events.write(ak.zip({**dict.fromkeys(("jet_pt", "jet_eta", "jet_phi", "jet_mass"), jets), "weight": weights,
                         "x": np.arange(rows)}, depth_limit=1), tmp_path / "few")  # fmt: skip
    said = [one.what for one in found(tmp_path / "few") if one.column == "weight"]
    assert len(said) == 1 and said[0].startswith("differs so much that 1000 events count as 1")


def test_files_that_could_not_be_ingested_are_told(good: Path) -> None:
    manifest = Events.open(good).manifest
    write_manifest(manifest.but(made_by={"command": "ingest", "bad": {"b.root": "is truncated"}}), good)
    (one,) = found(good)
    assert (one.error, one.where) == (False, "b.root") and "is truncated" in one.what


def test_an_empty_sample_is_a_sample(good: Path, tmp_path: Path) -> None:
    empty = Events.write(Events.open(good).read().slice(0, 0), tmp_path / "empty")
    assert found(empty.path) == []


def edit(path: Path, **changes: object) -> None:
    manifest = read_manifest(path)
    write_manifest(manifest.but(made_by={**manifest.made_by, **changes}), path)


FILE = {"file": "a.root", "entries": 50, "kept": 40, "rejected": {"met is not in [0, inf)": 10},
        "shards": [shard(n) for n in range(4)]}  # fmt: skip
INGESTED = {"command": "ingest", "entries": 50, "kept": 40, "rejected": {"met is not in [0, inf)": 10}}


@pytest.mark.parametrize(
    ("total", "file", "words"),
    [
        ({}, {}, None),
        ({"kept": 39}, {}, "all files: 50 entries are not 39 kept and 10 rejected"),
        ({"kept": 39, "entries": 49}, {}, "all files: 39 entries were kept, and the shards have 40"),
        ({"rejected": {}}, {}, "all files: 50 entries are not 40 kept and 0 rejected"),
        ({}, {"shards": [shard(0)]}, "a.root: 40 entries were kept, and the shards have 10"),
        ({}, {"entries": 51, "rejected": {"a": 11}}, "all files: 50 entries, and one by one 51"),
    ],
)
def test_entries_are_counted_once(good: Path, total: dict[str, object], file: dict[str, object],
                                  words: str | None) -> None:  # fmt: skip
    edit(good, **{**INGESTED, **total}, files=[{**FILE, **file}])
    said = [one.what for one in errors(good)]
    assert words in said if words else said == []


def test_what_went_into_a_merge_and_a_skim_is_in_it(good: Path, tmp_path: Path) -> None:
    events = Events.open(good)
    other = Events.write(events.read(), tmp_path / "other")
    change(other.path, 0, {"event_id": [n + 1000 for n in range(ROWS)]})
    merged = merge([events, Events.open(other.path)], tmp_path / "merged")
    cut = skim(events, tmp_path / "cut", Skim(select={"met": (50.0, None)}))
    assert errors(merged.path) == errors(cut.path) == []
    edit(cut.path, rejected={"met is not in [50, inf)": 1})
    assert [one.what for one in errors(cut.path)] == [
        f"40 events went in, 1 were left out, and the shards have {len(cut)}"
    ]
    before = merged.manifest.made_by["of"]
    edit(merged.path, of=[before[0], {**before[1], "rows": 41, "sum_weight": 2 * before[1]["sum_weight"]}])
    lost, weights = errors(merged.path)
    assert lost.what == "81 events went in, 0 were left out, and the shards have 80"
    assert "were merged, and the shards have" in weights.what


@pytest.mark.parametrize(("factor", "words"), [(1e5, "more than any collider gives"), (0.0, "is 0 for some jets")])
def test_jets_in_other_units_and_slots_without_one_are_odd(good: Path, factor: float, words: str) -> None:
    change(good, 1, {"jet_pt": [[factor * pt for pt in event] for event in lists(good, 1, "jet_pt")]})
    (one,) = found(good)
    assert not one.error and one.column == "jet_pt" and words in one.what


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"", b"[1]", b'{"version": 2, "name": "a", "columns": []}'])
def test_a_manifest_that_is_none(good: Path, content: bytes) -> None:
    (good / MANIFEST).write_bytes(content)
    with pytest.raises(JetscaleError, match=MANIFEST):
        found(good)


def test_the_command_lists_everything_and_ends_with_1(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(good)]) == 0
    assert f"{good}: 40 events in 4 shards are what the manifest says\n" in capsys.readouterr().out
    (good / shard(0)).unlink()
    change(good, 1, {"met": [float("nan")] * 10}, told=False)
    assert cli.main(["check", str(good), str(good.parent / "nowhere"), "shipped:qcd"]) == 1
    out, err = capsys.readouterr()
    for words in ("the manifest names this shard, but it is missing", "sha256", "values that are not finite: 10",
                  "nowhere: is not a sample", "shipped:qcd: 8,000 events in 32 shards"):  # fmt: skip
        assert words in out
    assert out.count("what to do") >= 3
    assert "errors" in err
