"""A system of a user's own: the jet assigner, in whose training a worker or everything can be killed."""

import json
import os
import signal
import time
from pathlib import Path
from typing import ClassVar, final

import pyarrow as pa
import torch.distributed as dist
from torch import Tensor, nn

from jetscale.config import Values
from jetscale.schema import Schema
from jetscale.systems.assigner import Assigner
from jetscale.task import Batch, Task

ASSIGNER = Assigner(loss_on="mass", gumbel="soft", network="dense", dropout=0.2, width=32, layers=3, readout="argmax")


@final
class Mortal(Task):
    """Its last worker dies once, before step `dies_at`; while `notes` holds a file `slow`, there is time to kill."""

    columns: ClassVar[Schema] = Assigner.columns
    outputs: ClassVar[Schema] = Assigner.outputs
    dies_at: int = -1
    notes: str = ""

    def build(self, *args: object) -> nn.Module:
        return ASSIGNER.build(*args)  # type: ignore[arg-type]

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        return ASSIGNER.weights(batch)

    def loss(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        if net.training:
            self._say(batch)
            self._die(batch.at.step)
            time.sleep(0.3 if batch.at.step > 20 and (Path(self.notes) / "slow").exists() else 0.0)
        return ASSIGNER.loss(net, batch)

    def _say(self, batch: Batch) -> None:
        """Note in which process a training begins."""
        if batch.at.step == 0 and self.notes:
            with (Path(self.notes) / "pids").open("a") as notes:
                notes.write(json.dumps({"seed": batch.seed, "pid": os.getpid()}) + "\n")

    def _die(self, step: int) -> None:
        note = Path(self.notes) / "died"
        if step == self.dies_at and not note.exists() and dist.get_rank() == dist.get_world_size() - 1:
            note.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def score(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return ASSIGNER.score(net, batch)

    def figures(self, scored: pa.Table) -> dict[str, float]:
        return ASSIGNER.figures(scored)

    def toy(self, n: int, seed: int) -> pa.Table:
        return ASSIGNER.toy(n, seed)


def recipe() -> Values:
    """A short training with a checkpoint about every seven steps and nothing to watch it."""
    return {"system": __file__, "horizon": {"steps": 40}, "optimiser": {"rate": 1e-3},
            "scale": {"events_per_step": 120, "events_per_micro_batch": 60, "source": "pyarrow"},
            "track": {"wandb": False, "log_every": 1}, "keep": {"every": 0.4}}  # fmt: skip
