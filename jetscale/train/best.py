"""Which validation was the best so far, and whether it is worth waiting for a better one: pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping

from jetscale.config import Config
from jetscale.errors import ConfigError, nearest
from jetscale.run import Best


class Watch(Config):
    """The best validation so far: its step and figure, and how many validations there have been since."""

    step: int = 0
    figure: float | None = None
    since: int = 0


def seen(watch: Watch, best: Best | None, figures: Mapping[str, float], step: int) -> Watch:
    """The watch after one more validation; a figure that cannot be formed is not better.

    Raises:
        ConfigError: validation has no figure of the name that the run asks for, or cannot form it at step 0.
    """
    if best is None:
        return watch
    if best.metric not in figures:
        raise ConfigError(f"best.metric = {best.metric!r}: validation has no such figure", where="best",
                          cure=nearest(best.metric, figures))  # fmt: skip
    figure = figures[best.metric]
    if step == 0 and not math.isfinite(figure):
        raise ConfigError(f"best.metric = {best.metric!r}: cannot be formed on this validation part ({figure})",
                          where="best", cure="choose another, or add a sample that it needs")  # fmt: skip
    if not math.isfinite(figure):
        return watch.but(since=watch.since + 1)
    if watch.figure is None or (figure > watch.figure if best.better == "high" else figure < watch.figure):
        return Watch(step=step, figure=figure)
    return watch.but(since=watch.since + 1)


def spent(watch: Watch, best: Best | None) -> bool:
    """Whether patience is at its end."""
    return best is not None and best.patience is not None and watch.since >= best.patience
