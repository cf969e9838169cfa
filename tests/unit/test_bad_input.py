"""Bad input is refused with file, column, value and cure, before anything is started or written."""

import copy
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jetscale.cli import main
from jetscale.config import Values, dump_yaml
from jetscale.events import MANIFEST, Events, write_manifest, write_shard
from jetscale.systems.assigner import Assigner

SHARD = "shard-00001.parquet"
Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def toy() -> pa.Table:
    return Assigner().toy(300, 1)


def job(folder: Path, **changes: Any) -> Path:
    """A training that would take half a second."""
    values: Values = {
        "system": "assigner", "task": {"width": 8, "layers": 2, "readout": "argmax"}, "horizon": {"steps": 2},
        "stream": {"samples": {"toy": {"events": str(folder / "toy"), **changes.pop("sample", {})}},
                   **changes.pop("stream", {})},
        "scale": {"engine": "torch", "launch": "here", **changes.pop("scale", {})},
        "track": {"wandb": False}, **changes,
    }  # fmt: skip
    file = folder / "job.yaml"
    file.write_text(dump_yaml({"train": values}))
    return file


def refused(folder: Path, capsys: pytest.CaptureFixture[str], code: int = 1, **changes: Any) -> str:
    """What a user is told; nothing may have been started or written."""
    out = folder / "run"
    before = sorted(out.rglob("*")) if out.exists() else None
    assert main(["train", str(job(folder, **changes)), "--out", str(out)]) == code
    assert (sorted(out.rglob("*")) if out.exists() else None) == before
    told = capsys.readouterr()
    assert "training assigner" not in told.out and "Traceback" not in told.err
    assert "what to do: " in told.err
    return told.err


def rewrite(file: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """The same shard with other columns, in the same row groups, behind the manifest's back."""
    pq.write_table(change(pq.read_table(file, partitioning=None)), file, row_group_size=2500)


def put(name: str, make: Callable[[pa.ChunkedArray], Any]) -> Damage:
    """Put other values in a column of the second shard."""

    def change(table: pa.Table) -> pa.Table:
        return table.set_column(table.column_names.index(name), name, make(table[name]))

    return lambda folder: rewrite(folder / SHARD, change)


def some_null(column: pa.ChunkedArray) -> pa.Array:
    return pa.array([None, *column.to_pylist()[1:]], column.type)


def inner_null(column: pa.ChunkedArray) -> pa.Array:
    (first, *others) = column.to_pylist()
    return pa.array([[None, *first[1:]], *others], column.type)


DAMAGES: dict[str, tuple[Damage, str]] = {
    "missing": (lambda folder: (folder / SHARD).unlink(), f"{SHARD}: the manifest names this shard, but it is missing"),
    "truncated": (
        lambda folder: (folder / SHARD).write_bytes((folder / SHARD).read_bytes()[:-100]),
        f"{SHARD}: cannot be read",
    ),
    "empty": (lambda folder: (folder / SHARD).write_bytes(b""), f"{SHARD}: cannot be read"),
    "other counts": (
        lambda folder: rewrite(folder / SHARD, lambda table: table.slice(1)),
        f"{SHARD}: has 99 rows in 1 row groups, the manifest says 100 in 1",
    ),
    "another type": (
        put("jet_pt", lambda column: column.cast(pa.list_(pa.float64()))),
        "column 'jet_pt' holds lists of double, the manifest says lists of float",
    ),
    "a number for a list": (
        put("jet_mass", lambda column: pa.array(np.ones(len(column), np.float32))),
        "column 'jet_mass' holds float, the manifest says lists of float",
    ),
    "no column": (
        lambda folder: rewrite(folder / SHARD, lambda table: table.drop_columns(["jet_phi"])),
        f"{SHARD}: column 'jet_phi' is missing, the manifest has it",
    ),
    "a null id": (put("event_id", some_null), f"{SHARD}: column 'event_id' has 1 nulls"),
    "a null mass": (put("true_mass", some_null), f"{SHARD}: column 'true_mass' has 1 nulls"),
    "no manifest": (lambda folder: (folder / MANIFEST).unlink(), "is not a sample: it has no _manifest.json"),
    "half a manifest": (
        lambda folder: (folder / MANIFEST).write_text((folder / MANIFEST).read_text()[:200]),
        f"{MANIFEST}: is not JSON",
    ),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_sample(toy, tmp_path, capsys, kind):
    damage, said = DAMAGES[kind]
    Events.write(toy, tmp_path / "toy", rows_per_shard=100)
    damage(tmp_path / "toy")
    text = refused(tmp_path, capsys)
    assert said in text and str(tmp_path / "toy") in text


@pytest.mark.parametrize("name", ["jet_pt", "jet_parent_quark"])
def test_nulls_that_only_the_training_sees(toy, tmp_path, capsys, name):
    Events.write(toy, tmp_path / "toy", rows_per_shard=100)
    put(name, inner_null)(tmp_path / "toy")
    assert main(["train", str(job(tmp_path)), "--out", str(tmp_path / "run")]) == 1
    assert f"{SHARD}: column {name!r} has 1 nulls" in capsys.readouterr().err


def test_a_shard_that_another_program_wrote(toy, tmp_path):
    Events.write(toy, tmp_path / "toy", rows_per_shard=100)
    put("jet_pt", lambda column: pa.array(column.to_pylist(), column.type))(tmp_path / "toy")
    put("weight", lambda column: pa.array(column.to_pylist()))(tmp_path / "toy")
    job_file = job(tmp_path, sample={"event_weight": True}, stream={"chunk_rows": 1})
    assert main(["train", str(job_file), "--out", str(tmp_path / "run")]) == 0


def test_ids_that_repeat_in_another_shard(toy, tmp_path, capsys):
    made = Events.write(toy, tmp_path / "toy", rows_per_shard=100)
    first, second, third = made.manifest.shards
    ids = made.read(["event_id"], first)["event_id"]
    table = made.read(shard=third)
    place = table.column_names.index("event_id")
    last = write_shard(table.set_column(place, "event_id", ids), made.path / third.file, made.schema)
    write_manifest(made.manifest.but(shards=[one.values() for one in (first, second, last)]), made.path)
    text = refused(tmp_path, capsys)
    assert f"event_id is not unique, 100 of them repeat: {ids[0]} stands in {first.file} and in {third.file}" in text


def weighted(toy: pa.Table, weight_B: np.ndarray) -> pa.Table:
    """The toy with other physics weights, past the check of a writer."""
    return toy.set_column(toy.column_names.index("weight"), "weight", pa.array(weight_B))


WEIGHTS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str, str]] = {
    "negative": (lambda one: np.where(np.arange(100) == 7, -0.5, one), "error",
                 f"{SHARD}: column 'weight' has 1 values that are negative: the first is -0.5, of event 107"),
    "not a number": (lambda one: np.where(np.arange(100) > 97, math.nan, one), "abs",
                     f"{SHARD}: column 'weight' has 2 values that are not finite: the first is nan, of event 198"),
    "infinite": (lambda one: np.where(np.arange(100) == 3, math.inf, one), "keep",
                 f"{SHARD}: column 'weight' has 1 values that are not finite: the first is inf, of event 103"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_that_cannot_be_used(toy, tmp_path, capsys, kind):
    make, policy, said = WEIGHTS[kind]
    Events.write(toy, tmp_path / "toy", rows_per_shard=100)
    put("weight", lambda column: pa.array(make(np.ones(len(column)))))(tmp_path / "toy")
    text = refused(tmp_path, capsys, sample={"event_weight": True}, stream={"negative_weights": policy})
    assert said in text and "event_weight to false" in text


@pytest.mark.parametrize("policy", ["error", "abs", "keep"])
def test_weights_that_are_all_zero(toy, tmp_path, capsys, policy):
    Events.write(weighted(toy, np.zeros(300)), tmp_path / "toy")
    text = refused(tmp_path, capsys, sample={"event_weight": True}, stream={"negative_weights": policy})
    assert "column 'weight' sums to 0 over its" in text and "selected training rows" in text


def test_weights_that_are_zero_in_the_rows_that_train(toy, tmp_path, capsys):
    mass_B = toy["true_mass"].to_numpy()
    Events.write(weighted(toy, (mass_B == 0).astype(float)), tmp_path / "toy")
    text = refused(tmp_path, capsys, sample={"event_weight": True}, stream={"select": {"true_mass": [1, None]}})
    assert "column 'weight' sums to 0 over its" in text and "selected training rows" in text


def test_weights_that_cancel(toy, tmp_path, capsys):
    Events.write(weighted(toy, np.full(300, -1.0)), tmp_path / "toy")
    text = refused(tmp_path, capsys, sample={"event_weight": True}, stream={"negative_weights": "keep"})
    assert "column 'weight' sums to -" in text


def test_weights_that_are_not_used_may_be_anything(toy, tmp_path):
    Events.write(weighted(toy, np.zeros(300)), tmp_path / "toy")
    assert main(["train", str(job(tmp_path)), "--out", str(tmp_path / "run")]) == 0


SETTINGS: dict[str, tuple[Values, int, str]] = {
    "no share": ({"sample": {"share": 0.0}}, 2, "stream.samples.toy.share = 0.0"),
    "half a share": ({"sample": {"share": 0.5}}, 2, "the shares sum to 0.5, not 1"),
    "no weight": ({"sample": {"weight": 0.0}}, 2, "every sample has weight 0"),
    "a negative weight": ({"sample": {"weight": -1.0}}, 2, "stream.samples.toy.weight = -1.0"),
    "an infinite weight": ({"sample": {"weight": math.inf}}, 2, "stream.samples.toy.weight = inf"),
    "nothing selected": ({"stream": {"select": {"true_mass": [1e9, None]}}}, 2, "has no selected rows"),
    "no training part": ({"stream": {"split": {"train": 0, "validation": 0.5, "test": 0.5}}}, 2, "in its train part"),
    "more workers than lanes": (
        {"scale": {"workers": 24, "launch": "ray"}}, 2, "24 workers do not divide 12 lanes: use one of [1, 2",
    ),
    "a selection of one number": (
        {"stream": {"select": {"true_mass": 900}}}, 2, "stream.select.true_mass = 900: a pair [low, high] is wanted",
    ),
    "a selection upside down": (
        {"stream": {"select": {"true_mass": [900, 600]}}}, 2, "stream.select.true_mass = [900, 600]: low = 900 is",
    ),
    "a selection of labels that are none": (
        {"stream": {"select": {"jet_label": ["qcd", "topp"]}}}, 2, "'topp']: no label 'topp'; did you mean 'top'",
    ),
    "a selection of labels of another column": (
        {"stream": {"select": {"true_mass": ["qcd", "top"]}}}, 2, "only jet_label has labels, give two numbers",
    ),
    "a sample at a URL": ({"sample": {"events": "s3://bucket/toy"}}, 1, "s3://bucket/toy: samples at a URL are not"),
    "no samples": ({"stream": {"samples": {}}}, 2, "stream.samples"),
}  # fmt: skip


def test_a_reweight_that_is_0_everywhere_is_named(toy, tmp_path, capsys):
    Events.write(toy, tmp_path / "toy")
    derive = {"w": {"by": "Window", "of": "true_mass", "low": 1e6}}
    given = job(tmp_path, stream={"derive": derive, "reweight": "w"})
    assert main(["train", str(given), "--out", str(tmp_path / "run")]) == 1
    assert "its truth is not known, or 'w', which stream.reweight names, is 0" in capsys.readouterr().err


@pytest.mark.parametrize("kind", SETTINGS)
def test_settings_that_cannot_be(toy, tmp_path, capsys, kind):
    changes, code, said = SETTINGS[kind]
    Events.write(toy, tmp_path / "toy")
    assert said in refused(tmp_path, capsys, code, **copy.deepcopy(changes))


def test_a_folder_of_another_run(toy, tmp_path, capsys):
    Events.write(toy, tmp_path / "toy")
    assert main(["train", str(job(tmp_path)), "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    text = refused(tmp_path, capsys, seed=2)
    assert "holds another run" in text and "seed: 1 -> 2" in text and "choose another --out" in text


def test_a_folder_of_another_run_that_was_interrupted(toy, tmp_path, capsys):
    Events.write(toy, tmp_path / "toy")
    assert main(["train", str(job(tmp_path)), "--out", str(tmp_path / "run")]) == 0
    point = next((tmp_path / "run" / "checkpoints").glob("*/at.json"))
    point.write_text(json.dumps({**json.loads(point.read_text()), "ended": None, "step": 1}))
    capsys.readouterr()
    assert "seed: 1 -> 2" in refused(tmp_path, capsys, seed=2)


def test_a_sample_that_changed_under_a_run(toy, tmp_path, capsys):
    Events.write(toy, tmp_path / "toy")
    assert main(["train", str(job(tmp_path)), "--out", str(tmp_path / "run")]) == 0
    shutil.rmtree(tmp_path / "toy")
    Events.write(toy.slice(10), tmp_path / "toy")
    capsys.readouterr()
    assert "changed: the content of a sample" in refused(tmp_path, capsys)


def test_a_folder_of_something_else(toy, tmp_path, capsys):
    Events.write(toy, tmp_path / "toy")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").touch()
    assert "holds 'thesis.tex' and no run" in refused(tmp_path, capsys)
