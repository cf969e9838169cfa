"""The batches hold the rows of the plan, each once, with their weights, in whole lanes."""

from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import awkward as ak
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jetscale.config import Values
from jetscale.data.chunks import check_samples, count, cut, in_buckets, mean_weight, needed, readers
from jetscale.data.feed import Feed, Pass, Step, Weighting, ahead, training_weight, weightings
from jetscale.data.plan import Plan
from jetscale.data.source import PyarrowBytes
from jetscale.data.split import part_of
from jetscale.errors import DataError
from jetscale.events import Events
from jetscale.run import Run, resolve
from jetscale.schema import JET_EVENTS, Column, Schema
from jetscale.stream import Split
from jetscale.task import Batch
from jetscale.train.launch import prepare

SIZES = {"a": 503, "b": 217, "c": 1}
JETS = JET_EVENTS.only(["event_id", "weight"]).plus(
    JET_EVENTS["jet_pt"].but(of=None),
    Column(name="jet_index", dtype="int32", unit="", doc="place in the event"),
    Column(name="theta", dtype="float32", unit="", doc="drawn for each row"),
)


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


def _feed(run: Run, rank: int = 0, world: int = 1, schema: Schema = JET_EVENTS) -> Feed:
    samples, stream = run.stream.open(), run.stream
    rows = check_samples(stream, samples, needed(schema), run.seed)
    chunks = {name: count(events, stream, rows[name]) for name, events in samples.items()}
    means = {name: mean_weight(events, stream, name, rows[name])
             for name, events in samples.items()}  # fmt: skip
    source = PyarrowBytes(readers(stream, samples, needed(schema), "train", run.seed), chunks)
    return Feed(Plan(run, chunks), source, schema, weightings(stream, means), rank=rank, world=world)


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
    times = Counter(event for event, _, _ in alone.values())
    assert {event: n for event, n in times.items() if event < 10_000} == dict.fromkeys(range(SIZES["a"]), 2)
    # The others cycle, each row used equally often to within one, and one row alone is there in every step.
    cycled = [times[event] for event in range(10_000, 10_000 + SIZES["b"])]
    assert min(cycled) >= 1 and max(cycled) - min(cycled) <= 1
    assert {step for (step, _, _), (event, _, _) in alone.items() if event >= 20_000} == set(range(_steps(alone)))


def _steps(rows: dict[tuple[int, int, int], tuple[int, float, float]]) -> int:
    return 1 + max(step for step, _, _ in rows)


@pytest.mark.parametrize("workers", [1, 3])
def test_steps_straddle_the_border_of_an_epoch(folder: Path, workers: int) -> None:
    run = _run(folder, {"a": {}}, horizon={"epochs": 3})
    rows = {key: row for rank in range(workers) for key, row in _ids(list(_feed(run, rank, workers).steps())).items()}
    sizes = Counter(step for step, _, _ in rows)
    assert {sizes[step] for step in range(_steps(rows) - 1)} == {96}  # only the last step is short
    seen: Counter[int] = Counter()
    both = 0
    for step in range(_steps(rows)):
        before = Counter(seen[event] for (at, _, _), (event, _, _) in rows.items() if at == step)
        both += len(before) > 1
        seen.update(event for (at, _, _), (event, _, _) in rows.items() if at == step)
    assert seen == Counter(dict.fromkeys(range(SIZES["a"]), 3))
    assert both == 2  # 503 rows are no whole number of steps, so two steps hold rows of two epochs


def test_each_member_once_an_epoch_whatever_the_workers(folder: Path) -> None:
    run = _run(folder, {"a": {"share": 0.7}, "b": {"share": 0.3}})
    derive = {"theta": {"by": "Uniform", "low": 0, "high": 1}}
    run = run.but(stream=run.stream.but(each={"of": "jet", "first": 3}, derive=derive).values())
    jets = {event["event_id"]: min(3, len(event["jet_pt"])) for event in Events.open(folder / "a").read().to_pylist()}
    wanted = {(event, place): 2 for event, n in jets.items() for place in range(n)}
    found = []
    for workers in (1, 2, 3):
        seen: dict[tuple[int, int, int], tuple[int, int, float]] = {}
        for rank in range(workers):
            for step in _feed(run, rank, workers, JETS).steps():
                for batch in step.micro:
                    rows = zip(batch.lane_B.tolist(), batch.row_B.tolist(), batch["event_id"].tolist(),
                               batch["jet_index"].tolist(), batch["theta"].tolist(), strict=True)  # fmt: skip
                    seen |= {
                        (step.at.step, lane, row): (event, place, theta) for lane, row, event, place, theta in rows
                    }
        found.append(seen)
    assert found[0] == found[1] == found[2]
    times = Counter((event, place) for event, place, _ in found[0].values() if event < 10_000)
    assert times == wanted
    draws = [theta for event, _, theta in found[0].values() if event < 10_000]
    assert len(set(draws)) == len(draws)  # anew in each epoch


def test_every_worker_has_as_many_micro_batches(folder: Path) -> None:
    run = _run(folder, {"c": {}}, horizon={"steps": 3})
    sizes = [[len(step.micro) for step in _feed(run, rank, 4).steps()] for rank in range(4)]
    assert sizes == [[1, 1, 1]] * 4


@pytest.mark.parametrize("legs", [[(1, 5), (2, 99)], [(2, 3), (3, 7), (1, 8), (12, 99)]])
def test_a_resume_goes_on_with_the_same_batches_with_other_workers(folder: Path, legs: list[tuple[int, int]]) -> None:
    run = _run(folder, {"a": {"share": 0.7}, "b": {"share": 0.3}})
    whole = _ids(list(_feed(run).steps()))
    pieces: dict[tuple[int, int, int], tuple[int, float, float]] = {}
    after = 0
    for workers, until in legs:
        for rank in range(workers):
            rest = _ids(list(islice(_feed(run, rank, workers).steps(after), until - after)))
            assert not rest.keys() & pieces.keys()
            pieces |= rest
        after = until
    assert pieces == whole


@pytest.mark.parametrize(("done", "most"), [(7, 3), (2, 5), (0, 5)])
def test_the_last_steps_are_read_again_in_place(folder: Path, done: int, most: int) -> None:
    class Busy(PyarrowBytes):
        """A source that the training waits for."""

        read = None

    feed = _feed(_run(folder, {"a": {"share": 0.7}, "b": {"share": 0.3}}))
    whole = list(islice(feed.steps(), done))
    feed.source = Busy(feed.source.readers, feed.source.chunks)
    found = list(feed.last(done, most))
    assert [step.at for step in found] == [step.at for step in whole[-most:]]
    assert _ids(found) == _ids(whole[-most:])


def test_training_weights_are_those_of_the_stream(folder: Path) -> None:
    run = _run(folder, {"a": {"weight": 0.5}, "b": {"event_weight": True}})
    rows = list(_ids(list(_feed(run).steps())).values())
    assert {weight for event, weight, _ in rows if event < 10_000} == {0.5}
    heavy = np.array([weight for event, weight, _ in rows if event >= 10_000])
    assert sorted(set(np.round(heavy, 4))) == pytest.approx([1 / 1.9954, 3 / 1.9954], rel=1e-3)


def test_a_derived_weight_multiplies(folder: Path) -> None:
    run = _run(folder, {"a": {"weight": 0.5}})
    derive = {"odd": {"by": "Window", "of": "weight", "low": 2}}
    run = run.but(stream=run.stream.but(derive=derive, reweight="odd").values())
    weights = {event: weight for event, weight, _ in _ids(list(_feed(run).steps())).values()}
    assert weights == {event: 0.5 for event in range(1, SIZES["a"], 2)}  # _ids leaves out rows of weight 0


@pytest.mark.parametrize(("policy", "seen"), [("error", None), ("abs", {0.0, 1.0, 3.0}), ("keep", {-3.0, -1.0, 0.0})])
def test_a_derived_weight_below_0_is_as_the_stream_says(policy: str, seen: set[float] | None) -> None:
    table = pa.table({"event_id": [7, 8, 9], "weight": [1.0, 1.0, 1.0], "minus": [-3.0, -1.0, 0.0]})
    weighting = Weighting(1.0, 0.0, "minus", policy)  # type: ignore[arg-type]
    if seen is None:
        with pytest.raises(DataError, match="minus is -3 for event 7"):
            training_weight(table, weighting)
    else:
        assert set(training_weight(table, weighting).tolist()) == seen


def test_rows_of_like_length_follow_each_other_and_padding_falls(tmp_path: Path) -> None:
    dice = np.random.default_rng(6)
    jets = np.minimum(dice.lognormal(1.5, 1.0, 3000).astype(int) + 1, 200)
    pt = ak.unflatten(dice.random(jets.sum()), jets)
    Events.write(ak.Array({"jet_pt": pt, "jet_eta": pt, "jet_phi": pt, "jet_mass": pt}), tmp_path / "tail")
    runs = {}
    for buckets in (None, {"of": "jet", "rows": 32}):
        scale = {"events_per_step": 384, "events_per_micro_batch": 32, "launch": "here", "engine": "torch"}
        run = _run(tmp_path, {"tail": {}}, scale=scale)
        run = run.but(stream=run.stream.but(buckets=buckets, chunk_rows=3000).values())
        runs["plain" if buckets is None else "buckets"] = list(_feed(run).steps())
    padded = {name: sum(batch.mask("jet").numel() for step in steps for batch in step.micro)
              for name, steps in runs.items()}  # fmt: skip
    assert padded["plain"] > 1.8 * padded["buckets"]
    for steps in runs.values():
        times = Counter(event for event, _, _ in _ids(steps).values())
        assert times == Counter(dict.fromkeys(range(3000), 2))
    first, second = (
        [event for (step, _, _), (event, _, _) in _ids(runs["buckets"]).items() if step in of]
        for of in (range(7), range(8, 15))
    )
    assert first != second  # the epochs differ


@given(st.integers(0, 12), st.integers(1, 9), st.integers(0, 8), st.integers(0, 99))
def test_buckets_are_blocks_of_the_rows_in_order_of_length(blocks: int, size: int, more: int, seed: int) -> None:
    length_B = np.random.default_rng(seed).integers(0, 9, blocks * size + more % size)
    rows = np.random.default_rng(seed + 1).permutation(len(length_B))
    out, again = (in_buckets(rows, length_B[rows], size, np.random.default_rng(seed)) for _ in range(2))
    assert np.array_equal(out, again)
    assert sorted(out.tolist()) == list(range(len(length_B)))
    if not more % size:
        in_order = np.sort(length_B).reshape(blocks, size)
        assert sorted(map(tuple, np.sort(length_B[out].reshape(blocks, size)))) == sorted(map(tuple, in_order))


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


def test_ahead_works_on_one_thread_and_leaves_the_consumer_its_own() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert list(ahead(torch.get_num_threads() for _ in range(3))) == [1, 1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


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
