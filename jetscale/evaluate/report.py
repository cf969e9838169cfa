"""The report: one page, its figures as files, and all numbers as JSON, from scored samples."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from jetscale.evaluate import compare, logs, page, results
from jetscale.evaluate.compare import CLASSICAL, Scored
from jetscale.evaluate.displays import displays
from jetscale.evaluate.figures import draw
from jetscale.evaluate.tagging import figures as tagger_figures
from jetscale.evaluate.tagging import filters as tagger_filters
from jetscale.evaluate.tagging import images as tagger_images
from jetscale.evaluate.tagging import page as tagger_page
from jetscale.evaluate.tagging import results as tagger_results
from jetscale.events import write_text
from jetscale.train.checkpoint import read_data
from jetscale.train.exported import is_exported

__all__ = ["Scored", "report"]


def report(scored: Sequence[Scored], out: Path, *, command: str, wall: Mapping[str, float],
           classical: Sequence[str] = CLASSICAL) -> Path:  # fmt: skip
    """Write `index.html`, `figures/` and `results.json` into `out`, and return the page's path.

    `wall` holds seconds by stage and stands, like `command`, on the page only, beside what the runs' logs say of
    their training and what the report itself took so far. All runs must have scored the same samples; only held-out
    events enter. `classical` names the methods without a network that stand beside the runs.

    Raises:
        ConfigError: no such classical method.
        DataError: no scored events, a column that is missing, runs that have scored different samples.
    """
    if tagger_results.are_tagged(scored):
        return _taggers(scored, out, command, wall)
    start = time.monotonic()
    runs = tuple(dict.fromkeys(one.run_name for one in scored))
    folders = {one.run_name: one.run_dir for one in scored}
    found = results.compare(compare.samples(scored, classical), runs)
    curves = {run: logs.curves(folder) for run, folder in folders.items()}
    pictures = draw(found, curves, out / "figures")
    events = displays(found, out / "figures")
    spent = {f"training {run}": s for run, folder in folders.items() if (s := logs.seconds(folder)) is not None}
    foot = page.Foot(command, {one.run_name: _digest(one) for one in scored},
                     {**spent, **wall, "reporting": time.monotonic() - start},
                     [run for run, folder in folders.items() if folder and is_exported(folder)])  # fmt: skip
    write_text(out / "results.json", results.to_json(found))
    write_text(out / "index.html", page.render(found, pictures, events, foot))
    return out / "index.html"


def _taggers(scored: Sequence[Scored], out: Path, command: str, wall: Mapping[str, float]) -> Path:
    start = time.monotonic()
    found = tagger_results.jets(scored)
    boot = tagger_results.bootstrap(found)
    known = tagger_results.networks(scored)
    filters, images = tagger_filters.measured(scored), tagger_images.seen(scored)
    pictures = tagger_figures.draw(found, filters, images, out / "figures")
    more = {name: {run: one.numbers() for run, one in of.items()}
            for name, of in (("filters", filters), ("images", images))}  # fmt: skip
    folders = {one.run_name: one.run_dir for one in scored}
    spent = {f"training {run}": s for run, folder in folders.items() if (s := logs.seconds(folder)) is not None}
    foot = page.Foot(command, {one.run_name: _digest(one) for one in scored},
                     {**spent, **wall, "reporting": time.monotonic() - start})  # fmt: skip
    write_text(out / "results.json", tagger_results.to_json(found, boot, known, more))
    write_text(out / "index.html", tagger_page.render(found, boot, known, pictures, foot))
    return out / "index.html"


def _digest(one: Scored) -> str:
    """The digest that names a run's work, or that of all folds together, as far as it is known."""
    return str(read_data(one.run_dir)["run"] if one.run_dir else one.events.manifest.made_by.get("scored_by", ""))
