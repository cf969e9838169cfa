"""The command line: shape, exit codes, and errors that name things instead of showing tracebacks."""

import os
import subprocess
import sys

import pytest
import yaml

from jetscale import cli
from jetscale.errors import DataError

COMMANDS = ["quickstart", "generate", "systems", "show", "train", "score", "report", "doctor"]


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
    assert sorted(command.name or command.callback.__name__ for command in cli.app.registered_commands) == sorted(
        COMMANDS
    )


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


def test_two_runs_of_one_name_cannot_be_told_apart(run, tmp_path):
    code, _, err = run("report", "a/run", "b/run", "--events", "x", "--out", str(tmp_path / "report"))
    assert code in {1, 2}
    assert "what to do" in err


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
    from pathlib import Path

    import jetscale

    return {**os.environ, "PYTHONPATH": str(Path(jetscale.__file__).parents[1])}


def _raise(problem: Exception):
    def fail(*_: object) -> None:
        raise problem

    return fail
