"""Ray Data and Ray tasks give the same bits as this process alone: derived columns, members, buckets, fits."""

from pathlib import Path
from typing import Any

import pytest

from jetscale.config import Values
from jetscale.data.chunks import check_samples, count, needed, readers
from jetscale.data.feed import Feed, Step, weightings
from jetscale.data.fit import fit, fit_stream
from jetscale.data.plan import Plan
from jetscale.data.source import PyarrowBytes, RayBytes
from jetscale.errors import DataError
from jetscale.events import Events
from jetscale.run import Run, resolve
from jetscale.schema import JET_EVENTS, Column, Schema
from jetscale.stream import Stream
from jetscale.systems.assigner import Assigner

pytestmark = pytest.mark.ray

NUMBER = Column(name="", dtype="float32", unit="", doc="")
JETS = JET_EVENTS.only(["event_id", "weight", "jet_pt"]).plus(
    JET_EVENTS["jet_pt"].but(of=None), *(NUMBER.but(name=name) for name in ("ht", "theta", "flat", "twice"))
)
MINE = """
from jetscale.derive import Derived
from jetscale.schema import Column

class Twice(Derived):
    of: str
    def numbers(self):
        return (self.of,)
    def column(self, name, schema):
        return Column(name=name, dtype="float32", unit="GeV", doc="twice")
    def make(self, table, key_B):
        return 2.0 * table[self.of].to_numpy()
"""


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    Events.write(Assigner().toy(1501, 1), folder / "large", rows_per_shard=401)
    Events.write(Assigner().toy(200, 2), folder / "small", rows_per_shard=90)
    (folder / "mine.py").write_text(MINE)
    return folder


def _run(samples: Path, launch: str, task: Values | None = None, **stream: object) -> Run:
    mixture = {"large": {"events": str(samples / "large"), "share": 0.7},
               "small": {"events": str(samples / "small"), "share": 0.3}}  # fmt: skip
    given = {"samples": mixture, "chunk_rows": 300, **stream}
    values = {"system": "assigner", "task": task or {}, "stream": given, "horizon": {"epochs": 1.5},
              "scale": {"events_per_step": 240, "launch": launch}}  # fmt: skip
    return resolve([("test", values)], "test").run


def _counted(run: Run, schema: Schema) -> dict[str, Any]:
    opened = run.stream.open()
    rows = check_samples(run.stream, opened, needed(schema), run.seed)
    return {name: count(events, run.stream, rows[name]) for name, events in opened.items()}


def _steps(run: Run, ray: bool, schema: Schema) -> list[Step]:
    ours = readers(run.stream, run.stream.open(), needed(schema), "train", run.seed)
    chunks = _counted(run, schema)
    source = RayBytes(ours, chunks, 0.25) if ray else PyarrowBytes(ours, chunks)
    means = dict.fromkeys(chunks, 1.0)
    return list(Feed(Plan(run, chunks), source, schema, weightings(run.stream, means), rank=1, world=3).steps(2))


def _fitted(run: Run) -> Stream:
    return fit_stream(run, run.stream.open(), _counted(run, JETS), dict.fromkeys(run.stream.samples, 1.0)).stream


def test_both_sources_and_both_fits_give_the_same_bits(samples: Path, ray_here: None) -> None:
    settings: Values = {
        "each": {"of": "jet", "first": 6},
        "derive": {"ht": {"by": "Sum", "of": "jet_pt"},
                   "theta": {"by": "Drawn", "of": "true_mass", "rows": {"decay_mode": [1, None]}},
                   "flat": {"by": "Flat", "of": "jet_pt", "edges": [20, 50, 100, 200, 400, 4000], "log": True},
                   "twice": {"by": f"{samples}/mine.py:Twice", "of": "theta"}},
        "select": {"jet_pt": [20, None]},
        "reweight": "flat",
    }  # fmt: skip
    run = _run(samples, "ray", **settings)
    stream = _fitted(run)
    assert stream == _fitted(_run(samples, "here", **settings))
    assert stream.derive["theta"].fitted and stream.derive["flat"].fitted
    run = run.model_copy(update={"stream": stream})
    pairs = list(zip(_steps(run, True, JETS), _steps(run, False, JETS), strict=True))
    assert len({pair[0].at.epoch for pair in pairs}) == 2
    for ours, theirs in pairs:
        for one, other in zip(ours.micro, theirs.micro, strict=True):
            assert one.columns.keys() == set(JETS.names)
            assert all(one[name].equal(other[name]) for name in one.columns)
            assert one.weight_B.equal(other.weight_B)
            assert one["twice"].equal(2 * one["theta"])


def test_both_sources_put_the_same_rows_into_buckets(samples: Path, ray_here: None) -> None:
    run = _run(samples, "ray", buckets={"of": "jet", "rows": 20})
    for ours, theirs in zip(_steps(run, True, JET_EVENTS), _steps(run, False, JET_EVENTS), strict=True):
        for one, other in zip(ours.micro, theirs.micro, strict=True):
            assert one["event_id"].equal(other["event_id"])
            assert one["jet_pt"].equal(other["jet_pt"])


def test_a_tasks_numbers_are_the_same_bits_however_many_tasks_fit_them(samples: Path, ray_here: None) -> None:
    numbers = []
    for launch in ("ray", "here"):
        run = _run(samples, launch, {"standardise": True})
        chunks = _counted(run, JET_EVENTS)
        numbers.append(fit(run, run.stream.open(), chunks, dict.fromkeys(chunks, 1.0))["jets"])
    assert numbers[0].keys() == numbers[1].keys()
    assert all(tensor.equal(numbers[1][name]) for name, tensor in numbers[0].items())


def test_what_a_task_refuses_arrives_as_it_was_said(samples: Path, ray_here: None) -> None:
    run = _run(samples, "ray", {"standardise": True})
    chunks = _counted(run, JET_EVENTS)
    wrong = {name: tuple(one._replace(selected={**one.selected, "train": one.selected["train"] + 1}) for one in of)
             for name, of in chunks.items()}  # fmt: skip
    with pytest.raises(DataError, match="selected rows, but .* were counted"):
        fit(run, run.stream.open(), wrong, dict.fromkeys(chunks, 1.0))
