"""weaver-core's ParticleNet as a system of its own, to be trained beside ours on the same stream by the same loop."""

from collections.abc import Mapping
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from jetscale.config import Values
from jetscale.nn.particles import ParticleInputs, hardest
from jetscale.systems import particlenet
from jetscale.systems.particlenet import SIZES
from jetscale.tagger import ParticleTagger
from jetscale.task import NOTHING, Fitted


@final
class WeaverParticleNet(ParticleTagger):
    """Tell classes of jets apart by weaver-core's network."""

    size: Literal["full", "lite"] = "lite"

    def build(self, seed: int, fitted: Fitted = NOTHING) -> nn.Module:
        """The network with fresh weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Weaver(self, fitted.get("particles"))


@final
class Weaver(nn.Module):
    """Columns of jets (B, 4) and of particles (B, P, R) with their mask (B, P) -> logits (B, K)."""

    def __init__(self, task: WeaverParticleNet, moments: Mapping[str, Tensor] | None) -> None:
        super().__init__()
        from weaver.nn.model.ParticleNet import ParticleNet

        k, blocks, dense = SIZES[task.size]
        self.k, self.most, self.scaled = k, task.particles, ParticleInputs(task.features, moments)
        self.net = ParticleNet(len(self.scaled.names), len(task.classes), [(k, block) for block in blocks],
                               [(dense, 0.1)], use_fusion=False)  # fmt: skip

    def forward(self, jet_B4: Tensor, particle_BPR: Tensor, mask_BP: Tensor) -> Tensor:
        """Logits of the classes."""
        particle_BPR, mask_BP = hardest(particle_BPR, mask_BP, self.most)
        cloud = self.scaled(jet_B4, particle_BPR, mask_BP)
        # It needs more slots than neighbours; in training it cuts what is longer than most jets by itself.
        lacking = max(0, self.k + 1 - mask_BP.shape[1])
        padded = (functional.pad(one, (0, 0, 0, lacking)).mT
                  for one in (cloud.points_BP2, cloud.features_BPC, mask_BP[..., None].float()))  # fmt: skip
        logits: Tensor = self.net(*padded)
        return logits


def recipe() -> Values:
    """The settings that ours starts from."""
    return {name: value for name, value in particlenet.recipe().items() if name != "system"}
