"""Every row of every epoch exactly once, whatever the number of workers, and the same rows after a resume."""

from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetscale.data.plan import Chunk, Mixture, Order, Plan
from jetscale.errors import ConfigError
from jetscale.run import Horizon
from jetscale.stream import Source, Stream

LANES = 12


class _Scale(NamedTuple):
    lanes: int = LANES
    events_per_step: int = 100


class _Run(NamedTuple):
    """The part of a Run that a plan looks at."""

    stream: Stream
    horizon: Horizon
    scale: _Scale = _Scale()
    seed: int = 3


def _chunks(counts: list[int]) -> list[Chunk]:
    return [Chunk((("shard", n),), {"train": rows, "validation": 0, "test": 0}) for n, rows in enumerate(counts)]


def _plan(counts: dict[str, list[int]], shares: list[float | None], horizon: Horizon, step: int = 100) -> Plan:
    samples = {name: Source(events=name, share=share) for name, share in zip(counts, shares, strict=True)}
    run = _Run(Stream(samples=samples), horizon, _Scale(events_per_step=step))
    return Plan(run, {name: _chunks(of) for name, of in counts.items()})  # type: ignore[arg-type]


def _rows(plan: Plan, workers: int = 1, after: int = 0) -> dict[tuple[str, int, int], tuple[int, int, int]]:
    """(sample, lane, position) -> (epoch, chunk, row in the chunk) of every row that the items bring to some lane."""
    found = {}
    share = LANES // workers
    for rank in range(workers):
        for item in plan.items(range(rank * share, (rank + 1) * share), after):
            for part in item.slices:
                for n, row in enumerate(range(part.low, part.high)):
                    key = (item.sample, part.lane, part.position + n * LANES)
                    assert key not in found
                    if key[2] >= plan.taken[-1, list(plan.chunks).index(item.sample)]:
                        continue  # read with its chunk, but beyond the horizon
                    found[key] = (item.epoch, item.chunk, row)
    return found


@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(any),
    lanes=st.sampled_from([1, 3, 12]),
    epochs=st.integers(1, 3),
)
def test_an_epoch_is_every_row_once(counts: list[int], lanes: int, epochs: int) -> None:
    order = Order("sample", tuple(counts), lanes, seed=5)
    seen: Counter[tuple[int, int, int]] = Counter()
    positions = []
    for first, item in order.items(range(lanes), 0):
        if item.epoch == epochs:
            break
        assert first == min(part.position for part in item.slices)
        for part in item.slices:
            positions += [part.position + n * lanes for n in range(part.high - part.low)]
            seen.update((item.epoch, item.chunk, row) for row in range(part.low, part.high))
            assert all(position % lanes == part.lane for position in positions[-(part.high - part.low) :])
    assert sorted(positions) == list(range(sum(counts) * epochs))
    wanted = {(e, c, row) for e in range(epochs) for c, rows in enumerate(counts) for row in range(rows)}
    assert seen == Counter(dict.fromkeys(wanted, 1))


def test_epochs_differ_and_seeds_differ() -> None:
    order = Order("sample", (5,) * 20, LANES, seed=5)
    assert not np.array_equal(order.chunks(0), order.chunks(1))
    assert not np.array_equal(order.chunks(0), Order("sample", (5,) * 20, LANES, seed=6).chunks(0))
    assert not np.array_equal(order.chunks(0), Order("other", (5,) * 20, LANES, seed=5).chunks(0))


@pytest.mark.parametrize("workers", [1, 2, 3, 12])
def test_the_rows_do_not_depend_on_the_workers(workers: int) -> None:
    plan = _plan({"a": [103, 77, 5], "b": [40] * 4, "one": [1]}, [0.5, 0.4, 0.1], Horizon(epochs=3))
    assert _rows(plan, workers) == _rows(plan, 1)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_resume_brings_the_rest(workers: int) -> None:
    plan = _plan({"a": [103, 77, 5], "b": [40] * 4}, [0.5, 0.5], Horizon(epochs=4))
    after = plan.steps // 2
    rest = {key: row for key, row in _rows(plan).items() if key[2] >= plan.taken[after, ["a", "b"].index(key[0])]}
    assert _rows(plan, workers, after) == rest


@given(
    parts=st.lists(st.integers(1, 1000), min_size=1, max_size=6),
    step=st.integers(1, 500),
    seed=st.integers(0, 1000),
)
def test_the_mixture_is_within_one_row_and_exact_in_the_long_run(parts: list[int], step: int, seed: int) -> None:
    shares = np.array(parts) / sum(parts)
    rows_SK = Mixture(shares.tolist(), step, seed).rows(np.arange(1000))
    assert (rows_SK.sum(1) == step).all()
    assert (rows_SK >= 0).all()
    assert (np.abs(rows_SK - shares * step) < 1 + 1e-6).all()
    assert np.abs(rows_SK.mean(0) - shares * step).max() < 0.02


def test_the_horizon_ends_where_it_says() -> None:
    counts: dict[str, list[int]] = {"a": [1000], "b": [333]}
    epochs = _plan(counts, [None, None], Horizon(epochs=2.5))
    assert epochs.taken[-1, 0] == 2500
    assert _plan(counts, [None, None], Horizon(steps=7)).steps == 7
    events = _plan(counts, [None, None], Horizon(events=1234))
    assert events.taken[-1].sum() == 1234
    assert (np.diff(events.taken.sum(1))[:-1] == 100).all()


@pytest.mark.parametrize("share", [0.3, 0.01, 0.0005])
@pytest.mark.parametrize("seed", range(10))
def test_the_horizon_is_reached_at_any_share(share: float, seed: int) -> None:
    samples = {"rare": Source(events="a", share=share), "common": Source(events="b", share=1 - share)}
    run = _Run(Stream(samples=samples, epoch_of="rare"), Horizon(epochs=3), seed=seed)
    plan = Plan(run, {"rare": _chunks([101]), "common": _chunks([1000])})  # type: ignore[arg-type]
    assert plan.taken[-1, 0] == 303


def test_epoch_of_names_the_sample_that_counts() -> None:
    samples = {"a": Source(events="a"), "b": Source(events="b")}
    stream = Stream(samples=samples, epoch_of="b")
    plan = Plan(_Run(stream, Horizon(epochs=2)), {"a": _chunks([900]), "b": _chunks([100])})  # type: ignore[arg-type]
    assert plan.taken[-1, 1] == 200
    assert plan.at(plan.steps).epoch == 2
    assert plan.at(0) == (0, 0, 0.0)


def test_short_samples_are_used_equally_often() -> None:
    plan = _plan({"long": [400], "short": [7]}, [0.5, 0.5], Horizon(epochs=3))
    used = Counter(row for (sample, _, position), (_, _, row) in _rows(plan).items()
                   if sample == "short" and position < plan.taken[-1, 1])  # fmt: skip
    assert max(used.values()) - min(used.values()) <= 1
    assert len(used) == 7


def test_a_sample_without_rows_is_refused() -> None:
    with pytest.raises(ConfigError, match="'b' has no selected rows"):
        _plan({"a": [5], "b": [0, 0]}, [None, None], Horizon(epochs=1))
