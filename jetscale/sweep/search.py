"""Draws that learn from those before: Optuna asked and told in this process, on a study in memory.

Ray's own OptunaSearch tells each result when it comes: what is drawn next then depends on which trial happens to be
quicker. Here a batch is drawn from all batches before it, so the draws depend on the sweep alone; a sweep that was
killed draws the same again, and finds those trials done.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jetscale.axes import Axis, Optuna, Sweep, rounded
from jetscale.run import Run

if TYPE_CHECKING:
    import optuna


class Searcher:
    """A study in memory and the axes that it draws for."""

    def __init__(self, sweep: Sweep, how: Optuna, base: Run) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.sweep, self.base = sweep, base
        self.study = optuna.create_study(
            direction="maximize" if sweep.metric.better == "high" else "minimize",
            sampler=optuna.samplers.TPESampler(seed=how.seed, constant_liar=True),
        )

    def ask(self, number: int) -> list[tuple[optuna.trial.Trial, dict[str, Any]]]:
        """So many draws, of the axes that apply."""
        asked = [self.study.ask() for _ in range(number)]
        return [(trial, self._values(trial)) for trial in asked]

    def tell(self, trial: optuna.trial.Trial, replicas: Sequence[float | None]) -> None:
        """The metric of a draw's trainings, one for every seed: their mean counts, without those that have none."""
        import optuna

        known = [value for value in replicas if value is not None]
        if known:
            self.study.tell(trial, statistics.fmean(known))
        else:
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)

    def _values(self, trial: optuna.trial.Trial) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, axis in self.sweep.axes.items():
            if self.sweep.applies(axis, found, self.base):
                found[key] = _suggested(trial, key, axis)
        return found


def _suggested(trial: optuna.trial.Trial, key: str, axis: Axis) -> Any:
    """A value as the axis has it; Optuna itself knows of lists no more than the places in them."""
    if axis.choice:
        return axis.choice[trial.suggest_categorical(key, range(len(axis.choice)))]
    if axis.integer:
        return trial.suggest_int(key, *axis.integer)
    low, high = axis.log_uniform or axis.uniform or (0.0, 1.0)
    return rounded(trial.suggest_float(key, low, high, log=axis.log_uniform is not None))
