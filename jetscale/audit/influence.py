"""How the background's weight in the training changes the function: finite differences with common seeds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jetscale.audit.transfer import mean
from jetscale.metrics import Estimate, Floats


class Influence(NamedTuple):
    """Curves over the background's weights (W).

    `response` is the mean response on the probes over that at the first weight, `position` the share of the background
    below the signals' medians (None where there are no signals). `slope` is the change of the mean response, as a part
    of it, per unit of weight, between neighbours (W - 1); `largest` the largest change of the response.
    """

    weights: tuple[float, ...]
    response: tuple[Estimate, ...]
    position: tuple[Estimate, ...] | None
    slope: tuple[Estimate, ...]
    largest: Estimate


def influence(weights_W: Floats, response_SW: Floats, position_SW: Floats | None = None) -> Influence:
    """The curves from the mean response of every seed at every weight, (S, W); the weights must rise.

    Differences are taken seed by seed, as trainings with one seed start from the same network and see the same order of
    events; errors are those of the mean over seeds.
    """
    relative_SW = response_SW / response_SW[:, :1]
    slope_SW = np.diff(relative_SW, axis=1) / np.diff(weights_W)
    response = [mean(column_S) for column_S in relative_SW.T]
    changes = [mean(column_S - 1) for column_S in relative_SW.T]
    position = tuple(mean(column_S) for column_S in position_SW.T) if position_SW is not None else None
    return Influence(tuple(float(weight) for weight in weights_W), tuple(response), position,
                     tuple(mean(column_S) for column_S in slope_SW.T),
                     max(changes, key=lambda change: abs(change.value)))  # fmt: skip
