"""Friends: scores beside every source file, entry by entry."""

from collections import deque
from pathlib import Path

import awkward as ak
import numpy as np
import pyarrow as pa
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st

from jetscale.data.ingest.ingest import ingest
from jetscale.data.ingest.job import load
from jetscale.data.samples import merge
from jetscale.errors import DataError
from jetscale.evaluate import friends
from jetscale.evaluate.friends import names_of, origins, write_friends
from jetscale.events import Events, as_awkward, write_manifest, write_shard
from jetscale.schema import Column

ENTRIES = {"2017/ntuple.root": 70, "2018/ntuple.root": 45, "2018/other.root": 3}
ADDED = (
    Column(name="reco_mass", dtype="float32", unit="GeV", doc="made up"),
    Column(name="split", dtype="int8", unit="", doc="made up"),
    Column(name="jet_assigned", of="jet", dtype="int8", unit="", doc="made up"),
)


def write_source(file: Path, entries: int, seed: int) -> None:
    """A flat ntuple whose jets do not fall in pt, and some of whose events have none."""
    dice = np.random.default_rng(seed)
    counts = dice.integers(0, 7, entries)
    flat = {name: dice.uniform(*ends, counts.sum()).astype("f4")
            for name, ends in {"pt": (20, 300), "eta": (-2, 2), "phi": (-3, 3), "mass": (1, 20)}.items()}  # fmt: skip
    jets = ak.unflatten(ak.zip(flat), counts)
    file.parent.mkdir(parents=True, exist_ok=True)
    with uproot.recreate(file) as root:
        root.mktree("nominal", {"event": "int64", "jet": ak.type(jets).content})
        root["nominal"].extend({"event": np.arange(entries) + 1000 * seed, "jet": jets})


def ingested(files: list[Path], out: Path, sets: tuple[str, ...] = ()) -> Events:
    job = load(None, (*sets, "events_per_shard=20", "keep.jet.pt=[40, null]", "derive.n={by: Count, of: jet_pt}"),
               name=out.name, files=[str(file) for file in files], map="flat")  # fmt: skip
    deque(ingest(job, out, here=True), maxlen=0)
    return Events.open(out)


def scored(events: Events, out: Path) -> Events:
    """The same with columns that tell what they were made of."""
    shards = []
    schema = events.schema.plus(*ADDED)
    for shard in events.manifest.shards:
        table = events.read(shard=shard)
        array = as_awkward(table)
        made = {
            "reco_mass": array.event_id % 1000 + ak.sum(array.jet_pt, axis=1) * 1e-3,
            "split": array.event_id % 3,
            "jet_assigned": array.jet_index % 3,
        }
        for column in ADDED:
            arrow = pa.chunked_array(
                [ak.to_arrow(ak.to_packed(made[column.name]), extensionarray=False, list_to32=True)]
            )
            table = table.append_column(column.name, arrow.cast(column.arrow))
        shards.append(write_shard(table, out / shard.file, schema).values())
    made_by = {**events.manifest.made_by, "sample": events.origin, "added": [column.name for column in ADDED]}
    columns = [column.values() for column in schema.each()]
    write_manifest(events.manifest.but(columns=columns, shards=shards, made_by=made_by), out)
    return Events.open(out)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("friends")
    for seed, (name, entries) in enumerate(ENTRIES.items()):
        write_source(place / "ntuples" / name, entries, seed)
    return place


@pytest.fixture(scope="module")
def sample(place) -> Events:
    """Some events are left out, and of the others some jets."""
    files = [place / "ntuples" / name for name in ENTRIES]
    return scored(ingested(files, place / "sample", ("select.n=[2, null]",)), place / "scored")


def written(sample, folder) -> list[Path]:
    return list(write_friends(sample, folder))


def arrays(file: Path, tree: str = "scores") -> ak.Array:
    with uproot.open(file) as root:
        return root[tree].arrays()


@pytest.mark.parametrize("rows", [7, 20, 100])
def test_every_entry_has_its_scores(sample, place, tmp_path, monkeypatch, rows):
    monkeypatch.setattr(friends, "ROWS", rows)
    assert sorted(file.relative_to(tmp_path).as_posix() for file in written(sample, tmp_path)) == sorted(ENTRIES)
    events = as_awkward(sample.read())
    selected = 0
    for name, entries in ENTRIES.items():
        source, friend = arrays(place / "ntuples" / name, "nominal"), arrays(tmp_path / name)
        assert len(friend) == len(source) == entries
        pt = source.jet_pt
        keep = ak.sum(pt >= 40, axis=1) >= 2
        assert ak.all((friend.selected == 1) == keep)
        selected += int(ak.sum(keep))
        chosen, jets = friend[keep], pt[keep]
        assert ak.all(chosen.event == source.event[keep])
        # Our jets are those of the source, by the place that the friend says.
        ours = jets[chosen.jet_index]
        assert ak.all(ours == ak.sort(jets[jets >= 40], axis=1, ascending=False))
        assert ak.all(chosen.jet_assigned == chosen.jet_index % 3)
        np.testing.assert_allclose(chosen.reco_mass, chosen.event_id % 1000 + ak.sum(ours, axis=1) * 1e-3, rtol=1e-5)
        assert ak.all(chosen.split == chosen.event_id % 3)
        others = friend[~keep]
        assert ak.all(np.isnan(others.reco_mass))
        assert set(others.split) | set(others.event) <= {-1}
        assert ak.all(others.njet == 0)
        assert len(set(friend.event_id)) == entries, "an id for every entry, also of those that were left out"
        assert set(events.event_id) >= set(chosen.event_id.tolist())
    assert selected == len(sample)


def test_a_friend_has_what_was_added_and_numbers_that_are_no_letters(sample, tmp_path):
    file = written(sample, tmp_path)[0]
    with uproot.open(file) as root:
        kinds = {name: branch.typename for name, branch in root["scores"].items()}
    assert set(kinds) == {"event_id", "selected", "event", "reco_mass", "split", "njet", "jet_index", "jet_assigned"}
    assert kinds["event_id"] == "int64_t"
    assert kinds["selected"] == kinds["split"] == "int32_t"


def test_what_is_there_is_kept_and_what_is_missing_is_made(sample, tmp_path):
    first, second, third = written(sample, tmp_path)
    before = {file: file.stat().st_mtime_ns for file in (first, third)}
    second.unlink()
    written(sample, tmp_path)
    assert second.exists()
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert not list(tmp_path.rglob(".*.part"))


def test_other_files_are_left_alone_before_any_is_written(sample, place, tmp_path):
    other = scored(ingested([place / "ntuples" / name for name in ENTRIES], tmp_path / "all"), tmp_path / "other")
    last = written(sample, tmp_path / "out")[-1]
    with pytest.raises(DataError, match="scores of another sample"):
        written(other, tmp_path / "out")
    stranger = tmp_path / "new" / last.relative_to(tmp_path / "out")
    stranger.parent.mkdir(parents=True)
    stranger.write_text("years of work")
    with pytest.raises(DataError, match="jetscale has not written it"):
        written(sample, tmp_path / "new")
    assert [file for file in (tmp_path / "new").rglob("*") if file.is_file()] == [stranger]


def test_a_file_of_which_nothing_was_selected_has_a_friend_all_the_same(place, tmp_path):
    files = [place / "ntuples" / name for name in ENTRIES]
    none = scored(ingested(files, tmp_path / "none", ("select.event=[0, 1000]",)), tmp_path / "scored")
    for file, entries in zip(written(none, tmp_path / "out"), ENTRIES.values(), strict=True):
        friend = arrays(file)
        assert len(friend) == entries
    assert ak.sum(friend.selected) == 0
    assert "reco_mass" in friend.fields


def test_merged_samples_find_all_their_files(place, tmp_path):
    """In whatever order the shards come."""
    files = [place / "ntuples" / name for name in ENTRIES]
    one, two = ingested(files[1:], tmp_path / "one"), ingested(files[:1], tmp_path / "two")
    both = scored(merge([one, two], tmp_path / "both"), tmp_path / "scored")
    made = {file.relative_to(tmp_path / "out").as_posix(): arrays(file) for file in written(both, tmp_path / "out")}
    assert {name: len(friend) for name, friend in made.items()} == ENTRIES
    assert all(ak.all(friend.selected == 1) for friend in made.values())


def test_samples_of_no_files_have_no_friends(tmp_path):
    events = Events.write(ak.Array({f"jet_{name}": [[1.0]] for name in ("pt", "eta", "phi", "mass")}), tmp_path / "own")
    assert origins(events) == []
    assert written(events, tmp_path / "out") == []


@pytest.mark.parametrize(("files", "names"), [
    (["/data/a/x.root"], ["x.root"]),
    (["/data/a/x.root", "/data/b/x.root"], ["a/x.root", "b/x.root"]),
    (["/data/x.h5", "/data/x.npz"], ["x.h5.root", "x.npz.root"]),
    (["root://one//store/a/x.root", "root://two//store/b/x.root"], ["a/x.root", "b/x.root"]),
    (["root://one//store/x.root", "root://two//store/x.root"], ["0/x.root", "1/x.root"]),
    (["s3://bucket/x.root", "/data/x.root"], ["x.root", "data/x.root"]),
    (["s3://bucket/../../x.root", "/data/y.root"], ["x.root", "data/y.root"]),
    (["/data/x.h5", "/data/0/x.h5.root", "/data/x.h5.root"], ["0/x.h5.root", "1/0/x.h5.root", "2/x.h5.root"]),
])  # fmt: skip
def test_files_are_named_after_their_sources(files, names):
    assert names_of(files) == names


@settings(max_examples=50)
@given(
    st.lists(
        st.lists(st.sampled_from(["a", "b", "x.root", "y.h5"]), min_size=1, max_size=3), unique_by=tuple, min_size=1
    )
)
def test_no_two_sources_share_a_name_or_leave_the_folder(parts):
    names = names_of(["/".join(["/data", *one]) for one in parts])
    assert len(set(names)) == len(parts)
    assert not any(name.startswith(("/", "..")) for name in names)
