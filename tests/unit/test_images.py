"""Images of jets: where a particle lands, that none is lost unseen, and what preprocessing takes away."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from jetscale.physics import images

Particles = dict[str, Tensor]
DOUBLE = torch.float64


def some(jets: int = 40, particles: int = 30, seed: int = 1) -> tuple[Particles, Particles, Tensor]:
    """Jets with random axes, particles about them, some beyond 0.8, and which of them are real."""
    dice = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.rand(*shape, generator=dice, dtype=DOUBLE)
    jet = {"pt": 500 + 100 * draw(jets), "eta": 4 * draw(jets) - 2, "phi": 2 * math.pi * draw(jets) - math.pi}
    away = 0.4 * torch.randn(2, jets, particles, generator=dice, dtype=DOUBLE)
    particle = {
        "pt": 100 * draw(jets, particles) ** 4 + 0.1, "eta": jet["eta"][:, None] + away[0],
        "phi": torch.remainder(jet["phi"][:, None] + away[1] + math.pi, 2 * math.pi) - math.pi,
        "mass": torch.zeros(jets, particles, dtype=DOUBLE),
    }  # fmt: skip
    return jet, particle, draw(jets, particles) < 0.8


def made(how: images.Preprocess, jet: Particles, particle: Particles, mask: Tensor, size: int = 32, reach: float = 0.8
         ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The image (B, N, N), the share outside and the counts."""
    count, place = images.placed(how, jet, particle, mask, 2 * reach / size)
    cell = images.cells(place, size, reach)
    return images.image(count[:, None], cell, size)[:, 0], images.outside(count, cell, size), count


@pytest.mark.parametrize("how", ["raw", "axis", "preprocessed"])
def test_all_pt_is_in_a_pixel_or_is_said_to_be_outside(how: images.Preprocess) -> None:
    image, outside, count = made(how, *some())
    assert torch.allclose(image.sum((1, 2)), count.sum(1) * (1 - outside), rtol=1e-12)
    assert (outside > 0.01).sum() > 20


def test_pixels_are_those_of_a_histogram() -> None:
    jet, particle, mask = some()
    count, place = images.placed("axis", jet, particle, mask, 0.05)
    image = images.image(count[:, None], images.cells(place, 32, 0.8), 32)[:, 0]
    edges = np.linspace(-0.8, 0.8, 33)
    for row in range(len(mask)):
        wanted, _, _ = np.histogram2d(*place[row].T.numpy(), bins=[edges, edges], weights=count[row].numpy())
        assert np.allclose(image[row].numpy(), wanted, atol=1e-12)


def test_the_pixel_of_a_particle_by_hand() -> None:
    # Four pixels a side over [-1, 1]: edges at -1, -0.5, 0, 0.5, 1, exact in binary.
    place = torch.tensor([[[-1.0, -1.0], [-0.5, 0.0], [-0.51, -0.01], [0.49, 0.99], [1.0, 0.5], [1.0, 1.0],
                           [1.001, 0.0], [0.0, -1.001], [torch.nan, 0.0], [torch.inf, 0.0]]])  # fmt: skip
    assert images.cells(place, 4, 1.0).tolist() == [[0, 6, 1, 11, 15, 15, 16, 16, 16, 16]]


def test_particles_of_one_pixel_add_up_and_padding_is_nowhere() -> None:
    jet = {"pt": torch.tensor([100.0]), "eta": torch.tensor([-1.0]), "phi": torch.tensor([3.1])}
    particle = {"pt": torch.tensor([[50.0, 30.0, 20.0, 7.0]]), "eta": torch.tensor([[-0.9, -0.9, -1.3, -1.0]]),
                "phi": torch.tensor([[3.1, 3.1, 3.1 + 0.3 - 2 * math.pi, 3.1]]), "mass": torch.zeros(1, 4)}  # fmt: skip
    mask = torch.tensor([[True, True, True, False]])
    image, outside, _ = made("axis", jet, particle, mask, 4, 1.0)
    wanted = torch.zeros(4, 4)
    # About the axis pseudorapidities are -0.1 and 0.3 once mirrored; azimuths 0 and 0.3 across the seam.
    wanted[1, 2], wanted[2, 2] = 0.8, 0.2
    assert torch.allclose(image[0], wanted, atol=1e-6) and outside.tolist() == [0.0]


def test_raw_images_keep_the_cells_of_the_detector() -> None:
    dice = np.random.default_rng(3)
    width = 0.05
    particle = {"pt": torch.tensor([[100.0]]), "eta": torch.tensor([[0.512]]), "phi": torch.tensor([[1.037]]),
                "mass": torch.zeros(1, 1)}  # fmt: skip
    for eta, phi in dice.uniform([-0.2, 0.4], [1.2, 1.7], (50, 2)):
        jet = {"pt": torch.tensor([100.0]), "eta": torch.tensor([eta]), "phi": torch.tensor([phi])}
        image, _, _ = made("raw", jet, particle, torch.ones(1, 1, dtype=torch.bool), 32, 0.8)
        row, column = (int(one) for one in image[0].nonzero()[0])
        # Its cell is the tenth of pseudorapidity and the twentieth of azimuth, wherever the axis is.
        assert (row - 16 + round(eta / width), column - 16 + round(phi / width)) == (10, 20)
        assert image.max() == pytest.approx(1.0)  # 100 GeV


def turned(jet: Particles, particle: Particles, angle: float, mirrored: bool = False) -> Particles:
    """The particles turned about the jet's axis."""
    x, y = particle["eta"] - jet["eta"][:, None], particle["phi"] - jet["phi"][:, None]
    y = torch.remainder(y + math.pi, 2 * math.pi) - math.pi
    x = -x if mirrored else x
    eta = jet["eta"][:, None] + math.cos(angle) * x - math.sin(angle) * y
    return {**particle, "eta": eta, "phi": jet["phi"][:, None] + math.sin(angle) * x + math.cos(angle) * y}


def test_a_quarter_turn_of_the_particles_is_one_of_the_image() -> None:
    jet, particle, mask = some()
    jet["eta"] = jet["eta"].abs()
    image, _, _ = made("axis", jet, particle, mask)
    quarter, _, _ = made("axis", jet, turned(jet, particle, math.pi / 2), mask)
    assert torch.allclose(quarter, image.rot90(1, (1, 2)), atol=1e-12) and not torch.allclose(quarter, image, atol=0.01)


@pytest.mark.parametrize(("angle", "mirrored"), [(0.4, False), (math.pi, False), (0.0, True), (2.1, True)])
def test_turning_and_mirroring_change_no_preprocessed_image(angle: float, mirrored: bool) -> None:
    jet, particle, mask = some()
    other = turned(jet, particle, angle, mirrored)
    a, b = (made("preprocessed", jet, one, mask)[0] for one in (particle, other))
    # Particles on the edge of a pixel may land on either side of it by rounding.
    assert ((a - b).abs().amax((1, 2)) < 1e-9).double().mean() > 0.99
    a, b = (made("axis", jet, one, mask)[0] for one in (particle, other))
    assert ((a - b).abs().amax((1, 2)) > 0.01).all()


def test_preprocessed_images_are_shares_of_upright_jets() -> None:
    image, outside, _ = made("preprocessed", *some(), 256, 3.2)
    assert torch.allclose(image.sum((1, 2)), torch.ones(40, dtype=DOUBLE)) and outside.max() == 0
    middle = (torch.arange(256, dtype=DOUBLE) - 127.5) * 0.025
    x, y = ((image.sum(axis) * middle).sum(1) for axis in (2, 1))
    assert max(x.abs().max(), y.abs().max()) < 0.0125  # the mean, but for half a pixel
    assert (image[:, 128:].sum((1, 2)) >= 0.5).all() and (image[:, :, 128:].sum((1, 2)) >= 0.5).all()
    spread_x, spread_y = ((image.sum(axis) * middle.square()).sum(1) for axis in (2, 1))
    assert (spread_y - spread_x).min() > -0.01


def test_parts_of_the_detector_see_what_they_can() -> None:
    names = ("photon", "electron", "muon", "charged", "neutral", "unknown")
    particle = {"pdg": torch.tensor([[22.0, 11.0, -13.0, 211.0, 130.0, 0.0]]),
                "charge": torch.tensor([[0.0, -1.0, 1.0, 1.0, 0.0, 0.0]])}  # fmt: skip
    seen = images.by_detector(torch.ones(1, 6), particle)[0].bool()
    said = [{name for name, one in zip(names, row, strict=True) if one} for row in seen]
    assert said == [{"electron", "muon", "charged"}, {"photon", "electron"}, {"charged", "neutral", "unknown"}]


def test_jets_of_nothing_are_black() -> None:
    jet, particle, mask = some(3)
    for how in ("raw", "axis", "preprocessed"):
        image, outside, _ = made(how, jet, particle, mask & False)
        assert image.abs().sum() == 0 and outside.tolist() == [0, 0, 0]
