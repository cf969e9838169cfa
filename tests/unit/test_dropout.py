"""Dropout meets its rate, keeps the mean, and draws from torch's own generator."""

import pytest
import torch

from jetscale.nn.dropout import dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.93])
def test_the_rate_is_met_and_the_mean_is_kept(rate: float) -> None:
    torch.manual_seed(1)
    out = dropout(torch.ones(400_000), rate)
    assert (out == 0).float().mean().item() == pytest.approx(rate, abs=4 * (rate * (1 - rate) / 400_000) ** 0.5)
    assert out.unique().tolist() == [0.0, pytest.approx(1 / (1 - rate), rel=1e-3)]
    assert out.double().mean().item() == pytest.approx(1.0, abs=0.02)


def test_neighbours_are_dropped_alone() -> None:
    torch.manual_seed(2)
    kept = dropout(torch.ones(400_000), 0.5).view(-1, 4) > 0
    found = torch.corrcoef(kept.double().t()) - torch.eye(4)
    assert found.abs().max() < 0.02


def test_the_seed_decides() -> None:
    drawn = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        drawn.append(dropout(torch.ones(1000), 0.3))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("rate", [0.0, 1e-7])
def test_without_a_rate_nothing_is_drawn(rate: float) -> None:
    before = torch.random.get_rng_state()
    x = torch.ones(10)
    assert dropout(x, rate) is x and dropout(x, 0.5, training=False) is x
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 5, 1), (2, 0, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_shapes_and_precisions_are_kept(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = torch.ones(shape, dtype=dtype, requires_grad=True)
    out = dropout(x, 0.4)
    assert out.shape == x.shape and out.dtype == dtype
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())
