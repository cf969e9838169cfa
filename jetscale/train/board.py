"""Where else a training can be watched: Weights & Biases, TensorBoard."""

from __future__ import annotations

import netrc
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, final
from urllib.parse import urlsplit

from jetscale.config import digest
from jetscale.errors import ConfigError
from jetscale.run import Run


class Board(ABC):
    """Something that draws the numbers of a training against its steps."""

    @abstractmethod
    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers that stand after so many steps."""

    @abstractmethod
    def close(self, done: bool) -> None:
        """End the record; `done` says whether the training reached its end."""


@final
class WandbBoard(Board):
    """Weights & Biases, online with an API key; without one it writes to the run's folder, for `wandb sync OUT/wandb`.

    The id is that of the run's work and of its folder, so a training that is started again there goes on in the same
    W&B run: online from the first step that W&B lacks. Offline the record is begun anew, for a process that is killed
    loses its last part. Runs of one `track.group`, or else of equal work, stand in one group.
    """

    def __init__(self, run: Run, name: str, out: Path) -> None:
        import wandb

        # At this level W&B writes its settings, the key among them, to a log in the run's folder.
        for debug in ("WANDB_DEBUG", "WANDB_CORE_DEBUG"):
            os.environ.pop(debug, None)
        settings = wandb.Settings(x_disable_stats=True, console="off", silent=True)
        own = wandb_id(name, out)
        start = partial(wandb.init, project=run.track.project, id=own, name=out.name, group=run.track.group or name,
                        config=run.values(), dir=out, settings=settings)  # fmt: skip
        mode: Any = os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")
        if mode == "online":
            try:
                self.wandb = start(mode=mode, resume="allow")
                return
            except wandb.errors.CommError:
                # A server out of reach must not end a training: the record stays here, and can be synced later.
                wandb.teardown()
                mode = "offline"
        for before in out.glob(f"wandb/offline-run-*-{own}"):
            shutil.rmtree(before)
        self.wandb = start(mode=mode)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """One point of every curve. W&B would ignore what it has, each time with a warning."""
        if step >= self.wandb.starting_step:
            self.wandb.log(dict(values), step=step)

    def close(self, done: bool) -> None:
        """Hand over what is left; a run that is not closed would never appear as finished."""
        import wandb

        self.wandb.finish(exit_code=0 if done else 1)
        # The file is written by another process, which a worker that ends at once would take along.
        wandb.teardown()


@final
class TensorboardBoard(Board):
    """Event files in the run's folder, for `tensorboard --logdir OUT/tensorboard`."""

    def __init__(self, out: Path) -> None:
        from tensorboardX import SummaryWriter

        shutil.rmtree(out / "tensorboard", ignore_errors=True)
        # A TensorBoard that is watching forgets what it has read from step 0 on, and reads it again.
        self.writer = SummaryWriter(str(out / "tensorboard"), purge_step=0, flush_secs=10)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """One point of every curve."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self, done: bool) -> None:
        """Write what is left; TensorBoard has no word for how a training ended."""
        self.writer.close()


def boards(run: Run, name: str, out: Path) -> list[Board]:
    """The boards that a run wants. What a training has shown before is shown to them again, and stands there once."""
    found: list[Board] = []
    if run.track.wandb:
        found.append(WandbBoard(run, name, out))
    if run.track.tensorboard:
        found.append(TensorboardBoard(out))
    return found


def wandb_id(name: str, out: Path) -> str:
    """Which W&B run the work `name` in a folder is: the same work in another folder is another one."""
    return digest([name, str(out.absolute())])


def check_boards(run: Run) -> None:
    """Refuse, before anything is started, what would end the training at its first line.

    Raises:
        ConfigError: Weights & Biases is told to be online, and there is no key.
    """
    mode = os.environ.get("WANDB_MODE")
    if run.track.wandb and mode in ("online", "shared") and not has_key():
        raise ConfigError(f"WANDB_MODE is {mode}, and there is no API key", where="track.wandb",
                          cure="set WANDB_API_KEY, run wandb login, or leave WANDB_MODE out")  # fmt: skip


def has_key() -> bool:
    """Whether Weights & Biases has a key here: in the environment, or where `wandb login` writes it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
