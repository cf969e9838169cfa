"""Exporting: a trained run as a small folder that can be moved, scored with, and read by other programs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NamedTuple

from jetscale.errors import TrainError
from jetscale.evaluate import onnx
from jetscale.events import write_text
from jetscale.train import checkpoint, exported
from jetscale.train.own import keep

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
        write_text(beside / RUN, keep(run, beside).to_yaml())
        agreement = onnx.write(run, net, beside / ONNX, data["run"]) if with_onnx else None
        shutil.rmtree(out, ignore_errors=True)
        os.replace(beside, out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return Exported(out, agreement)


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
