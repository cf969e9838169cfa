"""Flavour of jets from their tracks and vertices: a network in the style of DeepJet, and two simpler ones beside it.

Emil Bols, Jan Kieseler, Mauro Verzetti, Markus Stoye, Anna Stakia, "Jet flavour classification using DeepJet", 2020,
arXiv:2008.10519: layers of their own for charged particles, neutral particles and secondary vertices, a recurrent
layer over each list with its best candidate last, dense layers on all of it. The inputs are those that a sample of
labelled jets holds, fewer than the experiment's own.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, NamedTuple, final

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from jetscale.config import Values
from jetscale.nn.listed import ListNorm
from jetscale.physics import constituents
from jetscale.physics.kinematics import delta_phi
from jetscale.schema import IMPACT, JET, PARTICLE_IDS, PARTICLES, VERTICES, Schema
from jetscale.tagger import Tagger
from jetscale.task import NOTHING, Batch, Fitted

JET_COLUMNS = JET.names
PARTICLE_COLUMNS = (*PARTICLES.names, *PARTICLE_IDS.names, *IMPACT.names)
CHARGED, NEUTRAL, GLOBAL, VERTEX = 9, 4, 6, 9  # features
FAR = 0.4  # distance to a vertex where there is none
MOST = 5.0  # of significances of tracks, in a logarithm with sign


@final
class DeepJet(Tagger):
    """Tell flavours apart by what is displaced in a jet."""

    classes: dict[str, tuple[str, ...]] = {
        "light": ("quark",), "gluon": ("gluon",), "c": ("charm",), "b": ("bottom",)
    }  # fmt: skip
    network: Literal["recurrent", "sets", "dense"] = Field(
        "recurrent", description="over lists: LSTMs, means, or plain layers on the leading entries side by side"
    )
    tracks: int = Field(25, gt=0, description="charged particles that are looked at, of the largest d0 significance")
    neutrals: int = Field(25, gt=0, description="neutral particles that are looked at, of the highest pt")
    vertices: int = Field(4, gt=0, description="vertices that are looked at, of the largest significance")
    width: int = Field(100, gt=0)
    layers: int = Field(7, gt=0, description="dense layers after the first one")
    dropout: float = Field(0.1, ge=0, lt=1)

    @property
    def inputs(self) -> Schema:
        """Jets, their particles with ids and tracks, and their vertices."""
        return JET.plus(*PARTICLES.columns, *PARTICLE_IDS.columns, *IMPACT.columns, *VERTICES.columns)

    def tensors(self, batch: Batch) -> tuple[Tensor, ...]:
        """Columns of jets, particles and vertices, and the masks of both."""
        stacks = [torch.stack([batch[name].float() for name in names], -1)
                  for names in (JET_COLUMNS, PARTICLE_COLUMNS, VERTICES.names)]  # fmt: skip
        return (*stacks, batch.mask("particle"), batch.mask("vertex"))

    def build(self, seed: int, fitted: Fitted = NOTHING) -> nn.Module:
        """The network with fresh weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return FlavourNetwork(self)


class Listed(NamedTuple):
    """Features of the entries of a list that are looked at, the best first, (B, N, C), and which are real (B, N)."""

    features_BNC: Tensor
    mask_BN: Tensor


class FlavourNetwork(nn.Module):
    """From columns of jets (B, 4), particles (B, P, 10) and vertices (B, V, 9), with masks, to logits (B, K)."""

    def __init__(self, task: DeepJet) -> None:
        super().__init__()
        self.task, kinds = task, len(task.classes)
        self.globals = ListNorm(GLOBAL)
        sizes = ((CHARGED, (64, 32, 32, 8), 150), (NEUTRAL, (32, 16, 4), 50), (VERTEX, (64, 32, 32, 8), 50))
        self.lists = nn.ModuleList(ListLayers(into, widths, out, task) for into, widths, out in sizes)
        kept = [
            number * widths[-1] if task.network == "dense" else out
            for number, (_, widths, out) in zip((task.tracks, task.neutrals, task.vertices), sizes, strict=True)
        ]
        widths = [GLOBAL + sum(kept), 2 * task.width, *[task.width] * task.layers]
        self.dense = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(ListNorm(width) for width in widths[1:])
        self.dropout, self.out = nn.Dropout(task.dropout), nn.Linear(widths[-1], kinds)

    def forward(self, jet_B4: Tensor, particle_BPR: Tensor, vertex_BVR: Tensor, mask_BP: Tensor, mask_BV: Tensor
                ) -> Tensor:  # fmt: skip
        """Logits of the classes."""
        jet = dict(zip((name.removeprefix("jet_") for name in JET_COLUMNS), jet_B4.unbind(-1), strict=True))
        names = (name.removeprefix("particle_") for name in PARTICLE_COLUMNS)
        particle = dict(zip(names, particle_BPR.unbind(-1), strict=True))
        names = (name.removeprefix("vertex_") for name in VERTICES.names)
        vertex = dict(zip(names, vertex_BVR.unbind(-1), strict=True))
        dtype = self.out.weight.dtype
        listed = lists(self.task, jet, particle, vertex, mask_BP, mask_BV)
        seen = [layers(one.features_BNC.to(dtype), one.mask_BN)
                for layers, one in zip(self.lists, listed, strict=True)]  # fmt: skip
        charged_BP = mask_BP & (particle["charge"] != 0)
        counts = [mask.sum(1) for mask in (charged_BP, mask_BP & ~charged_BP, mask_BV)]
        plain = (jet["pt"].clamp_min(1.0).log(), jet["eta"], jet["mass"].clamp_min(1.0).log(), *counts)
        globals_BC = torch.stack([one.to(jet_B4.dtype) for one in plain], -1)
        # A batch of jets is one list, in which all of them are real but those that fill up a step.
        real_1B = (jet["pt"] > 0)[None]
        x_BH = torch.cat([self.globals(globals_BC[None], real_1B)[0].to(dtype), *seen], -1)
        for layer, norm in zip(self.dense, self.norms, strict=True):
            x_BH = self.dropout(norm(layer(x_BH).relu()[None], real_1B)[0])
        logits_BK: Tensor = self.out(x_BH)
        return logits_BK.float()


class ListLayers(nn.Module):
    """Layers for every entry of a list, then what the list says as a whole: (B, N, C) and its mask -> (B, H)."""

    def __init__(self, into: int, widths: tuple[int, ...], out: int, task: DeepJet) -> None:
        super().__init__()
        self.network, self.norm = task.network, ListNorm(into)
        pairs = list(pairwise((into, *widths)))
        self.each = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)
        self.norms = nn.ModuleList(ListNorm(b) for _, b in pairs[:-1])
        self.dropout = nn.Dropout(task.dropout)
        if self.network == "recurrent":
            self.whole: nn.Module = nn.LSTM(widths[-1], out, batch_first=True)
        elif self.network == "sets":
            self.whole = nn.Linear(widths[-1], out)

    def forward(self, x_BNC: Tensor, mask_BN: Tensor) -> Tensor:
        """(B, N, C) and (B, N) -> (B, H); 0 where the list is empty."""
        x_BNC = self._each(x_BNC, mask_BN)
        if self.network == "dense":
            return x_BNC.flatten(1)
        if self.network == "sets":
            summed: Tensor = self.whole(x_BNC.sum(1) / mask_BN.sum(1, keepdim=True).clamp_min(1))
            kept: Tensor = self.dropout(summed.relu() * mask_BN.any(1, keepdim=True))
            return kept
        # The best entry is seen last: real ones from worst to best, then the padding, which comes after what is read.
        count_B1 = mask_BN.sum(1, keepdim=True)
        longest = mask_BN.shape[1] if torch.compiler.is_exporting() else max(1, int(count_B1.max()))
        place_BN = (count_B1 - 1 - torch.arange(longest, device=mask_BN.device)).clamp_min(0)
        turned_BNC = x_BNC.gather(1, place_BN[..., None].expand(-1, -1, x_BNC.shape[-1]))
        states_BNH = self.whole(turned_BNC)[0]
        last_B1 = (count_B1 - 1).clamp_min(0)
        last_BH = states_BNH.gather(1, last_B1[..., None].expand(-1, -1, states_BNH.shape[-1])).squeeze(1)
        out: Tensor = self.dropout(torch.where(count_B1 > 0, last_BH, 0.0))
        return out

    def _each(self, x_BNC: Tensor, mask_BN: Tensor) -> Tensor:
        """What the layers make of every entry, (B, N, H), 0 where padded: on real ones alone, but for tracing."""
        traced = torch.compiler.is_exporting()
        x, mask = (x_BNC, mask_BN) if traced else (x_BNC[mask_BN], None)
        x = self.norm(x, mask)
        for layer, norm in zip(self.each, self.norms, strict=False):
            x = self.dropout(norm(layer(x).relu(), mask))
        out: Tensor = self.each[-1](x).relu()
        if traced:
            return out * mask_BN[..., None]
        return out.new_zeros(*mask_BN.shape, out.shape[-1]).index_put((mask_BN,), out)


def lists(task: DeepJet, jet: dict[str, Tensor], particle: dict[str, Tensor], vertex: dict[str, Tensor],
          mask_BP: Tensor, mask_BV: Tensor) -> tuple[Listed, Listed, Listed]:  # fmt: skip
    """Features of charged particles, neutral ones and vertices, each list cut to its best entries."""
    nearest_BP = _to_vertices(particle, vertex, mask_BV)
    eta_BP, phi_BP = constituents.about_axis(jet, particle)
    away_BP = torch.sqrt(eta_BP.square() + phi_BP.square())
    share_BP = particle["pt"] / jet["pt"][:, None].clamp_min(1e-3)
    charged_BP = mask_BP & (particle["charge"] != 0)
    d0_BP, dz_BP = (_significance(particle[name], particle[f"{name}_error"]) for name in ("d0", "dz"))
    # Ranks are those of significances as they are: among many that are kept at the limit the order would be chance.
    tracks = (share_BP, (share_BP.clamp_min(1e-6)).log(), away_BP, d0_BP.clamp(-MOST, MOST), particle["d0"].tanh(),
              dz_BP.clamp(-MOST, MOST), particle["dz"].tanh(), nearest_BP, particle["charge"])  # fmt: skip
    photon_BP = (particle["pdg"] == 22).to(share_BP.dtype)
    others = (share_BP, away_BP, photon_BP, nearest_BP)
    return (
        _best(torch.stack(tracks, -1), charged_BP, d0_BP.abs(), task.tracks),
        _best(torch.stack(others, -1), mask_BP & ~charged_BP, share_BP, task.neutrals),
        _vertices(jet, vertex, mask_BV, task.vertices),
    )


def _vertices(jet: dict[str, Tensor], vertex: dict[str, Tensor], mask_BV: Tensor, most: int) -> Listed:
    eta_BV, phi_BV = constituents.about_axis(jet, vertex)
    dxy_BV, d3d_BV = (_significance(vertex[name], vertex[f"{name}_error"]) for name in ("dxy", "d3d"))
    share_BV = constituents.energy(vertex) / constituents.energy(jet)[:, None].clamp_min(1e-3)
    features = (vertex["pt"].clamp_min(1e-3).log(), torch.sqrt(eta_BV.square() + phi_BV.square()),
                vertex["mass"].clamp_max(10.0), vertex["n_track"], vertex["dxy"].log1p(), dxy_BV,
                vertex["d3d"].log1p(), d3d_BV, share_BV)  # fmt: skip
    return _best(torch.stack(features, -1), mask_BV, dxy_BV, most)


def _to_vertices(particle: dict[str, Tensor], vertex: dict[str, Tensor], mask_BV: Tensor) -> Tensor:
    """The distance of every particle to the nearest vertex, at most 0.4, (B, P)."""
    eta_BPV = particle["eta"][..., None] - vertex["eta"][:, None, :]
    phi_BPV = delta_phi(particle["phi"][..., None], vertex["phi"][:, None, :])
    away_BPV = torch.sqrt(eta_BPV.square() + phi_BPV.square())
    far_BPV = torch.where(mask_BV[:, None, :], away_BPV, FAR)
    return functional.pad(far_BPV, (0, 1), value=FAR).amin(-1)  # one more, so that no vertex at all is far


def _significance(value: Tensor, error: Tensor) -> Tensor:
    """log(1 + |value / error|) with the sign of the value, for significances have long tails."""
    return torch.where(error > 0, (value / error.clamp_min(1e-6)).abs().log1p() * value.sign(), 0.0)


def _best(features_BPC: Tensor, mask_BP: Tensor, rank_BP: Tensor, most: int) -> Listed:
    """The entries of highest rank in falling order, (B, most, C); those that there are not are 0."""
    more = (0, most)
    rank_BX = functional.pad(torch.where(mask_BP, rank_BP, -1.0), more, value=-1.0)
    place_BN = rank_BX.topk(most, dim=1).indices
    padded_BXC = functional.pad(features_BPC, (0, 0, *more))
    taken_BNC = padded_BXC.gather(1, place_BN[..., None].expand(-1, -1, features_BPC.shape[-1]))
    mask_BN = functional.pad(mask_BP, more).gather(1, place_BN)
    return Listed(torch.where(mask_BN[..., None], taken_BNC, 0.0), mask_BN)


def recipe() -> Values:
    """The settings that this system starts from."""
    return {
        "system": "deepjet",
        "horizon": {"epochs": 20},
        "optimiser": {"rate": 1e-3, "weight_decay": 0.0, "schedule": "one_cycle", "clip": 0.0},
        "scale": {"events_per_step": 1024},
    }
