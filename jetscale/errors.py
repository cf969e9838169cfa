"""What went wrong, where, and what to do about it: the only exceptions that jetscale raises on purpose."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class JetscaleError(Exception):
    """Something failed and can be named. `exit_code` is what the command line returns."""

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", cure: str = "") -> None:
        self.what, self.where, self.cure = what, where, cure
        super().__init__(what)

    def __str__(self) -> str:
        parts = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.cure:
            parts.append(f"  what to do: {self.cure}")
        return "\n".join(parts)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.where, self.cure)


class ConfigError(JetscaleError):
    """A job, a setting or a name that cannot be meant: wrong usage."""

    exit_code = 2


class DataError(JetscaleError):
    """Events, columns or files that are not what they should be."""


class GenerateError(JetscaleError):
    """Monte Carlo that cannot be made, or that came out empty."""


class IngestError(JetscaleError):
    """Files that could not be converted; the others were."""


class TrainError(JetscaleError):
    """A training that cannot start or cannot go on."""


def _rebuild(kind: type[JetscaleError], what: str, where: str, cure: str) -> JetscaleError:
    return kind(what, where=where, cure=cure)


def nearest(name: str, options: Iterable[str]) -> str:
    """A cure for a misspelt name: the nearest of the options, and all of them when they are few."""
    known = sorted(options)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
    return f"{hint}known here: {shown or 'nothing'}"
