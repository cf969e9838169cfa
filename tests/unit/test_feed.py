"""The batches hold the rows of the plan, each once, with their weights, in whole lanes."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import awkward as ak
import numpy as np
import pytest

from jetscale.config import Values
from jetscale.data.chunks import count, cut, needed, readers
from jetscale.data.feed import Feed, Pass, Step, ahead, weightings
from jetscale.data.plan import Plan
from jetscale.data.source import PyarrowBytes
from jetscale.data.split import part_of
from jetscale.errors import DataError
from jetscale.events import Events
from jetscale.run import Run, resolve
from jetscale.schema import JET_EVENTS
from jetscale.stream import Split
from jetscale.task import Batch
from jetscale.train.launch import prepare

SIZES = {"a": 503, "b": 217, "c": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three samples in shards of 50 events with ids that do not overlap."""
    folder = tmp_path_factory.mktemp("samples")
    for number, (name, size) in enumerate(SIZES.items()):
        dice = np.random.default_rng(size)
        jets = dice.poisson(6, size)
        values = {column: ak.unflatten(dice.random(jets.sum()), jets) for column in ("jet_pt", "jet_eta", "jet_phi")}
        ids = np.arange(size) + number * 10_000
        weight = np.where(np.arange(size) % 2, 3.0, 1.0)
        array = ak.Array({**values, "jet_mass": values["jet_pt"], "event_id": ids, "weight": weight})
        Events.write(array, folder / name, rows_per_shard=50)
    return folder


def _run(folder: Path, samples: Values, **more: object) -> Run:
    stream = {"samples": {name: {"events": str(folder / name), **of} for name, of in samples.items()},
              "split": {"train": 1, "validation": 0, "test": 0}, "chunk_rows": 120}  # fmt: skip
    scale = {"events_per_step": 96, "events_per_micro_batch": 40, "launch": "here", "engine": "torch"}
    values = {"system": "assigner", "stream": stream, "scale": scale, "horizon": {"epochs": 2}, **more}
    return resolve([("test", values)], "test").run


def _feed(run: Run, rank: int = 0, world: int = 1) -> Feed:
    samples = run.stream.open()
    counted = prepare(run, samples)
    source = PyarrowBytes(readers(run.stream, samples, needed(JET_EVENTS), "train", run.seed), counted.chunks)
    return Feed(Plan(run, counted.chunks), source, JET_EVENTS, weightings(run.stream, counted.means), rank=rank,
                world=world)  # fmt: skip


def _ids(steps: list[Step]) -> dict[tuple[int, int, int], tuple[int, float, float]]:
    """(step, lane, row) -> (event id, weight, sum of jet pt)."""
    found = {}
    for step in steps:
        for batch in step.micro:
            rows = zip(batch.lane_B.tolist(), batch.row_B.tolist(), batch["event_id"].tolist(),
                       batch.weight_B.tolist(), batch["jet_pt"].sum(1).tolist(), strict=True)  # fmt: skip
            found.update({(step.at.step, lane, row): (id_, weight, round(pt, 5))
                          for lane, row, id_, weight, pt in rows if weight})  # fmt: skip
    return found


@pytest.mark.parametrize("workers", [2, 3, 6])
def test_every_event_once_an_epoch_whatever_the_workers(folder: Path, workers: int) -> None:
    run = _run(folder, {"a": {"share": 0.6}, "b": {"share": 0.3}, "c": {"share": 0.1}})
    alone = _ids(list(_feed(run).steps()))
    together: dict[tuple[int, int, int], tuple[int, float, float]] = {}
    for rank in range(workers):
        together |= _ids(list(_feed(run, rank, workers).steps()))
    assert together == alone
    times = Counter(event for event, _, _ in alone.values() if event < 10_000)
    assert times == Counter({event: 2 for event in range(SIZES["a"])})


def test_every_worker_has_as_many_micro_batches(folder: Path) -> None:
    run = _run(folder, {"c": {}}, horizon={"steps": 3})
    sizes = [[len(step.micro) for step in _feed(run, rank, 4).steps()] for rank in range(4)]
    assert sizes == [[1, 1, 1]] * 4


def test_a_resume_goes_on_with_the_same_batches(folder: Path) -> None:
    run = _run(folder, {"a": {"share": 0.7}, "b": {"share": 0.3}})
    whole = _ids(list(_feed(run).steps()))
    rest = _ids([step for rank in range(2) for step in _feed(run, rank, 2).steps(after=5)])
    assert rest == {key: row for key, row in whole.items() if key[0] >= 5}


def test_training_weights_are_those_of_the_stream(folder: Path) -> None:
    run = _run(folder, {"a": {"weight": 0.5}, "b": {"event_weight": True}})
    rows = list(_ids(list(_feed(run).steps())).values())
    assert {weight for event, weight, _ in rows if event < 10_000} == {0.5}
    heavy = np.array([weight for event, weight, _ in rows if event >= 10_000])
    assert sorted(set(np.round(heavy, 4))) == pytest.approx([1 / 1.9954, 3 / 1.9954], rel=1e-3)


def test_a_pass_sees_every_row_once_over_the_workers(folder: Path) -> None:
    run = _run(folder, {"a": {}, "b": {}})
    samples = run.stream.open()
    counted = prepare(run, samples)
    source = PyarrowBytes(readers(run.stream, samples, needed(JET_EVENTS), "train", run.seed), counted.chunks)
    seen: list[int] = []
    for rank in range(3):
        one = Pass(counted.chunks, "train", source, JET_EVENTS, weightings(run.stream, counted.means), seed=run.seed,
                   rank=rank, world=3)  # fmt: skip
        seen += [id_ for _, batch in one.batches(64) for id_ in batch["event_id"].tolist()]
    assert sorted(seen) == [*range(SIZES["a"]), *range(10_000, 10_000 + SIZES["b"])]


def test_chunks_are_whole_row_groups_and_hold_everything(folder: Path) -> None:
    events = Events.open(folder / "a")
    chunks = cut(events, 120)
    assert [group for chunk in chunks for group in chunk] == [(shard.file, 0) for shard in events.manifest.shards]
    assert [len(chunk) for chunk in chunks] == [3, 3, 5]


def test_selections_are_counted_and_kept(folder: Path) -> None:
    run = _run(folder, {"a": {}})
    run = run.but(stream=run.stream.but(select={"event_id": (100, 200)}).values())
    ids = [event for event, _, _ in _ids(list(_feed(run).steps())).values()]
    assert Counter(ids) == Counter({event: 2 for event in range(100, 200)})


def test_a_sample_that_changed_after_counting_is_refused(folder: Path) -> None:
    run = _run(folder, {"a": {}})
    samples = run.stream.open()
    reader = readers(run.stream, samples, needed(JET_EVENTS), "train", 1)["a"]
    chunks = count(samples["a"], run.stream, reader.rows)
    item = next(Plan(run, {"a": chunks}).items(range(12)))
    with pytest.raises(DataError, match="were counted"):
        replace(reader, select={"event_id": (3, None)}).read(item, chunks[item.chunk])


def test_split_depends_on_the_id_alone_and_has_its_shares() -> None:
    ids = np.arange(100_000, dtype=np.int64)
    split = Split(train=0.6, validation=0.15, test=0.25)
    parts = part_of(ids, split)
    assert np.bincount(parts) / len(ids) == pytest.approx([0.6, 0.15, 0.25], abs=0.01)
    back = np.random.default_rng(1).permutation(len(ids))
    assert np.array_equal(part_of(ids[back], split), parts[back])
    assert not np.array_equal(part_of(ids, split.but(seed=1)), parts)


def test_ahead_hands_on_things_in_order_and_problems_too() -> None:
    assert list(ahead(iter(range(100)))) == list(range(100))

    def broken() -> object:
        yield 1
        raise DataError("truncated", where="shard-1")

    things = ahead(iter(broken()))  # type: ignore[call-overload]
    assert next(things) == 1
    with pytest.raises(DataError, match="truncated"):
        next(things)


def test_noise_does_not_depend_on_padding_or_on_who_else_is_in_the_batch(folder: Path) -> None:
    run = _run(folder, {"a": {}})
    whole = {(b.at.step, lane, row): (noise, b) for s in _feed(run).steps() for b in s.micro for lane, row, noise
             in zip(b.lane_B.tolist(), b.row_B.tolist(), b.noise(3, 2), strict=True)}  # fmt: skip
    for step in _feed(run, 1, 2).steps():  # another cut into micro-batches than alone
        for batch in step.micro:
            wide = batch.noise(7, 2)
            for n, (lane, row) in enumerate(zip(batch.lane_B.tolist(), batch.row_B.tolist(), strict=True)):
                if batch.weight_B[n]:
                    assert wide[n, :3].equal(whole[batch.at.step, lane, row][0])


def test_noise_is_uniform_and_changes_with_the_step(folder: Path) -> None:
    steps = list(_feed(_run(folder, {"a": {}})).steps())
    noise = np.concatenate([batch.noise(100).numpy().ravel() for step in steps for batch in step.micro])
    assert noise.min() > 0 and noise.max() < 1
    assert np.histogram(noise, 10, (0, 1))[0] / len(noise) == pytest.approx([0.1] * 10, abs=0.005)
    first: Batch = steps[0].micro[0]
    assert not first.noise(5).equal(steps[1].micro[0].noise(5))
