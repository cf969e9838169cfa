"""A sample as a ROOT file holds the same numbers."""

import awkward as ak
import pytest
import uproot

from jetscale.evaluate.root import write_root
from jetscale.events import Events, as_awkward


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
