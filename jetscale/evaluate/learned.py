"""Whether a network has learned: against its own untrained start and against random grouping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jetscale.evaluate import compare
from jetscale.evaluate.compare import RANDOM, Scored
from jetscale.metrics import Estimate, bootstrap

FIGURES = ("f10", "jet_accuracy")
ENOUGH = 5.0
UNTRAINED = "untrained"


class Gain(NamedTuple):
    """How much larger one figure of the network is than another method's, on all held-out signal events."""

    figure: str
    over: str
    network: float
    difference: Estimate

    @property
    def sigmas(self) -> float:
        return self.difference.value / self.difference.error if self.difference.error > 0 else 0.0

    @property
    def enough(self) -> bool:
        return self.sigmas >= ENOUGH

    def __str__(self) -> str:
        gain = f"{self.difference.value:+.3f} +- {self.difference.error:.3f}"
        return (f"{self.figure} {self.network:.3f}, that is {gain} "
                f"({self.sigmas:.0f} standard errors) over {self.over.replace('_', ' ')}")  # fmt: skip


def gains(trained: Sequence[Scored], untrained: Sequence[Scored]) -> list[Gain]:
    """The network's gain in f10 and jet accuracy, with paired bootstrap errors; `Scored` of the same samples."""
    name = trained[0].run_name
    start = [Scored(UNTRAINED, one.events, one.run_dir) for one in untrained]
    signals = [sample for sample in compare.samples([*trained, *start]) if sample.kind == "signal"]
    tables = {
        method: compare.join([sample.table(method) for sample in signals]) for method in (name, UNTRAINED, RANDOM)
    }
    drawn = bootstrap(tables, FIGURES)
    return [
        Gain(figure, over, drawn.values[name][figure], drawn.difference(name, over, figure))
        for figure in FIGURES
        for over in (UNTRAINED, RANDOM)
    ]
