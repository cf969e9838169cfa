"""A run's folder, and the weights in it.

run.yaml        the resolved run; it can be run again
data.json       samples with their fingerprints and counts, and the digest that names the run
log.jsonl       one line per logged step and validation
checkpoints/step-00000000/   weights.safetensors, at.json, COMPLETE
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from jetscale.errors import TrainError
from jetscale.events import write_text
from jetscale.run import Run, read
from jetscale.task import At
from jetscale.train import exported
from jetscale.train.engine import load_weights

COMPLETE = "COMPLETE"


def save(out: Path, weights: Mapping[str, Tensor], at: At, figures: Mapping[str, float]) -> Path:
    """Write a checkpoint beside, mark it complete, rename it into place."""
    final = out / "checkpoints" / f"step-{at.step:08d}"
    beside = final.with_name(f".{final.name}.{os.getpid()}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, beside / "weights.safetensors")
    (beside / "at.json").write_text(json.dumps({**at._asdict(), "figures": dict(figures)}) + "\n")
    (beside / COMPLETE).touch()
    shutil.rmtree(final, ignore_errors=True)
    os.replace(beside, final)
    return final


def is_complete(out: Path) -> bool:
    """Whether a run has been trained to its end in this folder."""
    return (out / "run.yaml").is_file() and any(out.glob(f"checkpoints/step-*/{COMPLETE}"))


def newest(out: Path) -> Path:
    """The last complete checkpoint of a run's folder.

    Raises:
        TrainError: there is none.
    """
    found = sorted(path.parent for path in out.glob(f"checkpoints/step-*/{COMPLETE}"))
    if not found:
        raise TrainError("has no complete checkpoint", where=str(out), cure="train it first: jetscale train")
    return found[-1]


def load(out: Path) -> tuple[Run, nn.Module]:
    """A run and its trained network, in evaluation mode on the CPU.

    Raises:
        ConfigError: not the folder of a run.
        TrainError: no complete checkpoint, or weights that do not fit.
    """
    run = read(out)
    net = run.task.build(run.seed)
    start_from(net, out)
    return run, net.eval()


def load_start(out: Path) -> tuple[Run, nn.Module]:
    """A run and its network as it was before the first step."""
    run = read(out)
    return run, starting_net(run).eval()


def starting_net(run: Run) -> nn.Module:
    """Fresh weights, or those of the run that this one starts from."""
    net = run.task.build(run.seed)
    if run.start:
        start_from(net, Path(run.start))
    return net


def start_from(net: nn.Module, out: Path) -> None:
    """Put the weights of a trained run into a network."""
    file = out / exported.MODEL if exported.is_exported(out) else newest(out) / "weights.safetensors"
    load_weights(net, load_file(file), str(file))


def write_data(out: Path, values: Mapping[str, object]) -> None:
    """Keep what the run was made of."""
    write_text(out / "data.json", json.dumps(values, indent=1) + "\n")


def read_data(out: Path) -> dict[str, Any]:
    """What the run was made of: its name, its samples, all that its weights have been trained on.

    Raises:
        TrainError: not the folder of a run.
    """
    if exported.is_exported(out):
        return exported.read_data(out)
    file = out / "data.json"
    if not file.is_file():
        raise TrainError("is not the folder of a run: it has no data.json", where=str(out), cure="correct the path")
    values: dict[str, Any] = json.loads(file.read_text())
    return values
