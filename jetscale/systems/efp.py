"""Energy flow polynomials in a linear classifier: the plainest tagger that is safe in the infrared.

Patrick Komiske, Eric Metodiev, Jesse Thaler, "Energy flow polynomials: A complete linear basis for jet substructure",
2017, arXiv:1712.07124.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from pydantic import Field
from torch import Tensor, nn

from jetscale.aggregates import Moments
from jetscale.config import Values
from jetscale.physics import efp
from jetscale.physics.centred import centred
from jetscale.schema import PARTICLES, Schema
from jetscale.tagger import Tagger
from jetscale.task import NOTHING, Aggregate, Batch, Fitted

MOMENTUM = ("pt", "eta", "phi", "mass")
JETS = 50  # at a time: their arrays of angles stay small


@final
class EFP(Tagger):
    """Tell classes of jets apart by a weighted sum of polynomials of energies and angles."""

    classes: dict[str, tuple[str, ...]] = {"gluon": ("gluon",), "quark": ("quark",)}
    edges: int = Field(
        4, gt=0, le=6, description="most edges of a graph: 1000 jets of 64 particles take a core 2 s at 4, 4 s at 5, "
        "40 s at 6; with it grow the polynomials, from 35 to 101 and 313"
    )  # fmt: skip
    beta: float = Field(0.5, gt=0, description="power of the angles")
    particles: int = Field(64, gt=0, description="the hardest particles that are looked at")

    @property
    def inputs(self) -> Schema:
        """The particles."""
        return PARTICLES

    def needs(self) -> Mapping[str, Aggregate]:
        """Mean and deviation of the polynomials."""
        names = ["+".join(map(str, one)) for one in efp.basis(self.edges)]
        return {**super().needs(), "polynomials": Moments(self._features, names)}

    def tensors(self, batch: Batch) -> tuple[Tensor, ...]:
        """Columns of particles, and their mask."""
        return torch.stack([batch[f"particle_{name}"].float() for name in MOMENTUM], -1), batch.mask("particle")

    def build(self, seed: int, fitted: Fitted = NOTHING) -> nn.Module:
        """The network with fresh weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return LinearNetwork(self, fitted.get("polynomials") or self.needs()["polynomials"].neutral())

    def _features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return polynomials(self, *self.tensors(batch)), batch.weight_B


@final
class LinearNetwork(nn.Module):
    """Columns of particles (B, P, 4) and their mask (B, P) -> logits (B, K): one layer on standardised polynomials."""

    mean_C: Tensor
    deviation_C: Tensor

    def __init__(self, task: EFP, moments: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.task, self.linear = task, nn.Linear(len(efp.basis(task.edges)), len(task.classes))
        self.register_buffer("mean_C", moments["mean"].clone())
        self.register_buffer("deviation_C", moments["deviation"].clone())

    def forward(self, particle_BP4: Tensor, mask_BP: Tensor) -> Tensor:
        """Logits of the classes."""
        plain_BC = polynomials(self.task, particle_BP4, mask_BP)
        scaled_BC = (plain_BC - self.mean_C.to(plain_BC.dtype)) / self.deviation_C.to(plain_BC.dtype)
        logits: Tensor = self.linear(scaled_BC.to(self.linear.weight.dtype))
        return logits.float()


def polynomials(task: EFP, particle_BP4: Tensor, mask_BP: Tensor) -> Tensor:
    """The polynomial of every graph, (B, C): of those that are not connected the product of their parts."""
    pt_BP = torch.where(mask_BP, particle_BP4[..., 0], -1.0)
    order_BP = pt_BP.argsort(dim=1, descending=True)[:, : task.particles]
    picked_BP4 = particle_BP4.gather(1, order_BP[..., None].expand(-1, -1, 4))
    columns = dict(zip(MOMENTUM, picked_BP4.unbind(-1), strict=True))
    share_BP, place_BP2 = centred(columns, mask_BP.gather(1, order_BP))
    graphs = efp.basis(task.edges)
    connected = dict.fromkeys(one for graph in graphs for one in graph)
    if torch.compiler.is_exporting():
        single = efp.polynomials(share_BP, place_BP2, connected, task.beta)
    else:
        parts = [efp.polynomials(*one, connected, task.beta)
                 for one in zip(share_BP.split(JETS), place_BP2.split(JETS), strict=True)]  # fmt: skip
        single = {graph: torch.cat([part[graph] for part in parts]) for graph in connected}
    return torch.stack([torch.stack([single[one] for one in graph]).prod(0) for graph in graphs], -1)


def recipe() -> Values:
    """The settings that this system starts from."""
    return {
        "system": "efp",
        "horizon": {"epochs": 10},
        "optimiser": {"rate": 3e-2, "weight_decay": 1e-4, "schedule": "one_cycle", "clip": 0.0},
        "scale": {"events_per_step": 1000},
    }
