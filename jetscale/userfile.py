"""A user's own Python file as a module: where a system or a derived column is not one of those that ship."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from jetscale.config import digest
from jetscale.errors import ConfigError


def load(path: Path) -> ModuleType:
    """The module that a file holds; the same one again as long as the file does not change.

    Raises:
        ConfigError: no such file, or one that cannot be loaded.
    """
    path = path.resolve()
    if not path.is_file():
        raise ConfigError("no such file", where=str(path), cure="give the path of a Python file")
    # Path and content make the name: other processes give the same class the same name, so that it can be pickled;
    # files of one stem stay apart, and a file that was edited is loaded anew.
    name = f"jetscale_user_{digest([str(path), path.read_bytes().hex()])}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # the path ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as problem:
        del sys.modules[name]
        raise ConfigError(
            f"cannot be loaded: {_cause(problem, path)}", where=str(path), cure="mend the file"
        ) from problem
    return module


def _cause(problem: Exception, path: Path) -> str:
    """The error and the last line of the file that it passed through."""
    lines = [frame.lineno for frame in traceback.extract_tb(problem.__traceback__) if frame.filename == str(path)]
    if isinstance(problem, SyntaxError) and problem.filename == str(path):
        lines.append(problem.lineno)
    said = problem.msg if isinstance(problem, SyntaxError) else str(problem)
    return f"{f'line {lines[-1]}: ' if lines else ''}{type(problem).__name__}: {said}"
