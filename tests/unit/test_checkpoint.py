"""Checkpoints are whole or not there; a training goes on from them, ends with the best and stops when it may."""

import fcntl
import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from jetscale.config import Values
from jetscale.errors import ConfigError, TrainError
from jetscale.events import Events
from jetscale.run import Best, Run, resolve
from jetscale.systems.assigner import Assigner
from jetscale.task import Batch
from jetscale.train import checkpoint, loop
from jetscale.train.best import Watch, seen, spent
from jetscale.train.checkpoint import Point
from jetscale.train.engine import Engine, TorchEngine
from jetscale.train.launch import LOCK, train
from jetscale.train.track import lines
from jetscale.train.world import World


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy") / "toy"
    Events.write(Assigner().toy(1500, 1), folder, rows_per_shard=400)
    return folder


def _run(toy: Path, **more: object) -> Run:
    values = {"system": "assigner", "task": {"width": 16, "layers": 2, "network": "dense", "dropout": 0.3,
                                             "readout": "argmax"},
              "stream": {"samples": {"toy": {"events": str(toy)}}}, "horizon": {"epochs": 4},
              "scale": {"engine": "torch", "launch": "here", "events_per_step": 64},
              "track": {"wandb": False, "log_every": 1}, "keep": {"every": 0.5}, **more}  # fmt: skip
    return resolve([("test", values)], "test").run


@pytest.fixture(scope="module")
def whole(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(_run(toy), tmp_path_factory.mktemp("whole") / "run")


class _PowerCutError(Exception):
    pass


def _interrupted(run: Run, out: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until before a step, where the process ends."""
    step = Engine.step

    def once(self: Engine, one: Any) -> dict[str, float]:
        if one.at.step == at:
            raise _PowerCutError
        return step(self, one)

    with monkeypatch.context() as patched:
        patched.setattr(Engine, "step", once)
        with pytest.raises(_PowerCutError):
            train(run, out)


def test_slow_weights_are_remembered(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = _run(toy, optimiser={"kind": "radam", "lookahead": 5}, horizon={"steps": 24})
    once = checkpoint.load(train(run, tmp_path / "once"))[1].state_dict()
    _interrupted(run, tmp_path / "twice", 19, monkeypatch)
    again = checkpoint.load(train(run, tmp_path / "twice"))[1].state_dict()
    assert all(again[name].equal(once[name]) for name in once)
    assert any(line["step"] == 19 for line in lines(tmp_path / "twice", "step"))


def test_averages_are_remembered_validated_and_what_a_run_ends_with(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = _run(toy, horizon={"steps": 24})
    run = _run(toy, horizon={"steps": 24}, optimiser={"ema": 0.9})
    out = train(run, tmp_path / "once")
    once = checkpoint.load(out)[1].state_dict()
    _interrupted(run, tmp_path / "twice", 19, monkeypatch)
    again = checkpoint.load(train(run, tmp_path / "twice"))[1].state_dict()
    assert all(again[name].equal(once[name]) for name in once)
    for kind in ("step", "validation"):
        told = [[(line["step"], line.get("loss"), line.get("metrics")) for line in lines(tmp_path / name, kind)]
                for name in ("once", "twice")]  # fmt: skip
        assert told[0] == told[1]
    without = train(plain, tmp_path / "without")
    assert [line["loss"] for line in lines(out, "step")] == [line["loss"] for line in lines(without, "step")]
    last = checkpoint.load(without)[1].state_dict()
    assert any(not last[name].allclose(once[name]) for name in once)
    going_on = run.task.build(run.seed, run.task.neutral())
    checkpoint.start_from(going_on, checkpoint.chosen(out))
    assert all(tensor.equal(last[name]) for name, tensor in going_on.state_dict().items())
    figures = [one.figures["loss_label"] for one in map(checkpoint.ending, (out, without))]
    assert figures[0] != figures[1]


def test_workers_agree_before_they_validate_and_save(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = ["step"]

    def note(owner: object, name: str) -> None:
        before = getattr(owner, name)

        def noted(*given: Any) -> Any:
            done.append(name)
            return before(*given)

        monkeypatch.setattr(owner, name, noted)

    note(Engine, "step")
    note(Engine, "agree")
    note(loop, "validate")
    note(checkpoint, "save")
    train(_run(toy, horizon={"steps": 30}), tmp_path / "run")
    assert done.count("validate") > 1 and done.count("save") > 2
    for before, after in pairwise(done):
        assert after in ("step", "agree") or before == "agree"


def test_no_average_leaves_no_trace(toy: Path, whole: Path) -> None:
    off, on = _run(toy), _run(toy, optimiser={"ema": 0.9})
    assert off.optimiser.ema == 0.0
    assert "ema" not in off.work({"toy": "1"})["optimiser"]
    assert on.work({"toy": "1"})["optimiser"]["ema"] == 0.9 and on.name({"toy": "1"}) != off.name({"toy": "1"})
    assert "ema" not in (whole / "log.jsonl").read_text()
    assert {name.split("/")[0] for name in checkpoint._Memory(checkpoint.chosen(whole))} == {"exp_avg", "exp_avg_sq"}


def test_an_interrupted_training_goes_on_as_if_nothing_had_happened(
    toy: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    for at in (3, 19, 33):
        _interrupted(_run(toy), out, at, monkeypatch)
        with pytest.raises(TrainError, match="complete checkpoint|only been trained to step"):
            checkpoint.load(out)
    train(_run(toy), out)
    assert [line["step"] for line in lines(out, "step")] == [line["step"] for line in lines(whole, "step")]
    assert [line["loss"] for line in lines(out, "step")] == [line["loss"] for line in lines(whole, "step")]
    assert [line["metrics"] for line in lines(out, "validation")] == [
        line["metrics"] for line in lines(whole, "validation")
    ]
    again, once = (checkpoint.load(folder)[1].state_dict() for folder in (out, whole))
    assert all(again[name].equal(once[name]) for name in once)


def test_another_run_is_not_gone_on_with(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    _interrupted(_run(toy), out, 20, monkeypatch)
    with pytest.raises(TrainError, match=r"holds another run; changed: optimiser.rate: 0.003 -> 0.5"):
        train(_run(toy, optimiser={"rate": 0.5}), out)
    assert checkpoint.newest(out) is not None


def test_old_checkpoints_go_and_so_does_what_was_left_half_done(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    _interrupted(_run(toy), out, 30, monkeypatch)
    assert len(checkpoint.every(out)) == 2
    for orphan in (".step-00000031.part", "step-00000031"):
        (out / "checkpoints" / orphan).mkdir()
    train(_run(toy, keep={"every": 0.5, "last": 3}), out)
    assert sorted((out / "checkpoints").iterdir()) == checkpoint.every(out)
    assert len(checkpoint.every(out)) == 3


def test_a_checkpoint_that_is_not_whole_is_passed_over(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    _interrupted(_run(toy), out, 30, monkeypatch)
    older, newer = checkpoint.every(out)
    weights = newer / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    assert checkpoint.every(out) == [older]
    (older / "COMPLETE").unlink()
    assert checkpoint.newest(out) is None


def test_weights_that_are_not_finite_are_not_kept(toy: Path, tmp_path: Path) -> None:
    run = _run(toy)
    net = run.task.build(run.seed)
    torch.nn.init.constant_(next(net.parameters()), math.nan)
    with pytest.raises(TrainError, match="the weights are not finite after step 7"):
        checkpoint.save(tmp_path, TorchEngine(run, net, World()), Point(step=7))
    assert not checkpoint.every(tmp_path)


def test_two_trainings_do_not_share_a_folder(toy: Path, tmp_path: Path) -> None:
    with (tmp_path / LOCK).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TrainError, match="another jetscale train is at work here"):
            train(_run(toy), tmp_path)


def test_the_best_checkpoint_is_the_one_that_counts(toy: Path, tmp_path: Path) -> None:
    # At this rate the network soon gets worse again.
    best: Values = {"metric": "f10", "better": "high"}
    out = train(_run(toy, best=best, keep={"every": 1, "last": 1}), tmp_path / "run")
    figures = {line["step"]: line["metrics"]["f10"] for line in lines(out, "validation")}
    step = max(figures, key=lambda step: figures[step])
    assert step != max(figures), "the last is not the best here"
    assert checkpoint.chosen(out).name == f"step-{step:08d}"
    assert len(checkpoint.every(out)) == 2, "the best and the last"


@pytest.mark.parametrize("metric", ["f10", "mass_auc", "loss_label"])
def test_patience_ends(toy: Path, tmp_path: Path, metric: str) -> None:
    # Without a step worth the name nothing ever gets better than it was at first.
    lazy = {"rate": 1e-30, "weight_decay": 0.0}
    run = _run(toy, best={"metric": metric, "better": "high", "patience": 2}, optimiser=lazy)
    out = train(run, tmp_path / "run")
    checked = [line["step"] for line in lines(out, "validation")]
    assert len(checked) == 4
    assert checkpoint.chosen(out).name == f"step-{checked[1]:08d}", "a network that has learned nothing is no candidate"
    assert checkpoint.is_complete(out)
    written = (out / "log.jsonl").stat().st_mtime_ns
    train(run, out)
    assert (out / "log.jsonl").stat().st_mtime_ns == written, "a run that stopped early has come to its end"


def test_what_a_run_starts_from_may_stay_the_best(toy: Path, whole: Path, tmp_path: Path) -> None:
    spoilt = {"rate": 1.0, "schedule": "constant", "warm_up": 0.0}
    best = {"metric": "loss_label", "better": "low", "patience": 1}
    out = train(_run(toy, start=str(whole), best=best, optimiser=spoilt), tmp_path / "run")
    assert checkpoint.chosen(out).name == "step-00000000"
    kept, started = (checkpoint.load(folder)[1].state_dict() for folder in (out, whole))
    assert all(kept[name].equal(started[name]) for name in started)


def test_a_metric_that_is_not_there_is_refused_before_the_first_step(toy: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"best.metric = 'mass_auk': validation has no such figure[^$]*'mass_auc'"):
        train(_run(toy, best={"metric": "mass_auk", "better": "high"}), tmp_path / "run")
    assert not lines(tmp_path / "run", "step")


def test_the_watch() -> None:
    best = Best(metric="a", better="low", patience=2)
    watch = seen(Watch(), best, {"a": 3.0}, 0)
    watch = seen(watch, best, {"a": 2.0}, 5)
    assert watch == Watch(step=5, figure=2.0)
    watch = seen(seen(watch, best, {"a": math.nan}, 6), best, {"a": 2.0}, 7)
    assert watch == Watch(step=5, figure=2.0, since=2)
    assert spent(watch, best) and not spent(watch, None)
    assert seen(Watch(), best, {"a": math.nan}, 3) == Watch(since=1), "later it is only not better"
    with pytest.raises(ConfigError, match="cannot be formed"):
        seen(Watch(), best, {"a": math.nan}, 0)


def test_the_events_of_a_loss_that_is_not_finite_are_written_out(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, odd = Assigner.loss, 1234

    def with_odd(self: Assigner, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        found = loss(self, net, batch)
        return {term: value_B.where(batch["event_id"] != odd, torch.nan) for term, value_B in found.items()}

    monkeypatch.setattr(Assigner, "loss", with_odd)
    split = {"train": 1, "validation": 0, "test": 0}
    run = _run(toy, stream={"samples": {"toy": {"events": str(toy)}}, "split": split})
    with pytest.raises(TrainError, match=r"the loss of step (\d+) is not finite[^$]*odd-events.json"):
        train(run, tmp_path / "run")
    found = json.loads((tmp_path / "run" / "odd-events.json").read_text())
    assert found["not_finite"] == {"toy": [odd]}
    assert len(found["in_the_step"]["toy"]) == 64 and odd in found["in_the_step"]["toy"]
    assert found["step"] == len(lines(tmp_path / "run", "step"))
