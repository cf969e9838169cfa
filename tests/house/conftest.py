"""The tree that the house tests read: the clone that they lie in, not what is installed."""

import subprocess
import tomllib
from pathlib import Path

import pytest

IGNORED = {".git", ".venv", "__pycache__", "build", "dist", "out", "quickstart"}


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(__file__).parents[2]


@pytest.fixture(scope="session")
def files(root: Path) -> list[Path]:
    """Every file that is or could be committed, relative to the root."""
    git = ["git", "-C", str(root), "ls-files", "-co", "--exclude-standard"]
    listed = subprocess.run(git, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        found = {Path(name) for name in listed.stdout.splitlines()}
    else:  # a copy without its history
        found = {path.relative_to(root) for path in root.rglob("*")}
    kept = [path for path in found if not IGNORED & set(path.parts) and not path.name.endswith(".egg-info")]
    return sorted(path for path in kept if (root / path).is_file())


@pytest.fixture(scope="session")
def project(root: Path) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text())
