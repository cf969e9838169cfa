"""What stands where, how long it may be, and which words stand nowhere."""

import ast
import re
from pathlib import Path

import pytest

TOP = {"pyproject.toml", "jetscale", "cluster", "jobs", "tests", "README.md", "LICENSE"}
NO_NAMES = {"util", "utils", "common", "helper", "helpers", "misc", "base", "core", "manager"}
NO_ENDINGS = ("_old", "_new", "_v2")
# Put together from pieces, so that this file does not hold what it looks for.
NO_WORDS = re.compile(
    "|".join(
        [
            r"(?<![\w.~])/(?:" + "work|ro" + r"ot|home)/\w",
            r"\bshe" + r"ets? [A-Z0-9]",
            r"\btalk 0" + r"\d\d",
            r"\bfound" + r"ers?\b",
            r"\bTO" + r"DO\b",
            r"\bFIX" + r"ME\b",
        ]
    ),
    re.IGNORECASE,
)


def functions(file: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    nodes = ast.walk(ast.parse(file.read_text()))
    return [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def too_long(file: Path) -> list[str]:
    length = len(file.read_text().splitlines())
    found = [f"{file.name}: {length} lines"] if length > 500 else []
    for node in functions(file):
        lines = (node.end_lineno or 0) - node.lineno + 1
        if lines > 60:
            found.append(f"{file.name}: {node.name} has {lines} lines")
    return found


def badly_named(path: Path) -> bool:
    names = [Path(part).stem for part in path.parts]
    return any(name in NO_NAMES or name.endswith(NO_ENDINGS) for name in names)


def test_the_visible_top_level(files):
    assert {path.parts[0] for path in files if not path.parts[0].startswith(".")} == TOP


def test_budgets(root, files):
    assert [line for path in files if path.suffix == ".py" for line in too_long(root / path)] == []


def test_budgets_bite(tmp_path):
    long = tmp_path / "long.py"
    long.write_text("def long():\n" + "    pass\n" * 500)
    assert too_long(long) == ["long.py: 501 lines", "long.py: long has 501 lines"]


def test_no_room_without_a_name(files):
    assert [path for path in files if badly_named(path)] == []


@pytest.mark.parametrize("name", ["jetscale/utils.py", "jetscale/core/x.py", "jetscale/nn/sets_v2.py"])
def test_names_bite(name):
    assert badly_named(Path(name))


def test_the_project_speaks_of_itself_alone(root, files):
    found = []
    for path in files:
        if path.suffix in {".parquet", ".png"}:
            continue
        for number, line in enumerate((root / path).read_text().splitlines(), 1):
            found += [f"{path}:{number}: {line.strip()[:80]}"] if NO_WORDS.search(line) else []
    assert found == []


@pytest.mark.parametrize("line", ["see /" + "work/shared", "as she" + "et 25 says", "# TO" + "DO later"])
def test_words_bite(line):
    assert NO_WORDS.search(line)
