"""Which rows flow to the training, in which mixture and with which weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, SerializeAsAny, Tag, ValidationInfo, field_validator, model_validator

from jetscale.config import Config
from jetscale.derive import Derived, Kept
from jetscale.errors import ConfigError, nearest
from jetscale.events import Events
from jetscale.kinds import derived
from jetscale.schema import JET_LABEL

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")


class Source(Config):
    """One sample in the mixture."""

    events: str = Field(description="a sample's directory, or shipped:NAME")
    share: float | None = Field(None, gt=0, le=1, description="its part of the rows of every step")
    weight: float = Field(1.0, ge=0, description="factor on its rows' training weight")
    event_weight: bool = Field(False, description="multiply by the physics weight, scaled to mean 1 in the sample")
    rename: dict[str, str] = Field({}, description="the sample's name of a column: the name that the task knows")
    set: dict[str, float] = Field({}, description="columns that are one number for all rows of this sample")


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


class Each(Config):
    """Rows are the members of a collection instead of the events, all of them or the first ones."""

    of: str = Field(description="the collection: jet, ...")
    first: int | None = Field(None, gt=0)


class Buckets(Config):
    """Rows of like length follow each other: inside a chunk they are sorted by length and dealt in blocks of `rows`.

    The padding of a lane's rows falls, and so does the time of a step where sets are long and few lanes share a
    micro-batch (lanes are at different blocks, and a micro-batch is padded to its longest set). The cost: rows that
    are used together are alike in length, so that gradients of single lanes differ more than those of random rows.
    """

    of: str = Field(description="the collection whose length counts: particle, jet, ...")
    rows: int = Field(gt=0, description="rows of a block; about events_per_step / lanes")


class Stream(Config):
    """Samples, their mixture, how their rows become those of the task, the selection and the split.

    `share`: given for every sample or for none; without shares each sample has the share of its rows. `epoch_of` names
    the sample whose one pass is an epoch (default: the one with most training rows).

    The rows of a sample become those of the task in this order: `rename` (old name: new name), `set` (a number for a
    whole column; it takes the place of one that is there or derived), `derive` (columns made of others, see
    jetscale.kinds), `each` (one row per jet). What a sample says in its own `rename` and `set` wins. `select` keeps
    rows whose column lies in [low, high): `{decay_mode: [3, 4]}`, an open end is null; of `jet_label` it may also name
    the labels that are kept, `{jet_label: [qcd, top]}`. `reweight` names a derived column that the training weight is
    multiplied by.
    """

    samples: dict[str, Source] = Field(min_length=1)
    epoch_of: str | None = None
    rename: dict[str, str] = {}
    set: dict[str, float] = {}
    derive: dict[str, SerializeAsAny[Derived]] = {}
    each: Each | None = None
    select: dict[str, Kept] = {}
    reweight: str | None = None
    split: Division = Split()
    validation_rows: int = Field(100_000, gt=0, description="about as many of the validation part are looked at")
    chunk_rows: int = Field(2500, gt=0, description="rows read and shuffled together, in whole row groups")
    buckets: Buckets | None = None
    negative_weights: Literal["error", "abs", "keep"] = "error"

    @field_validator("derive", mode="before")
    @classmethod
    def _of_their_kinds(cls, columns: Any, given: ValidationInfo) -> Any:
        where = (given.context or {}).get("where", "stream")
        if not isinstance(columns, dict):
            return columns
        return {name: _derived(one, where, f"stream.derive.{name}") for name, one in columns.items()}

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

    @field_validator("select")
    @classmethod
    def _labels_are_of_jets(cls, select: dict[str, Kept]) -> dict[str, Kept]:
        for name, kept in select.items():
            if isinstance(kept[0], str) and name != JET_LABEL.name:
                raise ValueError(
                    f"{name} is to lie in {list(kept)}: only {JET_LABEL.name} has labels, give two numbers"
                )
        return select

    @field_validator("epoch_of")
    @classmethod
    def _epoch_of_is_a_sample(cls, epoch_of: str | None, before: ValidationInfo) -> str | None:
        samples = before.data.get("samples", {epoch_of})
        if epoch_of is not None and epoch_of not in samples:
            raise ValueError(f"no sample of this name; {nearest(epoch_of, samples)}")
        return epoch_of

    @field_validator("reweight")
    @classmethod
    def _reweight_is_derived(cls, reweight: str | None, before: ValidationInfo) -> str | None:
        columns = before.data.get("derive", {reweight})
        if reweight is not None and reweight not in columns:
            raise ValueError(f"no column of this name in stream.derive; {nearest(reweight, columns)}")
        return reweight

    def unfitted(self) -> Stream:
        """The stream without the numbers that were fitted to its training part."""
        derive = {name: column.model_copy(update={"fitted": {}}) for name, column in self.derive.items()}
        return self.model_copy(update={"derive": derive})

    def open(self) -> dict[str, Events]:
        """Every sample, opened."""
        return {name: Events.open(source.events) for name, source in self.samples.items()}


def _derived(values: Any, where: str, under: str) -> Derived:
    if isinstance(values, Derived):
        return values
    if not isinstance(values, dict):
        raise ConfigError(f"{under} is {values!r}, not settings", where=where, cure="write {by: KIND, ...}")
    return derived(values, where, under)
