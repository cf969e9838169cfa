"""Jobs and shards in this process: what cannot be made is said, and the same job makes the same events."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetscale.config import build
from jetscale.data import generate as room
from jetscale.data import pythia
from jetscale.data.generate import SAMPLE, generate, load, make_shard, make_table
from jetscale.data.process import SIGNALS, GenerateJob
from jetscale.errors import ConfigError, GenerateError
from jetscale.events import MANIFEST, Events
from jetscale.schema import JET_EVENTS, check, flat

SIGNAL = {"process": "gluino_direct", "mass": 1300}
QCD = {"process": "qcd", "pthat_min": 450, "bias_power": 3}
ALL = {
    "gluino_direct": ({}, 3),
    "gluino_cascade": ({"neutralino_mass": 600}, 5),
    "squark_cascade": ({"neutralino_mass": 600}, 4),
    "stop_direct": ({}, 2),
}


def job_of(**values):
    common = {"name": "x", "events": 30, "events_per_shard": 10, "seed": 1, "mpi": False}
    return build(GenerateJob, {**common, **values}, "test")


def file_of(folder, text):
    path = Path(folder) / "sample.yaml"
    path.write_text(text)
    return path


def yaml_of(folder, **values):
    return file_of(folder, json.dumps({"generate": {"name": "x", "events": 30, "seed": 1, **values}}))


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """So that a shard of ten events does not try a hundred."""
    monkeypatch.setattr(pythia, "SIGNAL_BATCH", 20)
    monkeypatch.setattr(pythia, "QCD_BATCH", 12)


@pytest.fixture
def here(monkeypatch):
    """Shards are made in this process; `dies` holds the numbers that do not survive."""
    dies, asked = set(), []

    def in_process(job, numbers):
        for number in numbers:
            asked.append(number)
            yield number, ValueError(f"shard {number} fell over") if number in dies else make_table(job, number)

    monkeypatch.setattr(room, "_by_ray", in_process)
    return dies, asked


# ---- jobs


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"mas": 5}, "did you mean 'mass'"),
        ({"jets": {"radios": 0.4}}, "did you mean 'radius'"),
        ({"mass": -5}, "mass = -5: Input should be greater than 0"),
        ({"mass": 0}, "mass = 0"),
        ({"mass": None}, "gluino_direct needs the mass of the gluino"),
        ({"mass": 6500}, "two gluinos of 6500 GeV are beyond the beam energy of 13000 GeV"),
        ({"neutralino_mass": 100}, "gluino_direct has no neutralino"),
        ({"process": "gluino_cascade"}, "gluino_cascade needs neutralino_mass (GeV), below 1300"),
        ({"process": "gluino_cascade", "neutralino_mass": 1300}, "the daughter is heavier than its parent"),
        ({"process": "squark_cascade", "neutralino_mass": 2000}, "neutralino 2000 GeV, squark 1300 GeV"),
        ({"process": "gluon"}, "'qcd'"),
        ({"pthat_min": 300}, "pthat_min is for qcd alone"),
        ({"bias_power": 4}, "bias_power is for qcd alone"),
        ({"process": "qcd"}, "qcd has no mass"),
        ({"process": "qcd", "mass": None}, "qcd needs pthat_min"),
        ({**QCD, "mass": None, "pthat_min": 6500}, "more than half of the beam energy"),
        ({"select": {"jets": 13}}, "select asks for jets that jets: does not keep"),
        ({"select": {"pt": 20}}, "select asks for jets that jets: does not keep"),
        ({"events": 0}, "events = 0"),
        ({"name": "a/b"}, "name = 'a/b'"),
        ({"quarks": []}, "quarks = []"),
        ({"jets": {"radius": 0}}, "jets.radius = 0"),
        ({"jets": {"min_pt": -1}}, "jets.min_pt = -1"),
        ({"jets": {"max_eta": 0}}, "jets.max_eta = 0"),
        ({"jets": {"keep": 0}}, "jets.keep = 0"),
    ],
)
def test_what_cannot_be_is_said_with_the_file(tmp_path, values, words):
    path = yaml_of(tmp_path, **{**SIGNAL, **values})
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value) and caught.value.exit_code == 2


@pytest.mark.parametrize(
    "text", ["train: {}", "generate: 3", "{}", "- generate", "generate: {a: 1}\ntrain: {}", "a: ["]
)
def test_a_file_of_another_kind_is_refused(tmp_path, text):
    with pytest.raises(ConfigError, match=r"sample\.yaml"):
        load(file_of(tmp_path, text))


def test_a_job_goes_to_yaml_and_back_and_the_command_line_wins(tmp_path):
    path = yaml_of(tmp_path, **SIGNAL)
    job = load(path)
    again = load(file_of(tmp_path, json.dumps({"generate": job.values()})))
    assert job == again and job.digest() == again.digest()
    other = load(path, events=70, seed=9)
    assert (other.events, other.seed) == (70, 9)
    assert other.digest() != job.digest()


def test_the_shipped_example_loads():
    job = load(Path(__file__).parents[2] / "jobs" / "generate.yaml")
    assert job.decay_mode == 3 and job.true_mass == 2000


@given(st.integers(1, 10_000), st.integers(1, 700))
def test_shards_share_all_events_and_only_the_last_is_short(events, per_shard):
    job = job_of(**SIGNAL, events=events, events_per_shard=per_shard)
    rows = [job.rows(number) for number in range(job.shards)]
    assert sum(rows) == events
    assert set(rows[:-1]) <= {per_shard} and 0 < rows[-1] <= per_shard


@given(st.integers(0, 10**9), st.integers(0, 2**20 - 1))
def test_every_shard_has_a_seed_that_pythia_takes(seed, number):
    job = job_of(**SIGNAL, seed=seed)
    assert 1 <= room._seed(job, number) <= 900_000_000
    assert room._seed(job, number) != room._seed(job, number + 1)


@pytest.mark.parametrize("process", SIGNALS)
def test_decays_conserve_charge_and_their_fractions_add_up(process):
    extra, mode = ALL[process]
    job = job_of(process=process, mass=1000, **extra)
    assert job.decay_mode == mode
    tables = pythia.decays(job, SIGNALS[process])
    charges = {SIGNALS[process].parent: SIGNALS[process].charge_3, 1000022: 0}
    for parent, lines in tables.items():
        assert sum(fraction for fraction, _ in lines) == 1
        for _, daughters in lines:
            quarks = [one for one in daughters if abs(one) < 10]
            assert sum((-1 if q % 2 else 2) * np.sign(q) for q in quarks) == charges[parent]


# ---- one shard


@pytest.mark.parametrize("process", [*SIGNALS, "qcd"])
def test_a_shard_has_the_promised_columns_and_truth(process):
    job = job_of(**QCD) if process == "qcd" else job_of(process=process, mass=1200, **ALL[process][0])
    table, made = make_table(job, 0)
    check(table, JET_EVENTS, "test")
    assert table.schema.names == list(JET_EVENTS.names)
    assert table.num_rows == 10
    assert set(table["true_mass"].to_pylist()) == {0 if process == "qcd" else 1200}
    assert set(table["decay_mode"].to_pylist()) == {0 if process == "qcd" else ALL[process][1]}
    for row in table.to_pylist():
        assert sum(pt > job.select.pt for pt in row["jet_pt"]) >= job.select.jets
        assert sum(row["jet_pt"]) > job.select.ht
        assert len(row["jet_pt"]) <= job.jets.keep
        assert row["jet_pt"] == sorted(row["jet_pt"], reverse=True)
        assert max(map(abs, row["jet_eta"])) < job.jets.max_eta
    for name in ("jet_parent_ancestry", "jet_parent_quark"):
        assert set(np.unique(flat(table[name]))) == {0, 1, 2}
    assert 10 <= made.accepted <= made.tried


def test_a_shard_is_a_function_of_the_job_and_its_number(tmp_path):
    job = job_of(**SIGNAL)
    alone = make_shard(job, 1, tmp_path / "a")
    make_shard(job, 0, tmp_path / "b")
    after = make_shard(job, 1, tmp_path / "b")
    assert alone == after
    other = make_table(job_of(**SIGNAL, seed=2), 1)[0]
    first, second = (pq.read_table(tmp_path / "b" / f"shard-0000{number}.parquet") for number in (0, 1))
    assert not set(first["event_id"].to_pylist()) & set(second["event_id"].to_pylist())
    assert not set(other["event_id"].to_pylist()) & set(second["event_id"].to_pylist())
    assert not first["jet_pt"].equals(second["jet_pt"]) and not other["jet_pt"].equals(second["jet_pt"])


def test_nothing_reaches_the_terminal(capfd):
    make_table(job_of(**SIGNAL, events_per_shard=2), 0)
    make_table(job_of(**QCD, events_per_shard=2), 0)
    assert capfd.readouterr() == ("", "")


def test_a_wrong_decay_sign_is_an_error_with_its_counts_and_cause():
    with pytest.raises(GenerateError) as caught:
        make_table(job_of(process="stop_direct", mass=800, quarks=[1, 3]), 0)
    assert "tried 2000, accepted 0, failed in Pythia 2000" in str(caught.value)
    assert "[1, 3] carry the charge -2/3, what decays to them +2/3" in caught.value.cure


def test_a_selection_that_hardly_any_event_passes_is_an_error(monkeypatch):
    monkeypatch.setattr(room, "ENOUGH_TRIES", 150)
    with pytest.raises(GenerateError) as caught:
        make_table(job_of(process="gluino_direct", mass=200, select={"ht": 6000}), 0)
    assert "accepted 0, failed in Pythia 0" in str(caught.value)
    assert "loosen select" in caught.value.cure


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"PartonLevel:ISRR": False}, "no setting 'PartonLevel:ISRR'\n  what to do: did you mean 'PartonLevel:ISR'"),
        ({"Zzz": 1}, "no setting 'Zzz'"),
        ({"TimeShower:alphaSvalue": 99}, "refuses 'TimeShower:alphaSvalue = 99'"),
        ({"Beams:idA": 77}, "cannot initialise: PYTHIA Error in BeamSetup"),
    ],
)
def test_what_pythia_refuses_is_said(extra, words, capfd):
    with pytest.raises(GenerateError) as caught:
        pythia.start(job_of(**SIGNAL, pythia=extra), 1)
    assert words in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_setting_of_pythia_s_is_used():
    started = pythia.start(job_of(**SIGNAL, pythia={"PartonLevel:ISR": False, "TimeShower:alphaSvalue": 0.12}), 1)
    assert not started.flag("PartonLevel:ISR") and started.parm("TimeShower:alphaSvalue") == 0.12


@pytest.mark.parametrize("module", ["pythia8mc", "fastjet"])
def test_without_the_generators_the_cure_is_named(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(GenerateError, match="not installed") as caught:
        make_table(job_of(**SIGNAL), 0)
    assert 'pip install "jetscale[mc]"' in caught.value.cure


def test_batches_without_events_have_all_columns():
    for job in (job_of(**SIGNAL), job_of(**QCD, jets={"substructure": True})):
        table, weight = room._events(pythia.nothing(), job)
        assert len(table) == len(weight) == 0
        assert table.schema.equals(room.columns(job).only(table.schema.names).arrow)
        assert set(room.columns(job).names) - set(table.schema.names) == {"event_id", "weight"}


# ---- a sample


def test_the_manifest_says_what_was_made_and_the_weights_add_up(tmp_path, here):
    job = job_of(**QCD, events=25)
    shards = list(generate(job, tmp_path))
    sample = Events.open(tmp_path)
    table, by = sample.read(), sample.manifest.made_by
    assert [shard.rows for shard in shards] == [10, 10, 5] and sample.manifest.shards == tuple(shards)
    assert build(GenerateJob, by["job"], "manifest") == job
    assert (by["digest"], by["acceptance"]) == (job.digest(), by["accepted"] / by["tried"])
    assert set(by["versions"]) == {"jetscale", "pythia", "fastjet"}
    assert sample.schema["weight"].unit == "pb" and sample.schema == SAMPLE
    assert sample.manifest.cuts == {"jets": job.jets.values(), "select": job.select.values()}
    weight = table["weight"].to_numpy()
    assert weight.sum() == pytest.approx(by["selected_pb"], rel=1e-12) == pytest.approx(sample.manifest.sum_weight)
    assert by["selected_pb"] < by["generated_pb"]
    assert len(set(np.round(weight / weight.max(), 9))) > 20  # the bias is undone event by event
    assert by["effective_events"] == pytest.approx(weight.sum() ** 2 / (weight**2).sum())
    assert str(tmp_path) not in (tmp_path / MANIFEST).read_text()


def test_a_shard_s_weights_are_its_share_whatever_the_number_of_shards(monkeypatch):
    monkeypatch.setattr(pythia, "SIGNAL_BATCH", 100)
    selected = []
    for per_shard in (10, 30):
        job = job_of(**SIGNAL, events_per_shard=per_shard)
        table, made = make_table(job, 0)
        weight = table["weight"].to_numpy()
        assert weight.sum() == pytest.approx(made.selected_pb * per_shard / 30)
        assert np.ptp(weight) < 1e-12 * weight.max()
        selected.append(made.selected_pb)
    assert selected[0] == pytest.approx(selected[1], rel=0.3)


def test_running_again_makes_only_what_is_missing(tmp_path, here):
    dies, asked = here
    job = job_of(**SIGNAL)
    dies.add(1)
    with pytest.raises(GenerateError, match="1 of 3 shards were not made\n  shard 1: ValueError: shard 1 fell over"):
        list(generate(job, tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shard-00000.parquet", "shard-00002.parquet"]
    before = (tmp_path / "shard-00002.parquet").stat().st_mtime_ns
    (tmp_path / ".shard-00001.parquet.77.part").write_bytes(b"PAR1")
    dies.clear(), asked.clear()
    assert len(list(generate(job, tmp_path))) == 3
    assert asked == [1]
    assert (tmp_path / "shard-00002.parquet").stat().st_mtime_ns == before
    whole = Events.open(tmp_path)
    for number, shard in enumerate(whole.manifest.shards):
        assert whole.read(shard=shard).equals(make_table(job, number)[0])
    assert not list(tmp_path.glob(".*.part"))
    manifest = (tmp_path / MANIFEST).read_bytes()
    asked.clear()
    list(generate(job, tmp_path))
    assert asked == [] and (tmp_path / MANIFEST).read_bytes() == manifest


@pytest.mark.parametrize("damage", ["cut", "short", "foreign"])
def test_a_damaged_shard_is_made_again(tmp_path, here, damage):
    job = job_of(**SIGNAL, events=20)
    list(generate(job, tmp_path))
    file, good = tmp_path / "shard-00001.parquet", Events.open(tmp_path).read()
    table = pq.read_table(file)
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    else:
        pq.write_table(table.slice(1) if damage == "short" else table.replace_schema_metadata({}), file)
    list(generate(job, tmp_path))
    assert here[1] == [0, 1, 1]
    assert Events.open(tmp_path).read().equals(good)


def test_shards_with_changed_rows_are_found_by_their_hash(tmp_path, here):
    job = job_of(**SIGNAL, events=20)
    list(generate(job, tmp_path))
    file = tmp_path / "shard-00001.parquet"
    table = pq.read_table(file)
    changed = table.set_column(1, table.schema.field("weight"), pa.array(np.full(10, 7.0)))
    pq.write_table(changed, file)
    list(generate(job, tmp_path))
    assert here[1] == [0, 1, 1]


def test_another_job_in_an_old_folder_is_refused_with_the_difference(tmp_path, here):
    list(generate(job_of(**SIGNAL), tmp_path))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for changes, line in (({"seed": 2}, "seed: 1 -> 2"), ({"mass": 1400}, "mass: 1300.0 -> 1400.0"),
                          ({"select": {"ht": 900}}, "select.ht: 1200.0 -> 900.0")):  # fmt: skip
        with pytest.raises(ConfigError, match="another job") as caught:
            list(generate(job_of(**{**SIGNAL, **changes}), tmp_path))
        assert line in str(caught.value)
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


def test_a_folder_of_somebody_else_s_events_is_refused(tmp_path, here):
    made = tmp_path / "mine"
    list(generate(job_of(**SIGNAL, events=10), made))
    Events.write(Events.open(made).read(), tmp_path / "theirs")
    with pytest.raises(ConfigError, match="did not make"):
        list(generate(job_of(**SIGNAL), tmp_path / "theirs"))


def test_a_shard_that_cannot_be_written_is_named_and_the_others_are_kept(tmp_path, here, monkeypatch):
    real = pq.ParquetWriter.write_table

    def full_disk(writer, table, **options):
        if "00000" in str(writer.where):
            raise OSError("no space left on device")
        real(writer, table, **options)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full_disk)
    with pytest.raises(GenerateError, match="shard 0: OSError: no space left"):
        list(generate(job_of(**SIGNAL), tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shard-00001.parquet", "shard-00002.parquet"]


def test_many_different_causes_are_listed_briefly():
    causes = {number: f"cause {number // 2}" for number in range(20)}
    lines = room._listed(causes).splitlines()
    assert lines[0] == "  shard 0, 1: cause 0"
    assert lines[-1] == "  and 5 more" and len(lines) == 6
