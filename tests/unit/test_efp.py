"""Energy flow polynomials: as many as there are, equal to their definition, safe in the infrared."""

from itertools import product
from math import prod

import numpy as np
import pytest
import torch

from jetscale.data.batch import batch
from jetscale.physics import efp
from jetscale.systems.efp import EFP, polynomials
from jetscale.task import At


def test_there_are_as_many_graphs_as_were_counted() -> None:
    # arXiv:1712.07124, table 1: connected ones, and all with at most so many edges (less the one without any).
    assert [len(efp.connected(edges)) for edges in range(1, 7)] == [1, 2, 5, 12, 33, 103]
    assert [len(efp.basis(most)) for most in range(1, 7)] == [1, 4, 12, 35, 101, 313]
    assert len(set(efp.basis(6))) == 313 and efp.basis(6) is efp.basis(6)


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_the_sums_are_those_of_the_definition(beta: float) -> None:
    dice = np.random.default_rng(1)
    share, place = dice.dirichlet(np.ones(4)), dice.normal(0, 0.3, (4, 2))
    angle = np.linalg.norm(place[:, None] - place[None], axis=-1) ** beta
    graphs = [graph for edges in range(1, 7) for graph in efp.connected(edges) if max(map(max, graph)) < 4]
    found = efp.polynomials(torch.tensor(share)[None], torch.tensor(place)[None], graphs, beta)
    for graph in graphs:
        vertices = 1 + max(map(max, graph))
        wanted = sum(
            prod(share[list(particles)]) * prod(angle[particles[k], particles[m]] for k, m in graph)
            for particles in product(range(4), repeat=vertices)
        )
        assert found[graph].item() == pytest.approx(wanted, rel=1e-10)


def test_the_simplest_is_the_mass() -> None:
    share, place = torch.tensor([[0.25, 0.75, 0.0]]), torch.tensor([[[0.0, 0.0], [0.3, 0.4], [9.0, 9.0]]])
    (graph,) = efp.connected(1)
    assert efp.polynomials(share, place, [graph], 2.0)[graph].item() == pytest.approx(2 * 0.25 * 0.75 * 0.25, rel=1e-6)


@pytest.mark.parametrize("beta", [2.0, 1.0, 0.5, 0.1])
def test_a_particle_has_no_angle_to_itself(beta: float) -> None:
    share, place = torch.tensor([[0.5, 0.5, 0.0]]), torch.zeros(1, 3, 2, requires_grad=True)
    found = efp.polynomials(share, place, efp.connected(1) + efp.connected(3), beta)
    assert all(one.item() == 0 for one in found.values())
    sum(found.values()).sum().backward()
    assert torch.isfinite(place.grad).all()


def test_many_jets_have_what_each_has_alone() -> None:
    task = EFP(edges=3)
    particle, mask = task.tensors(rows(task, 120, 4))
    found = polynomials(task, particle, mask)
    alone = torch.cat([polynomials(task, *one) for one in zip(particle.split(1), mask.split(1), strict=True)])
    assert found.shape == (120, 12) and torch.allclose(found, alone, rtol=1e-5)
    assert polynomials(task, particle[:0], mask[:0]).shape == (0, 12)


def rows(task: EFP, n: int, seed: int):
    return batch([task.toy(n, seed)], task.columns, np.ones(n), np.zeros(n, dtype=np.int64), np.arange(n),
                 At(0, 0, 0.0), 1)  # fmt: skip


def test_padding_order_and_splitting_do_not_matter() -> None:
    task = EFP()
    net, (particle, mask) = task.build(1).double(), task.tensors(rows(task, 20, 1))
    particle = particle.double()
    wanted = net(particle, mask)
    pad = torch.nn.functional.pad
    more, there = pad(particle, (0, 0, 0, 1)), pad(mask, (0, 1), value=True)
    assert torch.allclose(net(pad(particle, (0, 0, 0, 5), value=1.0), pad(mask, (0, 5))), wanted, atol=1e-9)
    split = more.clone()
    split[:, -1] = split[:, 0]
    split[:, -1, 0] *= 0.3
    split[:, 0, 0] *= 0.7
    assert torch.allclose(net(split, there), wanted, atol=1e-5)
    turned = torch.randperm(particle.shape[1], generator=torch.Generator().manual_seed(1))
    assert torch.allclose(net(particle[:, turned], mask[:, turned]), wanted, atol=1e-6)
    assert torch.isfinite(net(particle, mask & False)).all()


@pytest.mark.claims
def test_a_line_through_them_tells_quarks_from_gluons() -> None:
    task = EFP(edges=3)
    seen = rows(task, 1500, 1)
    moments = task.needs()["polynomials"]
    net = task.build(1, {"polynomials": moments.numbers(moments.sums(seen))})
    optimiser = torch.optim.AdamW(net.parameters(), lr=0.05)
    for _ in range(100):
        optimiser.zero_grad()
        task.loss(net, seen)["class"].mean().backward()
        optimiser.step()
    new = rows(task, 1500, 2)
    score = task.score(net.eval(), new)["probability_quark"]
    quark = task.class_of(new) == 1
    auc = (score[quark][:, None] > score[~quark]).float().mean().item()
    assert auc > 0.75
