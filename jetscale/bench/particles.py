"""Jets of many particles, made up, for benchmarks: a wide ragged sample, and a small network that reads all of it.

The particles carry no physics: what counts is how many numbers have to be read, put in order and padded.
"""

from __future__ import annotations

from typing import ClassVar, final

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from jetscale.config import Values
from jetscale.nn.equivariant import masked_mean
from jetscale.schema import EVENT_ID, WEIGHT, Column, Schema, flat
from jetscale.task import NOTHING, Batch, Fitted, Task

FEATURES = ("pt", "eta", "phi", "mass", "d0", "z0", "charge")
MEAN_PARTICLES = 50


@final
class Particles(Task):
    """Tell two kinds of jets apart by the mean of what their particles say, one by one."""

    columns: ClassVar[Schema] = Schema(
        columns=(
            EVENT_ID,
            WEIGHT,
            Column(name="kind", dtype="int8", unit="", doc="0 or 1"),
            *(Column(name=f"particle_{name}", of="particle", dtype="float32", unit="", doc=name) for name in FEATURES),
        )
    )
    outputs: ClassVar[Schema] = Schema(
        columns=(Column(name="kind_probability", dtype="float32", unit="", doc="of kind 1"),)
    )

    width: int = Field(8, gt=0)

    def build(self, seed: int, fitted: Fitted = NOTHING) -> nn.Module:
        """The network with fresh weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return ParticleNetwork(self.width)

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        """The row's weight."""
        return {"kind": batch.weight_B}

    def loss(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Binary cross-entropy of every jet."""
        logit_B = self._logit(net, batch)
        return {"kind": functional.binary_cross_entropy_with_logits(logit_B, batch["kind"].float(), reduction="none")}

    def score(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The probability of kind 1."""
        return {"kind_probability": self._logit(net, batch).sigmoid()}

    def figures(self, scored: pa.Table) -> dict[str, float]:
        """How often the likelier kind is the right one."""
        likelier_B = flat(scored["kind_probability"]) > 0.5
        return {"accuracy": float(np.mean(likelier_B == flat(scored["kind"])))}

    def toy(self, n: int, seed: int) -> pa.Table:
        """Random particles, some fifty in a jet; those of kind 1 are harder."""
        dice = np.random.default_rng(seed)
        kind_B = dice.integers(0, 2, n).astype(np.int8)
        count_B = dice.poisson(MEAN_PARTICLES, n)
        offsets = pa.array(np.concatenate([[0], np.cumsum(count_B)]).astype(np.int32))
        total = int(count_B.sum())
        columns: dict[str, pa.Array] = {
            "event_id": pa.array(seed * (1 << 24) + np.arange(n)),
            "weight": pa.array(np.ones(n)),
            "kind": pa.array(kind_B),
        }
        for name in FEATURES:
            values = dice.standard_exponential(total, dtype=np.float32)
            if name == "pt":
                values *= np.repeat(1 + kind_B, count_B)
            columns[f"particle_{name}"] = pa.ListArray.from_arrays(offsets, pa.array(values))
        return pa.table(columns, schema=self.columns.arrow)

    def _logit(self, net: nn.Module, batch: Batch) -> Tensor:
        features_BPC = torch.stack([batch[f"particle_{name}"] for name in FEATURES], -1)
        logit_B: Tensor = net(features_BPC, batch.mask("particle"))
        return logit_B


@final
class ParticleNetwork(nn.Module):
    """One layer per particle, the mean over the particles, one layer: (B, P, C) and its mask (B, P) -> (B,)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.each, self.all = nn.Linear(len(FEATURES), width), nn.Linear(width, 1)

    def forward(self, x_BPC: Tensor, mask_BP: Tensor) -> Tensor:
        """The logit of kind 1."""
        hidden_BPH = torch.relu(self.each(x_BPC.to(self.each.weight.dtype)))
        out: Tensor = self.all(masked_mean(hidden_BPH, mask_BP)).squeeze(-1)
        return out.float()


def recipe() -> Values:
    """The settings that this system starts from."""
    return {"system": __file__, "horizon": {"epochs": 1}}
