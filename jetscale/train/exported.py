"""An exported run: two files that hold all that scoring needs, wherever they are moved to.

model.safetensors   the weights; its metadata holds what data.json holds: the run's name, samples, what was trained on
run.yaml            the resolved run, as a job
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from jetscale.errors import TrainError

MODEL = "model.safetensors"
KEY = "jetscale"


def is_exported(folder: Path) -> bool:
    """Whether a folder holds an exported run rather than one that was trained there."""
    return (folder / MODEL).is_file()


def write(folder: Path, weights: Mapping[str, Tensor], data: Mapping[str, object]) -> Path:
    """Write the weights, and what the run was made of, into one file of a folder that is nobody else's yet."""
    file = folder / MODEL
    tensors = {name: tensor.contiguous() for name, tensor in weights.items()}
    # Not save_file: what it writes can be read by its owner alone.
    file.write_bytes(save(tensors, metadata={"format": "pt", KEY: json.dumps(data)}))
    return file


def read_data(folder: Path) -> dict[str, Any]:
    """What the run was made of.

    Raises:
        TrainError: a file that is damaged, or that jetscale has not written.
    """
    file = folder / MODEL
    try:
        with safe_open(file, framework="pt") as opened:
            said = (opened.metadata() or {}).get(KEY)
    except SafetensorError as problem:
        raise TrainError(f"cannot be read: {problem}", where=str(file), cure="export the run anew") from None
    if said is None:
        raise TrainError("does not say which run it is", where=str(file), cure="write it with jetscale export")
    values: dict[str, Any] = json.loads(said)
    return values
