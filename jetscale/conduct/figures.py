"""The talk's figures, from the study's tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import mplhep
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jetscale.conduct.claims import Evidence
from jetscale.conduct.table import Ranked, Row
from jetscale.evaluate.figures import FAINT, INK, Picture, histogram, panels, picture, styled
from jetscale.evaluate.logs import Curves
from jetscale.metrics import Estimate, Floats
from jetscale.study import LOSSES, Training

COLOURS = {"single": "#d55e00", "mixed": "#0072b2", "background": "#009e73"}
WORDS = {"single": "one mass", "mixed": "several masses", "background": "several masses + background"}
NETWORKS = {"equivariant": "#0072b2", "dense": "#d55e00"}
SHAPES = ("o", "D", "s", "^")  # of read-outs
CROSSES = ("P", "X", "*", "v", "h")  # of classical methods
GREY = "#6b7280"
NEAR_1 = 1e-4  # what a relative position of 1 is drawn as, seen from 1
MOST = 4  # masses side by side
DASHED: dict[str, Any] = {"mfc": "white", "ls": (0, (4, 2))}  # of the mass loss

Masses = Mapping[tuple[str, str], tuple[Floats, Floats]]


class Drawn(NamedTuple):
    """What is drawn: the rows as claims see them, read-outs, and masses with weights by (setting, sample).

    `trained` has the masses that each composition was trained on, `learning` the curves of all runs;
    `warm` says that mass runs go on from label runs.
    """

    evidence: Evidence
    readouts: Sequence[str]
    masses: Masses
    trained: Mapping[str, Sequence[float]]
    learning: Mapping[Training, Curves]
    warm: bool


def draw(drawn: Drawn, out: Path) -> list[Picture]:
    """All figures, the summary plane first, as PNG and PDF."""
    found: list[tuple[str, str, str, Callable[[Drawn], Figure]]] = [
        ("plane", "Sculpting and peak quality", PLANE, plane),
        ("masses", "Reconstructed mass by training mass", MASSES, masses),
        ("position", "Relative signal position against the weight of background in training", POSITION, position),
        ("learning", "Labels and mass along the training", LEARNING, learning),
    ]
    if drawn.evidence.ranks:
        found.insert(3, ("ranks", "Jets that are given to no parent", RANKS, ranks))
    with styled():
        return [picture(name, title, caption, make(drawn), out) for name, title, caption, make in found]


PLANE = (
    "Up is a sharper peak, right is less sculpting. Filled: label loss; empty: mass loss. Shapes are read-outs of the "
    "same networks, crosses are methods without a network. Bars are one standard error, of events and, where there are "
    "several, of seeds. One panel for every hold-out: its mass and, where named, its decay were in no training."
)
MASSES = (
    "Mean mass of the two groups, normalised to 1, with the read-out of the talk. The dashed line is the true mass, "
    "with its band of ±10 %; the triangles on the axis are the masses that were trained on."
)
POSITION = (
    "Share of the background that lies below the signal's median mass: right of the talk's plot is up here. Filled: "
    "label loss; empty: mass loss. Below, the distance from 1 on a logarithmic axis."
)
RANKS = (
    "Mean probability of no parent, for jets that do come from one, by their place in falling pt; networks trained "
    "with the label loss on several masses of the three-quark decay."
)
LEARNING = (
    "On the validation part of what each network was trained on, by step. Filled: label loss; empty: mass loss, which "
    "begins where the label loss ends if it starts from there. Means over seeds."
)


def plane(drawn: Drawn) -> Figure:
    """f10 against mass AUC, one panel per hold-out."""
    samples = _holdouts(drawn.evidence.rows)
    figure, axes = panels(len(samples), width=3.7, height=3.3)
    for (sample, row), ax in zip(samples.items(), axes, strict=True):
        for readout, shape in zip(drawn.readouts, SHAPES * len(drawn.readouts), strict=False):
            seen = drawn.evidence._replace(readout=readout)
            for loss in LOSSES:
                for setting in seen.settings:
                    _point(ax, seen, shape, COLOURS[setting.kind], loss == "label", sample=sample, loss=loss,
                           **setting._asdict())  # fmt: skip
        for method, cross in zip(_classical(drawn.evidence.rows), CROSSES * 3, strict=False):
            _point(ax, drawn.evidence, cross, GREY, True, sample=sample, method=method, readout="", network="")
        ax.set(title=_title(row), xlabel="mass AUC", ylabel="f10")
        ax.margins(0.12)
    handles = [_handle(COLOURS[key], "o", WORDS[key]) for key in COLOURS]
    handles += _by_loss()
    handles += [_handle(FAINT, shape, readout) for readout, shape in zip(drawn.readouts, SHAPES, strict=False)]
    handles += [_handle(GREY, cross, method)
                for method, cross in zip(_classical(drawn.evidence.rows), CROSSES * 3, strict=False)]  # fmt: skip
    figure.legend(handles=handles, loc="outside upper left", ncols=4 if len(samples) > 2 else 3)
    return figure


def masses(drawn: Drawn) -> Figure:
    """Reconstructed mass at several true masses, a row for each loss."""
    samples = _direct(drawn.evidence.rows)
    names = list(samples)[-MOST:]
    figure = Figure(figsize=(3.1 * len(names), 5.6), layout="constrained")
    grid = figure.subplots(len(LOSSES), len(names), squeeze=False)
    for line, loss in zip(grid, LOSSES, strict=True):
        for ax, name in zip(line, names, strict=True):
            _mass_panel(ax, drawn, loss, samples[name])
        line[0].set_ylabel(f"{loss} loss\nshare per bin")
    for ax, name in zip(grid[0], names, strict=True):
        ax.set_title(_title(samples[name]))
    for ax in grid[-1]:
        ax.set_xlabel("mass [GeV]")
    figure.legend(handles=[Line2D([], [], color=COLOURS[key], label=WORDS[key]) for key in COLOURS],
                  loc="outside upper left", ncols=3)  # fmt: skip
    return figure


def _mass_panel(ax: Axes, drawn: Drawn, loss: str, row: Row) -> None:
    true, highest = row.true_mass, 0.0
    high = 100 * math.ceil(0.017 * true)
    for number, setting in enumerate(drawn.evidence.settings):
        shade = COLOURS[setting.kind]
        filled = histogram(*drawn.masses[setting.named(loss), row.sample], high)
        mplhep.histplot(filled, ax=ax, yerr=False, flow="none", color=shade, histtype="step", linewidth=1.5)
        highest = max(highest, float(filled.values().max()))
        if setting.weight:
            continue
        marks = [mass for mass in drawn.trained[setting.masses] if mass < high]
        ax.plot(marks, [0.03 + 0.06 * number] * len(marks), marker=6, ls="", ms=6, color=shade,
                transform=ax.get_xaxis_transform(), zorder=5)  # fmt: skip
    ax.axvspan(0.9 * true, 1.1 * true, color=INK, alpha=0.07, lw=0)
    ax.axvline(true, color=INK, ls=(0, (4, 3)), lw=1.1)
    ax.set(xlim=(0, high), ylim=(0, 1.12 * highest or None), xlabel="", ylabel="")


def position(drawn: Drawn) -> Figure:
    """Relative signal position against the background's weight, and its distance from 1."""
    figure, axes = panels(2, width=4.9, height=3.6, columns=2)
    evidence, name = drawn.evidence, "relative_signal_position"
    weights = evidence.weights
    samples = [row for row in _holdouts(evidence.rows).values() if row.place != "decay"]
    shades = mpl.colormaps["viridis"](np.linspace(0.05, 0.8, max(1, len(samples))))
    for row, shade in zip(samples, shades, strict=True):
        for loss in LOSSES:
            found = [evidence.of(name, sample=row.sample, loss=loss, masses="mixed", weight=w) for w in weights]
            place = np.arange(len(weights)) + (0.04 if loss == "mass" else -0.04)
            looks: dict[str, Any] = {"mfc": shade} if loss == "label" else DASHED
            for ax, shown in zip(axes, (found, [_from_1(one) for one in found]), strict=True):
                ax.errorbar(place, [one.value for one in shown], [one.error for one in shown], color=shade, marker="o",
                            ms=5.5, lw=1.3, elinewidth=1.1, **looks)  # fmt: skip
    for ax in axes:
        ax.set_xticks(range(len(weights)), [f"{weight:g}" for weight in weights])
        ax.set_xlabel("weight of background in training")
    axes[0].set_title("relative signal position")
    axes[1].set_title("- log₁₀ (1 - relative signal position)")
    handles = [_handle(shade, "o", f"{row.true_mass:g} GeV") for row, shade in zip(samples, shades, strict=True)]
    handles += _by_loss()
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles))
    return figure


def _from_1(one: Estimate) -> Estimate:
    away = max(1 - one.value, NEAR_1)
    return Estimate(-math.log10(away), one.error / away / math.log(10))


def ranks(drawn: Drawn) -> Figure:
    """Probability of no parent against the place in pt, a panel for each decay."""
    found = [one for one in drawn.evidence.ranks if one.setting == "label-mixed"]
    modes = sorted({one.decay_mode for one in found})
    figure, axes = panels(len(modes), width=4.6, height=3.4)
    trained = {row.decay_mode for row in drawn.evidence.rows if row.place == "trained"}
    for mode, ax in zip(modes, axes, strict=True):
        for network, shade in NETWORKS.items():
            some = [one for one in found if one.decay_mode == mode and one.network == network]
            places = sorted({one.rank for one in some})
            at = [_at_rank(some, rank) for rank in places]
            ax.errorbar(places, [one.value for one in at], [one.error for one in at], color=shade, marker="o", ms=4.5,
                        lw=1.4)  # fmt: skip
        held = "" if mode in trained else ", not trained on"
        ax.set(title=f"{mode} quarks per parent{held}", xlabel="place in falling pt", ylim=(0, 1),
               ylabel="probability of no parent")  # fmt: skip
        ax.set_xticks(range(1, 13))
    shown = [network for network in NETWORKS if any(one.network == network for one in found)]
    figure.legend(handles=[_handle(NETWORKS[one], "o", one) for one in shown], loc="outside upper left", ncols=2)
    return figure


def _at_rank(found: Sequence[Ranked], rank: int) -> Estimate:
    """The mean over samples and seeds, with the deviation between them or, of one, its own error."""
    some = [one for one in found if one.rank == rank]
    means = [one.mean for one in some]
    error = float(np.std(means, ddof=1)) / math.sqrt(len(means)) if len(means) > 1 else some[0].error
    return Estimate(float(np.mean(means)), error)


def learning(drawn: Drawn) -> Figure:
    """Jet accuracy and peak of validation by step; a mass run that goes on from a label run stands behind it."""
    names = {"jet_accuracy": "jets in the right group", "f10": "f10", "peak_fraction": "peak fraction"}
    figure, axes = panels(len(names), width=3.7, height=3.3)
    for ax, (name, words) in zip(axes, names.items(), strict=True):
        for setting in drawn.evidence.settings:
            end = 0.0
            for loss in LOSSES:
                step, value = _mean_curve(drawn, setting.named(loss), name)
                looks: dict[str, Any] = {"mfc": COLOURS[setting.kind]} if loss == "label" else DASHED
                ax.plot(step + end, value, color=COLOURS[setting.kind], marker="o", ms=3.6, lw=1.2, **looks)
                end = float(step.max(initial=0.0)) if drawn.warm else 0.0
        ax.set(title=words, xlabel="step")
    handles = [_handle(COLOURS[key], "o", WORDS[key]) for key in COLOURS]
    figure.legend(handles=[*handles, *_by_loss()], loc="outside upper left", ncols=len(handles) + 2)
    return figure


def _mean_curve(drawn: Drawn, setting: str, name: str) -> tuple[Floats, Floats]:
    """A figure of validation by step, over the seeds that have as many points."""
    found = [curves.figures[name] for point, curves in drawn.learning.items()
             if point.setting == setting and point.network == drawn.evidence.network
             and name in curves.figures]  # fmt: skip
    if not found:
        return np.zeros(0), np.zeros(0)
    alike = [value for step, value in found if np.array_equal(step, found[0][0])]
    return found[0][0], np.mean(alike, axis=0)


def _by_loss() -> list[Line2D]:
    return [_handle(INK, "o", "label loss"), _handle(INK, "o", "mass loss", filled=False)]


def _point(ax: Axes, evidence: Evidence, shape: str, shade: str, filled: bool, **keys: Any) -> None:
    """Mass AUC and f10 of the rows with these keys, where they could be formed."""
    x, y = (evidence.of(name, **keys) for name in ("mass_auc", "f10"))
    if math.isfinite(x.value) and math.isfinite(y.value):
        ax.errorbar([x.value], [y.value], xerr=[_bar(x)], yerr=[_bar(y)], color=shade, marker=shape, ms=7, ls="",
                    mfc=shade if filled else "white", mew=1.4, elinewidth=1.0, capsize=0)  # fmt: skip


def _bar(one: Estimate) -> float:
    return one.error if math.isfinite(one.error) else 0.0


def _handle(shade: Any, shape: str, words: str, *, filled: bool = True) -> Line2D:
    inside = shade if filled else "white"
    return Line2D([], [], color=shade, marker=shape, ls="", ms=7, mfc=inside, mew=1.4, label=words)


def _holdouts(rows: Sequence[Row]) -> dict[str, Row]:
    """The hold-outs, trained decays first, by mass."""
    found = {row.sample: row for row in rows if row.place != "trained"}
    order = sorted(found.values(), key=lambda row: (row.place == "decay", row.decay_mode, row.true_mass))
    return {row.sample: row for row in order}


def _direct(rows: Sequence[Row]) -> dict[str, Row]:
    """The signals of trained decays, by mass."""
    found = sorted({row.sample: row for row in rows if row.place != "decay"}.values(), key=lambda row: row.true_mass)
    return {row.sample: row for row in found}


def _classical(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.method for row in rows if row.classical))


def _title(row: Row) -> str:
    where = {"trained": "trained on", "inside": "inside", "outside": "outside", "decay": f"{row.decay_mode} quarks"}
    return f"{row.true_mass:g} GeV, {where[row.place]}"
