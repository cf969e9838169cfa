"""From the columns of jets and their particles to what networks on particle clouds take in.

A network is called with plain columns, so that scaling is inside and the weights are all that an application needs:
`jet_B4` holds pt, eta, phi, mass of the jets and `particle_BPR` the columns `raw(selection)` of their particles.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from jetscale.physics import constituents, kinematics
from jetscale.physics.constituents import Selection

MOMENTUM = ("pt", "eta", "phi", "mass")
IDS = ("pdg", "charge")
IMPACT = ("d0", "d0_error", "dz", "dz_error")


class Cloud(NamedTuple):
    """Features (B, P, C) and places about the axis (B, P, 2), 0 where padded, the particles' four-vectors as they are
    (B, P, 4), and which particles are real (B, P)."""

    features_BPC: Tensor
    points_BP2: Tensor
    p4_BP4: Tensor
    mask_BP: Tensor


def raw(selection: Selection) -> tuple[str, ...]:
    """The columns of particles, without `particle_`, that features are made of."""
    return {"kinematics": MOMENTUM, "ids": (*MOMENTUM, *IDS), "full": (*MOMENTUM, *IDS, *IMPACT)}[selection]


def columns(selection: Selection) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The same as whole names: of jets, and of particles."""
    return tuple(f"jet_{name}" for name in MOMENTUM), tuple(f"particle_{name}" for name in raw(selection))


class ParticleInputs(nn.Module):
    """Features of particles, shifted and scaled by published numbers, or by the moments that were fitted."""

    shift_C: Tensor
    scale_C: Tensor
    low_C: Tensor
    high_C: Tensor

    def __init__(self, selection: Selection, moments: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        self.selection: Selection = selection
        self.names = constituents.names(selection)
        scalings = [constituents.FEATURES[name] for name in self.names]
        shift_C, scale_C, low_C, high_C = (torch.tensor(one) for one in zip(*scalings, strict=True))
        if moments is not None:
            shift_C, scale_C = moments["mean"].clone(), 1.0 / moments["deviation"]
            low_C, high_C = torch.full_like(shift_C, -5.0), torch.full_like(shift_C, 5.0)
        for name, one in (("shift_C", shift_C), ("scale_C", scale_C), ("low_C", low_C), ("high_C", high_C)):
            self.register_buffer(name, one)

    def forward(self, jet_B4: Tensor, particle_BPR: Tensor, mask_BP: Tensor) -> Cloud:
        """(B, 4), (B, P, R) and the mask (B, P): float32 or double, whatever the precision of the weights.

        Raises:
            DataError: a particle that is of no kind, where it is looked at what particles are.
        """
        jet, particle = named(jet_B4, particle_BPR, self.selection)
        if "pdg" in particle and not torch.compiler.is_exporting():
            constituents.check(particle["pdg"], mask_BP)
        plain_BPC = self.plain(jet_B4, particle_BPR)
        scaled_BPC = ((plain_BPC - self.shift_C.to(plain_BPC.dtype)) * self.scale_C.to(plain_BPC.dtype)).clamp(
            self.low_C.to(plain_BPC.dtype), self.high_C.to(plain_BPC.dtype)
        )
        real_BP1 = mask_BP[..., None]
        points_BP2 = torch.where(real_BP1, torch.stack(constituents.about_axis(jet, particle), -1), 0.0)
        p4_BP4 = kinematics.p4(*(particle[name] for name in MOMENTUM))
        return Cloud(torch.where(real_BP1, scaled_BPC, 0.0), points_BP2, torch.where(real_BP1, p4_BP4, 0.0), mask_BP)

    def plain(self, jet_B4: Tensor, particle_BPR: Tensor) -> Tensor:
        """Features as they are, (B, P, C): what moments are fitted to."""
        return constituents.features(self.names, *named(jet_B4, particle_BPR, self.selection))


def named(jet_B4: Tensor, particle_BPR: Tensor, selection: Selection) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The columns of jets (B,) and of particles (B, P) by their short names."""
    jet = dict(zip(MOMENTUM, jet_B4.unbind(-1), strict=True))
    return jet, dict(zip(raw(selection), particle_BPR.unbind(-1), strict=True))


def hardest(particle_BPR: Tensor, mask_BP: Tensor, most: int | None) -> tuple[Tensor, Tensor]:
    """The first `most` particles, (B, N, R) and (B, N), the hardest, for they are in falling pt by the schema; None:
    all of them. While a network is traced there are always as many slots."""
    if most is None:
        return particle_BPR, mask_BP
    if torch.compiler.is_exporting():
        particle_BPR, mask_BP = functional.pad(particle_BPR, (0, 0, 0, most)), functional.pad(mask_BP, (0, most))
    return particle_BPR[:, :most], mask_BP[:, :most]
