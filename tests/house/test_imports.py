"""Which way imports may go: the table, read off every file, and shown to bite."""

import ast
import graphlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FLOOR = {"config", "errors"}
PURE = {"physics", "nn", "metrics", "keyed"}
TABLES = {"schema", "own", "events", "labels"}
NOUNS = {"task", "aggregates", "derive", "kinds", "reweight", "stream", "run", "axes", "study", "tagging", "tagger"}
BELOW = FLOOR | PURE | TABLES | NOUNS | {"jetscale", "shape", "terminal", "userfile", "lock"}

MAY: dict[str, set[str]] = {
    "errors": set(),
    "config": {"errors"},
    "terminal": FLOOR,
    "shape": FLOOR,
    "keyed": set(),
    "physics": FLOOR | {"keyed"},
    "metrics": FLOOR | {"schema"},
    "nn": FLOOR | {"physics", "keyed"},
    "schema": FLOOR,
    "labels": {"errors"},
    "tagging": {"metrics"},
    "own": {"errors", "schema"},
    "events": FLOOR | {"schema", "own"},
    "userfile": FLOOR,
    "lock": FLOOR,
    "task": FLOOR | PURE | TABLES | {"userfile"},
    "aggregates": {"labels", "schema", "task"},
    "tagger": FLOOR | PURE | TABLES | {"task", "aggregates", "tagging"},
    "derive": FLOOR | TABLES | {"userfile"},
    "reweight": FLOOR | TABLES | {"derive"},
    "kinds": FLOOR | TABLES | {"keyed", "derive", "reweight"},
    "stream": FLOOR | TABLES | {"keyed", "derive", "kinds"},
    "run": FLOOR | TABLES | {"shape", "task", "derive", "stream"},
    "axes": FLOOR | TABLES | {"shape", "run", "stream"},
    "study": FLOOR | TABLES | {"shape", "run", "stream", "axes"},
    "systems": FLOOR | PURE | TABLES | NOUNS,
    "data": BELOW,
    "train": BELOW | {"data"},
    "evaluate": BELOW | {"data", "train"},
    "sweep": BELOW | {"data", "train", "evaluate"},
    "conduct": BELOW | {"data", "train", "evaluate", "sweep"},
    "audit": BELOW | {"data", "train", "evaluate", "sweep"},
    "doctor": BELOW | {"data"},
    "quickstart": BELOW | {"data", "train", "evaluate", "sweep"},
    "bench": BELOW | {"data", "train", "evaluate", "sweep"},
    "cli": BELOW | {"data", "train", "evaluate", "sweep", "conduct", "audit", "doctor", "quickstart", "bench"},
    "jetscale": FLOOR | TABLES | NOUNS,
}

# Heavy libraries, and the only modules (or rooms) that may touch them.
LIBRARIES: dict[str, set[str]] = {
    "ray": {"data", "train", "evaluate", "sweep", "doctor", "bench"},
    "deepspeed": {"train.engine", "doctor", "bench.smallest"},
    "wandb": {"train"},
    "tensorboardX": {"train"},
    "optuna": {"sweep"},
    "matplotlib": {"evaluate", "sweep", "conduct", "audit"},
    "mplhep": {"evaluate", "sweep", "conduct", "audit"},
    "pythia8mc": {"data"},
    "fastjet": {"data"},
    "h5py": {"data"},
    "onnx": {"evaluate.onnx"},
    "onnxruntime": {"evaluate.onnx"},
    "weaver": {"bench.weaver"},
}


def modules(root: Path) -> dict[str, Path]:
    """Dotted name below jetscale -> file; the package itself is ''."""
    found = {}
    for file in sorted((root / "jetscale").rglob("*.py")):
        parts = file.relative_to(root / "jetscale").with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imported(file: Path) -> set[str]:
    """Every module that a file may import, wherever in it the import stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in {
            "import_module", "__import__"}:  # fmt: skip
            found.add("(by name)")
    return found


def room(module: str) -> str:
    return module.partition(".")[0] or "jetscale"


def inside(target: str, known: dict[str, Path]) -> str | None:
    """The module of this package that an imported dotted name lies in, or None for another package's."""
    parts = target.split(".")
    if parts[0] != "jetscale":
        return None
    while len(parts) > 1 and ".".join(parts[1:]) not in known:
        parts.pop()
    return ".".join(parts[1:])


def violations(root: Path) -> list[str]:
    known = modules(root)
    found = []
    for module, file in known.items():
        here = room(module)
        if here not in MAY:
            found.append(f"{here}: a room that the table does not know")
            continue
        for target in imported(file):
            found += [f"{module or 'jetscale'}: {what}" for what in crossing(module, here, target, known)]
    return found


def crossing(module: str, here: str, target: str, known: dict[str, Path]) -> list[str]:
    if target == "(by name)":
        return [] if module == "task" else ["imports a module by its name"]
    library = target.partition(".")[0]
    if library in LIBRARIES and not {here, module} & LIBRARIES[library]:
        return [f"imports {library}"]
    to = inside(target, known)
    if to is None or (module == "task" and to == "systems"):  # the folder is the list of systems
        return []
    if room(to) == "systems":
        return ["imports a system"]
    return [] if room(to) == here or room(to) in MAY[here] else [f"imports {to or 'jetscale'}"]


def test_imports_go_one_way(root):
    assert violations(root) == []


def test_no_module_imports_itself_in_a_circle(root):
    known = modules(root)
    graph = {
        module: {to for target in imported(file) if (to := inside(target, known)) is not None and to != module}
        for module, file in known.items()
    }
    graph["task"] = graph.get("task", set()) - {"systems"}
    list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize(
    ("file", "line", "found"),
    [
        ("physics/planted.py", "from jetscale.train import engine", "physics.planted: imports train"),
        ("physics/planted.py", "def f():\n    from jetscale import events", "physics.planted: imports events"),
        ("nn/planted.py", "import ray.data", "nn.planted: imports ray"),
        ("train/planted.py", "import deepspeed", "train.planted: imports deepspeed"),
        ("train/planted.py", "from jetscale.systems import planted", "train.planted: imports a system"),
        ("systems/planted.py", "import jetscale.systems.other", "systems.planted: imports a system"),
        ("data/planted.py", "import jetscale.evaluate", "data.planted: imports evaluate"),
        ("data/planted.py", "import importlib\nimportlib.import_module('x')", "data.planted: imports a module by"),
        ("helpers/planted.py", "", "helpers: a room that the table does not know"),
    ],
)
def test_the_table_bites(root, tmp_path, file, line, found):
    shutil.copytree(root / "jetscale", tmp_path / "jetscale", ignore=shutil.ignore_patterns("sample", "__pycache__"))
    for room_of_target in ("train", "evaluate", "systems", "data"):
        (tmp_path / "jetscale" / room_of_target).mkdir(exist_ok=True)
        (tmp_path / "jetscale" / room_of_target / "__init__.py").touch()
    planted = tmp_path / "jetscale" / file
    planted.parent.mkdir(exist_ok=True)
    planted.write_text(line)
    assert any(one.startswith(found) for one in violations(tmp_path))


def test_every_library_is_declared(root, project):
    extras = project["project"]["optional-dependencies"]
    of_extras = (name for extra in ("mc", "export", "formats", "weaver") for name in extras[extra])
    wanted = [*project["project"]["dependencies"], *of_extras]
    declared = {re.split(r"[\[<>=~! ]", name)[0].lower() for name in wanted}
    provides = importlib.metadata.packages_distributions()
    missing = set()
    for module, file in modules(root).items():
        tops = (
            {target.partition(".")[0] for target in imported(file)}
            - {"jetscale", "(by name)"}
            - sys.stdlib_module_names
        )
        missing |= {
            f"{module}: {top}" for top in tops if not {name.lower() for name in provides.get(top, [])} & declared
        }
    assert missing == set()


def test_importing_jetscale_and_every_system_loads_nothing_heavy(root):
    names = [name for name in modules(root) if room(name) in {"jetscale", "systems", "task", "run", "stream"}]
    code = (
        "import importlib, sys\n"
        f"for name in {names}: importlib.import_module(('jetscale.' + name).rstrip('.'))\n"
        f"print([name for name in {sorted(LIBRARIES)} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.stdout.strip() == "[]"
