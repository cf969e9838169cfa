"""What an energy flow network looks at: its filters on the plane, and how their size grows with their distance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from jetscale.evaluate.compare import Scored
from jetscale.evaluate.figures import FAINT, INK, panels
from jetscale.evaluate.score import looked_at
from jetscale.metrics import Floats
from jetscale.physics.filters import FEWEST, PowerLaw, Size, power_law, sizes
from jetscale.tagger import Filters, Tagger

JETS = 500  # that say how far out filters are drawn
BAND = (0.45, 0.55)  # of a filter's maximum
FILTERS = (
    "Left: where every latent variable of the network is between 45 and 55 % of its maximum, in the colour of the "
    "direction in which it lies; the dashed circle holds 99 % of the particles. Right: the area where a filter is "
    "above half of its maximum against the distance of its centre from the axis, of filters within the picture. The "
    "line is a fit; filters that share out the plane of emissions evenly would have the dashed line's slope of 2."
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
    for one_YX in values_FYX[values_FYX.max((1, 2)) > 0]:
        levels = [share * float(one_YX.max()) for share in BAND]
        # The first axis of the grid is rapidity, which goes to the right.
        ax.contourf(middle, middle, one_YX.T, levels, colors=[_colour(*_centre(one_YX, middle))], alpha=0.7)
    ax.add_patch(Circle((0, 0), radius, fill=False, color=FAINT, lw=1, ls=(0, (4, 3))))
    ax.set(title=run, aspect="equal", xlim=(-radius, radius), ylim=(-radius, radius), xlabel="rapidity",
           ylabel="azimuth [rad]")  # fmt: skip
    ax.grid(False)


def _areas(ax: Axes, one: Measured) -> None:
    radius = one.filters.radius
    x_F, y_F = (np.array([getattr(size, name) for size in one.sizes]) for name in ("distance", "area"))
    pixels = one.filters.values_FYX.shape[-1]
    middle = radius * (2 * (np.arange(pixels) + 0.5) / pixels - 1)
    shades = [_colour(*_centre(one.filters.values_FYX[size.filter], middle)) for size in one.sizes]
    ax.scatter(x_F / radius, y_F, c=shades or None, s=16, zorder=3)
    title = f"{len(one.sizes)} of {one.on} filters can be measured"
    if one.law is not None:
        span = np.array([x_F.min(), x_F.max()]) / radius
        ax.plot(span, np.exp(one.law.intercept) * span**one.law.slope, color=INK)
        even = np.exp((np.log(y_F) - 2 * np.log(x_F / radius)).mean())
        ax.plot(span, even * span**2, color=FAINT, ls=(0, (4, 3)))
        title = f"slope {one.law.slope:.2f} ± {one.law.error:.2f}, of {one.law.filters} filters"
    scale = "log" if one.sizes else "linear"
    ax.set(title=title, xscale=scale, yscale=scale, xlabel="distance / radius", ylabel="area [rad²]")


def _centre(one_YX: Floats, middle: Floats) -> tuple[float, float]:
    """Rapidity and azimuth of a filter's centre."""
    total = float(one_YX.sum())
    return float((one_YX.sum(1) * middle).sum()) / total, float((one_YX.sum(0) * middle).sum()) / total


def _colour(rapidity: float, azimuth: float) -> tuple[float, float, float, float]:
    """By direction about the axis, round the circle."""
    red, green, blue, solid = colormaps["twilight_shifted"](0.5 + np.arctan2(azimuth, rapidity) / (2 * np.pi))
    return float(red), float(green), float(blue), float(solid)
