"""ParticleNet: order and padding do not matter, and jets of little are no trouble."""

import numpy as np
import pytest
import torch

from jetscale.config import Values, build
from jetscale.data.batch import batch
from jetscale.errors import ConfigError
from jetscale.nn import edgeconv
from jetscale.nn.edgeconv import Edges, edge_layers
from jetscale.systems.particlenet import ParticleNet
from jetscale.task import At, Batch

TASKS = {"lite": ParticleNet(size="lite"), "fusion": ParticleNet(size="lite", fusion=True, features="full"),
         "fitted": ParticleNet(size="lite", standardise="fitted", features="ids", phantom="drop"),
         "own": ParticleNet(k=3, channels=((8,), (16, 24)), dense=12),
         "nearest": ParticleNet(k=1, channels=((8, 8),), phantom="drop")}  # fmt: skip


def rows(task: ParticleNet, n: int = 24, seed: int = 1) -> Batch:
    return batch([task.toy(n, seed)], task.columns, np.ones(n), np.zeros(n, dtype=np.int64), np.arange(n),
                 At(0, 0, 0.0), 1)  # fmt: skip


def test_sizes_are_shorthand_for_settings() -> None:
    same = ParticleNet(k=7, channels=((32, 32, 32), (64, 64, 64)), dense=128)
    assert same.as_built == ParticleNet(size="lite").as_built and ParticleNet(size="lite", k=9).as_built.dense == 128
    given = same.tensors(rows(same))
    one, other = (task.build(1).eval() for task in (same, ParticleNet(size="lite")))
    assert torch.equal(one(*given), other(*given))


def test_the_network_has_the_size_that_was_asked_for() -> None:
    net, full = TASKS["own"].build(1), ParticleNet().build(1)
    features = len(net.scaled.names)
    into = {"weight_0": (8, 2 * features), "shortcut.weight": (8, features)}
    then = {"weight_0": (16, 2 * 8), "weight_1": (24, 16), "shortcut.weight": (24, 8)}
    for block, wanted in zip(net.blocks, (into, then), strict=True):
        found = {name: tuple(one.shape) for name, one in block.named_parameters() if "weight" in name}
        assert {name: found[name] for name in found if not name.startswith("norm")} == wanted
    assert [tuple(one.weight.shape) for one in net.dense] == [(12, 24), (2, 12)]
    assert sum(one.numel() for one in full.parameters()) == 366_160  # 366k in the paper


def test_neighbours_are_as_many_as_were_asked_for() -> None:
    """The weights do not depend on how many neighbours there are, and what comes out does."""
    tasks = [ParticleNet(size="lite", k=k) for k in (2, 7)]
    nets = [task.build(1).eval() for task in (*tasks, ParticleNet(size="lite"))]
    few, many, plain = (net(*tasks[0].tensors(rows(tasks[0]))) for net in nets)
    assert torch.equal(many, plain) and (few - many).abs().max() > 1e-4


@pytest.mark.parametrize(("values", "said"), [
    ({"k": 0}, "task.k = 0: Input should be greater than 0"),
    ({"channels": []}, r"task.channels = \[\]: .* at least 1 item"),
    ({"channels": [[32], []]}, r"task.channels.1 = \[\]: .* at least 1 item"),
    ({"channels": [[32, 0]]}, "task.channels.0.1 = 0: Input should be greater than 0"),
    ({"channels": [32, 64]}, "task.channels.0 = 32: Input should be a valid tuple"),
    ({"dense": -1}, "task.dense = -1: Input should be greater than 0"),
])  # fmt: skip
def test_networks_that_cannot_be_are_refused(values: Values, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build(ParticleNet, values, "job.yaml", "task")


@pytest.mark.parametrize("name", TASKS)
def test_order_and_padding_do_not_matter(name: str) -> None:
    task = TASKS[name]
    net, (jet, particle, mask) = task.build(1).eval(), task.tensors(rows(task))
    wanted = net(jet, particle, mask)
    turned = torch.randperm(particle.shape[1], generator=torch.Generator().manual_seed(1))
    assert torch.allclose(net(jet, particle[:, turned], mask[:, turned]), wanted, atol=1e-4)
    pad = torch.nn.functional.pad
    assert torch.allclose(net(jet, pad(particle, (0, 0, 0, 9), value=2.0), pad(mask, (0, 9))), wanted, atol=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_tracing_and_running_are_one_function(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = TASKS[name]
    net, given = task.build(1), task.tensors(rows(task))
    net(*given)
    net.eval()
    flat = net(*given)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    assert torch.allclose(net(*given), flat, atol=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_jets_of_one_particle_and_of_none_are_finite(name: str) -> None:
    task = TASKS[name]
    net, (jet, particle, mask) = task.build(1), task.tensors(rows(task, 4))
    one = mask & (torch.arange(mask.shape[1]) == 0)
    one[0] = False
    for shown in (one, mask & False):
        out = net(jet, particle, shown)
        assert torch.isfinite(out).all()
        out.sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in net.parameters())


def test_inputs_are_standardised_by_what_was_fitted() -> None:
    task = TASKS["fitted"]
    seen = rows(task, 200)
    moments = task.needs()["particles"]
    net = task.build(1, {"particles": moments.numbers(moments.sums(seen))})
    jet, particle, mask = task.tensors(seen)
    features = net.scaled(jet, particle, mask).features_BPC[mask]
    varies = features.std(0) > 0
    assert torch.allclose(features.mean(0), torch.zeros(features.shape[1]), atol=0.1)
    assert torch.allclose(features.std(0)[varies], torch.ones(int(varies.sum())), atol=0.15)


def double_layers(drop: bool) -> tuple[list[torch.Tensor], Edges]:
    """Numbers for three layers of equal width on four particles, and edges of which some are to nothing."""
    dice = torch.Generator().manual_seed(1)
    shapes = [(4, 3), (5, 3), (3, 3), (3, 3), *[(3,)] * 6]
    given = [torch.randn(*one, generator=dice, dtype=torch.float64).requires_grad_() for one in shapes]
    return given, Edges.of(torch.tensor([[1, 2, 3], [0, 2, 4], [0, 1, 4], [0, 4, 4]]), 4, drop)


@pytest.mark.parametrize("drop", [False, True])
def test_the_gradient_of_equal_widths_is_that_of_differences(drop: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edgeconv, "BLOCK", 1 << 6)
    given, edges = double_layers(drop)
    assert torch.autograd.gradcheck(lambda u, v, *rest: edge_layers(u, v, edges, None, 3, *rest)[0], given)


def test_second_derivatives_are_refused() -> None:
    given, edges = double_layers(drop=False)
    out = edge_layers(*given[:2], edges, None, 3, *given[2:])[0]
    (slope,) = torch.autograd.grad(out.square().sum(), given[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_shares_of_edges_add_up_in_double_precision() -> None:
    _, edges = double_layers(drop=True)
    three = Edges.of(torch.tensor([[0, 1, 2, 9]]), 9, drop=True)
    assert edges.share_NK is not None and three.share_NK is not None
    assert edges.share_NK.dtype == torch.float64 and three.share_NK[0].tolist() == [1 / 3, 1 / 3, 1 / 3, 0]


@pytest.mark.claims
def test_tops_are_told_from_qcd_in_the_toy() -> None:
    task = ParticleNet(size="lite", dropout=0.0)
    net = task.build(1)
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for step in range(40):
        optimiser.zero_grad()
        task.loss(net, rows(task, 128, 10 + step))["class"].mean().backward()
        optimiser.step()
    new = rows(task, 1000, 2)
    with torch.no_grad():
        score = task.score(net.eval(), new)["probability_top"]
    top = task.class_of(new) == 1
    assert (score[top][:, None] > score[~top]).float().mean().item() > 0.9
