"""A training in this process: it learns, it can start from another, it keeps what must stay, it writes what it says."""

import json
import math
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from jetscale.config import Values
from jetscale.data.chunks import readers
from jetscale.data.feed import Pass, weightings
from jetscale.data.source import PyarrowBytes
from jetscale.data.split import part_of
from jetscale.errors import ConfigError, DataError, TrainError
from jetscale.evaluate.score import score
from jetscale.events import Events
from jetscale.run import Optimiser, Run, read, resolve
from jetscale.systems.assigner import Assigner
from jetscale.train import checkpoint, launch
from jetscale.train.engine import rate_at
from jetscale.train.launch import prepare, train
from jetscale.train.loss import shares, weight_sums
from jetscale.train.track import lines
from jetscale.train.world import World


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy") / "toy"
    Events.write(Assigner().toy(1500, 1), folder, rows_per_shard=400)
    return folder


def _run(toy: Path, task: Values | None = None, **more: object) -> Run:
    values = {"system": "assigner", "task": {"width": 32, "layers": 3, "readout": "argmax", **(task or {})},
              "stream": {"samples": {"toy": {"events": str(toy)}}}, "horizon": {"epochs": 3},
              "scale": {"engine": "torch", "launch": "here", "events_per_step": 64},
              "track": {"wandb": False, "log_every": 1}, **more}  # fmt: skip
    return resolve([("test", values)], "test").run


@pytest.fixture(scope="module")
def trained(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(_run(toy), tmp_path_factory.mktemp("run") / "run")


def test_it_learns_and_says_so(trained: Path) -> None:
    before, after = lines(trained, "validation")[0]["metrics"], lines(trained, "validation")[-1]["metrics"]
    assert after["loss_label"] < before["loss_label"] - 0.1
    assert after["jet_accuracy"] > before["jet_accuracy"]
    steps = lines(trained, "step")
    assert [line["step"] for line in steps] == list(range(1, steps[-1]["of"] + 1))
    assert all(0 <= line["wait"] <= 1 and line["events_per_s"] > 0 for line in steps)
    assert lines(trained, "end") == [{"kind": "end", "status": "done", "seconds": lines(trained, "end")[0]["seconds"]}]


def test_the_folder_holds_a_run_that_can_be_run_again(trained: Path, toy: Path) -> None:
    assert read(trained) == _run(toy)
    assert not list(trained.rglob("*.part"))


def test_same_seed_same_weights_another_seed_others(trained: Path, toy: Path, tmp_path: Path) -> None:
    again, other = train(_run(toy), tmp_path / "again"), train(_run(toy, seed=2), tmp_path / "other")
    nets = [checkpoint.load(folder)[1].state_dict() for folder in (trained, again, other)]
    assert all(nets[0][name].equal(nets[1][name]) for name in nets[0])
    assert not all(nets[0][name].equal(nets[2][name]) for name in nets[0])


def test_a_warm_start_begins_where_the_other_ended(trained: Path, toy: Path, tmp_path: Path) -> None:
    warm = train(_run(toy, {"loss_on": "mass"}, start=str(trained), horizon={"steps": 2}), tmp_path / "warm")
    first = lines(warm, "validation")[0]["metrics"]
    assert first["jet_accuracy"] == pytest.approx(lines(trained, "validation")[-1]["metrics"]["jet_accuracy"])
    with pytest.raises(TrainError, match="the weights do not fit"):
        train(_run(toy, {"width": 16}, start=str(trained)), tmp_path / "narrow")
    with pytest.raises(ConfigError, match="not the folder of a run"):
        _run(toy, start=str(tmp_path / "nowhere"))


def test_without_a_validation_part_there_are_no_figures(toy: Path, tmp_path: Path) -> None:
    stream = {"samples": {"toy": {"events": str(toy)}}, "split": {"train": 1, "validation": 0, "test": 0}}
    out = train(_run(toy, stream=stream, horizon={"steps": 3}), tmp_path / "run")
    assert all(line["metrics"] == {} for line in lines(out, "validation"))


def test_of_a_long_validation_part_some_is_looked_at(toy: Path) -> None:
    stream = {"samples": {name: {"events": str(toy)} for name in "ab"}, "chunk_rows": 100}
    run = _run(toy, stream=stream)
    counted = prepare(run, samples := run.stream.open())
    source = PyarrowBytes(readers(run.stream, samples, run.task.columns, "validation", run.seed), counted.chunks)
    rows = {}
    for most in (None, 10_000, 100):
        one = Pass(counted.chunks, "validation", source, run.task.columns, weightings(run.stream, counted.means),
                   seed=1, most=most)  # fmt: skip
        batches = list(one.batches(20))
        assert len(batches) == one.number(20)
        rows[most] = {name: sum(len(batch) for sample, batch in batches if sample == name) for name in "ab"}
    assert rows[None] == rows[10_000]
    assert sum(rows[100].values()) == pytest.approx(100, abs=40)
    assert rows[100]["a"] == rows[100]["b"]


def test_in_validation_samples_count_by_their_shares(toy: Path, tmp_path: Path) -> None:
    few = Events.write(Assigner().toy(200, 3), tmp_path / "few")
    samples = {"a": {"events": str(toy), "share": 0.1}, "b": {"events": str(few.path), "share": 0.9, "weight": 0.5}}
    run = _run(toy, stream={"samples": samples, "chunk_rows": 100})
    counted = prepare(run, opened := run.stream.open())
    source = PyarrowBytes(readers(run.stream, opened, run.task.columns, "validation", run.seed), counted.chunks)
    for most in (None, 60):
        one = Pass(counted.chunks, "validation", source, run.task.columns, weightings(run.stream, counted.means),
                   seed=1, most=most, shares={"a": 0.1, "b": 0.9})  # fmt: skip
        weight = {name: sum(float(batch.weight_B.sum()) for sample, batch in one.batches(20) if sample == name)
                  for name in "ab"}  # fmt: skip
        assert weight["b"] / weight["a"] == pytest.approx(0.9 * 0.5 / 0.1)


def test_what_is_frozen_must_be_there_and_leave_something(toy: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no parameter begins with 'stak'[^$]*did you mean 'stack"):
        train(_run(toy, freeze=["stak"]), tmp_path / "run")
    with pytest.raises(ConfigError, match="leave nothing to train"):
        train(_run(toy, freeze=["stack"]), tmp_path / "run")


def test_negative_weights_that_cancel_stop_the_training(tmp_path: Path) -> None:
    table = Assigner().toy(400, 5)
    weight_B = np.where(np.arange(400) % 2, -0.8, 1.0)
    Events.write(table.set_column(table.column_names.index("weight"), "weight", pa.array(weight_B)), tmp_path / "data")
    stream = {"samples": {"a": {"events": str(tmp_path / "data"), "event_weight": True}}, "negative_weights": "keep"}
    with pytest.raises(TrainError, match="negative weights cancel: those of the loss term 'label'"):
        train(_run(tmp_path / "data", stream=stream), tmp_path / "run")


def test_reading_with_ray_data_has_a_ray_of_its_own(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entered = []
    monkeypatch.setattr(launch, "cluster", lambda shape: entered.append(shape) or nullcontext())
    for source, rays in (("pyarrow", 0), ("ray", 1)):
        with launch._place(_run(toy, scale={"launch": "here", "source": source})):
            assert len(entered) == rays


def test_where_the_best_is_looked_for_counts(toy: Path) -> None:
    plain, watched = _run(toy), _run(toy, best={"metric": "f10", "better": "high"})
    for run, same in ((plain, True), (watched, False)):
        often = run.but(track={**run.track.values(), "validate_every": 0.1})
        assert (often.name({"toy": "f"}) == run.name({"toy": "f"})) == same


def test_a_micro_batch_holds_a_lane(toy: Path) -> None:
    with pytest.raises(ConfigError, match=r"a lane of 120 / 12 rows[^$]*use at least 10"):
        _run(toy, scale={"events_per_step": 120, "events_per_micro_batch": 9})


def test_a_name_is_that_of_the_content(toy: Path, trained: Path, tmp_path: Path) -> None:
    run = _run(toy, start=str(trained))
    elsewhere = run.but(stream={"samples": {"toy": {"events": "/elsewhere"}}}, start=str(trained))
    assert run.name({"toy": "f"}, "start") == elsewhere.name({"toy": "f"}, "start")
    assert run.name({"toy": "f"}, "start") != run.name({"toy": "g"}, "start")
    assert run.name({"toy": "f"}, "start") != run.name({"toy": "f"}, "another")
    wide = run.but(scale={**run.scale.values(), "workers": 1, "events_per_micro_batch": 7})
    assert run.name({"toy": "f"}) == wide.name({"toy": "f"})


def test_frozen_parameters_stay(toy: Path, tmp_path: Path) -> None:
    run = _run(toy, freeze=["stack.layers.0"], horizon={"steps": 5})
    before, after = run.task.build(run.seed), checkpoint.load(train(run, tmp_path / "run"))[1]
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        assert old.equal(new) == name.startswith("stack.layers.0"), name


def test_scores_are_the_same_events_once_with_the_split(trained: Path, toy: Path, tmp_path: Path) -> None:
    scored = score(trained, Events.open(toy), tmp_path / "scored")
    table, raw = scored.read(), Events.open(toy).read()
    assert table["event_id"].equals(raw["event_id"])
    assert table.select(raw.column_names).equals(raw)
    parts = table["split"].to_pylist()
    assert set(parts) == {0, 1, 2}
    assert parts.count(0) == pytest.approx(900, abs=60)
    fresh = Events.write(Assigner().toy(50, 9), tmp_path / "fresh")
    assert set(score(trained, fresh, tmp_path / "fresh_scored").read()["split"].to_pylist()) == {3}
    with pytest.raises(DataError, match="holds another sample"):
        score(trained, fresh, tmp_path / "scored")


def test_scoring_again_knows_what_was_trained_on(trained: Path, toy: Path, tmp_path: Path) -> None:
    first = score(trained, Events.open(toy), tmp_path / "first")
    again = score(trained, first, tmp_path / "again")
    assert again.schema.names == first.schema.names
    assert again.read().equals(first.read())


def test_a_warm_start_has_seen_what_its_start_has_seen(trained: Path, toy: Path, tmp_path: Path) -> None:
    Events.write(Assigner().toy(300, 5), tmp_path / "other")
    warm = train(_run(tmp_path / "other", start=str(trained), horizon={"steps": 2}), tmp_path / "warm")
    parts = score(warm, Events.open(toy), tmp_path / "scored").read()["split"]
    assert parts.equals(score(trained, Events.open(toy), tmp_path / "by_the_first").read()["split"])


def test_training_on_a_scored_copy_is_training_on_its_events(trained: Path, toy: Path, tmp_path: Path) -> None:
    copy = score(trained, Events.open(toy), tmp_path / "copy").path
    stream = {"samples": {"toy": {"events": str(copy)}}, "split": {"train": 0.3, "validation": 0.3, "test": 0.4}}
    run = _run(toy, stream=stream, horizon={"steps": 2})
    folder = train(run, tmp_path / "run")
    for number, sample in enumerate((copy, toy)):
        scored = score(folder, Events.open(sample), tmp_path / f"scored-{number}").read()
        expected = part_of(scored["event_id"].to_numpy(), run.stream.split)
        assert scored["split"].to_pylist() == expected.tolist(), sample


def test_events_without_truth_teach_nothing_and_that_is_said(tmp_path: Path) -> None:
    table = Assigner().toy(200, 5).drop_columns(["jet_parent_ancestry", "jet_parent_quark", "true_mass", "decay_mode"])
    Events.write(table, tmp_path / "data")
    with pytest.raises(TrainError, match=r"no event has a weight in the loss term 'label'(.|\n)*task.label=quark"):
        train(_run(tmp_path / "data"), tmp_path / "run")


def test_a_shard_that_is_not_its_manifests_is_refused(toy: Path, tmp_path: Path) -> None:
    shutil.copytree(toy, tmp_path / "toy")
    pq.write_table(pq.read_table(toy / "shard-00001.parquet").slice(0, 100), tmp_path / "toy" / "shard-00001.parquet")
    with pytest.raises(DataError, match=r"has 100 rows in 1 row groups, the manifest says 400 in 1"):
        train(_run(tmp_path / "toy"), tmp_path / "run")
    (tmp_path / "toy" / "shard-00001.parquet").write_bytes(b"PAR1 truncated")
    with pytest.raises(DataError, match="shard-00001.parquet: cannot be read"):
        train(_run(tmp_path / "toy"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_strangers_folder_is_left_alone(toy: Path, tmp_path: Path) -> None:
    (tmp_path / "mine" / "checkpoints").mkdir(parents=True)
    with pytest.raises(TrainError, match="holds 'checkpoints' and no run"):
        train(_run(toy), tmp_path / "mine")
    assert (tmp_path / "mine" / "checkpoints").is_dir()


def test_a_failed_run_may_be_mended_in_its_folder(toy: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainError):
        train(
            _run(toy, optimiser={"rate": 1e30, "clip": 0.0, "schedule": "constant", "warm_up": 0.0}), tmp_path / "run"
        )
    assert checkpoint.is_complete(train(_run(toy, horizon={"steps": 3}), tmp_path / "run"))


def test_an_empty_sample_can_be_scored(trained: Path, tmp_path: Path) -> None:
    none = Events.write(Assigner().toy(5, 9).slice(0, 0), tmp_path / "none")
    assert len(score(trained, none, tmp_path / "scored")) == 0


def test_a_sample_without_a_column_is_refused_before_training(toy: Path, tmp_path: Path) -> None:
    events = Events.write(Assigner().toy(20, 1), tmp_path / "few")
    columns = [c.values() for c in events.manifest.columns if c.name != "decay_mode"]
    (tmp_path / "few" / "_manifest.json").write_text(json.dumps({**events.manifest.values(), "columns": columns}))
    with pytest.raises(DataError, match="'decay_mode' is missing"):
        train(_run(tmp_path / "few"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_names_the_step(toy: Path, tmp_path: Path) -> None:
    run = _run(toy, optimiser={"rate": 1e30, "clip": 0.0, "schedule": "constant", "warm_up": 0.0})
    with pytest.raises(TrainError, match=r"the loss of step \d+ is not finite"):
        train(run, tmp_path / "run")
    assert lines(tmp_path / "run", "end")[0]["status"] == "failed"
    with pytest.raises(TrainError, match="no complete checkpoint"):
        checkpoint.load(tmp_path / "run")


class _Constant(nn.Module):
    """Values that a test gives, as if a network had made them."""


def test_a_term_without_weight_is_dropped_and_nan_rows_of_weight_zero_are_harmless() -> None:
    class Terms(Assigner):  # type: ignore[misc]
        def weights(self, batch):  # type: ignore[no-untyped-def]
            return {"some": torch.tensor([1.0, 3.0, 0.0]), "none": torch.zeros(3)}

        def loss(self, net, batch):  # type: ignore[no-untyped-def]
            return {"some": torch.tensor([1.0, 2.0, math.nan], requires_grad=True), "none": torch.ones(3) * math.nan}

    class Three:
        weight_B = torch.ones(3)

    task, world = Terms(), World()
    sums = weight_sums(task, [Three()], world)  # type: ignore[list-item]
    terms = shares(task, _Constant(), Three(), sums)  # type: ignore[arg-type]
    assert terms["some"].item() == pytest.approx((1 + 6) / 4)
    assert terms["none"].item() == 0.0


def test_the_rate_follows_its_schedule() -> None:
    one_cycle = Optimiser(rate=1.0, schedule="one_cycle", warm_up=0.2)
    assert rate_at(one_cycle, 0.0) == pytest.approx(0.04)
    assert rate_at(one_cycle, 0.2) == pytest.approx(1.0)
    assert rate_at(one_cycle, 1.0) == pytest.approx(0.0)
    assert rate_at(Optimiser(rate=1.0, schedule="constant", warm_up=0.1), 0.05) == pytest.approx(0.5)
    assert rate_at(Optimiser(rate=1.0, schedule="constant", warm_up=0.1), 0.9) == 1.0
    assert rate_at(Optimiser(rate=1.0, schedule="cosine", warm_up=0.0), 0.5) == pytest.approx(0.5)
    cosine = Optimiser(rate=2.0, schedule="cosine", warm_up=0.2)
    assert [rate_at(cosine, at) for at in (0.0, 0.1, 0.2, 0.4, 0.6, 1.0)] == pytest.approx(
        [0.0, 1.0, 2.0, 1 + math.sqrt(0.5), 1.0, 0.0]
    )
