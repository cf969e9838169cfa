"""Lost workers are told from errors that would come again."""

from pathlib import Path

import pytest
from ray.exceptions import ActorDiedError
from ray.train import WorkerGroupError

from jetscale.errors import DataError
from jetscale.train.failure import LostError, failure

PEER = RuntimeError("[third_party/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:27542")
DEAD = ActorDiedError()


@pytest.mark.parametrize("failures", [{1: DEAD}, {0: PEER, 1: DEAD}, {0: PEER}])
def test_workers_that_are_gone_are_lost(failures: dict[int, Exception]) -> None:
    found = failure(WorkerGroupError("2 workers failed", failures), Path("run"))
    assert isinstance(found, LostError)
    assert "goes on from the newest checkpoint" in found.cure


def test_an_error_in_one_worker_is_the_reason_although_the_others_miss_it() -> None:
    failures = {0: PEER, 1: ValueError("shapes cannot be multiplied")}
    found = failure(WorkerGroupError("2 workers failed, gloo and so on", failures), Path("run"))
    assert not isinstance(found, LostError)
    assert str(found).startswith("run: training failed: ValueError: mat1") or "shapes cannot be multiplied" in str(
        found
    )


def test_below_an_error_is_what_it_was_raised_from() -> None:
    wrapped = RuntimeError("the worker failed")
    wrapped.__cause__ = KeyError("jet_pt")
    assert "KeyError: 'jet_pt'" in str(failure(WorkerGroupError("1 worker failed", {0: wrapped}), Path("run")))


def test_our_own_error_arrives_as_it_was_said() -> None:
    ours = DataError("cannot be read", where="shard", cure="make it anew")
    assert failure(WorkerGroupError("2 workers failed", {0: PEER, 1: ours}), Path("run")) is ours
