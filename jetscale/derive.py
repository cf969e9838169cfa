"""Columns that are made of others, row by row: each kind is a class, found by its name or in a user's own file.

    derive:
      ht: {by: Sum, of: jet_pt}
      region: {by: Window, of: mjj, low: 3300, high: 3700}
      mine: {by: ./mine.py:Aplanarity, of: jet}

A value is a function of its row, of numbers fitted once over the training part, and of a key made of seed, epoch and
event id. It is the same in whatever chunk, lane or worker it is made.
"""

from __future__ import annotations

import inspect
import sys
from abc import abstractmethod
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, ClassVar, NamedTuple, Self, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from torch import Tensor

from jetscale import keyed, userfile
from jetscale.config import Config, Values, build
from jetscale.errors import ConfigError, DataError, nearest
from jetscale.schema import Column, Schema

Ends = tuple[float | None, float | None]
Numbers = dict[str, tuple[float, ...]]
EXACT = 256  # so many different values are kept one by one; of more, as many quantiles
DIGITS = 5


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

    def __reduce__(self) -> tuple[object, ...]:
        # The class of a user's own file has no module that another process could import.
        return _again, (self.values(),)


class Tally(NamedTuple):
    """Sums of weights by key, the keys rising."""

    keys: np.ndarray
    sums: np.ndarray

    def plus(self, other: Tally) -> Tally:
        """Both together, key by key."""
        return tally(np.concatenate((self.keys, other.keys)), np.concatenate((self.sums, other.sums)))


def tally(key_B: np.ndarray, weight_B: np.ndarray) -> Tally:
    """Sum the weights of each key."""
    keys, place_B = np.unique(key_B, return_inverse=True)
    return Tally(keys, np.bincount(place_B, weights=weight_B, minlength=len(keys)))


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


@final
class Sum(Derived):
    """The sum of a list, one number per row: `{by: Sum, of: jet_pt}` is HT."""

    of: str

    def lists(self) -> tuple[str, ...]:
        """The list that is summed."""
        return (self.of,)

    def column(self, name: str, schema: Schema) -> Column:
        """A float32 in the unit of what is summed."""
        return Column(name=name, dtype="float32", unit=schema[self.of].unit, doc=f"sum of {self.of}")

    def make(self, table: pa.Table, key_B: Tensor) -> np.ndarray:
        """The sums, (B,) float64; 0 for an empty list."""
        length_B, values = _pieces(table[self.of])
        # Each row is summed by itself: with running sums, rounding would depend on the rows before it.
        ends_B = np.cumsum(length_B)
        filled_B = length_B > 0
        sums_B = np.zeros(len(length_B))
        if filled_B.any():
            sums_B[filled_B] = np.add.reduceat(values.astype(np.float64), (ends_B - length_B)[filled_B])
        return sums_B


@final
class Count(Derived):
    """The length of a list: `{by: Count, of: jet_pt}` is the number of jets, with `low: 50` that of jets above 50 GeV.

    Members count that lie in [low, high); an open end is null.
    """

    of: str
    low: float | None = None
    high: float | None = None

    def lists(self) -> tuple[str, ...]:
        """The list that is counted."""
        return (self.of,)

    def column(self, name: str, schema: Schema) -> Column:
        """An int32 without a unit."""
        return Column(name=name, dtype="int32", unit="", doc=f"entries of {self.of}")

    def make(self, table: pa.Table, key_B: Tensor) -> np.ndarray:
        """The numbers of members, (B,)."""
        length_B, values_M = _pieces(table[self.of])
        if self.low is None and self.high is None:
            return length_B
        inside_M = np.concatenate([[0], np.cumsum(between(values_M, (self.low, self.high)))])
        ends_B = np.cumsum(length_B)
        counts_B: np.ndarray = inside_M[ends_B] - inside_M[ends_B - length_B]
        return counts_B


@final
class Nth(Derived):
    """One member of a list: `{by: Nth, of: jet_pt, n: 2}` is the second; `missing` where a list is shorter."""

    of: str
    n: int = Field(ge=1)
    missing: float = 0.0

    def lists(self) -> tuple[str, ...]:
        """The list."""
        return (self.of,)

    def column(self, name: str, schema: Schema) -> Column:
        """As the list's members."""
        return schema[self.of].but(name=name, of=None, doc=f"number {self.n} of {self.of}", missing=self.missing,
                                   low=None, high=None)  # fmt: skip

    def make(self, table: pa.Table, key_B: Tensor) -> np.ndarray:
        """The members, (B,)."""
        length_B, values_M = _pieces(table[self.of])
        made_B = np.full(len(length_B), self.missing, dtype=values_M.dtype)
        has_B = length_B >= self.n
        made_B[has_B] = values_M[(np.cumsum(length_B) - length_B)[has_B] + self.n - 1]
        return made_B


@final
class Mass(Derived):
    """The mass of members together: `{by: Mass, of: jet, first: 2}` is that of the first two jets, 0 of none."""

    of: str
    first: int | None = Field(None, ge=1)

    def lists(self) -> tuple[str, ...]:
        """The members' transverse momentum, pseudorapidity, azimuth and mass."""
        return tuple(f"{self.of}_{name}" for name in ("pt", "eta", "phi", "mass"))

    def column(self, name: str, schema: Schema) -> Column:
        """A float32 in GeV."""
        return Column(
            name=name, dtype="float32", unit="GeV", doc=f"mass of the first {self.first or 'of all'} {self.of}s"
        )

    def make(self, table: pa.Table, key_B: Tensor) -> np.ndarray:
        """The masses, (B,) float64."""
        pt_M, eta_M, phi_M, mass_M = (_pieces(table[name])[1].astype(np.float64) for name in self.lists())
        length_B, _ = _pieces(table[self.lists()[0]])
        p4_4M = np.stack([np.sqrt((pt_M * np.cosh(eta_M)) ** 2 + mass_M**2), pt_M * np.cos(phi_M), pt_M * np.sin(phi_M),
                          pt_M * np.sinh(eta_M)])  # fmt: skip
        event_M = np.repeat(np.arange(len(length_B)), length_B)
        place_M = np.arange(len(event_M)) - np.repeat(np.cumsum(length_B) - length_B, length_B)
        taken_M = place_M < (self.first or len(event_M) + 1)
        energy_B, *momentum_B = (np.bincount(event_M[taken_M], weights=one_M[taken_M], minlength=len(length_B))
                                 for one_M in p4_4M)  # fmt: skip
        mass_B: np.ndarray = np.sqrt(np.maximum(energy_B**2 - sum(one_B**2 for one_B in momentum_B), 0.0))
        return mass_B


@final
class Window(Derived):
    """1 where a number lies in [low, high), else 0: the label of a signal region. An open end is null."""

    of: str
    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _has_an_end(self) -> Self:
        if self.low is None and self.high is None:
            raise ValueError("give low, high or both")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low = {self.low:g} is not below high = {self.high:g}")
        return self

    def numbers(self) -> tuple[str, ...]:
        """The number that is looked at."""
        return (self.of,)

    def column(self, name: str, schema: Schema) -> Column:
        """An int8, 0 or 1."""
        return Column(name=name, dtype="int8", unit="", doc=f"1 where {self.of} is in the window", low=0, high=1)

    def make(self, table: pa.Table, key_B: Tensor) -> np.ndarray:
        """0 or 1, (B,)."""
        return within(table, {self.of: (self.low, self.high)})


@final
class Uniform(Derived):
    """A parameter that is drawn anew for every row in every epoch, uniform in [low, high)."""

    drawn: ClassVar[bool] = True

    low: float
    high: float
    unit: str = ""

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low = {self.low:g} is not below high = {self.high:g}")
        return self

    def column(self, name: str, schema: Schema) -> Column:
        """A float32."""
        return Column(name=name, dtype="float32", unit=self.unit, doc=f"uniform in {self.low:g} to {self.high:g}")

    def make(self, table: pa.Table, key_B: Tensor) -> np.ndarray:
        """Independent numbers, (B,)."""
        values_B: np.ndarray = self.low + (self.high - self.low) * _uniform(key_B)
        return values_B


@final
class Drawn(Fitted):
    """A parameter that some rows have and the others draw, anew in every epoch, from the distribution that those have.

    `{by: Drawn, of: true_mass, rows: {decay_mode: [1, null]}}`: rows of a decay mode keep their mass, background draws
    one, so that the parameter alone tells nothing (Baldi et al., arXiv:1601.07913). The distribution is that of the
    training rows with their weights: as it is where there are at most 256 different values (to five digits), otherwise
    straight between 256 quantiles.
    """

    drawn: ClassVar[bool] = True

    of: str
    rows: dict[str, Range] = Field(min_length=1, description="the rows that keep their own: columns in [low, high)")

    def numbers(self) -> tuple[str, ...]:
        """The parameter, and what tells whose it is."""
        return (self.of, *self.rows)

    def column(self, name: str, schema: Schema) -> Column:
        """As the parameter."""
        return schema[self.of].but(name=name, doc=f"{self.of}, drawn where a row has none", low=None, missing=None)

    def make(self, table: pa.Table, key_B: Tensor) -> np.ndarray:
        """A row's own parameter or one from the distribution, (B,) float64."""
        at_B = _uniform(key_B)
        if "quantiles" in self.fitted:
            quantiles = self.fitted["quantiles"]
            drawn_B = np.interp(at_B, np.linspace(0.0, 1.0, len(quantiles)), quantiles)
        else:
            ends = np.cumsum(self.fitted["shares"])
            place_B = np.searchsorted(ends / ends[-1], at_B, side="right")
            drawn_B = np.asarray(self.fitted["values"])[place_B]
        own_B = table[self.of].to_numpy().astype(np.float64)
        value_B: np.ndarray = np.where(within(table, self.rows), own_B, drawn_B)
        return value_B

    def tally(self, table: pa.Table, weight_B: np.ndarray) -> Tally:
        """The weights of each value, where rows have their own."""
        kept_B = within(table, self.rows)
        return tally(_rounded(table[self.of].to_numpy()[kept_B]), weight_B[kept_B])

    def fit(self, seen: Tally) -> Numbers:
        """`values` with their `shares`, or `quantiles`."""
        where = f"stream.derive of {self.of}"
        if not seen.sums.sum() > 0.0:
            raise DataError("no training row with a weight has its own value to draw from", where=where,
                            cure=f"widen rows: {self.rows}")  # fmt: skip
        if (seen.sums < 0.0).any():
            raise DataError(f"the weights at {seen.keys[seen.sums < 0.0][0]:g} sum to a negative number", where=where,
                            cure="set stream.negative_weights to abs")  # fmt: skip
        keys, sums = seen.keys[seen.sums > 0.0], seen.sums[seen.sums > 0.0]
        if len(keys) <= EXACT:
            return {"values": tuple(keys.tolist()), "shares": tuple((sums / sums.sum()).tolist())}
        middle = (np.cumsum(sums) - 0.5 * sums) / sums.sum()
        return {"quantiles": tuple(np.interp(np.linspace(0.0, 1.0, EXACT), middle, keys).tolist())}


@final
class Flat(Fitted):
    """A weight that makes the spectrum of a number flat between the first and the last edge.

    It is the same for all rows of a bin, at most `most`, and 0 outside the bins. Where no bin reaches `most`, its mean
    over the rows in the bins is 1; otherwise it is less, and the spectrum is not flat in the bins that do. With `log`
    the spectrum becomes flat in the number's logarithm. Rows that are not among `rows` keep the weight 1.
    """

    of: str
    edges: tuple[float, ...] = Field(min_length=2)
    log: bool = False
    most: float = Field(20.0, ge=1)
    rows: dict[str, Range] = Field({}, description="the rows that are made flat, all if empty: columns in [low, high)")

    @model_validator(mode="after")
    def _edges_rise(self) -> Self:
        if any(low >= high for low, high in pairwise(self.edges)):
            raise ValueError("edges do not rise")
        if self.log and self.edges[0] <= 0.0:
            raise ValueError(f"the first of edges is {self.edges[0]:g}, and with log all must be above 0")
        return self

    def numbers(self) -> tuple[str, ...]:
        """The number whose spectrum it is, and what tells which rows are meant."""
        return (self.of, *self.rows)

    def column(self, name: str, schema: Schema) -> Column:
        """A float32 without a unit."""
        return Column(name=name, dtype="float32", unit="", doc=f"makes {self.of} flat", low=0)

    def make(self, table: pa.Table, key_B: Tensor) -> np.ndarray:
        """The weight of each row's bin, (B,) float64."""
        weights = np.array([0.0, *self.fitted["weights"], 0.0])
        return np.where(within(table, self.rows), weights[self._bin(table)], 1.0)

    def tally(self, table: pa.Table, weight_B: np.ndarray) -> Tally:
        """The weight in each bin."""
        kept_B = within(table, self.rows)
        return tally(self._bin(table)[kept_B], weight_B[kept_B])

    def fit(self, seen: Tally) -> Numbers:
        """`weights` of the bins; 0 for a bin without rows."""
        bins = len(self.edges) - 1
        inside = (seen.keys > 0) & (seen.keys <= bins)
        content = np.zeros(bins)
        content[seen.keys[inside].astype(np.int64) - 1] = seen.sums[inside]
        if (content < 0.0).any() or not content.sum() > 0.0:
            raise DataError(f"the bins hold {content.min():g} to {content.max():g}, and some of them must be above 0 "
                            "and none below", where=f"stream.derive of {self.of}",
                            cure="choose other edges")  # fmt: skip
        wide = np.diff(np.log(self.edges) if self.log else self.edges)
        filled = content > 0.0
        ratio = np.divide(wide, content, out=np.zeros(bins), where=filled) * content.sum() / wide[filled].sum()
        return {"weights": tuple(np.minimum(ratio, self.most).tolist())}

    def _bin(self, table: pa.Table) -> np.ndarray:
        """0 below, 1 to n in the bins, n + 1 above."""
        bin_B: np.ndarray = np.searchsorted(self.edges, table[self.of].to_numpy(), side="right")
        return bin_B


def within(table: pa.Table, ranges: Mapping[str, Range]) -> np.ndarray:
    """Rows whose columns all lie in their [low, high), (B,) bool; an open end is None."""
    keep_B = np.ones(table.num_rows, dtype=bool)
    for name, ends in ranges.items():
        keep_B &= between(table[name].to_numpy(), ends)
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


def derived(values: Values, where: str, under: str = "") -> Derived:
    """The column that settings mean; `by` says which class they are of.

    Raises:
        ConfigError: no such kind, or settings that it does not have.
    """
    by = values.get("by")
    if not isinstance(by, str):
        what = f"{under}.by is missing" if by is None else f"{under}.by = {by!r} is not a name"
        raise ConfigError(what, where=where, cure=_choice())
    return build(find(by), values, where, under)


def find(by: str) -> type[Derived]:
    """The kind of a name, or of `FILE.py:NAME`.

    Raises:
        ConfigError: no such kind or file.
    """
    file, _, name = by.rpartition(":")
    kinds = _kinds(userfile.load(Path(file)) if file else sys.modules[__name__])
    if name not in kinds:
        raise ConfigError(f"no kind of derived column {name!r}", where=file or "derive", cure=nearest(name, kinds))
    return kinds[name]


def content(one: Derived) -> Values:
    """Settings by content: without fitted numbers, and with a user's own file instead of its path."""
    values = {key: value for key, value in one.values().items() if key != "fitted"}
    file, _, name = one.by.rpartition(":")
    return {**values, "by": [Path(file).read_text(), name]} if file else values


def absolute(by: Any) -> Any:
    """The same kind with the absolute path of a user's own file."""
    file, _, name = by.rpartition(":") if isinstance(by, str) else ("", "", by)
    return f"{Path(file).expanduser().absolute()}:{name}" if file else by


def _kinds(module: ModuleType) -> dict[str, type[Derived]]:
    own = [kind for kind in vars(module).values() if inspect.isclass(kind) and kind.__module__ == module.__name__]
    return {kind.__name__: kind for kind in own if issubclass(kind, Derived) and not inspect.isabstract(kind)}


def _choice() -> str:
    return f"add by: one of {', '.join(sorted(_kinds(sys.modules[__name__])))}, or FILE.py:NAME"


def _again(values: Values) -> Derived:
    return derived(values, "derive")


def _uniform(key_B: Tensor) -> np.ndarray:
    numbers_B: np.ndarray = keyed.uniform(key_B).numpy()
    return numbers_B


def _pieces(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of the lists of a column, (B,), and all their entries."""
    lists = column.combine_chunks()
    return pc.list_value_length(lists).to_numpy(zero_copy_only=False), lists.flatten().to_numpy(zero_copy_only=False)


def _rounded(values_B: np.ndarray) -> np.ndarray:
    """To five digits, so that the values of a spectrum can be counted, (B,) float64."""
    values_B = values_B.astype(np.float64)
    size_B = np.abs(np.where(values_B == 0.0, 1.0, values_B))
    scale_B = 10.0 ** (DIGITS - 1 - np.floor(np.log10(size_B)))
    rounded_B: np.ndarray = np.round(values_B * scale_B) / scale_B
    return rounded_B
