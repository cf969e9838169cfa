"""Numbers fitted over the training part: of a task and of its stream."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from jetscale import cli
from jetscale.aggregates import Fractions, Histogram, Moments
from jetscale.config import Values
from jetscale.data.batch import batch
from jetscale.data.fit import fit, fit_stream
from jetscale.data.split import part_of
from jetscale.errors import DataError, TrainError
from jetscale.events import Events
from jetscale.run import Run, load, read, resolve
from jetscale.systems.assigner import Assigner
from jetscale.task import At, Batch
from jetscale.train import checkpoint
from jetscale.train.launch import prepare, train


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    Events.write(Assigner().toy(900, 1), folder / "a", rows_per_shard=170)
    Events.write(Assigner().toy(300, 2), folder / "b", rows_per_shard=90)
    return folder


def _run(folder: Path, task: Values | None = None, **stream: object) -> Run:
    given = {"samples": {name: {"events": str(folder / name)} for name in ("a", "b")}, "chunk_rows": 150, **stream}
    values = {"system": "assigner", "task": {"width": 8, "layers": 2, **(task or {})}, "stream": given,
              "horizon": {"steps": 3}, "scale": {"launch": "here", "engine": "torch", "events_per_step": 48},
              "track": {"wandb": False}}  # fmt: skip
    return resolve([("test", values)], "test").run


def _numbers(run: Run) -> dict[str, Tensor]:
    opened = run.stream.open()
    counted = prepare(run, opened)
    return dict(fit(run, opened, counted.chunks, counted.means)["jets"])


def _training_rows(run: Run, name: str) -> pa.Table:
    table = Events.open(run.stream.samples[name].events).read()
    return table.filter(pa.array(part_of(table["event_id"].to_numpy(), run.stream.split) == 0))


def _batch(table: pa.Table, weight: float) -> Batch:
    rows = table.num_rows
    return batch([table], Assigner.columns, np.full(rows, weight), np.zeros(rows, dtype=np.int64), np.arange(rows),
                 At(0, 0, 1.0), 1)  # fmt: skip


def test_moments_are_those_of_the_training_rows_as_they_are_mixed_and_weighted(samples: Path) -> None:
    paths: Values = {name: {"events": str(samples / name), "share": 0.5} for name in "ab"}
    paths["b"]["weight"] = 3.0
    run = _run(samples, {"standardise": True}, samples=paths)
    need = run.task.needs()["jets"]
    tables = {name: _training_rows(run, name) for name in paths}
    total = sum(table.num_rows for table in tables.values())
    values, weights = [], []
    for name, weight in (("a", 1.0), ("b", 3.0)):
        assert isinstance(need, Moments)
        features, weight_BJ = need.features(_batch(tables[name], weight * 0.5 * total / tables[name].num_rows))
        values.append(features[weight_BJ != 0].double())
        weights.append(weight_BJ[weight_BJ != 0].double())
    every, weight_X = torch.cat(values).numpy(), torch.cat(weights).numpy()
    mean = np.average(every, axis=0, weights=weight_X)
    deviation = np.sqrt(np.average((every - mean) ** 2, axis=0, weights=weight_X))
    found = _numbers(run)
    assert found["mean"].numpy() == pytest.approx(mean, abs=1e-5)
    assert found["deviation"].numpy() == pytest.approx(deviation, rel=1e-4)


@pytest.mark.parametrize("change", ["chunk_rows", "threads"])
def test_numbers_do_not_depend_on_how_they_are_added_up(samples: Path, change: str) -> None:
    run = _run(samples, {"standardise": True})
    first = _numbers(run)
    if change == "threads":
        before = torch.get_num_threads()
        torch.set_num_threads(before + 1)
        again = _numbers(run)
        torch.set_num_threads(before)
        assert all(tensor.equal(again[name]) for name, tensor in first.items())
    else:
        again = _numbers(_run(samples, {"standardise": True}, chunk_rows=1000))
        assert all(tensor.allclose(again[name], rtol=1e-5, atol=1e-6) for name, tensor in first.items())


def test_a_task_without_needs_reads_nothing(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = _run(samples)
    monkeypatch.setattr("jetscale.data.fit.TrainingPart.read", None)
    assert fit(run, {}, {}, {}) == {}


def test_fitted_numbers_travel_with_the_weights(samples: Path, tmp_path: Path) -> None:
    run = _run(samples, {"standardise": True})
    numbers = _numbers(run)
    out = train(run, tmp_path / "run")
    trained = checkpoint.load(out)[1]
    assert trained.get_buffer("mean_C").equal(numbers["mean"])
    start = checkpoint.load_start(out)[1]
    fresh = run.task.build(run.seed, {"jets": numbers}).eval()
    neutral = run.task.build(run.seed, run.task.neutral())
    assert not neutral.get_buffer("mean_C").equal(numbers["mean"])
    neutral.load_state_dict(fresh.state_dict())
    rows = _batch(_training_rows(run, "b"), 1.0)
    scores = [run.task.score(net.eval(), rows)["reco_mass"] for net in (fresh, neutral, start)]
    assert scores[0].equal(scores[1])
    assert scores[0].equal(scores[2])
    warm = _run(samples, {"standardise": True}, chunk_rows=140).but(start=str(out))
    again = checkpoint.load(train(warm, tmp_path / "warm"))[1]
    assert again.get_buffer("mean_C").equal(numbers["mean"])


def test_standardised_features_have_mean_0_and_deviation_1(samples: Path) -> None:
    run = _run(samples, {"standardise": True, "inputs": "absolute"})
    numbers = _numbers(run)
    need = run.task.needs()["jets"]
    assert isinstance(need, Moments)
    features, weight_BJ = need.features(_batch(pa.concat_tables(_training_rows(run, name) for name in "ab"), 1.0))
    scaled = ((features - numbers["mean"]) / numbers["deviation"])[weight_BJ != 0]
    assert scaled.mean(0).numpy() == pytest.approx(np.zeros(8), abs=1e-3)
    assert scaled.std(0).numpy() == pytest.approx(np.ones(8), rel=1e-2)


def test_what_cannot_be_used_is_counted_and_named(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Assigner, rows: Batch) -> tuple[Tensor, Tensor]:
        mask_BJ = rows.mask("jet")
        return torch.full((*mask_BJ.shape, 8), 1.0).index_fill_(2, torch.tensor([1]), torch.nan), mask_BJ.float()

    run = _run(samples, {"standardise": True})
    monkeypatch.setattr(Assigner, "_features", broken)
    with pytest.raises(DataError, match=r"fit of 'jets': \d+ values of 'eta' cannot be used"):
        _numbers(run)


class _Rows:
    """As much of a batch as these aggregates look at: numbers and weights."""

    def __init__(self, values: list[float], weights: list[float]) -> None:
        self.pair = (torch.tensor(values), torch.tensor(weights))


def _pair(rows: object) -> tuple[Tensor, Tensor]:
    assert isinstance(rows, _Rows)
    return rows.pair


@given(
    st.lists(st.tuples(st.floats(-3, 3, width=32), st.sampled_from([0.0, 1.0, 2.5])), min_size=1, max_size=30),
    st.integers(0, 30),
)
def test_sums_add_up_over_batches(rows: list[tuple[float, float]], cut: int) -> None:
    values, weights = map(list, zip(*rows, strict=True))
    labels = [float(int(value > 0)) for value in values]
    for need, numbers in ((Moments(lambda b: (_pair(b)[0][:, None], _pair(b)[1]), ("x",)), values),
                          (Histogram(_pair, (-2.0, 0.0, 2.0), ("x",)), values),
                          (Fractions(_pair, 2, ("label",)), labels)):  # fmt: skip
        whole = need.sums(_Rows(numbers, weights))  # type: ignore[arg-type]
        parts = [need.sums(_Rows(numbers[of], weights[of])) for of in (slice(cut), slice(cut, None))]  # type: ignore[arg-type]
        for key, tensor in whole.items():
            assert tensor.dtype == torch.float64
            assert tensor.tolist() == pytest.approx((parts[0][key] + parts[1][key]).tolist(), abs=1e-9)


def test_shares_of_bins_and_classes() -> None:
    histogram = Histogram(_pair, (0.0, 1.0, 3.0), ("x",))
    rows = _Rows([0.0, 0.5, 1.0, 3.0, -1.0], [1.0, 2.0, 1.0, 5.0, 5.0])
    assert histogram.numbers(histogram.sums(rows))["share"].tolist() == [0.75, 0.25]  # type: ignore[arg-type]
    fractions = Fractions(_pair, 3, ("label",))
    sums = fractions.sums(_Rows([0.0, 2.0, 2.0, 7.0], [1.0, 1.0, 2.0, 0.0]))  # type: ignore[arg-type]
    assert fractions.numbers(sums)["share"].tolist() == [0.25, 0.0, 0.75]
    assert sums["odd"].tolist() == [0.0]
    assert fractions.sums(_Rows([7.0, float("nan")], [1.0, 0.0]))["odd"].tolist() == [1.0]  # type: ignore[arg-type]
    for need in (histogram, fractions):
        assert need.neutral()["share"].sum().item() == pytest.approx(1.0)


def test_the_streams_numbers_are_fitted_on_training_rows_and_stand_in_the_resolved_run(
    samples: Path, tmp_path: Path
) -> None:
    edges = [590.0, 1050.0, 1350.0, 1850.0]
    derive = {"theta": {"by": "Drawn", "of": "true_mass", "rows": {"decay_mode": (1, None)}},
              "w": {"by": "Flat", "of": "theta", "edges": edges}}  # fmt: skip
    run = _run(samples, derive=derive, reweight="w")
    opened = run.stream.open()
    counted = prepare(run, opened)
    fitted = fit_stream(run, opened, counted.chunks, counted.means)
    table = pa.concat_tables(_training_rows(run, name) for name in "ab")
    mass = table["true_mass"].to_numpy()[table["decay_mode"].to_numpy() >= 1]
    values, counts = np.unique(mass, return_counts=True)
    assert fitted.stream.derive["theta"].fitted["values"] == tuple(values.tolist())
    assert fitted.stream.derive["theta"].fitted["shares"] == pytest.approx(counts / counts.sum())
    assert len(fitted.stream.derive["w"].fitted["weights"]) == 3  # of a column that had to be fitted first
    out = train(run, tmp_path / "run")
    assert read(out).stream == fitted.stream
    assert train(run, out) == out  # the fitted numbers make it no other run
    with pytest.raises(TrainError, match=r"changed: stream.chunk_rows: 150 -> 160\n"):
        train(_run(samples, derive=derive, reweight="w", chunk_rows=160), out)


def test_a_kept_run_is_a_job_and_what_it_has_fitted_is_fitted_anew(samples: Path, tmp_path: Path) -> None:
    derive = {"w": {"by": "Flat", "of": "true_mass", "edges": [590.0, 1050.0, 1850.0]}}
    run = _run(samples, derive=derive, reweight="w")
    first = read(train(run, tmp_path / "first"))
    assert first.stream.derive["w"].fitted
    job = tmp_path / "first" / "run.yaml"
    assert load(job).run == run
    assert cli.main(["train", str(job), "--out", str(tmp_path / "again")]) == 0
    assert read(tmp_path / "again") == first
    of_b = load(job, [f"stream.samples={{b: {{events: '{samples / 'b'}'}}}}"]).run
    want = read(train(of_b, tmp_path / "b")).stream
    assert want.derive["w"].fitted != first.stream.derive["w"].fitted
    believing = first.model_copy(update={"stream": first.stream.model_copy(update={"samples": of_b.stream.samples})})
    assert read(train(believing, tmp_path / "python")).stream == want
