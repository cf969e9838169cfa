import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from jetscale import metrics
from jetscale.errors import ConfigError
from jetscale.metrics import Table

SEED = st.integers(0, 2**31)


def table(mass, true_mass, weight=None, right=None, known=None) -> Table:
    mass, true_mass = np.asarray(mass, float), np.asarray(true_mass, float)
    ones = np.ones(len(mass))
    return Table(mass, true_mass, ones if weight is None else np.asarray(weight, float), true_mass == 0,
                 np.asarray(ones if right is None else right, np.int64),
                 np.asarray(ones if known is None else known, np.int64))  # fmt: skip


def random_table(seed: int, n: int = 60) -> Table:
    dice = np.random.default_rng(seed)
    known = dice.integers(0, 8, n)
    return table(np.round(dice.uniform(0, 2000, n), -1), np.where(dice.random(n) < 0.6, 1000.0, 0.0),
                 dice.exponential(1, n), dice.integers(0, known + 1), known)  # fmt: skip


def test_the_figures_have_names():
    assert set(metrics.names()) == {
        "f10", "width", "half_width", "median", "peak_fraction", "mass_auc", "relative_signal_position",
        "background_median", "jet_accuracy", "event_accuracy",
    }  # fmt: skip
    with pytest.raises(ConfigError, match="f10"):
        metrics.find("f1O")


def test_figures_of_the_peak_by_hand():
    mass = [88.0, 91.0, 100.0, 109.0, 111.0, 150.0, 500.0, 700.0]
    true = [100.0] * 6 + [0.0, -1.0]
    found = metrics.figures(metrics.names(), table(mass, true))
    # strictly inside +-10 %: 91, 100, 109; the window [91, 111.2] has four of six
    assert found["f10"] == pytest.approx(3 / 6)
    assert found["peak_fraction"] == pytest.approx(4 / 6)
    assert found["median"] == pytest.approx(1.00)
    # 16 % of six is reached at the first, 84 % at the sixth
    assert found["half_width"] == pytest.approx(0.5 * (1.5 - 0.88))
    assert found["width"] == pytest.approx(0.31 / 1.0)
    assert found["mass_auc"] == 0.0
    assert found["background_median"] == 500.0


def test_sculpting_by_hand():
    events = table([100, 200, 300, 50, 200, 250, 400], [200, 200, 200, 0, 0, 0, 0], [1, 1, 2, 1, 1, 1, 1])
    # pairs of weight: 100 beats one of 4; 200 beats 1 and ties 1; 300 beats 3, twice
    assert metrics.mass_auc(events) == pytest.approx((1 + 1.5 + 2 * 3) / (4 * 4))
    # the signal's weighted median is 200: only the event at 50 is strictly below
    assert metrics.relative_signal_position(events) == pytest.approx(1 / 4)


def test_accuracies_by_hand():
    events = table([1, 1, 1, 1], [10, 10, 10, 0], [1, 2, 1, 5], right=[3, 4, 0, 0], known=[6, 4, 0, 6])
    assert metrics.jet_accuracy(events) == pytest.approx((3 + 2 * 4) / (6 + 2 * 4))
    assert metrics.event_accuracy(events) == pytest.approx(2 / 3)


def test_what_cannot_be_formed_is_not_a_number():
    only_background = metrics.figures(metrics.names(), table([1.0, 2.0], [0, 0]))
    assert {name for name, value in only_background.items() if not math.isnan(value)} == {"background_median"}
    nothing = metrics.figures(metrics.names(), table([], []))
    assert all(math.isnan(value) for value in nothing.values())


def test_groups_that_hold_nothing_are_no_peak():
    assert metrics.peak_fraction(table([0, 0, 0, 95, 100], [100] * 5)) == pytest.approx(2 / 5)


@given(SEED)
@settings(max_examples=30, deadline=None)
def test_auc_agrees_with_scikit_learn_with_weights_and_ties(seed):
    events = random_table(seed)
    expected = roc_auc_score(events.signal, events.mass_B, sample_weight=events.weight_B)
    assert metrics.mass_auc(events) == pytest.approx(expected, abs=1e-12)


@given(SEED)
@settings(max_examples=20, deadline=None)
def test_turning_the_scores_round_turns_the_auc_round(seed):
    events = random_table(seed)
    forth = metrics.auc(events.mass_B, events.signal, events.weight_B)
    assert metrics.auc(-events.mass_B, events.signal, events.weight_B) == pytest.approx(1 - forth, abs=1e-12)


@pytest.mark.parametrize("turned", [1, -1])
def test_scores_that_are_no_numbers_have_no_auc(turned):
    positive = np.array([True, True, False, False])[::turned]
    assert np.isnan(metrics.auc(np.full(4, np.nan), positive, np.ones(4)))
    one_odd = np.array([0.3, np.nan, 0.2, 0.1])
    assert np.isnan(metrics.auc(one_odd, np.array([True, True, False, False]), np.ones(4)))
    assert metrics.auc(one_odd, np.array([True, True, False, False]), np.array([1.0, 0.0, 1.0, 1.0])) == 1.0


def test_negative_weights_count_in_the_auc():
    events = table([3, 2, 1, 2], [5, 5, 0, 0], [2, -1, 1, 1])
    assert metrics.mass_auc(events) == pytest.approx((2 * 2 - 1 * 1.5) / 2)


@given(SEED)
@settings(max_examples=30, deadline=None)
def test_a_weight_of_two_is_an_event_twice(seed):
    events = random_table(seed)
    counts = np.random.default_rng(seed).integers(1, 4, len(events))
    weighted = table(events.mass_B, events.true_mass_B, counts, events.jets_right_B, events.jets_known_B)
    plain = table(events.mass_B, events.true_mass_B, None, events.jets_right_B, events.jets_known_B)
    repeated = plain[np.repeat(np.arange(len(events)), counts)]
    assert metrics.figures(metrics.names(), weighted) == pytest.approx(metrics.figures(metrics.names(), repeated))


@given(SEED, st.floats(0.1, 10))
@settings(max_examples=20, deadline=None)
def test_neither_the_order_nor_the_scale_of_weights_matters(seed, scale):
    events = random_table(seed)
    order = np.random.default_rng(seed).permutation(len(events))
    moved = table(events.mass_B, events.true_mass_B, scale * events.weight_B, events.jets_right_B, events.jets_known_B)
    assert metrics.figures(metrics.names(), moved[order]) == pytest.approx(metrics.figures(metrics.names(), events))


@given(SEED)
@settings(max_examples=30, deadline=None)
def test_the_best_window_holds_at_least_the_central_one(seed):
    events = random_table(seed)
    assert metrics.peak_fraction(events) >= metrics.f10(events) - 1e-12


@given(SEED)
@settings(max_examples=20, deadline=None)
def test_quantile_agrees_with_numpy(seed):
    dice = np.random.default_rng(seed)
    values, weight = dice.normal(size=50), dice.exponential(size=50)
    expected = np.quantile(values, [0.16, 0.5, 0.84], weights=weight, method="inverted_cdf")
    assert metrics.quantile(values, (0.16, 0.5, 0.84), weight).tolist() == expected.tolist()


def test_effective_number():
    assert metrics.n_eff(np.array([1.0, 1.0, 2.0])) == pytest.approx(16 / 6)
    assert metrics.n_eff(np.full(7, 0.3)) == pytest.approx(7)
    assert metrics.n_eff(np.array([])) == 0.0


def sample(dice: np.random.Generator, n: int = 150) -> Table:
    mass = np.concatenate((dice.normal(100, 12, n), dice.normal(85, 15, n)))
    return table(mass, np.repeat([100.0, 0.0], n))


def test_errors_are_the_spread_of_repeated_experiments():
    dice = np.random.default_rng(5)
    experiments = [sample(dice) for _ in range(300)]
    names = ("f10", "mass_auc", "width")
    spread = {name: np.std([metrics.find(name)(one) for one in experiments]) for name in names}
    errors = [metrics.bootstrap({"it": one}, names, replicas=100, seed=1) for one in experiments[:15]]
    for name in names:
        mean = np.mean([one.estimate("it", name).error for one in errors])
        assert mean == pytest.approx(spread[name], rel=0.2), name


def test_most_intervals_hold_the_truth():
    dice = np.random.default_rng(6)
    truth = math.erf(10 / 12 / math.sqrt(2))
    found = [metrics.bootstrap({"it": sample(dice)}, ["f10"], replicas=60, seed=i).estimate("it", "f10")
             for i in range(150)]  # fmt: skip
    held = np.mean([abs(one.value - truth) < one.error for one in found])
    assert 0.56 < held < 0.80


def test_the_error_of_a_difference_is_that_of_paired_events():
    events = sample(np.random.default_rng(7), 400)
    shifted = table(events.mass_B * 1.001, events.true_mass_B)
    both = metrics.bootstrap({"a": events, "b": shifted}, ["median", "mass_auc"], seed=2)
    assert both.difference("b", "a", "median").error < 0.05 * both.estimate("a", "median").error
    same = metrics.bootstrap({"a": events, "b": events}, ["f10"], seed=2).difference("b", "a", "f10")
    assert same == (0.0, 0.0)


def test_draws_are_seeded_and_share_the_background():
    events = sample(np.random.default_rng(8))
    names = ["background_median", "f10"]
    one, again = (metrics.bootstrap({"m": events}, names, seed=3, key="x") for _ in range(2))
    other_signal = metrics.bootstrap({"m": events}, names, seed=3, key="y")
    other_seed = metrics.bootstrap({"m": events}, names, seed=4, key="x")
    for name in names:
        assert np.array_equal(one.replicas["m"][name], again.replicas["m"][name])
        assert not np.array_equal(one.replicas["m"][name], other_seed.replicas["m"][name])
    assert np.array_equal(one.replicas["m"]["background_median"], other_signal.replicas["m"]["background_median"])
    assert not np.array_equal(one.replicas["m"]["f10"], other_signal.replicas["m"]["f10"])


def test_a_share_of_one_still_has_an_error():
    events = table([100.0] * 20 + [10.0] * 5, [100.0] * 20 + [0.0] * 5)
    found = metrics.bootstrap({"m": events}, ["relative_signal_position", "median"], replicas=10)
    assert found.estimate("m", "relative_signal_position") == (1.0, pytest.approx(1.14 / 5))


def test_methods_must_hold_the_same_events():
    events = sample(np.random.default_rng(9))
    with pytest.raises(ConfigError, match="lengths"):
        metrics.bootstrap({"a": events, "b": events[:-1]}, ["f10"])
