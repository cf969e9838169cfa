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


def test_what_is_linked_to_exists(root):
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", (root / "README.md").read_text())
    local = [target for target in targets if "://" not in target]
    assert local, "README has no link at all"
    assert [target for target in local if not (root / target).exists()] == []


def test_python_in_the_readme_compiles_and_names_what_there_is(root):
    blocks = re.findall(r"^```python\n(.*?)^```", (root / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        imports = [line for line in block.splitlines() if line.startswith(("import ", "from "))]
        exec("\n".join(imports), {})  # noqa: S102
        compile(block, "README.md", "exec")


def test_what_is_to_be_installed_is_the_clone(root):
    commands = re.findall(r"pip install [^`\n]+", (root / "README.md").read_text())
    assert len(commands) >= 4
    assert [one for one in commands if "jetscale[" in one or "-c cluster/constraints.txt" not in one] == []
