"""Jets to parents by enumeration: every assignment of the leading jets has a score, and the sum over all is exact.

Beside the networks of Takane Sano, Javier Montejo Berlingen, Kunihiro Nagano, "Model-independence in
machine-learning-based mass reconstruction for inclusive multi-jet search", Machine Learning at HEP, 10 January 2024,
which label jets one by one. Here a transformer whose attention is biased by pairs of jets (as arXiv:2202.03772, 2022)
scores each of the 2997 assignments of eight jets: permutations of jets and the swap of the two parents are exact
symmetries. The loss is the cross-entropy of the true assignment plus the expected error of the mass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple, Self, final

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn import functional

from jetscale import metrics
from jetscale.aggregates import Moments
from jetscale.config import Config, Values
from jetscale.nn.attention import PairBiasedStack
from jetscale.nn.equivariant import masked_mean
from jetscale.nn.mlp import RowMLP
from jetscale.own import complete
from jetscale.physics import toys
from jetscale.physics.assignments import (
    IMPOSSIBLE,
    KEEP,
    Choice,
    Posterior,
    Readout,
    jet_by_jet,
    least_risk,
    marginals,
    most_probable,
)
from jetscale.physics.candidates import FEATURES, candidates, drawn, kinematics, members, over, pairs, place
from jetscale.physics.groupings import reconstruct
from jetscale.physics.kinematics import mass, p4
from jetscale.schema import ASSIGNMENT, JET_EVENTS, SUBSTRUCTURE, Column, Schema, lengths
from jetscale.task import NOTHING, Aggregate, Batch, Fitted, Task

FIGURES = ("f10", "peak_fraction", "width", "median", "mass_auc", "relative_signal_position", "jet_accuracy")
JET_FEATURES, PAIR_FEATURES = 7, 5
REFERENCE = 0.95  # of the true mass: what the jets of a parent weigh, some of it being lost
REFERENCE_FLOOR = 300.0  # GeV: light targets would otherwise outweigh all others in the relative mass error
WINDOW = 0.1  # of the relative mass: how near is right
PIECE = 640  # candidates whose features are in memory at once


class Terms(Config):
    """By what the values of the loss terms are multiplied; a term with 0 is left out."""

    label: float = Field(1.0, ge=0, description="cross-entropy of the true assignment of the leading jets")
    mass: float = Field(4.0, ge=0, description="expected u^2 / (1 + u^2) of the relative mass error u / 10 %")
    trailing: float = Field(0.3, ge=0, description="cross-entropy of the jets behind them, given the true groups")

    @model_validator(mode="after")
    def _something_is_learned(self) -> Self:
        if not self.label + self.mass + self.trailing > 0:
            raise ValueError("label, mass and trailing are all 0: nothing would be learned")
        return self


@final
class Enumerator(Task):
    """Score all assignments of the leading jets to two parents or to none."""

    outputs: ClassVar[Schema] = ASSIGNMENT
    TRUTH: ClassVar[str] = (
        "train on samples with truth (labels 0, 1, 2; true_mass; decay_mode); where only jet_parent_quark is known, as "
        "of matched jets, --set task.label=quark"
    )

    jets: int = Field(12, ge=2, description="jets of highest pt that are looked at; the others belong to none")
    leading: int = Field(8, ge=3, le=9, description="of these, so many are enumerated")
    most_none: int = Field(5, ge=0, description="most of the enumerated jets that belong to none")
    width: int = Field(64, gt=0)
    layers: int = Field(3, ge=1)
    heads: int = Field(4, ge=1)
    inputs: Literal["absolute", "ht"] = Field("ht", description="whether the network is told HT, or ratios to it alone")
    label: Literal["ancestry", "quark"] = "ancestry"
    extra: tuple[str, ...] = Field((), description="more columns of jets to look at: jet_n_constituent, jet_width, ...")
    terms: Terms = Terms()
    sampled: int | None = Field(600, gt=0, description="candidates drawn per training step; null: all, slower")
    readout: Readout = Field(
        "mbr",
        description="argmax: label of each jet; map: assignment of all jets; mbr: that of least risk for the mass",
    )
    beam: int = Field(0, ge=0, le=4, description="of mbr: so many jets behind the leading ones are enumerated too")

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.jets < self.leading:
            raise ValueError(f"jets = {self.jets} is less than leading = {self.leading}")
        if self.most_none > self.leading - 2:
            raise ValueError(f"most_none = {self.most_none} leaves fewer than two of {self.leading} jets")
        if self.width % self.heads:
            raise ValueError(f"width = {self.width} is not divided by heads = {self.heads}")
        return self

    @field_validator("extra")
    @classmethod
    def _columns_of_jets(cls, extra: tuple[str, ...]) -> tuple[str, ...]:
        for name in extra:
            if not name.startswith("jet_"):
                raise ValueError(f"{name!r} is no column of jets")
            if name in JET_EVENTS:
                raise ValueError(f"{name!r} is seen already, or is the truth")
            if extra.count(name) > 1:
                raise ValueError(f"{name!r} twice")
        return extra

    @property
    def columns(self) -> Schema:
        """Those of jet events, and the extra ones; these are float32, but for those that jetscale itself defines."""
        found = [SUBSTRUCTURE[name] if name in SUBSTRUCTURE else
                 Column(name=name, of="jet", dtype="float32", unit="", doc="a number of every jet")
                 for name in self.extra]  # fmt: skip
        return JET_EVENTS.plus(*found)

    def needs(self) -> Mapping[str, Aggregate]:
        """Mean and deviation of the extra columns."""
        return {"extra": Moments(self._extra, self.extra)} if self.extra else {}

    def build(self, seed: int, fitted: Fitted = NOTHING) -> nn.Module:
        """The network with fresh weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return CandidateNetwork(self, fitted["extra"] if self.extra else None)

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        """The row's weight where the term's truth is known, and there are jets enough for a candidate."""
        seen = self._seen(batch)
        label_BJ = self._labels(batch, seen)
        enough_B = seen.mask_BJ[:, : self.leading].sum(1) >= self.fewest
        known_B = enough_B & (label_BJ[:, : self.leading] >= 0).all(1)
        signal_B, background_B = batch["true_mass"] > 0, batch["decay_mode"] == 0
        has = {
            "label": known_B & (self._truth(label_BJ) > 0),
            "mass": torch.where(background_B, known_B, enough_B & signal_B),
            "trailing": known_B,
        }
        return {term: torch.where(has[term], batch.weight_B, 0.0) for term in self._scales()}

    def loss(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The terms of every event: over all candidates, or in training over those that the step has drawn."""
        seen = self._seen(batch)
        label_BJ = self._labels(batch, seen)
        truth_B = self._truth(label_BJ).clamp_min(0)
        drawn_C = self._drawn(batch) if net.training else None
        scored = Scored(*net(*seen.inputs, drawn_C, truth_B))
        log_p_BC = self._log_p(scored.score_BC, drawn_C, truth_B)
        at_B = truth_B if drawn_C is None else torch.full_like(truth_B, len(drawn_C))
        values = {
            "label": -log_p_BC.gather(1, at_B[:, None]).squeeze(1),
            "mass": (log_p_BC.exp() * _error(scored.mass_BC, self._target(batch, seen, label_BJ))).sum(1),
            "trailing": self._trailing(scored, label_BJ, seen.mask_BJ),
        }
        return {term: scale * values[term] for term, scale in self._scales().items()}

    def score(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The groups of jets and the masses that follow."""
        seen = self._seen(batch)
        scored = Scored(*net(*seen.inputs))
        label_CJ = candidates(self.leading, self.most_none).to(seen.mask_BJ.device)
        posterior = Posterior(scored.score_BC, label_CJ, lambda label_BTJ, _: scored.behind(label_BTJ, seen.mask_BJ))
        log_p_BJK, p4_BJ4 = marginals(posterior), seen.p4()
        choice = self._choice(posterior, log_p_BJK, p4_BJ4, seen.mask_BJ)
        groups = reconstruct(p4_BJ4, choice.assigned_BJ)
        return {
            "jet_assigned": seen.back(choice.assigned_BJ, batch["jet_pt"], 0),
            "jet_none_probability": seen.back(log_p_BJK[..., 0].exp(), batch["jet_pt"], 1),
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
        """Pairs of 3-body decays at five masses with five extra jets, smeared by 6 %, and light pairs as background."""
        dice = np.random.default_rng(seed)
        table = complete(toys.pairs(n, dice, extra=5), where="toy")
        offsets = np.concatenate([[0], np.cumsum(lengths(table, "jet", JET_EVENTS))]).astype(np.int32)
        for name in self.extra:  # says nothing of the jets
            values = pa.array((50 * dice.random(offsets[-1])).astype(self.columns[name].dtype))
            table = table.append_column(self.columns.arrow.field(name), pa.ListArray.from_arrays(offsets, values))
        return table

    def _choice(self, posterior: Posterior, log_p_BJK: Tensor, p4_BJ4: Tensor, mask_BJ: Tensor) -> Choice:
        if self.readout == "argmax":
            return jet_by_jet(log_p_BJK, mask_BJ)
        if self.readout == "map":
            return most_probable(posterior)
        return least_risk(posterior, p4_BJ4, keep=KEEP, beam=self.beam)

    @property
    def fewest(self) -> int:
        """Real jets among the leading ones with which there is a candidate that has two groups."""
        return max(2, self.leading - self.most_none)

    @property
    def count(self) -> int:
        """Candidates, but for none at all."""
        return len(candidates(self.leading, self.most_none)) - 1

    def _scales(self) -> dict[str, float]:
        """The terms that are learned from, and by what their values are multiplied."""
        behind = self.jets > self.leading
        return {term: scale for term, scale in self.terms.values().items() if scale and (term != "trailing" or behind)}

    def _drawn(self, batch: Batch) -> Tensor | None:
        """The candidates of this step, the same for all its rows on all workers."""
        if self.sampled is None or self.sampled >= self.count:
            return None
        return drawn(self.count, self.sampled, batch.seed, batch.at.step, batch.weight_B.device)

    def _log_p(self, score_BC: Tensor, drawn_C: Tensor | None, truth_B: Tensor) -> Tensor:
        """Log posterior of the candidates; where some were drawn, each stands for many, and the true one for itself."""
        if drawn_C is None:
            return score_BC.log_softmax(1)
        others_BC = score_BC[:, :-1] + math.log(self.count / len(drawn_C))
        others_BC = torch.where(drawn_C == truth_B[:, None], IMPOSSIBLE, others_BC)
        true_B1 = torch.where(truth_B[:, None] > 0, score_BC[:, -1:], IMPOSSIBLE)
        return torch.cat((others_BC, true_B1), 1).log_softmax(1)

    def _target(self, batch: Batch, seen: Seen, label_BJ: Tensor) -> Tensor:
        """The mass that the groups should have, (B) in GeV: of background, that of its hard-parton groups."""
        groups = reconstruct(seen.p4(), label_BJ.clamp_min(0))
        return torch.where(batch["decay_mode"] == 0, groups.mass_B.float(), REFERENCE * batch["true_mass"])

    def _trailing(self, scored: Scored, label_BJ: Tensor, mask_BJ: Tensor) -> Tensor:
        """Mean cross-entropy of the jets behind the leading ones, given the true groups of these, (B,)."""
        first_BJ, behind_BR = label_BJ.tensor_split([self.leading], 1)
        known_BR = mask_BJ[:, self.leading :] & (behind_BR >= 0)
        log_p_BRK = scored.logits_behind(first_BJ[:, None]).squeeze(1).log_softmax(-1)
        right_BR = log_p_BRK.gather(-1, behind_BR.clamp_min(0)[..., None]).squeeze(-1)
        return torch.where(known_BR, -right_BR, 0.0).sum(1) / known_BR.sum(1).clamp_min(1)

    def _seen(self, batch: Batch) -> Seen:
        pt_BJ = torch.where(batch.mask("jet"), batch["jet_pt"], -1.0)
        order_BJ = pt_BJ.argsort(dim=1, descending=True)[:, : self.jets]  # not stable: ONNX knows no such sorting
        columns = (batch["jet_pt"], batch["jet_eta"], batch["jet_phi"], batch["jet_mass"], batch.mask("jet"))
        taken = [self._taken(column_BJ, order_BJ) for column_BJ in columns]
        extra = [self._taken(batch[name].float(), order_BJ) for name in self.extra]
        taken.append(torch.stack(extra, -1) if extra else taken[0].new_zeros(*taken[0].shape, 0))
        return Seen(order_BJ, *taken)

    def _extra(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The extra columns (B, J, X), and their event's weight where there is a jet (B, J)."""
        values_BJX = torch.stack([batch[name].float() for name in self.extra], -1)
        return values_BJX, batch.mask("jet") * batch.weight_B[:, None]

    def _taken(self, column_BJ: Tensor, order_BJ: Tensor) -> Tensor:
        """The jets that are looked at: as many places as are enumerated, or more."""
        taken_BJ = column_BJ.gather(1, order_BJ)
        lacking = self.leading - taken_BJ.shape[1]
        return functional.pad(taken_BJ, (0, lacking)) if lacking > 0 else taken_BJ

    def _labels(self, batch: Batch, seen: Seen) -> Tensor:
        """Labels of the jets that are looked at, 0 where padded, -1 where not known, (B, J)."""
        label_BJ = self._taken(batch[f"jet_parent_{self.label}"], seen.order_BJ).long()
        return torch.where(seen.mask_BJ, label_BJ, 0)

    def _truth(self, label_BJ: Tensor) -> Tensor:
        """The place of the true candidate, -1 where it is none of them, (B,)."""
        first_BJ = label_BJ[:, : self.leading]
        found_B = place(first_BJ.clamp_min(0), self.most_none)
        return torch.where((first_BJ >= 0).all(1), found_B, -1)


class Seen(NamedTuple):
    """The jets that are looked at, (B, J) each, in falling pt, and where in the batch they stand.

    `extra_BJX` holds their extra columns, of which there may be none.
    """

    order_BJ: Tensor
    pt_BJ: Tensor
    eta_BJ: Tensor
    phi_BJ: Tensor
    mass_BJ: Tensor
    mask_BJ: Tensor
    extra_BJX: Tensor

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What the network takes."""
        return self[1:]

    def p4(self) -> Tensor:
        """Four-vectors (B, J, 4) in GeV, double precision, 0 where padded."""
        columns = (self.pt_BJ, self.eta_BJ, self.phi_BJ, self.mass_BJ)
        return p4(*(column_BJ.double() for column_BJ in columns)) * self.mask_BJ[..., None]

    def back(self, value_BJ: Tensor, like_BJ: Tensor, other: float) -> Tensor:
        """Values where their jets stand in the batch, and another number for all other jets."""
        value_BJ = torch.where(self.mask_BJ, value_BJ, other)[:, : self.order_BJ.shape[1]]
        return torch.full_like(like_BJ, other, dtype=value_BJ.dtype).scatter(1, self.order_BJ, value_BJ)


class Scored(NamedTuple):
    """What the network says: scores and masses (GeV) of candidates (B, C), logits of none of each jet (B, J), and of
    one source of each pair (B, J, J)."""

    score_BC: Tensor
    mass_BC: Tensor
    none_BJ: Tensor
    pair_BJJ: Tensor

    def logits_behind(self, label_BTJ: Tensor) -> Tensor:
        """Logits of none, 1, 2 for the jets behind the labelled ones, (B, T, R, 3)."""
        jets = label_BTJ.shape[-1]
        to_BJR = self.pair_BJJ[:, :jets, jets:]
        group_1_BTR, group_2_BTR = (member_BTJ @ to_BJR for member_BTJ in members(label_BTJ))
        none_BTR = self.none_BJ[:, None, jets:].expand_as(group_1_BTR)
        return torch.stack((none_BTR, group_1_BTR, group_2_BTR), -1)

    def behind(self, label_BTJ: Tensor, mask_BJ: Tensor) -> Tensor:
        """The same as log-probabilities; padded jets belong to none."""
        log_p_BTRK = self.logits_behind(label_BTJ).log_softmax(-1)
        real_BR = mask_BJ[:, label_BTJ.shape[-1] :]
        nothing_K = log_p_BTRK.new_tensor([0.0, IMPOSSIBLE, IMPOSSIBLE])
        return torch.where(real_BR[:, None, :, None], log_p_BTRK, nothing_K)


@final
class CandidateNetwork(nn.Module):
    """From jets (pt, eta, phi, mass; each (B, J)), their mask and extra columns to what `Scored` holds, float32.

    A candidate's score is the sum of its jets' none logits, of the logits of all pairs in a group, and of a small MLP
    of what the groups weigh. The four-vector algebra is done in double precision.
    """

    def __init__(self, task: Enumerator, moments: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        self.task, hidden, inputs = task, 32, JET_FEATURES + len(task.extra)
        if moments is not None:
            self.register_buffer("mean_X", moments["mean"].clone())
            self.register_buffer("deviation_X", moments["deviation"].clone())
        self.stack = PairBiasedStack(inputs, PAIR_FEATURES, task.width, task.layers, task.heads)
        self.none = nn.Linear(task.width, 1)
        self.either, self.between = nn.Linear(task.width, hidden, bias=False), nn.Linear(PAIR_FEATURES, hidden)
        self.same = nn.Linear(hidden, 1)
        self.weighed, self.pooled = RowMLP(FEATURES, 16), nn.Linear(task.width, 16, bias=False)

    def forward(self, pt_BJ: Tensor, eta_BJ: Tensor, phi_BJ: Tensor, mass_BJ: Tensor, mask_BJ: Tensor,
                extra_BJX: Tensor, drawn_C: Tensor | None = None, own_B: Tensor | None = None
                ) -> tuple[Tensor, ...]:  # fmt: skip
        """Of all candidates, or of those drawn and behind them of each event's own."""
        p4_BJ4 = p4(pt_BJ.double(), eta_BJ.double(), phi_BJ.double(), mass_BJ.double()) * mask_BJ[..., None]
        jet_BJC, pair_BJJC = features(
            pt_BJ.double(), phi_BJ.double(), mass_BJ.double(), p4_BJ4, mask_BJ, self.task.inputs
        )
        if self.task.extra:
            shifted_BJX = (extra_BJX - self.get_buffer("mean_X")) / self.get_buffer("deviation_X")
            jet_BJC = torch.cat((jet_BJC, torch.where(mask_BJ[..., None], shifted_BJX, 0.0)), -1)
        dtype = self.none.weight.dtype
        x_BJH = self.stack(jet_BJC.to(dtype), pair_BJJC.to(dtype), mask_BJ)
        none_BJ = torch.where(mask_BJ, self.none(x_BJH).squeeze(-1).float(), 0.0)
        pair_BJJ = self._pairs(x_BJH, pair_BJJC.to(dtype), mask_BJ)
        pooled_BH = self.pooled(masked_mean(x_BJH, mask_BJ))
        label_CJ = candidates(self.task.leading, self.task.most_none).to(mask_BJ.device)
        sets = list((label_CJ if drawn_C is None else label_CJ[drawn_C]).split(PIECE))
        if drawn_C is not None and own_B is not None:
            sets.append(label_CJ[own_B][:, None])
        event = Event(none_BJ, pair_BJJ, p4_BJ4, mask_BJ, pooled_BH)
        scores, masses = zip(*(self._scored(event, labels) for labels in sets), strict=True)
        return torch.cat(scores, 1), torch.cat(masses, 1), none_BJ, pair_BJJ

    def _pairs(self, x_BJH: Tensor, pair_BJJC: Tensor, mask_BJ: Tensor) -> Tensor:
        """Logits of one source, (B, J, J): symmetric, 0 on the diagonal and where padded."""
        either_BJH = self.either(x_BJH)
        hidden_BJJH = either_BJH[:, :, None] + either_BJH[:, None, :] + self.between(pair_BJJC)
        logit_BJJ = self.same(functional.gelu(hidden_BJJH)).squeeze(-1).float()
        return torch.where(_both(mask_BJ), logit_BJJ, 0.0)

    def _scored(self, event: Event, label_CJ: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and masses (GeV) of some candidates, (B, C) each."""
        leading = self.task.leading
        real_BJ = event.mask_BJ[:, :leading]
        enough_B1 = real_BJ.sum(1, keepdim=True) >= self.task.fewest
        member_1, member_2 = members(label_CJ)
        used = member_1 + member_2
        # One matrix product: the sums of logits, and what cannot be: padded jets in a group, no group in spite of jets.
        number_BF = torch.cat((event.none_BJ[:, :leading], 0.5 * event.pair_BJJ[:, :leading, :leading].flatten(1),
                               IMPOSSIBLE * ~real_BJ, IMPOSSIBLE * enough_B1), 1)  # fmt: skip
        table = (1 - used, pairs(member_1) + pairs(member_2), used, 1 - used.amax(-1, keepdim=True))
        sum_BC = over(number_BF, torch.cat(table, -1))
        groups = kinematics(event.p4_BJ4[:, :leading], mass(event.p4_BJ4.sum(1)), label_CJ)
        weighed_BC = self.weighed(groups.feature_BFC.to(event.pooled_BH.dtype), event.pooled_BH)
        return sum_BC + weighed_BC.float(), groups.mass_BC


class Event(NamedTuple):
    """What candidates are scored with: logits of jets and pairs, four-vectors (GeV), the mask, the pooled network."""

    none_BJ: Tensor
    pair_BJJ: Tensor
    p4_BJ4: Tensor
    mask_BJ: Tensor
    pooled_BH: Tensor


def _error(mass_BC: Tensor, target_B: Tensor) -> Tensor:
    """u^2 / (1 + u^2) of every candidate, u its relative mass error over 10 %, (B, C)."""
    width_B = WINDOW * target_B.clamp_min(REFERENCE_FLOOR)
    square_BC = ((mass_BC - target_B[:, None]) / width_B[:, None]).square()
    return square_BC / (1 + square_BC)


def features(
    pt_BJ: Tensor, phi_BJ: Tensor, mass_BJ: Tensor, p4_BJ4: Tensor, mask_BJ: Tensor, inputs: str
) -> tuple[Tensor, Tensor]:
    """What the network sees of jets (B, J, 7) and of pairs (B, J, J, 5): ratios, in the frame without momentum along
    the beam; 0 where padded. With `inputs="absolute"` one of them is log HT, otherwise that place is 0."""
    pt_BJ = torch.where(mask_BJ, pt_BJ, 0.0)
    ht_B1 = pt_BJ.sum(1, keepdim=True).clamp_min(1.0)
    y_BJ = torch.where(mask_BJ, _rapidity(p4_BJ4) - _rapidity(p4_BJ4.sum(1, keepdim=True)), 0.0)
    energy_BJ = torch.where(mask_BJ, (pt_BJ.square() + mass_BJ.square()).sqrt() * y_BJ.cosh(), 0.0)
    safe_BJ = pt_BJ.clamp_min(1e-3)
    scale_B1 = 3 * (torch.log(ht_B1 / 1000) - 0.7) if inputs == "absolute" else torch.zeros_like(ht_B1)
    seen = (
        torch.log(safe_BJ / ht_B1) + 2.2,
        y_BJ.abs() - 0.8,
        0.7 * (torch.log((mass_BJ / safe_BJ).clamp_min(1e-3)) + 2),
        4 * energy_BJ / energy_BJ.sum(1, keepdim=True).clamp_min(1.0),
        (pt_BJ >= pt_BJ.amax(1, keepdim=True)).to(pt_BJ.dtype),
        ((mask_BJ.sum(1, keepdim=True).to(pt_BJ.dtype) - 8.5) / 2).expand_as(pt_BJ),
        scale_B1.expand_as(pt_BJ),
    )
    jet_BJC = torch.where(mask_BJ[..., None], torch.stack(seen, -1), 0.0)
    pair_BJJC = _pair_features(pt_BJ, y_BJ, phi_BJ, p4_BJ4, ht_B1[..., None])
    return jet_BJC, torch.where(_both(mask_BJ)[..., None], pair_BJJC, 0.0)


def _pair_features(pt_BJ: Tensor, y_BJ: Tensor, phi_BJ: Tensor, p4_BJ4: Tensor, ht_B11: Tensor) -> Tensor:
    turned_BJJ = phi_BJ[:, :, None] - phi_BJ[:, None, :]
    apart_BJJ = (turned_BJJ - math.tau * (turned_BJJ / math.tau).round()).abs()
    distance_BJJ = ((y_BJ[:, :, None] - y_BJ[:, None, :]).square() + apart_BJJ.square()).sqrt()
    mass_BJJ = mass(p4_BJ4[:, :, None] + p4_BJ4[:, None, :])
    least_BJJ = torch.minimum(pt_BJ[:, :, None], pt_BJ[:, None, :])
    seen = (
        distance_BJJ - 2,
        torch.log((mass_BJJ / ht_B11).clamp_min(1e-3)) + 2,
        torch.log((least_BJJ * distance_BJJ / ht_B11).clamp_min(1e-4)) + 2.5,
        apart_BJJ - 1.6,
        3 * least_BJJ / (pt_BJ[:, :, None] + pt_BJ[:, None, :]).clamp_min(1e-3) - 1,
    )
    return torch.stack(seen, -1)


def _rapidity(p4: Tensor) -> Tensor:
    """Rapidity (...) of four-vectors (..., 4); 0 for an empty one."""
    plus, minus = p4[..., 0] + p4[..., 3], p4[..., 0] - p4[..., 3]
    return 0.5 * (plus.clamp_min(1e-9) / minus.clamp_min(1e-9)).log()


def _both(mask_BJ: Tensor) -> Tensor:
    """Pairs of two different real jets, (B, J, J)."""
    apart_JJ = ~torch.eye(mask_BJ.shape[1], dtype=torch.bool, device=mask_BJ.device)
    return mask_BJ[:, :, None] & mask_BJ[:, None, :] & apart_JJ


def recipe() -> Values:
    """The settings that this system starts from."""
    return {
        "system": "enumerator",
        "horizon": {"epochs": 15},
        "optimiser": {"rate": 2e-3, "weight_decay": 1e-2, "schedule": "one_cycle", "warm_up": 0.15, "clip": 1.0},
        "scale": {"events_per_step": 256},
    }
