"""Rungs: which of many trainings are worth going on with, seen from one of them and read off everybody's log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jetscale.axes import Asha, Metric
from jetscale.train.track import lines

CLOSE = 1e-9


class Rungs(NamedTuple):
    """The rule, the figure that it looks at, the folder of this training and those of all that it is compared with.

    The logs are the only memory: a sweep that was killed decides as if it had not been.
    """

    stop: Asha
    metric: Metric
    own: Path
    peers: Sequence[Path]

    def go_on(self, epoch: float) -> bool:
        """Whether the validation at this epoch, which the log has, is good enough; between two rungs it always is."""
        mine = values(self.own, self.metric.name)
        before = max((at for at, _ in mine if at < epoch - CLOSE), default=0.0)
        rung = self.stop.rung(epoch)
        if rung is None or before >= rung - CLOSE:
            return True
        others = [reached(values(peer, self.metric.name), rung) for peer in self.peers if peer != self.own]
        own = reached(mine, rung)
        return own is None or self.stop.goes_on(own[0], [one[0] for one in others if one], self.metric)


def values(folder: Path, figure: str) -> list[tuple[float, float | None]]:
    """(epoch, value) of a figure at every validation; None where it cannot be formed."""
    found, per_epoch = [], 0.0
    for line in lines(folder):
        per_epoch = line.get("steps_per_epoch", per_epoch)
        if line["kind"] == "validation" and per_epoch:
            found.append((line["step"] / per_epoch, line["metrics"].get(figure)))
    return found


def reached(at: Sequence[tuple[float, float | None]], rung: float) -> tuple[float | None] | None:
    """The value of the first validation at or after a rung, in brackets as it may be None; None without one."""
    return next(((value,) for epoch, value in at if epoch >= rung - CLOSE), None)
