"""Particle Transformer: order, padding and gaps do not matter, jets of little are no trouble, numbers are exact."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from jetscale.data.batch import batch
from jetscale.nn.pairs import Legs, pair_features
from jetscale.nn.places import Ragged, taken
from jetscale.nn.transformer import ParticleBlock
from jetscale.physics import constituents, kinematics
from jetscale.systems.particle_transformer import ParticleTransformer
from jetscale.task import At, Batch

SMALL = {"embed": (16, 24), "pair_embed": (8, 8), "heads": 4, "blocks": 2, "class_blocks": 2}
TASKS = {"small": ParticleTransformer(**SMALL), "full": ParticleTransformer(**SMALL, features="full"),
         "fitted": ParticleTransformer(**SMALL, features="ids", standardise="fitted"),
         "still": ParticleTransformer(**SMALL, dropout=0.0)}  # fmt: skip
pad = nn.functional.pad


def rows(task: ParticleTransformer, n: int = 24, seed: int = 1) -> Batch:
    return batch([task.toy(n, seed)], task.columns, np.ones(n), np.zeros(n, dtype=np.int64), np.arange(n),
                 At(0, 0, 0.0), 1)  # fmt: skip


def given(task: ParticleTransformer, n: int = 24) -> tuple[Tensor, Tensor, Tensor]:
    jet, particle, mask = task.tensors(rows(task, n))
    return jet, particle, mask


def seasoned(task: ParticleTransformer) -> nn.Module:
    """A network whose moments are no longer 0 and 1."""
    net = task.build(1)
    for seed in range(3):
        net(*task.tensors(rows(task, 24, seed)))
    return net.eval()


def spread_out(particle: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The same particles with gaps of rubbish between them, in another order, and more padding."""
    wide, real = pad(particle, (0, 0, 3, 9), value=2.0), pad(mask, (3, 9))
    turned = torch.randperm(wide.shape[1], generator=torch.Generator().manual_seed(1))
    return wide[:, turned], real[:, turned]


@pytest.mark.parametrize("name", TASKS)
def test_order_padding_and_gaps_do_not_matter(name: str) -> None:
    task = TASKS[name]
    net, (jet, particle, mask) = seasoned(task), given(task)
    wanted = net(jet, particle, mask)
    assert wanted.shape == (24, 2) and wanted.std() > 1e-3
    assert torch.allclose(net(jet, *spread_out(particle, mask)), wanted, atol=1e-5)


def test_what_a_jet_is_does_not_depend_on_its_neighbours_in_the_batch() -> None:
    task = TASKS["small"]
    net, (jet, particle, mask) = seasoned(task), given(task)
    wanted = net(jet, particle, mask)
    backwards = torch.arange(23, -1, -1)
    assert torch.allclose(net(jet[backwards], particle[backwards], mask[backwards]), wanted[backwards], atol=1e-5)
    for one in range(0, 24, 7):
        alone = slice(one, one + 1)
        assert torch.allclose(net(jet[alone], particle[alone], mask[alone]), wanted[alone], atol=1e-5)


def test_nothing_trained_knows_of_padding() -> None:
    task = TASKS["still"]
    jet, particle, mask = given(task)
    nets = [task.build(1), task.build(1)]
    for net, shown in zip(nets, ((particle, mask), spread_out(particle, mask)), strict=True):
        net(jet, *shown)[:, 0].sum().backward()
    for one, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-4 * (1 + one.grad.abs().max().item()))
    for one, other in zip(nets[0].buffers(), nets[1].buffers(), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_moments_are_those_of_real_particles_and_of_pairs_seen_once() -> None:
    task = TASKS["small"]
    jet, particle, mask = given(task)
    net = task.build(1)
    net(jet, particle, mask)
    features = net.scaled(jet, particle, mask).features_BPC[mask]
    assert torch.allclose(net.norm.mean_C, 0.1 * features.mean(0), atol=1e-6)
    pt, eta, phi, mass = particle.unbind(-1)
    rapidity = constituents.rapidity({"pt": pt, "eta": eta, "mass": mass})
    seen = []
    for jet_number, of_jet in enumerate(mask):
        places = of_jet.nonzero().squeeze(1)
        one, other = torch.combinations(places, with_replacement=True).unbind(1)
        legs = Legs(*(column[jet_number] for column in (pt, rapidity, phi, mass)))
        seen.append(pair_features(legs.at(one), legs.at(other)))
    norm = net.pairs.norms[0]
    assert torch.allclose(norm.mean_C, 0.1 * torch.cat(seen).mean(0), atol=1e-5)
    assert torch.allclose(norm.variance_C, 0.9 + 0.1 * torch.cat(seen).var(0), rtol=1e-4)


def test_pairs_are_what_four_vectors_say() -> None:
    dice = torch.Generator().manual_seed(2)
    pt, eta, phi, mass = (torch.rand(2, 500, generator=dice, dtype=torch.float64) * size - start
                          for size, start in ((90, -1), (4, 2), (2 * math.pi, math.pi), (1, 0)))  # fmt: skip
    rapidity = constituents.rapidity({"pt": pt, "eta": eta, "mass": mass})
    one, other = (Legs(pt[n], rapidity[n], phi[n], mass[n]) for n in (0, 1))
    energy, px, py, pz = kinematics.p4(pt, eta, phi, mass).sum(0).unbind(-1)
    apart = torch.sqrt((rapidity[0] - rapidity[1]) ** 2 + kinematics.delta_phi(phi[0], phi[1]) ** 2)
    least = pt.amin(0)
    wanted = [least * apart, least / pt.sum(0), apart, energy**2 - px**2 - py**2 - pz**2]
    assert torch.allclose(pair_features(one, other), torch.stack(wanted, -1).log(), atol=1e-8)
    assert torch.equal(pair_features(one, other), pair_features(other, one))


def test_light_pairs_keep_their_mass_in_single_precision() -> None:
    legs = [Legs(*(torch.tensor([number]) for number in numbers))
            for numbers in ((500.0, 2.0, 1.0, 0.0), (400.0, 2.0001, 1.0001, 0.0))]  # fmt: skip
    wanted = math.log(2 * 500 * 400 * (math.cosh(1e-4) - math.cos(1e-4)))
    assert pair_features(*legs)[0, 3].item() == pytest.approx(wanted, rel=2e-3)


@pytest.mark.parametrize("name", TASKS)
def test_jets_of_one_particle_and_of_none_are_finite(name: str) -> None:
    task = TASKS[name]
    net, (jet, particle, mask) = task.build(1), given(task, 4)
    one = mask & (torch.arange(mask.shape[1]) == 0)
    one[0] = False
    for shown in (one, mask & False):
        out = net(jet, particle, shown)
        assert torch.isfinite(out).all()
        out.sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in net.parameters())


def test_particles_that_are_one_have_finite_gradients() -> None:
    task = TASKS["still"]
    net, (jet, particle, mask) = task.build(1), given(task)
    particle = particle[:, :1].expand_as(particle).clone().requires_grad_()
    net(jet, particle, mask).square().sum().backward()
    assert torch.isfinite(particle.grad).all() and particle.grad.abs().max() > 0
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", TASKS)
def test_tracing_and_running_are_one_function(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = TASKS[name]
    net, tensors = seasoned(task), given(task)
    flat = net(*tensors)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    assert torch.allclose(net(*tensors), flat, atol=1e-5)
    jet, particle, mask = tensors
    assert torch.allclose(net(jet, *spread_out(particle, mask)), flat, atol=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_half_precision_is_near(name: str) -> None:
    task = TASKS[name]
    net, tensors = seasoned(task), given(task)
    wanted = net(*tensors)
    near = net.bfloat16()(*tensors)
    assert near.dtype == torch.float32 and (near - wanted).square().mean().sqrt() < 0.06 * wanted.std()
    net.train()(*tensors).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


def test_dropout_is_drawn_from_the_seed_and_only_in_training() -> None:
    task = TASKS["small"]
    net, tensors = task.build(1), given(task)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(net(*tensors))
    assert torch.equal(drawn[0], drawn[1]) and not torch.allclose(drawn[0], drawn[2], atol=1e-3)
    net.eval()
    assert torch.equal(net(*tensors), net(*tensors))


def test_weights_are_those_of_the_seed() -> None:
    task = TASKS["small"]
    before = torch.random.get_rng_state()
    one, same, other = (task.build(seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.blocks[0].wide.weight, other.blocks[0].wide.weight)


def test_a_block_is_attention_of_a_plain_kind() -> None:
    """Jet by jet, with torch's own attention, against all jets in one flat array."""
    block = ParticleBlock(24, 4, 0.0).double()
    block.of_head.data, block.of_residual.data = torch.rand(4).double(), torch.rand(24).double()
    dice = torch.Generator().manual_seed(3)
    mask = torch.rand(7, 11, generator=dice) < 0.6
    places = Ragged(mask)
    pairs = places.pairs()
    x_NC = torch.randn(len(places.place_N), 24, generator=dice, dtype=torch.float64)
    numbers_EH = torch.randn(len(pairs.one_E), 4, generator=dice, dtype=torch.float64)
    got_NC = block(x_NC, places, places.biases(numbers_EH))
    for jet in range(7):
        of_jet = (places.place_N // 11 == jet).nonzero().squeeze(1)
        bias = torch.zeros(4, len(x_NC), len(x_NC), dtype=torch.float64)
        bias[:, pairs.one_E, pairs.other_E] = bias[:, pairs.other_E, pairs.one_E] = numbers_EH.t()
        bias = bias[:, of_jet][:, :, of_jet]
        x = x_NC[of_jet]
        q, k, v = (one.view(-1, 4, 6).transpose(0, 1) for one in block.three(block.before_attention(x)).chunk(3, -1))
        heads = ((q @ k.mT) / math.sqrt(6) + bias).softmax(-1) @ v
        mixed = block.mixed(heads.transpose(0, 1).flatten(1)).view(-1, 4, 6) * block.of_head[:, None]
        x = x + block.after_attention(mixed.flatten(1))
        wide = block.after_forward(nn.functional.gelu(block.wide(block.before_forward(x))))
        assert torch.allclose(got_NC[of_jet], block.narrow(wide) + x * block.of_residual, atol=1e-12)


def test_gradients_are_those_of_differences() -> None:
    dice = torch.Generator().manual_seed(4)
    mask = torch.rand(5, 6, generator=dice) < 0.7
    places = Ragged(mask)
    pairs = places.pairs()
    numbers = torch.randn(len(pairs.one_E), 2, generator=dice, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: tuple(places.biases(x)), (numbers,))
    rows_M = torch.randn(40, 3, generator=dice, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(taken, (rows_M, places.slot_N))


def test_second_derivatives_are_refused() -> None:
    rows_M = torch.randn(4, 3).requires_grad_()
    (slope,) = torch.autograd.grad(taken(rows_M, torch.tensor([0, 2])).square().sum(), rows_M,
                                   create_graph=True)  # fmt: skip
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


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


@pytest.mark.parametrize(("settings", "said"), [({"heads": 7}, "heads: 7 do not divide 128"), ({"embed": ()}, "embed"),
                                                ({"heads": 0}, "heads"), ({"dropout": 1.0}, "dropout"),
                                                ({"class_blocks": 0}, "class_blocks")])  # fmt: skip
def test_settings_that_cannot_be_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ParticleTransformer(**settings)
