"""The figures of the report on taggers: ROC, bins, confusion and calibration, filters and images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from jetscale import tagging
from jetscale.evaluate.figures import FEWEST, INK, LEAST_EFFICIENCY, RUN_COLOURS, Picture, panels, picture, styled
from jetscale.evaluate.tagging.filters import FILTERS, Measured, drawn
from jetscale.evaluate.tagging.images import IMAGES, Seen
from jetscale.evaluate.tagging.images import drawn as images_drawn
from jetscale.evaluate.tagging.results import Jets, bins, rejections
from jetscale.metrics import n_eff, roc

POINTS = 300
ROC = (
    "Background rejection 1/eps_B against signal efficiency eps_S, of every class against the first. Bands are one "
    "binomial standard error; curves end where three background jets are left."
)
BINS = (
    "Background rejection at 50 % signal efficiency in bins of equal weight, the cut chosen anew in each. Bars are one "
    "binomial standard error; an arrow is a lower bound at 68 % confidence, as no background passes."
)
CONFUSION = "Share of the jets of a true class (rows) whose likeliest class is that of the column."
CALIBRATION = (
    "Share of jets that are of a class against the probability given for it, where all classes are equally frequent; "
    "on the dashed line they agree. A run that was trained on another mixture lies off it by that mixture."
)


def colour(found: Jets, run: str) -> str:
    """A run's colour, the same in all figures."""
    return RUN_COLOURS[found.runs.index(run) % len(RUN_COLOURS)]


def draw(found: Jets, filters: Mapping[str, Measured], images: Mapping[str, Seen], out: Path) -> list[Picture]:
    """Draw all figures into `out` as PNG and PDF; filters and images of runs that have some."""
    with styled():
        pictures = [picture("roc", "Background rejection against signal efficiency", ROC, rocs(found), out)]
        if found.axis:
            pictures.append(picture("bins", "Rejection by transverse momentum and mass", BINS, binned(found), out))
        pictures += [
            picture("confusion", "What is taken for what", CONFUSION, confusion(found), out),
            picture("calibration", "Are the probabilities what they say?", CALIBRATION, calibration(found), out),
        ]
        if filters:
            pictures.append(picture("filters", "What energy flow networks look at", FILTERS, drawn(filters), out))
        if images:
            pictures.append(picture("images", "What networks on images see", IMAGES, images_drawn(images), out))
        return pictures


def _legend(figure: Figure, found: Jets) -> None:
    handles = [Line2D([], [], color=colour(found, run), label=run) for run in found.runs]
    figure.legend(handles=handles, loc="outside upper left", ncols=max(1, int(figure.get_size_inches()[0] // 2)))


def rocs(found: Jets) -> Figure:
    """A panel per class but the first, with a band per run."""
    names = list(found.classes)
    figure, axes = panels(len(names) - 1, width=4.2, height=3.4)
    size = n_eff(found.weight_B[found.class_B == 0])
    at_E = np.linspace(LEAST_EFFICIENCY, 1, POINTS)
    for number, ax in enumerate(axes, start=1):
        for run in found.runs:
            negatives, positives = roc(*found.pair(run, number))
            passing_E = np.interp(at_E, positives, negatives)
            some_E = passing_E * size >= FEWEST
            at, passing = at_E[some_E], passing_E[some_E]
            error = np.sqrt(np.maximum(1 - passing, 0) * passing / size) if size else passing
            ax.plot(at, 1 / passing, color=colour(found, run))
            ax.fill_between(at, 1 / (passing + error), 1 / (passing - error), color=colour(found, run), alpha=0.2, lw=0)
        ax.set(title=f"{names[number]} against {names[0]}", yscale="log", xlim=(0, 1), xlabel="signal efficiency",
               ylabel="background rejection")  # fmt: skip
        ax.set_ylim(1, max(100, ax.get_ylim()[1]))
        ax.yaxis.set_major_formatter("{x:,.0f}")
    _legend(figure, found)
    return figure


def binned(found: Jets) -> Figure:
    """A panel per class but the first and axis: rejection at 50 % in bins."""
    places = [(name, axis) for name in list(found.classes)[1:] for axis in found.axis]
    figure, axes = panels(len(places), columns=2, height=3.0)
    for (name, axis), ax in zip(places, axes, strict=True):
        parts = bins(found, axis)
        for offset, run in enumerate(found.runs):
            for low, high, rows_B in parts:
                one = rejections(found, run, rows_B)[f"{name} at 50 %"]
                x = low + (high - low) * (0.5 + 0.06 * (offset - 0.5 * (len(found.runs) - 1)))
                shade, error = colour(found, run), one.error if np.isfinite(one.error) else 0.0
                below = min(error, 0.9 * one.value)  # an axis of logarithms has no room for more
                ax.errorbar([x], [one.value], [[below], [error]], color=shade, marker="^" if one.bound else "o", ms=5)
                ax.plot([low, high], [one.value, one.value], color=shade, lw=1.2, alpha=0.6)
        ax.set(title=name, yscale="log", xlabel=f"{axis.replace('_', ' ')} [GeV]", ylabel="rejection at 50 %")
        _round(ax)
    _legend(figure, found)
    return figure


def _round(ax: Axes) -> None:
    """End a logarithmic axis at 1, 2 or 5 times a power of ten, and say such numbers alone, so that two are there."""
    low, high = ax.get_ylim()
    powers = range(int(np.log10(low)) - 2, int(np.log10(high)) + 3)
    steps = [step * 10.0**power for power in powers for step in (1, 2, 5)]
    ax.set_ylim(max(one for one in steps if one <= low), min(one for one in steps if one >= high))
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())


def confusion(found: Jets) -> Figure:
    """A matrix per run."""
    names = list(found.classes)
    figure, axes = panels(len(found.runs), width=max(3.5, 0.7 * len(names)), height=max(2.9, 0.6 * len(names)))
    for run, ax in zip(found.runs, axes, strict=True):
        shares = tagging.confusion(found.probability[run], found.class_B, found.weight_B)
        ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), share in np.ndenumerate(shares):
            ax.text(column, row, f"{100 * share:.1f} %" if np.isfinite(share) else "-", ha="center", va="center",
                    color="white" if share > 0.5 else INK, fontsize=9)  # fmt: skip
        ax.set_xticks(range(len(names)), names, rotation=45 if len(names) > 4 else 0)
        ax.set_yticks(range(len(names)), names)
        ax.set(title=run, xlabel="taken for", ylabel="true class")
        ax.grid(False)
    return figure


def calibration(found: Jets) -> Figure:
    """A panel per class; of two classes the second says all."""
    names = list(found.classes)
    shown = names[1:] if len(names) == 2 else names
    figure, axes = panels(len(shown), width=3.8, height=3.2)
    for name, ax in zip(shown, axes, strict=True):
        own_B = found.class_B == names.index(name)
        ax.plot([0, 1], [0, 1], color=INK, ls=(0, (4, 3)), lw=1)
        for run in found.runs:
            points = tagging.calibration(found.probability[run][:, names.index(name)], own_B, found.weight_B)
            said, seen, error = (list(one) for one in zip(*points, strict=True))
            ax.errorbar(said, seen, error, color=colour(found, run), marker="o", ms=4, lw=1.4)
        ax.set(title=name, xlim=(0, 1), ylim=(0, 1), xlabel="probability given", ylabel="share that is so")
    _legend(figure, found)
    return figure
