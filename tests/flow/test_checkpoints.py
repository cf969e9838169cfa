"""From two workers' checkpoints one or two go on, with any engine and stage, as if nothing had happened."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors import safe_open
from test_engines import CASES, LANES, ROWS, STEPS, _micro, _Net, _run
from torch import Tensor

from jetscale.data.feed import Step
from jetscale.task import At
from jetscale.train import checkpoint
from jetscale.train.checkpoint import Point
from jetscale.train.engine import DeepSpeedEngine, Engine, TorchEngine, ready_deepspeed
from jetscale.train.world import World

SAVED, EMA, Case = 2, 0.5, tuple[str, int, str]
ONTO = [(old, new) for old in CASES for new in CASES if old[2] == new[2]]


def _engine(case: Case, world: World, place: Path | None = None) -> Engine:
    net = _Net()
    if place:
        checkpoint.start_from(net, place)
    plain = _run(*case)
    # Slow weights that are pulled back in the last step, so that they too must have been remembered; and averages.
    run = plain.model_copy(update={"optimiser": plain.optimiser.but(lookahead=STEPS, ema=EMA)})
    return (TorchEngine if case[0] == "torch" else DeepSpeedEngine)(run, net, world)


def _losses(engine: Engine, steps: range) -> list[dict[str, float]]:
    world = engine.world
    share = LANES // world.size
    lanes = range(world.rank * share, (world.rank + 1) * share)
    return [engine.step(Step(At(n, 0, n / STEPS), _micro(n, lanes), LANES * ROWS)) for n in steps]


def _ended(engine: Engine) -> tuple[dict[str, Tensor], dict[str, Tensor], bool]:
    """Weights, averaged ones, and whether the former were there again after the latter."""
    weights = engine.weights()
    with engine.averaged():
        averaged = engine.weights()
    after = engine.weights()
    return weights, averaged, all(after[name].equal(weights[name]) for name in weights)


def _join(rank: int, size: int, folder: Path) -> World:
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(size),
                      MASTER_ADDR="127.0.0.1", MASTER_PORT="0")  # fmt: skip
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
    return World(rank, size, ready_deepspeed())


def _leave(world: World, results: object, file: Path) -> None:
    if world.first:
        torch.save(results, file)
    dist.barrier()
    # The libraries' threads are of no interest any more, and their end may trip over one another.
    os._exit(0)


def _first(rank: int, folder: Path) -> None:
    """Train, save on the way, train on."""
    world, found = _join(rank, 2, folder), {}
    for case in CASES:
        engine = _engine(case, world)
        _losses(engine, range(SAVED))
        checkpoint.save(folder / "-".join(map(str, case)), engine, Point(step=SAVED, dropped=engine.dropped))
        found[case] = _losses(engine, range(SAVED, STEPS)), *_ended(engine)
    _leave(world, found, folder / "uninterrupted")


def _again(rank: int, size: int, folder: Path) -> None:
    """Go on from every checkpoint with every engine."""
    (folder / str(size)).mkdir(exist_ok=True)
    world, found = _join(rank, size, folder / str(size)), {}
    for old, new in ONTO:
        place, point = checkpoint.newest(folder / "-".join(map(str, old))) or (None, Point())
        assert place is not None
        engine = _engine(new, world, place)
        checkpoint.go_on(engine, place, point)
        found[old, new] = _losses(engine, range(point.step, STEPS)), *_ended(engine)
    _leave(world, found, folder / f"after-{size}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.multiprocessing.spawn(_first, args=(folder,), nprocs=2)
    for size in (1, 2):
        (folder / str(size)).mkdir()
        torch.multiprocessing.spawn(_again, args=(size, folder), nprocs=size)
    return folder


@pytest.fixture(scope="module")
def uninterrupted(folder: Path) -> Any:
    return torch.load(folder / "uninterrupted", weights_only=False)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize(("old", "new"), ONTO, ids=lambda case: "-".join(map(str, case)))
def test_it_goes_on_as_if_nothing_had_happened(
    folder: Path, uninterrupted: Any, size: int, old: Case, new: Case
) -> None:
    losses, *ends, same = torch.load(folder / f"after-{size}", weights_only=False)[old, new]
    wanted, *at_the_end, same_before = uninterrupted[old]
    assert same and same_before
    # Sums over bf16 gradients depend on how they are cut, and so do losses a few steps on.
    near = 1e-6 if old == new and size == 2 else 1e-4 if old[2] == "fp32" else 5e-2
    for made, before in zip(losses, wanted, strict=True):
        assert made == pytest.approx(before, rel=near)
    for weights, before in zip(ends, at_the_end, strict=True):
        for name, tensor in before.items():
            assert torch.allclose(weights[name], tensor, atol=near, rtol=near), name


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_averages_are_those_of_plain_torch(uninterrupted: Any, case: Case) -> None:
    _, weights, averaged, _ = uninterrupted[case]
    near = 1e-4 if case[2] == "fp32" else 5e-2
    for name, tensor in uninterrupted["torch", 0, "fp32"][2].items():
        assert torch.allclose(averaged[name], tensor, atol=near, rtol=near), name
    assert not torch.allclose(averaged["first.weight"], weights["first.weight"], atol=0.1)


def test_every_worker_writes_its_part(folder: Path) -> None:
    place, _ = checkpoint.newest(folder / "deepspeed-2-bf16") or (Path(), Point())
    parts = []
    for rank in range(2):
        with safe_open(place / f"memory-{rank:03d}.safetensors", framework="pt") as part:
            parts.append(set(part.keys()))
    assert all(parts) and not parts[0] & parts[1]
    names = {
        f"{kind}/{name}"
        for kind in ("exp_avg", "exp_avg_sq", "slow", "average", "master")
        for name, _ in _Net().named_parameters()
    }
    assert parts[0] | parts[1] == names
