"""Four-vectors: GeV and radians, (E, px, py, pz) on the last axis, in the precision the caller gives."""

from __future__ import annotations

import torch
from torch import Tensor


def p4(pt: Tensor, eta: Tensor, phi: Tensor, mass: Tensor) -> Tensor:
    """Four-vectors (..., 4) as (E, px, py, pz) in GeV from pt, eta, phi and mass (...)."""
    px, py, pz = pt * torch.cos(phi), pt * torch.sin(phi), pt * torch.sinh(eta)
    energy = torch.sqrt((pt * torch.cosh(eta)) ** 2 + mass**2)
    return torch.stack((energy, px, py, pz), dim=-1)


def mass(p4: Tensor, floor: float = 0.0) -> Tensor:
    """Invariant mass (...) in GeV of four-vectors (..., 4): sqrt(max(E^2 - p^2, floor^2)).

    A floor above 0 (GeV) keeps the gradient finite at small masses, so training needs one. E^2 - p^2 cancels: single
    precision leaves about 0.6 GeV to a massless jet of 2 TeV, so evaluate in double.
    """
    squared = p4[..., 0] ** 2 - p4[..., 1:].square().sum(-1)
    return torch.sqrt(squared.clamp_min(floor**2))


def pt(p4: Tensor) -> Tensor:
    """Transverse momentum (...) in GeV of four-vectors (..., 4)."""
    return torch.hypot(p4[..., 1], p4[..., 2])


def eta(p4: Tensor) -> Tensor:
    """Pseudorapidity (...) of four-vectors (..., 4); finite along the beam, 0 for an empty vector."""
    return torch.asinh(p4[..., 3] / pt(p4).clamp_min(1e-12))


def phi(p4: Tensor) -> Tensor:
    """Azimuth (...) in [-pi, pi] of four-vectors (..., 4); 0 for an empty vector."""
    return torch.atan2(p4[..., 2], p4[..., 1])


def delta_phi(a: Tensor, b: Tensor) -> Tensor:
    """Difference a - b of two azimuths (...), in [-pi, pi]."""
    return torch.atan2(torch.sin(a - b), torch.cos(a - b))


def delta_r(a: Tensor, b: Tensor) -> Tensor:
    """Distance sqrt(delta_eta^2 + delta_phi^2) (...) of four-vectors a and b (..., 4)."""
    return torch.hypot(eta(a) - eta(b), delta_phi(phi(a), phi(b)))
