"""The report's page: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import importlib.metadata
import math
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2

from jetscale import metrics
from jetscale.evaluate.figures import Picture, colour
from jetscale.evaluate.results import Results, label, verdict
from jetscale.metrics import Bootstrap, Estimate

HERE = Path(__file__).parent
SHOWN_VERSIONS = ("jetscale", "ray", "deepspeed", "torch", "numpy", "pyarrow", "awkward", "matplotlib")

HEADINGS = {
    "f10": ("f10", "share of events with a mass within 10 % of the true one", "up"),
    "width": ("width", "half the 16-84 % range of the mass, over its median", "down"),
    "median": ("median", "median of mass over true mass", "one"),
    "peak_fraction": ("peak", "largest share of events in any window of ±10 %, wherever it lies", "up"),
    "mass_auc": ("mass AUC", "probability that a signal mass lies above a background mass; 1 is no sculpting", "up"),
    "relative_signal_position": ("position", "share of the background below the signal's median mass", "up"),
    "jet_accuracy": ("jets", "share of jets in the right group", "up"),
    "event_accuracy": ("events", "share of events with every jet in the right group", "up"),
}
PERCENT = ("f10", "peak_fraction", "jet_accuracy", "event_accuracy")
CARDS = {
    "f10": "Within 10 % of the true mass",
    "width": "Width of the peak",
    "mass_auc": "Mass AUC against background",
    "jet_accuracy": "Jets in the right group",
}


class Cell(NamedTuple):
    """A figure as text: the value and its error."""

    value: str
    error: str


class Row(NamedTuple):
    """A method in the table of one sample."""

    method: str
    colour: str
    is_run: bool
    cells: list[Cell | None]


class Bar(NamedTuple):
    """A method in a card: the length of its bar in percent."""

    method: str
    colour: str
    is_run: bool
    cell: Cell
    length: float


class Foot(NamedTuple):
    """Where the report comes from; `unlogged` are runs without learning curves, as they have no log."""

    command: str
    digests: Mapping[str, str]
    wall: Mapping[str, float]
    unlogged: Sequence[str] = ()


def template(name: str, room: Path = HERE) -> jinja2.Template:
    """A page's template, in this room or in another one; pictures become part of the page."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader([room, HERE]), autoescape=True,
                                     undefined=jinja2.StrictUndefined, trim_blocks=True,
                                     lstrip_blocks=True)  # fmt: skip
    environment.filters["picture"] = lambda picture: base64.b64encode(picture.png).decode()
    return environment.get_template(name)


def render(results: Results, pictures: Sequence[Picture], displays: Sequence[Picture], foot: Foot) -> str:
    """The whole page as text."""
    return template("page.html.j2").render(
        runs=results.runs,
        verdicts=[verdict(results, run) for run in results.runs],
        cards=_cards(results),
        headings=[HEADINGS[name] for name in _columns(results)],
        tables=_tables(results),
        background=_background(results),
        samples=[(one, metrics.n_eff(one.weight_B)) for one in results.samples],
        left_out=sum(sample.left_out for sample in results.samples),
        pictures=pictures,
        displays=displays,
        foot=foot,
        versions=versions(),
        longest=max([*foot.wall.values(), 1e-9]),
    )


def _cards(results: Results) -> list[tuple[str, str, list[Bar]]]:
    """Title, direction and bars of the four figures that matter most, as means over the signals."""
    if results.mean is None:
        return []
    cards = []
    for name, title in CARDS.items():
        have = [method for method in results.methods if name in results.mean.values.get(method, {})]
        found = {method: results.mean.estimate(method, name) for method in have}
        found = {method: one for method, one in found.items() if math.isfinite(one.value)}
        longest = 1.0 if name != "width" else max([one.value for one in found.values()], default=1.0)
        bars = [Bar(label(method), colour(results, method), method in results.runs, _cell(name, one),
                    100 * one.value / longest) for method, one in found.items()]  # fmt: skip
        if bars:
            cards.append((title, "lower is better" if name == "width" else "higher is better", bars))
    return cards


def _tables(results: Results) -> list[tuple[str, list[Row]]]:
    """The mean over the signals, then every signal: a heading and a row per method."""
    parts: list[tuple[str, Bootstrap]] = []
    if results.mean and len(results.by_signal) > 1:
        parts.append((f"mean of {len(results.by_signal)} signal samples", results.mean))
    parts += list(results.by_signal.items())
    return [(name, [_row(results, boot, method) for method in results.methods if method in boot.values])
            for name, boot in parts]  # fmt: skip


def _columns(results: Results) -> list[str]:
    """The figures of the table; results.json has them all."""
    return [name for name in HEADINGS if name in results.figures]


def _row(results: Results, boot: Bootstrap, method: str) -> Row:
    have = boot.values[method]
    cells = [_cell(name, boot.estimate(method, name)) if name in have else None for name in _columns(results)]
    return Row(label(method), colour(results, method), method in results.runs, cells)


def _background(results: Results) -> list[tuple[str, str, Cell]]:
    """Median mass of the background by every method."""
    if results.background is None:
        return []
    boot = results.background
    return [(label(method), colour(results, method), _number(boot.estimate(method, "background_median"), 0))
            for method in results.methods if method in boot.values]  # fmt: skip


def _cell(name: str, estimate: Estimate) -> Cell:
    if name in PERCENT:
        return _number(Estimate(100 * estimate.value, 100 * estimate.error), 1, " %")
    return _number(estimate, 3)


def _number(estimate: Estimate, digits: int, unit: str = "") -> Cell:
    if not math.isfinite(estimate.value):
        return Cell("-", "")
    error = f"± {max(estimate.error, 10.0**-digits):.{digits}f}" if math.isfinite(estimate.error) else ""
    return Cell(f"{estimate.value:.{digits}f}{unit}", error)


def versions() -> dict[str, str]:
    """What this was made with."""
    found = {"python": platform.python_version()}
    for name in SHOWN_VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
