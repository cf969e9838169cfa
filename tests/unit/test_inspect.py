"""A look at a sample: what is said of every column is what it holds, and odd columns spoil neither plots nor page."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import awkward as ak
import hist
import numpy as np
import pandas
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pyarrow.dataset import dataset

from jetscale import cli
from jetscale.data.check import checking
from jetscale.data.samples import merge
from jetscale.data.skim import Skim, skim
from jetscale.evaluate.inspect import inspect, page_place, steps, table
from jetscale.evaluate.profile import Profile, Quantity, Summary, axis
from jetscale.events import Events, write_manifest, write_shard
from jetscale.labels import CODES, NAMES
from jetscale.physics.toy_jets import jets
from jetscale.schema import Column, plural

ROWS = 200


def sample(place: Path, rows: int = ROWS, **columns: object) -> Events:
    """Events of 0 to 4 jets, with what is given."""
    dice = np.random.default_rng(2)
    counts = dice.integers(0, 5, rows)
    jets = {name: ak.unflatten(dice.exponential(2, counts.sum()).astype(np.float32), counts)
            for name in ("jet_pt", "jet_mass")}  # fmt: skip
    jets |= {name: ak.unflatten(dice.uniform(-2, 2, counts.sum()).astype(np.float32), counts)
             for name in ("jet_eta", "jet_phi")}  # fmt: skip
    return Events.write(ak.zip({**jets, **columns}, depth_limit=1), place, rows_per_shard=70)


def profile(events: Events) -> Profile:
    found = Profile(events)
    assert [*found.steps()][-1:] == [len(events)]
    return found


def page(events: Events, place: Path) -> str:
    return inspect(events, place).read_text()


class Tags(HTMLParser):
    """Are all tags closed, and closed in order?"""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_what_is_said_is_what_numpy_says(tmp_path: Path) -> None:
    dice = np.random.default_rng(3)
    weights, met = dice.uniform(-1, 3, ROWS), dice.exponential(50, ROWS).astype(np.float32)
    true_mass = np.where(np.arange(ROWS) % 4, 900, -1).astype(np.float32)
    events = sample(tmp_path / "some", weight=weights, met=met, true_mass=true_mass)
    found = profile(events)
    assert found.weights.total == pytest.approx(weights.sum())
    assert found.weights.effective == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    assert found.weights.negative == (weights < 0).sum()
    one = found.summaries["met"]
    assert (one.entries, one.known, one.odd, one.missing) == (ROWS, ROWS, 0, 0)
    assert (one.low, one.high) == (met.min(), met.max())
    assert one.mean == pytest.approx(met.astype(float).mean())
    assert one.weighted_mean == pytest.approx(np.average(met.astype(float), weights=weights))
    mass = found.summaries["true_mass"]
    assert (mass.missing, mass.low, mass.high, mass.constant) == (ROWS // 4, 900, 900, True)
    pt = events.read(["jet_pt"])["jet_pt"].to_pylist()
    long = [values for values in pt if len(values) > 1]
    assert found.summaries["jet_pt sub-leading"].mean == pytest.approx(np.mean([values[1] for values in long]))
    assert found.summaries["jet_pt leading"].entries == sum(map(bool, pt))
    assert found.summaries["number of jets"].mean == pytest.approx(np.mean([len(values) for values in pt]))
    per_jet = np.repeat(weights, [len(values) for values in pt])
    expected = np.average([one for values in pt for one in values], weights=per_jet)
    assert found.summaries["jet_pt"].weighted_mean == pytest.approx(expected)


numbers = st.one_of(
    arrays.arrays(np.float64, st.integers(0, 40), elements=st.floats()),
    arrays.arrays(np.float32, st.integers(0, 40), elements=st.floats(width=32)),
    arrays.arrays(np.int64, st.integers(0, 40), elements=st.integers(-(2**63), 2**63 - 1)),
    arrays.arrays(np.int8, st.integers(0, 40), elements=st.integers(-128, 127)),
)


@given(numbers)
@example(np.array([5e-324]))
@example(np.array([0.0, 5e-324]))
def test_every_number_is_in_the_histogram_or_counted_beside_it(values: np.ndarray) -> None:
    kind = str(values.dtype)
    quantity = Quantity("x", Column(name="x", dtype=kind, unit="", doc="", missing=-1))
    one = Summary(quantity, hist.Hist(axis(quantity, values.astype(np.float64))), None)
    one.add(values, None)
    assert one.entries == len(values)
    assert one.known + one.odd + one.missing == len(values)
    below, above = one.beyond
    assert one.plain.values().sum() + below + above == one.known
    if one.known:
        good = values[np.isfinite(values) & (values != -1)].astype(float)
        assert (one.low, one.high) == (good.min(), good.max())


@pytest.mark.parametrize("far", [1e30, -99999.0])
def test_a_few_numbers_far_away_do_not_make_a_plot_useless(tmp_path: Path, far: float) -> None:
    dice = np.random.default_rng(4)
    met = dice.exponential(50, 4000).astype(np.float32)
    met[::50] = far
    one = profile(sample(tmp_path / "far", 4000, met=met)).summaries["met"]
    edges = one.plain.axes[0].edges
    assert edges[-1] < 2000 and edges[0] > -600
    assert sum(one.beyond) >= 80
    assert (one.low if far < 0 else one.high) == np.float32(far)
    assert f"{sum(one.beyond):,}" in page(Events.open(tmp_path / "far"), tmp_path / "page")


def test_numbers_over_many_decades_have_a_logarithmic_axis() -> None:
    wide = np.exp(np.random.default_rng(5).normal(0, 4, 2000))
    score = np.random.default_rng(5).beta(0.3, 0.6, 2000)
    quantity = Quantity("x", Column(name="x", dtype="float64", unit="", doc=""))
    assert axis(quantity, wide).transform is not None
    assert axis(quantity, score).transform is None


def test_integers_have_a_bar_each() -> None:
    quantity = Quantity("n", Column(name="n", dtype="int32", unit="", doc=""))
    assert np.array_equal(axis(quantity, np.array([3.0, 4, 4, 7])).edges, [2.5, 3.5, 4.5, 5.5, 6.5, 7.5])
    wide = np.diff(axis(quantity, np.arange(5000.0)).edges)
    assert np.allclose(wide, np.round(wide)) and len(wide) <= 48


def test_the_page_shows_every_column_with_its_unit(tmp_path: Path) -> None:
    dice = np.random.default_rng(6)
    events = sample(tmp_path / "some", weight=dice.uniform(0, 2, ROWS), met=dice.exponential(50, ROWS),
                    n_b=dice.integers(0, 4, ROWS), HLT_PFJet=(dice.uniform(size=ROWS) < 0.3).astype(np.int8),
                    always=np.full(ROWS, 3.5))  # fmt: skip
    text = page(events, tmp_path / "page")
    assert Tags(text).open == []
    for name in events.schema.names:
        assert name in text
    drawn = re.findall(r'<img alt="([^"]+)" loading="lazy" src="data:image/png;base64,\w', text)
    assert {"weight", "met", "n_b", "number of jets", "jet_pt leading", "jet_pt sub-leading", "jet_eta"} <= set(drawn)
    assert not {"event_id", "always", "HLT_PFJet"} & set(drawn)
    assert "always 3.5" in text and "[GeV]" in text
    share = events.read(["HLT_PFJet"])["HLT_PFJet"].to_numpy().mean()
    assert re.search(rf"HLT_PFJet</span>.*{100 * share:.3g} %", text)


def test_a_sample_of_jets_is_told_of_jets_and_its_codes_by_their_names(tmp_path: Path) -> None:
    columns = jets(60, ("bottom", "quark"), np.random.default_rng(4))
    made = {name: ak.Array(one.to_pylist()) for name, one in columns.items() if name != "place"}
    label = np.where(columns["place"].to_numpy() == 0, CODES["bottom"], CODES["quark"]).astype(np.int8)
    events = Events.write(ak.zip({**made, "jet_label": label}, depth_limit=1), tmp_path / "some")
    text = page(events, tmp_path / "page")
    assert Tags(text).open == []
    assert "60 jets in" in text and "particles of a jet" in text and "event" not in text.split("The columns")[0]
    shares = [f"{code} {NAMES[code]} {100 * np.mean(label == code):.3g} %" for code in sorted(set(label.tolist()))]
    assert len(shares) == 2 and all(f"<span>{share}</span>" in text for share in shares)
    only = events.read().filter(label == CODES["bottom"])
    assert "always bottom" in page(Events.write(only, tmp_path / "only"), tmp_path / "other")


def test_neutral_particles_have_no_impact_parameter_to_be_drawn(tmp_path: Path) -> None:
    columns = jets(60, ("bottom", "quark"), np.random.default_rng(4))
    made = {name: ak.Array(one.to_pylist()) for name, one in columns.items() if name != "place"}
    seen = profile(Events.write(ak.zip(made, depth_limit=1), tmp_path / "some")).summaries
    neutral = int(ak.sum(made["particle_d0_error"] == 0))
    assert seen["particle_d0_error"].missing == neutral > 0 and seen["particle_d0_error"].low > 0
    assert seen["particle_charge"].missing == 0


def test_several_members_have_their_plural() -> None:
    assert [plural(of) for of in ("jet", "particle", "vertex")] == ["jets", "particles", "vertices"]


def test_the_page_is_no_part_of_the_sample(tmp_path: Path) -> None:
    events = sample(tmp_path / "some")
    place = page_place(events.path, events)
    before = events.fingerprint
    inspect(events, place)
    assert place.parent == events.path
    assert Events.open(events.path).fingerprint == before
    assert dataset(events.path).to_table().num_rows == len(pandas.read_parquet(events.path)) == ROWS
    assert [one for step in checking(events.path) for one in step.findings] == []
    assert page_place("shipped:qcd", Events.open("shipped:qcd")) == Path("inspect-qcd")


@pytest.mark.parametrize("rows", [0, 1])
def test_few_or_no_events_are_shown_as_such(tmp_path: Path, rows: int) -> None:
    events = sample(tmp_path / "few", rows, met=np.ones(rows, dtype=np.float32))
    text = page(events, tmp_path / "page")
    assert Tags(text).open == []
    assert f"{rows} event{'' if rows == 1 else 's'} in 1 shard," in text
    assert ("always 1" if rows else "no entries") in text


def test_numbers_that_are_not_finite_are_counted_and_shown(tmp_path: Path) -> None:
    events = sample(tmp_path / "some", met=np.arange(ROWS, dtype=np.float32))
    broken = events.read(shard=events.manifest.shards[0])
    met = broken["met"].to_numpy().copy()
    met[:3] = [np.nan, np.inf, -np.inf]
    place = broken.schema.get_field_index("met")
    broken = broken.set_column(place, broken.schema.field(place), [met])
    pq.write_table(broken, events.path / events.manifest.shards[0].file)
    found = profile(events)
    one = found.summaries["met"]
    assert (one.odd, one.known, one.high) == (3, ROWS - 3, ROWS - 1)
    assert "3 numbers that are not finite" in page(events, tmp_path / "page")
    assert [cell for cell in table(found).columns[8]._cells if cell != "0"] == ["3"]


def test_the_cut_flow_is_that_of_the_skim(tmp_path: Path) -> None:
    events = sample(tmp_path / "some", x=np.arange(ROWS) % 10)
    cut = {"select": {"x": [2, 9], "n": [1, None]}, "derive": {"n": {"by": "Count", "of": "jet_pt"}}}
    kept = skim(events, tmp_path / "kept", Skim.model_validate(cut))
    flow = steps(kept)
    assert [(step.title, step.events) for step in flow[:2]] == [("went in", ROWS), ("x is not in [2, 9)", 60)]
    assert flow[0].events - sum(step.events for step in flow if step.lost) == flow[-1].events == len(kept)
    text = page(merge([kept], tmp_path / "all"), tmp_path / "page")
    assert "Made by merge of kept, from some" in text
    assert steps(events) == []
    generated = steps(Events.open("shipped:qcd"))
    assert [step.events for step in generated] == [240912, 232606, 306, 8000]


def test_the_files_of_an_ingested_sample_are_listed(tmp_path: Path) -> None:
    events = sample(tmp_path / "some")
    file = {"file": "a<b>.root", "entries": 300, "kept": ROWS, "rejected": {"ht": 100}, "hash": "0123456789abcdef0123"}
    made_by = {"command": "ingest", "files": [file], "bad": {"c.root": "is truncated"}, "rejected": {"ht": 100}}
    write_manifest(events.manifest.but(made_by=made_by), events.path)
    text = page(Events.open(events.path), tmp_path / "page")
    for words in ("a&lt;b&gt;.root", "0123456789abcdef", "c.root", "is truncated", "1 that could not be read"):
        assert words in text


def test_the_same_sample_gives_the_same_page(tmp_path: Path) -> None:
    events = sample(tmp_path / "some", weight=np.linspace(-1, 2, ROWS))
    assert page(events, tmp_path / "one") == page(events, tmp_path / "two")


def test_weights_that_cancel_do_not_stop_the_page(tmp_path: Path) -> None:
    events = sample(tmp_path / "some", weight=np.tile([1.0, -1.0], ROWS // 2))
    assert Tags(page(events, tmp_path / "page")).open == []


def test_hundreds_of_columns(tmp_path: Path) -> None:
    dice = np.random.default_rng(7)
    many = {f"HLT_{n}": (dice.uniform(size=50) < 0.5).astype(np.int8) for n in range(300)}
    text = page(sample(tmp_path / "many", 50, **many), tmp_path / "page")
    assert all(f"<span>HLT_{n}</span>" in text for n in range(300))


def test_the_command_prints_a_table_and_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = sample(tmp_path / "some", met=np.arange(ROWS, dtype=np.float32))
    assert cli.main(["inspect", str(events.path)]) == 0
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if line.split()[:1] == ["met"])
    assert line.split() == ["met", "float32", "99.5", "0", "199", "-", "0", "200"]
    assert (events.path / "_inspect" / "index.html").is_file()
    shutil.rmtree(events.path / "_inspect")
    assert cli.main(["inspect", str(events.path), "--out", str(tmp_path / "page")]) == 0
    assert (tmp_path / "page" / "index.html").is_file() and not (events.path / "_inspect").exists()
    assert cli.main(["inspect", str(events.path), "--out", str(events.path)]) == 2


def test_a_sample_of_no_jets_at_all(tmp_path: Path) -> None:
    events = sample(tmp_path / "some")
    only = events.schema.only(["event_id", "weight"])
    shard = write_shard(events.read(only.names), tmp_path / "plain" / "shard-00000.parquet", only)
    write_manifest(events.manifest.but(columns=[column.values() for column in only.each()], shards=[shard.values()]),
                   tmp_path / "plain")  # fmt: skip
    assert Tags(page(Events.open(tmp_path / "plain"), tmp_path / "page")).open == []
