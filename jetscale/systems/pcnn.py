"""P-CNN: convolutions along a jet's particles from the hardest to the softest.

A comparator in Huilin Qu, Loukas Gouskos, "ParticleNet: Jet Tagging via Particle Clouds", 2019, arXiv:1902.08570: the
particle branch of the CMS collaboration's DeepAK8 (arXiv:2004.08262). Particles are read in the order of their columns,
which is that of falling pt by the schema; the network does not sort them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, Self, final

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from jetscale.config import Values
from jetscale.nn.equivariant import masked_mean
from jetscale.nn.listed import ListNorm
from jetscale.nn.particles import ParticleInputs
from jetscale.nn.sequence import Convolved, ResidualUnit, Row, strided
from jetscale.tagger import ParticleTagger
from jetscale.task import NOTHING, Fitted

FIRST, DENSE = 32, 512
UNITS = ((64, 1), (64, 1), (64, 2), (64, 1), (128, 2), (128, 1))  # width and stride
STEP = math.prod(stride for _, stride in UNITS)


@final
class PCNN(ParticleTagger):
    """Tell classes of jets apart by convolutions along their particles."""

    particles: int | None = Field(128, gt=0, description="the hardest particles that are read, a number")
    pool: Literal["masked", "length"] = Field(
        "masked",
        description="what is averaged: real particles, or as many slots as `particles` with padding, as published",
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="0.5 in the paper, 0.2 in its authors' later code")

    @model_validator(mode="after")
    def _has_a_length(self) -> Self:
        if self.particles is None:
            raise ValueError("particles: null, and this network reads a number of them")
        return self

    def build(self, seed: int, fitted: Fitted = NOTHING) -> nn.Module:
        """The network with fresh weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return SequenceNetwork(self, fitted.get("particles"))


@final
class SequenceNetwork(nn.Module):
    """Columns of jets (B, 4) and of particles (B, P, R) with their mask (B, P) -> logits (B, K).

    With `pool: length` there is no mask after the inputs: padding is 0 once, and takes part in all that follows.
    """

    def __init__(self, task: PCNN, moments: Mapping[str, Tensor] | None) -> None:
        super().__init__()
        assert task.particles is not None  # the task refuses it
        self.most, self.masked = task.particles, task.pool == "masked"
        self.scaled = ParticleInputs(task.features, moments)
        features = len(self.scaled.names)
        self.norm, self.first = ListNorm(features), Convolved(features, FIRST)
        widths = (FIRST, *(width for width, _ in UNITS))
        self.units = nn.ModuleList(
            ResidualUnit(into, width, stride) for into, (width, stride) in zip(widths, UNITS, strict=False)
        )
        self.dense, self.dropout = nn.Linear(widths[-1], DENSE), nn.Dropout(task.dropout)
        self.out = nn.Linear(DENSE, len(task.classes))

    def forward(self, jet_B4: Tensor, particle_BPR: Tensor, mask_BP: Tensor) -> Tensor:
        """Logits of the classes."""
        particle_BPR, mask_BP = self._slots(particle_BPR, mask_BP)
        dtype = self.out.weight.dtype
        features_BPC = self.scaled(jet_B4, particle_BPR, mask_BP).features_BPC.to(dtype)
        pooled = self._whole if not self.masked else self._padded if torch.compiler.is_exporting() else self._in_a_row
        logits_BK: Tensor = self.out(self.dropout(self.dense(pooled(features_BPC, mask_BP)).relu()))
        return logits_BK.float() if dtype != torch.float64 else logits_BK

    def _in_a_row(self, features_BPC: Tensor, mask_BP: Tensor) -> Tensor:
        """The mean over real particles after all units, (B, H), with little work on padding."""
        row = Row.of(mask_BP, STEP)
        return row.mean(self._units(row.laid(features_BPC), row.mask_1S))

    def _padded(self, features_BPC: Tensor, mask_BP: Tensor) -> Tensor:
        """The same for tracing."""
        return masked_mean(self._units(features_BPC, mask_BP), mask_BP[:, ::STEP])

    def _whole(self, features_BPC: Tensor, mask_BP: Tensor) -> Tensor:
        """The mean over all slots."""
        if not self.training:
            return self._units(features_BPC, None).mean(1)
        # Rows that only fill up a step are no jets: they take no part in what is normalised.
        real_B = mask_BP.any(1)
        mean_XH = self._units(features_BPC[real_B], None).mean(1)
        return mean_XH.new_zeros(len(real_B), mean_XH.shape[1]).index_put((real_B,), mean_XH)

    def _units(self, x_BPC: Tensor, real_BP: Tensor | None) -> Tensor:
        """After all units, (B, Q, H)."""
        x_BPC = self.first(self.norm(x_BPC, real_BP), real_BP)
        for unit, (_, stride) in zip(self.units, UNITS, strict=True):
            real_BP = strided(real_BP, stride)
            x_BPC = unit(x_BPC, real_BP)
        return x_BPC

    def _slots(self, particle_BPR: Tensor, mask_BP: Tensor) -> tuple[Tensor, Tensor]:
        """The hardest particles: `particles` slots, or fewer where no padding is looked at."""
        if not self.masked or torch.compiler.is_exporting():
            particle_BPR = functional.pad(particle_BPR, (0, 0, 0, self.most))
            mask_BP = functional.pad(mask_BP, (0, self.most))
        return particle_BPR[:, : self.most], mask_BP[:, : self.most]


def recipe() -> Values:
    """The settings that this system starts from: batches of 256 instead of 1024, so that small samples have steps."""
    return {
        "system": "pcnn",
        "horizon": {"epochs": 30},
        "optimiser": {"rate": 1e-3, "weight_decay": 1e-4, "schedule": "cosine", "warm_up": 0.0, "clip": 0.0},
        "scale": {"events_per_step": 256},
    }
