"""The audit's pictures: broken symmetries, the mass against the truth, the matrix, functions as points, influence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from jetscale.audit.audit import Matrix, Report, Response
from jetscale.audit.influence import Influence
from jetscale.audit.job import ALL
from jetscale.audit.spread import Spread
from jetscale.audit.verdicts import Verdict
from jetscale.evaluate.figures import FAINT, INK, MARKERS, RUN_COLOURS, Picture, picture, styled
from jetscale.metrics import Estimate

BLUE = RUN_COLOURS[0]
STATES = {"pass": "#009e73", "fail": "#d55e00", "undecided": "#e69f00", "off": FAINT, "not formed": FAINT}
LEAST = 1e-5  # violations below are drawn there: exact up to rounding
QUALITY = LinearSegmentedColormap.from_list("quality", ["#f7fbff", "#9ecae1", "#0072b2"])

SYMMETRY_CAPTION = (
    "How much the function changes when the events do, in units of its own spread over the events: "
    "E|f(gx) - ρ(g) f(x)| / std f. Ticks are thresholds; grey bars are not judged. An exact symmetry ends at the left "
    "edge, which stands for rounding. A function that takes jets for leading ones by their place in the list, and not "
    "by their pt, depends on their order; on samples with jets in falling pt that alone does no harm."
)
RESPONSE_CAPTION = (
    "Median and 16-84 % range of the mass at every true mass. Dotted lines mark the masses of the training: a function "
    "that remembers them has steps there, one that does not has a straight line through 0 on the left, and a level one "
    "on the right."
)
MATRIX_CAPTION = (
    "Quality at every column of the training without the row, mean over the seeds. Framed: what was left out is also "
    "what it is tested on; compare it with the top row, the training on everything."
)
SPREAD_CAPTION = (
    "Every trained function by its responses on one bank of made-up events, in units of the spread between seeds, in "
    "its first principal components. Seeds of one composition have one colour: where colours lie apart, the function "
    "depends on what it was trained on."
)
INFLUENCE_CAPTION = (
    "Mean mass on the made-up events over that at the first weight, and the share of the background below the signals' "
    "medians, against the background's weight in the training. Trainings are compared seed by seed."
)


def draw(report: Report, out: Path) -> list[Picture]:
    """All pictures that the report has the numbers for, into `out` as PNG and PDF."""
    found: list[tuple[str, str, str, Figure]] = []
    with styled():
        judged = [verdict for verdict in report.verdicts if verdict.name in report.symmetry]
        found.append(("symmetry", "Symmetries", SYMMETRY_CAPTION, symmetry(judged)))
        if report.response:
            found.append(("response", "Mass against the true mass", RESPONSE_CAPTION,
                          response(report.response, report.subject.trained_on)))  # fmt: skip
        if report.matrix:
            found.append(("matrix", "Leave one out", MATRIX_CAPTION, matrix(report.matrix)))
        if report.spread:
            found.append(("spread", "Functions as points", SPREAD_CAPTION, points(report.spread, report.compositions)))
        if report.influence:
            found.append(("influence", "Weight of the background", INFLUENCE_CAPTION, influence(report.influence)))
        return [picture(name, title, caption, figure, out) for name, title, caption, figure in found]


def symmetry(verdicts: list[Verdict]) -> Figure:
    """A bar per probe, with its threshold."""
    figure, ax = _one(7.4, 0.42 * len(verdicts) + 0.9)
    for place, verdict in enumerate(reversed(verdicts)):
        ax.barh(place, max(verdict.value, LEAST * 1.02) - LEAST, left=LEAST, height=0.55, color=STATES[verdict.state])
        if verdict.value > 10 * LEAST:
            ax.errorbar(verdict.value, place, xerr=verdict.error, color=INK, lw=1.2)
        if verdict.threshold:
            ax.plot([verdict.threshold] * 2, [place - 0.38, place + 0.38], color=INK, lw=1.6)
    high = max([2.0, *(3 * verdict.value for verdict in verdicts)])
    names = [verdict.name.replace("_", " ") for verdict in reversed(verdicts)]
    ax.set(xscale="log", xlim=(LEAST, high), yticks=range(len(verdicts)), yticklabels=names, xlabel="violation")
    ax.grid(visible=False, axis="y")
    _states(figure, {verdict.state for verdict in verdicts})
    return figure


def response(found: Response, trained_on: tuple[float, ...]) -> Figure:
    """Mass against true mass, and their ratio."""
    figure = Figure(figsize=(9.2, 3.7), layout="constrained")
    left, right = figure.subplots(1, 2)
    low, middle, high = found.quantile_3M
    for ax, per in ((left, np.ones_like(found.true_M)), (right, found.true_M)):
        for mass in trained_on:
            ax.axvline(mass, color=INK, ls=":", lw=1.3)
        ax.fill_between(found.true_M, low / per, high / per, color=BLUE, alpha=0.16, lw=0)
        ax.plot(found.true_M, middle / per, color=BLUE, marker="o", ms=3.5)
        ax.set(xlabel="true mass [GeV]", ylim=(0, None))
    left.plot(found.true_M, found.true_M, color=FAINT, ls=(0, (4, 3)), lw=1.2)
    left.set(title="mass", ylabel="mass [GeV]")
    right.axhline(1, color=FAINT, ls=(0, (4, 3)), lw=1.2)
    right.set(title="mass / true mass", ylim=(0, max(1.5, 1.05 * float((high / found.true_M).max()))))
    return figure


def matrix(found: Matrix) -> Figure:
    """The heat map: trainings in rows, what they are tested on in columns."""
    number = len(found.names)
    values = np.vstack([found.full_SD.mean(0), found.out_SDD.mean(0)])
    figure, ax = _one(max(5.2, 1.15 * number + 2.6), 0.55 * number + 2.0)
    ax.imshow(values, cmap=QUALITY, vmin=0, vmax=float(values.max()), aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        dark = value > 0.6 * values.max()
        ax.text(column, row, f"{value:.3f}", ha="center", va="center", color="white" if dark else INK)
    for place in range(number):
        ax.add_patch(Rectangle((place - 0.48, place + 0.52), 0.96, 0.96, fill=False, edgecolor="#d55e00", lw=2))
    ax.axhline(0.5, color="white", lw=4)
    ax.set(xticks=range(number), xticklabels=found.names, yticks=range(number + 1), xlabel="tested on",
           yticklabels=["trained on all", *(f"without {name}" for name in found.names)])  # fmt: skip
    ax.tick_params(length=0)
    ax.tick_params(axis="x", labelrotation=0 if number < 6 else 35)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    return figure


def points(found: Spread, compositions: tuple[str, ...]) -> Figure:
    """The functions in their first components, coloured by composition."""
    figure, ax = _one(7.4, 4.2)
    names = list(dict.fromkeys(compositions))
    points_KC = np.pad(found.points_KC, ((0, 0), (0, max(0, 2 - found.points_KC.shape[1]))))
    for place, name in enumerate(names):
        chosen = [composition == name for composition in compositions]
        shade = INK if name == ALL else RUN_COLOURS[place % len(RUN_COLOURS)]
        ax.plot(*points_KC[chosen, :2].T, ls="", ms=8, marker=MARKERS[place % len(MARKERS)], color=shade, label=name,
                mec="white", mew=0.8)  # fmt: skip
    ax.set(xlabel="first component", ylabel="second component")
    ax.margins(0.12)
    figure.legend(loc="outside right upper")
    return figure


def influence(found: Influence) -> Figure:
    """The response and the signal's position against the weight."""
    curves = [("mean mass, relative", found.response)]
    if found.position:
        curves.append(("relative signal position", found.position))
    figure = Figure(figsize=(4.6 * max(len(curves), 1), 3.4), layout="constrained")
    for ax, (title, curve) in zip(figure.subplots(1, len(curves), squeeze=False).flat, curves, strict=True):
        _curve(ax, found.weights, curve)
        ax.set(title=title, xlabel="weight of the background")
    return figure


def _curve(ax: Axes, weights: tuple[float, ...], curve: tuple[Estimate, ...]) -> None:
    errors = [np.nan_to_num(one.error) for one in curve]
    ax.errorbar(weights, [one.value for one in curve], errors, color=BLUE, marker="o", ms=5, lw=1.6)
    smallest = next(weight for weight in weights if weight > 0)
    ax.set_xscale("symlog", linthresh=smallest)
    ax.set_xticks(weights, [f"{weight:g}" for weight in weights])
    ax.set_xlim(weights[0] if weights[0] == 0 else weights[0] / 1.3, weights[-1] * 1.3)
    ax.minorticks_off()


def _one(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _states(figure: Figure, states: set[str]) -> None:
    words = {"off": "not judged", "not formed": "not formed"}
    handles = [Line2D([], [], color=shade, lw=6, label=words.get(state, state))
               for state, shade in STATES.items() if state in states]  # fmt: skip
    handles.append(Line2D([], [], color=INK, marker="|", ms=11, mew=1.6, ls="", label="threshold"))
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles))
