"""Which rows flow to the training, in which mixture and with which weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from jetscale.config import Config
from jetscale.errors import nearest
from jetscale.events import Events

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")


class Source(Config):
    """One sample in the mixture."""

    events: str = Field(description="a sample's directory, or shipped:NAME")
    share: float | None = Field(None, gt=0, le=1, description="its part of the rows of every step")
    weight: float = Field(1.0, ge=0, description="factor on its rows' training weight")
    event_weight: bool = Field(False, description="multiply by the physics weight, scaled to mean 1 in the sample")


class Split(Config):
    """Parts of every sample by a hash of the event id, so that they do not depend on order or sharding."""

    train: float = Field(0.6, ge=0, le=1)
    validation: float = Field(0.15, ge=0, le=1)
    test: float = Field(0.25, ge=0, le=1)
    seed: int = 0

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        total = self.train + self.validation + self.test
        if not math.isclose(total, 1.0, abs_tol=1e-9):
            raise ValueError(f"train + validation + test is {total:g}, not 1")
        return self


class Folds(Config):
    """As many parts as folds, by a hash of the event id: fold `test` is tested on, the next one validates.

    Runs with `test` 0 to k - 1 together test on every event, each by a network that has not seen it.
    """

    folds: int = Field(ge=3)
    test: int = Field(ge=0)
    seed: int = 0

    @property
    def validation(self) -> int:
        return (self.test + 1) % self.folds

    @model_validator(mode="after")
    def _test_is_a_fold(self) -> Self:
        if self.test >= self.folds:
            raise ValueError(f"test is {self.test}, and the folds are 0 to {self.folds - 1}")
        return self


def split_of(values: Mapping[str, Any]) -> Split | Folds:
    """The split that plain values mean."""
    return Folds(**values) if "folds" in values else Split(**values)


def _kind_of_split(split: object) -> str:
    return "Folds" if isinstance(split, Folds) or (isinstance(split, Mapping) and "folds" in split) else "Split"


Division = Annotated[Annotated[Split, Tag("Split")] | Annotated[Folds, Tag("Folds")], Discriminator(_kind_of_split)]


class Stream(Config):
    """Samples, their mixture, the selection and the split.

    `share`: given for every sample or for none; without shares each sample has the share of its rows. `epoch_of` names
    the sample whose one pass is an epoch (default: the one with most training rows). `select` keeps events whose
    column lies in [low, high): `{decay_mode: [3, 4]}`, an open end is null.
    """

    samples: dict[str, Source] = Field(min_length=1)
    epoch_of: str | None = None
    select: dict[str, tuple[float | None, float | None]] = {}
    split: Division = Split()
    chunk_rows: int = Field(5000, gt=0, description="rows read and shuffled together, in whole row groups")
    negative_weights: Literal["error", "abs", "keep"] = "error"

    @field_validator("samples")
    @classmethod
    def _shares_and_weights(cls, samples: dict[str, Source]) -> dict[str, Source]:
        shares = [source.share for source in samples.values()]
        given = [share for share in shares if share is not None]
        if given and len(given) != len(shares):
            raise ValueError("some samples have a share and some have none: give it to all or to none")
        if given and not math.isclose(sum(given), 1.0, abs_tol=1e-6):
            raise ValueError(f"the shares sum to {sum(given):g}, not 1")
        if not any(source.weight for source in samples.values()):
            raise ValueError("every sample has weight 0: nothing would be learned")
        return samples

    @field_validator("epoch_of")
    @classmethod
    def _epoch_of_is_a_sample(cls, epoch_of: str | None, before: ValidationInfo) -> str | None:
        samples = before.data.get("samples", {epoch_of})
        if epoch_of is not None and epoch_of not in samples:
            raise ValueError(f"no sample of this name; {nearest(epoch_of, samples)}")
        return epoch_of

    def open(self) -> dict[str, Events]:
        """Every sample, opened."""
        return {name: Events.open(source.events) for name, source in self.samples.items()}
