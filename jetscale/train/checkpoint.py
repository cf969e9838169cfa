"""A run's folder, its checkpoints, and how a training goes on from one.

run.yaml        the resolved run: a job that can be run again
data.json       samples with their fingerprints and counts, and the digest that names the run
log.jsonl       one line per logged step and validation
checkpoints/step-00000120/
    weights.safetensors      parameters and buffers, whole
    memory-000.safetensors   what the optimiser remembers, each worker its share of the parameters; after a validation
                             of averaged weights also their running moments
    at.json                  step, figures, the best validation so far
    run.yaml                 the run that made it
    COMPLETE                 written last: every file with its size

Nothing in a checkpoint depends on the engine, its stage or the number of workers, and random numbers are functions of
the seed and the step: it can be gone on from with any of them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from jetscale.config import Config, build
from jetscale.errors import TrainError
from jetscale.events import write_text
from jetscale.run import Run, read
from jetscale.task import Fitted
from jetscale.train import exported
from jetscale.train.best import Watch
from jetscale.train.engine import Engine, load_weights
from jetscale.train.optimiser import AVERAGE

COMPLETE = "COMPLETE"
FOLDER, WEIGHTS, MEMORY, POINT = "checkpoints", "weights.safetensors", "memory-{:03d}.safetensors", "at.json"


class Point(Config):
    """Where a training stands after some steps: all that the next step needs beside weights and optimiser."""

    step: int = 0
    epoch: int = 0
    fraction: float = 0.0
    figures: dict[str, float | None] = Field({}, description="of the last validation; null where it cannot be formed")
    watch: Watch = Watch()
    dropped: dict[str, int] = Field({}, description="steps in which a loss term had no weight")
    ended: str | None = Field(None, description="horizon, early or stopped; null while the training is on its way")


def save(out: Path, engine: Engine, point: Point) -> Path:
    """Write a checkpoint: all workers beside, then its list of files, then a rename. Collective.

    Raises:
        TrainError: weights that are not finite, or workers that do not see the same folder.
    """
    world = engine.world
    final = _place(out, point.step)
    beside = final.with_name(f".{final.name}.part")
    if world.first:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
    world.wait()
    _write(beside, engine, point)
    world.wait()
    if world.first:
        _finish(beside, final)
        prune(out, engine.run.keep.last)
    return final


def _write(beside: Path, engine: Engine, point: Point) -> None:
    """This worker's part. Every worker goes through all collective operations before any of them may raise."""
    world = engine.world
    weights = engine.weights()
    kept = enumerate(chain(engine.memory(), engine.moments.items()))
    memory = {name: tensor.contiguous() for turn, (name, tensor) in kept if turn % world.size == world.rank}
    seen = world.gather(beside.is_dir())
    if not all(seen):
        raise TrainError(f"worker {seen.index(False)} does not see it", where=str(beside),
                         cure="give an --out on a file system that all nodes share")  # fmt: skip
    odd = sorted(name for name, tensor in weights.items() if not torch.isfinite(tensor).all())
    if odd:
        raise TrainError(f"the weights are not finite after step {point.step}: {odd[0]}, {len(odd)} of {len(weights)}",
                         where=engine.run.system, cure="lower optimiser.rate, or set optimiser.clip")  # fmt: skip
    save_file(memory, beside / MEMORY.format(world.rank))
    if world.first:
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, beside / WEIGHTS)
        (beside / POINT).write_text(json.dumps(point.values(), indent=1) + "\n")
        (beside / "run.yaml").write_text(engine.run.to_yaml())


def _finish(beside: Path, final: Path) -> None:
    sizes = {file.name: file.stat().st_size for file in sorted(beside.iterdir())}
    for name in sizes:
        with (beside / name).open("rb") as file:
            os.fsync(file.fileno())
    (beside / COMPLETE).write_text(json.dumps(sizes) + "\n")
    shutil.rmtree(final, ignore_errors=True)
    os.replace(beside, final)


def prune(out: Path, last: int) -> None:
    """Remove all checkpoints but the `last` newest and the best, and what a killed worker has left half done."""
    whole = every(out)
    # Each of those that stay may be gone on from, and then the best one that it knows counts.
    kept = {*whole[-last:], *(_place(out, _point(place).watch.step) for place in whole[-last:])}
    for place in (out / FOLDER).iterdir() if whole else ():
        if place not in kept and re.fullmatch(r"\.?step-\d{8}(\.part)?", place.name):
            shutil.rmtree(place, ignore_errors=True)


def every(out: Path) -> list[Path]:
    """A run's complete checkpoints, the oldest first."""
    return sorted(place for place in out.glob(f"{FOLDER}/step-*") if _is_whole(place))


def _is_whole(place: Path) -> bool:
    """Whether all files are there at their full length: on a shared disk a file may lag behind its name."""
    try:
        sizes = json.loads((place / COMPLETE).read_text())
        return all((place / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, json.JSONDecodeError):
        return False


def newest(out: Path) -> tuple[Path, Point] | None:
    """The last complete checkpoint of a run's folder, if there is one."""
    found = every(out)
    return (found[-1], _point(found[-1])) if found else None


def chosen(out: Path) -> Path:
    """The checkpoint whose weights the run ends with: the best one where the run asks for it, else the last.

    An exported run is its own.

    Raises:
        TrainError: there is none, or the training has not come to its end.
    """
    if exported.is_exported(out):
        return out
    found = newest(out)
    if found is None or found[1].ended is None:
        what = "has no complete checkpoint" if found is None else f"has only been trained to step {found[1].step}"
        raise TrainError(what, where=str(out), cure="train it to its end: the same jetscale train once more")
    if not read(out).best or found[1].watch.figure is None:
        return found[0]
    best = _place(out, found[1].watch.step)
    if not _is_whole(best):
        raise TrainError("the best checkpoint is not whole", where=str(best), cure="remove the folder and train anew")
    return best


def ending(out: Path) -> Point:
    """Where the weights that the run ends with were: their step, and the figures of their validation."""
    return _point(chosen(out))


def is_complete(out: Path) -> bool:
    """Whether a run has been trained to its end in this folder."""
    found = newest(out) if (out / "run.yaml").is_file() else None
    return found is not None and found[1].ended is not None


def go_on(engine: Engine, place: Path, point: Point) -> None:
    """Give an engine, whose network already has the weights, the optimiser's memory of a checkpoint."""
    engine.remember(_Memory(place), point.step)
    engine.dropped = dict(point.dropped)


class _Memory(Mapping[str, Tensor]):
    """The tensors in all workers' parts, each read when it is asked for."""

    def __init__(self, place: Path) -> None:
        self.files = {}
        for file in sorted(place.glob(MEMORY.replace("{:03d}", "*"))):
            with safe_open(file, framework="pt") as part:
                self.files.update(dict.fromkeys(part.keys(), file))

    def __getitem__(self, name: str) -> Tensor:
        with safe_open(self.files[name], framework="pt") as part:
            tensor: Tensor = part.get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


def _place(out: Path, step: int) -> Path:
    return out / FOLDER / f"step-{step:08d}"


def _point(place: Path) -> Point:
    file = place / POINT
    return build(Point, json.loads(file.read_text()), str(file))


def load(out: Path) -> tuple[Run, nn.Module]:
    """A run and its trained network, in evaluation mode on the CPU.

    Raises:
        ConfigError: not the folder of a run.
        TrainError: not trained to its end, or weights that do not fit.
    """
    run = read(out)
    net = run.task.build(run.seed, run.task.neutral())
    end_with(net, chosen(out))
    return run, net.eval()


def load_start(out: Path) -> tuple[Run, nn.Module]:
    """A run and its network as it was before the first step."""
    run = read(out)
    net = starting_net(run, run.task.neutral())
    if run.task.needs():
        # The numbers that were fitted before the first step stand in the trained network.
        weights = load_file(_weights(chosen(out)))
        net.load_state_dict({name: weights[name] for name, _ in net.named_buffers()}, strict=False)
    return run, net.eval()


def starting_net(run: Run, fitted: Fitted) -> nn.Module:
    """Fresh weights and fitted numbers, or those of the run that this one starts from."""
    net = run.task.build(run.seed, run.task.neutral() if run.start else fitted)
    if run.start:
        end_with(net, chosen(Path(run.start)))
    return net


def start_from(net: nn.Module, place: Path) -> None:
    """Put the weights of a checkpoint into a network: those that its training goes on from."""
    file = _weights(place)
    load_weights(net, load_file(file), str(file))


def end_with(net: nn.Module, place: Path) -> None:
    """Put what was validated into a network: the averages and their moments, where there are any."""
    file, memory = _weights(place), _Memory(place)
    averages = {name.removeprefix(f"{AVERAGE}/"): memory[name] for name in memory if name.startswith(f"{AVERAGE}/")}
    load_weights(net, load_file(file) | averages, str(file))


def _weights(place: Path) -> Path:
    return place / (exported.MODEL if exported.is_exported(place) else WEIGHTS)


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
