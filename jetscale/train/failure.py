"""Why a training under Ray Train failed: our own error, somebody else's, or workers that are gone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from jetscale.errors import JetscaleError, TrainError

LOST = re.compile(
    r"ActorDied|ActorUnavailable|RayActorError|NodeDied|WorkerHealthCheck|WorkerGroupStartup|Preemption|OutOfMemory"
    r"|Connection (closed|reset)|[Gg]loo|NCCL|DistNetworkError|DistBackendError"
)


WRAPPED = ("cause", "controller_failure", "health_check_failure", "_base_exc")


class LostError(TrainError):
    """Workers that are gone, through no fault of the run."""


def failure(problem: BaseException, out: Path) -> JetscaleError:
    """Our own error inside Ray's wrapping, or a short account of a foreign one.

    When a worker ends, the others fail because it does not answer. So workers count as lost only where none of them has
    another reason: an error in somebody's own system would otherwise be tried again and again.
    """
    reasons = list(_reasons(problem))
    for one in reasons:
        if isinstance(one, JetscaleError):
            return one
    for one in reasons:
        if not LOST.search(f"{type(one).__name__}: {one}"):
            return TrainError(f"training failed: {type(one).__name__}: {_short(str(one))}", where=str(out),
                              cure="run again with --debug for the whole story")  # fmt: skip
    return LostError(f"workers were lost: {_short(str(reasons[0]))}", where=str(out),
                     cure="the same command goes on from the newest checkpoint")  # fmt: skip


def _reasons(problem: BaseException) -> Iterator[BaseException]:
    """What is innermost in an error: of every worker, and below all that wraps it."""
    failures = getattr(problem, "worker_failures", {})
    inner = [*failures.values(), *(getattr(problem, name, None) for name in WRAPPED), problem.__cause__]
    found = [one for one in inner if isinstance(one, BaseException) and one is not problem]
    if not found:
        yield problem
    for one in found:
        yield from _reasons(one)


def _short(said: str) -> str:
    """The last line, which is what Python says last."""
    return (said.strip() or "no reason given").splitlines()[-1]
