"""`jetscale ingest` as it is typed: what it says, what it returns, what it leaves behind."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from ntuples import MAP, made, write

from jetscale import cli
from jetscale.events import MANIFEST, Events


@pytest.fixture
def run(capsys):
    def run(*words) -> tuple[int, str, str]:
        code = cli.main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "one.root", made(200, HT=None))


def test_a_file_becomes_a_sample_and_the_counts_are_told(run, file, tmp_path):
    code, told, _ = run("ingest", file, "--map", "nanoaod", "--out", tmp_path / "out",
                        "--set", "derive.ht={by: Sum, of: jet_pt}", "--set", "select.ht=[400, null]",
                        "--set", "keep.jet.pt=[30, null]")  # fmt: skip
    events = Events.open(tmp_path / "out")
    said = events.manifest.made_by
    assert code == 0 and 0 < len(events) < 200
    assert f"1 files: 200 entries = {len(events)} kept + {200 - len(events)} rejected" in told
    assert f"rejected: {200 - len(events)}  ht is not in [400, inf)" in told
    assert f"members left out: {said['members_left_out']['jet']}  jet" in told
    assert "all of fatjet, " in told and "jet_btag_pnet" in told
    assert f"the sample is {tmp_path / 'out'}; next: jetscale inspect" in told
    assert "starting Ray" not in told  # one small file is done before a Ray would be
    assert run("ingest", file, "--map", "nanoaod", "--out", tmp_path / "out")[0] == 2


def test_a_job_is_a_file(run, file, tmp_path):
    job = tmp_path / "job.yaml"
    job.write_text(yaml.safe_dump({"ingest": {"name": "mine", "files": [file], "map": MAP}}))
    code, told, _ = run("ingest", job, "--out", tmp_path / "out", "--set", "set.true_mass=900")
    assert code == 0, told
    events = Events.open(tmp_path / "out")
    assert events.name == "mine" and set(events.read()["true_mass"].to_pylist()) == {900.0}


def test_a_bad_file_is_1_and_named_and_the_others_are_converted(run, file, tmp_path, monkeypatch):
    monkeypatch.setattr("jetscale.data.ingest.ingest.Work.is_small", True)
    (tmp_path / "bad.root").write_bytes(Path(file).read_bytes()[:2000])
    code, told, err = run("ingest", file, tmp_path / "bad.root", "--map", "nanoaod", "--out", tmp_path / "out")
    assert code == 1 and len(Events.open(tmp_path / "out")) == 200
    assert "1 of 2 files were not converted" in err and "bad.root" in err and "bad.root" in told
    assert "1 files: 200 entries = 200 kept + 0 rejected" in told
    code, _, err = run("ingest", tmp_path / "bad.root", "--map", "nanoaod", "--out", tmp_path / "none")
    assert code == 1 and not (tmp_path / "none" / MANIFEST).exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{file}"], "--map: which branches make which columns?"),
        (["{file}", "--map", "nanoad"], "did you mean 'nanoaod'"),
        (["{file}", "--map", "nanoaod", "--set", "selekt.ht=[1, null]"], "unknown key 'ingest.selekt'"),
        (["{file}", "--map", "nanoaod", "--set", "select.ht=[2, 1]"], "low = 2 is not below high = 1"),
        (["{file}.none", "--map", "nanoaod"], "one.root"),
        (["none.yaml"], "no such file"),
        (["{file}", "--map", "nanoaod", "--set", "golden=none.json"], "none.json"),
    ],
)
def test_wrong_usage_is_2_and_leaves_nothing(run, file, tmp_path, words, said):
    code, told, err = run("ingest", *(word.format(file=file) for word in words), "--out", tmp_path / "out")
    assert code in {1, 2} and said in err, err
    assert "what to do" in err and not (tmp_path / "out").exists() and "converting" not in told


def test_pads_that_nobody_named_are_suspected(run, tmp_path):
    slots = {f"jet{n}_{name}": np.where(np.arange(20) % 3 < n - 1, -999.0, 40.0 - n if name == "pt" else 1.0)
             for n in (1, 2) for name in ("pt", "eta", "phi", "m")}  # fmt: skip
    file = write(tmp_path / "flat.root", slots, tree="nominal")
    _, told, _ = run("ingest", file, "--map", "flat", "--out", tmp_path / "cut")
    assert "20 entries = 13 kept + 7 rejected" in told and "--set map.pad=-999" in told
    _, told, _ = run("ingest", file, "--map", "flat", "--set", "map.pad=-999", "--out", tmp_path / "whole")
    assert "20 entries = 20 kept + 0 rejected" in told and "map.pad" not in told


def test_a_tree_that_is_not_there(run, file, tmp_path):
    code, _, err = run("ingest", file, "--map", "nanoaod", "--tree", "Evnts", "--out", tmp_path / "out")
    assert code == 1 and "did you mean 'Events'" in err
