"""Averaged weights are validated, kept and ended with under moments of their own; the training does not notice."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from jetscale.data.feed import Feed, Pass, Step, weightings
from jetscale.data.plan import Plan
from jetscale.events import Events
from jetscale.run import Run, resolve
from jetscale.systems.assigner import Assigner
from jetscale.systems.pcnn import PCNN
from jetscale.train import checkpoint, loop
from jetscale.train.engine import Engine
from jetscale.train.launch import _bytes, prepare, train
from jetscale.train.track import lines
from jetscale.train.validate import validate
from jetscale.train.world import World

LAST, STEPS = 4, 11


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy") / "toy"
    Events.write(PCNN().toy(400, 1), folder, rows_per_shard=100)
    return folder


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "STEPS", LAST)


def _run(toy: Path, ema: float = 0.7, **more: object) -> Run:
    values = {"system": "pcnn", "task": {"particles": 8}, "stream": {"samples": {"toy": {"events": str(toy)}}},
              "horizon": {"steps": STEPS}, "optimiser": {"rate": 3e-3, "ema": ema}, "keep": {"every": 0.5},
              "scale": {"engine": "torch", "launch": "here", "events_per_step": 48, "events_per_micro_batch": 16},
              "track": {"wandb": False, "log_every": 1, "validate_every": 0.5}, **more}  # fmt: skip
    return resolve([("test", values)], "test").run


@pytest.fixture(scope="module")
def trained(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "STEPS", LAST)
        return train(_run(toy), tmp_path_factory.mktemp("trained") / "run")


def _parts(run: Run) -> tuple[Feed, Pass]:
    samples = run.stream.open()
    counted = prepare(run, samples)
    weights = weightings(run.stream, counted.means)
    feed = Feed(Plan(run, counted.chunks), _bytes(run, samples, counted, "train"), run.task.columns, weights)
    own = _bytes(run, samples, counted, "validation")
    return feed, Pass(counted.chunks, "validation", own, run.task.columns, weights, seed=run.seed,
                      shares={"toy": None})  # fmt: skip


def _moments(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: one for name, one in net.state_dict().items() if name.endswith(("mean_C", "variance_C"))
            and not name.startswith("scaled")}  # fmt: skip


def test_they_are_the_mean_of_what_the_averages_see_in_the_last_steps(trained: Path) -> None:
    run, net = checkpoint.load(trained)
    found = {name: one.clone() for name, one in _moments(net).items()}
    feed, _ = _parts(run)
    each = []
    for step in islice(feed.steps(), STEPS - LAST, STEPS):
        for batch in step.micro:
            for layer in net.train().modules():
                if hasattr(layer, "momentum"):
                    layer.momentum = 1.0
            run.task.loss(net, batch)
            each.append({name: one.double() for name, one in _moments(net).items()})
    assert len(each) == 3 * LAST
    raw = run.task.build(run.seed, run.task.neutral())
    checkpoint.start_from(raw, checkpoint.chosen(trained))
    for name, one in found.items():
        wanted = torch.stack([of[name] for of in each]).mean(0)
        assert one.double().allclose(wanted, rtol=1e-4, atol=1e-5), name
        assert not raw.state_dict()[name].allclose(one, rtol=1e-2), name


@pytest.mark.parametrize("best", [None, {"metric": "loss_class", "better": "high"}], ids=["last", "best"])
def test_what_a_run_ends_with_is_what_was_validated(toy: Path, tmp_path: Path, best: Any) -> None:
    out = train(_run(toy, **({"best": best} if best else {})), tmp_path / "run")
    run, net = checkpoint.load(out)
    point = checkpoint.ending(out)
    assert (point.step < STEPS) == bool(best)
    figures = validate(run.task, net, _parts(run)[1], World())
    assert {name: figures[name] for name in point.figures} == point.figures


def test_the_training_does_not_notice(toy: Path, trained: Path, tmp_path: Path) -> None:
    without = train(_run(toy, 0.0), tmp_path / "run")
    assert [line["loss"] for line in lines(trained, "step")] == [line["loss"] for line in lines(without, "step")]
    ends = []
    for out in (trained, without):
        net = PCNN(particles=8).build(1, PCNN().neutral())
        checkpoint.start_from(net, checkpoint.chosen(out))
        ends.append(net.state_dict())
    assert all(one.equal(ends[1][name]) for name, one in ends[0].items()), "raw moments came back bit for bit"
    kept = set(checkpoint._Memory(checkpoint.chosen(trained))) - set(checkpoint._Memory(checkpoint.chosen(without)))
    assert {f"average/{name}" for name in _moments(net)} <= kept


def test_an_interrupted_training_ends_with_the_same(
    toy: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Engine.step
    with monkeypatch.context() as patched:

        def once(self: Engine, one: Step) -> dict[str, float]:
            if one.at.step == STEPS - 1:
                raise KeyboardInterrupt
            return step(self, one)

        patched.setattr(Engine, "step", once)
        with pytest.raises(KeyboardInterrupt):
            train(_run(toy), tmp_path / "run")
    torch.manual_seed(77)
    out = train(_run(toy), tmp_path / "run")
    again, whole = (checkpoint.load(folder)[1].state_dict() for folder in (out, trained))
    assert all(one.equal(whole[name]) for name, one in again.items())
    told = [[line["metrics"] for line in lines(folder, "validation")] for folder in (out, trained)]
    assert told[0] == told[1]


@pytest.mark.parametrize(("system", "ema", "looks"), [("pcnn", 0.7, True), ("pcnn", 0.0, False),
                                                      ("assigner", 0.7, False)])  # fmt: skip
def test_no_step_is_looked_at_again_without_need(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str, ema: float, looks: bool
) -> None:
    last, begun = Feed.last, list[tuple[int, int]]()

    def noted(self: Feed, done: int, most: int) -> Iterator[Step]:
        begun.append((done, most))
        yield from last(self, done, most)

    monkeypatch.setattr(Feed, "last", noted)
    more: dict[str, Any] = {}
    if system == "assigner":
        Events.write(Assigner().toy(400, 1), tmp_path / "toy")
        more = {"system": "assigner", "task": {"width": 16, "layers": 2, "network": "dense"},
                "stream": {"samples": {"toy": {"events": str(tmp_path / "toy")}}}}  # fmt: skip
    out = train(_run(toy, ema, **more), tmp_path / "run")
    checked = [line["step"] for line in lines(out, "validation")]
    assert len(checked) > 2
    assert begun == ([(step, LAST) for step in checked] if looks else [])
