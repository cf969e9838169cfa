"""A sweep in pictures: every axis, every pair of axes, all trials at once, the trade-off, and the way there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations, pairwise
from operator import eq
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from jetscale.axes import Axis, Metric, Sweep, said_short, short
from jetscale.evaluate.figures import FAINT, INK, RUN_COLOURS, Picture, panels, picture, styled
from jetscale.sweep.sweep import Progress, value
from jetscale.sweep.trials import Outcome
from jetscale.train.rungs import values as validations

COLOURS = mpl.colormaps["viridis"]
MOST_AXES, BINS = 4, 5  # axes whose pairs are drawn; bins of one that is a range
DECADES = 10.0  # the ratio of the ends from which an axis is drawn in logarithms
NUMBERED = 8  # cells in a row up to which each has its number


class Told(NamedTuple):
    """A trial as the pictures see it: the values of its axes, its metric, and how it ended."""

    values: Mapping[str, Any]
    metric: float
    outcome: Outcome

    @property
    def stopped(self) -> bool:
        """Whether its metric is that of an earlier epoch than the others'."""
        return self.outcome.status == "stopped"


def draw(sweep: Sweep, progress: Progress, out: Path) -> list[Picture]:
    """All pictures that the trials have the numbers for, as PNG and PDF."""
    told = tell(sweep, progress)
    if not told:
        return []
    with styled():
        return [picture(name, title, caption, figure, out) for name, title, caption, figure in _drawn(sweep, told)]


def _drawn(sweep: Sweep, told: Sequence[Told]) -> Iterator[tuple[str, str, str, Figure]]:
    name = sweep.metric.name
    yield "axes", f"{name} along every axis", AXES_CAPTION, along(sweep, told)
    if pairs := _pairs(sweep, told):
        yield "pairs", f"{name} for pairs of axes", PAIRS_CAPTION, heat(sweep, told, pairs)
    if len(sweep.axes) > 1:
        yield "parallel", "All trials at once", PARALLEL_CAPTION, parallel(sweep, told)
    if second := other_figure(sweep, told):
        yield "pareto", f"{name} against {second.name}", PARETO_CAPTION, pareto(sweep, second, told)
    if not sweep.judge:
        yield "learning", f"{name} along the trainings", LEARNING_CAPTION, learning(sweep, told)


AXES_CAPTION = (
    "Every point is a trial (crosses: stopped early); the line joins the means of those that came to their end, over "
    "all other axes and seeds. A flat line is an axis that does not matter by itself."
)
PAIRS_CAPTION = (
    "Mean over the trials with these two values that came to their end, whatever their other ones. Ranges are cut into "
    "bins with equally many trials. White cells have no such trial: all were stopped, or failed."
)
PARALLEL_CAPTION = (
    "Every line is a trial, from its values to its metric at the right, coloured by that; the best one is drawn thick. "
    "A line that leaves an axis out is a trial to which it does not apply."
)
PARETO_CAPTION = (
    "Every point is a trial. No other trial is better in both figures than those on the line: to gain in one there, "
    "something of the other must be given."
)
LEARNING_CAPTION = (
    "The metric on the validation part by epoch, coloured by where it ended; crosses mark trials that were stopped, "
    "dotted lines the rungs at which it is decided."
)


def tell(sweep: Sweep, progress: Progress) -> list[Told]:
    """The trials that have a metric, the worst first, so that the best is drawn on top."""
    found = [
        Told(one.values, metric, outcome)
        for one in progress.candidates
        if (metric := value(sweep, outcome := progress.outcomes[one.name])) is not None
    ]
    return sorted(found, key=lambda one: one.metric, reverse=sweep.metric.better == "low")


def along(sweep: Sweep, told: Sequence[Told]) -> Figure:
    """The metric against every axis."""
    figure, axes = panels(len(sweep.axes), width=3.6, height=2.9)
    names = short(sweep.axes)
    for (key, axis), ax in zip(sweep.axes.items(), axes, strict=True):
        have = [one for one in told if key in one.values]
        scale = Scale(axis, [one.values[key] for one in have])
        x, y = np.array([scale.place(one.values[key]) for one in have]), np.array([one.metric for one in have])
        for stopped, marker in ((False, "o"), (True, "x")):
            kind = np.array([one.stopped == stopped for one in have], dtype=bool)
            ax.scatter(x[kind], y[kind], s=22, color=RUN_COLOURS[0], marker=marker, alpha=0.65, lw=1.2)
        if scale.listed:
            ended = np.array([not one.stopped for one in have], dtype=bool)
            places = np.unique(x[ended])
            ax.plot(places, [y[ended & (x == place)].mean() for place in places], color=INK, lw=1.2)
        scale.ticks(ax)
        ax.set(xlabel=names[key], ylabel=sweep.metric.name)
    return figure


class Scale:
    """Where the values of an axis stand: a list at 0, 1, 2, ..., a range as numbers, in logarithms if it is wide."""

    def __init__(self, axis: Axis, values: Sequence[Any]) -> None:
        listed = axis.grid or axis.choice
        self.listed = list(listed) if listed else []
        ends = axis.ends()
        numbers = not self.listed and float(ends[0]) > 0 and float(ends[-1]) / float(ends[0]) >= DECADES
        self.logarithm = axis.log_uniform is not None or numbers
        self.values = values

    def place(self, value: Any) -> float:
        """A value's coordinate."""
        return float(self.listed.index(value)) if self.listed else float(value)

    def ticks(self, ax: Axes) -> None:
        """Label the horizontal axis."""
        if self.listed:
            ax.set_xticks(range(len(self.listed)), [said_short(one) for one in self.listed])
            ax.set_xlim(-0.5, len(self.listed) - 0.5)
        elif self.logarithm:
            ax.set_xscale("log")

    def bins(self) -> list[tuple[str, Callable[[Any], bool]]]:
        """(label, test) of the columns of a heat map."""
        if self.listed:
            return [(said_short(one), partial(eq, one)) for one in self.listed]
        edges = np.unique(np.quantile(np.array(self.values, dtype=float), np.linspace(0, 1, BINS + 1)))
        inside = [partial(_between, low=low, high=high, last=high == edges[-1]) for low, high in pairwise(edges)]
        return [(f"{low:.2g} to {high:.2g}", test) for (low, high), test in zip(pairwise(edges), inside, strict=True)]

    def share(self, value: Any) -> float:
        """A value's place between the ends, 0 to 1."""
        if self.listed:
            return self.place(value) / max(len(self.listed) - 1, 1)
        numbers = [float(one) for one in self.values]
        low, high, here = min(numbers), max(numbers), float(value)
        if self.logarithm:
            low, high, here = math.log(low), math.log(high), math.log(here)
        return (here - low) / (high - low) if high > low else 0.5


def _between(value: float, low: float, high: float, last: bool) -> bool:
    return low <= value < high or (last and value == high)


def _pairs(sweep: Sweep, told: Sequence[Told]) -> list[tuple[str, str]]:
    """Pairs of the first axes, as far as there are trials with a value of both."""
    keys = list(sweep.axes)[:MOST_AXES]
    return [(one, two) for one, two in combinations(keys, 2) if any(one in t.values and two in t.values for t in told)]


def heat(sweep: Sweep, told: Sequence[Told], pairs: Sequence[tuple[str, str]]) -> Figure:
    """Mean metric by the values of two axes, one panel per pair, one colour scale for all."""
    figure, axes = panels(len(pairs), width=4.6, height=3.5, columns=2)
    names, norm = short(sweep.axes), _norm(told)
    drawn = None
    for (across, up), ax in zip(pairs, axes, strict=True):
        have = [one for one in told if across in one.values and up in one.values]
        columns, rows = (Scale(sweep.axes[key], [one.values[key] for one in have]).bins() for key in (across, up))
        grid = np.array([[_mean(have, (across, in_column), (up, in_row)) for _, in_column in columns]
                         for _, in_row in rows])  # fmt: skip
        drawn = ax.imshow(grid, norm=norm, cmap=COLOURS, origin="lower", aspect="auto")
        ax.set_xticks(range(len(columns)), [label for label, _ in columns], rotation=0 if len(columns) < 6 else 35)
        ax.set_yticks(range(len(rows)), [label for label, _ in rows])
        ax.set(xlabel=names[across], ylabel=names[up])
        ax.grid(visible=False)
        if len(columns) <= NUMBERED:
            _numbers(ax, grid, norm)
    if drawn is not None:
        figure.colorbar(drawn, ax=axes, label=sweep.metric.name, fraction=0.04, pad=0.02, shrink=0.8)
    return figure


def _mean(told: Sequence[Told], *tests: tuple[str, Any]) -> float:
    found = [one.metric for one in told if not one.stopped and all(test(one.values[key]) for key, test in tests)]
    return float(np.mean(found)) if found else math.nan


def _numbers(ax: Axes, grid: np.ndarray, norm: Normalize) -> None:
    for (row, column), cell in np.ndenumerate(grid):
        if math.isfinite(cell):
            dark = float(norm(cell)) < 0.55
            ax.text(column, row, f"{cell:.3f}", ha="center", va="center", fontsize=8.5, color="white" if dark else INK)


def _norm(told: Sequence[Told]) -> Normalize:
    every = [one.metric for one in told]
    return Normalize(min(every), max(every) if max(every) > min(every) else min(every) + 1e-9)


def parallel(sweep: Sweep, told: Sequence[Told]) -> Figure:
    """Parallel coordinates: one vertical line per axis, and the metric at the right."""
    figure = Figure(figsize=(max(7.0, 1.9 * (len(sweep.axes) + 1)), 3.9), layout="constrained")
    ax, names, norm = figure.subplots(), short(sweep.axes), _norm(told)
    scales = {key: Scale(axis, [one.values[key] for one in told if key in one.values] or [0.0])
              for key, axis in sweep.axes.items()}  # fmt: skip
    dice = np.random.default_rng(1)
    for one in told:
        spread = 0.012 * dice.standard_normal()  # lines that share values can then be told apart
        points = [(x, scale.share(one.values[key]) + spread) for x, (key, scale) in enumerate(scales.items())
                  if key in one.values]  # fmt: skip
        points.append((len(scales), float(norm(one.metric))))
        best = one is told[-1]
        ax.plot(*zip(*points, strict=True), color=COLOURS(float(norm(one.metric))), lw=3.0 if best else 1.1,
                alpha=1.0 if best or not one.stopped else 0.35)  # fmt: skip
    for x, (key, scale) in enumerate(scales.items()):
        _axis(ax, x, names[key], [(scale.share(one), said_short(one)) for one in scale.listed] or
              [(0.0, f"{min(scale.values):.3g}"), (1.0, f"{max(scale.values):.3g}")])  # fmt: skip
    _axis(ax, len(scales), sweep.metric.name, [(0.0, f"{norm.vmin:.3f}"), (1.0, f"{norm.vmax:.3f}")])
    ax.set(xlim=(-0.35, len(scales) + 0.5), ylim=(-0.07, 1.12))
    ax.set_axis_off()
    return figure


def _axis(ax: Axes, x: float, name: str, ticks: Sequence[tuple[float, str]]) -> None:
    ax.plot([x, x], [0, 1], color=FAINT, lw=1.0, zorder=0)
    ax.text(x, 1.06, name, ha="center", va="bottom", fontweight="bold", color=INK)
    for place, label in ticks:
        ax.text(x + 0.03, place, label, ha="left", va="center", fontsize=9, color=INK, zorder=5,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.0})  # fmt: skip


def other_figure(sweep: Sweep, told: Sequence[Told]) -> Metric | None:
    """The figure that the metric is drawn against: the one asked for, or another of peak and sculpting."""
    if sweep.against:
        return sweep.against
    known = {name for one in told for name, value in one.outcome.figures.items() if value is not None}
    return next((Metric(name=name) for name in ("f10", "mass_auc") if name in known - {sweep.metric.name}), None)


def pareto(sweep: Sweep, second: Metric, told: Sequence[Told]) -> Figure:
    """Both figures of every trial, and the front on which nothing is better in both."""
    figure, (ax,) = panels(1, width=7.4, height=4.2)
    have = [(found, one) for one in told if (found := one.outcome.figures.get(second.name)) is not None]
    x, y = np.array([found for found, _ in have]), np.array([one.metric for _, one in have])
    stopped = np.array([one.stopped for _, one in have], dtype=bool)
    ax.scatter(x[~stopped], y[~stopped], s=26, color=RUN_COLOURS[0], alpha=0.7)
    ax.scatter(x[stopped], y[stopped], s=26, color=FAINT, marker="x")
    front = on_front(np.where(second.better == "high", x, -x), np.where(sweep.metric.better == "high", y, -y))
    order = [place for place in np.argsort(x) if front[place]]
    ax.plot(x[order], y[order], color=RUN_COLOURS[3], lw=1.6, marker="o", ms=8, mfc="none", mew=1.6)
    names = short(sweep.axes)
    for place in order[:NUMBERED]:
        label = "\n".join(f"{names[key]}={said_short(value)}" for key, value in have[place][1].values.items())
        # Beyond the front there are no points that a label could hide.
        ax.annotate(label, (x[place], y[place]), xytext=(8, 5), textcoords="offset points", fontsize=7.5)
    ax.set(xlabel=second.name, ylabel=sweep.metric.name)
    ax.margins(0.16, 0.2)
    return figure


def on_front(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which points (n) no other one beats in both, where more is better in both."""
    no_worse = (x[None] >= x[:, None]) & (y[None] >= y[:, None])
    better = (x[None] > x[:, None]) | (y[None] > y[:, None])
    return np.asarray(~(no_worse & better).any(1))


def learning(sweep: Sweep, told: Sequence[Told]) -> Figure:
    """The metric of every trial by epoch."""
    figure, (ax,) = panels(1, width=7.4, height=3.8)
    norm, last = _norm(told), 0.0
    for one in told:
        points = [(epoch, value) for epoch, value in validations(one.outcome.folder, sweep.metric.name)
                  if value is not None]  # fmt: skip
        if not points:
            continue
        best, shade = one is told[-1], COLOURS(float(norm(one.metric)))
        ax.plot(*zip(*points, strict=True), color=shade, lw=2.8 if best else 1.1, alpha=1.0 if best else 0.8)
        if one.stopped:
            ax.plot(*points[-1], marker="x", color=shade, ms=6, mew=1.6)
        last = max(last, points[-1][0])
    if sweep.stop:
        rung = sweep.stop.asha.grace_epochs
        while rung < last:
            ax.axvline(rung, color=FAINT, ls=":", lw=1.0, zorder=0)
            rung *= sweep.stop.asha.factor
    ax.set(xlabel="epoch", ylabel=sweep.metric.name, xlim=(0, None))
    return figure
