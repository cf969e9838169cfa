"""Break each promise on purpose, in a copy of the tree, and see the test that guards it go red.

    python tests/breaks/run.py              all patches
    python tests/breaks/run.py NAME...      some of them
    python tests/breaks/run.py --check      only that each applies and says what it breaks

A patch begins with two comments, `# promise: ...` and `# test: tests/...::name`; below them stands a diff.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__", "*.egg-info", "build", "dist", "out")
FAILED = 1  # pytest's own code for "tests ran and some failed"; an error while collecting is another


class Break(NamedTuple):
    """A patch, the promise it breaks and the test that must notice."""

    file: Path
    promise: str
    test: str

    @property
    def name(self) -> str:
        return self.file.stem


def read(file: Path) -> Break:
    """The two comments on top of a patch."""
    said = dict(re.findall(r"^# (promise|test): (.+)$", file.read_text(), re.MULTILINE))
    missing = {"promise", "test"} - said.keys()
    if missing:
        raise SystemExit(f"{file.name} does not say: {', '.join(sorted(missing))}")
    return Break(file, said["promise"], said["test"])


def copy(place: Path) -> Path:
    """The tree as it is now, without its history."""
    return Path(shutil.copytree(ROOT, place / "tree", ignore=LEFT_OUT))


def apply(one: Break, tree: Path, *how: str) -> bool:
    """Whether the patch fits; says on stderr where it does not."""
    done = subprocess.run(["git", "apply", *how, str(one.file)], cwd=tree, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{one.name}: does not apply: {done.stderr.strip()}", file=sys.stderr)
    return done.returncode == 0


def pytest(tree: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """Run tests of a copy against the code of that copy, whatever their markers."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "", *tests]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)


def whole(breaks: list[Break]) -> bool:
    """Whether every named test is green before anything is broken."""
    with tempfile.TemporaryDirectory() as place:
        done = pytest(copy(Path(place)), *dict.fromkeys(one.test for one in breaks))
    if done.returncode:
        print(done.stdout[-3000:], "the tests must be green before they can go red", sep="\n", file=sys.stderr)
    return done.returncode == 0


def goes_red(one: Break) -> bool:
    """Break the promise in a fresh copy and run its test."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        tree = copy(Path(place))
        if not apply(one, tree):
            return False
        done = pytest(tree, one.test)
    verdict = {FAILED: "red", 0: "STAYED GREEN"}.get(done.returncode, "BROKE DOWN")
    print(f"{verdict:<12}  {one.name:<32}  {one.test}  ({time.monotonic() - start:.0f} s)", flush=True)
    if verdict == "BROKE DOWN":
        print(done.stdout[-2000:], done.stderr[-1000:], sep="\n", file=sys.stderr)
    return verdict == "red"


def fit(breaks: list[Break]) -> bool:
    """Whether every patch applies to the tree of today; none of them is left in the copy."""
    with tempfile.TemporaryDirectory() as place:
        tree = copy(Path(place))
        verdicts = [apply(one, tree, "--check") for one in breaks]
    return all(verdicts)


def main(words: list[str]) -> int:
    """0 if every promise that was broken turned its test red."""
    names = [word for word in words if not word.startswith("-")]
    breaks = [read(file) for file in sorted(HERE.glob("*.patch")) if not names or file.stem in names]
    if not breaks:
        print(f"no such patch: {' '.join(names)}", file=sys.stderr)
        return 2
    if "--check" in words:
        return int(not fit(breaks))
    verdicts = [goes_red(one) for one in breaks] if whole(breaks) else [False]
    return int(not all(verdicts))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
