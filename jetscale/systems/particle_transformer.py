"""Particle Transformer: attention among a jet's particles that knows of every pair of them.

Huilin Qu, Congqiao Li, Sitian Qian, "Particle Transformer for Jet Tagging", 2022, arXiv:2202.03772. With the weights of
the implementation in weaver-core the outputs are the same. In training, batch normalisation takes its moments over real
particles and real pairs, and no particle is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Self, final

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from jetscale.config import Values
from jetscale.nn.listed import ListNorm
from jetscale.nn.pairs import Legs, PairEmbedding, pair_features
from jetscale.nn.particles import ParticleInputs, hardest, named
from jetscale.nn.places import Padded, Pairs, Ragged
from jetscale.nn.transformer import ClassBlock, ParticleBlock
from jetscale.physics import constituents
from jetscale.tagger import ParticleTagger
from jetscale.task import NOTHING, Fitted


@final
class ParticleTransformer(ParticleTagger):
    """Tell classes of jets apart by attention among their particles."""

    embed: tuple[int, ...] = Field((128, 512, 128), min_length=1, description="widths of the layers on particles")
    pair_embed: tuple[int, ...] = Field((64, 64, 64), description="widths of the layers on pairs of particles")
    heads: int = Field(8, gt=0, description="of attention; divides the last width on particles")
    blocks: int = Field(8, ge=0, description="in which particles look at one another")
    class_blocks: int = Field(2, gt=0, description="in which the jet looks at its particles")
    dropout: float = Field(0.1, ge=0, lt=1, description="in the blocks of particles")

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.embed[-1] % self.heads:
            raise ValueError(f"heads: {self.heads} do not divide {self.embed[-1]}, the last of embed")
        return self

    def build(self, seed: int, fitted: Fitted = NOTHING) -> nn.Module:
        """The network with fresh weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return TransformerNetwork(self, fitted.get("particles"))


@final
class TransformerNetwork(nn.Module):
    """Columns of jets (B, 4) and of particles (B, P, R) with their mask (B, P) -> logits (B, K)."""

    def __init__(self, task: ParticleTransformer, moments: Mapping[str, Tensor] | None) -> None:
        super().__init__()
        self.most, self.scaled = task.particles, ParticleInputs(task.features, moments)
        widths, width = (len(self.scaled.names), *task.embed), task.embed[-1]
        self.norm = ListNorm(widths[0])
        self.embed = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(a), nn.Linear(a, b), nn.GELU()) for a, b in pairwise(widths)
        )
        self.pairs = PairEmbedding(task.pair_embed, task.heads)
        self.blocks = nn.ModuleList(ParticleBlock(width, task.heads, task.dropout) for _ in range(task.blocks))
        self.class_blocks = nn.ModuleList(ClassBlock(width, task.heads, 0.0) for _ in range(task.class_blocks))
        self.token_C = nn.Parameter(nn.init.trunc_normal_(torch.empty(width), std=0.02))
        self.last, self.dense = nn.LayerNorm(width), nn.Linear(width, len(task.classes))
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        """Glorot's uniform weights; what later blocks add begins smaller."""
        for layer in (*self.embed.modules(), self.dense):
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        for number, block in enumerate(self.blocks, start=1):
            assert isinstance(block, ParticleBlock)
            for layer in (block.mixed, block.narrow):
                layer.weight.div_(math.sqrt(2 * number))

    def forward(self, jet_B4: Tensor, particle_BPR: Tensor, mask_BP: Tensor) -> Tensor:
        """Logits of the classes."""
        particle_BPR, mask_BP = hardest(particle_BPR, mask_BP, self.most)
        dtype = self.dense.weight.dtype
        places = Padded(mask_BP) if torch.compiler.is_exporting() else Ragged(mask_BP)
        biases = places.biases(self._pairs(jet_B4, places.flat(particle_BPR), places.pairs()).to(dtype))
        x_NC = self.norm(places.flat(self.scaled(jet_B4, particle_BPR, mask_BP).features_BPC)).to(dtype)
        for layer in self.embed:
            x_NC = layer(x_NC)
        for block in self.blocks:
            x_NC = block(x_NC, places, biases)
        token_BC = self.token_C.expand(mask_BP.shape[0], -1)
        for block in self.class_blocks:
            token_BC = block(token_BC, x_NC, places)
        logits_BK = places.in_order(self.dense(self.last(token_BC)))
        return logits_BK if dtype == torch.float64 else logits_BK.float()

    def _pairs(self, jet_B4: Tensor, particle_NR: Tensor, pairs: Pairs) -> Tensor:
        """What is known of pairs, a number for each head, (E, H)."""
        _, particle = named(jet_B4, particle_NR, self.scaled.selection)
        legs = Legs(particle["pt"], constituents.rapidity(particle), particle["phi"], particle["mass"])
        found: Tensor = self.pairs(pair_features(legs.at(pairs.one_E), legs.at(pairs.other_E)))
        return found


def recipe() -> Values:
    """The settings that this system starts from."""
    return {
        "system": "particle_transformer",
        "horizon": {"epochs": 20},
        "optimiser": {"rate": 1e-3, "weight_decay": 1e-2, "schedule": "cosine", "warm_up": 0.05, "clip": 1.0},
        "scale": {"events_per_step": 512},
    }
