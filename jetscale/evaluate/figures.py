"""The report's figures: masses, peak quality, background, ROC and learning curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import hist
import matplotlib as mpl
import mplhep
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jetscale import metrics
from jetscale.evaluate.compare import RANDOM, TRUTH, Sample, join
from jetscale.evaluate.logs import Curves
from jetscale.evaluate.results import Results, label
from jetscale.metrics import Floats

# Colours of Okabe and Ito, told apart by colour-blind readers too.
INK, FAINT = "#1f2937", "#9ca3af"
RUN_COLOURS = ("#0072b2", "#cc79a7", "#56b4e9", "#e69f00", "#7b3fa0", "#5b6b00")
COLOURS = {RANDOM: "#9ca3af", TRUTH: "#009e73", "asymmetry_6": "#d55e00", "asymmetry_8": "#8c2d04",
           "asymmetry_12": "#e08214", "delta_r": "#7f6a4d", "hemispheres": "#b0184a"}  # fmt: skip
# Classical methods are told from each other by their strokes too.
STROKES: dict[str, Any] = {"asymmetry_8": (0, (5, 1.5)), "asymmetry_12": (0, (5, 1.5, 1, 1.5)),
                           "delta_r": (0, (1, 1.2)), "hemispheres": (0, (3, 1))}  # fmt: skip
STYLE: Any = {
    "font.family": ["Fira Sans", "DejaVu Sans"],
    "font.size": 10.5,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e5e7eb",
    "grid.linewidth": 0.7,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.direction": "out",
    "ytick.direction": "out",
    "text.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "savefig.dpi": 160,
    "figure.dpi": 160,
    "pdf.fonttype": 42,
    "svg.hashsalt": "jetscale",
}
MARKERS = "osD^vP*"
BINS = 41
# A ROC ends where so few background events, or so small a part of the signal, are left.
FEWEST, LEAST_EFFICIENCY = 3, 0.02
# Pixels of the page per inch of a figure.
SCALE = 98


class Picture(NamedTuple):
    """A figure as it stands on the page: `png` is its content, `width` its width in pixels there."""

    name: str
    title: str
    caption: str
    png: bytes
    width: int


def colour(results: Results, method: str) -> str:
    """A method's colour, the same in all figures."""
    if method in COLOURS:
        return COLOURS[method]
    return RUN_COLOURS[results.runs.index(method) % len(RUN_COLOURS)]


def draw(results: Results, curves: Mapping[str, Curves], out: Path) -> list[Picture]:
    """Draw all figures that the results have the numbers for, into `out` as PNG and PDF."""
    signals, background = results.of_kind("signal"), results.of_kind("background")
    found: list[tuple[str, str, str, Figure]] = []
    with styled():
        if signals:
            found.append(("mass", "Reconstructed mass of the signals", MASS_CAPTION, masses(results, signals)))
            found.append(("peak", "Peak quality against the true mass", PEAK_CAPTION, peak_quality(results, signals)))
        if background:
            found.append(("background", "Background before and after the network", BACKGROUND_CAPTION,
                          spectrum(results, background, signals)))  # fmt: skip
        if signals and background:
            found.append(("roc", "The mass as a discriminant", ROC_CAPTION, rocs(results, signals, background)))
        for sample in results.of_kind("unknown"):
            found.append((f"mass-{slug(sample.name)}", f"Reconstructed mass of {sample.name}", UNKNOWN_CAPTION,
                          spectrum(results, [sample], [])))  # fmt: skip
        if any(one.losses or one.figures for one in curves.values()):
            found.append(("learning", "Learning curves", LEARNING_CAPTION, learning(results, curves)))
        return [picture(name, title, caption, figure, out) for name, title, caption, figure in found]


MASS_CAPTION = (
    "Mean mass of the two groups, normalised to 1. The dashed line is the true mass and the band is ±10 % of it: the "
    "share inside the band is f10. The filled shape, cut off at the top, is what the true labels of the jets give."
)
PEAK_CAPTION = (
    "Left: share of events within 10 % of the true mass (higher is better). Right: half the 16-84 % range over the "
    "median (lower is better). Bars are one standard error; events are held out from the training."
)
BACKGROUND_CAPTION = (
    "Background masses before (random grouping, classical methods) and after the network, normalised to 1. Ticks "
    "below mark the true masses of the signals: a background that piles up there is sculpted."
)
ROC_CAPTION = (
    "Cut on the reconstructed mass alone: background rejection against signal efficiency. A curve further up and to "
    "the right has its background further below the signal: less sculpting. Curves end where three background events "
    "are left; the mass AUC of the table sums them up."
)
UNKNOWN_CAPTION = "Mass of events without known truth, normalised to 1: nothing is said about right or wrong."
LEARNING_CAPTION = (
    "Loss terms by step: training as logged (thin) and its running mean (thick), validation as open circles. Then the "
    "figures on the validation part, which no step has been trained on."
)


def slug(name: str) -> str:
    """A name that can be a file's."""
    return "".join(letter if letter.isalnum() else "-" for letter in name).strip("-").lower()


def styled() -> AbstractContextManager[None]:
    """The look of all figures."""
    return mpl.rc_context(STYLE)


def picture(name: str, title: str, caption: str, figure: Figure, out: Path) -> Picture:
    """Write NAME.png and NAME.pdf without dates or versions, so that equal figures are equal files."""
    out.mkdir(parents=True, exist_ok=True)
    # Laid out once, or each file would do it again.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    figure.savefig(out / f"{name}.pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    figure.savefig(out / f"{name}.png", metadata={"Software": None})
    width = round(SCALE * figure.get_size_inches()[0])
    return Picture(name, title, caption, (out / f"{name}.png").read_bytes(), width)


def panels(count: int, width: float = 3.5, height: float = 2.9, columns: int = 3) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels in rows."""
    columns = min(columns, count) if count != 4 else 2
    rows = math.ceil(count / columns)
    size = max(width * columns, 7.0), height * rows + 0.45
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for empty in grid.flat[count:]:
        empty.set_axis_off()
    return figure, list(grid.flat[:count])


def legend(figure: Figure, results: Results, methods: Sequence[str], *more: Artist, **line: Any) -> None:
    """One legend for all panels, above them."""
    handles = [Line2D([], [], color=colour(results, method), ls=stroke(method), label=label(method), **line)
               for method in methods]  # fmt: skip
    figure.legend(
        handles=[*handles, *more], loc="outside upper left", ncols=max(1, int(figure.get_size_inches()[0] // 2))
    )


def looks(method: str) -> dict[str, Any]:
    """True labels are a filled shape, every method a line."""
    if method == TRUTH:
        return {"histtype": "fill", "alpha": 0.22}
    return {"histtype": "step", "linewidth": 1.6, "linestyle": stroke(method)}


def stroke(method: str) -> Any:
    """A method's kind of line, the same in all figures."""
    return STROKES.get(method, "-")


def histogram(mass_B: Floats, weight_B: Floats, high: float) -> hist.Hist:
    """Masses from 0 to `high` GeV, normalised to all events, those above included."""
    filled = hist.Hist(hist.axis.Regular(BINS, 0.0, high, name="mass"), storage=hist.storage.Weight())
    filled.fill(mass_B, weight=weight_B)
    total = float(weight_B.sum())
    return filled * (1.0 / total) if total > 0 else filled


def masses(results: Results, signals: Sequence[Sample]) -> Figure:
    """Reconstructed mass, one panel per signal."""
    figure, axes = panels(len(signals))
    drawn = [
        method for method in (TRUTH, *reversed(results.classical), *reversed(results.runs)) if method in results.methods
    ]
    for sample, ax in zip(signals, axes, strict=True):
        typical = sample.true_mass or float(np.median(sample.true_mass_B))
        highest = 0.0
        for method in (method for method in drawn if method in sample.methods):
            filled = histogram(sample.methods[method].mass_B, sample.weight_B, 2 * typical)
            mplhep.histplot(filled, ax=ax, yerr=False, flow="none", color=colour(results, method), **looks(method))
            highest = max(highest, float(filled.values().max()) if method != TRUTH else 0.0)
        if sample.true_mass:
            ax.axvspan(0.9 * typical, 1.1 * typical, color=INK, alpha=0.06, lw=0)
            ax.axvline(typical, color=INK, ls=(0, (4, 3)), lw=1.1)
        ax.set(title=sample.name, xlim=(0, 2 * typical), ylim=(0, 1.5 * highest or None), xlabel="mass [GeV]",
               ylabel="share per bin")  # fmt: skip
    legend(figure, results, list(reversed(drawn)))
    return figure


def peak_quality(results: Results, signals: Sequence[Sample]) -> Figure:
    """f10 and width against true mass; one marker per decay mode."""
    figure, axes = panels(2, width=4.6, height=3.4, columns=2)
    modes = sorted({sample.decay_mode for sample in signals})
    for ax, name in zip(axes, ("f10", "width"), strict=True):
        for place, method in enumerate(results.methods):
            for mode, marker in zip(modes, MARKERS * len(modes), strict=False):
                _line(ax, results, method, name, [one for one in signals if one.decay_mode == mode], marker, place)
        ax.set(xlabel="true mass [GeV]", ylim=(0, None))
    axes[0].set(title="f10: share within 10 % of the true mass")
    axes[1].set(title="width: half the 16-84 % range / median")
    shapes = [Line2D([], [], color=INK, marker=marker, ls="", label=f"{mode} quarks per parent")
              for mode, marker in zip(modes, MARKERS * len(modes), strict=False)]  # fmt: skip
    legend(figure, results, results.methods, *(shapes if len(modes) > 1 else ()), marker="o")
    return figure


def _line(ax: Axes, results: Results, method: str, name: str, signals: list[Sample], marker: str, place: int) -> None:
    signals = sorted((one for one in signals if method in one.methods), key=lambda one: one.true_mass)
    found = [results.by_signal[one.name].estimate(method, name) for one in signals]
    # Side by side, so that the bars of methods that agree can be told apart.
    x = [one.true_mass * (1 + 0.006 * (place - 0.5 * len(results.methods))) for one in signals]
    ax.errorbar(x, [one.value for one in found], [one.error for one in found], color=colour(results, method),
                marker=marker, ms=5, lw=1.4, ls=stroke(method), capsize=0, elinewidth=1.4)  # fmt: skip


def spectrum(results: Results, samples: Sequence[Sample], signals: Sequence[Sample]) -> Figure:
    """Masses of the union of some samples by every method that they all have."""
    figure, (ax,) = panels(1, width=7.4, height=3.6)
    drawn = [method for method in results.methods if all(method in sample.methods for sample in samples)]
    weight_B = np.concatenate([sample.weight_B for sample in samples])
    mass = {method: np.concatenate([sample.methods[method].mass_B for sample in samples]) for method in drawn}
    high = max([float(np.quantile(mass_B, 0.995)) for mass_B in mass.values()] + [one.true_mass for one in signals])
    high = 100 * math.ceil(1.05 * high / 100) or 100
    for method in reversed(drawn):
        filled = histogram(mass[method], weight_B, high)
        mplhep.histplot(filled, ax=ax, yerr=False, flow="none", color=colour(results, method), **looks(method))
    for true_mass in sorted({one.true_mass for one in signals if one.true_mass}):
        ax.plot([true_mass], [0], marker=6, ms=7, color=INK, clip_on=False, zorder=5)
    ax.set(xlim=(0, high), ylim=(0, None), xlabel="mass [GeV]", ylabel="share per bin")
    legend(figure, results, drawn)
    return figure


def rocs(results: Results, signals: Sequence[Sample], background: Sequence[Sample]) -> Figure:
    """Background rejection against signal efficiency of a cut on the mass, one panel per signal."""
    figure, axes = panels(len(signals))
    drawn = [method for method in results.methods if all(method in sample.methods for sample in background)]
    least = FEWEST / metrics.n_eff(np.concatenate([sample.weight_B for sample in background]))
    for sample, ax in zip(signals, axes, strict=True):
        for method in (method for method in reversed(drawn) if method in sample.methods):
            table = join([one.table(method) for one in (sample, *background)])
            negatives, positives = metrics.roc(table.mass_B, table.signal, table.weight_B)
            some = (negatives > least) & (positives > LEAST_EFFICIENCY)
            ax.plot(positives[some], 1 / negatives[some], color=colour(results, method), ls=stroke(method))
        ax.set(title=sample.name, yscale="log", xlim=(0, 1), xlabel="signal efficiency", ylabel="background rejection")
        ax.set_ylim(1, max(100, ax.get_ylim()[1]))
    legend(figure, results, drawn)
    return figure


def learning(results: Results, curves: Mapping[str, Curves]) -> Figure:
    """Loss terms and validation figures of every run against the step, one panel each."""
    losses = dict.fromkeys(name for one in curves.values() for name in one.losses)
    figures = dict.fromkeys(name for one in curves.values() for name in one.figures)
    figure, axes = panels(len(losses) + len(figures), height=2.5)
    for name, ax in zip((*losses, *figures), axes, strict=True):
        for run, one in curves.items():
            if name in losses:
                _loss(ax, one, name, colour(results, run))
            elif name in figures:
                ax.plot(*one.figures[name], color=colour(results, run), marker="o", ms=4)
        ax.set(title=f"loss: {name}" if name in losses else f"validation: {name}", xlabel="step")
    legend(figure, results, list(curves))
    return figure


def _loss(ax: Axes, curves: Curves, name: str, shade: str) -> None:
    if name in curves.terms:
        step, value = curves.terms[name]
        ax.plot(step, value, color=shade, lw=0.7, alpha=0.4)
        ax.plot(step, _running_mean(value), color=shade)
    if name in curves.validation_terms:
        ax.plot(*curves.validation_terms[name], color=shade, marker="o", ms=4.5, mfc="white", ls=(0, (4, 2)), lw=1.2)


def _running_mean(values: Floats) -> Floats:
    """Mean over about a tenth of the points round each."""
    half = max(1, len(values) // 20)
    sums = np.concatenate(([0.0], np.cumsum(values)))
    place = np.arange(len(values))
    low, high = np.maximum(place - half, 0), np.minimum(place + half + 1, len(values))
    return np.asarray((sums[high] - sums[low]) / (high - low))
