"""Derived columns that are weights, for `stream.reweight`: they make spectra flat, or those of classes alike.

    derive:
      w: {by: Balanced, bins: {jet_pt: [500, 600, 800, 1000], jet_mass: [0, 50, 100, 150, 200]}}
    reweight: w

They are fitted to the training part as it is mixed and weighted, and stand in the resolved run.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from math import prod
from typing import Literal, Self, final

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator
from torch import Tensor

from jetscale import labels
from jetscale.derive import Fitted, Numbers, Range, Tally, tally, within
from jetscale.errors import DataError, nearest
from jetscale.schema import JET_LABEL, Column, Schema


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
        _refuse_edges("edges", self.edges)
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

    def notes(self) -> list[str]:
        """Empty and cut bins."""
        weights = self.fitted["weights"]
        return [f"{weights.count(0.0)} of {len(weights)} bins empty, {weights.count(self.most)} cut at {self.most:g}"]

    def _bin(self, table: pa.Table) -> np.ndarray:
        """0 below, 1 to n in the bins, n + 1 above."""
        bin_B: np.ndarray = np.searchsorted(self.edges, table[self.of].to_numpy(), side="right")
        return bin_B


@final
class Balanced(Fitted):
    """A weight that makes classes count alike, and with `bins` that gives them all the same spectrum in these.

    Without `bins` it is one number per class. With them it is one per class and cell of the bins, of one column or of
    several together: so that each cell that a class fills holds as much as another (`shape: flat`; equal steps in a
    logarithm make it flat in that), or as much as it holds of one class (`shape: top`). weaver knows these as `flat`
    and `ref`, and draws rows by such weights; here they stand in the loss. No weight is above `most` times the mean of
    those of the class's rows that keep any: what would be is cut there, and the cells that are not cut take over, all
    by one factor, what those have lost.

    Only then are the classes made equal, or as `factors` say, with a mean weight of 1 inside the bins. Rows outside
    have weight 0, or with `outside: edge` that of the nearest bin; rows of no class keep the weight 1. Empty and cut
    bins, lost rows and what the rest is worth are counted in `fitted`, and told at the end of a training.
    """

    of: str = Field("jet_label", description="the column that says the class")
    classes: dict[str, tuple[int | str, ...]] = Field(
        {}, description="name of a class: its numbers, or of jet_label its labels; every label is one if empty"
    )
    bins: dict[str, tuple[float, ...]] = Field({}, description="column: edges of its bins, [low, high)")
    shape: str = Field("flat", description="flat, or the class whose spectrum all get")
    most: float = Field(20.0, ge=1, description="largest weight of a bin, over the mean of its class")
    outside: Literal["drop", "edge"] = Field("drop", description="what becomes of rows outside the bins")
    factors: dict[str, float] = Field({}, description="class: what its sum is multiplied by, 1 if not said")

    @model_validator(mode="after")
    def _can_be_meant(self) -> Self:
        for name, edges in self.bins.items():
            _refuse_edges(f"bins.{name}", edges)
        if not self.classes and self.of != JET_LABEL.name:
            raise ValueError(f"give classes: {{NAME: [NUMBER, ...]}}, as {self.of!r} is not {JET_LABEL.name}")
        seen: dict[int, str] = {}
        for name, held in self._members().items():
            if not held:
                raise ValueError(f"classes.{name} holds nothing")
            for number in held:
                if seen.setdefault(number, name) != name:
                    raise ValueError(f"{number} is in the classes {seen[number]!r} and {name!r}")
        for key, names in (("factors", list(self.factors)), ("shape", [] if self.shape == "flat" else [self.shape])):
            for name in names:
                if name not in self._members():
                    raise ValueError(f"{key}: no class {name!r}; {nearest(name, self._members())}")
        if any(factor <= 0.0 for factor in self.factors.values()):
            raise ValueError(f"factors = {self.factors}: each must be above 0")
        if self.shape != "flat" and not self.bins:
            raise ValueError(f"shape = {self.shape!r} says nothing without bins")
        return self

    def numbers(self) -> tuple[str, ...]:
        """The column of the class, and those that are binned."""
        return (self.of, *self.bins)

    def column(self, name: str, schema: Schema) -> Column:
        """A float32 without a unit."""
        return Column(name=name, dtype="float32", unit="", doc=f"balances classes of {self.of}", low=0)

    def make(self, table: pa.Table, key_B: Tensor) -> np.ndarray:
        """The weight of each row's class and cell, (B,) float64."""
        weight_KC = np.zeros((len(self._members()), self._cells + 1))
        fitted = [int(number) for number in self.fitted["classes"]]
        weight_KC[fitted, :-1] = np.reshape(self.fitted["weights"], (len(fitted), self._cells))
        class_B = self._class(table)
        weight_B: np.ndarray = np.where(class_B >= 0, weight_KC[class_B, self._cell(table)], 1.0)
        return weight_B

    def tally(self, table: pa.Table, weight_B: np.ndarray) -> Tally:
        """The weight in each cell of each class."""
        class_B = self._class(table)
        known_B = class_B >= 0
        return tally((class_B * (self._cells + 1) + self._cell(table))[known_B], weight_B[known_B])

    def fit(self, seen: Tally) -> Numbers:
        """`weights`, class after class, of those `classes` that have rows, and for each of these what `notes` tell."""
        shape = (len(self._members()), self._cells + 1)
        content_KC, square_KC = np.zeros(shape), np.zeros(shape)
        content_KC.flat[seen.keys.astype(np.int64)] = seen.sums
        square_KC.flat[seen.keys.astype(np.int64)] = seen.squares
        found = self._filled(content_KC)
        inside_KC, every_K = content_KC[found, :-1], content_KC[found].sum(1)
        target_KC = np.broadcast_to(self._target(content_KC[:, :-1]), inside_KC.shape)
        wanted_KC = np.divide(target_KC, inside_KC, out=np.zeros(inside_KC.shape), where=inside_KC > 0)
        reached_K = (wanted_KC * inside_KC).sum(1)
        if (reached_K <= 0.0).any():
            raise self._refusal(f"class {self._names[found[int(reached_K.argmin())]]!r} has no training row where "
                                f"{self.shape!r} has any", "widen the bins, or choose another shape")  # fmt: skip
        capped = [_capped(*own, self.most if self.bins else np.inf) for own in zip(wanted_KC, inside_KC, strict=True)]
        even_KC, cut_KC = (np.stack(one) for one in zip(*capped, strict=True))
        factor_K = np.array([self.factors.get(self._names[number], 1.0) for number in found])
        sum_K = inside_KC.sum() * factor_K / factor_K.sum()
        weight_KC = even_KC * (sum_K / (even_KC * inside_KC).sum(1))[:, None]
        effective_K = sum_K**2 / (weight_KC**2 * square_KC[found, :-1]).sum(1)
        figures = {"empty": ((target_KC > 0) & (inside_KC == 0)).sum(1), "cut": cut_KC.sum(1),
                   "lost": 1.0 - np.where(weight_KC > 0, inside_KC, 0.0).sum(1) / every_K,
                   "before": every_K**2 / square_KC[found].sum(1), "after": effective_K}  # fmt: skip
        return {"classes": tuple(map(float, found)), "weights": tuple(weight_KC.flatten().tolist()),
                **{name: tuple(figure.astype(np.float64).tolist()) for name, figure in figures.items()}}  # fmt: skip

    def notes(self) -> list[str]:
        """A line per class: empty and cut bins, what is lost, and how many rows of equal weight it is worth."""
        told = zip(*(self.fitted[key] for key in ("classes", "empty", "cut", "lost", "before", "after")), strict=True)
        lines = []
        for number, empty, cut, lost, before, after in told:
            binned = f"{empty:.0f} of {self._cells} bins empty, {cut:.0f} cut at {self.most:g}, {lost:.1%} lost; "
            worth = f"{before:.0f} rows are worth {after:.0f} of equal weight"
            lines.append(f"{self._names[int(number)]}: {binned if self.bins else ''}{worth}")
        return lines

    def _members(self) -> Mapping[str, tuple[int, ...]]:
        """The numbers of every class.

        Raises:
            ValueError: a label that there is not, or one of another column.
        """
        if not self.classes:
            return {name: (number,) for name, number in labels.CODES.items()}
        return {name: tuple(map(self._number, held)) for name, held in self.classes.items()}

    def _number(self, said: int | str) -> int:
        if isinstance(said, int):
            return said
        if self.of != JET_LABEL.name:
            raise ValueError(f"classes: {said!r} is a label, and {self.of!r} holds numbers")
        if said not in labels.CODES:
            raise ValueError(f"classes: no label {said!r}; {nearest(said, labels.CODES)}")
        return labels.CODES[said]

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(self._members())

    @property
    def _cells(self) -> int:
        return prod(len(edges) - 1 for edges in self.bins.values())

    def _class(self, table: pa.Table) -> np.ndarray:
        """The number of each row's class, (B,); -1 of none."""
        pairs = [(number, place) for place, held in enumerate(self._members().values()) for number in held]
        numbers, owners = (np.array(one) for one in zip(*sorted(pairs), strict=True))
        value_B = table[self.of].to_numpy()
        place_B = np.searchsorted(numbers, value_B).clip(max=len(numbers) - 1)
        class_B: np.ndarray = np.where(numbers[place_B] == value_B, owners[place_B], -1)
        return class_B

    def _cell(self, table: pa.Table) -> np.ndarray:
        """The number of each row's cell, (B,), the bins of the last column next to each other; one more outside."""
        cell_B, inside_B = np.zeros(table.num_rows, dtype=np.int64), np.ones(table.num_rows, dtype=bool)
        for name, edges in self.bins.items():
            value_B, last = table[name].to_numpy(), len(edges) - 2
            bin_B = np.searchsorted(edges, value_B, side="right") - 1
            if self.outside == "edge":
                bin_B = np.where(np.isnan(value_B), -1, bin_B.clip(0, last))
            inside_B &= (bin_B >= 0) & (bin_B <= last)
            cell_B = cell_B * (last + 1) + bin_B
        return np.where(inside_B, cell_B, self._cells)

    def _filled(self, content_KC: np.ndarray) -> list[int]:
        """The classes that have rows in the bins, of the content of cells (K, C) and of what is outside.

        Raises:
            DataError: one that was asked for has none, or a cell holds a negative weight.
        """
        if (content_KC < 0.0).any():
            number, cell = divmod(int(content_KC.argmin()), self._cells + 1)
            raise self._refusal(
                f"the weights in bin {cell} of class {self._names[number]!r} sum to {content_KC.min():g}",
                "set stream.negative_weights to abs, or choose wider bins",
            )
        filled_K = content_KC[:, :-1].sum(1) > 0.0
        asked = [*self.classes, *self.factors, *([] if self.shape == "flat" else [self.shape])]
        for name in asked:
            if not filled_K[self._names.index(name)]:
                where = " in the bins" if self.bins else ""
                raise self._refusal(f"class {name!r} has no training row with a weight{where}",
                                    "leave the class out, add a sample of it, or widen bins")  # fmt: skip
        if not filled_K.any():
            raise self._refusal("no training row is of any class", f"see the labels in {self.of!r}")
        return [int(number) for number in np.flatnonzero(filled_K)]

    def _target(self, content_KC: np.ndarray) -> np.ndarray:
        """What each cell is to hold, up to a factor, (C,)."""
        return np.ones(self._cells) if self.shape == "flat" else content_KC[self._names.index(self.shape)]

    def _refusal(self, what: str, cure: str) -> DataError:
        return DataError(what, where=f"stream.derive ({self.by} of {self.of})", cure=cure)


def _refuse_edges(name: str, edges: tuple[float, ...]) -> None:
    if len(edges) < 2 or any(low >= high for low, high in pairwise(edges)):
        raise ValueError(f"{name} do not rise" if len(edges) > 1 else f"{name} needs two edges or more")


def _capped(wanted_C: np.ndarray, inside_C: np.ndarray, most: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the cells of a class, (C,), as they are wanted up to a factor, but none above `most`; which are cut.

    Their mean is 1 over the rows that keep a weight. What a cut takes away raises the factor of the others, and may
    bring more of them above `most`: as many rounds as there are cells at most. One is always left, as `most` >= 1.
    """
    cut_C, kept_C = np.zeros(len(wanted_C), dtype=bool), wanted_C > 0.0
    while True:
        free_C = kept_C & ~cut_C
        left = inside_C[kept_C].sum() - (most * inside_C[cut_C].sum() if cut_C.any() else 0.0)
        even_C = wanted_C * (left / (wanted_C * inside_C)[free_C].sum())
        more_C = free_C & (even_C > most * (1.0 + 1e-9))
        if not more_C.any():
            return np.where(cut_C, most, even_C), cut_C
        cut_C |= more_C
