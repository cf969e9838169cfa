"""Made-up jets for tests of pure functions, and what may be done to all of them at once."""

import math

import torch

from jetscale.physics import groupings, kinematics


def events(seed: int, n_event: int = 20, n_jet: int = 10, fewest: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Falling pt, `fewest` to `n_jet` real jets, double precision."""
    dice = torch.Generator().manual_seed(seed)
    shape = (n_event, n_jet)
    pt = (30 + 300 * torch.rand(shape, generator=dice, dtype=torch.float64)).sort(-1, descending=True).values
    eta = 4 * torch.rand(shape, generator=dice, dtype=torch.float64) - 2
    phi = 6.2 * torch.rand(shape, generator=dice, dtype=torch.float64) - 3.1
    mass = 0.1 * pt * torch.rand(shape, generator=dice, dtype=torch.float64)
    count = torch.randint(fewest, n_jet + 1, (n_event, 1), generator=dice)
    mask = torch.arange(n_jet) < count
    return kinematics.p4(pt, eta, phi, mass) * mask[..., None], mask


def masses(p4: torch.Tensor, assigned: torch.Tensor) -> torch.Tensor:
    found = groupings.reconstruct(p4, assigned)
    return torch.stack((found.mass_B, found.asymmetry_B, torch.minimum(found.mass_1_B, found.mass_2_B)))


def rotated(p4: torch.Tensor, angle: float) -> torch.Tensor:
    energy, px, py, pz = p4.unbind(-1)
    c, s = math.cos(angle), math.sin(angle)
    return torch.stack((energy, c * px - s * py, s * px + c * py, pz), -1)


def boosted(p4: torch.Tensor, rapidity: float) -> torch.Tensor:
    energy, px, py, pz = p4.unbind(-1)
    c, s = math.cosh(rapidity), math.sinh(rapidity)
    return torch.stack((c * energy + s * pz, px, py, s * energy + c * pz), -1)
