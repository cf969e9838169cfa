"""The command that trains many runs at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jetscale.cli.shared import LOG, Out, check_out, job_file
from jetscale.terminal import Terminal

if TYPE_CHECKING:
    from jetscale.axes import Sweep
    from jetscale.sweep.sweep import Progress

sweep = typer.Typer()

File = Annotated[str, typer.Argument(metavar="SWEEP.yaml", help="a sweep's file, or shipped:NAME for one that ships")]


@sweep.command("sweep", epilog="Example: jetscale sweep shipped:sweeps/background --out sweep")
def command(
    context: typer.Context,
    job: File,
    out: Out,
    dry: Annotated[bool, typer.Option("--dry", help="check everything and list the trials, but train nothing")] = False,
) -> None:
    """Train a run for every value of some settings, stop what is hopeless, and draw what comes out.

    The same command again goes on with what was interrupted, and tries again what has failed; with more values in the
    file it trains only what is new.
    """
    from jetscale.axes import load

    check_out(out)
    family, terminal = load(job_file(job)), Terminal(stages=2)
    if dry:
        _list(family, terminal)
        return
    with terminal.logs_to(out / LOG):
        last = _run(family, out, terminal)
        with terminal.stage("drawing"):
            from jetscale.sweep.page import report

            page = report(family, last, out, command=context.obj)
    terminal.say(f"the report is {page}; the table is {page.with_name('trials.parquet')}")
    for name, one in last.outcomes.items():
        if one.status == "failed":
            terminal.say(f"failed: {name}: {one.error.splitlines()[0]}", "red")
    if best := last.best(family):
        terminal.say(f"next: jetscale report {best.folder} --events SAMPLE... --out REPORT")


def _list(family: Sweep, terminal: Terminal) -> None:
    from jetscale.sweep.sweep import planned

    candidates, _ = planned(family)
    for one in candidates:
        terminal.say(one.name)
    number = len(candidates) or family.search.how.seeds * getattr(family.search.how, "trials", 1)
    terminal.say(f"{number} trials{'' if candidates else ', which Optuna draws as it goes'}")


def _run(family: Sweep, out: Path, terminal: Terminal) -> Progress:
    """All trials to their end, with the live table."""
    from jetscale.sweep.standings import Standings
    from jetscale.sweep.sweep import sweeping

    terminal.begun += 1
    found = sweeping(family, out)
    progress = next(found)  # checked: what is refused is refused here
    terminal.say(f"1/2 training in {out}; the first trial begins about 20 s after Ray")
    with Standings(terminal, family.metric) as standings:
        standings.show(progress.outcomes, progress.planned)
        for progress in found:
            standings.show(progress.outcomes, progress.planned)
    return progress
