"""A sweep's axes become named runs, or are refused before anything is started."""

import math
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetscale.axes import LONGEST, MOST, Asha, Axis, Metric, Sweep, load, named, said_short, short
from jetscale.config import Values, build, dump_yaml, parse_yaml
from jetscale.errors import ConfigError

TRAIN: Values = {
    "system": "assigner",
    "task": {"width": 16, "layers": 2},
    "stream": {"samples": {"signal": {"events": "signal"}, "qcd": {"events": "qcd"}}},
}
QCD = "stream.samples.qcd.weight"


def sweep(axes: Values, **more: object) -> Sweep:
    return build(Sweep, {"train": TRAIN, "axes": axes, "metric": {"name": "f10"}, **more}, "test", under="sweep")


def names(axes: Values, **more: object) -> list[str]:
    return [one.name for one in sweep(axes, **more).trials()]


def test_a_grid_is_every_combination_with_its_values_in_name_and_run():
    found = sweep({QCD: {"grid": [0.1, 3]}, "task.loss_on": {"grid": ["label", "mass"]}}).trials()
    assert [one.name for one in found] == [
        "qcd.weight=0.1,loss_on=label,seed=1", "qcd.weight=0.1,loss_on=mass,seed=1",
        "qcd.weight=3,loss_on=label,seed=1", "qcd.weight=3,loss_on=mass,seed=1",
    ]  # fmt: skip
    assert [one.run.stream.samples["qcd"].weight for one in found] == [0.1, 0.1, 3, 3]
    assert found[1].values == {QCD: 0.1, "task.loss_on": "mass"}
    assert {one.run.stream.samples["signal"].weight for one in found} == {1.0}


def test_settings_of_all_trials_stand_below_the_axes():
    both = {"horizon.epochs": 7, "optimiser.rate": 0.5}
    found = sweep({"optimiser.rate": {"grid": [0.1]}}, set=both).trials()
    assert (found[0].run.horizon.epochs, found[0].run.optimiser.rate) == (7, 0.1)


def test_an_axis_without_its_condition_does_not_multiply():
    axes = {"task.loss_on": {"grid": ["label", "mass"]},
            "task.gumbel": {"grid": ["hard", "soft"], "when": {"task.loss_on": "mass"}}}  # fmt: skip
    assert names(axes) == ["loss_on=label,seed=1", "loss_on=mass,gumbel=hard,seed=1", "loss_on=mass,gumbel=soft,seed=1"]


def test_a_condition_may_be_a_setting_of_the_job_or_a_list():
    dense = {"task.dropout": {"grid": [0.1, 0.2], "when": {"task.network": "dense"}}, "task.width": {"grid": [8]}}
    assert names(dense) == ["width=8,seed=1"]
    either = {"task.dropout": {"grid": [0.1, 0.2], "when": {"task.network": ["dense", "equivariant"]}}}
    assert len(names(either)) == 2


def test_seeds_count_from_that_of_the_job_and_may_be_an_axis():
    assert names({"task.width": {"grid": [8]}}, search={"grid": {"seeds": 3}}) == [
        "width=8,seed=1", "width=8,seed=2", "width=8,seed=3"]  # fmt: skip
    found = sweep({"seed": {"grid": [7, 9]}}).trials()
    assert [(one.name, one.run.seed) for one in found] == [("seed=7", 7), ("seed=9", 9)]


def test_draws_are_the_same_and_a_longer_search_begins_with_the_shorter():
    axes = {"optimiser.rate": {"log_uniform": [1e-4, 1e-2]}, "task.width": {"integer": [8, 64]},
            "optimiser.warm_up": {"uniform": [0, 0.5]}, "task.loss_on": {"choice": ["label", "mass"]}}  # fmt: skip
    few, many = (names(axes, search={"random": {"trials": n}}) for n in (5, 12))
    assert many[:5] == few and len(set(many)) == 12
    assert few != names(axes, search={"random": {"trials": 5, "seed": 2}})
    for one in sweep(axes, search={"random": {"trials": 30}}).trials():
        assert 1e-4 <= one.run.optimiser.rate <= 1e-2 and 8 <= one.values["task.width"] <= 64
        assert f"rate={one.run.optimiser.rate:g}," in one.name, "the name says the number whole"


def test_a_log_uniform_axis_is_uniform_in_the_logarithm():
    axes = {"optimiser.rate": {"log_uniform": [1e-6, 1.0]}}
    logs = [math.log10(one["optimiser.rate"]) for one in _combinations(axes, 2000)]
    assert sum(log < -3 for log in logs) == pytest.approx(1000, abs=80)


def _combinations(axes: Values, trials: int) -> list[Values]:
    found = sweep(axes, search={"random": {"trials": trials}})
    return found.combinations(found.base())


BAD = {
    "an axis that names no setting": (
        {"stream.samples.qcd.wieght": {"grid": [1]}}, {}, r"(?s)no setting .*wieght.*you mean 'stream.*weight'"),
    "a condition that names no setting": (
        {"task.width": {"grid": [8], "when": {"task.los": "mass"}}}, {}, r"width.when: no setting 'task.los'"),
    "a value that cannot be": ({"task.loss_on": {"grid": ["lable"]}}, {}, r"trial loss_on=lable.*task.loss_on"),
    "a grid of a million trials": (
        {"optimiser.rate": {"grid": [i / 1000 for i in range(1, 1001)]}, "seed": {"grid": list(range(1000))}},
        {}, r"gives 1,000,000 trials, and 10,000 are the most"),
    "a random search of too many": (
        {"optimiser.rate": {"uniform": [0, 1]}}, {"search": {"random": {"trials": 9000, "seeds": 2}}}, r"18,000"),
    "Optuna with a grid axis": (
        {"task.width": {"grid": [8]}}, {"search": {"optuna": {"trials": 3}}}, r"width is a grid, which Optuna"),
    "a range in a grid search": ({"optimiser.rate": {"uniform": [0, 1]}}, {}, r"rate is uniform, which a grid"),
    "two kinds at once": ({"task.width": {"grid": [8], "choice": [8]}}, {}, r"exactly one of grid, choice"),
    "two searches at once": (
        {"task.width": {"grid": [8]}}, {"search": {"grid": {}, "random": {"trials": 1}}}, r"one of grid, random"),
    "an empty grid": ({"task.width": {"grid": []}}, {}, r"axes.task.width.grid"),
    "a range that falls": ({"optimiser.rate": {"uniform": [1, 0]}}, {}, r"must rise from low to high, not from 1 to 0"),
    "a logarithm of nothing": ({"optimiser.rate": {"log_uniform": [0, 1]}}, {}, r"must begin above 0"),
    "a condition below": (
        {"task.gumbel": {"grid": ["hard"], "when": {"task.loss_on": "mass"}}, "task.loss_on": {"grid": ["mass"]}},
        {}, r"asks for task.loss_on, which stands below it: put it above"),
    "seeds twice": ({"seed": {"grid": [1]}}, {"search": {"grid": {"seeds": 2}}}, r"seed is an axis, and search"),
    "equal values": ({"task.width": {"grid": [8, 8.0]}}, {}, r"width=8,seed=1 comes up twice"),
    "no axis": ({}, {}, r"axes"),
    "two jobs": ({"task.width": {"grid": [8]}}, {"job": "shipped:assigner"}, r"exactly one of job, train"),
    "an unknown key": ({"task.width": {"gird": [8]}}, {}, r"unknown key 'sweep.axes.task.width.gird'"),
    "a judge that comes too late": (
        {"task.width": {"grid": [8]}}, {"judge": ["qcd"], "stop": {"asha": {}}}, r"judge is only known at the end"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_it_is_refused_and_named(kind):
    axes, more, said = BAD[kind]
    with pytest.raises(ConfigError, match=said):
        sweep(axes, **more).trials()


def test_too_many_trials_are_counted_without_being_made(monkeypatch):
    monkeypatch.setattr(Sweep, "candidates", lambda *_: pytest.fail("a trial was made"))
    with pytest.raises(ConfigError, match="1,000,000 trials"):
        sweep({"optimiser.rate": {"grid": [i + 1 for i in range(10**6)]}}).trials()
    assert MOST < 10**6


def test_short_names_tell_axes_apart():
    keys = ["stream.samples.qcd.weight", "stream.samples.top.weight", "task.loss_on", "optimiser.rate", "seed"]
    assert list(short(keys).values()) == ["qcd.weight", "top.weight", "loss_on", "rate", "seed"]
    assert list(short(["stream.split.seed", "seed"]).values()) == ["split.seed", "seed"]
    assert len(set(short(["a.b.c", "d.b.c", "c"]).values())) == 3


@given(st.dictionaries(st.text(min_size=1), st.text() | st.floats(allow_nan=False) | st.integers() | st.none()
                       | st.lists(st.text()), min_size=1, max_size=6))  # fmt: skip
def test_any_values_give_the_name_of_a_folder(values):
    name = named(values, {})
    assert 0 < len(name) <= LONGEST
    assert set(name) <= set(string.ascii_letters + string.digits + "=,.+-_"), name
    assert name[0] not in ".-" or name.startswith("-=")


@given(st.lists(st.text() | st.floats(allow_nan=False) | st.lists(st.text(), max_size=3), min_size=2, max_size=2,
                unique_by=repr))  # fmt: skip
def test_values_that_differ_are_told_apart(values):
    said = [said_short(one) for one in values]
    assert said[0] != said[1] or values[0] == values[1]


def test_a_file_is_read_as_it_was_written(tmp_path):
    family = sweep({QCD: {"grid": [0.1, 3]}}, stop={"asha": {"grace_epochs": 2}})
    (tmp_path / "a.yaml").write_text(dump_yaml({"sweep": family.values()}))
    assert load(tmp_path / "a.yaml") == family
    (tmp_path / "b.yaml").write_text(dump_yaml({"train": TRAIN}))
    with pytest.raises(ConfigError, match=r"its top key is 'train', not 'sweep'"):
        load(tmp_path / "b.yaml")


def test_the_example_that_ships_gives_ten_trials():
    family = load(Path(__file__).parents[2] / "jobs" / "sweeps" / "background.yaml")
    assert len(family.trials()) == 10
    assert family.stop is not None and family.metric == Metric(name="mass_auc")


def test_rungs_are_powers_of_the_factor():
    rule = Asha(grace_epochs=2, factor=3)
    assert [rule.rung(epoch) for epoch in (1.9, 2, 5.9, 6, 17.9, 18, 54)] == [None, 2, 2, 6, 6, 18, 54]


def test_the_best_of_those_that_came_there_go_on():
    rule, high = Asha(factor=3), Metric(name="f10", better="high")
    assert rule.goes_on(0.1, [], high), "the first one cannot be compared"
    assert rule.goes_on(0.5, [0.4, 0.3], high) and not rule.goes_on(0.35, [0.4, 0.3], high)
    assert rule.goes_on(0.5, [0.6, 0.4, 0.3], high), "two of four"
    assert rule.goes_on(0.4, [0.4, 0.4], high), "nobody is better"
    assert not rule.goes_on(None, [0.1], high) and rule.goes_on(0.1, [None, math.nan], high)
    assert rule.goes_on(0.1, [0.4, 0.3], Metric(name="loss_label", better="low"))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(1.5, 5))
def test_of_all_together_at_most_a_share_goes_on(values, factor):
    rule, metric = Asha(factor=factor), Metric(name="f10")
    stay = [one for n, one in enumerate(values) if rule.goes_on(one, values[:n] + values[n + 1 :], metric)]
    distinct = len(set(values)) == len(values)
    assert max(values) in stay
    assert not distinct or len(stay) <= max(1, math.ceil(len(values) / factor))


def test_an_axis_knows_its_kind_and_its_ends():
    assert Axis(grid=(1, 2, 3)).ends() == (1, 2, 3)
    assert (Axis(uniform=(0, 2)).kind, Axis(uniform=(0, 2)).ends()) == ("uniform", (0, 2))
    assert Axis(integer=(0, 5)).ends() == (0, 5)
    assert parse_yaml(Axis(choice=("a", 1)).to_yaml(), "test")["choice"] == ["a", 1]
