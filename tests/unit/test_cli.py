"""The command line: shape, exit codes, and errors that name things instead of showing tracebacks."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer
import yaml
from pyarrow.dataset import dataset

from jetscale import cli
from jetscale.cli.shared import SAMPLE_LOG
from jetscale.errors import DataError
from jetscale.events import Events
from jetscale.systems.assigner import Assigner
from jetscale.train.checkpoint import read_data

COMMANDS = ["quickstart", "generate", "redecay", "ingest", "check", "inspect", "merge", "skim", "split", "systems",
            "show", "train", "score", "export", "report", "sweep", "study", "audit", "doctor"]  # fmt: skip


@pytest.fixture
def job(tmp_path):
    file = tmp_path / "job.yaml"
    file.write_text("train:\n  system: assigner\n  stream:\n    samples:\n      signal: {events: sample}\n  seed: 7\n")
    return str(file)


@pytest.fixture
def run(capsys):
    def run(*words: str) -> tuple[int, str, str]:
        code = cli.main(list(words))
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_the_commands_are_those_of_the_manual(run):
    code, out, _ = run("--help")
    assert code == 0
    assert [name for name in COMMANDS if name not in out] == []
    assert sorted(typer.main.get_command(cli.app).commands) == sorted([*COMMANDS, "bench"])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_helps_with_an_example(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert f"Example: jetscale {command}" in out


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["trian", "job.yaml"], "train"),
        (["train", "job.yaml", "--ot", "x"], "--out"),
        (["train"], "JOB.yaml"),
        (["generate", "x.yaml", "--out", "y", "--events", "many"], "--events"),
        (["score", "run", "--events", "x", "--out", "y", "--format", "csv"], "parquet"),
    ],
)
def test_wrong_usage_is_2_and_names_the_nearest(run, words, hint):
    code, _, err = run(*words)
    assert code == 2
    assert hint in err
    assert "Traceback" not in err


def test_no_command_shows_the_help(run):
    code, out, err = run()
    assert code == 2
    assert "quickstart" in out + err


def test_a_job_that_is_not_there(run):
    code, out, err = run("show", "shipped:nothing")
    assert (code, out) == (2, "")
    assert "no such file" in err
    assert "what to do" in err


def test_what_ships_is_found_by_name(run):
    code, _, err = run("show", "shipped:qcd")
    assert code == 2
    assert "'generate', not 'train'" in err


def test_show_prints_a_job_that_can_be_run_again(run, job, tmp_path):
    code, out, _ = run("show", job, "--set", "optimiser.rate=1e-2", "--set", "seed=9")
    assert code == 0
    values = yaml.safe_load(out)["train"]
    assert values["optimiser"]["rate"] == 0.01
    assert values["seed"] == 9
    again = tmp_path / "again.yaml"
    again.write_text(out)
    assert run("show", str(again))[1] == out


def test_why_names_the_layer_of_every_value(run, job):
    code, out, _ = run("show", job, "--why", "--set", "optimiser.rate=0.5")
    assert code == 0
    layer = {line.split()[0]: line for line in out.splitlines()}
    assert layer["optimiser.rate"].endswith("--set optimiser.rate=0.5")
    assert layer["seed"].endswith("job.yaml")
    assert layer["horizon.epochs"].endswith("recipe of assigner")
    assert layer["precision"].endswith("default")
    assert len({line.index(line.split()[1]) for line in out.splitlines()}) == 1, "values are not aligned"


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ("optimiser.rat=1", "did you mean 'rate'"),
        ("system=asigner", "did you mean 'assigner'"),
        ("nonsense", "KEY=VALUE"),
    ],
)
def test_a_wrong_setting_is_2_and_names_the_nearest(run, job, change, hint):
    code, _, err = run("show", job, "--set", change)
    assert code == 2
    assert hint in err


@pytest.mark.parametrize("words", [["--debug", "show", "no.yaml"], ["show", "no.yaml", "--debug"]])
def test_debug_shows_the_traceback_wherever_it_stands(run, words):
    code, _, err = run(*words)
    assert code == 2
    assert "Traceback" in err


def test_systems_are_listed_with_their_source(run):
    code, out, _ = run("systems")
    assert code == 0
    assert out.startswith("assigner\n")
    assert "Sano" in out


def test_an_error_of_ours_is_1_with_its_notes(run, monkeypatch, job):
    problem = DataError("is gone", where="sample", cure="make it anew")
    problem.add_note("its output is in run/output.log")
    monkeypatch.setattr("jetscale.run.load", _raise(problem))
    code, _, err = run("show", job)
    assert code == 1
    assert err.splitlines() == ["jetscale: sample: is gone", "  what to do: make it anew",
                                "  its output is in run/output.log"]  # fmt: skip


def test_a_defect_is_1_and_named(run, monkeypatch, job):
    monkeypatch.setattr("jetscale.run.load", _raise(ZeroDivisionError("division by zero")))
    code, _, err = run("show", job)
    assert code == 1
    assert "ZeroDivisionError: division by zero" in err
    assert "--debug" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("verb", ["report", "score"])
def test_two_runs_of_one_name_cannot_be_told_apart(run, tmp_path, verb):
    code, _, err = run(verb, "a/run", "b/run", "--events", "shipped:qcd", "--out", str(tmp_path / "out"))
    assert code == 2
    assert "a/run, b/run: two of them are called 'run'" in err
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    """Two samples, two tiny trained runs and the job of the first."""
    room = tmp_path_factory.mktemp("room")
    for name, seed in (("toy", 1), ("fresh", 2)):
        Events.write(Assigner().toy(300, seed), room / name)
    for name, seed in (("one", 1), ("two", 2)):
        values = {"system": "assigner", "task": {"width": 8, "layers": 2, "readout": "argmax"},
                  "stream": {"samples": {"toy": {"events": str(room / "toy")}}}, "horizon": {"steps": 2}, "seed": seed,
                  "scale": {"engine": "torch", "launch": "here", "events_per_step": 64},
                  "track": {"wandb": False}}  # fmt: skip
        (room / f"{name}.yaml").write_text(yaml.safe_dump({"train": values}))
        assert cli.main(["train", str(room / f"{name}.yaml"), "--out", str(room / name)]) == 0
    assert cli.main(["score", f"{room}/one", f"{room}/two", "--events", f"{room}/fresh", "--out", f"{room}/multi"]) == 0
    return room


def scored_by(sample: Path) -> str:
    return Events.open(sample).manifest.made_by["scored_by"]


def digest(run: Path) -> str:
    return read_data(run)["run"]


def test_a_training_is_announced_and_said_once(run, room, tmp_path):
    job, out = str(room / "one.yaml"), str(tmp_path / "run")
    code, told, _ = run("train", job, "--out", out)
    assert code == 0
    assert [line for line in told.splitlines() if line[:2] in {"1/", "2/"} and "done" not in line] == [
        "1/2 opening and counting samples", "2/2 training assigner"]  # fmt: skip
    assert "step 2 of 2" in told and f"the run is {out}" in told
    code, told, _ = run("train", job, "--out", out)
    assert code == 0
    assert told.startswith(f"already trained: {out}") and "step" not in told


def test_the_start_of_ray_is_a_stage(run, room, tmp_path, monkeypatch):
    started = []

    @contextmanager
    def cluster(_):
        started.append(True)
        yield

    monkeypatch.setattr("jetscale.data.cluster.cluster", cluster)
    monkeypatch.setattr("jetscale.train.launch.train", lambda *_: None)
    monkeypatch.setattr("jetscale.data.generate.generate", lambda *_: iter(()))
    _, told, _ = run("train", str(room / "one.yaml"), "--set", "scale.launch=ray", "--out", str(tmp_path / "run"))
    assert [line for line in told.splitlines() if "done" not in line][:3] == [
        "1/3 opening and counting samples", "2/3 starting Ray (about 10 s)", "3/3 training assigner"]  # fmt: skip
    _, told, _ = run("generate", "shipped:qcd", "--out", str(tmp_path / "sample"))
    assert told.startswith("1/2 starting Ray (about 10 s)\n")
    assert len(started) == 2


def test_every_run_keeps_its_own_scores(run, room, tmp_path):
    assert scored_by(room / "multi" / "one") == digest(room / "one") != digest(room / "two")
    code, _, err = run("report", f"{room}/one", f"{room}/two", "--events", f"{room}/multi/one", f"{room}/multi/two",
                       "--out", str(tmp_path / "report"))  # fmt: skip
    assert code == 0, err
    assert not (tmp_path / "report" / "scored").exists(), "its own table of each was given"
    text = (tmp_path / "report" / "index.html").read_text()
    assert all(word in text for word in ("training one", "training two", "scoring", "reporting"))
    assert json.loads((tmp_path / "report" / "results.json").read_text())["runs"] == ["one", "two"]


@pytest.fixture
def no_page(monkeypatch):
    """Scoring is what matters: the page takes seconds."""
    monkeypatch.setattr("jetscale.evaluate.report.report", lambda *_, **__: None)


@pytest.mark.usefixtures("no_page")
def test_another_runs_scores_are_not_taken_for_ones_own(run, room, tmp_path):
    code, _, err = run("report", f"{room}/two", "--events", f"{room}/multi/one", "--out", str(tmp_path / "report"))
    assert code == 0, err
    anew = Events.open(tmp_path / "report" / "scored" / "two" / "fresh")
    assert scored_by(anew.path) == digest(room / "two")
    own = Events.open(room / "multi" / "two").read(["jet_none_probability"])
    assert anew.read(["jet_none_probability"]).equals(own)


@pytest.mark.usefixtures("no_page")
def test_raw_samples_are_scored_for_every_run(run, room, tmp_path):
    code, _, err = run("report", f"{room}/one", f"{room}/two", "--events", f"{room}/fresh", f"{room}/toy",
                       "--out", str(tmp_path / "report"))  # fmt: skip
    assert code == 0, err
    places = sorted(path.parent for path in (tmp_path / "report" / "scored").rglob("_manifest.json"))
    assert [f"{place.parent.name}/{place.name}" for place in places] == ["one/fresh", "one/toy", "two/fresh", "two/toy"]


@pytest.mark.parametrize("second", ["{room}/toy", "shipped:qcd"])
def test_score_takes_one_sample_and_says_so(run, room, tmp_path, second):
    second = second.format(room=room)
    code, _, err = run("score", f"{room}/one", "--events", f"{room}/fresh", second, "--out", str(tmp_path / "out"))
    assert code == 2
    assert f"{second}: is a sample and no run, and jetscale score takes one sample" in err
    assert list(tmp_path.iterdir()) == []


def test_different_samples_of_one_name_cannot_be_told_apart(run, room, tmp_path):
    Events.write(Assigner().toy(20, 3), tmp_path / "fresh")
    code, _, err = run("report", f"{room}/one", "--events", f"{room}/fresh", f"{tmp_path}/fresh",
                       "--out", str(tmp_path / "report"))  # fmt: skip
    assert code == 2
    assert "two samples are called 'fresh'" in err and str(tmp_path / "fresh") in err


@pytest.mark.parametrize(
    "words",
    [
        ["train", "{room}/one.yaml", "--set", "stream.samples.toy.events=nowhere"],
        ["train", "{room}/one.yaml", "--set", "scale.shape=nothing"],
        ["score", "{room}/toy", "--events", "{room}/fresh"],
        ["score", "{room}/nowhere", "--events", "{room}/fresh"],
        ["score", "{room}/one", "--events", "{room}/nowhere"],
        ["report", "{room}/toy", "--events", "{room}/fresh"],
        ["report", "{room}/one", "--events", "{room}/nowhere"],
        ["generate", "{room}/one.yaml"],
        ["merge", "{room}/fresh", "{room}/fresh"],
        ["skim", "{room}/fresh", "--select", "jet_pt=30:"],
        ["split", "{room}/fresh", "--parts", "train=2"],
        ["inspect", "{room}/nowhere"],
    ],
)
def test_what_is_refused_leaves_nothing_behind(run, room, tmp_path, words):
    code, _, err = run(*[word.format(room=room) for word in words], "--out", str(tmp_path / "deep" / "out"))
    assert code in {1, 2}
    assert "what to do" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["train", "{room}/one.yaml"],
        ["score", "{room}/one", "--events", "{room}/fresh"],
        ["report", "{room}/one", "--events", "{room}/fresh"],
        ["generate", "shipped:qcd"],
        ["merge", "{room}/fresh"],
        ["skim", "{room}/fresh"],
        ["split", "{room}/fresh"],
        ["quickstart"],
    ],
)
def test_a_sample_and_a_file_are_not_written_into(run, room, words):
    words = [word.format(room=room) for word in words]
    before = sorted(path.name for path in (room / "toy").iterdir())
    code, _, err = run(*words, "--out", str(room / "toy"))
    assert code in {1, 2}
    assert "what to do" in err
    assert sorted(path.name for path in (room / "toy").iterdir()) == before
    for place in (room / "one.yaml", room / "one.yaml" / "below"):
        code, _, err = run(*words, "--out", str(place))
        assert code == 2
        assert f"--out {room / 'one.yaml'}: is a file" in err


def test_a_scored_sample_is_plain_parquet_beside_its_log(run, room, tmp_path):
    place = tmp_path / "scored"
    assert run("score", f"{room}/one", "--events", f"{room}/fresh", "--out", str(place))[0] == 0
    (place / SAMPLE_LOG).write_text("a banner\n")
    assert dataset(place).to_table().num_rows == 300


@pytest.mark.parametrize(
    ("words", "spread"),
    [
        (
            ["report", "r", "--events", "a", "b", "--out", "o"],
            ["report", "r", "--events", "a", "--events", "b", "--out", "o"],
        ),
        (["report", "r", "--events", "a", "--events", "b"], ["report", "r", "--events", "a", "--events", "b"]),
        (["score", "--events", "a", "run"], ["score", "--events", "a", "run"]),
        ([], []),
    ],
)
def test_several_samples_after_one_option(words, spread):
    assert cli.spread(words) == spread


def test_a_real_process_ends_with_the_code(tmp_path, job):
    def code(*words: str) -> int:
        command = [sys.executable, "-m", "jetscale.cli", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, env=_found()).returncode

    assert [code("show", job), code("show", "no.yaml")] == [0, 2]


def _found() -> dict[str, str]:
    import jetscale

    return {**os.environ, "PYTHONPATH": str(Path(jetscale.__file__).parents[1])}


def _raise(problem: Exception):
    def fail(*_: object) -> None:
        raise problem

    return fail
