"""A sweep's report: one HTML page, its pictures as files, and the table of all trials."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jetscale.axes import Sweep, said_short, short
from jetscale.evaluate.logs import TERM, seconds
from jetscale.evaluate.page import template, versions
from jetscale.events import write_text
from jetscale.sweep.figures import Told, draw, tell
from jetscale.sweep.sweep import Progress
from jetscale.sweep.table import FILE, write

PAGE, FIGURES = "index.html", "figures"
MOST = 500  # trials on the page; the table has all


class Row(NamedTuple):
    """A trial on the page."""

    name: str
    status: str
    cells: list[str]
    seed: int
    epochs: str
    numbers: list[str]
    best: bool


class Setting(NamedTuple):
    """The trials with one combination of values, whatever their seed: mean metric and deviation between seeds."""

    said: str
    mean: float
    deviation: float | None
    seeds: int


def report(sweep: Sweep, progress: Progress, out: Path, *, command: str) -> Path:
    """Write `index.html`, `figures/` and `trials.parquet` into a sweep's folder, and return the page's path."""
    start = time.monotonic()
    pictures = draw(sweep, progress, out / FIGURES)
    write(sweep, progress, out)
    known = tell(sweep, progress)
    figures = _figures(sweep, known)
    number = Counter(one.status for one in progress.outcomes.values())
    spent = [s for one in progress.outcomes.values() if (s := seconds(one.folder)) is not None]
    text = template("sweep.html.j2", Path(__file__).parent).render(
        name=out.resolve().name,
        verdicts=verdicts(sweep, progress, known),
        number=number,
        axes=list(short(sweep.axes).values()),
        figures=figures,
        rows=_rows(sweep, progress, known, figures)[:MOST],
        left_out=max(0, len(progress.candidates) - MOST),
        failed=[one for one in progress.outcomes.values() if one.status == "failed"],
        pictures=pictures,
        table=FILE,
        command=command,
        spent=sum(spent),
        drawing=time.monotonic() - start,
        sweep=sweep,
        versions=versions(),
    )
    write_text(out / PAGE, text)
    return out / PAGE


def verdicts(sweep: Sweep, progress: Progress, known: Sequence[Told]) -> list[str]:
    """What the sweep says, in sentences that claim no more than its seeds allow."""
    if not known:
        return ["No trial came to a number."]
    name, ranked = sweep.metric.name, settings(sweep, known)
    first = ranked[0]
    found = [f"Of {len(progress.candidates)} trials, {first.said} has the best {name}: {_with_error(first)}."]
    if len(ranked) > 1 and first.deviation is None:
        found.append(f"With one seed for each setting nobody can say whether its lead over {ranked[1].said} "
                     f"({_with_error(ranked[1])}) is more than chance: search with seeds.")  # fmt: skip
    elif len(ranked) > 1:
        gap, noise = abs(first.mean - ranked[1].mean), _error_of_difference(first, ranked[1])
        said = "more than two of" if gap > 2 * noise else "within two of"
        found.append(f"Its lead over {ranked[1].said} ({_with_error(ranked[1])}) is {gap:.4f}, {said} the standard "
                     f"errors between seeds ({noise:.4f}).")  # fmt: skip
    return found


def settings(sweep: Sweep, known: Sequence[Told]) -> list[Setting]:
    """Mean metric of every combination of values, the best first; stopped trials do not count where others do."""
    names, done = short(sweep.axes), [one for one in known if one.outcome.status == "done"] or known
    groups: dict[str, list[float]] = {}
    for one in done:
        said = ", ".join(f"{names[key]} {said_short(value)}" for key, value in one.values.items() if key != "seed")
        groups.setdefault(said, []).append(one.metric)
    found = [
        Setting(said, statistics.fmean(of), statistics.stdev(of) if len(of) > 1 else None, len(of))
        for said, of in groups.items()
    ]
    return sorted(found, key=lambda one: one.mean, reverse=sweep.metric.better == "high")


def _with_error(one: Setting) -> str:
    if one.deviation is None:
        return f"{one.mean:.4f}"
    return f"{one.mean:.4f} ± {one.deviation / one.seeds**0.5:.4f}, {one.seeds} seeds"


def _error_of_difference(one: Setting, two: Setting) -> float:
    squares = [of.deviation**2 / of.seeds for of in (one, two) if of.deviation is not None]
    return float(sum(squares) ** 0.5)


def _figures(sweep: Sweep, known: Sequence[Told]) -> list[str]:
    """The metric, then the others; of losses only the metric."""
    every = dict.fromkeys(name for one in known for name in one.outcome.figures)
    return [sweep.metric.name, *(name for name in every if name != sweep.metric.name and not name.startswith(TERM))]


def _rows(sweep: Sweep, progress: Progress, known: Sequence[Told], figures: Sequence[str]) -> list[Row]:
    """All trials, the best first."""
    candidates = {one.name: one for one in progress.candidates}
    ranked = [one.outcome.name for one in reversed(known)]
    best = progress.best(sweep)
    rest = [name for name in candidates if name not in set(ranked)]
    rows = []
    for name in (*ranked, *rest):
        one, outcome = candidates[name], progress.outcomes[name]
        cells = [said_short(one.values[key]) if key in one.values else "" for key in sweep.axes]
        rows.append(Row(name, outcome.status, cells, one.seed, f"{outcome.epoch:.1f}",
                        [_number(outcome.figures, figure) for figure in figures],
                        best is not None and best.name == name))  # fmt: skip
    return rows


def _number(figures: Mapping[str, float | None], name: str) -> str:
    found = figures.get(name)
    return "-" if found is None else f"{found:.4f}"
