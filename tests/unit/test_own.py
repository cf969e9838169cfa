"""A user's own files are those that the run was made with, whatever becomes of them later."""

from pathlib import Path

import halves
import pytest
import torch

from jetscale.config import Values
from jetscale.errors import TrainError
from jetscale.evaluate.export import export
from jetscale.evaluate.score import score
from jetscale.events import Events
from jetscale.run import Run, load, read, resolve
from jetscale.systems import assigner
from jetscale.systems.assigner import Assigner
from jetscale.train import checkpoint
from jetscale.train.engine import Engine
from jetscale.train.launch import name_of, prepare, train

SYSTEM = Path(assigner.__file__).read_text()
KINDS = Path(halves.__file__).read_text()
BROKEN = "raise RuntimeError('this is not the file that the run was made with')\n"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A system and a kind of column, and the sample `toy` beside them."""
    Events.write(Assigner().toy(200, 1), tmp_path / "toy")
    system, kinds = tmp_path / "mine.py", tmp_path / "kinds.py"
    system.write_text(SYSTEM)
    kinds.write_text(KINDS)
    return system, kinds


def _run(system: Path, kinds: Path, **more: object) -> Run:
    values: Values = {
        "system": str(system), "task": {"width": 8, "layers": 2, "readout": "argmax"}, "horizon": {"epochs": 2},
        "stream": {"samples": {"toy": {"events": str(system.parent / "toy")}},
                   "derive": {"half": {"by": f"{kinds}:Half", "of": "true_mass"}}},
        "scale": {"engine": "torch", "launch": "here", "events_per_step": 64}, "track": {"wandb": False}, **more,
    }  # fmt: skip
    return resolve([("test", values)], "test").run


def test_the_run_keeps_what_it_was_made_with(files: tuple[Path, Path], tmp_path: Path) -> None:
    toy, run = Events.open(tmp_path / "toy"), _run(*files)
    out = train(run, tmp_path / "run")
    want = score(out, toy, tmp_path / "before").read()
    for file in files:
        file.write_text(BROKEN)
    assert score(out, toy, tmp_path / "edited").read().equals(want)
    export(out, tmp_path / "model", with_onnx=False)
    assert [(tmp_path / "model" / file.name).read_text() for file in files] == [SYSTEM, KINDS]
    for file in files:
        file.unlink()
    out.rename(tmp_path / "moved")
    assert score(tmp_path / "moved", toy, tmp_path / "deleted").read().equals(want)


def test_the_workers_have_the_copies_and_the_name_is_the_same(files: tuple[Path, Path], tmp_path: Path) -> None:
    run = _run(*files)
    counted = prepare(run, run.stream.open())
    name = name_of(run, counted)
    out = train(run, tmp_path / "run")
    worked = (checkpoint.every(out)[0] / "run.yaml").read_text()
    assert f"system: {out}/mine.py\n" in worked and f"by: {out}/kinds.py:Half\n" in worked
    kept = (out / "run.yaml").read_text()
    assert "system: mine.py\n" in kept and "by: kinds.py:Half\n" in kept
    assert name_of(read(out), counted) == name == checkpoint.read_data(out)["run"]


def test_what_is_kept_is_a_job_that_gives_the_run_again(files: tuple[Path, Path], tmp_path: Path) -> None:
    out = train(_run(*files), tmp_path / "run")
    for file in files:
        file.write_text(BROKEN)
    again = train(load(out / "run.yaml").run, tmp_path / "again")
    assert checkpoint.read_data(again)["run"] == checkpoint.read_data(out)["run"]


class _PowerCutError(Exception):
    pass


@pytest.mark.parametrize("edited", ["mine.py", "kinds.py"])
def test_an_edited_file_is_another_run(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edited: str
) -> None:
    out, step = tmp_path / "run", Engine.step

    def once(self: Engine, one: object) -> dict[str, float]:
        if one.at.step == 3:
            raise _PowerCutError
        return step(self, one)

    with monkeypatch.context() as patched, pytest.raises(_PowerCutError):
        patched.setattr(Engine, "step", once)
        train(_run(*files), out)
    assert checkpoint.newest(out)
    text = (tmp_path / edited).read_text()
    (tmp_path / edited).write_text(f"{text}\n# another thought\n")
    with pytest.raises(TrainError, match=rf"another run; changed: [^;]*: {edited} with [^;]* -> {edited} with [^;]*$"):
        train(_run(*files), out)
    assert (out / edited).read_text() == text
    (tmp_path / edited).write_text(text)
    train(_run(*files), out)
    weights = [checkpoint.load(folder)[1].state_dict() for folder in (out, train(_run(*files), tmp_path / "at once"))]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_file_that_changes_while_the_training_starts_is_noticed(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jetscale.train import launch

    fitted = launch._fitted

    def slowly(*given: object) -> object:
        files[0].write_text(f"{SYSTEM}\n# another thought\n")
        return fitted(*given)

    monkeypatch.setattr(launch, "_fitted", slowly)
    with pytest.raises(TrainError, match="was changed while the training was starting"):
        train(_run(*files), tmp_path / "run")
    assert not (tmp_path / "run" / "run.yaml").exists()


def test_two_files_of_one_name_stay_two(files: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    kinds = files[1].rename(tmp_path / "there" / "mine.py")
    out = train(_run(files[0], kinds), tmp_path / "run")
    export(out, tmp_path / "model", with_onnx=False)
    for folder in (out, tmp_path / "model"):
        assert sorted(file.read_text() for file in folder.glob("*.py")) == sorted((SYSTEM, KINDS))
        assert checkpoint.load(folder)[0].stream.derive["half"].by.endswith(":Half")
