"""Ray Data, DeepSpeed and Ray Train give what plain torch and pyarrow give, on one worker and on two."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jetscale.config import Values
from jetscale.data.chunks import needed, readers
from jetscale.data.feed import Feed, Step, weightings
from jetscale.data.plan import Plan
from jetscale.data.source import Bytes, PyarrowBytes, RayBytes
from jetscale.errors import JetscaleError
from jetscale.events import Events
from jetscale.run import Run, read, resolve
from jetscale.systems.assigner import Assigner
from jetscale.train.launch import prepare, train
from jetscale.train.track import lines

pytestmark = pytest.mark.ray
STEPS = 50


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two toys of uneven size in uneven shards."""
    folder = tmp_path_factory.mktemp("samples")
    Events.write(Assigner().toy(3001, 1), folder / "large", rows_per_shard=701)
    Events.write(Assigner().toy(400, 2), folder / "small", rows_per_shard=90)
    return folder


def _run(samples: Path, scale: Values, task: Values | None = None) -> Run:
    stream = {"samples": {"large": {"events": str(samples / "large"), "share": 0.7},
                          "small": {"events": str(samples / "small"), "share": 0.3, "weight": 0.4}},
              "chunk_rows": 300}  # fmt: skip
    # Soft assignments: a hard draw on the border falls to either side by rounding, and the losses part from there.
    settings = {"loss_on": "mass", "gumbel": "soft", "width": 32, "layers": 3, "readout": "argmax", **(task or {})}
    values = {"system": "assigner", "task": settings, "stream": stream, "horizon": {"steps": STEPS},
              "optimiser": {"rate": 1e-3},
              "scale": {"events_per_step": 120, "events_per_micro_batch": 30, **scale},
              "track": {"wandb": False, "log_every": 1}}  # fmt: skip
    return resolve([("test", values)], "test").run


def _losses(folder: Path) -> list[float]:
    return [line["loss"]["mass"] for line in lines(folder, "step")]


@pytest.fixture(scope="module")
def trained(samples: Path, tmp_path_factory: pytest.TempPathFactory, ray_here: None) -> dict[str, Path]:
    """The same run in this process with pyarrow, and on Ray Train with one and with two workers."""
    folder = tmp_path_factory.mktemp("runs")
    scales: dict[str, Values] = {
        "plain": {"engine": "torch", "launch": "here", "source": "pyarrow"},
        "here": {"engine": "deepspeed", "launch": "here", "source": "pyarrow"},
        "one": {"engine": "deepspeed", "launch": "ray", "source": "ray", "workers": 1},
        "two": {"engine": "deepspeed", "launch": "ray", "source": "ray", "workers": 2, "stage": 2},
    }
    return {name: train(_run(samples, scale), folder / name) for name, scale in scales.items()}


@pytest.mark.parametrize("other", ["plain", "one", "two"])
def test_the_losses_do_not_depend_on_the_stack_or_the_workers(trained: dict[str, Path], other: str) -> None:
    losses, reference = _losses(trained[other]), _losses(trained["here"])
    assert len(losses) == STEPS
    assert losses == pytest.approx(reference, rel=1e-4)


def test_ray_data_changes_no_bit(trained: dict[str, Path]) -> None:
    assert _losses(trained["one"]) == _losses(trained["here"])


def test_the_weights_are_the_same_too(trained: dict[str, Path]) -> None:
    from safetensors.torch import load_file

    first, second = (
        load_file(next(trained[name].glob("checkpoints/*/weights.safetensors"))) for name in ("one", "two")
    )
    start = read(trained["one"]).task.build(1).state_dict()
    for name, tensor in first.items():
        assert not np.allclose(tensor, start[name], atol=2e-3), f"{name} was not trained"
        assert np.allclose(tensor, second[name], atol=2e-4), name


def test_no_file_of_a_run_holds_a_key(trained: dict[str, Path]) -> None:
    key = os.environ["WANDB_API_KEY"].encode()
    files = [file for run in trained.values() for file in run.rglob("*") if file.is_file()]
    assert len(files) > 20
    assert [file for file in files if key in file.read_bytes()] == []


def test_a_finished_run_is_left_and_another_is_refused(trained: dict[str, Path], samples: Path) -> None:
    log = (trained["here"] / "log.jsonl").stat().st_mtime_ns
    scale = {"engine": "deepspeed", "launch": "here", "source": "pyarrow"}
    train(_run(samples, scale), trained["here"])
    assert (trained["here"] / "log.jsonl").stat().st_mtime_ns == log
    with pytest.raises(JetscaleError, match=r"task.width: 32 -> 16"):
        train(_run(samples, scale, {"width": 16}), trained["here"])


def _steps(run: Run, kind: type[Bytes], rank: int, after: int) -> list[Step]:
    opened = run.stream.open()
    counted = prepare(run, opened)
    ours = readers(run.stream, opened, needed(run.task.columns), "train", run.seed)
    source: Any = RayBytes(ours, counted.chunks, 0.25) if kind is RayBytes else PyarrowBytes(ours, counted.chunks)
    feed = Feed(Plan(run, counted.chunks), source, run.task.columns, weightings(run.stream, counted.means), rank=rank,
                world=2)  # fmt: skip
    return list(feed.steps(after))


def test_both_sources_give_the_same_batches(samples: Path, ray_here: None) -> None:
    run = _run(samples, {})
    pairs = zip(_steps(run, RayBytes, 1, 10), _steps(run, PyarrowBytes, 1, 10), strict=True)
    for ray_step, plain_step in pairs:
        assert ray_step.at == plain_step.at
        for ours, theirs in zip(ray_step.micro, plain_step.micro, strict=True):
            assert all(ours[name].equal(theirs[name]) for name in ours.columns)
            assert ours.weight_B.equal(theirs.weight_B)
            assert ours.mask("jet").equal(theirs.mask("jet"))


def test_an_error_in_a_worker_arrives_as_it_was_said(samples: Path, ray_here: None, tmp_path: Path) -> None:
    run = _run(samples, {"launch": "ray", "source": "pyarrow"})
    broken = run.model_copy(update={"optimiser": run.optimiser.model_copy(update={"rate": 1e30, "clip": 0.0})})
    with pytest.raises(JetscaleError, match=r"the loss of step \d+ is not finite"):
        train(broken, tmp_path / "run")
