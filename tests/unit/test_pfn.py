"""Flow networks: what must not matter does not, and what is not safe is not."""

import numpy as np
import pytest
import torch

from jetscale.data.batch import batch
from jetscale.errors import DataError
from jetscale.physics import species
from jetscale.physics.centred import centred, upright
from jetscale.physics.filters import power_law, sizes
from jetscale.systems.efn import EFN, filters
from jetscale.systems.pfn import PFN
from jetscale.tagger import Tagger
from jetscale.task import At

TASKS = {"pfn": PFN(), "efn": EFN(), "turned": PFN(turned=True), "id": PFN(ids="full"),
         "numbers": PFN(ids="experimental", encoding="number"), "turned efn": EFN(turned=True)}  # fmt: skip


def tensors(task: Tagger, n: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    rows = batch(
        [task.toy(n, 2)], task.columns, np.ones(n), np.zeros(n, dtype=np.int64), np.arange(n), At(0, 0, 0.0), 1
    )
    return task.tensors(rows)


@pytest.mark.parametrize("name", TASKS)
def test_order_and_padding_do_not_matter(name: str) -> None:
    task = TASKS[name]
    net, (particle, mask) = task.build(1).eval(), tensors(task)
    wanted = net(particle, mask)
    turned = torch.randperm(particle.shape[1], generator=torch.Generator().manual_seed(1))
    assert torch.allclose(net(particle[:, turned], mask[:, turned]), wanted, atol=1e-5)
    pad = torch.nn.functional.pad
    assert torch.allclose(net(pad(particle, (0, 0, 0, 9), value=2.0), pad(mask, (0, 9))), wanted, atol=1e-6)


@pytest.mark.parametrize("name", TASKS)
def test_no_work_is_done_on_padding(name: str) -> None:
    task = TASKS[name]
    net, (particle, mask) = task.build(1), tensors(task)
    mask[0] = False
    seen = []
    net.net.phi.register_forward_hook(lambda _, given, out: seen.append(given[0].shape[:-1]))
    found = net(particle, mask)
    assert seen == [(int(mask.sum()),)] and 0 < mask.sum() < mask.numel()
    net.net._flat = net.net._padded
    wanted = net(particle, mask)
    assert torch.allclose(found, wanted, atol=1e-6 * float(wanted.detach().abs().max()))
    ours, theirs = (torch.autograd.grad(one.square().sum(), list(net.parameters())) for one in (found, wanted))
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-5 * float(b.abs().max()))


@pytest.mark.parametrize("name", TASKS)
def test_jets_of_one_particle_and_of_none_are_finite(name: str) -> None:
    task = TASKS[name]
    net, (particle, mask) = task.build(1), tensors(task, 2)
    one = mask & (torch.arange(mask.shape[1]) == 0)
    assert torch.isfinite(net(particle, one)).all() and torch.isfinite(net(particle, mask & False)).all()


def changed(task: Tagger, particle: torch.Tensor, mask: torch.Tensor) -> dict[str, float]:
    """The largest change of the logits by a soft particle more, and by the first particle's split into two."""
    net, pad = task.build(1).double().eval(), torch.nn.functional.pad
    particle = particle.double()
    particle[..., 3] = 0.0  # a massive particle cannot be split along itself
    wanted = net(particle, mask)
    more, there = pad(particle, (0, 0, 0, 1)), pad(mask, (0, 1), value=True)
    soft = more.clone()
    soft[:, -1] = soft[:, 0]
    soft[:, -1, 0], soft[:, -1, 2] = 1e-9, soft[:, 0, 2] + 0.3
    split = more.clone()
    split[:, -1] = split[:, 0]
    split[:, -1, 0] *= 0.3
    split[:, 0, 0] *= 0.7
    found = {"soft": net(soft, there), "split": net(split, there)}
    return {name: (one - wanted).abs().max().item() for name, one in found.items()}


@pytest.mark.parametrize("name", TASKS)
def test_the_energy_flow_network_is_safe_and_no_other(name: str) -> None:
    found = changed(TASKS[name], *tensors(TASKS[name]))
    if isinstance(TASKS[name], EFN):
        assert max(found.values()) < 1e-5
    else:
        assert min(found.values()) > 1e-4


def test_the_centre_is_where_the_energy_is_also_across_the_seam() -> None:
    particle = {"pt": torch.tensor([[3.0, 1.0]]), "eta": torch.tensor([[1.0, 1.4]]),
                "phi": torch.tensor([[3.1, -3.1]]), "mass": torch.zeros(1, 2)}  # fmt: skip
    share, place = centred(particle, torch.ones(1, 2, dtype=torch.bool))
    assert share.tolist() == [[0.75, 0.25]]
    assert torch.allclose((share[..., None] * place).sum(1), torch.zeros(1, 2), atol=1e-6)
    assert float(place[0, 1, 1] - place[0, 0, 1]) == pytest.approx(2 * np.pi - 6.2, abs=1e-5)


def test_upright_jets_do_not_know_how_they_stood() -> None:
    dice = torch.Generator().manual_seed(3)
    share = torch.rand(20, 6, generator=dice, dtype=torch.float64).softmax(1)
    place = torch.randn(20, 6, 2, generator=dice, dtype=torch.float64)
    place -= (share[..., None] * place).sum(1, keepdim=True)
    wanted = upright(share, place)
    for angle in (0.3, 2.0, 3.0):
        cosine, sine = np.cos(angle), np.sin(angle)
        turned = place @ torch.tensor([[cosine, sine], [-sine, cosine]], dtype=torch.float64)
        assert torch.allclose(upright(share, turned), wanted, atol=1e-9)
    assert torch.allclose(upright(share, place * torch.tensor([-1.0, 1.0])), wanted, atol=1e-9)
    spread = (share[..., None] * wanted.square()).sum(1)
    assert (spread[:, 1] >= spread[:, 0] - 1e-12).all()
    assert ((share * wanted[..., 0] * wanted[..., 1]).sum(1).abs() < 1e-9).all()


def test_coarser_species_are_made_of_finer_ones() -> None:
    pdg = torch.tensor([list(species.FULL)])
    full, experimental, charge = (species.species(pdg, ids)[0] for ids in ("full", "experimental", "charge"))
    assert sorted(full.tolist()) == list(range(14))
    pairs = set(zip(experimental.tolist(), charge.tolist(), strict=True))
    assert len(pairs) == len({one for one, _ in pairs}) == 8 and {one for _, one in pairs} == {0, 1, 2}
    assert species.as_number(pdg, "full")[0, :, 0].tolist() == pytest.approx(list(species.FULL.values()))
    assert (species.one_hot(pdg, "experimental").sum(-1) == 1).all()


def test_unknown_species_are_named_or_of_no_species() -> None:
    task = PFN(ids="full")
    particle, mask = tensors(task, 4)
    particle[1, 0, 4] = 3122
    with pytest.raises(DataError, match=r"1 particles .* 3122"):
        task.build(1)(particle, mask)
    assert torch.isfinite(PFN(ids="full", unknown="zero").build(1)(particle, mask)).all()
    assert (species.one_hot(torch.tensor([[3122]]), "full") == 0).all()


@pytest.mark.parametrize("power", [1.5, 2.0, 2.5])
def test_the_power_of_made_up_filters_is_found(power: float) -> None:
    pixels, radius = 400, 1.0
    middle = -radius + 2 * radius / pixels * (np.arange(pixels) + 0.5)
    y, x = np.meshgrid(middle, middle, indexing="ij")
    made = []
    for distance in np.geomspace(0.15, 0.6, 12):
        size, angle = np.sqrt(0.12 * distance**power / np.pi), 7 * distance
        away = np.hypot(y - distance * np.cos(angle), x - distance * np.sin(angle))
        made.append(np.clip(1.5 - away / size, 0, 1))  # half of its maximum at its radius
    made.append(np.zeros_like(x))
    made.append(np.ones_like(x))  # touches the border all along
    found = sizes(np.array(made), radius)
    assert [one.filter for one in found] == list(range(12))
    law = power_law(found, radius)
    assert law.slope == pytest.approx(power, abs=0.05) and 0 < law.error < 0.1


def test_of_two_parts_the_larger_counts() -> None:
    one = np.zeros((50, 50))
    one[5:15, 30:40], one[40:43, 10:13] = 1.0, 1.0
    (found,) = sizes(one[None], 1.0)
    assert found.area == pytest.approx(100 * 0.04**2)
    with pytest.raises(DataError, match="1 filters can be measured"):
        power_law([found], 1.0)


def test_filters_are_the_latent_variables_on_the_plane() -> None:
    net = EFN(phi=(10, 6)).build(1)
    grid = filters(net, 0.8, 20)
    assert grid.shape == (6, 20, 20)
    place = torch.tensor([-0.8 + 0.08 * 3.5, -0.8 + 0.08 * 11.5])
    assert torch.allclose(grid[:, 3, 11], net.net.phi(place), atol=1e-6)


@pytest.mark.parametrize(("name", "value"), [("encoding", "number"), ("unknown", "zero")])
def test_options_that_would_do_nothing_are_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: {value} says nothing where ids are none"):
        PFN(**{"ids": "none", name: value})
    assert getattr(PFN(**{"ids": "charge", name: value}), name) == value
