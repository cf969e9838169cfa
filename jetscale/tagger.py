"""What all taggers are: a network that gives every jet a probability of each class.

Rows are jets: a sample of jets, or events taken apart by `stream.each`. A system says which columns its network looks
at and builds it; classes, loss, scores and figures are the same for all.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple, Self

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from jetscale import labels, tagging
from jetscale.aggregates import Classes, Moments, Within
from jetscale.errors import DataError
from jetscale.nn.particles import ParticleInputs, columns, hardest
from jetscale.physics import toy_jets
from jetscale.physics.constituents import Selection
from jetscale.schema import (
    EVENT_ID,
    IMPACT,
    JET,
    JET_LABEL,
    PARTICLE_IDS,
    PARTICLES,
    PROBABILITY,
    WEIGHT,
    Column,
    Schema,
    flat,
)
from jetscale.task import Aggregate, Batch, Task

TERM = "class"


class Filters(NamedTuple):
    """Latent variables on the plane of rapidity and azimuth, on a grid over [-radius, radius] squared, (F, Y, X)."""

    values_FYX: np.ndarray
    radius: float


class Pictures(NamedTuple):
    """Images of jets over [-reach, reach] squared, (B, C, N, N), (pseudo)rapidity along the first axis; the share of pt
    outside of each, (B,); the name of every channel."""

    image_BCNN: Tensor
    outside_B: Tensor
    reach: float
    parts: tuple[str, ...]


class Tagger(Task):
    """Tell classes of jets apart. Abstract; every system's is final."""

    classes: dict[str, tuple[str, ...]] = Field(
        {"qcd": ("qcd",), "top": ("top",)},
        min_length=2,
        description="name of a class: the labels it holds (jetscale.labels); the first is the background",
    )
    TRUTH: ClassVar[str] = "train on jets whose jet_label is one that task.classes hold"
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target that is spread over all classes")

    @model_validator(mode="after")
    def _labels_belong_to_one_class(self) -> Self:
        seen: dict[str, str] = {}
        for name, held in self.classes.items():
            if not held or not name.isidentifier():
                raise ValueError(f"classes.{name}: {'holds no label' if not held else 'a name has letters, digits, _'}")
            for label in held:
                if label not in labels.CODES:
                    raise ValueError(f"classes.{name}: no label {label!r}; the labels are {', '.join(labels.NAMES)}")
                if label in seen:
                    raise ValueError(f"label {label!r} is in the classes {seen[label]!r} and {name!r}")
                seen[label] = name
        return self

    @property
    @abstractmethod
    def inputs(self) -> Schema:
        """The columns that the network looks at."""

    @abstractmethod
    def tensors(self, batch: Batch) -> tuple[Tensor, ...]:
        """What the network is called with: it gives logits, (B, K) float32."""

    @property
    def columns(self) -> Schema:
        """What the network looks at, and the label."""
        return Schema(columns=(EVENT_ID, WEIGHT)).plus(*self.inputs.columns, JET_LABEL)

    @property
    def outputs(self) -> Schema:
        """A probability per class."""
        return Schema(columns=tuple(
            Column(name=f"{PROBABILITY}{name}", dtype="float32", unit="", doc=f"that the jet is {' or '.join(held)}",
                   low=0, high=1)
            for name, held in self.classes.items()
        ))  # fmt: skip

    def needs(self) -> Mapping[str, Aggregate]:
        """The classes' shares: labels outside of all classes, classes without jets, and odd inputs, are found before
        anything is trained."""
        return {"classes": Classes(self.classes, self.class_of), "inputs": Within(self.inputs)}

    def class_of(self, batch: Batch) -> Tensor:
        """The class of every jet, (B,) int64; -1 for a label outside."""
        return self._lookup(batch.weight_B.device)[batch["jet_label"].long().clamp(-1, len(labels.NAMES)) + 1]

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        """The row's weight, where its class is known."""
        return {TERM: torch.where(self.class_of(batch) >= 0, batch.weight_B, 0.0)}

    def loss(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of every jet."""
        return self.loss_of(net(*self.tensors(batch)).float(), batch)

    def score(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The probability of each class.

        Raises:
            DataError: inputs that are not finite, or not within what their columns may hold.
        """
        if not torch.compiler.is_exporting():
            self._look(batch)
        return self.scores_of(net(*self.tensors(batch)).float(), batch)

    def judge(self, net: nn.Module, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Loss and score of the same logits, where a system has no `loss` or `score` of its own.

        Raises:
            DataError: as `score` does.
        """
        if (type(self).loss, type(self).score) != (Tagger.loss, Tagger.score):
            return super().judge(net, batch)
        self._look(batch)
        logits_BK = net(*self.tensors(batch)).float()
        return self.loss_of(logits_BK, batch), self.scores_of(logits_BK, batch)

    def loss_of(self, logits_BK: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The loss that follows from logits, (B, K) float32."""
        target_B = self.class_of(batch).clamp_min(0)
        return {TERM: functional.cross_entropy(logits_BK, target_B, reduction="none",
                                               label_smoothing=self.label_smoothing)}  # fmt: skip

    def scores_of(self, logits_BK: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The columns of `outputs` that follow from logits, (B, K) float32."""
        probability_BK = logits_BK.softmax(-1)
        return {f"{PROBABILITY}{name}": probability_BK[:, number] for number, name in enumerate(self.classes)}

    def figures(self, scored: pa.Table) -> dict[str, float]:
        """Accuracy, AUC and rejections of jets of known class; NaN where only a bound of a rejection is known.

        Where there are jets of unknown label, or of one outside of all classes, `unknown` is their share of all jets.

        Raises:
            DataError: there are jets, and none of them is of any class.
        """
        probability_BK = np.stack([flat(scored[f"{PROBABILITY}{name}"]) for name in self.classes], axis=1)
        code_B = flat(scored["jet_label"]).astype(np.int64)
        class_B = self._lookup(torch.device("cpu")).numpy()[code_B.clip(-1, len(labels.NAMES)) + 1]
        known_B = class_B >= 0
        if len(known_B) and not known_B.any():
            found = sorted({labels.name_of(int(code)) for code in np.unique(code_B)})
            held = [label for of_class in self.classes.values() for label in of_class]
            raise DataError(f"none of {len(known_B)} jets is of a class: their labels are {', '.join(found)}, and the "
                            f"classes hold {', '.join(held)}", where="jet_label",
                            cure="judge on jets of the classes, or see task.classes")  # fmt: skip
        known = tagging.figures(probability_BK[known_B].astype(np.float64), class_B[known_B],
                                flat(scored["weight"])[known_B], list(self.classes), bounds=False)  # fmt: skip
        return dict(known) if known_B.all() else {**known, "unknown": float(np.mean(~known_B))}

    def filters(self, net: nn.Module, batch: Batch) -> Filters | None:
        """Latent variables that are functions of a particle's place, as far out as jets reach; None without such."""
        return None

    def pictures(self, batch: Batch) -> Pictures | None:
        """The images that the network looks at; None if it looks at something else."""
        return None

    def toy(self, n: int, seed: int) -> pa.Table:
        """Jets of all labels of the classes, by a leading-log shower."""
        held = [label for of_class in self.classes.values() for label in of_class]
        columns = toy_jets.jets(n, held, np.random.default_rng(seed))
        columns["event_id"] = pa.array(seed * (1 << 24) + np.arange(n))
        columns["weight"] = pa.array(np.ones(n))
        columns["jet_label"] = pa.array([labels.code(held[place]) for place in columns.pop("place").to_pylist()])
        arrays = [columns[column.name].cast(column.arrow) for column in self.columns.each()]
        return pa.table(arrays, schema=self.columns.arrow)

    def _look(self, batch: Batch) -> None:
        looked = Within(self.inputs)
        for name, odd in zip(looked.names, looked.sums(batch)["odd"].tolist(), strict=True):
            if odd:
                raise DataError(f"{odd:g} values of {name!r} are not finite, or outside of what it may hold",
                                where=name, cure="leave these rows out with stream.select, or mend them")  # fmt: skip

    def _lookup(self, device: torch.device) -> Tensor:
        """The class of every code from -1 to one above the last, int64."""
        class_of = {labels.code(label): number for number, held in enumerate(self.classes.values()) for label in held}
        codes = range(-1, len(labels.NAMES) + 1)
        return torch.tensor([class_of.get(code, -1) for code in codes], dtype=torch.int64, device=device)


class ParticleTagger(Tagger):
    """A tagger that sees its particles through `ParticleInputs`. Abstract, too."""

    features: Selection = Field(
        "kinematics", description="momenta alone, with what particles are, with their tracks too"
    )
    standardise: Literal["published", "fitted"] = Field("published", description="by which numbers inputs are scaled")
    particles: int | None = Field(None, gt=0, description="the hardest particles that are read; null: all of them")

    @property
    def inputs(self) -> Schema:
        """Jets and their particles."""
        more = {"kinematics": (), "ids": PARTICLE_IDS.columns, "full": (*PARTICLE_IDS.columns, *IMPACT.columns)}
        return JET.plus(*PARTICLES.columns, *more[self.features])

    def needs(self) -> Mapping[str, Aggregate]:
        """Mean and deviation of the features, where inputs are scaled by these."""
        plain = ParticleInputs(self.features)
        fitted = {"particles": Moments(lambda batch: self._plain(plain, batch), plain.names)}
        return {**super().needs(), **(fitted if self.standardise == "fitted" else {})}

    def tensors(self, batch: Batch) -> tuple[Tensor, ...]:
        """Columns of jets and of particles, and the mask of the latter."""
        stacks = [torch.stack([batch[name].float() for name in names], -1) for names in columns(self.features)]
        return (*stacks, batch.mask("particle"))

    def _plain(self, inputs: ParticleInputs, batch: Batch) -> tuple[Tensor, Tensor]:
        jet_B4, particle_BPR, mask_BP = self.tensors(batch)
        particle_BPR, mask_BP = hardest(particle_BPR, mask_BP, self.particles)
        return inputs.plain(jet_B4, particle_BPR), mask_BP * batch.weight_B[:, None]
