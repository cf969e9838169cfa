"""The Ray cluster that work runs on: the one that is there, or one started on this machine for the time being."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from jetscale.errors import JetscaleError
from jetscale.shape import Shape


class ClusterError(JetscaleError):
    """No Ray to work on."""


@contextmanager
def cluster(shape: Shape) -> Iterator[None]:
    """Join the Ray of this process or of RAY_ADDRESS, else start a local one and stop it at the end.

    Raises:
        ClusterError: Ray cannot be reached or started.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    import ray

    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    try:
        _join(address) if address else _start(shape)
    except Exception as problem:
        raise ClusterError(f"Ray does not start: {problem}", where=address or "this machine",
                           cure="see jetscale doctor") from problem  # fmt: skip
    try:
        yield
    finally:
        ray.shutdown()


def _join(address: str) -> None:
    import ray

    ray.init(address=address, log_to_driver=True, logging_level=logging.ERROR)


def _start(shape: Shape) -> None:
    import ray

    # A Ray that only this process uses needs no token; the first local start would otherwise leave one behind that
    # later clusters on this machine trip over. Workers that are niced would starve beside anything else that runs.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_worker_niceness", "0")
    ray.init(
        address="local",
        num_cpus=max(shape.local_cpus, os.cpu_count() or 1),
        object_store_memory=shape.local_object_store,
        include_dashboard=False,
        log_to_driver=True,
        logging_level=logging.ERROR,
    )
