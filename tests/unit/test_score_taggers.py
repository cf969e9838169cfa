"""What a tagger says of jets, as files: a probability per class and jet, in Parquet and in ROOT."""

from pathlib import Path

import awkward as ak
import numpy as np
import pandas
import pyarrow as pa
import pytest
import uproot

from jetscale import cli
from jetscale.data.batch import batch
from jetscale.evaluate.report import Scored, report
from jetscale.evaluate.tagging import results
from jetscale.events import Events, Manifest, write_manifest, write_shard
from jetscale.run import resolve
from jetscale.schema import EVENT_ID, JET, JET_LABEL, PARTICLES, WEIGHT, Column, Schema
from jetscale.systems.particlenet import ParticleNet
from jetscale.task import At
from jetscale.train import checkpoint
from jetscale.train.launch import train

CLASSES = {"qcd": ["qcd"], "boson": ["w", "z"], "top": ["top"]}
SAID = [f"probability_{name}" for name in CLASSES]
JETS, EVENTS = 240, 90
COUNT = Column(name="jet_n_particle", of="jet", dtype="int32", unit="", doc="particles of the jet")


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Jets as a sample of jets and as one of events with none to five of them; a run on either."""
    room = tmp_path_factory.mktemp("room")
    jets = ParticleNet(classes=CLASSES).toy(JETS, 1)
    Events.write(jets, room / "jets", rows_per_shard=100)
    per_event = np.random.default_rng(3).multinomial(JETS, np.ones(EVENTS) / EVENTS)
    assert per_event.min() == 0
    of_jets = [column.but(of="jet") for column in (*JET.columns, JET_LABEL)]
    schema = Schema(columns=(EVENT_ID, WEIGHT, *of_jets, COUNT, *PARTICLES.columns))
    columns = {"event_id": np.arange(EVENTS) + 7, "weight": np.ones(EVENTS)}
    columns |= {one.name: ak.unflatten(ak.Array(jets[one.name].to_numpy()), per_event) for one in of_jets}
    for one in PARTICLES.columns:
        nested = ak.unflatten(ak.Array(jets[one.name].to_pylist()), per_event)
        columns |= {COUNT.name: ak.num(nested, axis=2), one.name: ak.flatten(nested, axis=2)}
    table = pa.table([pa.array(ak.to_list(columns[one.name])).cast(one.arrow) for one in schema.each()],
                     schema=schema.arrow)  # fmt: skip
    shard = write_shard(table, room / "events" / "shard-00000.parquet", schema)
    write_manifest(Manifest(name="events", columns=schema.columns, shards=(shard,)), room / "events")
    for sample, more in (("jets", {}), ("events", {"each": {"of": "jet"}})):
        values = {"system": "efn", "task": {"classes": CLASSES, "phi": [8, 6], "f": [6]}, "horizon": {"steps": 2},
                  "stream": {"samples": {sample: {"events": str(room / sample)}}, **more}, "track": {"wandb": False},
                  "scale": {"engine": "torch", "launch": "here", "events_per_step": 48}}  # fmt: skip
        train(resolve([("test", values)], "test").run, room / f"on {sample}")
    return room


def scored(room: Path, sample: str) -> Path:
    """Scored as a user does it, for ROOT too."""
    out = room / f"scored {sample}"
    assert cli.main(["score", str(room / f"on {sample}"), "--events", str(room / sample), "--out", str(out),
                     "--format", "root"]) == 0  # fmt: skip
    return out


def test_jets_have_a_probability_of_every_class(room: Path) -> None:
    out = scored(room, "jets")
    table = pandas.read_parquet(out)
    assert len(table) == JETS and list(table.event_id) == list(Events.open(room / "jets").read()["event_id"].to_numpy())
    assert (table[SAID].dtypes == np.float32).all() and table[SAID].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-6)
    assert table[SAID].std().min() > 1e-3 and set(table.split) == {0, 1, 2}
    docs = {column.name: column.doc for column in Events.open(out).manifest.columns}
    assert docs["probability_boson"] == "that the jet is w or z"
    tree = uproot.open(out.with_name(f"{out.name}.root"))["events"]
    for name in (*SAID, "jet_label", "jet_pt", "split"):
        assert tree[name].array().to_list() == table[name].to_list()
    assert tree["particle_pt"].array().to_list() == [list(one) for one in table.particle_pt]


def test_jets_of_events_have_theirs_in_their_place(room: Path) -> None:
    out = scored(room, "events")
    table = Events.open(out).read()
    assert table["probability_top"].type == pa.list_(pa.float32())
    tree = uproot.open(out.with_name(f"{out.name}.root"))["events"]
    of_jets = tree.arrays([f"jet_{name}" for name in (*SAID, "pt")])
    assert of_jets["jet_probability_top"].to_list() == table["probability_top"].to_pylist()
    assert ak.num(of_jets["jet_probability_qcd"]).to_list() == [len(one) for one in table["jet_pt"].to_pylist()]
    alone = _alone(room)
    for name in SAID:
        assert np.concatenate(table[name].to_pylist()) == pytest.approx(alone[name].to_numpy(), abs=1e-6)


def _alone(room: Path) -> pandas.DataFrame:
    """The same jets, one by one, scored with the run that was trained on events."""
    run, net = checkpoint.load(room / "on events")
    none = np.zeros(JETS, dtype=np.int64)
    seen = batch([Events.open(room / "jets").read()], run.task.columns, np.ones(JETS), none, none, At(0, 0, 0.0), 1)
    return pandas.DataFrame({name: one.detach().numpy() for name, one in run.task.score(net, seen).items()})


def test_jets_of_events_are_reported_one_by_one(room: Path, tmp_path: Path) -> None:
    out = scored(room, "events")
    table = Events.open(out).read()
    held = [split >= 2 for split in table["split"].to_pylist()]
    count = [len(one) for one in table["jet_pt"].to_pylist()]
    found = results.jets([Scored("run", Events.open(out))])
    assert len(found) == sum(n for n, kept in zip(count, held, strict=True) if kept)
    assert found.left_out == sum(n for n, kept in zip(count, held, strict=True) if not kept)
    pt = [pt for one, kept in zip(table["jet_pt"].to_pylist(), held, strict=True) if kept for pt in one]
    assert found.axis["jet_pt"].tolist() == pt
    page = report([Scored("run", Events.open(out), room / "on events")], tmp_path / "report", command="", wall={})
    assert f"{len(found):,} held-out jets of 3 classes" in page.read_text()
