"""What several commands share: their common arguments, and the checks and stages that they begin with."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jetscale.errors import ConfigError
from jetscale.terminal import Terminal

if TYPE_CHECKING:
    from jetscale.shape import Shape

Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="folder to write to")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="change one setting of the job; as often as needed"),
]
Seed = Annotated[int | None, typer.Option(metavar="S", help="another seed than the file's")]

LOG = "output.log"
SAMPLE_LOG = f"_{LOG}"  # whoever reads a sample's directory as Parquet passes over names that begin so


def job_file(where: str) -> Path:
    """A path, or `shipped:NAME` for a job, or the recipe of a sample, that ships."""
    from jetscale.run import job_file

    return job_file(where)


def check_out(out: Path, *, sample: bool = False) -> None:
    """A folder to write to must not be a file, nor lie below one, nor be a sample unless a sample is to be written."""
    from jetscale.events import MANIFEST

    for place in (out, *out.parents):
        if place.exists() and not place.is_dir():
            raise ConfigError("is a file", where=f"--out {place}", cure="give the name of a folder, new or old")
    if not sample and (out / MANIFEST).is_file():
        raise ConfigError("is a sample", where=f"--out {out}", cure="choose another folder")


@contextmanager
def started_ray(terminal: Terminal, given: Shape | None) -> Iterator[None]:
    """Ray's start is a stage of its own, so that it is never silence; nothing where none is asked for."""
    from jetscale.data.cluster import cluster

    with ExitStack() as stack:
        if given:
            with terminal.stage("starting Ray", about_s=10):
                stack.enter_context(cluster(given))
        yield


def tell(terminal: Terminal, counts: Iterable[int], total: int, of: str = "events") -> None:
    """Say now and then how many events, or what else, are done."""
    next_s = time.monotonic() + terminal.every_s
    for done in counts:
        if time.monotonic() >= next_s:
            terminal.say(f"  {done} of {total} {of}")
            next_s = time.monotonic() + terminal.every_s
