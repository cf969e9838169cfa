"""The report on taggers says what counting says, of held-out jets of known class alone."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from jetscale import labels
from jetscale.errors import DataError
from jetscale.evaluate.report import Scored, report
from jetscale.evaluate.tagging import results
from jetscale.events import Events, Manifest, write_manifest, write_shard
from jetscale.metrics import auc
from jetscale.schema import EVENT_ID, JET, JET_LABEL, WEIGHT, Column, Schema

N = 3000
COLUMNS = Schema(columns=(EVENT_ID, WEIGHT, *JET.columns, JET_LABEL))
SPLIT = Column(name="split", dtype="int8", unit="", doc="part")


def sample(folder: Path, sharp: float, *, seed: int = 1, doc: str = "that the jet is ", n: int = N) -> Events:
    """Jets scored as by a tagger of QCD against W and Z together and top; a third of them held out."""
    dice = np.random.default_rng(seed)
    label = dice.choice(
        [labels.code(name) for name in ("qcd", "w", "z", "top", "gluon")], n, p=[0.4, 0.2, 0.2, 0.15, 0.05]
    )
    kind = np.select([label == labels.code("qcd"), label == labels.code("top")], [0, 2], 1)
    noise = np.random.default_rng(int(10 * sharp) + seed).normal(0, 1, (n, 3))
    logits = noise + sharp * np.eye(3)[kind]
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    classes = {"qcd": "qcd", "boson": "w or z", "top": "top"}
    outputs = [Column(name=f"probability_{name}", dtype="float32", unit="", doc=f"{doc}{held}", low=0, high=1)
               for name, held in classes.items()]  # fmt: skip
    schema = COLUMNS.plus(*outputs, SPLIT)
    values = {"event_id": np.arange(n), "weight": dice.uniform(0.5, 1.5, n), "jet_pt": dice.uniform(550, 650, n),
              "jet_eta": dice.normal(0, 1, n), "jet_phi": dice.uniform(-3, 3, n), "jet_mass": dice.uniform(0, 200, n),
              "jet_label": label, "split": np.arange(n) % 3}  # fmt: skip
    values |= {column.name: probability[:, number] for number, column in enumerate(outputs)}
    table = pa.table(
        [pa.array(values[column.name]).cast(column.arrow) for column in schema.each()], schema=schema.arrow
    )
    shard = write_shard(table, folder / "shard-00000.parquet", schema)
    write_manifest(Manifest(name="jets", columns=schema.columns, shards=(shard,)), folder)
    return Events.open(folder)


def test_the_numbers_are_those_of_counting(tmp_path: Path) -> None:
    scored = [Scored("sharp", sample(tmp_path / "a", 2.0)), Scored("blunt", sample(tmp_path / "b", 0.5))]
    page = report(scored, tmp_path / "out", command="jetscale report", wall={})
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    table = scored[0].events.read().to_pandas()
    held = table[(table.split == 2) & (table.jet_label != labels.code("gluon"))]
    assert found["jets"]["known"] == len(held)
    assert found["jets"]["unknown"] == ((table.split == 2) & (table.jet_label == labels.code("gluon"))).sum()
    assert found["jets"]["left_out"] == (table.split < 2).sum()
    kind = np.select([held.jet_label == labels.code("qcd"), held.jet_label == labels.code("top")], [0, 2], 1)
    probability = held[["probability_qcd", "probability_boson", "probability_top"]].to_numpy(float)
    right = held.weight[probability.argmax(1) == kind].sum() / held.weight.sum()
    assert found["runs"]["sharp"]["figures"]["accuracy"]["value"] == pytest.approx(right, rel=1e-5)
    two = kind != 1
    score = probability[two, 2] / (probability[two, 2] + probability[two, 0])
    wanted = auc(score, kind[two] == 2, held.weight.to_numpy()[two])
    assert found["runs"]["sharp"]["figures"]["auc_top"]["value"] == pytest.approx(wanted, rel=1e-5)
    lead = found["differences"]["sharp"]["blunt"]["auc"]
    assert lead["value"] > 5 * lead["error"] > 0
    assert sum(one["n"] for one in found["runs"]["sharp"]["bins"]["jet_pt"]) == len(held)
    text = page.read_text()
    for words in ("held-out jets of 3 classes", "outside of all classes", "boson (w, z)", "sharp", "blunt"):
        assert words in text
    assert {file.name for file in (tmp_path / "out" / "figures").glob("*.png")} == {
        "roc.png", "bins.png", "confusion.png", "calibration.png"}  # fmt: skip


def test_the_same_jets_give_the_same_bytes(tmp_path: Path) -> None:
    scored = [Scored("run", sample(tmp_path / "a", 1.0, n=400))]
    texts = set()
    for name in ("one", "two"):
        report(scored, tmp_path / name, command=name, wall={})
        texts.add((tmp_path / name / "results.json").read_text())
    assert len(texts) == 1 and str(tmp_path) not in texts.pop()


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"seed": 2}, "has scored other jets"),
        ({"n": 300}, "has scored other jets"),
        ({"doc": "of "}, "does not say which"),
    ],
)
def test_what_does_not_belong_together_is_refused(tmp_path: Path, other: dict, said: str) -> None:
    scored = [Scored("run", sample(tmp_path / "a", 1.0, n=400)),
              Scored("other", sample(tmp_path / "b", 1.0, **{"n": 400, **other}))]  # fmt: skip
    with pytest.raises(DataError, match=said):
        results.jets(scored)


def test_without_held_out_jets_there_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no held-out jets of known class"):
        results.jets([Scored("run", sample(tmp_path / "a", 1.0, n=2))])
