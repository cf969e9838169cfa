"""How many trainings stand, on the terminal: a live table, or a line for each one that ends."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.live import Live
from rich.table import Table
from rich.text import Text

from jetscale.axes import Metric
from jetscale.sweep.trials import OVER, Outcome
from jetscale.terminal import Terminal

STYLES = {"waiting": "dim", "running": "", "done": "green", "stopped": "yellow", "failed": "red"}
FEWEST, MARGIN = 6, 6  # rows of trials at least; lines of the terminal that are not theirs


class Standings:
    """Shows every state that it is told of, until the end of its `with`."""

    def __init__(self, terminal: Terminal, metric: Metric) -> None:
        self.terminal, self.metric = terminal, metric
        self.outcomes: Mapping[str, Outcome] = {}
        self.planned, self.began = 0, time.monotonic()
        self.told: set[tuple[str, str]] = set()
        self.next_s = self.began
        self.live = Live(console=terminal.console, get_renderable=self.table, refresh_per_second=2, transient=True,
                         redirect_stdout=False, redirect_stderr=False)  # fmt: skip

    def __enter__(self) -> Self:
        if self.terminal.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
                 ) -> None:  # fmt: skip
        if self.terminal.console.is_terminal:
            self.live.stop()
        self.terminal.say(self.heading())

    def show(self, outcomes: Mapping[str, Outcome], planned: int = 0) -> None:
        """The state of all trainings now; `planned` is how many there will be, if more are still to come."""
        self.outcomes, self.planned = outcomes, max(planned, len(outcomes))
        if not self.terminal.console.is_terminal:
            self._tell()

    def best(self) -> str:
        """The name of the best training so far, empty if none has the metric."""
        best, name = None, ""
        for one in self.outcomes.values():
            if self.metric.beats(here := one.figures.get(self.metric.name), best):
                best, name = here, one.name
        return name

    def heading(self) -> str:
        """How many there are of each kind, for how long, and the best one."""
        number: Counter[str] = Counter(one.status for one in self.outcomes.values())
        kinds = [f"{number[kind]} {kind}" for kind in STYLES if number[kind]]
        spent, best = int(time.monotonic() - self.began), self.best()
        found = f"; best {self.metric.name} {self._value(best)}: {best}" if best else ""
        return f"{self.planned} trials: {', '.join(kinds) or 'none yet'}, {spent // 60}:{spent % 60:02d}{found}"

    def table(self) -> Table:
        """Those at work first, then the best."""
        best, table = self.best(), Table(box=None, pad_edge=False, title=Text(self.heading()), title_justify="left")
        for heading, side in (("trial", "left"), ("", "left"), ("epochs", "right"), (self.metric.name, "right")):
            table.add_column(heading, justify=side, no_wrap=True)  # type: ignore[arg-type]
        for one in self._shown(max(FEWEST, self.terminal.console.height - MARGIN)):
            style = "bold green" if one.name == best else STYLES[one.status]
            table.add_row(one.name, one.status, f"{one.epoch:.1f}", self._value(one.name), style=style)
        return table

    def _shown(self, rows: int) -> list[Outcome]:
        """As many as there is room for."""
        sign = -1 if self.metric.better == "high" else 1
        turn = {kind: place for place, kind in enumerate(("running", "done", "stopped", "failed", "waiting"))}

        def place(one: Outcome) -> tuple[int, float]:
            value = one.figures.get(self.metric.name)
            return turn[one.status], math.inf if value is None else sign * value

        return sorted(self.outcomes.values(), key=place)[:rows]

    def _value(self, name: str) -> str:
        value = self.outcomes[name].figures.get(self.metric.name)
        return "-" if value is None else f"{value:.4f}"

    def _tell(self) -> None:
        """A line for each one that has ended since, and now and then how all stand."""
        for one in self.outcomes.values():
            if one.status in OVER and (one.name, one.status) not in self.told:
                self.told.add((one.name, one.status))
                why = f": {one.error.splitlines()[0]}" if one.error else ""
                self.terminal.say(f"  {one.name}: {one.status} after {one.epoch:.1f} epochs, {self.metric.name} "
                                  f"{self._value(one.name)}{why}")  # fmt: skip
        if time.monotonic() >= self.next_s:
            self.terminal.say(f"  {self.heading()}")
            self.next_s = time.monotonic() + self.terminal.every_s
