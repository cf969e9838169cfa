"""A look at a sample before anything is trained on it: a table for the terminal, and a page with all columns."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.table import Table

from jetscale.data.provenance import bad_files, parents, rejected, roots
from jetscale.evaluate.figures import FAINT, INK, RUN_COLOURS, styled
from jetscale.evaluate.page import template, versions
from jetscale.evaluate.profile import CODES, NO_PLOT, Profile, Summary
from jetscale.events import SHIPPED, Events, write_text
from jetscale.labels import name_of
from jetscale.schema import plural, rows_are

FOLDER = "_inspect"  # whoever reads a sample's directory as Parquet passes over names that begin so
SIZE = (2.75, 1.85)
STEEP = 40.0  # times the median bin, and the highest one leaves the others too low to be seen
EVENTS, ENTRIES = 4, 3  # shown at the end of the page: events, and entries of their lists
FILES = 40
SMALL: Any = {
    "font.size": 7.5, "axes.labelsize": 7.5, "xtick.labelsize": 7, "ytick.labelsize": 7, "axes.grid": False,
    "savefig.dpi": 190, "axes.linewidth": 0.7, "xtick.major.width": 0.7, "ytick.major.width": 0.7,
    "xtick.major.size": 2.5, "ytick.major.size": 2.5, "xtick.minor.size": 1.5, "ytick.minor.size": 1.5,
}  # fmt: skip


class Panel(NamedTuple):
    """What stands on the page for one quantity: `png` is empty where there is nothing to be drawn."""

    name: str
    unit: str
    doc: str
    png: bytes
    instead: str
    notes: list[str]


class Step(NamedTuple):
    """One line of the cut flow, and how long its bar is in percent."""

    title: str
    events: int
    length: float
    lost: bool


def page_place(where: str | Path, events: Events) -> Path:
    """The folder of a sample's page: inside the sample, or here for one that ships."""
    return Path(f"inspect-{events.name}") if str(where).startswith(SHIPPED) else events.path / FOLDER


def table(profile: Profile) -> Table:
    """Every column in a line, for the terminal."""
    found = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    found.add_column("column", no_wrap=True)
    for name in ("of", "type", "unit"):
        found.add_column(name, no_wrap=True)
    for name in ("mean", "min", "max", "missing", "non-finite", "entries"):
        found.add_column(name, justify="right", no_wrap=True)
    for row in _rows(profile):
        found.add_row(*row, style="red" if row[8] != "0" else None)
    return found


def _rows(profile: Profile) -> list[list[str]]:
    return [_row(one) for one in profile.summaries.values() if one.quantity.kind in ("column", "length")]


def _row(one: Summary) -> list[str]:
    column = one.quantity.column
    share = f"{100 * one.missing / one.entries:.3g} %" if one.missing else "-"
    said = "{:.0f}".format if one.quantity.name in CODES else number
    ends = [said(one.low), said(one.high)] if one.known else ["-", "-"]
    mean = "-" if column.name in (*NO_PLOT, *CODES) else number(one.mean)
    return [one.quantity.name, column.of or "", column.dtype, column.unit, mean, *ends, share, f"{one.odd:,}",
            f"{one.entries:,}"]  # fmt: skip


def number(value: float) -> str:
    """Four digits, or all of those before the point where these are up to seven."""
    if not math.isfinite(value):
        return "-"
    whole = 1e4 <= abs(value) < 1e7 or (value == round(value) and abs(value) < 1e4)
    return f"{value:,.0f}" if whole else f"{value:.4g}"


def write_page(profile: Profile, place: Path) -> Path:
    """Write `index.html`, which needs nothing beside it, and return its path."""
    events = profile.events
    with styled(), mpl.rc_context(SMALL):
        figure = Figure(figsize=SIZE)
        groups = {title: sorted((_panel(figure, one) for one in some), key=lambda panel: bool(panel.instead))
                  for title, some in _groups(profile).items()}  # fmt: skip
    seen, made_by = list(profile.summaries.values()), events.manifest.made_by
    text = template("inspect.html.j2").render(
        events=events, row=rows_are(events.schema), rows=len(events), manifest=events.manifest,
        weights=profile.weights, groups=groups,
        unit=events.schema["weight"].unit if "weight" in events.schema else "",
        collections=[one for one in seen if one.quantity.kind == "length"],
        flags=[one for one in seen if one.flag],
        odd=sum(one.odd for one in seen if one.quantity.kind == "column"),
        table=_rows(profile), steps=steps(events), head=_head(events), files=_files(events), bad=bad_files(made_by),
        more=_plain(made_by, events.manifest.cuts), command=_command(events), number=number, versions=versions(),
    )  # fmt: skip
    write_text(place / "index.html", text)
    return place / "index.html"


def _groups(profile: Profile) -> dict[str, list[Summary]]:
    """What is drawn, by collection."""
    drawn = [one for one in profile.summaries.values() if one.quantity.name not in NO_PLOT and not one.flag]
    titles = dict.fromkeys(one.quantity.column.of for one in drawn)
    whole = plural(rows_are(profile.events.schema)).capitalize()
    return {plural(of) if of else whole: [one for one in drawn if one.quantity.column.of == of] for of in titles}


def _panel(figure: Figure, one: Summary) -> Panel:
    column, notes, coded = one.quantity.column, [], one.quantity.name in CODES
    if one.known and not coded:
        notes.append(f"mean {number(one.mean)}")
    if one.weighted is not None and one.sums[1] and not coded:
        notes.append(f"weighted {number(one.weighted_mean)}")
    if column.name == "jet_label":
        notes += _labels(one)
    if one.missing:
        notes.append(f"{100 * one.missing / one.entries:.3g} % missing")
    if one.odd:
        notes.append(f"{one.odd:,} not finite")
    notes += [f"{count:,} {word} the axis, to {number(end)}" for count, word, end in
              zip(one.beyond, ("below", "above"), (one.low, one.high), strict=True) if count]  # fmt: skip
    instead = ""
    if not one.known:
        instead = "not known" if one.missing else "no entries"
    elif one.constant:
        shown = name_of(int(one.low)) if column.name == "jet_label" else number(one.low)
        instead, notes = f"always {shown}", notes[2 if one.weighted is not None and not coded else 1 :]
    png = b"" if instead else _drawn(figure, one)
    return Panel(one.quantity.name, column.unit, column.doc, png, instead, notes)


def _labels(one: Summary) -> list[str]:
    """What the codes of labels mean, and their shares."""
    shares = zip(one.plain.axes[0].centers, one.plain.values(), strict=True)
    return [f"{code:.0f} {name_of(round(code))} {100 * count / one.known:.3g} %" for code, count in shares if count]


def _drawn(figure: Figure, one: Summary) -> bytes:
    figure.clear()
    ax = figure.add_axes((0.19, 0.215, 0.745, 0.735))
    shares = one.plain * (1.0 / one.known)
    edges, highest = shares.axes[0].edges, shares.values()
    ax.stairs(highest, edges, fill=True, color=FAINT, alpha=0.45)
    if one.weighted is not None and one.sums[1] > 0:
        weighted = one.weighted * (1.0 / float(one.sums[1]))
        ax.stairs(weighted.values(), edges, color=RUN_COLOURS[0], linewidth=1.1)
        highest = np.maximum(highest, weighted.values())
    ax.set_xlim(edges[0], edges[-1])
    unit = one.quantity.column.unit
    ax.set(xlabel=f"[{unit}]" if unit else "", ylabel="share per bin")
    ax.xaxis.label.set_color(INK)
    _scales(ax, one, highest)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _scales(ax: Axes, one: Summary, share: np.ndarray) -> None:
    """Logarithmic where a straight one would hide what there is."""
    filled = share[share > 0]
    top = float(filled.max())
    if len(filled) > 2 and top > STEEP * float(np.median(filled)):
        ax.set_yscale("log")
        ax.set_ylim(0.5 / one.known, 3 * top)
    else:
        ax.set_ylim(min(0.0, 1.1 * float(share.min())), 1.12 * top)
        ax.locator_params(axis="y", nbins=4)
    edges = one.plain.axes[0].edges
    if one.plain.axes[0].transform is not None:
        ax.set_xscale("log")
    elif len(edges) <= 12 and math.isclose(edges[1] - edges[0], 1.0):
        ax.set_xticks(np.asarray(edges[:-1]) + 0.5)
    else:
        ax.locator_params(axis="x", nbins=6, integer=one.quantity.column.dtype.startswith("int"))


def steps(events: Events) -> list[Step]:
    """The cut flow of the last command, as far as it has counted: what went in, what was lost where, what is left."""
    made_by = events.manifest.made_by
    lost = rejected(made_by)
    if made_by.get("command") == "generate" and "jets_of" not in made_by["job"]:  # an event may give two jets
        lost["not selected"] = int(made_by["tried"]) - int(made_by["accepted"])
        lost["selected, but more than asked for"] = int(made_by["accepted"]) - len(events)
    if not lost:
        return []
    whole = len(events) + lost.total()
    left, found = whole, [Step("went in", whole, 100.0, False)]
    for why, count in lost.items():
        left -= count
        found.append(Step(why, count, 100.0 * left / whole, True))
    return [*found, Step("are left", left, 100.0 * left / whole, False)]


def _command(events: Events) -> str:
    """The last thing that was done to make the sample, in words."""
    made_by = events.manifest.made_by
    command = made_by.get("command") or made_by.get("writer", "not known")
    if before := parents(made_by):
        names = ", ".join(dict.fromkeys(one["name"] for one in before))
        first = ", ".join(dict.fromkeys(root.name for root in roots(events)))
        return f"{command} of {names}" + (f", from {first}" if first != names else "")
    return str(command)


def _files(events: Events) -> tuple[list[Mapping[str, Any]], int]:
    """The first of the files that it was converted from, and how many there are."""
    found = events.manifest.made_by.get("files", [])
    return list(found[:FILES]), len(found)


def _plain(made_by: Mapping[str, Any], cuts: Mapping[str, Any]) -> str:
    """All that is known, as YAML; what stands in tables is left out."""
    values = {"cuts": dict(cuts), "made_by": {key: value for key, value in made_by.items() if key != "files"}}
    return yaml.safe_dump(values, sort_keys=False, width=110)


def _head(events: Events) -> list[tuple[str, list[str]]]:
    """The first events: every column with its values, lists cut short."""
    first = next((shard for shard in events.manifest.shards if shard.rows), None)
    if first is None:
        return []
    table = next(events.pieces(events.schema.names, first, EVENTS))
    return [(name, [_said(value) for value in table[name].to_pylist()]) for name in table.column_names]


def _said(value: Any) -> str:
    if not isinstance(value, list):
        return str(value) if isinstance(value, int) else f"{value:.5g}"
    shown = ", ".join(f"{one:.3g}" for one in value[:ENTRIES])
    return f"{shown}, … ({len(value)})" if len(value) > ENTRIES else shown or "none"


def inspect(events: Events, place: Path) -> Path:
    """Look at a sample and write its page.

    Raises:
        DataError: a shard that cannot be read.
    """
    profile = Profile(events)
    _all(profile.steps())
    return write_page(profile, place)


def _all(steps: Iterator[int]) -> None:
    for _ in steps:
        pass
