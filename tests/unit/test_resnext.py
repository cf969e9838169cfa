"""ResNeXt on jet images: the published layers, any order of particles, and a picture that says what it lacks."""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from jetscale.data.batch import batch, table_of
from jetscale.evaluate import onnx
from jetscale.nn.resnext import ImageNorm, ResNeXt
from jetscale.run import resolve
from jetscale.systems.resnext import ImageTagger
from jetscale.task import At, Batch

SMALL = {"layers": 14, "size": 32, "dropout": 0.0}
TASKS = {"preprocessed": ImageTagger(**SMALL), "axis": ImageTagger(preprocess="axis", **SMALL),
         "raw": ImageTagger(preprocess="raw", channels="detector", **SMALL)}  # fmt: skip
pad = nn.functional.pad


def rows(task: ImageTagger, n: int = 24, seed: int = 1) -> Batch:
    return batch([task.toy(n, seed)], task.columns, np.ones(n), np.zeros(n, dtype=np.int64), np.arange(n),
                 At(0, 0, 0.0), 1)  # fmt: skip


def seasoned(task: ImageTagger) -> nn.Module:
    """A network whose moments are no longer 0 and 1."""
    net = task.build(1)
    for seed in range(3):
        net(*task.tensors(rows(task, 24, seed)))
    return net.eval()


class Around(nn.Module):
    def __init__(self, into: int, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(into, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1, groups=32, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        short = nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        self.short = nn.Identity() if into == out and stride == 1 else short

    def forward(self, x: Tensor) -> Tensor:
        return (self.inner(x) + self.short(x)).relu()


def published(channels: int, classes: int) -> nn.Sequential:
    """ResNeXt-50 (32x4d), by table 1 of its paper."""
    parts: OrderedDict[str, nn.Module] = OrderedDict(
        first=nn.Sequential(nn.Conv2d(channels, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()),
        pool=nn.MaxPool2d(3, 2, 1),
    )
    into = 64
    for stage, (blocks, width, out) in enumerate([(3, 128, 256), (4, 256, 512), (6, 512, 1024), (3, 1024, 2048)]):
        for number in range(blocks):
            parts[f"{stage}.{number}".replace(".", "_")] = Around(into, width, out, 2 if stage and not number else 1)
            into = out
    parts |= {"mean": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten(), "out": nn.Linear(2048, classes)}
    return nn.Sequential(parts)


def copied(net: nn.Module, other: nn.Module) -> None:
    """The weights and moments of ours into the other's, whose modules come in the same order."""
    kinds = (nn.Linear, nn.Conv2d, nn.BatchNorm2d, ImageNorm)
    ours, theirs = ([one for one in whole.modules() if isinstance(one, kinds)] for whole in (net, other))
    for of, to in zip(ours, theirs, strict=True):
        names = {"running_mean": "mean_C", "running_var": "variance_C"}
        given = {name: of.state_dict()[names.get(name, name)] for name in to.state_dict() if "num" not in name}
        to.load_state_dict(given, strict=False)


def count(net: nn.Module) -> int:
    return sum(one.numel() for one in net.parameters())


def test_parameters_are_as_many_as_published() -> None:
    with torch.device("meta"):
        # Of the network for photographs, and with a quarter of the channels "1.46M" in arXiv:1902.08570.
        assert count(ResNeXt(3, 1000)) == count(published(3, 1000)) == 25_028_904
        assert count(ResNeXt(1, 1000)) == 25_028_904 - 2 * 64 * 49
        assert count(ImageTagger().build(1)) == 1_453_090
        assert count(TASKS["axis"].build(1)) == 468_578
        grouped = [one for one in ResNeXt(3, 1000).modules() if isinstance(one, nn.Conv2d) and one.groups > 1]
    assert [one.weight.numel() for one in grouped] == [
        9 * width * width // 32 for width, blocks in ((128, 3), (256, 4), (512, 6), (1024, 3)) for _ in range(blocks)
    ]


def test_the_network_is_the_published_list_of_layers() -> None:
    torch.manual_seed(1)
    net = ResNeXt(2, 5).double()
    seen = torch.randn(4, 2, 64, 64, dtype=torch.float64)
    net(seen)
    other = published(2, 5).double().eval()
    copied(net, other)
    with torch.no_grad():
        wanted = other(seen)
        assert (net.eval()(seen) - wanted).abs().max() < 1e-9 * wanted.abs().max() and wanted.std() > 1e-3


def test_jet_images_are_halved_once_less() -> None:
    net = ResNeXt(1, 2, 14, 4, pooled=False)
    sizes = []
    for block in net.blocks:
        block.register_forward_hook(lambda _, __, out: sizes.append(tuple(out.shape[1:])))
    net(torch.zeros(2, 1, 64, 64))
    assert sizes == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]


@pytest.mark.parametrize("name", TASKS)
def test_order_and_padding_do_not_matter(name: str) -> None:
    task = TASKS[name]
    net, (jet, particle, mask) = seasoned(task), task.tensors(rows(task))
    wanted = net(jet, particle, mask)
    turned = torch.randperm(particle.shape[1], generator=torch.Generator().manual_seed(1))
    assert torch.allclose(net(jet, particle[:, turned], mask[:, turned]), wanted, atol=1e-4)
    more = net(jet, pad(particle, (0, 0, 0, 9), value=2.0), pad(mask, (0, 9)))
    assert torch.allclose(more, wanted, atol=1e-4) and wanted.std() > 1e-3


def test_rows_that_fill_up_a_step_change_nothing() -> None:
    task = TASKS["axis"]
    jet, particle, mask = task.tensors(rows(task))
    nets = [task.build(1), task.build(1)]
    wanted = nets[0](jet, particle, mask)
    filled = nets[1](*(pad(one, (0, 0) * (one.dim() - 1) + (0, 8)) for one in (jet, particle, mask)))
    assert torch.allclose(filled[:24], wanted, atol=1e-5)
    for one, other in zip(nets[0].buffers(), nets[1].buffers(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("name", TASKS)
def test_jets_of_one_particle_and_of_none_are_finite(name: str) -> None:
    task = TASKS[name]
    net, (jet, particle, mask) = task.build(1), task.tensors(rows(task, 4))
    one = mask & (torch.arange(mask.shape[1]) == 0)
    one[0] = False
    for shown in (one, mask & False):
        out = net.train()(jet, particle, shown)
        out.sum().backward()
        assert torch.isfinite(out).all() and torch.isfinite(net.eval()(jet, particle, shown)).all()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)
    assert all(torch.isfinite(one).all() for one in net.buffers())


def test_one_pixel_of_one_jet_has_no_moments() -> None:
    norm = ImageNorm(3)
    seen = torch.randn(1, 3, 1, 1)
    assert torch.allclose(norm(seen), seen, atol=1e-4) and norm.mean_C.abs().sum() == 0


def test_half_precision_is_near() -> None:
    task = TASKS["axis"]
    net, given = seasoned(task), task.tensors(rows(task))
    wanted = net(*given)
    near = net.bfloat16()(*given)
    assert near.dtype == torch.float32 and torch.allclose(near, wanted, atol=0.1)
    net.train()(*given).sum().backward()


def test_what_an_image_lacks_is_a_column_and_a_figure() -> None:
    figures = {}
    for reach in (0.2, 0.8, 3.0):
        task = ImageTagger(reach=reach, **SMALL)
        seen = rows(task, 60)
        score = task.score(task.build(1).eval(), seen)
        jet, particle, mask = task.tensors(seen)
        image, outside = task.images(jet, particle, mask)
        assert torch.equal(score["image_outside"], outside)
        assert torch.allclose(image.sum((1, 2, 3)) + outside, torch.ones(60), atol=1e-5)
        table = table_of(seen, score, task.outputs)
        for name in ("weight", "jet_label"):
            values = seen.weight_B if name == "weight" else seen[name]
            table = table.append_column(name, [values.numpy()])
        figures[reach] = task.figures(table)["outside"]
        assert figures[reach] == pytest.approx(outside.mean().item(), abs=1e-6)
    assert figures[0.2] > 0.05 > figures[0.8] > figures[3.0] == 0


def test_what_is_not_read_is_neither_in_an_image_nor_outside_of_it() -> None:
    task = ImageTagger(particles=4, preprocess="axis", reach=0.2, **SMALL)
    seen = rows(task, 60)
    jet, particle, mask = task.tensors(seen)
    few = mask & (torch.arange(mask.shape[1]) < 4)
    wanted, all_of_them = task.images(jet, particle, few), TASKS["axis"].images(jet, particle, mask)
    drawn = task.pictures(seen)
    assert torch.equal(drawn.image_BCNN, wanted[0]) and torch.equal(drawn.outside_B, wanted[1])
    share = torch.where(few, particle[..., 0], 0.0).sum(1) / jet[:, 0]
    assert torch.allclose(wanted[0].sum((1, 2, 3)), share * (1 - wanted[1]), atol=1e-5)
    assert all_of_them[0].sum() > 1.1 * wanted[0].sum()


@pytest.mark.parametrize("particles", [None, 7])
def test_its_graph_agrees_with_torch(particles: int | None, tmp_path: Path) -> None:
    values = {"system": "resnext", "task": {"channels": "detector", "particles": particles, **SMALL},
              "stream": {"samples": {"toy": {"events": "toy"}}}}  # fmt: skip
    run = resolve([("test", values)], "test").run
    found = onnx.write(run, run.task.build(1), tmp_path / "network.onnx", "none")
    assert found.events > 60 and found.undecided < 10


@pytest.mark.claims
def test_tops_are_told_from_qcd_in_the_toy() -> None:
    task = TASKS["preprocessed"]
    net = task.build(1)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3)
    for step in range(40):
        loss = task.loss(net, rows(task, 100, 100 + step))["class"].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    seen = rows(task, 600, 2)
    with torch.no_grad():
        score = task.score(net.eval(), seen)["probability_top"]
    signal, background = (score[task.class_of(seen) == one] for one in (1, 0))
    assert (signal[:, None] > background).float().mean() > 0.85
