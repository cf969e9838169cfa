"""Labels that no class holds, and classes that no jet has, are named before anything is trained, with a cure."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from jetscale import labels
from jetscale.cli import main
from jetscale.config import Values, dump_yaml
from jetscale.data.batch import batch
from jetscale.data.split import part_of, selected
from jetscale.events import Events
from jetscale.stream import Source, Split, Stream
from jetscale.systems.pfn import PFN
from jetscale.task import At
from jetscale.train import track

TOP = {"qcd": ["qcd"], "top": ["top"]}
SMALL = {"ids": "none", "phi": [8, 6], "f": [5]}
SPLIT = Split(train=0.6, validation=0.4, test=0)


def jets(seed: int = 1, **held: list[str]) -> pa.Table:
    return PFN(classes=held, **SMALL).toy(240, seed)


def job(folder: Path, made: pa.Table, stream: Values | None = None, classes: Values | None = None) -> Path:
    Events.write(made, folder / "toy")
    values = {"system": "pfn", "task": {"classes": classes or TOP, **SMALL}, "horizon": {"epochs": 1},
              "stream": {"samples": {"toy": {"events": str(folder / "toy")}}, "split": SPLIT.values(),
                         **(stream or {})},
              "scale": {"engine": "torch", "launch": "here", "events_per_step": 72},
              "track": {"wandb": False}}  # fmt: skip
    (folder / "job.yaml").write_text(dump_yaml({"train": values}))
    return folder / "job.yaml"


def train(given: Path) -> int:
    return main(["train", str(given), "--out", str(given.parent / "run")])


def relabelled(made: pa.Table, code_B: np.ndarray) -> pa.Table:
    return made.set_column(made.column_names.index("jet_label"), "jet_label", pa.array(code_B.astype(np.int8)))


def test_labels_outside_are_counted_by_name_and_left_out_by_the_cure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = jets(qcd=["qcd", "w"], top=["top"])
    code_B = made["jet_label"].to_numpy().copy()
    train_B = part_of(made["event_id"].to_numpy(), SPLIT) == 0
    odd = np.flatnonzero(train_B & (code_B == labels.code("qcd")))[:3]
    code_B[odd] = 77
    made = relabelled(made, code_B)
    ws = int((train_B & (code_B == labels.code("w"))).sum())
    given = job(tmp_path, made)
    assert train(given) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"jet_label is outside of the classes: w ({ws} jets), unknown (3 jets); the classes hold qcd, top" in said
    assert "stream.select: {jet_label: [qcd, top]}" in said
    (tmp_path / "again").mkdir()
    assert train(job(tmp_path / "again", made, {"select": {"jet_label": ["qcd", "top"]}})) == 0


def test_a_class_without_jets_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    classes = {**TOP, "boson": ["w", "z"]}
    assert train(job(tmp_path, jets(**TOP), classes=classes)) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "no jet of the class 'boson' (w, z) has a weight in training" in said and "task.classes" in said


def test_a_validation_part_without_labels_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = jets(**TOP)
    validation_B = part_of(made["event_id"].to_numpy(), SPLIT) == 1
    code_B = np.where(validation_B, labels.code("w"), made["jet_label"].to_numpy())
    assert train(job(tmp_path, relabelled(made, code_B))) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"none of {validation_B.sum()} jets is of a class: their labels are w" in said


def test_jets_of_unknown_label_among_others_are_a_figure_of_validation(tmp_path: Path) -> None:
    """And there is no such figure where there are none of them."""
    made = jets(**TOP)
    validation = np.flatnonzero(part_of(made["event_id"].to_numpy(), SPLIT) == 1)
    code_B = made["jet_label"].to_numpy().copy()
    code_B[validation[:5]] = [labels.code("w"), -1, -1, 77, labels.code("gluon")]
    metrics = []
    for name, table in (("some", relabelled(made, code_B)), ("none", made)):
        (tmp_path / name).mkdir()
        assert train(job(tmp_path / name, table)) == 0
        metrics.append([line["metrics"] for line in track.lines(tmp_path / name / "run", "validation")])
    some, none = metrics
    assert len(some) > 1 and all(one["unknown"] == pytest.approx(5 / len(validation)) for one in some)
    assert [{**one, "unknown": 0}.keys() for one in none] == [one.keys() for one in some]
    assert all("unknown" not in one for one in none)


def test_a_selection_may_name_labels() -> None:
    select = Stream(samples={"x": Source(events="x")}, select={"jet_label": ["qcd", "top"], "x": [0, None]}).select
    table = pa.table({"jet_label": [labels.code(name) for name in ("qcd", "w", "top", "top")], "x": [1.0, 1, 1, -1]})
    assert selected(table, select).tolist() == [True, False, True, False]


def test_validation_asks_the_network_once(monkeypatch: pytest.MonkeyPatch) -> None:
    task = PFN(classes={"qcd": ("qcd",), "top": ("top",)}, **SMALL)
    net, calls = task.build(1, task.neutral()).eval(), []
    place_B = np.arange(9)
    rows = batch([task.toy(9, 1)], task.columns, np.ones(9), 0 * place_B, place_B, At(0, 0, 0.0), 1)
    forward = type(net).forward

    def counted(self: nn.Module, *given: Any) -> Any:
        calls.append(len(given))
        return forward(self, *given)

    wanted = task.loss(net, rows), task.score(net, rows)
    monkeypatch.setattr(type(net), "forward", counted)
    for one, other in zip(task.judge(net, rows), wanted, strict=True):
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert len(calls) == 1
