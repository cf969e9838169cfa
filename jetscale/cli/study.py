"""The command that conducts a study."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from jetscale.cli.shared import LOG, Out, Sets, check_out, job_file, started_ray
from jetscale.terminal import Terminal

if TYPE_CHECKING:
    from jetscale.conduct.stages import Progress

study = typer.Typer()
TITLES = {
    "samples": "samples",
    "label": "training with the label loss",
    "mass": "training with the mass loss",
    "score": "scoring and judging",
    "report": "tables, claims and page",
}


@study.command("study", epilog="Example: jetscale study jobs/studies/multijet.yaml --size quick --out multijet")
def conduct(
    file: Annotated[str, typer.Argument(metavar="STUDY.yaml", help="a study's file, or shipped:NAME")],
    out: Out,
    size: Annotated[str, typer.Option(metavar="NAME", help="one of the sizes in the file")] = "quick",
    until: Annotated[
        Literal["samples", "label", "mass", "score", "report"], typer.Option(help="the last stage")
    ] = "report",
    minutes: Annotated[
        float | None, typer.Option(metavar="M", min=0, help="begin nothing that would not be done by then")
    ] = None,
    sets: Sets = None,
) -> None:
    """Train a grid of networks, judge them where they were not trained, and say which claims hold.

    Samples, trainings, scores and the page are made one after the other. The same command goes on where it was ended.
    """
    from jetscale.conduct.estimate import estimate
    from jetscale.conduct.stages import Work, check, conducting, left
    from jetscale.shape import shape
    from jetscale.study import load

    loaded = load(job_file(file), sets or ())
    work = Work(loaded, loaded.size(size), size, out)
    check_out(out)
    found = check(work)
    given = shape(work.run(loaded.trainings(work.size)[0], found, start=False).scale.shape)
    terminal = Terminal()
    with terminal.logs_to(out / LOG):
        for line in estimate(work, found):
            terminal.say(line)
        with started_ray(terminal, given):
            _tell(terminal, conducting(work, until=until, most_s=None if minutes is None else 60 * minutes))
    if remaining := left(work):
        terminal.say(f"left: {', '.join(remaining)}; the same command goes on")
    else:
        terminal.say(f"the page is {out / 'index.html'}")


def _tell(terminal: Terminal, steps: Iterator[Progress]) -> None:
    """Every stage as one of the terminal's, with a line now and then."""
    for stage, progress in groupby(steps, key=lambda one: one.stage):
        with terminal.stage(TITLES[stage]):
            next_s = time.monotonic()
            for one in progress:
                if time.monotonic() >= next_s and one.of:
                    terminal.say(f"  {one.done:,.0f} of {one.of:,.0f}{f': {one.what}' if one.what else ''}")
                    next_s = time.monotonic() + terminal.every_s
