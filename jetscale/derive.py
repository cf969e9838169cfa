"""What a column that is made of others is, row by row: each kind is a class, and so is a user's own.

    derive:
      ht: {by: Sum, of: jet_pt}
      region: {by: Window, of: mjj, low: 3300, high: 3700}
      mine: {by: ./mine.py:Aplanarity, of: jet}

A value is a function of its row, of numbers fitted once over the training part, and of a key made of seed, epoch and
event id. It is the same in whatever chunk, lane or worker it is made. The kinds there are stand in jetscale.kinds,
those that are weights in jetscale.reweight.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, ClassVar, NamedTuple, TypeGuard

import numpy as np
import pyarrow as pa
from pydantic import AfterValidator, BeforeValidator, Field
from torch import Tensor

from jetscale import labels, userfile
from jetscale.config import Config, Values, build
from jetscale.errors import ConfigError, nearest
from jetscale.schema import Column, Schema

Ends = tuple[float | None, float | None]
Labels = tuple[str, ...]
Numbers = dict[str, tuple[float, ...]]


def _are_labels(kept: Sequence[Any]) -> TypeGuard[Labels]:
    return bool(kept) and all(isinstance(one, str) for one in kept)


def _are_ends(kept: Sequence[Any]) -> TypeGuard[Ends]:
    return not _are_labels(kept)


def _pair(ends: Any) -> Any:
    if not isinstance(ends, list | tuple) or len(ends) != 2:
        raise ValueError("a pair [low, high] is wanted, null for an open end")
    return ends


def _rising(ends: Ends) -> Ends:
    low, high = ends
    if low is not None and high is not None and not low < high:
        raise ValueError(f"low = {low:g} is not below high = {high:g}")
    return ends


Range = Annotated[Ends, BeforeValidator(_pair), AfterValidator(_rising)]  # low <= value < high


def _pair_or_labels(kept: Any) -> Any:
    return kept if isinstance(kept, list | tuple) and _are_labels(kept) else _pair(kept)


def _rising_or_known(kept: Ends | Labels) -> Ends | Labels:
    if _are_ends(kept):
        return _rising(kept)
    for label in kept:
        if label not in labels.CODES:
            raise ValueError(f"no label {label!r}; {nearest(str(label), labels.CODES)}")
    return kept


# A range, or names of labels in place of two numbers.
Kept = Annotated[Ends | Labels, BeforeValidator(_pair_or_labels), AfterValidator(_rising_or_known)]


class Derived(Config):
    """How a column is made. Abstract; every kind is final.

    `fitted` holds what a kind has learnt from the training part: empty in a job, filled in the resolved run.
    """

    drawn: ClassVar[bool] = False  # whether the values change from epoch to epoch

    by: str = Field(description="a kind's name, or FILE.py:NAME for one of your own")
    fitted: Numbers = Field({}, description="found by one pass over the training part; left out of a job")

    def numbers(self) -> tuple[str, ...]:
        """Columns that are read and must hold one number per row."""
        return ()

    def lists(self) -> tuple[str, ...]:
        """Columns that are read and must hold a list per row."""
        return ()

    @abstractmethod
    def column(self, name: str, schema: Schema) -> Column:
        """What is made, given the columns there are: its type, its unit, its collection."""

    @abstractmethod
    def make(self, table: pa.Table, key_B: Tensor) -> np.ndarray | pa.Array:
        """One entry per row of the table, (B,); of `key_B`, an int64 per row, random numbers may be made."""

    def notes(self) -> list[str]:
        """What a user should know of what was fitted: bins that hold nothing, weights that were cut."""
        return []

    def __reduce__(self) -> tuple[object, ...]:
        # The class of a user's own file has no module that another process could import.
        return _again, (None if ":" in self.by else type(self), self.values())


class Tally(NamedTuple):
    """Sums of weights, and of their squares, by key, the keys rising."""

    keys: np.ndarray
    sums: np.ndarray
    squares: np.ndarray

    def plus(self, other: Tally) -> Tally:
        """Both together, key by key."""
        both = (np.concatenate(pair) for pair in zip(self, other, strict=True))
        return _tally(*both)


def tally(key_B: np.ndarray, weight_B: np.ndarray) -> Tally:
    """Sum the weights of each key."""
    return _tally(key_B, weight_B, weight_B.astype(np.float64) ** 2)


def _tally(key_X: np.ndarray, sum_X: np.ndarray, square_X: np.ndarray) -> Tally:
    keys, place_X = np.unique(key_X, return_inverse=True)
    return Tally(keys, *(np.bincount(place_X, weights=one_X, minlength=len(keys)) for one_X in (sum_X, square_X)))


class Fitted(Derived):
    """A column whose making rests on numbers of the whole training part. Abstract."""

    @abstractmethod
    def tally(self, table: pa.Table, weight_B: np.ndarray) -> Tally:
        """What some rows contribute to the fit."""

    @abstractmethod
    def fit(self, seen: Tally) -> Numbers:
        """The numbers that follow from all rows of the training part.

        Raises:
            DataError: nothing can be learnt from these rows.
        """


def within(table: pa.Table, ranges: Mapping[str, Kept]) -> np.ndarray:
    """Rows whose columns all lie in their [low, high), or hold one of some labels, (B,) bool; an open end is None."""
    keep_B = np.ones(table.num_rows, dtype=bool)
    for name, ends in ranges.items():
        value_B = table[name].to_numpy()
        if _are_labels(ends):
            keep_B &= np.isin(value_B, [labels.CODES[label] for label in ends])
        elif _are_ends(ends):
            keep_B &= between(value_B, ends)
    return keep_B


def between(values: np.ndarray, ends: Range) -> np.ndarray:
    """Which numbers lie in [low, high), bool as `values`; an open end is None. What is not a number lies nowhere."""
    low, high = ends
    keep: np.ndarray = ~np.isnan(values) if values.dtype.kind == "f" else np.ones(values.shape, dtype=bool)
    if low is not None:
        keep &= values >= low
    if high is not None:
        keep &= values < high
    return keep


def content(one: Derived) -> Values:
    """Settings by content: without fitted numbers, and with a user's own file instead of its path."""
    values = {key: value for key, value in one.values().items() if key != "fitted"}
    file, _, name = one.by.rpartition(":")
    return {**values, "by": [Path(file).read_text(), name]} if file else values


def absolute(by: Any) -> Any:
    """The same kind with the absolute path of a user's own file."""
    file, _, name = by.rpartition(":") if isinstance(by, str) else ("", "", by)
    return f"{Path(file).expanduser().absolute()}:{name}" if file else by


def own(by: str) -> type[Derived] | None:
    """The kind that `FILE.py:NAME` means; None for the plain name of one that ships.

    Raises:
        ConfigError: no such file, or no such kind in it.
    """
    file, _, name = by.rpartition(":")
    return named(name, kinds_of(userfile.load(Path(file))), file) if file else None


def named(name: str, kinds: Mapping[str, type[Derived]], where: str) -> type[Derived]:
    """One of some kinds by its name.

    Raises:
        ConfigError: none of them.
    """
    if name not in kinds:
        raise ConfigError(f"no kind of derived column {name!r}", where=where, cure=nearest(name, kinds))
    return kinds[name]


def kinds_of(module: ModuleType) -> dict[str, type[Derived]]:
    """The kinds that a module itself makes, by name."""
    found = [kind for kind in vars(module).values() if inspect.isclass(kind) and kind.__module__ == module.__name__]
    return {kind.__name__: kind for kind in found if issubclass(kind, Derived) and not inspect.isabstract(kind)}


def _again(kind: type[Derived] | None, values: Values) -> Derived:
    kind = kind or own(values["by"])
    assert kind is not None
    return build(kind, values, "derive")
