"""The statistics of an audit, with plain functions in the place of trained ones: what remembers masses is seen."""

import numpy as np
import pytest

from jetscale.audit.bank import bank, off_grid
from jetscale.audit.coefficient import coefficient, nearest, points, student
from jetscale.audit.functions import of_classical
from jetscale.audit.influence import influence
from jetscale.audit.jets import ht
from jetscale.audit.spread import distances, spread
from jetscale.audit.transfer import inside, lost, sides, transfer
from jetscale.audit.verdicts import Thresholds, changed, failed, judge, not_formed
from jetscale.errors import ConfigError, DataError

TRAINED = (900.0, 1300.0, 1700.0)
COMPOSITIONS = {"all": TRAINED, "without-900": (1300.0, 1700.0), "without-1300": (900.0, 1700.0),
                "without-1700": (900.0, 1300.0)}  # fmt: skip


def test_the_coefficient_is_found_with_its_error() -> None:
    dice = np.random.default_rng(1)
    true = np.repeat(off_grid(TRAINED), 80)
    pulls = []
    for _ in range(60):
        ht_B, noise = 2 * true + dice.normal(0, 300, len(true)), dice.normal(0, 100, len(true))
        shared = np.repeat(dice.normal(0, 20, 25), 80)  # what the events of one mass have in common
        reco = 50 + 0.5 * true + 0.3 * (nearest(true, TRAINED) - true) + 0.2 * ht_B + noise + shared
        pulls.append(coefficient(reco, true, ht_B, TRAINED))
    values = [pull.value for pull in pulls]
    assert np.mean(values) == pytest.approx(0.3, abs=3 * np.std(values) / np.sqrt(60))
    assert np.mean([pull.error for pull in pulls]) == pytest.approx(np.std(values), rel=0.25)
    assert (pulls[0].masses, pulls[0].events) == (25, 2000)


def test_one_training_mass_is_told_by_what_is_not_proportional() -> None:
    true = np.repeat(off_grid((1000.0,)), 50)
    ht_B = true * np.random.default_rng(1).uniform(1.5, 2.5, len(true))
    assert coefficient(0.6 * true + 0.1 * ht_B, true, ht_B, (1000.0,)).value == pytest.approx(0, abs=1e-9)
    shrunk = coefficient(0.4 * true + 0.1 * ht_B + 0.2 * 1000, true, ht_B, (1000.0,))
    assert shrunk.value == pytest.approx(0.2)
    assert coefficient(np.full(len(true), 1000.0), true, ht_B, (1000.0,)).value == pytest.approx(1)


def test_coefficients_that_cannot_be_formed() -> None:
    true = np.repeat([500.0, 600.0, 700.0, 800.0], 20)
    with pytest.raises(DataError, match="4 mass points"):
        coefficient(true, true, true, TRAINED)
    true = np.repeat(off_grid(TRAINED), 20)
    with pytest.raises(DataError, match="function of the true mass"):
        coefficient(true, true, 2 * true, TRAINED)


def test_a_spectrum_of_masses_is_taken_in_ranges() -> None:
    point_B = points(np.random.default_rng(1).uniform(500, 2000, 6000))
    assert np.bincount(point_B).tolist() == pytest.approx([100] * 60, abs=2)


@pytest.mark.parametrize(("freedom", "quantile"), [(4, 2.869), (6, 2.517), (10, 2.284), (24, 2.110), (10**6, 2.0)])
def test_students_quantiles(freedom: int, quantile: float) -> None:
    assert student(freedom) == pytest.approx(quantile, rel=0.01)


def test_what_is_lost_at_what_is_left_out() -> None:
    full = np.array([[0.5, 0.4], [0.5, 0.4]])
    out = np.array([[[0.4, 0.4], [0.5, 0.4]], [[0.3, 0.4], [0.5, 0.4]]])  # only the first is worse without itself
    found = transfer(out, full, ["a", "b"], 1000)
    assert found.gap.value == pytest.approx(0.15)
    assert found.worst_at == "a"
    assert found.worst.value == pytest.approx(0.3)
    # Two parts, two seeds: four ways to name them, one of them as bad.
    assert found.p == pytest.approx(0.25, abs=0.06)
    with pytest.raises(ConfigError, match="1 parts"):
        transfer(out[:, :1, :1], full[:, :1], ["a"], 1000)


def test_errors_of_a_loss_have_the_events_and_the_seeds() -> None:
    one = lost(np.array([[0.4]]), np.array([[0.5]]), 600)
    dice = np.random.default_rng(1)
    drawn = 1 - (dice.binomial(600, 0.4, 4000)) / (dice.binomial(600, 0.5, 4000))
    assert one.error == pytest.approx(np.std(drawn), rel=0.05)
    assert lost(np.array([[0.3], [0.5]]), np.array([[0.5], [0.5]]), 10**9).error == pytest.approx(0.2)


def test_inside_and_outside_of_the_hull() -> None:
    grid = {f"{mass}-{mode}": (mass, mode) for mass in (900.0, 1300.0, 1700.0) for mode in (2.0, 3.0, 4.0)}
    found = sides(grid, {name: (name,) for name in grid})
    corners = {"900.0-2.0", "900.0-4.0", "1700.0-2.0", "1700.0-4.0"}
    assert {name for name, within in found.items() if not within} == corners
    middle = sides(grid, {"3": tuple(name for name, (_, mode) in grid.items() if mode == 3)})
    assert middle == {name: True for name in middle}
    line = [(900.0, 3.0), (1700.0, 3.0)]
    assert inside((1300.0, 3.0), line)
    assert not inside((1300.0, 4.0), line)
    assert not inside((1800.0, 3.0), line)
    assert inside((900.0, 3.0), line)
    assert not inside((1.0, 1.0), [])


def _responses(kind: str, seeds: int = 3) -> tuple[np.ndarray, list[str]]:
    """Functions by composition and seed; a seed moves all responses a little, probe by probe."""
    probes = bank(off_grid(TRAINED), 300, 3, off_shell=0.2)
    dice, asymmetric, size = np.random.default_rng(4), of_classical("asymmetry_6")(probes), 0.6 * ht(probes)
    found, names = [], []
    for name, masses in COMPOSITIONS.items():
        for _ in range(seeds):
            own = asymmetric if kind == "asymmetry" else nearest(size, masses)
            found.append(own * (1 + 0.02 * dice.normal(size=probes.num_rows)))
            names.append(name)
    return np.array(found), names


def test_functions_that_remember_masses_lie_apart_and_the_asymmetry_does_not() -> None:
    memory, asymmetric = spread(*_responses("memory")), spread(*_responses("asymmetry"))
    assert memory.f > 20
    assert memory.p < 0.01
    assert asymmetric.f < 2
    assert asymmetric.p > 0.05
    limits = Thresholds()
    assert judge("spread", memory.f, np.nan, limits, p=memory.p).state == "fail"
    assert judge("spread", asymmetric.f, np.nan, limits, p=asymmetric.p).state == "pass"


def test_one_function_without_any_seed_has_no_spread() -> None:
    responses, names = _responses("asymmetry")
    same = np.repeat(responses[:1], len(names), axis=0)
    assert (spread(same, names).f, spread(same, names).p) == (0.0, 1.0)


def test_p_values_of_functions_that_differ_by_seeds_alone_are_even() -> None:
    dice = np.random.default_rng(1)
    names = [name for name in "abcd" for _ in range(2)]
    # Probes without anything in common: there the deviations of so few seeds are at their worst.
    drawn = (dice.normal(size=(8, 200)) for _ in range(60))
    p_values = np.array([spread(one, names, permutations=39, seed=n).p for n, one in enumerate(drawn)])
    assert np.mean(p_values <= 0.1) < 0.2
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.1)


def test_so_few_functions_say_how_little_they_can() -> None:
    responses = np.random.default_rng(1).normal(size=(4, 30))
    assert spread(responses, ["a", "a", "b", "b"]).smallest_p == pytest.approx(1 / 3)
    with pytest.raises(ConfigError, match="'b' has a single seed"):
        spread(responses[:3], ["a", "a", "b"])
    with pytest.raises(ConfigError, match="1 compositions"):
        spread(responses, ["a"] * 4)


def test_one_class_is_right_about_new_seeds_and_sees_another_composition() -> None:
    dice, names = np.random.default_rng(2), [*["all"] * 8, *["x"] * 2]
    p_new, p_moved = [], []
    for _ in range(25):
        responses = 0.1 * dice.normal(size=(10, 80)) + 0.3 * dice.normal(size=(10, 1))
        p_new.append(distances(responses, names, "all")[0].p)
        responses[8:] += 1.5
        p_moved.append(distances(responses, names, "all")[0].p)
    assert np.mean(np.array(p_new) < 0.05) < 0.2
    assert np.median(p_moved) < 0.001
    with pytest.raises(ConfigError, match="4 seeds"):
        distances(responses[:6], ["all"] * 4 + ["x"] * 2, "all")


def test_influence_is_taken_seed_by_seed() -> None:
    start = np.array([[1000.0], [1400.0], [900.0]])  # seeds differ far more than weights
    weights = np.array([0.0, 0.5, 1.0])
    found = influence(weights, start * (1 - 0.1 * weights), np.full((3, 3), 0.9))
    assert [one.value for one in found.response] == pytest.approx([1, 0.95, 0.9])
    assert [one.value for one in found.slope] == pytest.approx([-0.1, -0.1])
    assert found.largest.value == pytest.approx(-0.1)
    assert found.largest.error == pytest.approx(0, abs=1e-12)
    assert found.position is not None


def test_verdicts() -> None:
    limits = Thresholds(boost=0.1)
    states = [judge("scale", 0.2, error, limits).state for error in (0.05, 0.15, np.nan)]
    assert states == ["fail", "undecided", "undecided"]
    assert judge("nearest_mass", -0.2, 0.05, limits).state == "fail"
    assert judge("nearest_mass", 0.04, 0.001, limits).state == "pass"
    assert judge("eta_reflection", 0.9, 0.0, limits).state == "off"
    assert judge("boost", 0.9, 0.0, limits).state == "fail"
    assert not_formed("scale", limits, "why").state == "not formed"
    assert failed([judge("scale", 1, 0, limits), judge("rotation", 0, 0, limits)]) == ["scale"]


def test_thresholds_are_changed_by_name() -> None:
    limits = changed(Thresholds(), ["scale=0.2", "permutation = off"])
    assert (limits.scale, limits.permutation, limits.rotation) == (0.2, None, 0.05)
    for wrong, hint in (("scal=1", "did you mean 'scale'"), ("scale=x", "NAME=NUMBER"), ("scale=-1", "greater than 0")):
        with pytest.raises(ConfigError, match=hint):
            changed(Thresholds(), [wrong])
