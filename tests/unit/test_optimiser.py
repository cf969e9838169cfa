"""Every optimiser makes the steps of its paper, and forgets nothing between two of them."""

import pytest
import torch
from torch import nn

from jetscale.run import Optimiser
from jetscale.train.optimiser import AVERAGE, optimiser_of, remembered

STEPS, EVERY, EMA = 7, 3, 0.8


def steps(optimiser: torch.optim.Optimizer, net: nn.Module, number: int) -> None:
    for _ in range(number):
        optimiser.zero_grad()
        (net(torch.ones(1, 3)) - 2).square().sum().backward()
        optimiser.step()


def network() -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(3, 2)


@pytest.mark.parametrize("kind", ["adamw", "radam"])
def test_looking_ahead_goes_to_the_middle(kind: str) -> None:
    settings = {"kind": kind, "rate": 0.05, "weight_decay": 0.1}
    ours, plain = network(), network()
    ahead = optimiser_of(ours, Optimiser(**settings, lookahead=EVERY))
    steps(ahead, ours, STEPS)
    by_hand, slow = optimiser_of(plain, Optimiser(**settings)), plain.weight.detach().clone()
    slow_bias = plain.bias.detach().clone()
    for step in range(1, STEPS + 1):
        steps(by_hand, plain, 1)
        if step % EVERY == 0:
            for fast, old in ((plain.weight, slow), (plain.bias, slow_bias)):
                old.lerp_(fast.detach(), 0.5)
                fast.data.copy_(old)
    assert torch.allclose(ours.weight, plain.weight, atol=1e-6) and torch.allclose(ours.bias, plain.bias, atol=1e-6)
    assert not torch.allclose(ours.weight, network().weight, atol=1e-3)
    assert set(remembered(Optimiser(lookahead=EVERY))) <= set(ahead.state[ours.weight])


@pytest.mark.parametrize("kind", ["adamw", "radam"])
@pytest.mark.parametrize("lookahead", [0, EVERY])
def test_the_average_is_that_of_all_updates(kind: str, lookahead: int) -> None:
    settings = {"kind": kind, "rate": 0.05, "lookahead": lookahead}
    ours, plain = network(), network()
    averaging, without = optimiser_of(ours, Optimiser(**settings, ema=EMA)), optimiser_of(plain, Optimiser(**settings))
    seen = []
    for _ in range(STEPS):
        steps(averaging, ours, 1)
        steps(without, plain, 1)
        seen.append(plain.weight.detach().double())
    shares = torch.tensor([EMA ** (STEPS - 1 - n) for n in range(STEPS)], dtype=torch.float64)
    by_hand = torch.einsum("n,nij->ij", shares / shares.sum(), torch.stack(seen))
    assert torch.allclose(averaging.state[ours.weight][AVERAGE].double(), by_hand, atol=1e-6)
    assert not torch.allclose(by_hand.float(), ours.weight, atol=1e-3)
    assert ours.weight.equal(plain.weight) and ours.bias.equal(plain.bias)  # averaging changes no update
    assert set(averaging.state[ours.weight]) == {"step", *remembered(Optimiser(**settings, ema=EMA))}


def test_what_is_off_is_not_remembered() -> None:
    net = network()
    optimiser = optimiser_of(net, Optimiser())
    steps(optimiser, net, 2)
    assert set(optimiser.state[net.weight]) == {"step", *remembered(Optimiser())} == {"step", "exp_avg", "exp_avg_sq"}


def test_radam_is_not_adamw() -> None:
    nets = [network(), network()]
    for kind, net in zip(("adamw", "radam"), nets, strict=True):
        steps(optimiser_of(net, Optimiser(kind=kind, rate=0.05)), net, 3)
    assert not torch.allclose(nets[0].weight, nets[1].weight, atol=1e-3)


def test_only_matrices_decay() -> None:
    net = network()
    groups = optimiser_of(net, Optimiser(weight_decay=0.3)).param_groups
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
    assert groups[0]["params"][0] is net.weight and groups[1]["params"][0] is net.bias
