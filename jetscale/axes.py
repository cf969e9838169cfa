"""A Sweep: axes over the settings of a run, and how they are searched. Pure: axes in, named runs out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from jetscale.config import Config

CLOSE = 1e-9


class Metric(Config):
    """The figure of validation that trials are compared by."""

    name: str
    better: Literal["high", "low"]

    def beats(self, one: float | None, other: float | None) -> bool:
        """Whether one value is better than another; one that cannot be formed beats nothing and is beaten by any."""
        if one is None or not math.isfinite(one):
            return False
        if other is None or not math.isfinite(other):
            return True
        return one > other if self.better == "high" else one < other


class Asha(Config):
    """Asynchronous successive halving (Li et al., arXiv:1810.05934), as a rule that stops.

    At every rung, `grace_epochs` times a power of `factor`, a trial goes on if it is among the best 1 / `factor` of
    those that have come there so far.
    """

    grace_epochs: float = Field(1.0, gt=0)
    factor: float = Field(3.0, gt=1)

    def rung(self, epoch: float) -> float | None:
        """The newest rung at an epoch; None before the first one."""
        if epoch < self.grace_epochs - CLOSE:
            return None
        return self.grace_epochs * self.factor ** math.floor(math.log(epoch / self.grace_epochs, self.factor) + CLOSE)

    def goes_on(self, own: float | None, others: Sequence[float | None], metric: Metric) -> bool:
        """Whether a trial goes on with this value beside what others had at the same rung."""
        better = sum(metric.beats(other, own) for other in others)
        return better < max(1, math.ceil((len(others) + 1) / self.factor))
