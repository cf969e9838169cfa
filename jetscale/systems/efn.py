"""Energy flow network: a function of an energy-weighted sum over the angles of a jet's particles, safe in the infrared.

Patrick Komiske, Eric Metodiev, Jesse Thaler, "Energy Flow Networks: Deep Sets for Particle Jets", 2018,
arXiv:1810.05165, eq. 1.3. Neither a soft particle nor the splitting of one changes it. Its latent variables are filters
on the plane of rapidity and azimuth, which `filters` evaluates and `jetscale.physics.filters` measures.
"""

from __future__ import annotations

import math
from typing import final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from jetscale.config import Values
from jetscale.nn.deepsets import FlowNetwork
from jetscale.nn.particles import hardest
from jetscale.physics.centred import centred
from jetscale.schema import PARTICLES, Schema
from jetscale.tagger import Filters, Tagger
from jetscale.task import NOTHING, Batch, Fitted

MOMENTUM = ("pt", "eta", "phi", "mass")
REACH = 0.99  # the share of the particles that filters are drawn as far as


@final
class EFN(Tagger):
    """Tell classes of jets apart by where their energy goes."""

    classes: dict[str, tuple[str, ...]] = {"gluon": ("gluon",), "quark": ("quark",)}
    particles: int | None = Field(None, gt=0, description="the hardest particles that are read; null: all of them")
    turned: bool = Field(False, description="turn and mirror jets to stand upright")
    phi: tuple[int, ...] = Field(
        (100, 100, 256), min_length=1, description="widths for each particle; the last: latent"
    )
    f: tuple[int, ...] = Field((100, 100, 100), description="widths for the sum")

    @property
    def inputs(self) -> Schema:
        """The particles."""
        return PARTICLES

    def tensors(self, batch: Batch) -> tuple[Tensor, ...]:
        """Columns of particles, and their mask."""
        return torch.stack([batch[f"particle_{name}"].float() for name in MOMENTUM], -1), batch.mask("particle")

    def build(self, seed: int, fitted: Fitted = NOTHING) -> nn.Module:
        """The network with fresh weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return EnergyFlow(self)

    def filters(self, net: nn.Module, batch: Batch) -> Filters:
        """All latent variables, as far out as nearly all particles lie: rounded up to a tenth."""
        assert isinstance(net, EnergyFlow)
        particle_BP4, mask_BP = self.tensors(batch)
        particle_BP4, mask_BP = hardest(particle_BP4, mask_BP, self.particles)
        _, place_BP2 = centred(dict(zip(MOMENTUM, particle_BP4.unbind(-1), strict=True)), mask_BP, self.turned)
        away = place_BP2.norm(dim=-1)[mask_BP].double().cpu().numpy()
        radius = max(1, math.ceil(10 * float(np.quantile(away, REACH)) - 1e-6)) / 10 if len(away) else 0.1
        return Filters(filters(net, radius).double().numpy(), radius)


@final
class EnergyFlow(nn.Module):
    """Columns of particles (B, P, 4) and their mask (B, P) -> logits (B, K)."""

    def __init__(self, task: EFN) -> None:
        super().__init__()
        self.task, self.net = task, FlowNetwork(2, task.phi, task.f, len(task.classes))

    def forward(self, particle_BP4: Tensor, mask_BP: Tensor) -> Tensor:
        """Logits of the classes."""
        particle_BP4, mask_BP = hardest(particle_BP4, mask_BP, self.task.particles)
        particle = dict(zip(MOMENTUM, particle_BP4.unbind(-1), strict=True))
        share_BP, place_BP2 = centred(particle, mask_BP, self.task.turned)
        dtype = next(self.net.parameters()).dtype
        logits: Tensor = self.net(place_BP2.to(dtype), share_BP.to(dtype))
        return logits.float() if dtype != torch.float64 else logits


def filters(net: EnergyFlow, radius: float, pixels: int = 100) -> Tensor:
    """Every latent variable on a grid of the plane, (H, pixels, pixels): rapidity along the first axis, then azimuth.

    The grid holds the middles of pixels that fill [-radius, radius] squared.
    """
    width = 2 * radius / pixels
    middle = -radius + width * (torch.arange(pixels, dtype=next(net.parameters()).dtype) + 0.5)
    with torch.no_grad():
        latent: Tensor = net.net.phi(torch.stack(torch.meshgrid(middle, middle, indexing="ij"), -1))
    return latent.permute(2, 0, 1)


def recipe() -> Values:
    """The settings that this system starts from."""
    return {
        "system": "efn",
        "horizon": {"epochs": 30},
        "optimiser": {"rate": 1e-3, "weight_decay": 0.0, "schedule": "cosine", "warm_up": 0.0, "clip": 0.0},
        "scale": {"events_per_step": 500},
    }
