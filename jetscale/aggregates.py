"""The numbers that a task may have fitted over its training part: moments, histograms, fractions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from jetscale import labels
from jetscale.schema import Column, Schema
from jetscale.task import Aggregate, Batch

FLOOR = 1e-6  # of a deviation: what never varies is not blown up


@final
@dataclass(frozen=True)
class Moments(Aggregate):
    """Weighted mean and standard deviation of features.

    `features` gives them as (..., C) with one weight per entry, (...), 0 where it is padded; `names` has C names.
    """

    features: Callable[[Batch], tuple[Tensor, Tensor]]
    names: Sequence[str]

    def sums(self, batch: Batch) -> dict[str, Tensor]:
        """`weight` (1), `first` and `second` (C), `odd` (C)."""
        values_XC, weight_X, odd_XC = _plain(*self.features(batch))
        weighted_XC = values_XC * weight_X[:, None]
        return {"weight": weight_X.sum()[None], "first": weighted_XC.sum(0), "second": (weighted_XC * values_XC).sum(0),
                "odd": odd_XC.sum(0).double()}  # fmt: skip

    def numbers(self, sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`mean` and `deviation`, (C)."""
        mean_C = sums["first"] / sums["weight"]
        spread_C = (sums["second"] / sums["weight"] - mean_C**2).clamp_min(0.0).sqrt()
        deviation_C = torch.where(spread_C > FLOOR * mean_C.abs().clamp_min(1.0), spread_C, 1.0)
        return {"mean": mean_C.float(), "deviation": deviation_C.float()}

    def neutral(self) -> dict[str, Tensor]:
        """Mean 0 and deviation 1."""
        return {"mean": torch.zeros(len(self.names)), "deviation": torch.ones(len(self.names))}


@final
@dataclass(frozen=True)
class Histogram(Aggregate):
    """Shares of the weight of a number in bins [edge, next edge); what lies outside counts for none.

    `values` gives numbers and their weights, both (...); `names` is the one name of what they are.
    """

    values: Callable[[Batch], tuple[Tensor, Tensor]]
    edges: tuple[float, ...]
    names: Sequence[str]

    def sums(self, batch: Batch) -> dict[str, Tensor]:
        """`weight` (bins), `odd` (1)."""
        values, weight = self.values(batch)
        values_X1, weight_X, odd_X1 = _plain(values[..., None], weight)
        edges = torch.tensor(self.edges, dtype=torch.float64, device=values.device)
        bin_X = torch.bucketize(values_X1[:, 0].contiguous(), edges, right=True)
        weight_X = torch.where(odd_X1[:, 0], 0.0, weight_X)
        content = torch.bincount(bin_X, weight_X, minlength=len(self.edges) + 1)
        return {"weight": content[1:-1], "odd": odd_X1.sum(0).double()}

    def numbers(self, sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`share` of each bin, (bins), summing to 1."""
        return {"share": (sums["weight"] / sums["weight"].sum()).float()}

    def neutral(self) -> dict[str, Tensor]:
        """All bins alike."""
        bins = len(self.edges) - 1
        return {"share": torch.full((bins,), 1.0 / bins)}


@final
@dataclass(frozen=True)
class Fractions(Aggregate):
    """Shares of the weight of each class.

    `labels` gives whole numbers in 0 to classes - 1 and weights, both (...); `names` is the one name of what they are.
    """

    labels: Callable[[Batch], tuple[Tensor, Tensor]]
    classes: int
    names: Sequence[str]

    def sums(self, batch: Batch) -> dict[str, Tensor]:
        """`weight` (classes), `odd` (1): labels outside."""
        label_X, weight_X = (each.flatten() for each in self.labels(batch))
        label_X = label_X.long()
        odd_X = ((label_X < 0) | (label_X >= self.classes)) & (weight_X != 0)
        known_X = label_X.clamp(0, self.classes - 1)
        weight_X = torch.where(odd_X, 0.0, weight_X.double())
        return {"weight": torch.bincount(known_X, weight_X, minlength=self.classes), "odd": odd_X.sum()[None].double()}

    def numbers(self, sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`share` of each class, (classes), summing to 1."""
        return {"share": (sums["weight"] / sums["weight"].sum()).float()}

    def neutral(self) -> dict[str, Tensor]:
        """All classes alike."""
        return {"share": torch.full((self.classes,), 1.0 / self.classes)}


@final
@dataclass(frozen=True)
class Classes(Aggregate):
    """Shares of the weight of each class of labelled jets.

    `class_of` gives whole numbers (B), -1 for a label outside of `classes`: the labels that each holds, by its name.
    Both labels outside and a class without any weight are refused: of the one nothing is said, the other is not learnt.
    """

    classes: Mapping[str, Sequence[str]]
    class_of: Callable[[Batch], Tensor]
    names: Sequence[str] = ("jet_label",)

    def sums(self, batch: Batch) -> dict[str, Tensor]:
        """`weight` (K), `odd` (1): labels outside, `outside` (labels + 1): how many of each, those of no name last."""
        class_B, code_B = self.class_of(batch), batch["jet_label"].long()
        odd_B = (class_B < 0) & (batch.weight_B != 0)
        last = len(labels.NAMES)
        code_B = torch.where((code_B >= 0) & (code_B < last), code_B, last)
        weight_B = torch.where(class_B >= 0, batch.weight_B.double(), 0.0)
        weight_K = torch.bincount(class_B.clamp_min(0), weight_B, minlength=len(self.classes))
        outside = torch.bincount(code_B, odd_B.double(), minlength=last + 1)
        return {"weight": weight_K, "odd": odd_B.sum()[None].double(), "outside": outside}

    def refusals(self, sums: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
        """Labels outside by name and number, then the general ones, then classes of which there is nothing."""
        held = [label for of_class in self.classes.values() for label in of_class]
        if sums["odd"].sum():
            outside = [f"{labels.name_of(code)} ({n:g} jets)" for code, n in enumerate(sums["outside"].tolist()) if n]
            yield (
                f"jet_label is outside of the classes: {', '.join(outside)}; the classes hold {', '.join(held)}",
                f"keep the others with stream.select: {{jet_label: [{', '.join(held)}]}}, or see task.classes",
            )
        yield from super().refusals({**sums, "odd": torch.zeros(1)})
        for (name, of_class), weight in zip(self.classes.items(), sums["weight"].tolist(), strict=True):
            if not weight > 0.0:
                yield (
                    f"no jet of the class {name!r} ({', '.join(of_class)}) has a weight in training",
                    "leave it out of task.classes, or add a sample that has such jets",
                )

    def numbers(self, sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`share` of each class, (K), summing to 1."""
        return {"share": (sums["weight"] / sums["weight"].sum()).float()}

    def neutral(self) -> dict[str, Tensor]:
        """All classes alike."""
        return {"share": torch.full((len(self.classes),), 1.0 / len(self.classes))}


@final
@dataclass(frozen=True)
class Within(Aggregate):
    """Nothing is fitted: values that are not finite, or not within what their columns may hold, are found."""

    schema: Schema

    @property
    def names(self) -> Sequence[str]:  # type: ignore[override]
        """The columns."""
        return self.schema.names

    def sums(self, batch: Batch) -> dict[str, Tensor]:
        """`weight` (1), `odd` (C), of entries that are there in rows that count."""
        counts_B = batch.weight_B != 0
        odd = [self._odd(batch, column, counts_B) for column in self.schema.each()]
        return {"weight": batch.weight_B.double().sum()[None], "odd": torch.stack(odd).double()}

    def numbers(self, sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """None."""
        return {}

    def neutral(self) -> dict[str, Tensor]:
        """None."""
        return {}

    @staticmethod
    def _odd(batch: Batch, column: Column, counts_B: Tensor) -> Tensor:
        values = batch[column.name]
        odd = ~torch.isfinite(values)
        if column.low is not None:
            odd = odd | (values < column.low)
        if column.high is not None:
            odd = odd | (values > column.high)
        return (odd & batch.mask(column.of) & counts_B[:, None] if column.of else odd & counts_B).sum()


def _plain(values: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Values (X, C) with 0 where they do not count or are not finite, weights (X), and what is not finite (X, C)."""
    values_XC, weight_X = values.double().flatten(0, -2), weight.double().flatten()
    odd_XC = ~torch.isfinite(values_XC) & (weight_X != 0)[:, None]
    counts_XC = torch.isfinite(values_XC) & (weight_X != 0)[:, None]
    return torch.where(counts_XC, values_XC, 0.0), weight_X, odd_XC
