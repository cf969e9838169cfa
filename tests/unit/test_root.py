"""A sample as a ROOT file holds the same numbers."""

import awkward as ak
import numpy as np
import pytest
import uproot

from jetscale.errors import DataError
from jetscale.evaluate.root import write_root
from jetscale.events import Events, as_awkward, write_manifest, write_shard


@pytest.fixture
def sample(tmp_path) -> Events:
    pts = [[300.0, 200.0, 100.0], [], [90.0]] * 3
    jets = {
        f"jet_{name}": ak.Array(pts) / scale for name, scale in (("pt", 1), ("eta", 200), ("phi", 300), ("mass", 10))
    }
    return Events.write(ak.Array({**jets, "true_mass": ak.Array([900.0] * 9)}), tmp_path / "sample", rows_per_shard=4)


def test_every_column_comes_back(sample, tmp_path):
    file = write_root(sample, tmp_path / "out" / "sample.root")
    with uproot.open(file) as root:
        arrays = root["events"].arrays()
    events = as_awkward(sample.read())
    for name in sample.schema.names:
        assert ak.all(arrays[name] == events[name]), name
    assert list(arrays["njet"]) == [3, 0, 1] * 3


def test_no_half_written_file_stays(sample, tmp_path):
    for shard in sample.manifest.shards[1:]:
        (sample.path / shard.file).unlink()
    with pytest.raises(Exception, match=r"shard-00001"):
        write_root(sample, tmp_path / "sample.root")
    assert not list(tmp_path.glob("*.root*"))
    assert not list(tmp_path.glob(".*.part"))


def test_every_event_stands_in_it_once_and_finds_its_friend(sample, tmp_path, monkeypatch):
    """Several pieces per shard, and an empty shard among them."""
    monkeypatch.setattr("jetscale.evaluate.root.ROWS", 3)
    empty = write_shard(sample.read().slice(0, 0), sample.path / "shard-00009.parquet", sample.schema)
    first, *rest = sample.manifest.shards
    write_manifest(sample.manifest.but(shards=[shard.values() for shard in (empty, first, empty, *rest)]), sample.path)
    with uproot.open(write_root(Events.open(sample.path), tmp_path / "sample.root")) as root:
        tree = root["events"]
        assert tree["event_id"].array(library="np").dtype == np.int64
        assert tree["event_id"].array(library="np").tolist() == sample.read()["event_id"].to_pylist()
        assert tree.num_entries == 9


def test_a_sample_without_events_is_an_empty_tree(sample, tmp_path):
    none = Events.write(sample.read().slice(0, 0), tmp_path / "none")
    with uproot.open(write_root(none, tmp_path / "none.root")) as root:
        assert root["events"].num_entries == 0
        assert set(sample.schema.names) <= set(root["events"].keys())


def test_a_file_of_this_sample_is_kept_and_another_one_is_left_alone(sample, tmp_path):
    file = write_root(sample, tmp_path / "sample.root")
    before = file.stat().st_mtime_ns
    assert write_root(sample, file).stat().st_mtime_ns == before
    none = Events.write(sample.read().slice(0, 0), tmp_path / "none")
    with pytest.raises(DataError, match="holds another sample"):
        write_root(none, file)
    assert file.stat().st_mtime_ns == before


@pytest.mark.parametrize("what", ["text", "root", "folder", "empty"])
def test_what_somebody_else_has_written_is_left_alone(sample, tmp_path, what):
    file = tmp_path / "sample.root"
    if what == "root":
        with uproot.recreate(file) as root:
            root["events"] = {"mass": np.zeros(3)}
    elif what == "folder":
        file.mkdir()
    else:
        file.write_text("years of work" if what == "text" else "")
    before = None if what == "folder" else file.read_bytes()
    with pytest.raises(DataError, match="jetscale has not written it"):
        write_root(sample, file)
    assert before is None or file.read_bytes() == before
