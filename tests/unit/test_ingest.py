"""Files into a sample: every entry once, everything named that is left out, nothing half-written."""

import errno
import json

import awkward as ak
import numpy as np
import pyarrow.parquet as pq
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st
from ntuples import MAP, job, made, write

from jetscale.data.formats.root import RootReader
from jetscale.data.ingest.convert import STAMP, ids_of
from jetscale.data.ingest.ingest import ingest
from jetscale.data.ingest.job import load
from jetscale.errors import ConfigError, DataError, IngestError
from jetscale.events import Events


def run(given, out):
    """The sample, made in this process."""
    for _ in ingest(given, out, here=True):
        pass
    return Events.open(out)


def balanced(events):
    """The book-keeping of a manifest: what came in is what went out, and what was rejected."""
    said = events.manifest.made_by
    assert said["entries"] == said["kept"] + sum(said["rejected"].values())
    assert said["kept"] == len(events) == sum(one["kept"] for one in said["files"])
    assert sum(one["entries"] for one in said["files"]) == said["entries"]
    return said


@pytest.fixture
def two(tmp_path):
    return [write(tmp_path / f"{seed}.root", made(300, seed)) for seed in (1, 2)]


def test_every_entry_stands_in_the_sample_once(two, tmp_path):
    events = run(job(two, events_per_shard=70), tmp_path / "out")
    balanced(events)
    table = events.read()
    assert sorted(table["event"].to_pylist()) == [*range(1000, 1300), *range(2000, 2300)]
    assert len(events.manifest.shards) == 10
    row = table.slice(int(np.flatnonzero(table["event"].to_numpy() == 2117)[0]), 1).to_pylist()[0]
    branches = made(300, 2)
    order = np.argsort(-branches["Jet_pt"][117].to_numpy(), kind="stable")
    assert row["jet_index"] == order.tolist()
    for name in ("pt", "eta", "phi", "mass", "btag"):
        assert row[f"jet_{name}"] == branches[f"Jet_{name}"][117].to_numpy()[order].tolist()
    assert row["jet_pt_jes_up"] == branches["Jet_pt_up"][117].to_numpy()[order].tolist()
    assert (row["run"], row["luminosity_block"], row["true_mass"]) == (1, 11, -1.0)
    assert row["weight"] == float(branches["genWeight"][117]) * float(branches["puWeight"][117])
    assert row["weight_pileup_up"] == float(branches["genWeight"][117]) * float(branches["puWeightUp"][117])


def test_ids_say_file_and_entry(two, tmp_path):
    events = run(job(two, events_per_shard=70), tmp_path / "out")
    keys = [one["key"] for one in events.manifest.made_by["files"]]
    wanted = np.concatenate([ids_of(key, np.arange(300)) for key in keys])
    assert np.array_equal(events.read()["event_id"].to_numpy(), wanted)
    again = run(job(two[::-1]), tmp_path / "again").read()
    assert sorted(again["event_id"].to_pylist()) == sorted(wanted.tolist())


def test_a_sample_does_not_depend_on_its_cutting(two, tmp_path):
    one = run(job(two, events_per_shard=37), tmp_path / "one").read()
    other = run(job(two), tmp_path / "other").read()
    assert one.equals(other)


def test_selections_count_what_they_reject(two, tmp_path):
    given = job(two, keep={"jet": {"pt": [30, None], "eta": [-2, 2]}}, derive={"njet": {"by": "Count", "of": "jet_pt"}},
                select={"njet": [4, None], "ht": [1000, None]})  # fmt: skip
    events = run(given, tmp_path / "out")
    said = balanced(events)
    branches = [made(300, seed) for seed in (1, 2)]
    good = [(one["Jet_pt"] >= 30) & (one["Jet_eta"] >= -2.0) & (one["Jet_eta"] < 2.0) for one in branches]
    enough = [ak.to_numpy(ak.sum(one, axis=1)) >= 4 for one in good]
    hard = [one["HT"] >= 1000 for one in branches]
    assert said["rejected"] == {
        "njet is not in [4, inf)": int(sum((~one).sum() for one in enough)),
        "ht is not in [1000, inf)": int(sum((one & ~two).sum() for one, two in zip(enough, hard, strict=True))),
    }
    assert said["members_left_out"] == {"jet": int(sum(ak.sum(~one) for one in good))}
    assert min(len(jets) for jets in events.read()["jet_pt"].to_pylist()) >= 4
    assert events.manifest.cuts["select"] == {"njet": [4.0, None], "ht": [1000.0, None]}


def test_odd_numbers_reject_their_event_and_are_counted(tmp_path):
    branches = made(100)
    pt = branches["Jet_pt"].to_list()
    pt[3], pt[4], pt[5] = [float("nan")] * len(pt[3]) or [], [-1.0] * len(pt[4]), [float("inf")] * len(pt[5])
    branches["Jet_pt"] = ak.values_astype(ak.Array(pt), np.float32)
    branches["genWeight"][7] = np.nan
    events = run(job([write(tmp_path / "odd.root", branches)]), tmp_path / "out")
    said = balanced(events)
    filled = [len(pt[number]) > 0 for number in (3, 4, 5)]
    assert said["rejected"] == {
        **({"jet_pt is not finite": filled[0] + filled[2]} if filled[0] + filled[2] else {}),
        **({"jet_pt is not in [0, inf)": int(filled[1])} if filled[1] else {}),
        "weight is not finite": 1,
    }
    assert sum(filled) > 0
    assert 1007 not in events.read()["event"].to_pylist()


def test_masses_that_rounding_made_negative_are_zero(tmp_path):
    branches = made(50)
    mass = ak.flatten(branches["Jet_mass"]).to_numpy().copy()
    mass[:3], mass[10] = -1e-4, -5.0
    branches["Jet_mass"] = ak.unflatten(mass, ak.num(branches["Jet_pt"]))
    said = balanced(run(job([write(tmp_path / "odd.root", branches)]), tmp_path / "out"))
    assert said["mended"] == {"jet_mass below 0 by rounding": 3}
    assert said["rejected"] == {"jet_mass is not in [0, inf)": 1}


def test_variations_of_masses_are_mended_too(tmp_path):
    branches = made(50)
    mass = ak.flatten(branches["Jet_mass"]).to_numpy().copy()
    mass[:3] = -1e-4
    branches["Jet_mass_up"] = ak.unflatten(mass, ak.num(branches["Jet_pt"]))
    how = {**MAP, "variations": {"jms": {"Jet_mass": ["Jet_mass_up", "Jet_mass"]}}}
    given = load(None, map=how, files=[write(tmp_path / "odd.root", branches)], name="x")
    said = balanced(run(given, tmp_path / "out"))
    assert said["mended"] == {"jet_mass_jms_up below 0 by rounding": 3} and not said["rejected"]


def test_certified_blocks_only(two, tmp_path):
    (tmp_path / "golden.json").write_text(json.dumps({"1": [[3, 4], [10, 10]]}))
    events = run(job(two, golden=str(tmp_path / "golden.json")), tmp_path / "out")
    assert balanced(events)["rejected"] == {"not in the golden JSON": 540}
    assert set(events.read()["luminosity_block"].to_pylist()) == {3, 4, 10}


def test_weights_sum_to_the_luminosity(two, tmp_path):
    events = run(job(two, cross_section_pb=2.0, luminosity_fb=0.5), tmp_path / "out")
    total = sum(float(np.sum(made(300, seed)["genWeight"], dtype=np.float64)) for seed in (1, 2))
    table, branches = events.read(), made(300, 1)
    product = branches["genWeight"].astype(np.float64) * branches["puWeight"]
    assert np.allclose(table["weight"].to_numpy()[:300], product * 2.0 * 0.5 * 1000 / total, rtol=1e-12)
    up = branches["genWeight"].astype(np.float64) * branches["puWeightUp"]
    assert np.allclose(table["weight_pileup_up"].to_numpy()[:300], up * 1000 / total, rtol=1e-12)


def skim(file, n, seed, total):
    """A file of which n events are left, and that says what the weights of all of them summed to."""
    write(file, made(n, seed))
    with uproot.update(file) as root:
        root.mktree("Runs", {"sumw": np.float64})
        root["Runs"].extend({"sumw": np.array([total])})
    return str(file)


def test_files_that_lost_all_their_events_count_in_the_sum(tmp_path):
    how = {**MAP, "weight": {**MAP["weight"], "sum": {"tree": "Runs", "branch": "sumw"}}}
    files = [skim(tmp_path / f"{n}.root", n, n, 100.0) for n in (20, 0)]
    events = run(load(None, map=how, files=files, name="x", cross_section_pb=2.0), tmp_path / "out")
    assert balanced(events)["scale"] == pytest.approx(2.0 / 200)
    assert [one["entries"] for one in events.manifest.made_by["files"]] == [0, 20]
    assert [one["sum_weight"] for one in events.manifest.made_by["files"]] == [100.0, 100.0]
    plain = [write(tmp_path / "3-plain.root", made(10, 3))]
    with pytest.raises(IngestError, match=r"3-plain\.root: lacks 'Runs/sumw', of the weights, which 2 of 3 files have"):
        run(load(None, map=how, files=[*files, *plain], name="x"), tmp_path / "mixed")
    assert "Runs/sumw" in run(load(None, map=how, files=plain, name="x"), tmp_path / "p").manifest.made_by["absent"]


def test_what_is_selected_does_not_depend_on_the_scale(two, tmp_path):
    given = {"select": {"weight": [1, None]}, "derive": {"heavy": {"by": "Window", "of": "weight", "low": 2}}}
    one = run(job(two, **given), tmp_path / "one")
    other = run(job(two, **given, cross_section_pb=1e-3), tmp_path / "other")
    assert 0 < len(one) < 600 and one.manifest.made_by["rejected"] == other.manifest.made_by["rejected"]
    rest = [name for name in one.schema.names if not name.startswith("weight")]
    assert one.read(rest).equals(other.read(rest))


def test_a_further_file_scales_what_is_there(two, tmp_path):
    files = [*two, write(tmp_path / "3.root", made(50, 3))]
    out = tmp_path / "out"
    first = run(job(two, cross_section_pb=2.0), out)
    written = {shard.file: (out / shard.file).stat().st_mtime_ns for shard in first.manifest.shards}
    grown = run(job(files, cross_section_pb=2.0), out)
    direct = run(job(files, cross_section_pb=2.0), tmp_path / "direct")
    assert np.allclose(grown.read()["weight"].to_numpy(), direct.read()["weight"].to_numpy(), rtol=1e-14)
    assert grown.read().drop(["weight", "weight_pileup_up", "weight_pileup_down"]).equals(
        direct.read().drop(["weight", "weight_pileup_up", "weight_pileup_down"]))  # fmt: skip
    assert not [name for name in written if (out / name).exists()]
    assert sorted(path.name for path in out.glob("*.parquet")) == sorted(s.file for s in grown.manifest.shards)
    balanced(grown)


def test_the_same_command_again_does_nothing(two, tmp_path):
    out = tmp_path / "out"
    before = run(job(two), out)
    stamps = {path.name: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    after = run(job(two), out)
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("*.parquet")} == stamps
    assert after.manifest == before.manifest


def test_what_is_missing_or_damaged_is_made_again(two, tmp_path):
    out = tmp_path / "out"
    before = run(job(two, events_per_shard=100), out)
    table, shards = before.read(), before.manifest.shards
    (out / shards[0].file).unlink()
    whole = (out / shards[1].file).read_bytes()
    (out / shards[1].file).write_bytes(whole[: len(whole) // 2])
    (out / ".shard-x.parquet.77.part").write_text("left")
    kept = (out / shards[2].file).stat().st_mtime_ns
    after = run(job(two, events_per_shard=100), out)
    assert after.read().equals(table)
    assert (out / shards[2].file).stat().st_mtime_ns == kept
    assert not list(out.glob(".*.part"))


def test_a_changed_file_is_noticed(two, tmp_path):
    out = tmp_path / "out"
    run(job(two), out)
    write(tmp_path / "1.root", made(200, 7))
    events = run(job(two), out)
    assert sorted(events.read()["event"].to_pylist()) == [*range(2000, 2300), *range(7000, 7200)]
    assert len(list(out.glob("*.parquet"))) == 2
    balanced(events)


def test_a_file_that_changes_while_it_is_read_is_no_shard(two, tmp_path, monkeypatch):
    read = RootReader.read

    def rewritten(self, *given):
        yield from read(self, *given)
        write(two[0], made(300, 9))

    monkeypatch.setattr(RootReader, "read", rewritten)
    with pytest.raises(IngestError, match=r"1\.root: changed while it was being converted"):
        run(job(two[:1]), tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.parquet"))


def test_notes_that_are_damaged_cost_a_look_or_are_named(two, tmp_path):
    events = run(job(two), tmp_path / "out")
    (tmp_path / "out" / "_looks.jsonl").write_bytes(b'[1]\nnull\n\xff\xfe\n{"map":')
    assert run(job(two), tmp_path / "out").fingerprint == events.fingerprint
    (tmp_path / "out" / "_job.json").write_text('{"map')
    with pytest.raises(DataError, match=r"_job\.json: is damaged\n.*remove it"):
        run(job(two), tmp_path / "out")
    (tmp_path / "out" / "_job.json").unlink()
    assert run(job(two), tmp_path / "out").fingerprint == events.fingerprint


def test_a_sample_may_get_another_name(two, tmp_path):
    first = run(job(two), tmp_path / "out")
    other = run(job(two).but(name="other"), tmp_path / "out")
    assert (other.name, other.fingerprint) == ("other", first.fingerprint)


def test_settings_bind_when_there_is_a_shard(two, tmp_path, monkeypatch):
    with monkeypatch.context() as broken, pytest.raises(IngestError):
        broken.setattr(RootReader, "read", lambda *_: iter(()))
        run(job(two), tmp_path / "out")
    assert len(run(job(two, select={"ht": [1000, None]}), tmp_path / "out")) < 600


def test_a_kind_of_ones_own_that_fails_is_named_with_the_file(two, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from jetscale.derive import Derived\nfrom jetscale.schema import Column\nclass Odd(Derived):\n"
        "    def column(self, name, schema): return Column(name=name, dtype='int8', unit='', doc='')\n"
        "    def make(self, table, key_B): return [300] * table.num_rows\n"
    )
    given = job(two[:1], derive={"odd": {"by": f"{tmp_path}/mine.py:Odd"}})
    with pytest.raises(IngestError, match=r"1\.root: derive\.odd: cannot be made: .*300.*\n.*mine\.py:Odd"):
        run(given, tmp_path / "out")


def test_a_changed_job_is_refused(two, tmp_path):
    out = tmp_path / "out"
    before = run(job(two), out)
    with pytest.raises(ConfigError, match=r"(?s)other settings.*select\.ht: \(absent\) -> \[500\.0, None\]"):
        run(job(two, select={"ht": [500, None]}), out)
    with pytest.raises(ConfigError, match=r"holds the events of .*2\.root, which this command does not name"):
        run(job(two[:1]), out)
    assert Events.open(out).manifest == before.manifest


def test_the_others_are_converted_and_the_bad_one_is_named(two, tmp_path):
    whole = (tmp_path / "2.root").read_bytes()
    (tmp_path / "bad.root").write_bytes(whole[: len(whole) // 3])
    (tmp_path / "page.root").write_text("<html>not found</html>")
    files = [*two, str(tmp_path / "bad.root"), str(tmp_path / "page.root")]
    with pytest.raises(IngestError, match=r"2 of 4 files were not converted") as caught:
        run(job(files), tmp_path / "out")
    assert "bad.root" in str(caught.value) and "page.root" in str(caught.value)
    events = Events.open(tmp_path / "out")
    assert len(events) == 600 and sorted(events.manifest.made_by["bad"]) == sorted(files[2:])
    balanced(events)
    (tmp_path / "bad.root").write_bytes(whole)
    (tmp_path / "page.root").unlink()
    with pytest.raises(IngestError, match=r"1 of 3 .*\n.*holds the same events as"):
        run(job(files[:3]), tmp_path / "out")


def test_a_file_that_breaks_on_the_way_leaves_nothing_and_the_scale_follows(two, tmp_path, monkeypatch):
    read = RootReader.read

    def breaks(self, start, stop, columns):
        for number, chunk in enumerate(read(self, start, stop, columns)):
            if self.file.endswith("1.root") and start > 0:
                raise OSError("the disk is gone")
            assert number >= 0
            yield chunk

    monkeypatch.setattr(RootReader, "read", breaks)
    out = tmp_path / "out"
    with pytest.raises(IngestError, match=r"1 of 2 files were not converted\n.*OSError: the disk is gone"):
        run(job(two, cross_section_pb=2.0, events_per_shard=100), out)
    events = Events.open(out)
    direct = run(job(two[1:], cross_section_pb=2.0, events_per_shard=100), tmp_path / "direct")
    assert np.allclose(events.read()["weight"].to_numpy(), direct.read()["weight"].to_numpy(), rtol=1e-14)
    assert sorted(path.name for path in out.glob("*.parquet")) == sorted(s.file for s in events.manifest.shards)


def test_a_full_disk_is_no_fault_of_the_files(two, tmp_path, monkeypatch):
    events = run(job(two, cross_section_pb=1.0), tmp_path / "out")

    def full(*_):
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr("jetscale.events.Pieces.note", full)
    files = [*two, write(tmp_path / "3.root", made(50, 3))]
    with pytest.raises(IngestError, match=r"out: cannot be written: No space left on device\n.*make room"):
        run(job(files, cross_section_pb=1.0), tmp_path / "out")
    assert Events.open(tmp_path / "out").read().equals(events.read())


def test_a_column_that_one_file_lacks(tmp_path):
    files = [write(tmp_path / f"{seed}.root", made(30, seed)) for seed in (1, 2)]
    files.append(write(tmp_path / "3.root", made(30, 3, Jet_btag=None)))
    with pytest.raises(IngestError, match=r"3\.root: lacks column 'jet_btag' \(branch 'Jet_btag'\), which 2 of 3"):
        run(job(files), tmp_path / "out")
    filled = {**MAP, "columns": {**MAP["columns"], "jet": {**MAP["columns"]["jet"],
                                                          "btag": {"branch": "Jet_btag", "missing": -2}}}}  # fmt: skip
    events = run(load(None, map=filled, files=files, name="sample"), tmp_path / "filled")
    assert set(np.concatenate([np.array(one) for one in events.read()["jet_btag"].to_pylist()[60:]])) == {-2.0}
    other = [write(tmp_path / f"{seed}.root", made(30, seed, Jet_btag=None)) for seed in (4, 5)]
    with pytest.raises(
        IngestError, match=r"1 of 3 files .*\n.*1\.root: has column 'jet_btag' .*, which 2 of 3 files lack"
    ):
        run(job([files[0], *other]), tmp_path / "most")
    assert len(Events.open(tmp_path / "most")) == 60 and "jet_btag" not in Events.open(tmp_path / "most").schema


def test_what_is_not_finite_becomes_what_stands_for_the_missing(tmp_path):
    branches = made(50)
    btag = ak.flatten(branches["Jet_btag"]).to_numpy().copy()
    btag[::3] = np.nan
    branches["Jet_btag"] = ak.unflatten(btag, ak.num(branches["Jet_pt"]))
    columns = {**MAP["columns"], "jet": {**MAP["columns"]["jet"], "btag": {"branch": "Jet_btag", "missing": -2}}}
    file = write(tmp_path / "odd.root", branches)
    events = run(load(None, map={**MAP, "columns": columns}, files=[file], name="x"), tmp_path / "out")
    said = balanced(events)
    assert said["mended"] == {"jet_btag not finite, now -2": int(np.isnan(btag).sum())} and not said["rejected"]
    assert (ak.flatten(ak.from_arrow(events.read()["jet_btag"])) == -2).to_numpy().sum() == np.isnan(btag).sum()


def test_a_file_that_cannot_be_seen_now_stays_in_the_sample(two, tmp_path):
    out = tmp_path / "out"
    before = run(job(two, cross_section_pb=2.0), out)
    (tmp_path / "1.root").rename(tmp_path / "away")
    (tmp_path / "1.root").write_text("the server says 503")
    with pytest.raises(IngestError, match=r"1 of 2 files(?s:.*)1\.root(?s:.*)its events of before stay in the sample"):
        run(job(two, cross_section_pb=2.0), out)
    after = Events.open(out)
    assert after.read().equals(before.read()) and after.manifest.made_by["bad"] == {}
    (tmp_path / "away").rename(tmp_path / "1.root")
    assert run(job(two, cross_section_pb=2.0), out).read().equals(before.read())


def test_what_no_file_has_is_listed(tmp_path):
    file = write(tmp_path / "1.root", made(30, 1, Jet_btag=None, puWeight=None, puWeightUp=None, puWeightDown=None))
    events = run(job([file]), tmp_path / "out")
    assert "jet_btag" in events.manifest.made_by["absent"] and "jet_btag" not in events.schema
    assert any("pu" in name or "pileup" in name for name in events.manifest.made_by["absent"])
    assert events.schema.names[:2] == ("event_id", "weight")


def test_types_are_widened(tmp_path):
    one = write(tmp_path / "1.root", made(30, 1))
    two = write(tmp_path / "2.root", made(30, 2, HT=made(30, 2)["HT"].astype(np.float64)))
    events = run(job([one, two]), tmp_path / "out")
    assert events.schema["ht"].dtype == "float64"
    assert np.array_equal(events.read()["ht"].to_numpy()[30:], made(30, 2)["HT"].astype(np.float64))


def test_columns_that_are_one_number(two, tmp_path):
    events = run(job(two, set={"true_mass": 1500, "decay_mode": 3, "year": 2018}), tmp_path / "out")
    table = events.read()
    assert set(table["true_mass"].to_pylist()) == {1500.0} and set(table["decay_mode"].to_pylist()) == {3}
    assert set(table["year"].to_pylist()) == {2018.0}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"select": {"htt": [1, None]}}, r"select\.htt: there is no number 'htt'.*\n.*did you mean 'ht'"),
        ({"select": {"jet_pt": [1, None]}}, r"no number 'jet_pt' per event"),
        ({"keep": {"jet": {"ptt": [1, None]}}}, r"keep\.jet\.ptt: jet has no 'ptt'"),
        ({"keep": {"muon": {"pt": [1, None]}}}, r"keep\.muon\.pt: muon has no 'pt'"),
        ({"set": {"event_id": 1}}, r"set\.event_id: event_id cannot be one number"),
        ({"set": {"jet_btag": 1}}, r"set\.jet_btag: jet_btag cannot be one number"),
        ({"set": {"decay_mode": 1.5}}, r"set\.decay_mode: 1\.5 is no int8"),
        ({"set": {"decay_mode": 300}}, r"set\.decay_mode: 300 is no int8"),
        ({"set": {"true_mass": -2}}, r"set\.true_mass: -2 is no float32 from -1 to inf"),
        ({"derive": {"u": {"by": "Uniform", "low": 0, "high": 1}}}, r"derive\.u: by: Uniform needs a training"),
        ({"derive": {"ht": {"by": "Sum", "of": "jet_pt"}}}, r"derive\.ht: there is a column 'ht' already"),
        ({"derive": {"s": {"by": "Sum", "of": "jet_ptt"}}}, r"no column 'jet_ptt'"),
    ],
)
def test_settings_that_the_files_do_not_allow(two, tmp_path, given, said):
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        run(job(two, **given), tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.parquet"))


def test_settings_that_cannot_be(two):
    with pytest.raises(ConfigError, match="luminosity_fb needs cross_section_pb"):
        job(two, luminosity_fb=1)
    with pytest.raises(ConfigError, match=r"keep\.jet: .* at least 1 item"):
        job(two, keep={"jet": {}})
    with pytest.raises(ConfigError, match="columns has no jet"):
        load(None, map={"columns": {"event": {"run": "run"}}}, files=two, name="x")
    with pytest.raises(ConfigError, match=r"columns\.jet has eta, pt, and must have"):
        load(None, map={"columns": {"jet": {"pt": "a", "eta": "b"}}}, files=two, name="x")
    with pytest.raises(ConfigError, match=r"no map 'nanoadd'\n.*did you mean 'nanoaod'"):
        load(None, map="nanoadd", files=two, name="x")


def test_a_map_that_is_like_itself_is_named(tmp_path, two):
    (tmp_path / "mine.yaml").write_text(f"map: {{like: {tmp_path}/mine.yaml}}\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: is like itself"):
        load(None, map=str(tmp_path / "mine.yaml"), files=two, name="x")


def test_a_map_of_ones_own_is_like_another(tmp_path, two):
    (tmp_path / "mine.yaml").write_text("map:\n  like: nanoaod\n  energy: MeV\n  columns: {jet: {mine: Jet_btag}}\n")
    given = load(None, map=str(tmp_path / "mine.yaml"), files=two, name="x")
    assert given.map.energy == "MeV" and given.map.columns["jet"]["mine"].branch == ("Jet_btag",)
    events = run(given, tmp_path / "out")
    assert events.schema["jet_pt"].unit == "GeV"
    assert max(map(max, filter(None, events.read()["jet_pt"].to_pylist()))) < 0.5


def test_shards_carry_their_counts(two, tmp_path):
    events = run(job(two), tmp_path / "out")
    note = json.loads(pq.read_metadata(events.path / events.manifest.shards[0].file).metadata[STAMP.encode()])
    assert (note["start"], note["stop"], note["entries"], note["kept"]) == (0, 300, 300, 300)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 40), st.integers(1, 50), st.integers(0, 99), st.floats(0, 3000, width=32))
def test_counting_is_exact(tmp_path_factory, n, size, seed, ht):
    place = tmp_path_factory.mktemp("exact")
    branches = made(n + 1, seed)
    events = run(job([write(place / "a.root", branches)], events_per_shard=size, select={"ht": [ht, None]}),
                 place / "out")  # fmt: skip
    said = balanced(events)
    assert said["kept"] == int((branches["HT"] >= ht).sum())
    assert sum(shard.rows for shard in events.manifest.shards) == said["kept"]
