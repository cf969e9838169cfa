"""A user's own files, kept beside the run that is made with them: what they become later is another run's.

A run's folder, and an exported run, hold copies; their `run.yaml` has the bare names.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jetscale.config import digest
from jetscale.events import write_text
from jetscale.run import Run


def keep(run: Run, folder: Path) -> Run:
    """Copy a user's own files into a folder, and return the run with their bare names: what `run.yaml` there holds.

    Of two files with one name and different contents, the second one's copy has its content's digest in the name.
    """
    kept: dict[str, str] = {}
    return _named(run, lambda file: _copied(file, folder, kept))


def told(run: Run) -> Run:
    """The same run with its user's own files told by name and content, for comparing it with another."""
    return _named(run, lambda file: f"{Path(file).name} with content {digest(Path(file).read_text())}")


def _named(run: Run, name: Callable[[str], str]) -> Run:
    """The run with other names for a user's own files."""
    system = name(run.system) if run.system.endswith(".py") else run.system
    derive = {}
    for key, column in run.stream.derive.items():
        file, _, kind = column.by.rpartition(":")
        derive[key] = column.model_copy(update={"by": f"{name(file)}:{kind}"}) if file else column
    return run.model_copy(update={"system": system, "stream": run.stream.model_copy(update={"derive": derive})})


def _copied(file: str, folder: Path, kept: dict[str, str]) -> str:
    path = Path(file)
    name, content = path.name, path.read_text()
    if kept.setdefault(name, content) != content:
        name = f"{path.stem}-{digest(content)}.py"
    write_text(folder / name, content)
    return name
