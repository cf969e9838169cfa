"""An exported run: two files to score with, and a graph that gives what torch gives."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import halves
import numpy as np
import pytest
import torch
from torch import nn

import jetscale
from jetscale import cli
from jetscale.config import Values
from jetscale.data.batch import batch
from jetscale.errors import TrainError
from jetscale.evaluate import onnx as graphs
from jetscale.evaluate.export import export
from jetscale.evaluate.score import score
from jetscale.events import Events
from jetscale.run import Run, read, resolve
from jetscale.systems import assigner
from jetscale.systems.assigner import Assigner
from jetscale.task import At
from jetscale.train import checkpoint, exported
from jetscale.train.launch import train

INPUTS = ["jet_pt", "jet_eta", "jet_phi", "jet_mass", "jet_mask"]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample and two runs on it."""
    room = tmp_path_factory.mktemp("room")
    Events.write(Assigner().toy(300, 1), room / "toy")
    train(_run(room), room / "run")
    train(_run(room, seed=2), room / "other")
    return room


def _run(room: Path, task: Values | None = None, system: str = "assigner", seed: int = 1) -> Run:
    values = {"system": system, "task": {"width": 16, "layers": 3, **(task or {})}, "horizon": {"steps": 3},
              "stream": {"samples": {"toy": {"events": str(room / "toy")}}}, "seed": seed,
              "scale": {"engine": "torch", "launch": "here", "events_per_step": 64},
              "track": {"wandb": False}}  # fmt: skip
    return resolve([("test", values)], "test").run


@pytest.fixture(scope="module")
def model(room: Path) -> Path:
    """The run as it is exported, ONNX included."""
    done = export(room / "run", room / "model")
    assert done.agreement is not None and done.agreement.worst < 1e-5 and done.agreement.events == 75
    return done.folder


def test_there_are_three_files_and_they_can_be_read_by_everybody(model: Path) -> None:
    assert sorted(path.name for path in model.iterdir()) == ["model.onnx", "model.safetensors", "run.yaml"]
    assert len({path.stat().st_mode for path in model.iterdir()}) == 1
    assert not list(model.parent.glob(".*.part"))


def test_an_exported_run_is_the_run(room: Path, model: Path) -> None:
    assert read(model) == read(room / "run")
    assert checkpoint.read_data(model) == checkpoint.read_data(room / "run")
    ours, theirs = checkpoint.load(model)[1].state_dict(), checkpoint.load(room / "run")[1].state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs.keys() | ours.keys())


ALONE = """
import sys

class Refuse:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in {"ray", "deepspeed", "onnx", "onnxruntime", "onnxscript"}:
            raise ImportError(f"{name} is not here")

sys.meta_path.insert(0, Refuse())
"""
COMMAND = """
import sys
from jetscale.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_the_folder_alone_scores_without_ray_or_deepspeed(room: Path, model: Path, tmp_path: Path) -> None:
    """The sample has moved as well, and of the run nothing is left."""
    (tmp_path / "there").mkdir()
    for file in (exported.MODEL, "run.yaml"):
        shutil.copy(model / file, tmp_path / "there" / file)
    shutil.copytree(room / "toy", tmp_path / "toy")
    want = _scored_elsewhere(COMMAND, room / "run", room / "toy", tmp_path / "want")
    hidden = {path: path.rename(path.with_name(f"{path.name} elsewhere")) for path in (room / "run", room / "toy")}
    try:
        got = _scored_elsewhere(ALONE + COMMAND, tmp_path / "there", tmp_path / "toy", tmp_path / "got")
    finally:
        for path, place in hidden.items():
            place.rename(path)
    one, other = got.read(), want.read()
    rows = {name: zip(one[name].to_pylist(), other[name].to_pylist(), strict=True) for name in other.column_names}
    differ = {name: [pair for pair in pairs if pair[0] != pair[1]][:3] for name, pairs in rows.items()}
    assert one.schema == other.schema
    assert {name: pairs for name, pairs in differ.items() if pairs} == {}
    assert set(got.read(["split"])["split"].to_pylist()) == {0, 1, 2}


def _scored_elsewhere(code: str, run: Path, sample: Path, out: Path) -> Events:
    """A sample as another process scores it: what this one has imported, or set, must not count."""
    found = {**os.environ, "PYTHONPATH": str(Path(jetscale.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code, "score", str(run), "--events", str(sample), "--out", str(out)],
                          env=found, capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Events.open(out)


def test_a_run_can_start_from_an_exported_one(room: Path, model: Path, tmp_path: Path) -> None:
    values = {**_run(room).values(), "start": str(model), "horizon": {"steps": 1}}
    train(resolve([("test", values)], "test").run, tmp_path / "run")
    assert len(checkpoint.read_data(tmp_path / "run")["trained_on"]) == 2


@pytest.mark.parametrize("what", ["run", "toy", "file", "other"])
def test_a_folder_with_something_else_is_refused_and_left_alone(room: Path, tmp_path: Path, what: str) -> None:
    out = tmp_path / "out"
    if what == "file":
        out.mkdir()
        (out / "thesis.tex").write_text("years of work")
    elif what == "other":
        export(room / "other", out, with_onnx=False)
    else:
        shutil.copytree(room / what, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(TrainError, match="holds"):
        export(room / "run", out, with_onnx=False)
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_the_same_run_is_exported_anew(room: Path, tmp_path: Path) -> None:
    for _ in range(2):
        export(room / "run", tmp_path / "out", with_onnx=False)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model.safetensors", "run.yaml"]
    with pytest.raises(TrainError, match="exported run"):
        train(_run(room, seed=5), tmp_path / "out")


def test_an_export_that_fails_leaves_the_old_one(room: Path, tmp_path: Path, monkeypatch) -> None:
    export(room / "run", tmp_path / "out", with_onnx=False)
    monkeypatch.setattr(graphs, "write", lambda *_: (_ for _ in ()).throw(TrainError("they differ")))
    with pytest.raises(TrainError, match="they differ"):
        export(room / "run", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert checkpoint.load(tmp_path / "out")


@pytest.mark.parametrize(("damage", "hint"), [("cut", "cannot be read"), ("foreign", "which run it is")])
def test_a_file_that_is_no_model_of_ours(room: Path, tmp_path: Path, damage: str, hint: str) -> None:
    export(room / "run", tmp_path / "out", with_onnx=False)
    file = tmp_path / "out" / exported.MODEL
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:100])
    else:
        from safetensors.torch import save_file

        save_file({"weight": torch.zeros(3)}, file)
    with pytest.raises(TrainError, match=hint):
        checkpoint.read_data(tmp_path / "out")


def test_a_user_s_own_files_go_along(room: Path, tmp_path: Path) -> None:
    system = tmp_path / "mine.py"
    system.write_text(Path(assigner.__file__).read_text())
    kinds = tmp_path / "kinds.py"
    kinds.write_text(Path(halves.__file__).read_text())
    values = _run(room, system=str(system)).values()
    values["stream"]["derive"] = {"half": {"by": f"{kinds}:Half", "of": "true_mass"}}
    train(resolve([("test", values)], "test").run, tmp_path / "run")
    for _ in range(2):
        export(tmp_path / "run", tmp_path / "out", with_onnx=False)
    for file in (system, kinds):
        file.unlink()
    (tmp_path / "out").rename(tmp_path / "moved")
    assert sorted(path.name for path in (tmp_path / "moved").glob("*.py")) == ["kinds.py", "mine.py"]
    scored = score(tmp_path / "moved", Events.open(room / "toy"), tmp_path / "scored")
    assert len(scored) == 300


def test_without_the_extra_two_files_are_written_and_it_says_what_to_install(
    room: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(graphs, "missing", lambda: ["onnxscript"])
    assert cli.main(["export", str(room / "run"), "--out", str(tmp_path / "out")]) == 0
    assert "onnxscript not installed; pip install 'jetscale[export]'" in capsys.readouterr().out
    assert cli.main(["export", str(room / "run"), "--out", str(tmp_path / "out"), "--no-onnx"]) == 0
    assert "install" not in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "no log without a word"
    assert not (tmp_path / "out" / "model.onnx").exists()


def test_what_cannot_be_exported_is_named(room: Path, tmp_path: Path, capsys) -> None:
    assert cli.main(["export", str(room / "toy"), "--out", str(tmp_path / "out")]) == 2
    assert "is not the folder of a run" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def _scorer(folder: Path) -> graphs.Scorer:
    run, net = checkpoint.load(folder)
    return graphs.Scorer(run, net, INPUTS, room=4)  # as data/batch.py pads, which never gives no room at all


def _inputs(events: Events, start: int, rows: int) -> tuple[torch.Tensor, ...]:
    table = events.read().slice(start, rows)
    padded = batch([table], Assigner.columns, np.ones(rows), np.zeros(rows, dtype=np.int64), np.arange(rows),
                   At(0, 0, 1.0), 1)  # fmt: skip
    return (*(padded[name] for name in INPUTS[:-1]), padded.mask("jet"))


def _cases(toy: Events) -> list[tuple[torch.Tensor, ...]]:
    """Sizes, few jets, one jet, no jets, and no room for any."""
    real = Events.open("shipped:gluino-1500")
    cases = [_inputs(events, 3, rows) for events in (toy, real) for rows in (1, 2, 7, 256)]
    few = [tuple(one[:, :jets] for one in cases[6]) for jets in (5, 2, 1, 0)]
    return [*cases, *few, tuple(torch.zeros_like(one) for one in cases[2])]


def test_the_graph_gives_what_torch_gives(room: Path, model: Path) -> None:
    cases = _cases(Events.open(room / "toy"))
    agreement = graphs.compare(model / "model.onnx", _scorer(model), cases)
    assert agreement.events == sum(len(case[0]) for case in cases)
    assert agreement.undecided == 0
    assert agreement.worst < graphs.CLOSE


@pytest.mark.reference
@pytest.mark.parametrize(
    "task",
    [{"readout": "argmax"}, {"network": "dense"}, {"network": "dense", "readout": "argmax", "jets": 20}],
    ids=str,
)
def test_every_network_and_readout_has_a_graph(room: Path, tmp_path: Path, task: Values) -> None:
    train(_run(room, task), tmp_path / "run")
    export(tmp_path / "run", tmp_path / "out")
    agreement = graphs.compare(tmp_path / "out" / "model.onnx", _scorer(tmp_path / "out"), _cases(_toy(room)))
    assert agreement.undecided <= 1 and agreement.worst < graphs.CLOSE


def _toy(room: Path) -> Events:
    return Events.open(room / "toy")


def test_another_network_s_graph_is_refused(room: Path, model: Path) -> None:
    with pytest.raises(TrainError, match="ONNX and torch differ in event"):
        graphs.compare(model / "model.onnx", _scorer(room / "other"), [_inputs(_toy(room), 0, 50)])


class Noise(nn.Module):
    """Labels that hang on the last bit of an input."""

    def forward(self, pt_BJ: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        last_bit_BJ = (pt_BJ.view(torch.int32) % 2).float()
        return torch.stack((torch.zeros_like(pt_BJ), last_bit_BJ, 1 - last_bit_BJ), -1) * 9


def test_events_that_rounding_decides_are_counted_and_not_compared(room: Path, model: Path) -> None:
    scorer = graphs.Scorer(_run(room, {"readout": "argmax"}), Noise(), INPUTS)
    agreement = graphs.compare(model / "model.onnx", scorer, [_inputs(_toy(room), 0, 50)])
    assert agreement.undecided == agreement.events == 50
    assert "50 that rounding decides" in str(agreement)


def test_the_graph_says_what_goes_in_and_comes_out(room: Path, model: Path) -> None:
    import onnx

    graph = onnx.load(model / "model.onnx")
    said = {one.key: one.value for one in graph.metadata_props}
    assert said["jetscale.run"] == checkpoint.read_data(room / "run")["run"]
    columns = json.loads(said["jetscale.columns"])
    assert [one["name"] for one in columns["inputs"]] == [one.name for one in graph.graph.input] == INPUTS
    assert [one["name"] for one in columns["outputs"]] == list(Assigner.outputs.names)
    docs = {one.name: one.doc_string for one in (*graph.graph.input, *graph.graph.output)}
    assert docs["reco_mass"] == "mean of the two group masses [GeV]"
    sizes = [[dim.dim_param for dim in one.type.tensor_type.shape.dim] for one in graph.graph.input]
    assert sizes == [["event", "jet"]] * len(INPUTS)
    machine = str(Path(jetscale.__file__).parents[1]).encode()
    assert machine not in (model / "model.onnx").read_bytes(), "paths of the machine that traced it"
