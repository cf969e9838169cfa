"""ParticleNet: a graph network on the cloud of a jet's particles, whose neighbours are found anew before every block.

Huilin Qu, Loukas Gouskos, "ParticleNet: Jet Tagging via Particle Clouds", 2019, arXiv:1902.08570. With the weights of
the implementation in weaver-core the outputs are the same. One thing differs in training: batch normalisation takes its
moments over real particles and real edges, and not over padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple, final

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from jetscale.config import Values
from jetscale.nn.edgeconv import EdgeConv, flat_of, wide
from jetscale.nn.equivariant import masked_mean
from jetscale.nn.listed import ListNorm
from jetscale.nn.particles import ParticleInputs, hardest
from jetscale.tagger import ParticleTagger
from jetscale.task import NOTHING, Fitted

Widths = Annotated[tuple[Annotated[int, Field(gt=0)], ...], Field(min_length=1)]


class Size(NamedTuple):
    """Neighbours of a particle, widths of the layers of every block, and the width of the layer on the mean."""

    k: int
    channels: tuple[Widths, ...]
    dense: int


SIZES = {
    "full": Size(16, ((64, 64, 64), (128, 128, 128), (256, 256, 256)), 256),
    "lite": Size(7, ((32, 32, 32), (64, 64, 64)), 128),
}


@final
class ParticleNet(ParticleTagger):
    """Tell classes of jets apart by graphs of their particles."""

    size: Literal["full", "lite"] = Field("full", description="as published; the accuracies published need full")
    k: int | None = Field(None, gt=0, description="neighbours that a particle looks at; null: as many as size says")
    channels: tuple[Widths, ...] | None = Field(
        None, min_length=1, description="widths of the layers, block by block; null: those that size says"
    )
    dense: int | None = Field(None, gt=0, description="width of the layer on the mean; null: what size says")
    phantom: Literal["keep", "drop"] = Field(
        "keep", description="edges to nothing, where a jet has fewer particles than neighbours; kept by the reference"
    )
    fusion: bool = Field(False, description="a layer on the outputs of all blocks together")
    dropout: float = Field(0.1, ge=0, lt=1)

    @property
    def as_built(self) -> Size:
        """What `size` says, but for what is set by itself."""
        size = SIZES[self.size]
        return Size(self.k or size.k, self.channels or size.channels, self.dense or size.dense)

    def build(self, seed: int, fitted: Fitted = NOTHING) -> nn.Module:
        """The network with fresh weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return CloudNetwork(self, fitted.get("particles"))


@final
class CloudNetwork(nn.Module):
    """Columns of jets (B, 4) and of particles (B, P, R) with their mask (B, P) -> logits (B, K)."""

    def __init__(self, task: ParticleNet, moments: Mapping[str, Tensor] | None) -> None:
        super().__init__()
        k, blocks, dense = task.as_built
        self.most, self.scaled = task.particles, ParticleInputs(task.features, moments)
        widths = (len(self.scaled.names), *(block[-1] for block in blocks))
        self.k, self.norm = k, ListNorm(widths[0])
        self.blocks = nn.ModuleList(
            EdgeConv(into, block, k, task.phantom == "drop") for into, block in zip(widths, blocks, strict=False)
        )
        out = min(max(sum(widths[1:]) // 128 * 128, 128), 1024) if task.fusion else widths[-1]
        self.fusion = nn.Linear(sum(widths[1:]), out, bias=False) if task.fusion else None
        self.fusion_norm = ListNorm(out) if task.fusion else None
        self.dense = nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise((out, dense, len(task.classes)))))
        self.dropout = nn.Dropout(task.dropout)

    def forward(self, jet_B4: Tensor, particle_BPR: Tensor, mask_BP: Tensor) -> Tensor:
        """Logits of the classes."""
        particle_BPR, mask_BP = hardest(particle_BPR, mask_BP, self.most)
        cloud = self.scaled(jet_B4, particle_BPR, mask_BP)
        features_BPC = cloud.features_BPC.to(self.dense[0].weight.dtype)
        pooled = self._padded if torch.compiler.is_exporting() else self._flat
        hidden_BH = self.dropout(self.dense[0](pooled(cloud.points_BP2, features_BPC, mask_BP)).relu())
        logits: Tensor = self.dense[1](hidden_BH)
        return logits.to(wide(logits.dtype))

    def _flat(self, points_BP2: Tensor, features_BPC: Tensor, mask_BP: Tensor) -> Tensor:
        """The mean over particles after all blocks, (B, H), without any work on padding."""
        flat = flat_of(mask_BP)
        points_NC = points_BP2.flatten(0, 1)[flat.place_N]
        x_NC = self.norm(features_BPC.flatten(0, 1)[flat.place_N])
        outputs = []
        for block in self.blocks:
            x_NC = block(points_NC, x_NC, flat)
            points_NC = x_NC
            outputs.append(x_NC)
        if self.fusion is not None and self.fusion_norm is not None:
            x_NC = self.fusion_norm(self.fusion(torch.cat(outputs, -1))).relu()
        sum_BH = x_NC.new_zeros(flat.jets, x_NC.shape[1]).index_add(0, flat.jet_N, x_NC)
        mean_BH: Tensor = sum_BH / mask_BP.sum(1, keepdim=True).clamp_min(1).to(sum_BH.dtype)
        return mean_BH

    def _padded(self, points_BPC: Tensor, features_BPC: Tensor, mask_BP: Tensor) -> Tensor:
        """The same for tracing, in evaluation alone."""
        # More slots than neighbours, so that nobody is a neighbour of itself.
        mask_BP = functional.pad(mask_BP, (0, self.k))
        points_BPC, features_BPC = (functional.pad(one, (0, 0, 0, self.k)) for one in (points_BPC, features_BPC))
        x_BPC = self.norm(features_BPC, mask_BP)
        outputs = []
        for block in self.blocks:
            assert isinstance(block, EdgeConv)
            x_BPC = block.padded(points_BPC, x_BPC, mask_BP)
            points_BPC = x_BPC
            outputs.append(x_BPC)
        if self.fusion is not None and self.fusion_norm is not None:
            x_BPC = self.fusion_norm(self.fusion(torch.cat(outputs, -1)), mask_BP).relu()
        return masked_mean(x_BPC, mask_BP)


def recipe() -> Values:
    """The settings that this system starts from."""
    return {
        "system": "particlenet",
        "horizon": {"epochs": 20},
        "optimiser": {"rate": 3e-3, "weight_decay": 1e-4, "schedule": "one_cycle", "warm_up": 0.4, "clip": 0.0},
        "scale": {"events_per_step": 384},
    }
