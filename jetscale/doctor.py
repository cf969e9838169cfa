"""What this machine can do, and what to do about what is missing."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import netrc
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from jetscale.data.ingest.remote import PACKAGES
from jetscale.errors import JetscaleError
from jetscale.shape import built_in, shape
from jetscale.terminal import Terminal

TESTED_PYTHON = "3.11"
GIB = 1 << 30
ENOUGH_MEMORY = 4 * GIB
ENOUGH_DISK = 2 * GIB
ENOUGH_SHM = GIB // 2
INSTALL = "pip install -c cluster/constraints.txt . in the clone, for the tested set"
RAY_CURE = (
    "stop other clusters (ray stop), free /dev/shm and the disk, and read the newest logs of Ray's session folder"
)


class Finding(NamedTuple):
    """One thing looked at. `broken` means that the quickstart cannot run."""

    subject: str
    verdict: Literal["good", "note", "broken"]
    found: str
    cure: str = ""


def examine(terminal: Terminal, quick: bool) -> list[Finding]:
    """Look at everything; what the libraries print meanwhile goes to a file. `quick` does not start Ray."""
    findings = [_python(), *_versions(), *_machine(), _folder(), _monte_carlo(), _remote(), _wandb()]
    with tempfile.TemporaryDirectory() as place, terminal.logs_to(Path(place) / "output.log"):
        with terminal.stage("asking DeepSpeed for accelerators", about_s=5):
            findings.append(_survived("accelerator", _accelerator, INSTALL))
        if not quick:
            with terminal.stage("starting Ray", about_s=20):
                findings.append(_survived("Ray", _ray, RAY_CURE))
    return findings


def _survived(subject: str, look: Callable[[], Finding], cure: str) -> Finding:
    """What was found, or what ended the look: a library that cannot even be loaded is a finding like another."""
    try:
        return look()
    except Exception as problem:
        what = problem.what if isinstance(problem, JetscaleError) else f"{type(problem).__name__}: {problem}"
        return Finding(subject, "broken", what.strip().splitlines()[0], cure)


def _python() -> Finding:
    have = platform.python_version()
    if have.startswith(f"{TESTED_PYTHON}."):
        return Finding("Python", "good", have)
    return Finding(
        "Python", "note", f"{have} (tested {TESTED_PYTHON})", f"use Python {TESTED_PYTHON} if anything fails"
    )


def _versions() -> Iterator[Finding]:
    """What is installed, beside the ranges of the package and the tested set."""
    try:
        texts = importlib.metadata.requires("jetscale") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("versions", "note", "jetscale runs from a clone, not installed", "pip install -e .")
        return
    wanted = [one for one in map(Requirement, texts) if one.marker is None or one.marker.evaluate({"extra": ""})]
    bad = [one for one in wanted if not one.specifier.contains(_installed(one.name), prereleases=True)]
    for one in bad:
        yield Finding(
            "versions",
            "broken",
            f"{one.name} {_installed(one.name)} is outside {one.specifier}",
            f"pip install '{one}'",
        )
    tested = _tested()
    have = {one.name: Version(_installed(one.name)).public for one in wanted if one not in bad}
    other = [f"{name} {version} (tested {tested[name]})" for name, version in have.items() if version != tested[name]]
    if other:
        yield Finding(
            "versions", "note", ", ".join(other), "install with -c cluster/constraints.txt for the tested set"
        )
    elif not bad:
        yield Finding("versions", "good", f"the tested set of {len(wanted)} libraries")


def _tested() -> dict[str, str]:
    text = (built_in("shapes").parent / "constraints.txt").read_text()
    pins = re.findall(r"^([\w.-]+)==(\S+)$", text, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in pins}


def _installed(name: str) -> str:
    """The version of a library, 0 for one that is absent."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "0"


def _machine() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Finding("cores", "good" if cores > 1 else "note", str(cores), "" if cores > 1 else "expect it to be slow")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    yield _enough("memory", memory, ENOUGH_MEMORY, "use a machine with more, or close other programs")
    yield _enough("disk here", shutil.disk_usage(Path.cwd()).free, ENOUGH_DISK, "free some, or use --out elsewhere")
    shm = Path("/dev/shm")
    if shm.is_dir():
        yield _enough("/dev/shm", shutil.disk_usage(shm).free, ENOUGH_SHM,
                      "enlarge it (docker run --shm-size=2g), or Ray keeps its objects on disk")  # fmt: skip


def _enough(subject: str, have: int, wanted: int, cure: str) -> Finding:
    text = f"{have / GIB:.1f} GiB"
    return Finding(subject, "good", text) if have >= wanted else Finding(subject, "note", text, cure)


def _folder() -> Finding:
    here = Path.cwd()
    try:
        with tempfile.TemporaryFile(dir=here):
            return Finding("folder", "good", f"{here} can be written to")
    except OSError as problem:
        return Finding("folder", "broken", f"{here}: {problem.strerror}", "go to a folder of your own, or use --out")


def _monte_carlo() -> Finding:
    missing = [name for name in ("pythia8mc", "fastjet") if importlib.util.find_spec(name) is None]
    if missing:
        return Finding("Monte Carlo", "note", f"{' and '.join(missing)} not installed",
                       "pip install -c cluster/constraints.txt '.[mc]' in the clone, needed for jetscale generate "
                       "only")  # fmt: skip
    return Finding("Monte Carlo", "good", "Pythia 8 and fastjet")


def _remote() -> Finding:
    modules = {name: package.replace("-", "_") for name, package in PACKAGES.items()}
    missing = [f"{name}://" for name, module in modules.items() if importlib.util.find_spec(module) is None]
    if missing:
        return Finding("remote files", "note", f"nothing reads {', '.join(missing)}",
                       "pip install -c cluster/constraints.txt '.[remote]' in the clone, needed for files at such URLs "
                       "only")  # fmt: skip
    return Finding("remote files", "good", ", ".join(f"{name}://" for name in PACKAGES))


def _wandb() -> Finding:
    """As the tracker has it: WANDB_MODE wins, else a key means online and none offline."""
    mode = os.environ.get("WANDB_MODE")
    key = bool(os.environ.get("WANDB_API_KEY")) or _key_in_netrc()
    if mode == "online" and not key:
        return Finding("W&B", "note", "WANDB_MODE is online, but there is no key", "wandb login, or unset WANDB_MODE")
    if mode:
        return Finding("W&B", "good", f"WANDB_MODE is {mode}, which wins over any key")
    if key:
        return Finding("W&B", "good", "a key is set: runs are sent online")
    return Finding("W&B", "note", "no key in WANDB_API_KEY or ~/.netrc: runs are kept offline",
                   "wandb login, or wandb sync FOLDER later")  # fmt: skip


def _key_in_netrc() -> bool:
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _accelerator() -> Finding:
    from deepspeed.accelerator import get_accelerator

    name = get_accelerator().device_name()
    if name == "cpu":
        return Finding("accelerator", "note", "none: trains on the CPU", "nothing, unless this machine has a GPU; then "
                       "install the torch build for its driver")  # fmt: skip
    return Finding("accelerator", "good", f"{get_accelerator().device_count()} x {name}")


def _ray() -> Finding:
    from jetscale.data.cluster import cluster

    with cluster(shape("laptop")):
        import ray

        return Finding("Ray", "good", f"starts, {ray.cluster_resources().get('CPU', 0):.0f} logical CPUs")
