"""What is learned from a batch: the Task, the Batch it sees, and how a system is found by its name.

Tensor names carry their shape, one legend for the whole project:
B event (row of a batch), J jet, P particle, C feature, K class, H hidden, N neighbour, T tree step, 4 (E, px, py, pz).
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import ClassVar, NamedTuple

import pyarrow as pa
import torch
from torch import Tensor, nn

from jetscale import userfile
from jetscale.config import Config, Values
from jetscale.errors import ConfigError, nearest
from jetscale.keyed import mix, uniform
from jetscale.schema import Schema


class At(NamedTuple):
    """Where the training is: the step about to be made, its first row's epoch, the done share of the horizon."""

    step: int
    epoch: int
    fraction: float


@dataclass(frozen=True)
class Batch:
    """Padded columns of some rows, and where and when these rows are seen.

    `columns` holds (B,) tensors for event columns and (B, J) for those of a collection; padded entries are 0 and
    `masks[collection]` (B, J) is True where an entry is real. `weight_B` is the training weight.
    """

    columns: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]
    weight_B: Tensor
    lane_B: Tensor
    row_B: Tensor
    at: At
    seed: int

    def __getitem__(self, name: str) -> Tensor:
        return self.columns[name]

    def __len__(self) -> int:
        return self.weight_B.shape[0]

    def mask(self, collection: str) -> Tensor:
        return self.masks[collection]

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return replace(
            self,
            columns={name: tensor.to(device) for name, tensor in self.columns.items()},
            masks={name: tensor.to(device) for name, tensor in self.masks.items()},
            weight_B=self.weight_B.to(device),
            lane_B=self.lane_B.to(device),
            row_B=self.row_B.to(device),
        )

    def noise(self, *shape: int) -> Tensor:
        """Uniform numbers in (0, 1), (B, *shape) float32.

        Each is a function of (seed, step, lane, row in the lane, index) alone: neither the padding nor the number of
        workers changes it.
        """
        key = mix(mix(torch.full_like(self.lane_B, self.seed)) + self.at.step)
        key = mix(mix(key + self.lane_B) + self.row_B)
        for size in shape:
            key = mix(key[..., None] + torch.arange(size, device=key.device))
        return uniform(key).to(torch.float32).clamp(1e-7, 1.0 - 1e-7)


class Aggregate(ABC):
    """Numbers that are fitted once over the training part: a mean, a histogram. Abstract; see jetscale.aggregates.

    They become buffers of the network, so that they travel with its weights. `names` says what each entry of `odd`
    counts.
    """

    names: Sequence[str]

    @abstractmethod
    def sums(self, batch: Batch) -> dict[str, Tensor]:
        """What a batch contributes, float64: these add up over batches. `odd` counts values that cannot be used,
        `weight` says how much there is."""

    def refusals(self, sums: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
        """What is wrong with the sums over the whole training part, and what can be done about it."""
        for what, odd in zip(self.names, sums["odd"].tolist(), strict=True):
            if odd:
                yield (
                    f"{odd:g} values of {what!r} cannot be used",
                    "leave these rows out with stream.select, or mend them",
                )
        if not sums["weight"].sum() > 0.0:
            yield "the training part has no weight", "see the weights in stream.samples"

    @abstractmethod
    def numbers(self, sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What follows from the sums over the whole training part, float32."""

    @abstractmethod
    def neutral(self) -> dict[str, Tensor]:
        """Numbers of the right shapes, for a network whose buffers are about to be loaded."""


Fitted = Mapping[str, Mapping[str, Tensor]]
NOTHING: Fitted = {}


class Task(Config):
    """What a network must do with a batch. Abstract; every system's Task is final.

    A loss is named terms per row, `{term: value_B}`, with weights known before any forward pass, `{term: weight_B}`;
    the loop divides each term by its own weight sum over the whole step. `loss` and `score` call only `net(...)`,
    never its parts, so that sharded parameters are gathered. `TRUTH` says what to do where a term never has a weight.
    """

    TRUTH: ClassVar[str] = "train on samples that hold the truth of this term"

    @property
    @abstractmethod
    def columns(self) -> Schema:
        """What a batch must hold: one schema for all tasks of a class (a ClassVar), or one that its settings decide."""

    @property
    @abstractmethod
    def outputs(self) -> Schema:
        """What scoring adds, likewise."""

    def needs(self) -> Mapping[str, Aggregate]:
        """What must be fitted over the training part before a network can be built, by name."""
        return {}

    def neutral(self) -> Fitted:
        """Numbers for a network that is built in order to be loaded."""
        return {name: aggregate.neutral() for name, aggregate in self.needs().items()}

    @abstractmethod
    def build(self, seed: int, fitted: Fitted = NOTHING) -> nn.Module:
        """The network with fresh weights, the same for the same seed; `fitted` holds the numbers of each need."""

    @abstractmethod
    def weights(self, batch: Batch) -> dict[str, Tensor]:
        """Weight of each row in each term, `{term: (B,)}`."""

    @abstractmethod
    def loss(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Value of each row in each term, `{term: (B,)}`, float32."""

    @abstractmethod
    def score(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The columns of `outputs` to add to the table: (B,), or (B, J) padded for a collection's."""

    def judge(self, net: nn.Module, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Loss and score, as validation wants both: a task for which one forward pass is enough does no more."""
        return self.loss(net, batch), self.score(net, batch)

    @abstractmethod
    def figures(self, scored: pa.Table) -> dict[str, float]:
        """Metrics of a scored table by name: what validation prints and early stopping may use."""

    @abstractmethod
    def toy(self, n: int, seed: int) -> pa.Table:
        """Small made-up events that this task can be tried on, with the columns it needs."""


class System(NamedTuple):
    """A file of `systems/`, or a user's own: its Task and its recipe."""

    name: str
    task: type[Task]
    recipe: Callable[[], Values]
    doc: str


def names() -> tuple[str, ...]:
    """The systems that ship: the folder is the list."""
    import jetscale.systems

    return tuple(sorted(module.name for module in pkgutil.iter_modules(jetscale.systems.__path__)))


def find(name: str) -> System:
    """The system of a name, or of a path to a user's own file.

    Raises:
        ConfigError: no such system or file, or a file that is not a system.
    """
    module = userfile.load(Path(name)) if name.endswith(".py") else _from_folder(name)
    tasks = [
        kind
        for kind in vars(module).values()
        if inspect.isclass(kind) and issubclass(kind, Task) and kind.__module__ == module.__name__
    ]
    if len(tasks) != 1 or not callable(getattr(module, "recipe", None)):
        raise ConfigError(f"has {len(tasks)} Task classes and must have one, and a function recipe()", where=name,
                          cure="see jetscale/systems/assigner.py")  # fmt: skip
    return System(name, tasks[0], module.recipe, inspect.getdoc(module) or "")


def _from_folder(name: str) -> ModuleType:
    if name not in names():
        raise ConfigError(f"no system {name!r}", where="system", cure=nearest(name, names()))
    return importlib.import_module(f"jetscale.systems.{name}")
