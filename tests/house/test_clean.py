"""ruff and mypy find nothing, and would find something."""

import subprocess
import sys

import pytest


def run(*command: str, cwd, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=cwd, input=text, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("command", [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)])
def test_clean(root, command):
    done = run(*command, cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_wants_types_and_docstrings(root):
    text = "def mass(p):\n    return p\n"
    done = run("ruff", "check", "--stdin-filename", "jetscale/planted.py", "-", cwd=root, text=text)
    assert all(rule in done.stdout for rule in ("ANN001", "ANN201", "D103", "D100"))
