"""The kinds of derived columns that ship, and how a kind is found: by its name here, or in a user's own file."""

from __future__ import annotations

import sys
from typing import ClassVar, Self, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator
from torch import Tensor

from jetscale import keyed, reweight
from jetscale.config import Values, build
from jetscale.derive import Derived, Fitted, Numbers, Range, Tally, between, kinds_of, named, own, tally, within
from jetscale.errors import ConfigError, DataError
from jetscale.schema import Column, Schema

EXACT = 256  # so many different values are kept one by one; of more, as many quantiles
DIGITS = 5


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
    return own(by) or named(by, _shipped(), "derive")


def _shipped() -> dict[str, type[Derived]]:
    return {**kinds_of(sys.modules[__name__]), **kinds_of(reweight)}


def _choice() -> str:
    return f"add by: one of {', '.join(sorted(_shipped()))}, or FILE.py:NAME"


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
