"""The flavour tagger: lists are cut and turned as they should be, and padding and order do not matter."""

import numpy as np
import pytest
import torch

from jetscale.data.batch import batch
from jetscale.schema import VERTICES
from jetscale.systems.deepjet import JET_COLUMNS, PARTICLE_COLUMNS, DeepJet, _best, _significance, lists
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


def seasoned(task: DeepJet) -> torch.nn.Module:
    """A network whose moments are of jets, so that its logits tell these apart."""
    net = task.build(1)
    batches = [task.tensors(rows(task, 40, 10 + seed)) for seed in range(3)]
    with torch.no_grad():
        for step in range(30):
            net(*batches[step % 3])
    return net.eval()


def shuffled(tensors):
    """The same jets with their particles and vertices in another order, padding among them."""
    jet, particle, vertex, mask_p, mask_v = tensors
    dice = torch.Generator().manual_seed(5)
    p, v = (torch.randperm(one.shape[1], generator=dice) for one in (particle, vertex))
    return jet, particle[:, p], vertex[:, v], mask_p[:, p], mask_v[:, v]


@pytest.mark.parametrize("network", NETWORKS)
def test_padding_and_order_change_nothing(network: str) -> None:
    task = DeepJet(network=network, width=32, layers=2)
    net, tensors = seasoned(task), task.tensors(rows(task))
    wanted = net(*tensors)
    spread = float(wanted.detach().std(0).max())
    assert wanted.shape == (40, 4) and spread > 3e-2

    def moved(changed) -> float:
        return float((net(*changed) - wanted).detach().abs().max()) / spread

    assert moved(wider(tensors)) < 1e-4 and moved(shuffled(tensors)) < 1e-4
    jet, particle, vertex, mask_p, mask_v = tensors
    assert moved((jet, particle.roll(1, 0), vertex, mask_p.roll(1, 0), mask_v)) > 0.1
    assert moved((jet, particle, vertex, mask_p, mask_v & False)) > 0.1


@pytest.mark.parametrize("network", NETWORKS)
def test_no_work_is_done_on_padding_but_while_tracing(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = DeepJet(network=network, width=32, layers=2)
    net, given = seasoned(task), task.tensors(rows(task))
    seen: list[torch.Size] = []
    steps: list[int] = []
    for layers in net.lists:
        layers.each[0].register_forward_hook(lambda _, given, out: seen.append(out.shape[:-1]))
        if network == "recurrent":
            layers.whole.register_forward_pre_hook(lambda _, given: steps.append(given[0].shape[1]))
    found = net(*given)
    charged = given[3] & (given[1][..., PARTICLE_COLUMNS.index("particle_charge")] != 0)
    counts = [charged.sum(1).clamp_max(25), (given[3] & ~charged).sum(1).clamp_max(25), given[4].sum(1).clamp_max(4)]
    assert seen == [(int(count.sum()),) for count in counts]
    assert steps == ([int(count.max()) for count in counts] if network == "recurrent" else [])
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    assert torch.allclose(found, net(*given), atol=1e-5) and found.std() > 1e-2
    assert seen[3:] == [(40, 25), (40, 25), (40, 4)]


def listed(task: DeepJet, tensors, of: int):
    stacks = zip(("jet", "particle", "vertex"), (JET_COLUMNS, PARTICLE_COLUMNS, VERTICES.names), tensors, strict=False)
    named = [
        {one.removeprefix(f"{kind}_"): stack[..., n] for n, one in enumerate(names)} for kind, names, stack in stacks
    ]
    return lists(task, *named, *tensors[3:])[of].features_BNC


@pytest.mark.parametrize("of", [0, 2])
def test_the_most_displaced_is_kept_however_far_it_is(of: int) -> None:
    """Of two tracks, or vertices, far beyond any limit the one of the larger significance."""
    task = DeepJet(tracks=1, vertices=1)
    jet, particle = task.tensors(rows(task, 1))[:2]
    particle, vertex = particle[:, :1].repeat(1, 3, 1), torch.ones(1, 3, len(VERTICES.names))
    particle[..., PARTICLE_COLUMNS.index("particle_charge")] = 1.0
    for stack, names, column in ((particle, PARTICLE_COLUMNS, "particle_d0"), (vertex, VERTICES.names, "vertex_dxy")):
        stack[..., names.index(f"{names[0].split('_')[0]}_pt")] = torch.tensor([60.0, 20.0, 40.0])
        stack[..., names.index(column)] = torch.tensor([9.0, 30.0, 12.0])
        stack[..., names.index(f"{column}_error")] = 0.02

    def kept(order: list[int]) -> torch.Tensor:
        there = torch.ones(1, len(order), dtype=torch.bool)
        return listed(task, (jet, particle[:, order], vertex[:, order], there, there), of)[..., :3]

    for order in ([0, 1, 2], [1, 2, 0], [2, 0, 1]):
        assert torch.allclose(kept(order), kept([1]))
    assert not torch.allclose(kept([0]), kept([1]))


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


def test_significances_keep_their_sign_and_those_of_tracks_have_no_tails() -> None:
    value, error = torch.tensor([1e9, -0.2, 0.3]), torch.tensor([0.01, 0.1, 0.0])
    found = _significance(value, error)
    assert found.tolist() == pytest.approx([np.log1p(1e11), -np.log(3.0), 0.0])
    task = DeepJet()
    tensors = task.tensors(rows(task))
    tensors[1][..., [PARTICLE_COLUMNS.index(f"particle_{name}") for name in ("d0", "dz")]] *= 1e6
    seen = listed(task, tensors, 0)[..., [3, 5]]
    assert seen.min() == -5 and seen.max() == 5


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
