"""ResNeXt on images of jets: a network for photographs, of which jets were long thought to be.

A comparator in Huilin Qu, Loukas Gouskos, "ParticleNet: Jet Tagging via Particle Clouds", 2019, arXiv:1902.08570:
ResNeXt-50 (arXiv:1611.05431) with a quarter of the channels in all but the first layer, and dropout. Pictures are made
from the particles in the network itself, so that no sample holds any. Whatever a jet has outside of its picture is
said by the column `image_outside`, and its mean by the figure `outside`.

As published: `layers: 50`, `size: 64`, `preprocess: axis`. The recipe is smaller.
"""

from __future__ import annotations

from typing import Literal, final

import pyarrow as pa
import torch
from pydantic import Field
from torch import Tensor, nn

from jetscale.config import Values
from jetscale.metrics import Floats
from jetscale.nn.particles import columns, hardest, named
from jetscale.nn.resnext import Layers, ResNeXt
from jetscale.physics import images
from jetscale.physics.images import Preprocess
from jetscale.schema import JET, PARTICLE_IDS, PARTICLES, Column, Schema, flat
from jetscale.tagger import Pictures, Tagger
from jetscale.task import NOTHING, Batch, Fitted

OUTSIDE = Column(name="image_outside", dtype="float32", unit="", low=0, high=1,
                 doc="share of the particles' pt that lies outside of the image")  # fmt: skip


PARTS = ("tracks", "electromagnetic", "hadronic")


@final
class ImageTagger(Tagger):
    """Tell classes of jets apart by their images."""

    preprocess: Preprocess = Field(
        "preprocessed", description="cells of the detector in GeV; about the axis; or centred, turned and mirrored"
    )
    channels: Literal["sum", "detector"] = Field(
        "sum", description="one for all particles, or tracks and two calorimeters apart: needs particle ids"
    )
    size: int = Field(64, ge=8, le=256, description="pixels a side")
    reach: float = Field(0.8, gt=0, le=3, description="half the image's width in (pseudo)rapidity and in azimuth")
    layers: Layers = Field(50, description="50 as published, or 14: a block where there are 3, 4, 6 and 3")
    narrowing: Literal[1, 2, 4] = Field(4, description="what the numbers of channels are divided by")
    pooled: bool = Field(False, description="halve the image once more after the first layer, as photographs are")
    dropout: float = Field(0.5, ge=0, lt=1)
    particles: int | None = Field(None, gt=0, description="the hardest particles that are read; null: all of them")

    @property
    def inputs(self) -> Schema:
        """Jets and their particles, with ids where the detector's parts are told apart."""
        ids = PARTICLE_IDS.columns if self.channels == "detector" else ()
        return JET.plus(*PARTICLES.columns, *ids)

    @property
    def outputs(self) -> Schema:
        """A probability per class, and how much of the jet was not seen."""
        return super().outputs.plus(OUTSIDE)

    def tensors(self, batch: Batch) -> tuple[Tensor, ...]:
        """Columns of jets and of particles, and the mask of the latter."""
        stacks = [torch.stack([batch[name].float() for name in names], -1) for names in columns(self._selection)]
        return (*stacks, batch.mask("particle"))

    def images(self, jet_B4: Tensor, particle_BPR: Tensor, mask_BP: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, N, N) and the share of pt outside of them (B,), of the particles that are read, from what
        `tensors` gives."""
        particle_BPR, mask_BP = hardest(particle_BPR, mask_BP, self.particles)
        jet, particle = named(jet_B4, particle_BPR, self._selection)
        width = 2 * self.reach / self.size
        count_BP, place_BP2 = images.placed(self.preprocess, jet, particle, mask_BP, width)
        cell_BP = images.cells(place_BP2, self.size, self.reach)
        split = self.channels == "detector"
        count_BCP = images.by_detector(count_BP, particle) if split else count_BP[:, None]
        return images.image(count_BCP, cell_BP, self.size), images.outside(count_BP, cell_BP, self.size)

    def pictures(self, batch: Batch) -> Pictures:
        """The same of a batch, with the names of the channels."""
        parts = PARTS if self.channels == "detector" else ("pt",)
        return Pictures(*self.images(*self.tensors(batch)), self.reach, parts)

    def scores_of(self, logits_BK: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The probability of each class, and the share of pt outside."""
        return {**super().scores_of(logits_BK, batch), OUTSIDE.name: self.images(*self.tensors(batch))[1]}

    def figures(self, scored: pa.Table) -> dict[str, float]:
        """What all taggers have, and the mean share of pt outside of the images."""
        outside_B: Floats = flat(scored[OUTSIDE.name])
        weight_B: Floats = flat(scored["weight"])
        total = float(weight_B.sum())
        mean = float((outside_B * weight_B).sum()) / total if total else float("nan")
        return {**super().figures(scored), "outside": mean}

    def build(self, seed: int, fitted: Fitted = NOTHING) -> nn.Module:
        """The network with fresh weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return ImageNetwork(self)

    @property
    def _selection(self) -> Literal["ids", "kinematics"]:
        return "ids" if self.channels == "detector" else "kinematics"


@final
class ImageNetwork(nn.Module):
    """Columns of jets (B, 4) and of particles (B, P, R) with their mask (B, P) -> logits (B, K)."""

    def __init__(self, task: ImageTagger) -> None:
        super().__init__()
        self.task = task
        channels = 3 if task.channels == "detector" else 1
        self.net = ResNeXt(channels, len(task.classes), task.layers, task.narrowing, task.pooled, task.dropout)

    def forward(self, jet_B4: Tensor, particle_BPR: Tensor, mask_BP: Tensor) -> Tensor:
        """Logits of the classes."""
        dtype = self.net.out.weight.dtype
        # Pixels are measured in the share of an even picture's, for sums of nearly nothing drown in a norm's epsilon.
        even = self.task.size**2
        image_BCNN = (self.task.images(jet_B4, particle_BPR, mask_BP)[0] * even).to(dtype)
        if self.training:
            # Rows that only fill up a step are no jets: they take no part in what is normalised.
            real_B = mask_BP.any(1)
            seen_XK: Tensor = self.net(image_BCNN[real_B])
            logits_BK: Tensor = seen_XK.new_zeros(len(real_B), seen_XK.shape[1]).index_put((real_B,), seen_XK)
        else:
            logits_BK = self.net(image_BCNN)
        return logits_BK.float() if dtype != torch.float64 else logits_BK


def recipe() -> Values:
    """The settings that this system starts from: not the published network, but one that a laptop trains.

    14 layers instead of 50 and 32 x 32 pixels instead of 64 x 64, on preprocessed images.
    """
    return {
        "system": "resnext",
        "task": {"layers": 14, "size": 32},
        "horizon": {"epochs": 30},
        "optimiser": {"rate": 1e-3, "weight_decay": 1e-2, "schedule": "cosine", "warm_up": 0.0, "clip": 0.0},
        "scale": {"events_per_step": 256},
    }
