"""The verbs that a user types. Each imports what it needs when it is called, so that help comes at once."""

from __future__ import annotations

import shlex
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from jetscale.bench.commands import bench
from jetscale.cli.audit import audit
from jetscale.cli.events import events
from jetscale.cli.samples import samples
from jetscale.cli.study import study
from jetscale.cli.sweep import sweep
from jetscale.cli.training import training
from jetscale.errors import ConfigError, JetscaleError

app = typer.Typer(
    name="jetscale", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    rich_markup_mode="rich", context_settings={"help_option_names": ["--help", "-h"]},
)  # fmt: skip

app.add_typer(training)
app.add_typer(events)
app.add_typer(samples)
app.add_typer(study)
app.add_typer(sweep)
app.add_typer(audit)
app.add_typer(bench)


@app.callback()
def jetscale(debug: Annotated[bool, typer.Option("--debug", help="show tracebacks")] = False) -> None:
    """Jet networks at any scale: events in, trained networks and the figures of a search out."""


SEVERAL = ("--events", "--classical")


def spread(words: Sequence[str]) -> list[str]:
    """`report RUN --events A B` as `--events A --events B`, which is what the parser knows; --classical likewise."""
    if not words or words[0] not in ("report", "audit"):
        return list(words)
    found: list[str] = []
    for word in words:
        follows = len(found) > 1 and found[-2] in SEVERAL and not word.startswith("-")
        found += [found[-2], word] if follows else [word]
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. 0: done, 1: something failed and was named, 2: wrong usage."""
    given = list(sys.argv[1:] if argv is None else argv)
    words = spread([word for word in given if word != "--debug"])
    try:
        app(words, prog_name="jetscale", obj=shlex.join(["jetscale", *given]))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception as problem:
        if "--debug" in given:
            traceback.print_exception(problem)
        else:
            _name(problem)
        return problem.exit_code if isinstance(problem, JetscaleError) else 1
    return 0


def _name(problem: Exception) -> None:
    ours = isinstance(problem, JetscaleError)
    console = Console(stderr=True, highlight=False)
    text = str(problem) if ours else f"{type(problem).__name__}: {problem}"
    notes = [] if isinstance(problem, ConfigError) else getattr(problem, "__notes__", [])
    console.print(Text.assemble(("jetscale: ", "bold red"), text), soft_wrap=True)
    for note in notes:
        console.print(Text(f"  {note}"), soft_wrap=True)
    if not ours:
        console.print(Text("  what to do: run the command again with --debug to see where it happened"), soft_wrap=True)
