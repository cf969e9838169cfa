"""From a sample's table to the rows of a task and back: rename, set, derive, each."""

from pathlib import Path

import awkward as ak
import numpy as np
import pyarrow as pa
import pytest

from jetscale.config import Values, build
from jetscale.data.chunks import check_samples
from jetscale.data.rows import NOT_TRAINED, Rows, rows_of
from jetscale.errors import JetscaleError
from jetscale.events import Events, Manifest, write_manifest, write_shard
from jetscale.schema import Column, Schema
from jetscale.stream import Stream

ID = Column(name="event_id", dtype="int64", unit="", doc="")
WEIGHT = Column(name="weight", dtype="float64", unit="", doc="")
MJJ = Column(name="mjj", dtype="float32", unit="GeV", doc="")
LABEL = Column(name="label", dtype="int8", unit="", doc="", missing=-1)
PT = Column(name="jet_pt", of="jet", dtype="float32", unit="GeV", doc="")
COUNT = Column(name="jet_n_particle", of="jet", dtype="int32", unit="", doc="")
PARTICLE = Column(name="particle_pt", of="particle", dtype="float32", unit="GeV", doc="")
SAMPLE = Schema(columns=(ID, WEIGHT, MJJ, PT, COUNT, PARTICLE))
JETS = Schema(columns=(ID, PT.but(of=None), MJJ, PARTICLE, Column(name="jet_index", dtype="int32", unit="", doc="")))
EVENTS = 40


def _table() -> pa.Table:
    dice = np.random.default_rng(5)
    jets = dice.integers(0, 5, EVENTS)
    particles = dice.integers(0, 4, jets.sum())
    counts = ak.unflatten(particles.astype(np.int32), jets)
    columns = {
        "event_id": np.arange(EVENTS) * 7,
        "weight": np.ones(EVENTS),
        "mjj": dice.uniform(1000, 5000, EVENTS).astype(np.float32),
        "jet_pt": ak.unflatten(dice.uniform(20, 500, jets.sum()).astype(np.float32), jets),
        "jet_n_particle": counts,
        "particle_pt": ak.unflatten(dice.random(particles.sum()).astype(np.float32), ak.sum(counts, axis=1)),
    }
    arrays = {name: ak.to_arrow(ak.Array(values), extensionarray=False, list_to32=True).cast(SAMPLE[name].arrow)
              for name, values in columns.items()}  # fmt: skip
    return pa.table(arrays)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    shard = write_shard(_table(), folder / "shard-00000.parquet", SAMPLE)
    write_manifest(Manifest(name="sample", columns=SAMPLE.columns, shards=(shard,)), folder)
    return folder


def _stream(folder: Path, source: Values | None = None, **settings: object) -> Stream:
    values = {"samples": {"a": {"events": str(folder), **(source or {})}}, **settings}
    return build(Stream, values, "job", under="stream")


def _rows(folder: Path, wanted: Schema, source: Values | None = None, **settings: object) -> Rows:
    return rows_of(_stream(folder, source, **settings), "a", Events.open(folder), wanted, seed=1)


def _made(
    folder: Path, wanted: list[Column], source: Values | None = None, epoch: int = 0, **settings: object
) -> pa.Table:
    schema = Schema(columns=tuple(wanted))
    rows = _rows(folder, schema, source, **settings)
    return rows.make(Events.open(folder).read(rows.raw(schema.names)), schema.names, epoch)


def test_a_plain_stream_changes_nothing_and_reads_nothing_more(folder: Path) -> None:
    rows = _rows(folder, SAMPLE.only(["mjj", "jet_pt"]))
    assert rows.plain
    assert rows.raw(["mjj", "jet_pt"]) == ("mjj", "jet_pt")
    assert rows.make(_table(), ["jet_pt"], 3).equals(_table().select(["jet_pt"]))


def test_rename_set_and_what_a_sample_says_itself(folder: Path) -> None:
    mass = MJJ.but(name="mass")
    made = _made(folder, [ID, mass, LABEL], {"set": {"label": 1}}, rename={"mjj": "mass"}, set={"label": 0})
    assert made["mass"].equals(_table()["mjj"])
    assert made["label"].to_pylist() == [1] * EVENTS
    assert made.schema == Schema(columns=(ID, mass, LABEL)).arrow
    other = _made(folder, [mass], {"rename": {"weight": "mass"}}, rename={"mjj": "mass"})
    assert other["mass"].to_pylist() == [1.0] * EVENTS


def test_a_number_for_a_collection_stands_for_each_member(folder: Path) -> None:
    made = _made(folder, [ID, PT], set={"jet_pt": 3})
    assert made["jet_pt"].to_pylist() == [[3.0] * len(jets) for jets in _table()["jet_pt"].to_pylist()]


def test_set_takes_the_place_of_a_derived_column(folder: Path) -> None:
    theta = MJJ.but(name="theta")
    derive = {"theta": {"by": "Uniform", "low": 0, "high": 1}}
    assert _made(folder, [ID, theta], derive=derive, set={"theta": 900})["theta"].to_pylist() == [900.0] * EVENTS


def test_derived_columns_may_be_made_of_derived_ones(folder: Path) -> None:
    hard = LABEL.but(name="hard")
    derive = {"hard": {"by": "Window", "of": "ht", "low": 600}, "ht": {"by": "Sum", "of": "jet_pt"}}
    made = _made(folder, [hard], derive=derive)
    sums = [sum(np.float64(pt) for pt in jets) for jets in _table()["jet_pt"].to_pylist()]
    assert made["hard"].to_pylist() == [int(total >= 600) for total in sums]
    assert 0 < sum(made["hard"].to_pylist()) < EVENTS


def test_drawn_values_depend_on_epoch_event_and_name_and_not_on_the_chunk(folder: Path) -> None:
    theta = [MJJ.but(name=name) for name in ("theta", "phi")]
    derive = {column.name: {"by": "Uniform", "low": 0, "high": 1} for column in theta}
    rows = _rows(folder, Schema(columns=(ID, *theta)), derive=derive)
    whole = rows.make(_table(), ["theta", "phi"], 4)
    again = rows.make(_table().take(pa.array([17, 3])), ["theta", "phi"], 4)
    assert again.equals(whole.take(pa.array([17, 3])))
    assert len(set(whole["theta"].to_pylist()) | set(whole["phi"].to_pylist())) == 2 * EVENTS
    assert not set(whole["theta"].to_pylist()) & set(rows.make(_table(), ["theta"], 5)["theta"].to_pylist())


def test_each_makes_one_row_of_each_member(folder: Path) -> None:
    made = _made(folder, list(JETS.columns), each={"of": "jet"})
    want = []
    for event in _table().to_pylist():
        start = 0
        for place, (pt, count) in enumerate(zip(event["jet_pt"], event["jet_n_particle"], strict=True)):
            particles = event["particle_pt"][start : start + count]
            want.append({"event_id": event["event_id"], "jet_pt": pt, "mjj": event["mjj"], "particle_pt": particles,
                         "jet_index": place})  # fmt: skip
            start += count
    assert made.to_pylist() == want


def test_the_first_members_only(folder: Path) -> None:
    made, whole = (_made(folder, list(JETS.columns), each=each) for each in ({"of": "jet", "first": 2}, {"of": "jet"}))
    assert made.to_pylist() == [row for row in whole.to_pylist() if row["jet_index"] < 2]


def test_with_each_sums_of_an_events_jets_come_first_and_those_of_a_jets_particles_after(folder: Path) -> None:
    ht, pt = MJJ.but(name="ht"), MJJ.but(name="sum_pt")
    derive = {"ht": {"by": "Sum", "of": "jet_pt"}, "sum_pt": {"by": "Sum", "of": "particle_pt"},
              "theta": {"by": "Uniform", "low": 0, "high": 1}}  # fmt: skip
    wanted = [*JETS.columns, ht, pt, MJJ.but(name="theta")]
    rows = _made(folder, wanted, each={"of": "jet"}, derive=derive).to_pylist()
    by_event = {event["event_id"]: sum(map(np.float64, event["jet_pt"])) for event in _table().to_pylist()}
    assert [row["ht"] for row in rows] == pytest.approx([by_event[row["event_id"]] for row in rows])
    assert [row["sum_pt"] for row in rows] == pytest.approx([sum(row["particle_pt"]) for row in rows])
    assert len({row["theta"] for row in rows}) == len(rows)  # one draw per row, not per event


@pytest.mark.parametrize("first", [None, 2])
def test_scores_of_members_become_lists_again(folder: Path, first: int | None) -> None:
    outputs = Schema(columns=(Column(name="jet_score", dtype="float32", unit="", doc="", missing=-1),
                              Column(name="particle_score", of="particle", dtype="float32", unit="", doc="",
                                     missing=-2)))  # fmt: skip
    rows = _rows(folder, JETS, each={"of": "jet", "first": first})
    made = rows.make(_table(), JETS.names, NOT_TRAINED)
    back = rows.back(_table(), pa.table({"jet_score": made["jet_pt"], "particle_score": made["particle_pt"]}), outputs)
    for event, scored in zip(_table().to_pylist(), back.to_pylist(), strict=True):
        known = len(event["jet_pt"]) if first is None else min(first, len(event["jet_pt"]))
        assert scored["jet_score"] == event["jet_pt"][:known] + [-1.0] * (len(event["jet_pt"]) - known)
        inside = sum(event["jet_n_particle"][:known])
        assert scored["particle_score"] == event["particle_pt"][:inside] + [-2.0] * (len(event["particle_pt"]) - inside)
    assert [column.of for column in rows.back_schema(outputs).each()] == ["jet", "particle"]


def test_counts_that_do_not_add_up_are_named(folder: Path) -> None:
    table = _table()
    wrong = pa.array([[n + 1 for n in counts] for counts in table["jet_n_particle"].to_pylist()], pa.list_(pa.int32()))
    rows = _rows(folder, JETS, each={"of": "jet"})
    with pytest.raises(JetscaleError, match="particle_pt has .* entries, the counts say"):
        rows.make(table.set_column(4, "jet_n_particle", wrong), JETS.names, 0)


def test_a_sample_that_is_scored_may_lack_what_is_not_known(folder: Path) -> None:
    wanted = Schema(columns=(ID, MJJ, LABEL))
    rows = rows_of(_stream(folder), None, Events.open(folder), wanted, 1, scored=True)
    assert rows.make(_table(), wanted.names, NOT_TRAINED)["label"].to_pylist() == [-1] * EVENTS
    with pytest.raises(JetscaleError, match="column 'label' is missing"):
        _rows(folder, wanted)


def test_a_sample_that_is_scored_may_lack_what_only_the_training_looks_at(folder: Path, tmp_path: Path) -> None:
    schema = Schema(columns=tuple(column for column in SAMPLE.each() if column.name != "mjj"))
    shard = write_shard(_table().select(schema.names), tmp_path / "shard-00000.parquet", schema)
    write_manifest(Manifest(name="fresh", columns=schema.columns, shards=(shard,)), tmp_path)
    derive = {"ht": {"by": "Sum", "of": "jet_pt"}, "high": {"by": "Window", "of": "ht", "low": 100},
              "w": {"by": "Flat", "of": "mjj", "edges": [1000, 3000, 5000]}}  # fmt: skip
    stream = _stream(folder, derive=derive, reweight="w", select={"mjj": (1000, None)})
    wanted = Schema(columns=(ID, PT, Column(name="high", dtype="int8", unit="", doc="")))
    rows = rows_of(stream, None, Events.open(tmp_path), wanted, 1, scored=True)
    made = rows.make(Events.open(tmp_path).read(rows.raw(wanted.names)), wanted.names, NOT_TRAINED)
    assert set(made["high"].to_pylist()) == {0, 1}
    with pytest.raises(JetscaleError, match="stream.derive.w: there is no column 'mjj' to make it of"):
        rows_of(stream, "a", Events.open(tmp_path), wanted, 1)


def test_numbers_of_another_type_become_the_tasks(folder: Path) -> None:
    wide = MJJ.but(dtype="float64")
    assert _made(folder, [ID, wide])["mjj"].type == pa.float64()


def test_a_derived_value_that_is_not_finite_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np\nfrom jetscale.derive import Derived\nfrom jetscale.schema import Column\n"
        "class Broken(Derived):\n"
        "    def column(self, name, schema): return Column(name=name, dtype='float32', unit='', doc='')\n"
        "    def make(self, table, key_B): return np.full(table.num_rows, np.nan)\n"
    )
    with pytest.raises(JetscaleError, match=f"the derived column 'x' has {EVENTS} values that are not finite"):
        _made(folder, [ID, MJJ.but(name="x")], derive={"x": {"by": f"{tmp_path}/mine.py:Broken"}})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rename": {"mjk": "mass"}}, r"stream.rename.mjk: no column 'mjk' in .*(.|\n)*did you mean 'mjj'"),
        ({"rename": {"mjj": "weight"}}, r"stream.rename.mjj: .* has a column 'weight' already"),
        ({"rename": {"mjj": "mass", "weight": "mass"}}, r"has a column 'mass' already"),
        ({"set": {"jet_n_particle": 1.5}}, r"stream.set.jet_n_particle: 1.5 is not of the type int32"),
        ({"derive": {"ht": {"by": "Sum", "of": "jet_tp"}}}, r"derive.ht: there is no column 'jet_tp'(.|\n)*jet_pt"),
        ({"derive": {"ht": {"by": "Sum", "of": "mjj"}}}, r"'mjj' holds one number per row, and Sum wants a list"),
        ({"derive": {"sr": {"by": "Window", "of": "jet_pt", "low": 1}}}, r"holds a list per row, and Window wants one"),
        ({"derive": {"mjj": {"by": "Sum", "of": "jet_pt"}}}, r"the sample has a column 'mjj' already"),
        ({"derive": {"a": {"by": "Window", "of": "b", "low": 1}, "b": {"by": "Window", "of": "a", "low": 1}}},
         r"is made of itself: a of b of a"),
        ({"each": {"of": "lepton"}}, r"stream.each.of: there is no collection 'lepton'"),
        ({"select": {"mass": (0, 1)}}, r"column 'mass' is missing"),
        ({"derive": {"t": {"by": "Uniform", "low": 0, "high": 1}}, "select": {"t": (0, 0.5)}},
         r"stream.select: 't' is not the same in every epoch"),
        ({"derive": {"t": {"by": "Uniform", "low": 0, "high": 1}, "s": {"by": "Window", "of": "t", "low": 0.5}},
          "select": {"s": (1, 2)}}, r"stream.select: 's' is not the same in every epoch"),
        ({"buckets": {"of": "lepton", "rows": 8}}, r"stream.buckets.of: the task has no collection 'lepton'"),
    ],
)  # fmt: skip
def test_what_a_samples_rows_cannot_have_is_refused_before_anything_is_read(
    folder: Path, settings: Values, said: str
) -> None:
    stream = _stream(folder, **settings)
    with pytest.raises(JetscaleError, match=said):
        check_samples(stream, stream.open(), Schema(columns=(ID, WEIGHT)), 1)


def test_an_output_must_say_what_stands_for_members_that_are_no_rows(folder: Path) -> None:
    rows = _rows(folder, JETS, each={"of": "jet", "first": 1})
    outputs = Schema(columns=(Column(name="jet_score", dtype="float32", unit="", doc=""),))
    with pytest.raises(JetscaleError, match="'jet_score' has no value for members after the first 1"):
        rows.back_schema(outputs)
