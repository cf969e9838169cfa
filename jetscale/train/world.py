"""The world a training runs in: which worker this is, of how many, on which device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from jetscale.train.rungs import Rungs


@dataclass(frozen=True)
class World:
    """One worker's view; collective operations are no-ops when it is alone."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")
    rungs: Rungs | None = None  # of a trial that may be stopped before its end

    @property
    def first(self) -> bool:
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all workers, on every one of them."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def gather(self, thing: Any) -> list[Any]:
        """Every worker's thing, on every one of them, by rank."""
        if self.size == 1:
            return [thing]
        things: list[Any] = [None] * self.size
        dist.all_gather_object(things, thing)
        return things

    def go_on(self, epoch: float) -> bool:
        """Whether the training goes on after the validation at an epoch; the same on every worker."""
        if self.rungs is None:
            return True
        return bool(self.gather(self.first and self.rungs.go_on(epoch))[0])

    def wait(self) -> None:
        """Until every worker is here."""
        if self.size > 1:
            dist.barrier()
