"""The commands that make samples and look at them."""

from __future__ import annotations

from typing import Annotated

import typer

from jetscale.cli.shared import SAMPLE_LOG, Out, Seed, check_out, job_file, started_ray
from jetscale.terminal import Terminal

events = typer.Typer()


@events.command(epilog="Example: jetscale generate shipped:qcd --out qcd --events 2000")
def generate(
    sample: Annotated[str, typer.Argument(metavar="SAMPLE.yaml", help="what to make, or shipped:NAME")],
    out: Out,
    events: Annotated[int | None, typer.Option(metavar="N", min=1, help="another number than the file's")] = None,
    seed: Seed = None,
) -> None:
    """Make real Monte Carlo with Pythia 8 and fastjet, one Ray task a shard."""
    from jetscale.data.generate import generate, load
    from jetscale.events import MANIFEST
    from jetscale.shape import shape

    job = load(job_file(sample), events, seed)
    check_out(out, sample=True)
    # A whole sample is looked at first: it may need no Ray, or be another one.
    fresh, made = not (out / MANIFEST).is_file(), 0
    terminal = Terminal(stages=1 + fresh)
    log, ray = terminal.logs_to(out / SAMPLE_LOG), started_ray(terminal, shape("laptop") if fresh else None)
    with log, ray, terminal.stage(f"making {job.events} events in {out}"):
        for shard in generate(job, out):
            made += shard.rows
            terminal.say(f"  {shard.file}: {made} of {job.events} events")
    terminal.say(f"the sample is {out}; next: name it in a job, under stream.samples")
