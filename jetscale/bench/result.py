"""What a benchmark has found: figures with their spread beside their targets, as JSON and as a table."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from rich.table import Table

import jetscale
from jetscale.bench.measure import Spent
from jetscale.events import write_text

Say = Callable[[str], None]
LIBRARIES = ("torch", "deepspeed", "ray", "pyarrow", "numpy")


class Figure(NamedTuple):
    """One thing that was measured, round by round; without a unit it is a ratio."""

    name: str
    rounds: Sequence[float]
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        if self.at_least is not None:
            return self.median >= self.at_least
        return None if self.at_most is None else self.median <= self.at_most

    def values(self) -> dict[str, Any]:
        """Plain names and numbers."""
        return {"name": self.name, "unit": self.unit or "ratio", "median": self.median, "low": min(self.rounds),
                "high": max(self.rounds), "rounds": list(self.rounds), "at_least": self.at_least,
                "at_most": self.at_most, "met": self.met}  # fmt: skip


class Result(NamedTuple):
    """All figures of a benchmark; `rounds` is what every side has spent, so that the ratios can be formed again."""

    bench: str
    figures: Sequence[Figure]
    sizes: dict[str, Any]
    rounds: dict[str, Any]

    def write(self, file: Path) -> None:
        """JSON with the machine and the versions."""
        values = {"bench": self.bench, "machine": machine(), "versions": versions(), "sizes": self.sizes,
                  "figures": [figure.values() for figure in self.figures], "rounds": self.rounds}  # fmt: skip
        write_text(file, json.dumps(values, indent=1) + "\n")

    def table(self) -> Table:
        """For the terminal: every figure, its spread, and whether its target is met."""
        table = Table(title=f"jetscale bench {self.bench}", title_justify="left")
        for heading, side in (("figure", "left"), ("median", "right"), ("low to high", "right"), ("target", "right"),
                              ("", "left")):  # fmt: skip
            table.add_column(heading, justify=side, no_wrap=heading != "figure")  # type: ignore[arg-type]
        for one in self.figures:
            unit = f" {one.unit}" if one.unit else ""
            target = f">= {one.at_least:g}" if one.at_least is not None else ""
            target = f"<= {one.at_most:g}{unit}" if one.at_most is not None else target
            verdict = {True: "[green]met[/]", False: "[red]missed[/]", None: ""}[one.met]
            spread = f"{_short(min(one.rounds))} to {_short(max(one.rounds))}"
            table.add_row(one.name, f"{_short(one.median)}{unit}", spread, target, verdict)
        return table


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def ratio(base: Sequence[Spent], other: Sequence[Spent], of: str) -> list[float]:
    """Round by round, how much faster the other side is than the base: the base's CPU is that of its own process."""
    in_base = "wall_s" if of == "wall_s" else "own_s"
    return [getattr(one, in_base) / getattr(two, of) for one, two in zip(base, other, strict=True)]


def machine() -> dict[str, Any]:
    """What it ran on, and how busy that was."""
    return {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(),
            "memory_bytes": psutil.virtual_memory().total, "system": platform.platform(),
            "load": [round(one, 2) for one in os.getloadavg()]}  # fmt: skip


def versions() -> dict[str, str]:
    """Of the libraries that were measured."""
    return {
        "jetscale": jetscale.__version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in LIBRARIES},
    }
