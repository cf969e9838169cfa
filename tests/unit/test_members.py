"""A task whose rows are jets: trained, validated and scored on samples of events."""

from pathlib import Path

import numpy as np
import pytest

from jetscale.config import Values
from jetscale.errors import JetscaleError
from jetscale.evaluate.score import score
from jetscale.events import Events
from jetscale.run import Run, resolve
from jetscale.systems.assigner import Assigner
from jetscale.train import checkpoint
from jetscale.train.launch import prepare, train
from jetscale.train.track import lines

SYSTEM = '''
"""Whether a jet belongs to a parent, by its pt alone. A Tester, "Jets one by one", 2026."""

from typing import ClassVar, final

import torch
from torch import nn
from torch.nn import functional

from jetscale.schema import JET_EVENTS, Column, Schema
from jetscale.systems.assigner import Assigner
from jetscale.task import NOTHING, Task

NUMBER = dict(dtype="float32", unit="", doc="")


@final
class JetTask(Task):
    columns: ClassVar[Schema] = JET_EVENTS.only(["event_id", "weight"]).plus(
        JET_EVENTS["jet_pt"].but(of=None), Column(name="label", missing=-1, **NUMBER), Column(name="ht", **NUMBER))
    outputs: ClassVar[Schema] = Schema(columns=(Column(name="jet_score", missing=-1, **NUMBER),))

    def build(self, seed, fitted=NOTHING):
        torch.manual_seed(seed)
        return nn.Linear(1, 1)

    def weights(self, batch):
        return {"label": batch.weight_B}

    def loss(self, net, batch):
        logit_B = net((batch["jet_pt"] / batch["ht"])[:, None])[:, 0]
        return {"label": functional.binary_cross_entropy_with_logits(logit_B, batch["label"], reduction="none")}

    def score(self, net, batch):
        return {"jet_score": net((batch["jet_pt"] / batch["ht"])[:, None])[:, 0].sigmoid()}

    def figures(self, scored):
        return {"rows": float(scored.num_rows)}

    def toy(self, n, seed):
        return Assigner().toy(n, seed)


def recipe():
    return {"horizon": {"epochs": 2}, "optimiser": {"rate": 0.1}}
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jets")
    (folder / "jets.py").write_text(SYSTEM)
    Events.write(Assigner().toy(500, 1), folder / "toy", rows_per_shard=150)
    return folder


def _run(folder: Path, **stream: object) -> Run:
    derive = {"ht": {"by": "Sum", "of": "jet_pt"}, "label": {"by": "Window", "of": "jet_parent_ancestry", "low": 1}}
    each: Values = {"of": "jet", "first": 5}
    given = {"samples": {"toy": {"events": str(folder / "toy")}}, "derive": derive, "each": each, "chunk_rows": 150,
             **stream}  # fmt: skip
    values = {"system": str(folder / "jets.py"), "stream": given, "track": {"wandb": False, "log_every": 1},
              "scale": {"launch": "here", "engine": "torch", "events_per_step": 96}}  # fmt: skip
    return resolve([("test", values)], "test").run


def test_jets_are_trained_on_and_scored_as_lists_of_their_events(folder: Path, tmp_path: Path) -> None:
    out = train(_run(folder), tmp_path / "run")
    table = Events.open(folder / "toy").read()
    jets = sum(min(5, len(event)) for event in table["jet_pt"].to_pylist())
    assert sum(checkpoint.read_data(out)["samples"]["toy"]["rows"].values()) == jets
    losses = [line["loss"]["label"] for line in lines(out, "step")]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    scored = score(out, Events.open(folder / "toy"), tmp_path / "scored").read()
    assert scored["event_id"].equals(table["event_id"])
    slope, offset = (tensor.item() for tensor in checkpoint.load(out)[1].state_dict().values())
    for pt, scores in zip(scored["jet_pt"].to_pylist(), scored["jet_score"].to_pylist(), strict=True):
        ht = sum(pt)
        want = [1 / (1 + np.exp(-(slope * one / ht + offset))) for one in pt[:5]]
        assert scores == pytest.approx(want + [-1.0] * (len(pt) - len(want)), rel=1e-4)


def test_one_run_per_fold_tests_every_event_once(folder: Path) -> None:
    rows = []
    for test in range(3):
        run = _run(folder, split={"folds": 3, "test": test})
        chunks = prepare(run, run.stream.open()).chunks["toy"]
        rows.append({part: sum(chunk.selected[part] for chunk in chunks) for part in ("train", "validation", "test")})
    assert sum(one["test"] for one in rows) == sum(one["train"] for one in rows) == sum(rows[0].values())


def test_a_task_on_jets_says_what_events_lack(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(JetscaleError, match=r"column 'jet_pt' holds a list per row(.|\n)*stream.each"):
        train(_run(folder, each=None, derive={}), tmp_path / "run")
