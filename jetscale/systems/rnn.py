"""A recurrent network over a jet's particles from the hardest to the softest, with what they are: RNN-ID.

The comparator of particle flow networks in Patrick Komiske, Eric Metodiev, Jesse Thaler, "Energy Flow Networks: Deep
Sets for Particle Jets", 2018, arXiv:1810.05165, table 1: gated recurrent units (Cho et al., arXiv:1406.1078).
"""

from __future__ import annotations

from typing import Literal, Self, final

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from jetscale.config import Values
from jetscale.nn.deepsets import Stack
from jetscale.physics import species
from jetscale.physics.centred import centred
from jetscale.physics.species import Ids
from jetscale.schema import PARTICLE_IDS, PARTICLES, Schema
from jetscale.tagger import Tagger
from jetscale.task import NOTHING, Batch, Fitted

MOMENTUM = ("pt", "eta", "phi", "mass")


@final
class RNN(Tagger):
    """Tell classes of jets apart by reading their particles in falling pt."""

    classes: dict[str, tuple[str, ...]] = {"gluon": ("gluon",), "quark": ("quark",)}
    ids: Ids = Field("full", description="what is seen of particles beside momenta")
    unknown: Literal["error", "zero"] = Field("error", description="what a particle of unknown species is")
    hidden: int = Field(64, gt=0)
    particles: int = Field(100, gt=0, description="the hardest particles that are read")

    @model_validator(mode="after")
    def _without_ids_none_is_unknown(self) -> Self:
        if self.ids == "none" and self.unknown != "error":
            raise ValueError(f"unknown: {self.unknown} says nothing where ids are none")
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
            return RecurrentNetwork(self)


@final
class RecurrentNetwork(nn.Module):
    """Columns of particles (B, P, 4 or 5) and their mask (B, P) -> logits (B, K)."""

    def __init__(self, task: RNN) -> None:
        super().__init__()
        self.task = task
        self.read = nn.GRU(3 + len(species.GROUPS[task.ids]), task.hidden, batch_first=True)
        self.said = Stack((task.hidden, task.hidden, len(task.classes)), last=True)

    def forward(self, particle_BPR: Tensor, mask_BP: Tensor) -> Tensor:
        """Logits of the classes."""
        particle_BPR, mask_BP = self._hardest(particle_BPR, mask_BP)
        columns = particle_BPR.unbind(-1)
        share_BP, place_BP2 = centred(dict(zip(MOMENTUM, columns, strict=False)), mask_BP)
        if self.task.unknown == "error" and self.task.ids != "none" and not torch.compiler.is_exporting():
            species.check(columns[4], mask_BP)
        log_BP = share_BP.clamp_min(1e-8).log() * mask_BP
        read = [log_BP[..., None], place_BP2]
        if self.task.ids != "none":
            read.append((species.one_hot(columns[4], self.task.ids) * mask_BP[..., None]).to(log_BP.dtype))
        dtype = next(self.read.parameters()).dtype
        states_BPH, _ = self.read(torch.cat(read, -1).to(dtype))
        # What is read after the last particle is padding, which the state there knows nothing of.
        count_B = mask_BP.sum(1)
        last_B11 = (count_B - 1).clamp_min(0)[:, None, None].expand(-1, 1, states_BPH.shape[-1])
        last_BH = states_BPH.gather(1, last_B11).squeeze(1)
        logits: Tensor = self.said(torch.where(count_B[:, None] > 0, last_BH, 0.0))
        return logits.float() if dtype != torch.float64 else logits

    def _hardest(self, particle_BPR: Tensor, mask_BP: Tensor) -> tuple[Tensor, Tensor]:
        """The hardest particles in falling pt."""
        pt_BP = torch.where(mask_BP, particle_BPR[..., 0], -1.0)
        order_BP = pt_BP.argsort(dim=1, descending=True)[:, : self.task.particles]
        picked_BPR = particle_BPR.gather(1, order_BP[..., None].expand(-1, -1, particle_BPR.shape[-1]))
        return picked_BPR, mask_BP.gather(1, order_BP)


def recipe() -> Values:
    """The settings that this system starts from."""
    return {
        "system": "rnn",
        "horizon": {"epochs": 30},
        "optimiser": {"rate": 1e-3, "weight_decay": 0.0, "schedule": "cosine", "warm_up": 0.0, "clip": 1.0},
        "scale": {"events_per_step": 500},
    }
