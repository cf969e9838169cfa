"""A job becomes a run: what is wrong is named by its file and its key, and a --set changes what it names, no more."""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from jetscale.data.split import selected
from jetscale.errors import ConfigError
from jetscale.run import load, read, resolve
from jetscale.task import find

JOB = {
    "system": "assigner",
    "stream": {
        "samples": {"signal": {"events": "shipped:gluino-1500"}, "qcd": {"events": "shipped:qcd", "weight": 0.3}}
    },
    "horizon": {"epochs": 12},
}


@pytest.fixture
def job(tmp_path):
    def write(**changes):
        file = tmp_path / "job.yaml"
        file.write_text(yaml.safe_dump({"train": {**JOB, **changes}}))
        return file

    return write


def problem_of(file, *sets):
    with pytest.raises(ConfigError) as caught:
        load(file, sets)
    return caught.value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train:", "'train' holds nothing"),
        ("train: 3", "'train' holds 3"),
        ("generate: {}", "its top key is 'generate', not 'train'"),
        ("train: {seed: 1}", "'system' is missing"),
    ],
)
def test_a_file_that_is_not_a_job_is_named_with_what_it_holds(tmp_path, text, words):
    file = tmp_path / "job.yaml"
    file.write_text(text)
    problem = problem_of(file)
    assert words in problem.what and problem.where == str(file) and problem.cure


def test_a_system_that_is_not_a_name_is_named_with_its_layer(job):
    assert problem_of(job(), "system=3").what == "--set system=3: system is 3, not a name or a path"
    assert problem_of(job(system=None)).what == "job.yaml: system is nothing, not a name or a path"


def test_an_error_in_the_task_names_the_file_the_whole_key_and_the_nearest(job):
    file = job(task={"widht": 3})
    problem = problem_of(file)
    assert (problem.where, problem.what) == (str(file), "unknown key 'task.widht'")
    assert "did you mean 'width'?" in problem.cure
    assert problem_of(job(), "task.width=0").what.startswith("task.width = 0: ")
    assert problem_of(job(task=3)).what.startswith("task = 3: ")


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["scale.workers=5"], "scale.workers = 5: 5 workers do not divide 12 lanes: use one of [1, 2, 3, 4, 6, 12]"),
        (["scale.lanes=7", "scale.workers=2"], "scale.workers = 2: 2 workers do not divide 7 lanes"),
        (["scale.workers=2", "scale.launch=here"], "scale.launch = 'here': has one worker, not 2"),
        (["stream.epoch_of=signl"], "stream.epoch_of = 'signl': no sample of this name; did you mean 'signal'?"),
        (["stream.split.test=0.5"], "stream.split: train + validation + test is 1.25, not 1"),
        (["stream.samples.qcd.share=0.5"], "stream.samples: some samples have a share"),
        (["horizon={steps: 3, epochs: 3}"], "horizon: give exactly one of epochs, steps, events"),
        (["precision=bf16", "scale.stage=0"], "precision bf16 needs scale.engine deepspeed and scale.stage 1"),
    ],
)
def test_a_rule_between_settings_names_the_key_to_change(job, sets, words):
    problem = problem_of(job(), *sets)
    assert problem.what.startswith(words)
    assert "{" not in problem.what and problem.cure.removeprefix("change ") != "scale"


def test_a_dotted_set_changes_one_key_of_one_sample(job):
    resolved = load(job(), ["stream.samples.qcd.weight=0.1"])
    samples = resolved.run.stream.samples
    assert (samples["qcd"].weight, samples["qcd"].events) == (0.1, "shipped:qcd")
    assert samples["signal"].events == "shipped:gluino-1500"
    assert resolved.why["stream.samples.qcd.weight"] == "--set stream.samples.qcd.weight=0.1"
    assert resolved.why["stream.samples.qcd.events"] == "job.yaml"


def test_all_samples_at_once_replace_the_job_s(job):
    run = load(job(), ["stream.samples={other: {events: shipped:gluino-900}}"]).run
    assert list(run.stream.samples) == ["other"]


def test_a_horizon_is_replaced(job):
    assert load(job(), ["horizon.steps=100"]).run.horizon.model_dump(exclude_none=True) == {"steps": 100}


def test_a_start_must_be_a_run_when_a_job_is_resolved_and_may_move_afterwards(job, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    assert "is not the folder of a run" in problem_of(job(start=str(first))).what
    (first / "run.yaml").write_text(load(job()).run.to_yaml())
    run = load(job(start=str(first))).run
    (second / "run.yaml").write_text(run.to_yaml())
    first.rename(tmp_path / "moved")
    assert read(second) == run
    with pytest.raises(ConfigError, match="is not the folder of a run"):
        resolve([("again", run.values())], "again")


def test_a_run_that_is_read_names_its_file_and_key(job, tmp_path):
    values = load(job()).run.values()
    values["task"]["widht"] = 3
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({"train": values}))
    with pytest.raises(ConfigError, match=r"unknown key 'task\.widht'") as caught:
        read(tmp_path)
    assert caught.value.where == str(tmp_path / "run.yaml")


# ---- selection


def test_a_selection_is_on_one_number_per_event():
    table = pa.table({"true_mass": [1.0, 2.0, 3.0], "jet_pt": [[1.0], [], [2.0, 3.0]]})
    assert np.array_equal(selected(table, {"true_mass": (2, 3)}), [False, True, False])
    with pytest.raises(ConfigError, match="'jet_pt' holds a list per event") as caught:
        selected(table, {"jet_pt": (1.0, None)})
    assert caught.value.where == "stream.select" and "true_mass" in caught.value.cure


# ---- a user's own system

SYSTEM = '''"""{doc}"""

from jetscale.task import Task


class Mine(Task):
    """The {doc} of them."""


def recipe():
    return {{"system": "mine"}}
'''


def system(folder: Path, doc: str) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / "mine.py"
    file.write_text(SYSTEM.format(doc=doc))
    return file


def loaded() -> set[str]:
    return {name for name in sys.modules if name.startswith("jetscale_user")}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\ndef f(:\n", "line 2: SyntaxError: "),
        ("import os\n\nimport no_such_module_at_all\n", "line 3: ModuleNotFoundError: No module named"),
        ("def f():\n    return 1 / 0\n\nf()\n", "line 2: ZeroDivisionError: division by zero"),
    ],
)
def test_a_system_that_cannot_be_loaded_is_named_with_its_line_and_leaves_nothing(tmp_path, text, words):
    file = tmp_path / "mine.py"
    file.write_text(text)
    before = loaded()
    for _ in range(2):
        with pytest.raises(ConfigError) as caught:
            find(str(file))
        assert words in caught.value.what and caught.value.where == str(file) and caught.value.cure
    assert loaded() == before


def test_systems_of_one_stem_stay_apart_and_an_edited_one_is_loaded_anew(tmp_path):
    one, two = system(tmp_path / "one", "first"), system(tmp_path / "two", "second")
    first, second = find(str(one)), find(str(two))
    assert (first.doc, second.doc) == ("first", "second")
    assert first.task is not second.task and find(str(one)).task is first.task
    for kind in (first.task, second.task):
        assert sys.modules[kind.__module__].Mine is kind
    same, _ = system(tmp_path / "one", "first"), system(tmp_path / "three", "first")
    assert find(str(same)).task is first.task is not find(str(tmp_path / "three" / "mine.py")).task
    system(tmp_path / "one", "edited")
    assert find(str(one)).doc == "edited"
