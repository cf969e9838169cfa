"""What an energy flow network looks at: its filters on the plane, and how their size grows with their distance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from colorsys import hls_to_rgb
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import LogLocator, NullFormatter

from jetscale.evaluate.compare import Scored
from jetscale.evaluate.figures import FAINT, INK, panels
from jetscale.evaluate.score import looked_at
from jetscale.metrics import Floats
from jetscale.physics.filters import FEWEST, HALF, PowerLaw, Size, power_law, sizes
from jetscale.tagger import Filters, Tagger

JETS = 500  # that say how far out filters are drawn
FILTERS = (
    "Left: a line round every latent variable of the network where it is at half of its maximum, in the colour of the "
    "direction in which it lies; the circle holds 99 % of the particles. Right: the area within that line against the "
    "distance of its centre from the axis, of those that lie within the square about the circle. The black line is a "
    "fit; filters that share out the plane of emissions evenly would have the dashed line's slope of 2."
)


class Measured(NamedTuple):
    """The filters of a run, how large those are that can be measured, and the power law of these, if they suffice."""

    filters: Filters
    sizes: Sequence[Size]
    law: PowerLaw | None

    @property
    def on(self) -> int:
        """How many filters are not 0 everywhere."""
        return int((self.filters.values_FYX.max((1, 2)) > 0).sum())

    def numbers(self) -> dict[str, Any]:
        """As JSON."""
        return {"radius": self.filters.radius, "all": len(self.filters.values_FYX), "on": self.on,
                "measured": len(self.sizes), "power_law": self.law._asdict() if self.law else None}  # fmt: skip


def measured(scored: Sequence[Scored]) -> dict[str, Measured]:
    """The filters of every run whose network has some, by run; of one run alone, not of folds."""
    found: dict[str, Measured] = {}
    for one in scored:
        if one.run_dir is None or one.run_name in found:
            continue
        run, net, batch = looked_at(one.run_dir, one.events, JETS)
        filters = run.task.filters(net, batch) if isinstance(run.task, Tagger) else None
        if filters is not None:
            of = sizes(filters.values_FYX, filters.radius)
            law = power_law(of, filters.radius) if len(of) >= FEWEST else None
            found[one.run_name] = Measured(filters, of, law)
    return found


def drawn(found: Mapping[str, Measured]) -> Figure:
    """Two panels a run: contours, and areas against distances."""
    figure, axes = panels(2 * len(found), width=4.6, height=4.1, columns=2)
    for place, (run, one) in enumerate(found.items()):
        _contours(axes[2 * place], run, one.filters)
        _areas(axes[2 * place + 1], one)
    return figure


def _contours(ax: Axes, run: str, filters: Filters) -> None:
    values_FYX, radius = filters
    pixels = values_FYX.shape[-1]
    middle = radius * (2 * (np.arange(pixels) + 0.5) / pixels - 1)
    circle = ax.add_patch(Circle((0, 0), radius, fill=False, color=FAINT, lw=1))
    for one_YX in values_FYX[values_FYX.max((1, 2)) > 0]:
        # The first axis of the grid is rapidity, which goes to the right.
        lines = ax.contour(middle, middle, one_YX.T, [HALF * float(one_YX.max())],
                           colors=[_colour(*_centre(one_YX, middle))], linewidths=1.1, alpha=0.8)  # fmt: skip
        lines.set_clip_path(circle)
    ax.set(title=run, aspect="equal", xlim=(-radius, radius), ylim=(-radius, radius), xlabel="rapidity",
           ylabel="azimuth [rad]")  # fmt: skip
    ax.grid(False)


def _areas(ax: Axes, one: Measured) -> None:
    radius = one.filters.radius
    x_F, y_F = (np.array([getattr(size, name) for size in one.sizes]) for name in ("distance", "area"))
    pixels = one.filters.values_FYX.shape[-1]
    middle = radius * (2 * (np.arange(pixels) + 0.5) / pixels - 1)
    shades = [_colour(*_centre(one.filters.values_FYX[size.filter], middle)) for size in one.sizes]
    span = x_F / radius
    ax.scatter(span, y_F, c=shades or None, s=16, zorder=3)
    title = f"{len(one.sizes)} of {one.on} filters can be measured"
    if one.law is not None:
        ends = np.array([span.min(), span.max()])
        ax.plot(ends, np.exp(one.law.intercept) * ends**one.law.slope, color=INK)
        even = np.exp((np.log(y_F) - 2 * np.log(span)).mean())
        ax.plot(ends, even * ends**2, color=FAINT, ls=(0, (4, 3)))
        title = f"slope {one.law.slope:.2f} ± {one.law.error:.2f}, of {one.law.filters} of {one.on} filters"
    if one.sizes:
        ax.set(xscale="log", yscale="log", xlim=(0.8 * span.min(), 1.25 * span.max()))
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set(title=title, xlabel="distance / radius", ylabel="area [rad²]")


def _centre(one_YX: Floats, middle: Floats) -> tuple[float, float]:
    """Rapidity and azimuth of a filter's centre."""
    total = float(one_YX.sum())
    return float((one_YX.sum(1) * middle).sum()) / total, float((one_YX.sum(0) * middle).sum()) / total


def _colour(rapidity: float, azimuth: float) -> tuple[float, float, float]:
    """By direction about the axis, round the circle of hues."""
    return hls_to_rgb(0.5 + float(np.arctan2(azimuth, rapidity)) / (2 * np.pi), 0.47, 0.62)
