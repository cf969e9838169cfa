"""The terminal is ours: stages with expected seconds, live progress, and everybody else's output in a log file."""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

Line = Mapping[str, Any]
LOOK_S = 0.25
TAIL_LINES = 15
MARK = 256
BEGINNINGS = ("start", "resume")  # what was said before these is not about the training that is under way


class Terminal:
    """What the user sees. `stages` is how many there will be; plain lines come at most every `every_s` seconds."""

    def __init__(self, stages: int = 0, *, every_s: float = 5.0, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self.stages, self.every_s, self.begun = stages, every_s, 0
        self.seconds: dict[str, float] = {}

    def say(self, text: str, style: str = "") -> None:
        """One line, never wrapped, no markup."""
        self.console.print(Text(text, style=style), soft_wrap=True)

    @contextmanager
    def stage(self, title: str, about_s: float | None = None, follow: Path | None = None) -> Iterator[None]:
        """Announce a stage, show that it is alive, and say how long it took; `seconds[title]` keeps that.

        `follow` is a log.jsonl that somebody writes meanwhile: step, loss terms, events/s, share of time waiting for
        data and time left are shown from it.
        """
        self.begun += 1
        number = f"{self.begun}/{self.stages} " if self.stages else ""
        heading = f"{number}{title}" + (f" (about {about_s:.0f} s)" if about_s else "")
        start = time.monotonic()
        try:
            with self._alive(heading, Tail(follow) if follow else None):
                yield
        except BaseException:
            self.say(f"{number}{title}: failed after {time.monotonic() - start:.0f} s", "red")
            raise
        self.seconds[title] = time.monotonic() - start
        self.say(f"{number}{title}: done in {self.seconds[title]:.0f} s", "green")

    @contextmanager
    def logs_to(self, file: Path) -> Iterator[None]:
        """Send descriptors 1 and 2, so also banners of libraries and of subprocesses, to a file; we keep the terminal.

        An exception that passes takes the file's name and last lines along as a note. A file without a word is not
        kept, nor the folders that were made for it alone: what is refused leaves nothing behind.
        """
        made = [folder for folder in file.parents if not folder.exists()]
        file.parent.mkdir(parents=True, exist_ok=True)
        before = self.console.file
        try:
            with file.open("ab") as log, _sent_to(log.fileno(), before) as ours:
                self.console.file = ours
                yield
        except Exception as problem:
            if said := tail_of(file):
                problem.add_note(f"its output is in {file}{said}")
            raise
        finally:
            self.console.file = before
            _drop_if_empty(file, made)

    @contextmanager
    def _alive(self, heading: str, tail: Tail | None) -> Iterator[None]:
        done = threading.Event()
        show = self._draw if self.console.is_terminal else self._tell
        thread = threading.Thread(target=show, args=(heading, tail, done), name="jetscale-terminal", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _draw(self, heading: str, tail: Tail | None, done: threading.Event) -> None:
        start, spinner = time.monotonic(), Spinner("dots")
        with Live(console=self.console, auto_refresh=False, transient=True, redirect_stdout=False,
                  redirect_stderr=False) as live:  # fmt: skip
            while True:
                spinner.update(text=Text(f"{heading}  {time.monotonic() - start:.0f} s"))
                live.update(Group(spinner, picture(tail.last())) if tail else spinner, refresh=True)
                if done.wait(LOOK_S):
                    return

    def _tell(self, heading: str, tail: Tail | None, done: threading.Event) -> None:
        self.say(heading)
        told: set[str] = set()
        next_s = time.monotonic()
        while tail:
            over = done.wait(LOOK_S)
            if over or time.monotonic() >= next_s:
                lines = [line for line in sentences(tail.last()) if line not in told]
                for line in lines:
                    self.say(f"  {line}")
                if lines:
                    told, next_s = told.union(lines), time.monotonic() + self.every_s
            if over:
                return


class Tail:
    """The newest line of each kind that is added to a JSON-lines file from now on, by the training under way."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.at, self.mark = 0, b""
        self.kinds: dict[str, Line] = {}
        if file.is_file():
            with file.open("rb") as stream:
                self.at = stream.seek(0, os.SEEK_END)
                self.mark = self._mark(stream)

    def last(self) -> Mapping[str, Line]:
        """Read on from where the last look ended; a half-written line waits for the next look."""
        if self.file.is_file():
            # One stream for the whole look: another file may be renamed into this one's place meanwhile.
            with self.file.open("rb") as stream:
                self._look(stream)
        return self.kinds

    def _look(self, stream: BinaryIO) -> None:
        # A file begun anew may already have outgrown the old one, so its size alone does not tell.
        if self._mark(stream) != self.mark:
            self.at, self.kinds = 0, {}
        stream.seek(self.at)
        new = stream.read()
        whole = new[: new.rfind(b"\n") + 1]
        self.at += len(whole)
        self.mark = self._mark(stream)
        for text in whole.splitlines():
            line = json.loads(text)
            if line["kind"] in BEGINNINGS:
                self.kinds = {}
            self.kinds[line["kind"]] = line

    def _mark(self, stream: BinaryIO) -> bytes:
        """The last bytes that were read, as they stand in the file now."""
        start = max(0, self.at - MARK)
        stream.seek(start)
        return stream.read(self.at - start)


def sentences(last: Mapping[str, Line]) -> list[str]:
    """Plain lines of where a training stands: its newest validation and its newest step, as far as there are any."""
    found = [said for said in (_resumed(last.get("resume")), _validation(last.get("validation"))) if said]
    step = last.get("step")
    if step is not None:
        found.append(f"step {step['step']} of {step['of']}  {_numbers(step['loss'])}  {_pace(step)}")
    return found


def picture(last: Mapping[str, Line]) -> RenderableType:
    """The same as a bar with three lines under it."""
    step = last.get("step")
    if step is None:
        return Text(f"  {_resumed(last.get('resume')) or 'waiting for the first step'}", style="dim")
    table = Table.grid(padding=(0, 2))
    table.add_row("", f"step {step['step']} of {step['of']}",
                  ProgressBar(total=step["of"], completed=step["step"], width=40))  # fmt: skip
    table.add_row("", "loss", _numbers(step["loss"]))
    table.add_row("", "pace", _pace(step))
    if said := _validation(last.get("validation")):
        table.add_row("", "so far", said)
    return table


def _resumed(line: Line | None) -> str:
    """Empty where a training began anew."""
    return f"going on from step {line['step']} of {line['steps']}" if line else ""


def _numbers(values: Mapping[str, float | None]) -> str:
    return "  ".join(f"{name} {'-' if value is None else f'{value:.4g}'}" for name, value in values.items())


def _pace(step: Line) -> str:
    left = step.get("left_s")
    ahead = "" if left is None else f"  {int(left) // 60}:{int(left) % 60:02d} left"
    return f"{step['events_per_s']:,.0f} events/s  waiting for data {100 * step['wait']:.0f} %{ahead}"


def _validation(line: Line | None) -> str:
    """Empty before the first validation, and for one that has no figures."""
    if line is None:
        return ""
    known = {name: value for name, value in line["metrics"].items() if value is not None and math.isfinite(value)}
    return f"validation at step {line['step']}: {_numbers(known)}" if known else ""


@contextmanager
def _sent_to(log: int, ours: TextIO | Any) -> Iterator[Any]:
    """Descriptors 1 and 2 lead to `log`; yields a file that still leads where `ours` did."""
    _flush()
    kept = [(number, os.dup(number)) for number in (1, 2)]
    number = _number(ours)
    terminal = os.fdopen(os.dup(number), "w", buffering=1, encoding="utf-8") if number in (1, 2) else ours
    try:
        for number, _ in kept:
            os.dup2(log, number)
        yield terminal
    finally:
        _flush()
        for number, copy in kept:
            os.dup2(copy, number)
            os.close(copy)
        if terminal is not ours:
            terminal.close()


def _number(file: Any) -> int:
    """The descriptor of a file, -1 for one in memory."""
    try:
        return int(file.fileno())
    except (AttributeError, OSError, ValueError):
        return -1


def _drop_if_empty(log: Path, made: Sequence[Path]) -> None:
    """Remove a log that says nothing, then the folders made for it, innermost first, as far as they are empty."""
    if log.is_file() and not log.stat().st_size:
        log.unlink()
        for folder in made:
            if any(folder.iterdir()):
                return
            folder.rmdir()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()


def tail_of(file: Path) -> str:
    """The last lines of a log, for an error message; empty if it says nothing."""
    text = file.read_text(errors="replace") if file.is_file() else ""
    lines = [line for line in text.splitlines() if line.strip()][-TAIL_LINES:]
    return "".join(["; the last lines:", *(f"\n  | {line}" for line in lines)]) if lines else ""
