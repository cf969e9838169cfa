"""The commands that make samples and look at them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jetscale.cli.shared import SAMPLE_LOG, Out, Seed, Sets, check_out, job_file, started_ray, tell
from jetscale.errors import ConfigError, IngestError
from jetscale.terminal import Terminal

if TYPE_CHECKING:
    from jetscale.data.ingest.ingest import Progress
    from jetscale.events import Manifest

events = typer.Typer()

UNITS = {"looking": "files", "converting": "entries"}


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
    with log, ray, terminal.stage(f"making {job.events} {job.rows_are} in {out}"):
        for shard in generate(job, out):
            made += shard.rows
            terminal.say(f"  {shard.file}: {made} of {job.events} {job.rows_are}")
    terminal.say(f"the sample is {out}; next: name it in a job, under stream.samples")


@events.command(epilog="Example: jetscale redecay shipped:gluino-1300 --bodies 4,5,6 --out pseudo")
def redecay(
    sample: Annotated[Path, typer.Argument(metavar="SAMPLE", help="a signal sample's folder, or shipped:NAME")],
    out: Out,
    bodies: Annotated[
        str, typer.Option(metavar="N,N", help="quarks of a parent; both of an event have as many")
    ] = "4,5,6",
    seed: Annotated[int, typer.Option(metavar="S", min=0, help="another seed gives other decays")] = 0,
    response: Annotated[float, typer.Option(metavar="R", help="mean share of a quark's momentum that is seen")] = 0.95,
    smear: Annotated[float, typer.Option(metavar="W", help="its relative width; 0 and a response of 1: none")] = 0.08,
    size: Annotated[int, typer.Option("--events-per-shard", metavar="N", min=1, help="of a Parquet file")] = 100_000,
) -> None:
    """Let the parents of a sample's signal decay anew to other numbers of quarks, by flat phase space.

    They keep their momenta, and the event its other jets; the cuts of the sample are made again. It needs true labels.
    """
    from jetscale.config import build
    from jetscale.data.redecay import Redecay, redecaying
    from jetscale.events import Events

    values = {"bodies": bodies.split(","), "seed": seed, "response": response, "smear": smear, "events_per_shard": size}
    how = build(Redecay, values, "jetscale redecay")
    check_out(out, sample=True)
    given, terminal = Events.open(sample), Terminal()
    with terminal.stage(f"decaying {len(given):,} events of {given.name} anew"):
        tell(terminal, redecaying(given, out, how), len(given))
    made = Events.open(out)
    for reason, number in made.manifest.made_by["rejected"].items():
        terminal.say(f"  left out: {number:,}  {reason}")
    terminal.say(f"the sample is {out}, {len(made):,} events; next: name it in a job, under stream.samples")


@events.command(epilog="Example: jetscale ingest 'ttbar/*.root' --map nanoaod --out ttbar --set cross_section_pb=831.8")
def ingest(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="files, patterns, folders, URLs, @LIST.txt; or one JOB.yaml"),
    ],
    out: Out,
    map: Annotated[
        str | None,
        typer.Option(
            "--map",
            metavar="MAP",
            help="nanoaod, pfnano, pfnano_ak4, delphes, flat, jetclass, energyflow, top_tagging, lhco, spanet, "
            "cannonball, or FILE.yaml",
        ),
    ] = None,
    tree: Annotated[str | None, typer.Option(metavar="NAME", help="the tree to read, other than the map's")] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="of the sample; without it, the folder's")] = None,
    sets: Sets = None,
) -> None:
    """Convert ROOT files (and HDF5, npz) into a sample, once: every entry is kept, or counted with the reason why not.

    The same command again makes what is missing, of files that are new or have changed. Files that cannot be read are
    named; the others are converted all the same.
    """
    from jetscale.data.ingest.ingest import converting, prepare
    from jetscale.data.ingest.job import load, shipped
    from jetscale.events import MANIFEST, Events
    from jetscale.shape import shape

    yaml = job_file(files[0]) if len(files) == 1 and files[0].endswith((".yaml", ".yml")) else None
    given = {"map": map, "files": None if yaml else files, "name": name or (None if yaml else out.resolve().name)}
    if not (yaml or map or any(one.startswith("map") for one in sets or ())):
        raise ConfigError("which branches make which columns?", where="--map",
                          cure=f"give one of {', '.join(shipped())}, or your own FILE.yaml")  # fmt: skip
    job = load(yaml, sets or (), tree, **given)
    check_out(out, sample=True)
    work = prepare(job, out)
    here = work.is_small
    terminal, failure = Terminal(stages=2 - here), None
    log, ray = terminal.logs_to(out / SAMPLE_LOG), started_ray(terminal, None if here else shape("laptop"))
    with log, ray, terminal.stage(f"converting {job.name} into {out}"):
        try:
            tell_progress(terminal, converting(work, here=here))
        except IngestError as problem:
            failure = problem
    if (out / MANIFEST).is_file():
        for line in told(Events.open(out).manifest):
            terminal.say(line)
    if failure:
        raise failure
    terminal.say(f"the sample is {out}; next: jetscale inspect {out}")


def tell_progress(terminal: Terminal, steps: Iterable[Progress]) -> None:
    """Say now and then how far it is and how long it will take, and at once which files are unfit."""
    stage, begun, done, next_s = "", 0.0, 0, 0.0
    for step in steps:
        now = time.monotonic()
        if step.bad:
            terminal.say(f"  {step.bad}", "yellow")
        if step.stage != stage:
            stage, begun, done, next_s = step.stage, now, step.done, now
        if now >= next_s:
            left = (step.of - step.done) * (now - begun) / (step.done - done) if step.done > done else None
            ahead = "" if left is None else f"  {int(left) // 60}:{int(left) % 60:02d} left"
            terminal.say(f"  {step.stage}: {step.done:,} of {step.of:,} {UNITS[step.stage]}{ahead}")
            next_s = now + terminal.every_s


def told(manifest: Manifest) -> Iterator[str]:
    """What became of the entries, in a few lines."""
    made = manifest.made_by
    rejected = sum(made["rejected"].values())
    yield f"{len(made['files'])} files: {made['entries']:,} entries = {made['kept']:,} kept + {rejected:,} rejected"
    for title in ("rejected", "mended", "members_left_out"):
        for why, number in made[title].items():
            if number:
                yield f"  {title.replace('_', ' ')}: {number:,}  {why}"
    if made["job"]["map"]["pad"] is None and any(why.startswith("jet_pt is not in [0") for why in made["rejected"]):
        yield "  if a number such as -999 stands in slots without a jet: --set map.pad=-999, and another --out"
    unit = next(column.unit for column in manifest.columns if column.name == "weight")
    yield f"the weights sum to {manifest.sum_weight:.6g} {unit}".rstrip()
    if made["absent"]:
        yield f"in no file, so not in the sample: {', '.join(_grouped(manifest))}"


def _grouped(manifest: Manifest) -> Iterator[str]:
    """What no file had: collections of which there is nothing, and single columns."""
    absent = list(manifest.made_by["absent"])
    for collection in manifest.made_by["job"]["map"]["columns"]:
        gone = [name for name in absent if name.startswith(f"{collection}_")]
        if gone and not any(column.of == collection for column in manifest.columns):
            absent = [name for name in absent if name not in gone]
            yield f"all of {collection}"
    yield from absent
