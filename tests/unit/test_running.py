"""Running moments follow batches by a share of the way, or are the plain mean of what each layer sees."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from jetscale.nn.edgeconv import EdgeConv, flat_of
from jetscale.nn.listed import ListNorm
from jetscale.nn.resnext import ImageNorm
from jetscale.train.moments import anew


def _drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * (1 + seed) + seed


def _cloud(net: nn.Module, jets: int, seed: int) -> None:
    mask_BP = torch.arange(6) < torch.tensor([6, 1, 4, 5])[:jets, None]
    x_NC = _drawn(4, 6, 3, seed=seed)[:jets][mask_BP]
    net(x_NC[:, :2], x_NC, flat_of(mask_BP))


LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module, int, int], object]]] = {
    "lists": (lambda: ListNorm(3), lambda net, n, seed: net(_drawn(n, 3, seed=seed))),
    "masked": (lambda: ListNorm(3), lambda net, n, seed: net(_drawn(1, n, 3, seed=seed), torch.ones(1, n).bool())),
    "images": (lambda: ImageNorm(3), lambda net, n, seed: net(_drawn(n, 3, 1, 1, seed=seed))),
    "edges": (lambda: EdgeConv(3, (4, 5), 2), _cloud),
    "torch": (lambda: nn.BatchNorm1d(3), lambda net, n, seed: net(_drawn(max(n, 2), 3, seed=seed))),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_anew_they_are_the_plain_mean_of_what_is_seen(layer: str) -> None:
    make, show = LAYERS[layer]
    torch.manual_seed(1)
    net = make()
    show(net, 4, 7)
    before = {name: buffer.clone() for name, buffer in net.state_dict().items()}
    each = []
    for seed in range(5):
        alone = make()
        alone.load_state_dict(before)
        with anew(alone) as running:
            show(alone, 4 - seed % 2, seed)
            each.append({name: buffer.double() for name, buffer in running.items()})
    with anew(net) as running:
        if layer in ("lists", "masked", "images"):
            show(net, 1, 9)  # nothing to see for this layer: it keeps what it has, and does not count it
            assert all(buffer.equal(before[name]) for name, buffer in running.items())
        for seed in range(5):
            show(net, 4 - seed % 2, seed)
        assert running
        for name, buffer in running.items():
            wanted = torch.stack([one[name] for one in each]).mean(0)
            assert buffer.double().allclose(wanted, rtol=1e-5, atol=1e-6), name
            assert not buffer.allclose(before[name])
    assert all(buffer.equal(before[name]) for name, buffer in net.state_dict().items()), "what they were, bit for bit"
    show(net, 4, 8)
    name = next(iter(running))
    with anew(alone) as fresh:
        show(alone, 4, 8)
        wanted = 0.9 * before[name] + 0.1 * fresh[name]
    assert net.state_dict()[name].allclose(wanted, atol=1e-6), "they follow as before"


def test_they_come_back_when_something_fails() -> None:
    net = nn.Sequential(nn.Linear(3, 3), ListNorm(3), nn.BatchNorm1d(3))
    before = {name: buffer.clone() for name, buffer in net.state_dict().items()}
    with pytest.raises(KeyboardInterrupt), anew(net):
        net(_drawn(4, 3, seed=1))
        raise KeyboardInterrupt
    assert all(buffer.equal(before[name]) for name, buffer in net.state_dict().items())
    assert [net[1].momentum, net[2].momentum] == [0.1, 0.1]


def test_names_are_those_of_the_network() -> None:
    net = nn.Sequential(nn.Linear(3, 3), ListNorm(3), nn.BatchNorm1d(3), nn.BatchNorm1d(3, track_running_stats=False))
    with anew(net) as running:
        assert list(running) == ["1.mean_C", "1.variance_C", "2.running_mean", "2.running_var"]
    with anew(nn.Linear(3, 3)) as none:
        assert not none
