"""Jets that no tagger can learn from, or score, are refused by column, number and cure; none is a silent number."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from jetscale.aggregates import Within
from jetscale.cli import main
from jetscale.config import Values, dump_yaml
from jetscale.data.batch import batch
from jetscale.data.split import part_of
from jetscale.errors import DataError
from jetscale.evaluate.score import score
from jetscale.events import Events
from jetscale.stream import Split
from jetscale.systems.particlenet import ParticleNet
from jetscale.systems.pfn import PFN
from jetscale.systems.rnn import RNN
from jetscale.tagger import Tagger
from jetscale.task import At, Batch, find, names
from jetscale.train.checkpoint import is_complete

SHARD = "shard-00001.parquet"
CLASSES = {"gluon": ["gluon"], "quark": ["quark"]}
TASKS: dict[str, Values] = {"pfn": {"ids": "full", "phi": [8, 6], "f": [5]}, "particlenet": {"size": "lite"},
                            "rnn": {"hidden": 8}}  # fmt: skip
TAGGERS = [name for name in names() if issubclass(find(name).task, Tagger)]
Change = Callable[[list[Any]], object]


def toy() -> pa.Table:
    return ParticleNet(classes=CLASSES, features="ids").toy(200, 1)


def inner(value: float) -> Change:
    return lambda rows: rows[3].__setitem__(0, value)


def outer(value: float) -> Change:
    return lambda rows: rows.__setitem__(3, value)


def put(folder: Path, column: str, change: Change) -> None:
    """Change a column of a shard behind the manifest's back, past the check of a writer."""
    file = folder / SHARD
    table = pq.read_table(file, partitioning=None)
    rows = table[column].to_pylist()
    change(rows)
    changed = table.set_column(table.column_names.index(column), column, pa.array(rows, table[column].type))
    pq.write_table(changed, file, row_group_size=2500)


def train(folder: Path, system: str, validation: float = 0) -> int:
    """A training of a second."""
    values = {"system": system, "task": {"classes": CLASSES, **TASKS[system]}, "horizon": {"epochs": 1},
              "stream": {"samples": {"toy": {"events": str(folder / "toy")}},
                         "split": {"train": 1 - validation, "validation": validation, "test": 0}},
              "scale": {"engine": "torch", "launch": "here", "events_per_step": 100},
              "track": {"wandb": False}}  # fmt: skip
    (folder / "job.yaml").write_text(dump_yaml({"train": values}))
    return main(["train", str(folder / "job.yaml"), "--out", str(folder / "run")])


# By no more than one shard's change: what is said of it.
ODD: dict[str, tuple[str, str, Change, str]] = {
    "no number": ("pfn", "particle_pt", inner(math.nan), "1 values of 'particle_pt' cannot be used"),
    "an infinite place": ("particlenet", "particle_eta", inner(math.inf), "1 values of 'particle_eta' cannot"),
    "a negative momentum": ("particlenet", "particle_pt", inner(-5.0), "1 values of 'particle_pt' cannot be used"),
    "a negative mass": ("pfn", "particle_mass", inner(-0.1), "1 values of 'particle_mass' cannot be used"),
    "a jet of no mass": ("particlenet", "jet_mass", outer(-1.0), "1 values of 'jet_mass' cannot be used"),
    "degrees": ("pfn", "particle_phi", inner(120.0), "1 values of 'particle_phi' cannot be used"),
    "a label outside": ("pfn", "jet_label", outer(9), "outside of the classes: h_bb (1 jets); the classes hold gluon"),
    "a label unknown": ("particlenet", "jet_label", outer(-1), "outside of the classes: unknown (1 jets);"),
    "no label at all": ("pfn", "jet_label", outer(120), "outside of the classes: unknown (1 jets);"),
    "an id unknown": ("rnn", "particle_pdg", inner(3122), "1 particles are of none of the 14 species"),
    "lists of two lengths": ("pfn", "particle_eta", lambda rows: rows[3].pop(), "all particle_* columns must describe"),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_jets_are_not_trained_on(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    system, column, change, said = ODD[kind]
    Events.write(toy(), tmp_path / "toy", rows_per_shard=100)
    put(tmp_path / "toy", column, change)
    assert train(tmp_path, system) == 1
    told = capsys.readouterr().err
    assert said in told and "what to do: " in told and "Traceback" not in told
    assert not (tmp_path / "run").exists() or not is_complete(tmp_path / "run")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_odd_jets_are_not_validated_on(value: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Events.write(toy(), tmp_path / "toy", rows_per_shard=100)
    id_B = pq.read_table(tmp_path / "toy" / SHARD, partitioning=None)["event_id"].to_numpy()
    (row, *_) = np.flatnonzero(part_of(id_B, Split(train=0.5, validation=0.5, test=0)) == 1)
    put(tmp_path / "toy", "particle_eta", lambda rows: rows[row].__setitem__(0, value))
    assert train(tmp_path, "particlenet", 0.5) == 1
    assert "1 values of 'particle_eta' are not finite" in capsys.readouterr().err


@pytest.mark.parametrize(("column", "change", "said"), [
    ("particle_eta", inner(math.inf), r"1 values of 'particle_eta' are not finite"),
    ("particle_pt", inner(-5.0), r"1 values of 'particle_pt' are not finite, or outside"),
    ("particle_pdg", inner(3122), r"1 particles are of none of the 14 species that are known"),
    ("particle_phi", lambda rows: rows[3].pop(), r"particle_phi has \d+"),
])  # fmt: skip
def test_odd_jets_are_not_scored(column: str, change: Change, said: str, tmp_path: Path) -> None:
    """Nor are they left out without a word: a scored sample holds all of its jets."""
    Events.write(toy(), tmp_path / "toy", rows_per_shard=100)
    assert train(tmp_path, "pfn") == 0
    put(tmp_path / "toy", column, change)
    with pytest.raises(DataError, match=said):
        score(tmp_path / "run", Events.open(tmp_path / "toy"), tmp_path / "scored")
    assert not (tmp_path / "scored" / "_manifest.json").exists()


def rows(task: Tagger, n: int = 6) -> Batch:
    none = np.zeros(n, dtype=np.int64)
    return batch([task.toy(n, 3)], task.columns, np.ones(n), none, none, At(0, 0, 0.0), 1)


@pytest.mark.parametrize("name", TAGGERS)
def test_jets_without_particles_have_probabilities(name: str) -> None:
    """And change nothing of those of other jets."""
    task: Any = find(name).task()
    net, seen = task.build(1).eval(), rows(task)
    with torch.no_grad():
        wanted = task.score(net, seen)
        for mask in seen.masks.values():
            mask[2] = False
        found = task.score(net, seen)
    others = torch.arange(6) != 2
    for column in (f"probability_{one}" for one in task.classes):
        assert torch.isfinite(found[column]).all() and torch.allclose(found[column][others], wanted[column][others])
    assert float(sum(found[f"probability_{one}"][2] for one in task.classes)) == pytest.approx(1, abs=1e-5)


def test_only_what_is_there_and_counts_is_looked_at() -> None:
    task = PFN()
    seen, looked = rows(task), Within(task.inputs)
    assert looked.sums(seen)["odd"].sum() == 0 and list(looked.names) == list(task.inputs.names)
    place = looked.names.index("particle_pt")
    seen["particle_pt"][~seen.mask("particle")] = math.nan  # padding
    assert looked.sums(seen)["odd"].sum() == 0
    seen["particle_pt"][4, 0] = -1.0
    assert looked.sums(seen)["odd"][place] == 1
    seen.weight_B[4] = 0.0
    assert looked.sums(seen)["odd"].sum() == 0


@pytest.mark.parametrize("kind", [PFN, RNN])
def test_unknown_species_may_be_let_in(kind: type[PFN] | type[RNN]) -> None:
    seen = rows(kind(ids="full"))
    seen["particle_pdg"][1, 0] = 3122
    for mode in (True, False):
        with pytest.raises(DataError, match=r"PDG id 3122"):
            kind(ids="full").build(1).train(mode)(*kind(ids="full").tensors(seen))
    let_in = kind(ids="full", unknown="zero")
    assert torch.isfinite(let_in.build(1)(*let_in.tensors(seen))).all()
