"""The first screen of README: two commands, each one line that does all the set-up."""

import re
import subprocess

import pytest


def one_liners(text: str) -> list[str]:
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [block.strip() for block in blocks if "install" in block]


@pytest.fixture
def first_screen(root) -> str:
    return "\n".join((root / "README.md").read_text().splitlines()[:40])


@pytest.mark.parametrize("word", ["jetscale quickstart", "pytest"])
def test_one_line_installs_the_tested_set_and_runs(first_screen, word):
    (command,) = [one for one in one_liners(first_screen) if word in one]
    assert "\n" not in command
    assert "-c cluster/constraints.txt" in command


def test_ci_takes_the_command_from_the_readme(root):
    done = subprocess.run(["bash", ".ci/run", "--show"], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() in one_liners((root / "README.md").read_text())
    assert "pytest" in done.stdout
