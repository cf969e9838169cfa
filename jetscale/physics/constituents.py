"""What a network sees of a jet's particles: coordinates about the axis, and features by name.

Names and order of the features, and the numbers that shift and scale them, are those of the JetClass data set's
reference configuration (Qu, Li, Qian, arXiv:2202.03772). Shapes: jets (B,), particles (B, P).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from jetscale.errors import DataError
from jetscale.physics.kinematics import delta_phi

Selection = Literal["kinematics", "ids", "full"]
TINY = 1e-8


class Scaling(NamedTuple):
    """(value - shift) * scale, kept within [low, high]."""

    shift: float = 0.0
    scale: float = 1.0
    low: float = -5.0
    high: float = 5.0


FEATURES: Mapping[str, Scaling] = MappingProxyType(
    {
        "log_pt": Scaling(1.7, 0.7),
        "log_e": Scaling(2.0, 0.7),
        "log_pt_rel": Scaling(-4.7, 0.7),
        "log_e_rel": Scaling(-4.7, 0.7),
        "delta_r": Scaling(0.2, 4.0),
        "charge": Scaling(),
        "charged_hadron": Scaling(),
        "neutral_hadron": Scaling(),
        "photon": Scaling(),
        "electron": Scaling(),
        "muon": Scaling(),
        "d0": Scaling(),  # its tanh
        "d0_error": Scaling(low=0.0, high=1.0),
        "dz": Scaling(),  # its tanh
        "dz_error": Scaling(low=0.0, high=1.0),
        "delta_eta": Scaling(),
        "delta_phi": Scaling(),
    }
)
IDS = ("charge", "charged_hadron", "neutral_hadron", "photon", "electron", "muon")
TRACKS = ("d0", "d0_error", "dz", "dz_error")


def names(selection: Selection) -> tuple[str, ...]:
    """The features of a selection, in order: momenta alone, with what the particles are, with their tracks too."""
    left_out = {"kinematics": {*IDS, *TRACKS}, "ids": {*TRACKS}, "full": set[str]()}[selection]
    return tuple(name for name in FEATURES if name not in left_out)


def about_axis(jet: Mapping[str, Tensor], particle: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Pseudorapidity and azimuth (B, P) from the axis; mirrored so that the axis has a positive pseudorapidity."""
    side_B1 = torch.where(jet["eta"] < 0, -1.0, 1.0).to(jet["eta"].dtype)[:, None]
    eta_BP = (particle["eta"] - jet["eta"][:, None]) * side_B1
    return eta_BP, delta_phi(particle["phi"], jet["phi"][:, None])


def energy(momentum: Mapping[str, Tensor]) -> Tensor:
    """sqrt((pt cosh eta)^2 + m^2), GeV."""
    return torch.sqrt((momentum["pt"] * torch.cosh(momentum["eta"])).square() + momentum["mass"].square())


def rapidity(momentum: Mapping[str, Tensor]) -> Tensor:
    """asinh(pz / transverse mass)."""
    transverse = torch.sqrt(momentum["pt"].square() + momentum["mass"].square()).clamp_min(TINY)
    return torch.asinh(momentum["pt"] * torch.sinh(momentum["eta"]) / transverse)


def features(wanted: tuple[str, ...], jet: Mapping[str, Tensor], particle: Mapping[str, Tensor]) -> Tensor:
    """Features as they are, unscaled, (B, P, C).

    `jet` has pt, eta, phi, mass (B,), `particle` the same (B, P), and pdg, charge, d0, d0_error, dz, dz_error where
    features are made of them.
    """
    eta_BP, phi_BP = about_axis(jet, particle)
    energy_BP, jet_energy_B1 = energy(particle), energy(jet)[:, None]
    made = {
        "log_pt": _log(particle["pt"]),
        "log_e": _log(energy_BP),
        "log_pt_rel": _log(particle["pt"] / jet["pt"][:, None].clamp_min(TINY)),
        "log_e_rel": _log(energy_BP / jet_energy_B1.clamp_min(TINY)),
        "delta_r": torch.sqrt(eta_BP.square() + phi_BP.square()),
        "delta_eta": eta_BP,
        "delta_phi": phi_BP,
    }
    if "charge" in wanted:
        made |= {"charge": particle["charge"], **kinds(particle["pdg"], particle["charge"])}
    if "d0" in wanted:
        made |= {"d0": particle["d0"].tanh(), "d0_error": particle["d0_error"], "dz": particle["dz"].tanh(),
                 "dz_error": particle["dz_error"]}  # fmt: skip
    return torch.stack([made[name] for name in wanted], dim=-1)


def kinds(pdg: Tensor, charge: Tensor) -> dict[str, Tensor]:
    """Which of the five kinds that a detector tells apart each particle is, 0 or 1, in the type of `charge`; a particle
    of id 0, of which nothing is known, is none."""
    of = pdg.abs()
    photon, electron, muon, hadron = of == 22, of == 11, of == 13, hadrons(pdg)
    found = {"charged_hadron": hadron & (charge != 0), "neutral_hadron": hadron & (charge == 0), "photon": photon,
             "electron": electron, "muon": muon}  # fmt: skip
    return {name: one.to(charge.dtype) for name, one in found.items()}


def hadrons(pdg: Tensor) -> Tensor:
    """Which ids are those of hadrons or nuclei, by the numbering scheme of the Particle Data Group: digits of two
    quarks at least, none of new physics, and a spin (K0 short and long have none, but quarks that differ)."""
    of = pdg.abs().long()
    spin, tens, hundreds = of % 10, of // 10 % 10, of // 100 % 10
    quarks = (tens >= 1) & (tens <= 6) & (hundreds >= 1) & (hundreds <= 6) & ((spin > 0) | (tens != hundreds))
    return (quarks & ((of < 1_000_000) | ((of >= 9_000_000) & (of < 10_000_000)))) | (of >= 1_000_000_000)


def check(pdg_BP: Tensor, mask_BP: Tensor) -> None:
    """See that all particles are of one of the five kinds, or have the id 0 of what is not known.

    Raises:
        DataError: the first that is not, and how many there are: neutrinos, partons, numbers without a meaning.
    """
    of_BP = pdg_BP.abs()
    odd_BP = mask_BP & ~((of_BP == 0) | (of_BP == 11) | (of_BP == 13) | (of_BP == 22) | hadrons(pdg_BP))
    if odd_BP.any():
        what = f"{int(odd_BP.sum())} particles are neither photon, electron, muon nor hadron; the first has the PDG id"
        raise DataError(f"{what} {int(pdg_BP[odd_BP][0])}", where="particle_pdg",
                        cure="leave them out of the jets, or give those that are not known the id 0")  # fmt: skip


def _log(value: Tensor) -> Tensor:
    return value.clamp_min(TINY).log()
