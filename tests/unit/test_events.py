"""Events on disk: what goes in comes out, what cannot be meant is named, and nothing is ever half written."""

import json
import tempfile
from pathlib import Path

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetscale.errors import DataError
from jetscale.events import MANIFEST, Events, as_awkward, ids_for
from jetscale.schema import JET_EVENTS

NUMBERS = ("jet_pt", "jet_eta", "jet_phi", "jet_mass")
pt, mass, angle = (
    st.floats(low, high, width=32, allow_subnormal=False) for low, high in ((0.5, 1e4), (0, 1e4), (-7, 7))
)
jet = st.tuples(pt, angle, angle, mass)
samples = st.lists(st.lists(jet, max_size=5), max_size=8)


def jagged(events):
    """Lists of (pt, eta, phi, mass) as an awkward array of float32 columns."""
    counts = np.array([len(jets) for jets in events], dtype=np.int64)
    flat = np.array([one for jets in events for one in jets], dtype=np.float32).reshape(-1, 4)
    return ak.zip({name: ak.unflatten(flat[:, i], counts) for i, name in enumerate(NUMBERS)}, depth_limit=1)


def three(**changes):
    """Three events, the middle one empty, with columns changed or added; None takes one away."""
    columns = {name: ak.Array([[3.0, 1.0, 2.0], [], [5.0]]) for name in NUMBERS} | changes
    return ak.zip({name: values for name, values in columns.items() if values is not None}, depth_limit=1)


@given(samples, st.integers(1, 4))
@settings(max_examples=40)
def test_what_goes_in_comes_out_in_falling_pt(events, rows_per_shard):
    with tempfile.TemporaryDirectory() as folder:
        made = Events.write(jagged(events), Path(folder) / "mine", rows_per_shard=rows_per_shard)
        again = Events.open(Path(folder) / "mine")
        table = again.read()
        assert table.schema.names == list(JET_EVENTS.names)
        assert len(made) == len(again) == table.num_rows == len(events)
        assert all(shard.rows <= rows_per_shard for shard in again.manifest.shards)
        for row, jets in zip(table.to_pylist(), events, strict=True):
            expected = sorted(jets, key=lambda one: -one[0])
            assert row["jet_pt"] == [one[0] for one in expected]
            found = sorted(zip(*(row[name] for name in NUMBERS), strict=True))
            assert found == sorted(jets)
            assert row["jet_parent_ancestry"] == [-1] * len(jets)
            assert (row["true_mass"], row["decay_mode"], row["weight"]) == (-1, -1, 1)


@given(samples)
@settings(max_examples=15)
def test_equal_rows_have_equal_fingerprints(events):
    with tempfile.TemporaryDirectory() as folder:
        one, two = (Events.write(jagged(events), Path(folder) / name) for name in "ab")
        other = Events.write(jagged([*events, [(1.0, 0.0, 0.0, 0.0)]]), Path(folder) / "c")
    assert one.fingerprint == two.fingerprint != other.fingerprint


def test_a_table_and_an_array_are_the_same_events(tmp_path):
    made = Events.write(three(jet_parent_quark=ak.Array([[1, 2, 0], [], [1]]), weight=np.arange(3)), tmp_path / "a")
    again = Events.write(made.read(), tmp_path / "b")
    assert again.read().equals(made.read())
    assert as_awkward(made.read()).jet_parent_quark.to_list() == [[1, 0, 2], [], [1]]
    assert again.manifest.sum_weight == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"jet_pt": None, "jet_ptt": ak.Array([[3.0, 1.0, 2.0], [], [5.0]])}, ["'jet_pt' is missing", "'jet_ptt'"]),
        ({"jet_eta": None, "jet_etta": ak.Array([[3.0, 1.0, 2.0], [], [5.0]])}, ["'jet_eta' is missing", "'jet_etta'"]),
        ({"jet_phi": ak.Array([[3.0, np.nan, np.inf], [], [5.0]])}, ["'jet_phi'", "2 values", "not finite"]),
        ({"weight": np.array([1.0, np.nan, 1.0])}, ["'weight'", "1 values", "nan"]),
        ({"jet_mass": ak.Array([[3.0, 1.0], [], [5.0]])}, ["'jet_mass'", "jet_pt"]),
        ({"jet_mass": np.arange(3.0)}, ["'jet_mass'", "one number per jet"]),
        ({"jet_pt": ak.Array([[3.0, -1.0, -2.0], [], [5.0]])}, ["'jet_pt' has 2 values", "0 to inf", "-1", "GeV"]),
        ({"jet_mass": ak.Array([[3.0, 1.0, -1e-4], [], [5.0]])}, ["'jet_mass' has 1 values", "-0.0001", "set", "to 0"]),
        ({"jet_phi": ak.Array([[3.0, 100.0, 2.0], [], [5.0]])}, ["'jet_phi' has 1 values", "-7 to 7", "100", "rad"]),
        ({"jet_phi": ak.Array([[3.0, -8.0, 2.0], [], [5.0]])}, ["'jet_phi' has 1 values", "-7 to 7", "-8"]),
        ({"jet_parent_quark": ak.Array([[1, 9, 0], [], [9]])}, ["'jet_parent_quark' has 2 values", "-1 to 2", "is 9"]),
        ({"jet_parent_ancestry": ak.Array([[1, -5, 0], [], [1]])}, ["'jet_parent_ancestry' has 1", "-1 to 2", "is -5"]),
        ({"true_mass": np.array([1.0, -2.0, 0.0])}, ["'true_mass' has 1 values", "-1 to inf", "is -2"]),
        ({"decay_mode": np.array([3, -2, 0])}, ["'decay_mode' has 1 values", "-1 to inf", "is -2"]),
        ({"event_id": np.array([4, 5, 4])}, ["event_id", "not unique"]),
        ({name: np.arange(3.0) for name in NUMBERS}, ["'jet_pt' is 3 * float64", "list", "ak.unflatten"]),
        ({"jet_pt": ak.Array([[[3.0]], [], [[5.0]]])}, ["'jet_pt' is 3 * var * var * float64", "list"]),
        ({"jet_pt": ak.Array([[3.0], [], 5.0])}, ["'jet_pt' is 3 * union", "list"]),
        ({"decay_mode": np.array([300, 1, 1])}, ["'decay_mode'", "int8"]),
        ({"true_mass": ak.Array([1.0, None, 2.0])}, ["'true_mass'", "1 nulls"]),
        ({"file": ak.Array(["a", "b", "c"])}, ["'file' is 3 * string", "only numbers", "leave 'file' out"]),
        ({"tags": ak.Array([["a", "b", "c"], [], ["d"]])}, ["'tags' is 3 * var * string", "leave 'tags' out"]),
        ({"when": np.array(["2026-01-01"] * 3, "datetime64[s]")}, ["'when' is 3 * datetime64", "leave 'when' out"]),
        ({"met": ak.Array([{"pt": 1.0}] * 3)}, ["'met' is 3 * {pt: float64", "leave 'met' out"]),
        ({"jet_tracks": ak.Array([[[1.0], [], [2.0]], [], [[]]])}, ["'jet_tracks' is 3 * var * var", "leave 'jet_tr"]),
        ({"particle_pt": ak.Array([[1.0], [2.0], []])}, ["'particle_pt'", "one number per jet", "or leave it out"]),
        ({"btag": ak.Array([[0.1, None, 0.3], [], [0.5]])}, ["'btag' has 1 nulls"]),
        ({"met": np.array([1.0, np.inf, 2.0])}, ["'met' has 1 values", "not finite"]),
        ({"serial": np.array([1, 2, 2**63], np.uint64)}, ["'serial' cannot become int64"]),
    ],
)
def test_what_cannot_be_meant_is_named_and_nothing_is_written(tmp_path, changes, words):
    with pytest.raises(DataError) as caught:
        Events.write(three(**changes), tmp_path / "mine")
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert caught.value.cure
    assert not list(tmp_path.rglob("*.parquet")) and not list(tmp_path.rglob(MANIFEST))


def test_a_users_own_columns_are_kept_with_their_units(tmp_path):
    own = {"met": np.array([9.0, 8.0, 7.0]), "run": np.array([1, 2, 3], np.uint16),
           "good": np.array([True, False, True]), "btag": ak.Array([[0.3, 0.1, 0.2], [], [0.5]])}  # fmt: skip
    made = Events.write(three(**own), tmp_path / "mine", units={"met": "GeV"}, rows_per_shard=2)
    assert made.schema.names[: len(JET_EVENTS.names)] == JET_EVENTS.names
    columns = {name: (one.dtype, one.unit, one.of) for name in own for one in [made.schema[name]]}
    assert columns == {"met": ("float64", "GeV", None), "run": ("int32", "", None), "good": ("int8", "", None),
                       "btag": ("float64", "", "jet")}  # fmt: skip
    rows = made.read(["met", "run", "good", "btag", "jet_pt"]).to_pylist()
    assert rows[0] == {"met": 9.0, "run": 1, "good": 1, "btag": [0.3, 0.2, 0.1], "jet_pt": [3.0, 2.0, 1.0]}
    assert [row["btag"] for row in rows[1:]] == [[], [0.5]]
    again = Events.write(made.read(), tmp_path / "again", units={"met": "GeV"})
    assert again.schema == made.schema and again.read().equals(made.read())
    assert Events.write(three(met=np.zeros(3))[:0], tmp_path / "empty").schema["met"].dtype == "float64"


@pytest.mark.parametrize("name", ["mett", "jet_pt"])
def test_a_unit_is_of_a_users_own_column(tmp_path, name):
    with pytest.raises(DataError, match=f"units has '{name}'"):
        Events.write(three(met=np.zeros(3)), tmp_path / "mine", units={name: "TeV"})


@pytest.mark.parametrize("where", ["s3://b/x", Path("s3://b/x"), Path("/here/s3:/b/x"), "root://host//store/x"])
def test_a_url_is_refused_as_one(where):
    with pytest.raises(DataError, match=r"(s3://b/x|root://host/store/x): samples at a URL are not read yet") as caught:
        Events.open(where)
    assert "mount it" in caught.value.cure


@pytest.mark.parametrize("events", [{name: [[1.0]] for name in NUMBERS}, [{"jet_pt": [1.0]}], np.ones((3, 4)), None])
def test_what_is_neither_an_array_nor_a_table_is_refused(tmp_path, events):
    with pytest.raises(DataError, match=f"are a {type(events).__name__}, not an awkward array") as caught:
        Events.write(events, tmp_path)
    assert "ak.Array" in caught.value.cure and not list(tmp_path.iterdir())


def test_a_mass_of_0_says_background_in_the_decay_mode_too(tmp_path):
    masses = np.array([0.0, 900.0, -1.0])
    made = Events.write(three(true_mass=masses), tmp_path / "mass").read()
    assert made["decay_mode"].to_pylist() == [0, -1, -1]
    given = Events.write(three(true_mass=masses, decay_mode=np.array([-1, 3, 5])), tmp_path / "both").read()
    assert given["decay_mode"].to_pylist() == [-1, 3, 5]
    assert Events.write(three(), tmp_path / "none").read()["decay_mode"].to_pylist() == [-1] * 3


def test_both_conventions_of_phi_and_the_edges_of_every_range_are_taken(tmp_path):
    edges = three(
        jet_phi=ak.Array([[0.0, 2 * np.pi, -np.pi], [], [np.pi]]),
        jet_mass=ak.Array([[0.0, 0.0, 1.0], [], [0.0]]),
        jet_parent_quark=ak.Array([[-1, 0, 1], [], [2]]),
        true_mass=np.array([-1.0, 0.0, 900.0]),
        decay_mode=np.array([-1, 0, 3]),
    )
    assert len(Events.write(edges, tmp_path)) == 3


def test_a_manifest_without_ranges_still_opens(tmp_path):
    made = Events.write(three(), tmp_path)
    values = json.loads((tmp_path / MANIFEST).read_text())
    for column in values["columns"]:
        del column["low"], column["high"]
    (tmp_path / MANIFEST).write_text(json.dumps(values))
    old = Events.open(tmp_path)
    assert {column.low for column in old.schema.each()} == {column.high for column in old.schema.each()} == {None}
    assert old.fingerprint == made.fingerprint
    assert old.read().equals(made.read())


def test_a_folder_is_written_once(tmp_path):
    Events.write(three(), tmp_path)
    with pytest.raises(DataError, match="already holds a sample"):
        Events.write(three(), tmp_path)


@pytest.mark.parametrize("fails_at", [0, 1])
def test_a_write_that_fails_leaves_no_half_file_and_no_sample(tmp_path, monkeypatch, fails_at):
    real, calls = pq.ParquetWriter.write_table, []

    def full_disk(writer, table, **options):
        calls.append(writer)
        if len(calls) > fails_at:
            raise OSError("no space left on device")
        real(writer, table, **options)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full_disk)
    with pytest.raises(OSError, match="no space"):
        Events.write(three(), tmp_path, rows_per_shard=1)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [f"shard-{number:05d}.parquet" for number in range(fails_at)]
    with pytest.raises(DataError, match="is not a sample"):
        Events.open(tmp_path)


def test_a_manifest_that_fails_leaves_none(tmp_path, monkeypatch):
    monkeypatch.setattr("jetscale.events.os.replace", lambda *_: (_ for _ in ()).throw(OSError("gone")))
    with pytest.raises(OSError, match="gone"):
        Events.write(three(), tmp_path)
    assert not (tmp_path / MANIFEST).exists()
    assert not list(tmp_path.iterdir())


def test_opening_what_is_damaged_says_what_is_wrong(tmp_path):
    with pytest.raises(DataError, match="no _manifest.json"):
        Events.open(tmp_path)
    made = Events.write(three(), tmp_path / "mine", rows_per_shard=1)
    first, second, third = (made.path / shard.file for shard in made.manifest.shards)
    pq.write_table(pq.read_table(second).slice(0, 0), second)
    with pytest.raises(DataError, match="has 0 rows, the manifest says 1"):
        made.read()
    second.write_bytes(b"PAR1")
    with pytest.raises(DataError, match="cannot be read"):
        made.read()
    with pytest.raises(DataError, match="'jet_phi'"):
        made.read(["jet_phy"])
    third.unlink()
    with pytest.raises(DataError, match="shard-00002.parquet: the manifest names this shard"):
        Events.open(made.path)
    (made.path / MANIFEST).write_text(json.dumps({"name": "x"})[:-1])
    with pytest.raises(DataError, match="not JSON"):
        Events.open(made.path)
    assert first.exists()


def test_a_shipped_sample_is_found_by_name_and_a_wrong_name_names_the_nearest():
    assert len(Events.open("shipped:qcd")) > 0
    with pytest.raises(DataError, match="did you mean 'gluino-1300'"):
        Events.open("shipped:gluino1300")


def test_the_directory_is_plain_parquet_for_others(tmp_path):
    Events.write(three(), tmp_path / "mine", rows_per_shard=2)
    assert pa.concat_tables([pq.read_table(tmp_path / "mine")]).num_rows == 3
    assert len(ak.from_parquet(str(tmp_path / "mine"))) == 3


spaces = st.text("0123456789abcdef", min_size=12, max_size=12)


@given(spaces, st.integers(0, 2**20 - 1), st.integers(0, 2**20 - 1))
def test_ids_are_positive_and_keep_shard_and_entry_apart(namespace, shard, entry):
    (found,) = ids_for(namespace, shard, np.array([entry]))
    assert 0 <= found < 2**63
    assert (found >> 20) % 2**20 == shard
    assert found % 2**20 == entry


def test_too_many_shards_or_entries_are_refused():
    for shard, entry in ((2**20, 0), (0, 2**20), (-1, 0)):
        with pytest.raises(DataError, match="1048576"):
            ids_for("x", shard, np.array([entry]))
