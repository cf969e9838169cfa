"""Seconds and bytes of processes: players that do one round when told, and what each round has cost."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import psutil

from jetscale.errors import JetscaleError

LOOK_S = 0.2
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ARROW_IO_THREADS")}


class BenchError(JetscaleError):
    """A measurement that could not be made."""


class Spent(NamedTuple):
    """What something has cost: seconds on the wall, of the process's CPU, and of the CPU with all its descendants."""

    wall_s: float
    own_s: float
    all_s: float


class Round(NamedTuple):
    """One round of a player: what it said and what it cost."""

    said: Any
    spent: Spent


class Tree:
    """CPU seconds of a process and its descendants, those that have ended included.

    A process that ends takes its last moments with it: what is counted of it is what the last look saw, so that at
    most the time between two looks is missing.
    """

    def __init__(self, pid: int) -> None:
        self.root = psutil.Process(pid)
        self.seen: dict[psutil.Process, float] = {}

    def cpu_s(self) -> float:
        """Look, and sum over all that were ever seen."""
        try:
            family = [self.root, *self.root.children(recursive=True)]
        except psutil.NoSuchProcess:
            family = []
        # Those whose parent has ended are no longer below the root, but they are still ours.
        for process in {*family, *self.seen}:
            try:
                times = process.cpu_times()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            self.seen[process] = times.user + times.system
        return sum(self.seen.values())

    def kill(self) -> None:
        """End every process of the tree that is left."""
        for process in self.seen:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue


class Peak:
    """The most memory that a process and its descendants have held together, in bytes, looked at again and again.

    A page that several of them share counts once; pages of files, which go when others need the room, do not (Linux).
    """

    def __init__(self, process: psutil.Process, look_s: float = LOOK_S) -> None:
        self.process, self.look_s, self.most, self.over = process, look_s, 0, threading.Event()
        self.thread = threading.Thread(target=self._look_on, daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()
        self._look()

    def _look_on(self) -> None:
        while not self.over.wait(self.look_s):
            self._look()

    def _look(self) -> None:
        family = (self.process, *self.process.children(recursive=True))
        self.most = max(self.most, sum(_share(one.pid) for one in family))


def _share(pid: int) -> int:
    """Of what a process holds in memory, its share, pages of files apart; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))


class Player:
    """A process of its own with one thread for every library: `make(*args)` is called there and gives round after
    round, each only when it is told to play.

    Raises:
        BenchError: the process fails or ends.
    """  # fmt: skip

    def __init__(self, make: Callable[..., Iterator[Any]], *args: object) -> None:
        context = multiprocessing.get_context("spawn")
        self.name = make.__name__
        self.ours, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, make, args), name=self.name)
        kept = dict(os.environ)
        os.environ.update(ONE_THREAD)
        try:
            self.process.start()
        finally:
            os.environ.clear()
            os.environ.update(kept)
        theirs.close()
        assert self.process.pid is not None  # it was started
        self.tree = Tree(self.process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
                 ) -> None:  # fmt: skip
        self.tree.cpu_s()
        self.ours.close()
        self.process.join(timeout=20)
        self.tree.kill()
        self.process.join()

    def play(self) -> Round:
        """One round."""
        before = self.tree.cpu_s()
        self._tell()
        while not self.ours.poll(LOOK_S):
            self.tree.cpu_s()
        try:
            said, wall_s, own_s = self.ours.recv()
        except EOFError:
            raise BenchError("ended before its round did", where=self.name, cure="see the log") from None
        if isinstance(said, BaseException):
            raise said
        return Round(said, Spent(wall_s, own_s, self.tree.cpu_s() - before))

    def _tell(self) -> None:
        try:
            self.ours.send(None)
        except OSError:
            raise BenchError("has ended", where=self.name, cure="see the log") from None


def _serve(told: Connection, make: Callable[..., Iterator[Any]], args: tuple[object, ...]) -> None:
    """The player's process: one round per word, until nobody is there to tell."""
    one_thread()
    rounds = make(*args)
    try:
        while True:
            told.recv()
            wall_s, own_s = time.monotonic(), time.process_time()
            try:
                said = next(rounds)
            except Exception as problem:
                said = problem if isinstance(problem, JetscaleError) else BenchError(repr(problem), where=make.__name__)
                told.send((said, 0.0, 0.0))
                raise
            told.send((said, time.monotonic() - wall_s, time.process_time() - own_s))
    except (EOFError, OSError):
        return
    finally:
        rounds.close()  # type: ignore[attr-defined]


def one_thread() -> None:
    """One thread for torch and for Arrow in this process; the rest is said by the environment."""
    import pyarrow
    import torch

    torch.set_num_threads(1)
    pyarrow.set_cpu_count(1)
    pyarrow.set_io_thread_count(1)


def resident() -> dict[str, int]:
    """Memory of this process in bytes.

    `now`, the `peak` since `forget_peak`, what is `shared` with other processes now, and what is its `own`: neither
    shared nor pages of files, which go when others need the room.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    kb = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines) if "kB" in rest}
    return {"now": kb["VmRSS"] << 10, "peak": kb["VmHWM"] << 10, "shared": kb["RssShmem"] << 10,
            "own": kb["RssAnon"] << 10}  # fmt: skip


def forget_peak() -> None:
    """The peak starts anew from what is resident now (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
