"""The audit's page: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2

from jetscale.audit import pictures, results
from jetscale.audit.audit import Report
from jetscale.audit.pictures import STATES
from jetscale.audit.verdicts import WORDS, Verdict
from jetscale.evaluate import page
from jetscale.evaluate.figures import Picture
from jetscale.events import write_text

LARGEST = 1000.0
FIGURES = "figures"


class Row(NamedTuple):
    """A verdict as text."""

    name: str
    words: str
    state: str
    colour: str
    value: str
    error: str
    threshold: str
    note: str


def write(report: Report, out: Path, *, command: str = "", wall: Mapping[str, float] | None = None) -> Path:
    """Write `index.html`, `audit.json` and `figures/` into a folder; the page's path."""
    drawn = pictures.draw(report, out / FIGURES)
    write_text(out / "audit.json", results.to_json(report))
    write_text(out / "index.html", render(report, drawn, command, wall or {}))
    return out / "index.html"


def render(report: Report, drawn: Sequence[Picture], command: str, wall: Mapping[str, float]) -> str:
    """The whole page as text."""
    rooms = [Path(__file__).parent, Path(page.__file__).parent]
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(rooms), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True, undefined=jinja2.StrictUndefined)  # fmt: skip
    environment.filters["picture"] = lambda one: base64.b64encode(one.png).decode()
    return environment.get_template("audit.html.j2").render(
        report=report,
        sentence=results.sentence(report),
        rows=[_row(verdict) for verdict in report.verdicts],
        pictures=drawn,
        facts=_facts(report),
        command=command,
        wall=wall,
        versions=page.versions(),
    )


def _row(verdict: Verdict) -> Row:
    error = f"± {_said(verdict.error)}" if math.isfinite(verdict.error) else ""
    threshold = "-" if verdict.threshold is None else f"{verdict.threshold:g}"
    return Row(verdict.name.replace("_", " "), WORDS[verdict.name], verdict.state, STATES[verdict.state],
               _said(verdict.value), error, threshold, verdict.note)  # fmt: skip


def _said(value: float) -> str:
    """A number in as many digits as say something; what is exact up to rounding is 0."""
    if not math.isfinite(value):
        return "-"
    if abs(value) > LARGEST:
        return f"> {LARGEST:g}"
    return "0" if abs(value) < 1e-6 else f"{value:.4f}" if abs(value) < 1 else f"{value:.3g}"


def _facts(report: Report) -> list[tuple[str, str]]:
    """What stands below the table: sentences of numbers that have no threshold of their own."""
    found = []
    if pull := report.coefficient:
        said = f"m = {pull.constant:.0f} GeV + {pull.true:.3f} m_true " \
               f"{pull.value:+.3f} (m_near - m_true) {pull.ht:+.3f} HT"  # fmt: skip
        found.append(("regression", f"{said}, over {pull.events:,} events at {pull.masses} masses; trained on "
                                    f"{', '.join(f'{mass:g}' for mass in report.subject.trained_on)} GeV"))  # fmt: skip
    if report.matrix:
        gap, p = report.matrix.transfer.gap, report.matrix.transfer.p
        found.append(("transfer gap", f"{_said(gap.value)} ± {_said(gap.error)} of the quality is lost, on average, at "
                                      f"what is left out; p {p:.3g} by permuted names"))  # fmt: skip
    if spread := report.spread:
        found.append(("functions", f"{len(spread.points_KC)} functions of "
                                   f"{len(dict.fromkeys(report.compositions))} compositions: variance "
                                   f"{spread.between:.3g} between, {spread.within:.3g} within"))  # fmt: skip
    return found
