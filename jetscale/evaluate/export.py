"""Exporting: a trained run as a small folder that can be moved, scored with, and read by other programs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NamedTuple

from jetscale.config import Values, dump_yaml
from jetscale.errors import TrainError
from jetscale.evaluate import onnx
from jetscale.events import write_text
from jetscale.run import Run
from jetscale.train import checkpoint, exported

ONNX = "model.onnx"
RUN = "run.yaml"


class Exported(NamedTuple):
    """The folder, and how far the ONNX file in it agrees with torch; None without one."""

    folder: Path
    agreement: onnx.Agreement | None


def export(run_dir: Path, out: Path, *, with_onnx: bool = True) -> Exported:
    """Write `model.safetensors`, `run.yaml` and `model.onnx` of a trained run into a folder; an older export goes.

    Raises:
        TrainError: a folder with other things in it, a run without weights, an ONNX graph that differs from torch.
    """
    run, net = checkpoint.load(run_dir)
    data = checkpoint.read_data(run_dir)
    out = out.absolute()
    _refuse(out, data["run"])
    beside = out.with_name(f".{out.name}.{os.getpid()}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        exported.write(beside, net.state_dict(), data)
        write_text(beside / RUN, dump_yaml(_portable(run, beside)))
        agreement = onnx.write(run, net, beside / ONNX, data["run"]) if with_onnx else None
        shutil.rmtree(out, ignore_errors=True)
        os.replace(beside, out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return Exported(out, agreement)


def _portable(run: Run, folder: Path) -> Values:
    """The resolved run, with copies of a user's own files in the folder and their bare names in the run."""
    values, copied = run.values(), dict[str, str]()
    if run.system.endswith(".py"):
        values["system"] = _copied(run.system, folder, copied)
    for column in values["stream"]["derive"].values():
        file, colon, name = column["by"].rpartition(":")
        if file:
            column["by"] = f"{_copied(file, folder, copied)}{colon}{name}"
    return values


def _copied(file: str, folder: Path, copied: dict[str, str]) -> str:
    name = Path(file).name
    if copied.setdefault(name, file) != file:
        raise TrainError(f"two files are called {name!r}", where=f"{copied[name]}, {file}", cure="rename one of them")
    shutil.copyfile(file, folder / name)
    return name


def _refuse(out: Path, run: str) -> None:
    """Only an empty folder, or one that holds an export of this very run, may be written to."""
    if not out.is_dir():
        return
    ours = exported.is_exported(out)
    known = {exported.MODEL, RUN, ONNX} if ours else set[str]()
    others = sorted(path.name for path in out.iterdir() if path.name not in known and not (ours and _is_own(path)))
    if others:
        raise TrainError(f"holds {others[0]!r}, which is no export", where=str(out), cure="choose another --out")
    if ours and exported.read_data(out)["run"] != run:
        raise TrainError("holds the export of another run", where=str(out),
                         cure="choose another --out, or remove this folder")  # fmt: skip


def _is_own(path: Path) -> bool:
    """Whether a file stands in the exported run that lies beside it, as a user's own."""
    run = path.with_name(RUN)
    return path.suffix == ".py" and run.is_file() and path.name in run.read_text()
