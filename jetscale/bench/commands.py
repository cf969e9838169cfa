"""The commands below `jetscale bench`. Each imports what it needs when it is called."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from jetscale.errors import ConfigError
from jetscale.terminal import Terminal

if TYPE_CHECKING:
    from jetscale.bench.result import Result, Say

bench = typer.Typer(name="bench", no_args_is_help=True, rich_markup_mode="rich")

Rounds = Annotated[int, typer.Option(metavar="N", min=1, help="how often both sides have their turn")]
Json = Annotated[Path | None, typer.Option("--out", metavar="FILE.json", help="also write all figures there")]
Kept = Annotated[Path | None, typer.Option("--keep", metavar="DIR", help="keep the data there, and use what is there")]


@bench.callback()
def benchmarks() -> None:
    """Measure feed, training, memory, start and conversion against the plain way of doing the same, side by side."""


@bench.command("feed", epilog="Example: jetscale bench feed --size 200MB --rounds 3 --out feed.json")
def feed(
    size: Annotated[str, typer.Option(metavar="SIZE", help="of the Parquet files: 50MB, 1GB")] = "1GB",
    batch: Annotated[int, typer.Option(metavar="N", min=1, help="events of a batch")] = 256,
    rounds: Rounds = 5,
    out: Json = None,
    keep: Kept = None,
) -> None:
    """Both sources of the feed against a bare loop that reads and pads the same Parquet: about 3 minutes."""
    from jetscale.bench.feed import feed as measured

    _measure("feed", keep, out, lambda folder, say: measured(folder, size, batch, rounds, say))


TRAIN = """Example: jetscale bench train --rounds 3 --out train.json

Example: jetscale bench train particlenet --against weaver --rounds 3 --out particlenet.json"""


@bench.command("train", epilog=TRAIN)
def train(
    system: Annotated[
        Literal["particlenet", "particle_transformer"] | None,
        typer.Argument(metavar="SYSTEM", help="particlenet or particle_transformer, against weaver alone"),
    ] = None,
    against: Annotated[
        Literal["loop", "weaver"], typer.Option(help="a torch loop, or weaver-core on the same ROOT files")
    ] = "loop",
    events: Annotated[int, typer.Option(metavar="N", min=1000, help="events of the made-up sample")] = 20_000,
    source: Annotated[Literal["auto", "pyarrow", "ray"], typer.Option(help="of the feed under Ray; loop")] = "auto",
    batch: Annotated[int, typer.Option(metavar="N", min=1, help="jets of a batch; weaver")] = 32,
    steps: Annotated[int, typer.Option(metavar="N", min=6, help="steps of a turn; weaver")] = 10,
    threads: Annotated[int, typer.Option(metavar="N", min=1, help="of torch, on both sides; weaver")] = 2,
    rounds: Rounds = 5,
    out: Json = None,
    keep: Kept = None,
) -> None:
    """The engines, with feed and loop, against a torch loop on tensors in memory: about 4 minutes.

    With a system and --against weaver, that tagger with its feed against weaver-core: as a whole, step and feed alone,
    in fp32 and bf16, about 6 minutes.
    """
    if (against == "weaver") != (system is not None):
        raise ConfigError("a system and --against weaver go together", where="bench train",
                          cure="write jetscale bench train particlenet --against weaver")  # fmt: skip
    if system is None:
        from jetscale.bench.train import train as measured

        _measure("train", keep, out, lambda folder, say: measured(folder, events, rounds, source, say))
        return
    from jetscale.bench.against import against as compared
    from jetscale.bench.jetclass import Size

    size = Size(events, batch, steps, threads, rounds)
    _measure(f"{system} against weaver", keep, out, lambda folder, say: compared(folder, system, size, say))


@bench.command("memory", epilog="Example: jetscale bench memory --large 500MB --rounds 1 --out memory.json")
def memory(
    small: Annotated[str, typer.Option(metavar="SIZE", help="of the small sample")] = "50MB",
    large: Annotated[str, typer.Option(metavar="SIZE", help="of the large sample")] = "1GB",
    rounds: Rounds = 2,
    out: Json = None,
    keep: Kept = None,
) -> None:
    """Peak memory of a training on much data against one on little, less what imports cost: about 3 minutes."""
    from jetscale.bench.memory import memory as measured

    _measure("memory", keep, out, lambda folder, say: measured(folder, small, large, rounds, say))


@bench.command("start", epilog="Example: jetscale bench start --rounds 1 --out start.json")
def start(
    events: Annotated[int, typer.Option(metavar="N", min=1000, help="events of the made-up sample")] = 20_000,
    rounds: Rounds = 3,
    out: Json = None,
    keep: Kept = None,
) -> None:
    """From jetscale train to the first step, against the smallest script of the same libraries: about 3 minutes."""
    from jetscale.bench.start import start as measured

    _measure("start", keep, out, lambda folder, say: measured(folder, events, rounds, say))


@bench.command("ingest", epilog="Example: jetscale bench ingest --large 100MB --rounds 1 --out ingest.json")
def ingest(
    size: Annotated[str, typer.Option(metavar="SIZE", help="of the ROOT files")] = "200MB",
    large: Annotated[str, typer.Option(metavar="SIZE", help="of the one whose memory is looked at")] = "1GB",
    batch: Annotated[int, typer.Option(metavar="N", min=1, help="events of a batch")] = 256,
    rounds: Rounds = 5,
    out: Json = None,
    keep: Kept = None,
) -> None:
    """Conversion of ROOT files against a bare loop of uproot, awkward and pyarrow: about 4 minutes."""
    from jetscale.bench.ingest import ingest as measured

    _measure("ingest", keep, out, lambda folder, say: measured(folder, size, large, batch, rounds, say))


@bench.command("grouping", epilog="Example: jetscale bench grouping --rounds 3 --out grouping.json")
def grouping(
    events: Annotated[int, typer.Option(metavar="N", min=1000, help="events of the fast sides")] = 1_000_000,
    rounds: Rounds = 5,
    out: Json = None,
) -> None:
    """Minimum mass asymmetry of many events at once against the published head for 2 + 2 of 5 jets: about 1 minute."""
    from jetscale.bench.grouping import grouping as measured

    _measure("grouping", None, out, lambda _, say: measured(events, rounds, say))


@bench.command("readout", epilog="Example: jetscale bench readout --rounds 3 --out readout.json")
def readout(
    events: Annotated[int, typer.Option(metavar="N", min=256, help="events of each side")] = 2048,
    rounds: Rounds = 5,
    out: Json = None,
) -> None:
    """What a read-out of assignments costs per event and core, and a step of the enumerator: about 2 minutes."""
    from jetscale.bench.readout import readout as measured

    _measure("readout", None, out, lambda _, say: measured(events, rounds, say))


@bench.command("sweep", epilog="Example: jetscale bench sweep --trials 8 --seconds 10 --out sweep.json")
def sweep(
    trials: Annotated[int, typer.Option(metavar="N", min=2, help="trainings on both sides")] = 24,
    seconds: Annotated[float, typer.Option(metavar="S", min=0.5, help="of one training, about, on one core")] = 30.0,
    rounds: Rounds = 1,
    out: Json = None,
    keep: Kept = None,
) -> None:
    """Many trainings on Ray Tune against the same ones after each other in one process: about 20 minutes."""
    from jetscale.bench.sweep import sweep as measured

    _measure("sweep", keep, out, lambda folder, say: measured(folder, trials, seconds, rounds, say))


def _measure(what: str, keep: Path | None, out: Path | None, measure: Callable[[Path, Say], Result]) -> None:
    """Make a benchmark in a folder that stays or goes, show its table, write its figures."""
    if out is not None and out.is_dir():
        raise ConfigError("is a folder", where=f"--out {out}", cure="give the name of a file")
    if keep is not None and keep.exists() and not keep.is_dir():
        raise ConfigError("is a file", where=f"--keep {keep}", cure="give the name of a folder, new or old")
    terminal = Terminal(stages=1)
    with ExitStack() as stack:
        folder = keep or Path(stack.enter_context(TemporaryDirectory(prefix="jetscale-bench-")))
        folder.mkdir(parents=True, exist_ok=True)
        with terminal.logs_to(folder / "output.log"), terminal.stage(f"measuring: {what}"):
            result = measure(folder.absolute(), lambda line: terminal.say(f"  {line}"))
    terminal.console.print(result.table())
    if out is not None:
        result.write(out)
        terminal.say(f"the figures are in {out}")
