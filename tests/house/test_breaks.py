"""Each promise has a patch that breaks it, and a test that notices."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("words", [("--check",), pytest.param((), marks=pytest.mark.slow)])
def test_breaks(root, words):
    command = [sys.executable, str(root / "tests" / "breaks" / "run.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
