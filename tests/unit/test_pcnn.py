"""P-CNN: the published layers, an order that matters, and padding that does not."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from jetscale.data.batch import batch
from jetscale.evaluate import onnx
from jetscale.run import resolve
from jetscale.systems.pcnn import PCNN
from jetscale.task import At, Batch

TASKS = {"masked": PCNN(), "full": PCNN(features="full"), "length": PCNN(pool="length")}
pad = nn.functional.pad


def rows(task: PCNN, n: int = 24, seed: int = 1) -> Batch:
    return batch([task.toy(n, seed)], task.columns, np.ones(n), np.zeros(n, dtype=np.int64), np.arange(n),
                 At(0, 0, 0.0), 1)  # fmt: skip


def seasoned(task: PCNN) -> nn.Module:
    """A network whose moments are no longer 0 and 1."""
    net = task.build(1)
    for seed in range(3):
        net(*task.tensors(rows(task, 24, seed)))
    return net.eval()


class Unit(nn.Module):
    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv1d(into, out, 3, stride, 1), nn.BatchNorm1d(out), nn.ReLU(),
                                   nn.Conv1d(out, out, 3, 1, 1), nn.BatchNorm1d(out), nn.ReLU())  # fmt: skip
        same = into == out and stride == 1
        self.around = nn.Identity() if same else nn.Conv1d(into, out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + self.around(x)


def published(features: int, classes: int) -> nn.Sequential:
    """The list of layers as it is printed."""
    return nn.Sequential(
        nn.BatchNorm1d(features), nn.Conv1d(features, 32, 3, 1, 1), nn.BatchNorm1d(32), nn.ReLU(),
        Unit(32, 64, 1), Unit(64, 64, 1), Unit(64, 64, 2), Unit(64, 64, 1), Unit(64, 128, 2), Unit(128, 128, 1),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(128, 512), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(512, classes),
    )  # fmt: skip


def copied(net: nn.Module, other: nn.Module) -> None:
    """The weights and moments of ours into the other's, whose modules come in the same order."""
    kinds = (nn.Linear, nn.Conv1d, nn.BatchNorm1d)
    theirs = [one for one in other.modules() if isinstance(one, kinds)]
    ours = [one for one in net.modules() if isinstance(one, kinds[:2]) or hasattr(one, "mean_C")]
    for to, of in zip(theirs, ours, strict=True):
        names = {"running_mean": "mean_C", "running_var": "variance_C"} if hasattr(of, "mean_C") else {}
        given = {name: getattr(of, names.get(name, name)) for name in to.state_dict() if name != "num_batches_tracked"}
        to.load_state_dict(given, strict=False)


def test_layers_and_parameters_are_those_of_the_list() -> None:
    net = PCNN().build(1)
    widths = [one.kernel_size[0] for one in net.modules() if isinstance(one, nn.Conv1d)]
    assert (widths.count(3), widths.count(1)) == (13, 3)
    assert sum(isinstance(one, nn.Linear) for one in net.modules()) == 2
    count = sum(one.numel() for one in net.parameters())
    assert count == sum(one.numel() for one in published(7, 2).parameters()) == 349_456  # 348k in the paper


def test_the_mean_over_all_slots_is_the_published_network() -> None:
    task = TASKS["length"]
    net = seasoned(task).double()
    other = published(7, 2).double().eval()
    copied(net, other)
    jet, particle, mask = task.tensors(rows(task, 50, 7))
    jet, particle = jet.double(), particle.double()
    features = pad(net.scaled(jet, particle, mask).features_BPC, (0, 0, 0, 128))[:, :128]
    with torch.no_grad():
        wanted = other(features.mT)
        assert (net(jet, particle, mask) - wanted).abs().max() < 1e-12
    assert wanted.std() > 1e-3


def test_without_padding_both_pools_are_one() -> None:
    masked, length = PCNN(particles=12), PCNN(particles=12, pool="length")
    nets = [seasoned(masked), length.build(1).eval()]
    nets[1].load_state_dict(nets[0].state_dict())
    jet, particle, mask = masked.tensors(rows(masked, 60))
    whole = mask.sum(1) >= 12
    a, b = (net(jet, particle, mask) for net in nets)
    assert 0 < whole.sum() < 60 and torch.allclose(a[whole], b[whole], atol=1e-6)
    assert (a - b)[~whole].abs().max() > 1e-4


@pytest.mark.parametrize("name", TASKS)
def test_padding_changes_nothing(name: str) -> None:
    task = TASKS[name]
    net, (jet, particle, mask) = seasoned(task), task.tensors(rows(task))
    wanted = net(jet, particle, mask)
    for more in (1, 6, 200):
        wider = net(jet, pad(particle, (0, 0, 0, more), value=2.0), pad(mask, (0, more)))
        assert (wider - wanted).abs().max() < 1e-5


def test_little_work_is_done_on_padding_and_the_same_comes_out() -> None:
    task = PCNN(dropout=0.0)
    nets, (jet, particle, mask) = [task.build(1).double(), task.build(1).double()], task.tensors(rows(task))
    mask[3], mask[5, 1] = False, False
    seen: list[int] = []
    nets[0].first.register_forward_hook(lambda _, given, out: seen.append(given[0][..., 0].numel()))
    nets[1]._in_a_row = nets[1]._padded
    for _ in range(2):
        found, wanted = outs = [net(jet.double(), particle.double(), mask) for net in nets]
        ours, theirs = (torch.autograd.grad(out.square().sum(), list(net.parameters()))
                        for out, net in zip(outs, nets, strict=True))  # fmt: skip
        pairs = zip((found, *ours, *nets[0].buffers()), (wanted, *theirs, *nets[1].buffers()), strict=True)
        assert all(torch.allclose(one, other, atol=1e-9) for one, other in pairs) and found.std() > 1e-3
        nets = [net.eval() for net in nets]
    assert mask.sum() < seen[0] <= mask.sum() + 8 * len(mask) < 0.9 * mask.numel()


def test_padding_changes_no_moments_in_training() -> None:
    task = TASKS["masked"]
    jet, particle, mask = task.tensors(rows(task))
    nets = [task.build(1), task.build(1)]
    nets[0](jet, particle, mask)
    nets[1](jet, pad(particle, (0, 0, 0, 9), value=2.0), pad(mask, (0, 9)))
    for one, other in zip(nets[0].buffers(), nets[1].buffers(), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_rows_that_fill_up_a_step_change_no_moments(name: str) -> None:
    task = TASKS[name]
    jet, particle, mask = task.tensors(rows(task))
    net, other = task.build(1), task.build(1)
    net(jet, particle, mask)
    other(pad(jet, (0, 0, 0, 3)), pad(particle, (0, 0, 0, 0, 0, 3)), pad(mask, (0, 0, 0, 3)))
    before = [one.clone() for one in net.buffers()]
    assert all(torch.allclose(one, of, atol=1e-6) for one, of in zip(other.buffers(), before, strict=True))
    out = net(jet[:1], particle[:1], mask[:1] & False)
    out.sum().backward()
    assert out.shape == (1, 2) and all(map(torch.equal, net.buffers(), before))


def picked(particle: Tensor, mask: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    return particle.gather(1, order[..., None].expand_as(particle)), mask.gather(1, order)


@pytest.mark.parametrize("name", TASKS)
def test_order_matters_and_is_that_of_falling_pt(name: str) -> None:
    task = TASKS[name]
    net, (jet, particle, mask) = seasoned(task), task.tensors(rows(task))
    wanted = net(jet, particle, mask)
    rising = picked(particle, mask, torch.where(mask, particle[..., 0], torch.inf).argsort(dim=1))
    assert (net(jet, *rising) - wanted).abs().max() > 1e-3
    falling = torch.where(rising[1], rising[0][..., 0], -1.0).argsort(dim=1, descending=True)
    assert (net(jet, *picked(*rising, falling)) - wanted).abs().max() < 1e-6


def test_only_the_hardest_are_read() -> None:
    task = PCNN(particles=10)
    net, (jet, particle, mask) = seasoned(task), task.tensors(rows(task))
    assert mask.sum(1).max() > 10
    assert torch.allclose(net(jet, particle, mask), net(jet, particle[:, :10], mask[:, :10]), atol=1e-6)


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


@pytest.mark.parametrize("name", TASKS)
def test_half_precision_is_near(name: str) -> None:
    task = TASKS[name]
    net, given = seasoned(task), task.tensors(rows(task))
    wanted = net(*given)
    near = net.bfloat16()(*given)
    assert near.dtype == torch.float32 and torch.allclose(near, wanted, atol=0.1)
    net.train()(*given).sum().backward()


def test_its_graph_agrees_with_torch(tmp_path: Path) -> None:
    values = {"system": "pcnn", "task": {"particles": 40}, "stream": {"samples": {"toy": {"events": "toy"}}}}
    run = resolve([("test", values)], "test").run
    found = onnx.write(run, run.task.build(1), tmp_path / "network.onnx", "none")
    assert found.events > 60 and found.undecided == 0


@pytest.mark.claims
def test_three_prongs_are_told_from_one() -> None:
    task = PCNN()
    net = task.build(1)
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3)
    batches = [rows(task, 100, 100 + number) for number in range(10)]
    for step in range(30):
        loss = task.loss(net, batches[step % 10])["class"].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    seen = rows(task, 600, 2)
    with torch.no_grad():
        score = task.score(net.eval(), seen)["probability_top"]
    signal, background = (score[task.class_of(seen) == one] for one in (1, 0))
    assert (signal[:, None] > background).float().mean() > 0.88


def test_it_reads_a_number_of_particles() -> None:
    with pytest.raises(ValueError, match="particles: null, and this network reads a number of them"):
        PCNN(particles=None)
