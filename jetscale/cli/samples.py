"""The commands that look at samples, and make others of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jetscale.cli.shared import Out, Sets, check_out, job_file, tell
from jetscale.errors import ConfigError, DataError, JetscaleError
from jetscale.terminal import Terminal

if TYPE_CHECKING:
    from jetscale.data.check import Checked, Finding
    from jetscale.events import Events
    from jetscale.stream import Split

samples = typer.Typer()
WIDTH = 130  # of a table, however narrow the terminal

Sample = Annotated[Path, typer.Argument(metavar="SAMPLE", help="a sample's folder, or shipped:NAME")]
Samples = Annotated[list[Path], typer.Argument(metavar="SAMPLE...", help="samples' folders, or shipped:NAME")]
Size = Annotated[int, typer.Option("--events-per-shard", metavar="N", min=1, help="events of a Parquet file")]


@samples.command(epilog="Example: jetscale check shipped:qcd ttbar")
def check(given: Samples) -> None:
    """Compare samples with their manifests: shards, hashes, counts, types, every number and every event id.

    All that is wrong is listed, not only the first. Errors give the exit code 1, warnings do not.
    """
    terminal, errors = Terminal(stages=len(given)), 0
    for where in given:
        errors += _checked(terminal, where)
    if errors:
        raise DataError(f"{errors} {_plural(errors, 'error')}", where=", ".join(map(str, given)),
                        cure="see the lines above")  # fmt: skip


def _checked(terminal: Terminal, where: Path) -> int:
    """Tell what is wrong with one sample, and how many errors there are."""
    from jetscale.data.check import checking
    from jetscale.events import locate, read_manifest
    from jetscale.schema import Schema, plural, rows_are

    findings: list[Finding] = []
    try:
        manifest = read_manifest(locate(where))
        with terminal.stage(f"checking {where}"):
            tell(terminal, _collected(checking(where), findings), manifest.rows)
    except JetscaleError as problem:
        terminal.say(f"error    {problem}", "red")
        return 1
    _list(terminal, findings)
    errors = sum(one.error for one in findings)
    rows = plural(rows_are(Schema(columns=manifest.columns)))
    odd = f"{len(findings) - errors} {_plural(len(findings) - errors, 'warning')}"
    if errors:
        terminal.say(f"{where}: {errors} {_plural(errors, 'error')}, {odd}", "red")
    else:
        terminal.say(f"{where}: {manifest.rows:,} {rows} in {len(manifest.shards)} "
                     f"{_plural(len(manifest.shards), 'shard')} are what the manifest says"
                     f"{f'; {odd}' if findings else ''}", "green")  # fmt: skip
    return errors


def _collected(steps: Iterator[Checked], into: list[Finding]) -> Iterator[int]:
    """How many events are done; what is found is added to the list."""
    done = 0
    for step in steps:
        into += step.findings
        done += step.rows
        yield done


def _list(terminal: Terminal, findings: list[Finding]) -> None:
    for one, after in zip_longest(findings, findings[1:]):
        said = "  ".join(word for word in (one.where, one.column, one.what) if word)
        terminal.say(f"{'error  ' if one.error else 'warning'}  {said}", "red" if one.error else "yellow")
        if not after or after.cure != one.cure:
            terminal.say(f"         what to do: {one.cure}")


@samples.command(epilog="Example: jetscale inspect shipped:qcd --out page")
def inspect(
    given: Sample,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="else SAMPLE/_inspect")] = None,
) -> None:
    """Look at every column of a sample, in a table here and with histograms on a page.

    The page says where the sample comes from, too. Its folder, _inspect, is no part of the sample.
    """
    from jetscale.evaluate.inspect import page_place, table, write_page
    from jetscale.evaluate.profile import Profile
    from jetscale.events import Events
    from jetscale.schema import plural, rows_are

    events = Events.open(given)
    place = out or page_place(given, events)
    check_out(place)
    terminal, profile = Terminal(stages=2), Profile(events)
    rows = plural(rows_are(events.schema))
    with terminal.stage(f"looking at {len(events):,} {rows}"):
        tell(terminal, profile.steps(), len(events), rows)
    with terminal.stage("drawing"):
        page = write_page(profile, place)
    terminal.console.width = max(terminal.console.width, WIDTH)
    terminal.console.print(table(profile), crop=False)
    terminal.say(f"the page is {page}")


@samples.command(epilog="Example: jetscale merge ttbar qcd --out background")
def merge(
    given: Samples,
    out: Out,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="of the sample; without it, the folder's")] = None,
    common: Annotated[bool, typer.Option("--common", help="keep only the columns that all have")] = False,
    size: Size = 100_000,
) -> None:
    """Make one sample of several, with every event once. Weights stay as they are, so normalise each one before.

    Samples that are each normalised to their own process add up. Parts of one process that are each normalised to all
    of it count it several times: this is told where it shows.
    """
    from jetscale.data.samples import doubts, merging
    from jetscale.events import Events

    check_out(out, sample=True)
    opened = [Events.open(one) for one in given]
    terminal, total = Terminal(), sum(map(len, opened))
    for doubt in doubts(opened):
        terminal.say(f"warning: {doubt}", "yellow")
    with terminal.stage(f"merging {total:,} events of {len(opened)} samples"):
        tell(terminal, merging(opened, out, name=name, common=common, rows=size), total)
    _say(terminal, Events.open(out))


@samples.command(
    epilog="Example: jetscale skim shipped:qcd --derive ht=Sum:jet_pt --select ht=1500: --out hard\n\n"
    "A file says the same under skim: {derive: {ht: {by: Sum, of: jet_pt}}, select: {ht: [1500, null]}}"
)
def skim(
    given: Sample,
    out: Out,
    job: Annotated[str | None, typer.Argument(metavar="SKIM.yaml", help="cuts in a file, under skim:")] = None,
    select: Annotated[
        list[str] | None, typer.Option(metavar="NAME=LOW:HIGH", help="keep events with LOW <= NAME < HIGH, in order")
    ] = None,
    derive: Annotated[
        list[str] | None, typer.Option(metavar="NAME=KIND:COLUMN", help="a new column: Sum, Count, FILE.py:KIND")
    ] = None,
    columns: Annotated[
        list[str] | None, typer.Option(metavar="A,B", help="keep these only, beside event_id and weight")
    ] = None,
    sets: Sets = None,
) -> None:
    """Keep the events that pass cuts, and count the others by reason. Weights stay as they are."""
    from jetscale.data.skim import load, skimming
    from jetscale.events import Events

    how = load(job_file(job) if job else None, sets or (), select or (), derive or (), columns or ())
    check_out(out, sample=True)
    events, terminal = Events.open(given), Terminal()
    with terminal.stage(f"skimming {len(events):,} events of {events.name}"):
        tell(terminal, skimming(events, out, how), len(events))
    made = Events.open(out)
    terminal.say(f"{len(events):>12,}  events in")
    for reason, number in made.manifest.made_by["rejected"].items():
        terminal.say(f"{-number:>12,}  {reason}")
    terminal.say(f"{len(made):>12,}  events out")
    _say(terminal, made)


@samples.command(epilog="Example: jetscale split shipped:qcd --parts train=0.6,validation=0.2,test=0.2 --out parts")
def split(
    given: Sample,
    out: Out,
    parts: Annotated[str, typer.Option(metavar="PART=SHARE,...")] = "train=0.6,validation=0.15,test=0.25",
    seed: Annotated[int, typer.Option(metavar="S", help="another seed gives another split")] = 0,
    size: Size = 100_000,
) -> None:
    """Write the parts of a sample as samples, DIR/train and so on, by a hash of the event id.

    They are those of a training with the same numbers in stream.split. To train on all of a part, say
    stream.split={train: 1, validation: 0, test: 0}; to divide it further, give another stream.split.seed.
    """
    from jetscale.data.samples import splitting, wanted_parts
    from jetscale.events import Events

    shares = _shares(parts, seed)
    check_out(out)
    events, terminal = Events.open(given), Terminal()
    with terminal.stage(f"splitting {len(events):,} events of {events.name}"):
        tell(terminal, splitting(events, out, shares, rows=size), len(events))
    _say(terminal, events)
    for part in wanted_parts(shares):
        _say(terminal, Events.open(out / part))


def _shares(text: str, seed: int) -> Split:
    from jetscale.config import build
    from jetscale.stream import PARTS, Split

    values: dict[str, object] = {**dict.fromkeys(PARTS, 0.0), "seed": seed}
    for one in text.split(","):
        part, _, share = one.partition("=")
        try:
            values[part.strip()] = float(share)
        except ValueError:
            raise ConfigError(f"{one!r} is not PART=SHARE", where="--parts",
                              cure="write --parts train=0.6,validation=0.2,test=0.2") from None  # fmt: skip
    return build(Split, values, "--parts")


def _say(terminal: Terminal, events: Events) -> None:
    manifest = events.manifest
    unit = events.schema["weight"].unit
    terminal.say(f"{events.path}: {manifest.rows:,} events in {len(manifest.shards)} "
                 f"{_plural(len(manifest.shards), 'shard')}, weights sum to {manifest.sum_weight:.6g} "
                 f"{unit}".rstrip())  # fmt: skip


def _plural(number: int, word: str) -> str:
    return word if number == 1 else f"{word}s"
