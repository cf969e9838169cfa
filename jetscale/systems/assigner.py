"""Jets to parents: which jets came from which of two equal-mass particles, and the mass that follows.

Takane Sano, Javier Montejo Berlingen, Kunihiro Nagano, "Model-independence in machine-learning-based mass
reconstruction for inclusive multi-jet search", Machine Learning at HEP, 10 January 2024. Up to twelve jets get one of
three labels: parent 1, parent 2, or none. Two losses: on the labels (slide 8: cross-entropy) and on the reconstructed
masses (slide 8: Gumbel-softmax, arXiv:1611.01144). Two networks: dense, and equivariant under permutations (slide 7).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, final

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from jetscale import metrics
from jetscale.aggregates import Moments
from jetscale.config import Values
from jetscale.nn.equivariant import EquivariantStack
from jetscale.nn.mlp import MLP
from jetscale.own import complete
from jetscale.physics import toys
from jetscale.physics.assignments import ASYMMETRY, Choice, Readout, independent, jet_by_jet, least_risk, most_probable
from jetscale.physics.groupings import minimum_group_mass, reconstruct
from jetscale.physics.kinematics import mass, p4
from jetscale.schema import ASSIGNMENT, JET_EVENTS, Schema
from jetscale.task import NOTHING, Aggregate, Batch, Fitted, Task

KINDS = 3  # none, parent 1, parent 2
SWAPPED = [0, 2, 1]
FIGURES = ("f10", "peak_fraction", "width", "median", "mass_auc", "relative_signal_position", "jet_accuracy")
FEATURES = ("log pt", "eta", "cos phi", "sin phi", "E", "px", "py", "pz")
MASS_FLOOR = 1.0  # GeV: sqrt has no gradient at 0
REFERENCE_FLOOR = 300.0  # GeV: light targets would otherwise outweigh all others in the relative mass loss


@final
class Assigner(Task):
    """Assign up to `jets` leading jets to two parents or to none."""

    columns: ClassVar[Schema] = JET_EVENTS
    outputs: ClassVar[Schema] = ASSIGNMENT
    TRUTH: ClassVar[str] = (
        "train on samples with truth (labels 0, 1, 2; true_mass; decay_mode); where only jet_parent_quark is known, as "
        "of matched jets, --set task.label=quark"
    )

    network: Literal["equivariant", "dense"] = "equivariant"
    jets: int = Field(12, ge=2, description="leading jets that are looked at; the others belong to none")
    width: int = Field(96, gt=0)
    layers: int = Field(5, ge=2)
    dropout: float = Field(0.0, ge=0, lt=1, description="of the dense network")
    inputs: Literal["absolute", "ht"] = Field("ht", description="four-vectors in units of 500 GeV or of HT")
    loss_on: Literal["label", "mass"] = Field("label", description="cross-entropy, or relative mass by Gumbel-softmax")
    label: Literal["ancestry", "quark"] = "ancestry"
    gumbel: Literal["hard", "soft"] = Field("hard", description="forward with one-hot or with soft assignments")
    temperature: tuple[float, float] = Field((1.0, 0.3), description="of the Gumbel-softmax, at the start and the end")
    readout: Readout = Field(
        "mbr",
        description="argmax: label of each jet; map: assignment of all jets; mbr: that of least risk for the mass",
    )
    background_target: Literal["groups", "minimum"] = Field(
        "groups", description="mass target of background: its hard-parton groups, or the smallest mass of alike groups"
    )

    standardise: bool = Field(False, description="shift and scale the features of jets by their fitted moments")

    def needs(self) -> Mapping[str, Aggregate]:
        """Mean and deviation of the features of jets, where these are standardised."""
        return {"jets": Moments(self._features, FEATURES)} if self.standardise else {}

    def build(self, seed: int, fitted: Fitted = NOTHING) -> nn.Module:
        """The network with fresh weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return JetNetwork(self, fitted["jets"] if self.standardise else None)

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        """The row's weight where the term's truth is known."""
        known_B = self._known(batch).any(1) if self.loss_on == "label" else self._has_target(batch)
        return {self.loss_on: torch.where(known_B, batch.weight_B, 0.0)}

    def loss(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The label or the mass loss of every event, the better of the two namings of the parents."""
        mask_BJ = self._mask(batch)
        logits_BJK = net(*self._jets(batch), mask_BJ)
        if self.loss_on == "label":
            return {"label": label_loss(logits_BJK, self._labels(batch), self._known(batch))}
        before, after = self.temperature
        temperature = before + (after - before) * batch.at.fraction
        share_BJK = gumbel_softmax(logits_BJK, batch.noise(mask_BJ.shape[1], KINDS), temperature, self.gumbel == "hard")
        mass_B2 = group_masses(share_BJK, self._p4(batch), mask_BJ)
        return {"mass": mass_loss(mass_B2, self._targets(batch))}

    def score(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The groups of jets, without noise, and the masses that follow."""
        mask_BJ = self._mask(batch)
        log_p_BJK = net(*self._jets(batch), mask_BJ).log_softmax(-1)
        p4_BJ4 = self._p4(batch, torch.float64)
        choice = self._choice(log_p_BJK, p4_BJ4, mask_BJ)
        groups = reconstruct(p4_BJ4, choice.assigned_BJ)
        return {
            "jet_assigned": choice.assigned_BJ,
            "jet_none_probability": torch.where(mask_BJ, log_p_BJK[..., 0].exp(), 1.0),
            "reco_confidence": choice.confidence_B,
            "reco_mass_1": groups.mass_1_B,
            "reco_mass_2": groups.mass_2_B,
            "reco_mass": groups.mass_B,
            "reco_asymmetry": groups.asymmetry_B,
        }

    def figures(self, scored: pa.Table) -> dict[str, float]:
        """Peak, sculpting and accuracy of the scored validation events."""
        return metrics.figures(FIGURES, metrics.scored(scored, f"jet_parent_{self.label}"))

    def toy(self, n: int, seed: int) -> pa.Table:
        """Pairs of 3-body decays at five masses with two extra jets, smeared by 6 %, and light pairs as background."""
        return complete(toys.pairs(n, np.random.default_rng(seed)), where="toy")

    def _choice(self, log_p_BJK: Tensor, p4_BJ4: Tensor, mask_BJ: Tensor) -> Choice:
        if self.readout == "argmax":
            return jet_by_jet(log_p_BJK, mask_BJ)
        # The leading jets are those of highest pt, wherever in the batch they stand.
        squared_pt_BJ = torch.where(mask_BJ, p4_BJ4[..., 1:3].square().sum(-1), -1.0)  # ONNX has no hypot
        order_BJ = squared_pt_BJ.argsort(dim=1, descending=True)
        log_p_BJK, p4_BJ4 = (one.gather(1, order_BJ[..., None].expand_as(one)) for one in (log_p_BJK, p4_BJ4))
        mask_BJ = mask_BJ.gather(1, order_BJ)
        if self.readout == "map":
            choice = most_probable(independent(log_p_BJK, p4_BJ4, mask_BJ))
        else:
            choice = least_risk(independent(log_p_BJK, p4_BJ4, mask_BJ, asymmetry=ASYMMETRY), p4_BJ4)
        back_BJ = torch.zeros_like(choice.assigned_BJ).scatter(1, order_BJ, choice.assigned_BJ)
        return choice._replace(assigned_BJ=back_BJ)

    def _mask(self, batch: Batch) -> Tensor:
        rank_J = torch.arange(batch.mask("jet").shape[1], device=batch.weight_B.device)
        return batch.mask("jet") & (rank_J < self.jets)

    def _features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features of the jets that are looked at, (B, J, 8), and their event's weight, (B, J)."""
        mask_BJ = self._mask(batch)
        return jet_features(*self._jets(batch), mask_BJ, self.inputs), mask_BJ * batch.weight_B[:, None]

    def _jets(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return batch["jet_pt"], batch["jet_eta"], batch["jet_phi"], batch["jet_mass"]

    def _p4(self, batch: Batch, dtype: torch.dtype = torch.float32) -> Tensor:
        return p4(*(column.to(dtype) for column in self._jets(batch))) * self._mask(batch)[..., None]

    def _labels(self, batch: Batch) -> Tensor:
        return batch[f"jet_parent_{self.label}"].long()

    def _known(self, batch: Batch) -> Tensor:
        return self._mask(batch) & (self._labels(batch) >= 0)

    def _has_target(self, batch: Batch) -> Tensor:
        """Signal of known mass, and background with at least two jets to make a mass of, (B,) bool."""
        return (batch["true_mass"] > 0) | ((batch["decay_mode"] == 0) & (self._mask(batch).sum(1) >= 2))

    def _targets(self, batch: Batch) -> Tensor:
        """Masses that the two groups should have, (B, 2) in GeV."""
        signal_B2 = batch["true_mass"].clamp_min(0.0)[:, None].expand(-1, 2)
        background_B = batch["decay_mode"] == 0
        if not background_B.any():
            return signal_B2
        p4_BJ4, mask_BJ = self._p4(batch, torch.float64), self._mask(batch)
        minimum_B2 = minimum_group_mass(p4_BJ4, mask_BJ)[:, None].expand(-1, 2)
        target_B2 = minimum_B2
        if self.background_target == "groups":
            groups = reconstruct(p4_BJ4, torch.where(self._known(batch), self._labels(batch), 0))
            both_B = (groups.mass_1_B > 0) & (groups.mass_2_B > 0)
            target_B2 = torch.where(both_B[:, None], torch.stack((groups.mass_1_B, groups.mass_2_B), -1), minimum_B2)
        return torch.where(background_B[:, None], target_B2.to(signal_B2.dtype), signal_B2)


@final
class JetNetwork(nn.Module):
    """From jets (pt, eta, phi, mass; each (B, J)) and their mask to three logits per jet, (B, J, 3) float32.

    The inputs are scaled inside, so that the weights are all that an application needs. The four-vector algebra is
    done in the inputs' precision; only the features are cast to that of the weights.
    """

    def __init__(self, task: Assigner, moments: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        self.task = task
        if moments is not None:
            self.register_buffer("mean_C", moments["mean"].clone())
            self.register_buffer("deviation_C", moments["deviation"].clone())
        if task.network == "equivariant":
            self.stack: nn.Module = EquivariantStack(8, task.width, task.layers, KINDS)
        else:
            self.stack = MLP(9 * task.jets, task.width, task.layers - 1, KINDS * task.jets, task.dropout)

    def forward(self, pt_BJ: Tensor, eta_BJ: Tensor, phi_BJ: Tensor, mass_BJ: Tensor, mask_BJ: Tensor) -> Tensor:
        """Logits of none, parent 1, parent 2."""
        features_BJC = jet_features(pt_BJ, eta_BJ, phi_BJ, mass_BJ, mask_BJ, self.task.inputs)
        if self.task.standardise:
            shifted_BJC = (features_BJC - self.get_buffer("mean_C")) / self.get_buffer("deviation_C")
            features_BJC = torch.where(mask_BJ[..., None], shifted_BJC, 0.0)
        features_BJC = features_BJC.to(next(self.stack.parameters()).dtype)
        if self.task.network == "equivariant":
            logits: Tensor = self.stack(features_BJC, mask_BJ)
            return logits.float()
        return self._dense(features_BJC, mask_BJ).float()

    def _dense(self, features_BJC: Tensor, mask_BJ: Tensor) -> Tensor:
        """Slot by slot: the first `jets` jets side by side, as the dense network sees them."""
        jets, width = self.task.jets, mask_BJ.shape[1]
        both_BJC = torch.cat((features_BJC, mask_BJ[..., None].to(features_BJC.dtype)), -1)[:, :jets]
        filled_BJC = functional.pad(both_BJC, (0, 0, 0, jets - both_BJC.shape[1]))
        logits_BJK = self.stack(filled_BJC.flatten(1)).unflatten(1, (jets, KINDS))
        out: Tensor = functional.pad(logits_BJK, (0, 0, 0, max(0, width - jets)))[:, :width]
        return out


def jet_features(pt_BJ: Tensor, eta_BJ: Tensor, phi_BJ: Tensor, mass_BJ: Tensor, mask_BJ: Tensor,
                 inputs: str) -> Tensor:  # fmt: skip
    """What the network sees of a jet: log pt, eta, cos phi, sin phi, and its four-vector, (B, J, 8); 0 where padded.

    The azimuth is counted from the leading jet, so that the two groups have an orientation and events that differ by
    a rotation look the same. With `inputs="ht"` every energy is in units of HT, and no absolute mass can be learned.
    """
    pt_BJ = torch.where(mask_BJ, pt_BJ, 0.0)
    leading_B1 = pt_BJ.argmax(1, keepdim=True)
    phi_BJ = phi_BJ - phi_BJ.gather(1, leading_B1)
    scale_B1 = pt_BJ.sum(1, keepdim=True).clamp_min(1.0) if inputs == "ht" else torch.full_like(pt_BJ[:, :1], 500.0)
    offset = 2.0 if inputs == "ht" else 1.3
    log_pt_BJ = torch.log((pt_BJ / scale_B1).clamp_min(1e-6)) + offset
    angles = (eta_BJ, torch.cos(phi_BJ), torch.sin(phi_BJ))
    vector_BJ4 = p4(pt_BJ, eta_BJ, phi_BJ, mass_BJ) / scale_B1[..., None]
    features_BJC = torch.cat((torch.stack((log_pt_BJ, *angles), -1), vector_BJ4), -1)
    return torch.where(mask_BJ[..., None], features_BJC, 0.0)


def label_loss(logits_BJK: Tensor, labels_BJ: Tensor, known_BJ: Tensor) -> Tensor:
    """Mean cross-entropy over the jets with a known label, for the better naming of the two parents, (B,)."""
    log_p_BJK = logits_BJK.log_softmax(-1)
    swapped = torch.tensor(SWAPPED, device=labels_BJ.device)
    safe_BJ = torch.where(known_BJ, labels_BJ, 0)
    entropies = [
        -torch.where(known_BJ, log_p_BJK.gather(-1, named_BJ[..., None]).squeeze(-1), 0.0).sum(1)
        for named_BJ in (safe_BJ, swapped[safe_BJ])
    ]
    return torch.minimum(*entropies) / known_BJ.sum(1).clamp_min(1)


def gumbel_softmax(logits_BJK: Tensor, noise_BJK: Tensor, temperature: float, hard: bool) -> Tensor:
    """A differentiable draw of one class per jet, (B, J, K); `hard` is one-hot forward and soft backward."""
    gumbel_BJK = -torch.log(-torch.log(noise_BJK))
    soft_BJK = ((logits_BJK + gumbel_BJK) / temperature).softmax(-1)
    if not hard:
        return soft_BJK
    one_hot_BJK = functional.one_hot(soft_BJK.argmax(-1), soft_BJK.shape[-1]).to(soft_BJK.dtype)
    return one_hot_BJK + soft_BJK - soft_BJK.detach()


def group_masses(share_BJK: Tensor, p4_BJ4: Tensor, mask_BJ: Tensor) -> Tensor:
    """Masses of the two groups when jets belong to them by shares, (B, 2) in GeV."""
    share_BJ2 = share_BJK[..., 1:] * mask_BJ[..., None]
    return mass(torch.einsum("bjk,bjx->bkx", share_BJ2, p4_BJ4), floor=MASS_FLOOR)


def mass_loss(mass_B2: Tensor, target_B2: Tensor, delta: float = 0.1) -> Tensor:
    """Mean Huber loss of the two relative masses, for the better pairing with the targets, (B,)."""
    reference_B1 = target_B2.mean(1, keepdim=True).clamp_min(REFERENCE_FLOOR)
    pairings = [
        functional.huber_loss(mass_B2 / reference_B1, paired_B2 / reference_B1, reduction="none", delta=delta).mean(1)
        for paired_B2 in (target_B2, target_B2.flip(1))
    ]
    return torch.minimum(*pairings)


def recipe() -> Values:
    """The settings that this system starts from."""
    return {
        "system": "assigner",
        "horizon": {"epochs": 20},
        "optimiser": {"rate": 3e-3, "weight_decay": 1e-2, "schedule": "one_cycle", "clip": 1.0},
        "scale": {"events_per_step": 256},
    }
