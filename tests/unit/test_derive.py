"""Derived columns: what each kind makes, and that a value is the same wherever it is made."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import vector
from hypothesis import given
from hypothesis import strategies as st

from jetscale.config import Values
from jetscale.derive import Derived, Fitted, Tally, tally
from jetscale.errors import ConfigError, DataError
from jetscale.keyed import mix
from jetscale.kinds import Drawn, derived
from jetscale.reweight import Flat
from jetscale.run import Run, resolve
from jetscale.schema import JET_EVENTS

MINE = """
from typing import final
import numpy as np
from jetscale.derive import Derived
from jetscale.schema import Column

@final
class Twice(Derived):
    of: str
    def numbers(self):
        return (self.of,)
    def column(self, name, schema):
        return Column(name=name, dtype="float32", unit=schema[self.of].unit, doc="twice")
    def make(self, table, key_B):
        return {factor} * table[self.of].to_numpy()
"""


def _keys(n: int, epoch: int = 0) -> torch.Tensor:
    return mix(torch.arange(n) + 1_000_003 * epoch)


def _made(values: Values, table: pa.Table, keys: torch.Tensor | None = None) -> np.ndarray:
    return np.asarray(derived(values, "test").make(table, _keys(table.num_rows) if keys is None else keys))


def _fitted(values: Values, table: pa.Table, weight_B: np.ndarray) -> Derived:
    how = derived(values, "test")
    assert isinstance(how, Fitted)
    return how.but(fitted=how.fit(how.tally(table, weight_B)))


def _run(derive: Values, **stream: object) -> Run:
    values = {"system": "assigner", "stream": {"samples": {"a": {"events": "a"}}, "derive": derive, **stream}}
    return resolve([("job", values)], "job").run


JET = st.tuples(st.floats(1, 1e3), st.floats(-3, 3), st.floats(-3, 3), st.floats(0, 99))
JETS = st.lists(st.lists(JET, max_size=5), min_size=1, max_size=9)


@given(JETS, st.integers(1, 6), st.floats(0, 500, width=32))
def test_counts_members_and_masses_are_those_of_a_loop(jets: list[list[tuple[float, ...]]], n: int, low: float) -> None:
    columns = {name: [[jet[place] for jet in event] for event in jets] for place, name in
               enumerate(("jet_pt", "jet_eta", "jet_phi", "jet_mass"))}  # fmt: skip
    table = pa.table({name: pa.array(lists, pa.list_(pa.float64())) for name, lists in columns.items()})
    pts = columns["jet_pt"]
    counted = _made({"by": "Count", "of": "jet_pt", "low": low, "high": 700}, table)
    assert counted.tolist() == [sum(low <= pt < 700 for pt in event) for event in pts]
    members = _made({"by": "Nth", "of": "jet_pt", "n": n, "missing": -1}, table)
    assert members.tolist() == [event[n - 1] if len(event) >= n else -1 for event in pts]
    for first in (None, n):
        sums = [sum((vector.obj(pt=pt, eta=eta, phi=phi, mass=mass) for pt, eta, phi, mass in event[:first]),
                    vector.obj(px=0, py=0, pz=0, E=0)) for event in jets]  # fmt: skip
        made = _made({"by": "Mass", "of": "jet", "first": first}, table)
        rounding = 1e-6 * max(one.E for one in sums) + 1e-9
        assert np.allclose(made, [np.sqrt(max(one.mass2, 0)) for one in sums], atol=rounding)


def test_sums_and_counts_are_those_of_each_list() -> None:
    table = pa.table({"jet_pt": pa.array([[1.0, 2.0], [], [4.0], []], pa.list_(pa.float32()))})
    assert _made({"by": "Sum", "of": "jet_pt"}, table).tolist() == [3.0, 0.0, 4.0, 0.0]
    assert _made({"by": "Count", "of": "jet_pt"}, table).tolist() == [2, 0, 1, 0]
    empty = table.slice(1, 1)
    assert _made({"by": "Sum", "of": "jet_pt"}, empty).tolist() == [0.0]


@given(st.lists(st.lists(st.floats(0, 1e4, width=32), max_size=9), min_size=1, max_size=9), st.data())
def test_a_sum_does_not_depend_on_the_rows_around(lists: list[list[float]], data: st.DataObject) -> None:
    table = pa.table({"x": pa.array(lists, pa.list_(pa.float32()))})
    row = data.draw(st.integers(0, len(lists) - 1))
    assert _made({"by": "Sum", "of": "x"}, table)[row] == _made({"by": "Sum", "of": "x"}, table.slice(row, 1))[0]


def test_a_window_holds_its_low_end_and_not_its_high() -> None:
    table = pa.table({"mjj": [3299.9, 3300.0, 3699.9, 3700.0]})
    assert _made({"by": "Window", "of": "mjj", "low": 3300, "high": 3700}, table).tolist() == [0, 1, 1, 0]
    assert _made({"by": "Window", "of": "mjj", "low": 3300}, table).tolist() == [0, 1, 1, 1]


def test_uniform_numbers_fill_their_range_and_follow_the_key() -> None:
    table = pa.table({"event_id": np.arange(20_000)})
    settings = {"by": "Uniform", "low": -3, "high": 5}
    first, other = _made(settings, table, _keys(20_000)), _made(settings, table, _keys(20_000, epoch=1))
    assert np.histogram(first, 8, (-3, 5))[0] / 20_000 == pytest.approx([0.125] * 8, abs=0.01)
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.03
    assert _made(settings, table.slice(5, 7), _keys(20_000)[5:12]).tolist() == first[5:12].tolist()


def test_background_draws_the_parameter_with_the_weights_of_the_signal() -> None:
    signal = np.repeat([500.0, 750.5, 1250.0], [1000, 3000, 2000])
    mass = np.concatenate([signal, np.zeros(60_000)]).astype(np.float32)
    table = pa.table({"mass": mass, "mode": (mass > 0).astype(np.int8)})
    weight = np.where(mass == 500.0, 2.0, 1.0)
    how = _fitted({"by": "Drawn", "of": "mass", "rows": {"mode": (1, None)}}, table, weight)
    drawn = np.asarray(how.make(table, _keys(len(mass))))
    assert np.array_equal(drawn[:6000], mass[:6000])
    values, counts = np.unique(drawn[6000:], return_counts=True)
    assert values.tolist() == [500.0, 750.5, 1250.0]
    assert counts / 60_000 == pytest.approx([2 / 7, 3 / 7, 2 / 7], abs=0.01)


def test_a_continuous_parameter_is_drawn_between_quantiles() -> None:
    dice = np.random.default_rng(3)
    own = dice.gamma(4.0, 50.0, 20_000).astype(np.float32)
    table = pa.table({"x": np.concatenate([own, np.full(20_000, -1.0, np.float32)])})
    how = _fitted({"by": "Drawn", "of": "x", "rows": {"x": (0, None)}}, table, np.ones(40_000))
    drawn = np.asarray(how.make(table, _keys(40_000)))[20_000:]
    assert len(how.fitted["quantiles"]) == 256
    at = np.linspace(0.02, 0.98, 25)
    assert np.quantile(drawn, at) == pytest.approx(np.quantile(own, at), rel=0.03)


@pytest.mark.parametrize("log", [False, True])
def test_flat_weights_make_the_spectrum_flat_and_mean_1(log: bool) -> None:
    edges = np.geomspace(20.0, 640.0, 11) if log else np.linspace(20.0, 220.0, 11)
    pt = 20.0 + np.random.default_rng(4).exponential(60.0, 50_000)
    pt = pt[pt < edges[-1]]
    table = pa.table({"pt": pt})
    how = _fitted({"by": "Flat", "of": "pt", "edges": edges.tolist(), "log": log, "most": 1e6}, table, np.ones(len(pt)))
    weight = np.asarray(how.make(table, _keys(len(pt))))
    content = np.histogram(pt, edges, weights=weight)[0]
    assert content == pytest.approx(np.full(10, content.mean()))
    assert weight.mean() == pytest.approx(1.0)
    assert how.make(pa.table({"pt": [1.0, 1e9]}), _keys(2)).tolist() == [0.0, 0.0]


def test_flat_weights_are_capped_and_leave_other_rows_alone() -> None:
    table = pa.table({"pt": [1.5] * 99 + [2.5, 1.5], "label": [1] * 100 + [0]})
    settings = {"by": "Flat", "of": "pt", "edges": [1, 2, 3, 4], "most": 3, "rows": {"label": (1, None)}}
    weight = np.asarray(_fitted(settings, table, np.ones(101)).make(table, _keys(101)))
    assert weight[0] == pytest.approx(50 / 99)
    assert weight[99:].tolist() == [3.0, 1.0]


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(-8, 8)), min_size=2, max_size=40), st.integers(1, 39))
def test_tallies_add_up(rows: list[tuple[int, float]], cut: int) -> None:
    keys, weights = (np.array(one, dtype=np.float64) for one in zip(*rows, strict=True))
    whole = tally(keys, weights)
    parts: Tally = tally(keys[:cut], weights[:cut]).plus(tally(keys[cut:], weights[cut:]))
    assert parts.keys.tolist() == whole.keys.tolist()
    assert parts.sums == pytest.approx(whole.sums, abs=1e-9)


def test_nothing_to_draw_from_is_refused() -> None:
    table = pa.table({"mass": [0.0, 0.0]})
    with pytest.raises(DataError, match="no training row"):
        _fitted({"by": "Drawn", "of": "mass", "rows": {"mass": (1, None)}}, table, np.ones(2))
    with pytest.raises(DataError, match="must be above 0"):
        _fitted({"by": "Flat", "of": "mass", "edges": [-1, 1]}, table, np.array([1.0, -2.0]))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"of": "jet_pt"}, r"stream.derive.x.by is missing(.|\n)*Count, Drawn, Flat"),
        ({"by": "Summ", "of": "jet_pt"}, r"no kind of derived column 'Summ'(.|\n)*did you mean 'Sum'"),
        ({"by": "Fitted", "of": "jet_pt"}, r"no kind of derived column 'Fitted'"),
        ({"by": "Sum", "on": "jet_pt"}, r"job: unknown key 'stream.derive.x.on'"),
        ({"by": "Window", "of": "mjj"}, r"stream.derive.x: give low, high or both"),
        ({"by": "Window", "of": "mjj", "low": 3, "high": 2}, r"low = 3 is not below high = 2"),
        ({"by": "Uniform", "low": 2, "high": 2}, r"low = 2 is not below high = 2"),
        ({"by": "Flat", "of": "pt", "edges": [1, 3, 2]}, r"edges do not rise"),
        ({"by": "Flat", "of": "pt", "edges": [0, 3], "log": True}, r"must be above 0"),
        ("jet_pt", r"stream.derive.x is 'jet_pt', not settings"),
        ({"by": "./nowhere.py:Mine"}, r"nowhere.py: no such file"),
    ],
)
def test_settings_that_cannot_be_are_named(settings: Values, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        _run({"x": settings})


def test_reweight_names_a_derived_column() -> None:
    with pytest.raises(ConfigError, match=r"stream.reweight = 'wieght'(.|\n)*"):
        _run({"weight_of_pt": {"by": "Flat", "of": "pt", "edges": [1, 2]}}, reweight="wieght")


def test_a_users_own_kind_counts_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(MINE.format(factor=2.0))
    monkeypatch.chdir(tmp_path)
    run = _run({"twice": {"by": "./mine.py:Twice", "of": "true_mass"}})
    how = run.stream.derive["twice"]
    assert how.by == f"{tmp_path}/mine.py:Twice"
    assert how.make(pa.table({"true_mass": [3.0]}), _keys(1)).tolist() == [6.0]
    again, values = how.__reduce__()  # what another process gets: its class cannot be imported by a name
    assert callable(again) and isinstance(values, tuple)
    assert again(*values) == how
    name = run.name({"a": "1"})
    (tmp_path / "copy.py").write_text(MINE.format(factor=2.0))
    assert _run({"twice": {"by": "./copy.py:Twice", "of": "true_mass"}}).name({"a": "1"}) == name
    (tmp_path / "mine.py").write_text(MINE.format(factor=3.0))
    assert _run({"twice": {"by": "./mine.py:Twice", "of": "true_mass"}}).name({"a": "1"}) != name


def test_fitted_numbers_stand_in_the_run_and_not_in_its_name() -> None:
    run = _run({"w": {"by": "Flat", "of": "true_mass", "edges": [0, 1, 2]}})
    how = run.stream.derive["w"]
    fitted = run.but(stream=run.stream.but(derive={"w": how.but(fitted={"weights": (0.5, 1.5)}).values()}).values())
    assert "weights" in fitted.to_yaml()
    assert fitted.name({"a": "1"}) == run.name({"a": "1"})
    assert isinstance(Run.model_validate(fitted.values()).stream.derive["w"], Flat)


def test_a_drawn_column_has_the_type_of_its_parameter() -> None:
    how = Drawn(by="Drawn", of="true_mass", rows={"true_mass": (1, None)})
    column = how.column("theta", JET_EVENTS)
    assert (column.name, column.dtype, column.unit) == ("theta", "float32", "GeV")
