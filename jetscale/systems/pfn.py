"""Particle flow network: a function of a sum over a jet's particles, whatever is known of each.

Patrick Komiske, Eric Metodiev, Jesse Thaler, "Energy Flow Networks: Deep Sets for Particle Jets", 2018,
arXiv:1810.05165, eq. 1.2. What a particle is may be left out (PFN), be its charge (PFN-Ch), what an experiment can tell
(PFN-Ex), or its whole identity (PFN-ID).
"""

from __future__ import annotations

from typing import Literal, Self, final

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from jetscale.config import Values
from jetscale.nn.deepsets import FlowNetwork
from jetscale.nn.particles import hardest
from jetscale.physics import species
from jetscale.physics.centred import centred
from jetscale.physics.species import Ids
from jetscale.schema import PARTICLE_IDS, PARTICLES, Schema
from jetscale.tagger import Tagger
from jetscale.task import NOTHING, Batch, Fitted

MOMENTUM = ("pt", "eta", "phi", "mass")


@final
class PFN(Tagger):
    """Tell classes of jets apart by a sum over particles."""

    classes: dict[str, tuple[str, ...]] = {"gluon": ("gluon",), "quark": ("quark",)}
    ids: Ids = Field("none", description="what is seen of particles beside momenta: PFN, PFN-Ch, PFN-Ex, PFN-ID")
    encoding: Literal["one_hot", "number"] = Field("one_hot", description="number: one of small ones, as published")
    unknown: Literal["error", "zero"] = Field("error", description="what a particle of unknown species is")
    particles: int | None = Field(None, gt=0, description="the hardest particles that are read; null: all of them")
    turned: bool = Field(False, description="turn and mirror jets to stand upright")
    phi: tuple[int, ...] = Field(
        (100, 100, 256), min_length=1, description="widths for each particle; the last: latent"
    )
    f: tuple[int, ...] = Field((100, 100, 100), description="widths for the sum")

    @model_validator(mode="after")
    def _without_ids_nothing_is_said_of_them(self) -> Self:
        for name, value, plain in (("encoding", self.encoding, "one_hot"), ("unknown", self.unknown, "error")):
            if self.ids == "none" and value != plain:
                raise ValueError(f"{name}: {value} says nothing where ids are none")
        return self

    @property
    def inputs(self) -> Schema:
        """The particles, with their ids where these are looked at."""
        return PARTICLES if self.ids == "none" else PARTICLES.plus(PARTICLE_IDS["particle_pdg"])

    def tensors(self, batch: Batch) -> tuple[Tensor, ...]:
        """Columns of particles, and their mask."""
        names = MOMENTUM if self.ids == "none" else (*MOMENTUM, "pdg")
        return torch.stack([batch[f"particle_{name}"].float() for name in names], -1), batch.mask("particle")

    def build(self, seed: int, fitted: Fitted = NOTHING) -> nn.Module:
        """The network with fresh weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return ParticleFlow(self)


@final
class ParticleFlow(nn.Module):
    """Columns of particles (B, P, 4 or 5) and their mask (B, P) -> logits (B, K)."""

    def __init__(self, task: PFN) -> None:
        super().__init__()
        self.task = task
        extra = {"number": min(len(species.GROUPS[task.ids]), 1), "one_hot": len(species.GROUPS[task.ids])}
        self.net = FlowNetwork(3 + extra[task.encoding], task.phi, task.f, len(task.classes))

    def forward(self, particle_BPR: Tensor, mask_BP: Tensor) -> Tensor:
        """Logits of the classes."""
        particle_BPR, mask_BP = hardest(particle_BPR, mask_BP, self.task.particles)
        columns = particle_BPR.unbind(-1)
        share_BP, place_BP2 = centred(dict(zip(MOMENTUM, columns, strict=False)), mask_BP, self.task.turned)
        parts = [share_BP[..., None], place_BP2]
        if self.task.ids != "none":
            if self.task.unknown == "error" and not torch.compiler.is_exporting():
                species.check(columns[4], mask_BP)
            said = species.one_hot if self.task.encoding == "one_hot" else species.as_number
            parts.append(said(columns[4], self.task.ids).to(share_BP.dtype))
        dtype = next(self.net.parameters()).dtype
        logits: Tensor = self.net(torch.cat(parts, -1).to(dtype), mask_BP.to(dtype))
        return logits.float() if dtype != torch.float64 else logits


def recipe() -> Values:
    """The settings that this system starts from."""
    return {
        "system": "pfn",
        "horizon": {"epochs": 30},
        "optimiser": {"rate": 1e-3, "weight_decay": 0.0, "schedule": "cosine", "warm_up": 0.0, "clip": 0.0},
        "scale": {"events_per_step": 500},
    }
