"""The flavour tagger: lists are cut and turned as they should be, and padding and order do not matter."""

import numpy as np
import pytest
import torch

from jetscale.data.batch import batch
from jetscale.systems.deepjet import DeepJet, _best, _significance
from jetscale.task import At

NETWORKS = ("recurrent", "sets", "dense")


def rows(task: DeepJet, n: int = 40, seed: int = 3):
    return batch([task.toy(n, seed)], task.columns, np.ones(n), np.zeros(n, dtype=np.int64), np.arange(n),
                 At(0, 0, 0.0), 1)  # fmt: skip


def wider(tensors, by: int = 8):
    """The same jets with more padding, which holds numbers that are not 0."""
    jet, particle, vertex, mask_p, mask_v = tensors
    fill = torch.nn.functional.pad
    return (jet, fill(particle, (0, 0, 0, by), value=3.0), fill(vertex, (0, 0, 0, by), value=3.0),
            fill(mask_p, (0, by)), fill(mask_v, (0, by)))  # fmt: skip


@pytest.mark.parametrize("network", NETWORKS)
def test_padding_and_the_order_of_particles_change_nothing(network: str) -> None:
    task = DeepJet(network=network)
    net, tensors = task.build(1).eval(), task.tensors(rows(task))
    wanted = net(*tensors)
    assert wanted.shape == (40, 4) and torch.isfinite(wanted).all()
    assert torch.allclose(net(*wider(tensors)), wanted, atol=1e-5)
    jet, particle, vertex, mask_p, mask_v = tensors
    turned = torch.randperm(particle.shape[1], generator=torch.Generator().manual_seed(5))
    assert torch.allclose(net(jet, particle[:, turned], vertex, mask_p[:, turned], mask_v), wanted, atol=1e-4)


@pytest.mark.parametrize("network", NETWORKS)
def test_jets_of_nothing_are_finite(network: str) -> None:
    task = DeepJet(network=network)
    jet, particle, vertex, mask_p, mask_v = task.tensors(rows(task))
    for net in (task.build(1), task.build(1).eval()):
        out = net(jet, particle, vertex, mask_p & False, mask_v & False)
        assert torch.isfinite(out).all()


def test_the_best_entries_come_first_and_the_others_are_not_there() -> None:
    features = torch.arange(5.0)[None, :, None].expand(1, 5, 2)
    mask = torch.tensor([[True, True, False, True, True]])
    found = _best(features, mask, torch.tensor([[1.0, 4.0, 9.0, 3.0, 2.0]]), 3)
    assert found.features_BNC[0, :, 0].tolist() == [1, 3, 4] and found.mask_BN.all()
    few = _best(features, mask, torch.tensor([[1.0, 4.0, 9.0, 3.0, 2.0]]), 7)
    assert few.mask_BN.sum() == 4 and (few.features_BNC[0, 4:] == 0).all()


def test_the_last_state_is_that_of_the_best_entry() -> None:
    task = DeepJet()
    layers = task.build(1).eval().lists[0]
    x = torch.randn(1, 6, 9, generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[True, True, True, False, False, False]])
    inner = layers.norm(x, mask)
    for layer, norm in zip(layers.each, layers.norms, strict=False):
        inner = norm(layer(inner).relu(), mask)
    inner = layers.each[-1](inner).relu()[:, :3].flip(1)
    assert torch.allclose(layers(x, mask), layers.whole(inner)[0][:, -1], atol=1e-6)


def test_significances_keep_their_sign_and_have_no_tails() -> None:
    value, error = torch.tensor([1e9, -0.2, 0.3]), torch.tensor([0.01, 0.1, 0.0])
    found = _significance(value, error)
    assert found[0] == 5.0 and found[2] == 0.0 and found[1] == pytest.approx(-np.log(3.0))


@pytest.mark.claims
def test_b_jets_are_found_in_the_toy() -> None:
    task = DeepJet(classes={"light": ["quark"], "c": ["charm"], "b": ["bottom"]}, width=32, layers=2, dropout=0.0)
    net = task.build(1)
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for step in range(60):
        loss = task.loss(net, rows(task, 300, 100 + step % 20))["class"].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    seen = rows(task, 1500, 2)
    score = task.score(net.eval(), seen)
    label = task.class_of(seen)

    def auc(signal: int, other: int) -> float:
        s, b = (score["probability_b"][label == one] for one in (signal, other))
        return float((s[:, None] > b).float().mean())

    assert auc(2, 0) > 0.95
    assert auc(2, 1) > 0.85
