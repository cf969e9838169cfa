"""The weighted mean over a step is exact for every engine, stage and number of workers.

Two plain processes play the workers; each makes the whole matrix of cases, so that torch and DeepSpeed are imported
twice and not a hundred times. The optimiser's eps is so large that an update is linear in the gradient: a wrong factor
on any term, on any worker, shows in the weights.
"""

import os
import tempfile
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from jetscale.data.batch import batch
from jetscale.data.feed import Step
from jetscale.nn.listed import ListNorm
from jetscale.own import complete
from jetscale.run import Horizon, Optimiser, Run, Scale
from jetscale.schema import JET_EVENTS, Schema
from jetscale.stream import Source, Stream
from jetscale.systems.assigner import Assigner
from jetscale.task import At, Batch
from jetscale.train.engine import DeepSpeedEngine, Engine, NotFiniteError, TorchEngine, _seed, ready_deepspeed
from jetscale.train.world import World

STEPS, LANES, ROWS = 3, 4, 5
CASES = [("torch", 0, "fp32"), *(("deepspeed", stage, "fp32") for stage in (0, 1, 2, 3)),
         *(("deepspeed", stage, "bf16") for stage in (1, 2, 3))]  # fmt: skip


class _Net(nn.Module):
    """Two matrices and a bias: both parameter groups, small enough to see through."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(3, 8), nn.Linear(8, 2)
        self.unused = nn.Parameter(torch.ones(5))

    def forward(self, x_BC: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x_BC.to(self.first.weight.dtype)))).float()


@final
class _TwoTerms(Assigner):  # type: ignore[misc]
    """Two terms with weights of their own: one lives on few rows, and on some workers on none."""

    columns: ClassVar[Schema] = JET_EVENTS

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        rare_B = torch.where(batch.lane_B == 0, 10.0 * batch.weight_B, 0.0)
        return {"all": batch.weight_B, "rare": rare_B}

    def loss(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        x_BC = torch.stack([batch["weight"].float(), batch["true_mass"], batch["decay_mode"].float()], -1)
        out_BK = net(x_BC)
        return {"all": (out_BK[:, 0] - 1).square(), "rare": (out_BK[:, 1] + 2).square() * 3}


@final
class _Steep(Assigner):  # type: ignore[misc]
    """A root of 0 in step 1: nothing wrong with the loss, but its gradient is not a number."""

    columns: ClassVar[Schema] = JET_EVENTS

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        return {"all": batch.weight_B}

    def loss(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        out_B = net(torch.stack([batch["weight"].float()] * 3, -1))[:, 0]
        return {"all": torch.sqrt(out_B.abs() * (batch.at.step != 1))}


class _Normed(_Net):
    """The same behind a normalisation, which each worker knows the moments of its own rows of, and a constant."""

    tenth: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.norm = ListNorm(3)
        self.register_buffer("tenth", torch.tensor(0.1))

    def forward(self, x_BC: Tensor) -> Tensor:
        return super().forward(self.norm(x_BC) * self.tenth)


class _Hidden(_Net):
    """The same with dropout, and a normalisation of what the weights make."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = ListNorm(8)

    def forward(self, x_BC: Tensor) -> Tensor:
        x_BC = torch.tanh(self.first(x_BC.to(self.first.weight.dtype)))
        return self.second(self.norm(functional.dropout(x_BC, 0.5, self.training))).float()


def _rows(step: int, lane: int) -> pa.Table:
    dice = np.random.default_rng([step, lane])
    table = {"jet_pt": [[1.0]] * ROWS, "jet_eta": [[1.0]] * ROWS, "jet_phi": [[1.0]] * ROWS, "jet_mass": [[1.0]] * ROWS,
             "weight": dice.normal(size=ROWS), "true_mass": dice.exponential(size=ROWS).astype(np.float32)}  # fmt: skip
    return complete(pa.table(table), where="rows")


def _micro(step: int, lanes: range) -> tuple[Batch, ...]:
    """A micro-batch per lane; weights differ by orders of magnitude, lane 3's are zero, in step 1 also lane 2's.

    With two workers that is a step in which the second has zeros alone.
    """
    found = []
    for lane in lanes:
        weight_B = np.random.default_rng([7, step, lane]).exponential(10.0 ** (lane % 3), ROWS)
        weight_B *= lane < (2 if step == 1 else 3)
        found.append(batch([_rows(step, lane)], JET_EVENTS, weight_B, np.full(ROWS, lane), np.arange(ROWS),
                           At(step, 0, step / STEPS), 1))  # fmt: skip
    return tuple(found)


def _run(engine: str, stage: int, precision: str) -> Run:
    optimiser = Optimiser(rate=1.0, eps=1.0, weight_decay=0.1, clip=0.0, schedule="constant", warm_up=0.0)
    run = Run(system="assigner", task=Assigner(), stream=Stream(samples={"x": Source(events="x")}),
              horizon=Horizon(steps=STEPS), optimiser=optimiser, precision=precision,
              scale=Scale(engine=engine, stage=stage, lanes=LANES))  # fmt: skip
    return run.model_copy(update={"task": _TwoTerms()})


def _trained(case: tuple[str, int, str], world: World) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    run = _run(*case)
    engine: Engine = (TorchEngine if case[0] == "torch" else DeepSpeedEngine)(run, _Net(), world)
    share = LANES // world.size
    lanes = range(world.rank * share, (world.rank + 1) * share)
    losses = [engine.step(Step(At(n, 0, n / STEPS), _micro(n, lanes), LANES * ROWS)) for n in range(STEPS)]
    return losses, engine.weights()


def _steep(case: tuple[str, int, str], world: World) -> tuple[str, bool]:
    """What is said of a gradient that is not finite, and whether the weights are those of the step before."""
    run = _run(*case).model_copy(update={"task": _Steep()})
    engine: Engine = (TorchEngine if case[0] == "torch" else DeepSpeedEngine)(run, _Net(), world)
    share = LANES // world.size
    lanes = range(world.rank * share, (world.rank + 1) * share)
    engine.step(Step(At(0, 0, 0.0), _micro(0, lanes), LANES * ROWS))
    before = engine.weights()
    try:
        engine.step(Step(At(1, 0, 0.5), _micro(1, lanes), LANES * ROWS))
    except NotFiniteError as problem:
        after = engine.weights()
        return str(problem), all(before[name].equal(after[name]) for name in before)
    return "", False


def _running(case: tuple[str, int, str], world: World) -> list[list[dict[str, Tensor]]]:
    """Every worker's buffers before and after they agree, and what would be saved."""
    engine: Engine = (TorchEngine if case[0] == "torch" else DeepSpeedEngine)(_run(*case), _Normed(), world)
    share = LANES // world.size
    lanes = range(world.rank * share, (world.rank + 1) * share)
    for n in range(STEPS):
        engine.step(Step(At(n, 0, n / STEPS), _micro(n, lanes), LANES * ROWS))
    module = engine.net.module if case[0] == "deepspeed" else engine.net
    assert isinstance(module, _Normed)
    found = [{name: buffer.clone() for name, buffer in module.named_buffers()}]
    engine.agree()
    found.append({name: buffer.clone() for name, buffer in module.named_buffers()})
    saved = engine.weights()
    return world.gather([*found, {name: saved[name] for name in found[0]}])


def _averaged(case: tuple[str, int, str], world: World) -> list[Any]:
    """Of every worker: what averaged weights are validated with, once and again, what is kept of it, and whether all
    else was there again."""
    plain = _run(*case)
    run = plain.model_copy(update={"optimiser": plain.optimiser.but(ema=0.5)})
    engine: Engine = (TorchEngine if case[0] == "torch" else DeepSpeedEngine)(run, _Hidden(), world)
    share = LANES // world.size
    lanes = range(world.rank * share, (world.rank + 1) * share)
    steps = [Step(At(n, 0, n / STEPS), _micro(n, lanes), LANES * ROWS) for n in range(STEPS)]
    for step in steps:
        engine.step(step)
    engine.agree()
    own, found = engine.weights(), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        with engine.averaged(steps[1:]):
            found.append(engine.weights())
    after, kept = engine.weights(), engine.moments
    engine.step(steps[-1])
    same = all(own[name].equal(after[name]) for name in own) and not engine.moments
    return world.gather([*found, kept, same, own])


def _work(rank: int, size: int, folder: str) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(size),
                      MASTER_ADDR="127.0.0.1", MASTER_PORT="0")  # fmt: skip
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
    device = ready_deepspeed()
    results: dict[Any, Any] = {case: _trained(case, World(rank, size, device)) for case in CASES}
    results["steep"] = {case: _steep(case, World(rank, size, device)) for case in CASES}
    results["running"] = {case: _running(case, World(rank, size, device)) for case in CASES}
    results["averaged"] = {case: _averaged(case, World(rank, size, device)) for case in CASES}
    if rank == 0:
        torch.save(results, f"{folder}/results")
    dist.barrier()
    # The libraries' threads are of no interest any more, and their end may trip over one another.
    os._exit(0)


@pytest.fixture(scope="module", params=[1, 2])
def results(request: pytest.FixtureRequest) -> Any:
    """Every case's losses and weights with one and with two workers."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_work, args=(request.param, folder), nprocs=request.param)
        return torch.load(Path(folder) / "results", weights_only=False)


@pytest.fixture(scope="module")
def by_hand() -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """The same training written down: one batch, sums over all of it, plain torch."""
    net, task, run = _Net(), _TwoTerms(), _run("torch", 0, "fp32")
    matrices = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim == 1]
    optimiser = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
                                  lr=1.0, eps=1.0, betas=run.optimiser.betas)  # fmt: skip
    losses = []
    for n in range(STEPS):
        parts = [(task.loss(net, b), task.weights(b)) for b in _micro(n, range(LANES))]
        means = {}
        for term in ("all", "rare"):
            values = torch.cat([value[term] for value, _ in parts])
            weights = torch.cat([weight[term] for _, weight in parts])
            means[term] = (values * weights).sum() / weights.sum()
        optimiser.zero_grad()
        (means["all"] + means["rare"]).backward()
        optimiser.step()
        losses.append({term: mean.item() for term, mean in means.items()})
    return losses, {name: tensor.detach() for name, tensor in net.state_dict().items()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_the_weighted_mean_is_exact(results: Any, by_hand: Any, case: tuple[str, int, str]) -> None:
    losses, weights = results[case]
    exact = 1e-5 if case[2] == "fp32" else 3e-2
    for made, wanted in zip(losses, by_hand[0], strict=True):
        assert made == pytest.approx(wanted, rel=exact)
    for name, tensor in by_hand[1].items():
        assert torch.allclose(weights[name], tensor, atol=exact, rtol=exact), name


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_a_gradient_that_is_not_finite_names_its_step_and_changes_nothing(results: Any, case: Any) -> None:
    said, unchanged = results["steep"][case]
    assert "the gradient of step 1 is not finite" in said
    assert unchanged


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_running_moments_are_the_mean_over_the_workers(results: Any, case: Any) -> None:
    workers = results["running"][case]
    for name in ("norm.mean_C", "norm.variance_C"):
        own = torch.stack([before[name] for before, _, _ in workers])
        assert len(own) == 1 or not own[0].allclose(own[1], rtol=1e-2)
        for _, after, saved in workers:
            assert after[name].dtype == torch.float32 and after[name].equal(saved[name])
            assert after[name].allclose(own.mean(0))
    assert all(buffers["tenth"].equal(torch.tensor(0.1)) for each in workers for buffers in each)


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_averaged_weights_have_moments_of_their_own(results: Any, case: tuple[str, int, str]) -> None:
    workers = results["averaged"][case]
    first, again, kept, same, own = workers[0]
    assert same
    for other in (again, *(found for of in workers for found in of[:2])):
        assert all(first[name].equal(other[name]) for name in first)
    assert set(kept) == {"average/norm.mean_C", "average/norm.variance_C"}
    net, task, each = _Hidden(), _TwoTerms(), []
    net.load_state_dict(first)
    net.norm.momentum = 1.0
    for step in range(1, STEPS):
        for micro in _micro(step, range(LANES)):
            torch.manual_seed(_seed(1, step, int(micro.lane_B[0])))
            task.loss(net, micro)
            each.append({name: buffer.clone() for name, buffer in net.named_buffers()})
    near = 1e-4 if case[2] == "fp32" else 3e-2
    for name in ("norm.mean_C", "norm.variance_C"):
        wanted = torch.stack([one[name] for one in each]).mean(0)
        assert first[name].allclose(wanted, atol=near, rtol=near), name
        assert first[name].equal(kept[f"average/{name}"])
        assert not first[name].allclose(own[name], atol=3 * near)
