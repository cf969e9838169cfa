"""What is known of two particles of a jet, and numbers for every attention head made of it.

The features are those of the Particle Transformer (Qu, Li, Qian, arXiv:2202.03772), after Dreyer and Qu
(arXiv:2012.08526): ln kT, ln z, ln Delta R and ln m2. All are symmetric, so a pair is looked at once, and stands in a
list of real pairs.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from jetscale.nn.listed import ListNorm
from jetscale.physics.kinematics import delta_phi

EPS = 1e-8  # the least kT, z, Delta R and m2 that are told apart
FEATURES = ("ln_kt", "ln_z", "ln_delta_r", "ln_m2")


class Legs(NamedTuple):
    """Particles by pt (GeV), rapidity, azimuth and mass (GeV), each (...)."""

    pt: Tensor
    rapidity: Tensor
    phi: Tensor
    mass: Tensor

    def at(self, index_E: Tensor) -> Legs:
        """Some of them, (E,)."""
        return Legs(*(one.index_select(0, index_E) for one in self))


def pair_features(one: Legs, other: Legs) -> Tensor:
    """ln kT, ln z, ln Delta R and ln m2 (GeV), (..., 4), of pairs of particles (...).

    The mass is a sum of positive terms, so that single precision keeps what E^2 - p^2 would lose. There is no root in
    it, so that gradients are finite where two particles are one.
    """
    phi, rapidity = delta_phi(one.phi, other.phi), one.rapidity - other.rapidity
    least, distance2 = torch.minimum(one.pt, other.pt), rapidity.square() + phi.square()
    m2_one, m2_other, pt2 = one.mass.square(), other.mass.square(), one.pt * other.pt
    transverse2 = ((m2_one + one.pt.square()) * (m2_other + other.pt.square())).clamp_min(EPS**2).sqrt()
    # m_T m_T' - pt pt', by the difference of their squares.
    excess = (m2_one * m2_other + m2_one * other.pt.square() + m2_other * one.pt.square()) / (transverse2 + pt2)
    angles = 2 * transverse2 * (rapidity / 2).sinh().square() + 2 * pt2 * (phi / 2).sin().square()
    return torch.stack(
        [
            (least.square() * distance2).clamp_min(EPS**2).log() / 2,
            (least / (one.pt + other.pt).clamp_min(EPS)).clamp_min(EPS).log(),
            distance2.clamp_min(EPS**2).log() / 2,
            (m2_one + m2_other + 2 * (excess + angles)).clamp_min(EPS).log(),
        ],
        -1,
    )


class PairEmbedding(nn.Module):
    """Features of pairs (E, 4) -> a number for each head (E, H), by layers with batch normalisation over real pairs and
    GELU; in single precision or better, whatever the precision of the weights."""

    def __init__(self, widths: tuple[int, ...], heads: int) -> None:
        super().__init__()
        widths = (len(FEATURES), *widths, heads)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(ListNorm(width) for width in widths)

    def forward(self, x_EC: Tensor) -> Tensor:
        """(E, 4) float32 or double -> (E, H) in the same precision."""
        x_EC = self.norms[0](x_EC)
        for layer, norm in zip(self.layers, self.norms[1:], strict=True):
            assert isinstance(layer, nn.Linear)
            z_EC = functional.linear(x_EC, layer.weight.to(x_EC.dtype), layer.bias.to(x_EC.dtype))
            x_EC = functional.gelu(norm(z_EC))
        return x_EC
