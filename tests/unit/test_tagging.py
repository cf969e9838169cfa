"""Figures of taggers against counting by hand."""

import numpy as np
import pyarrow as pa
import pytest

from jetscale import tagging
from jetscale.labels import code
from jetscale.systems.pfn import PFN


def test_the_discriminant_adds_the_background_classes() -> None:
    probability = np.array([[0.2, 0.3, 0.5], [0.0, 0.0, 1.0], [0.6, 0.4, 0.0]])
    assert tagging.discriminant(probability, [1], [0, 2]).tolist() == pytest.approx([0.3, 0.0, 0.4])
    assert tagging.discriminant(probability, [1], [0]).tolist() == pytest.approx([0.6, 0.0, 0.4])


def test_rejection_is_that_of_counting() -> None:
    dice = np.random.default_rng(1)
    score = np.concatenate([dice.normal(0, 1, 4000), dice.normal(1.5, 1, 4000)])
    signal = np.arange(8000) >= 4000
    found = tagging.rejection(score, signal, np.ones(8000), 0.5)
    passing = float((score[~signal] >= np.quantile(score[signal], 0.5)).mean())
    assert found.value == pytest.approx(1 / passing, rel=0.02) and not found.bound
    assert found.error == pytest.approx(np.sqrt((1 - passing) / (4000 * passing)) / passing, rel=0.05)


def test_between_two_cuts_the_logarithm_is_a_line() -> None:
    score = np.array([3.0, 2.0, 2.0, 1.0, 1.0, 1.0])
    signal = np.array([False, True, False, True, False, False])
    # Cuts: eps_S 0, 0.5, 1 at eps_B 0.25, 0.5, 1.
    assert tagging.rejection(score, signal, np.ones(6), 0.5).value == pytest.approx(2.0)
    assert tagging.rejection(score, signal, np.ones(6), 0.25).value == pytest.approx(1 / np.sqrt(0.25 * 0.5))


def test_where_nothing_passes_there_is_a_bound() -> None:
    score = np.concatenate([np.zeros(100), np.ones(50)])
    signal = np.arange(150) >= 100
    found = tagging.rejection(score, signal, np.ones(150), 0.3)
    assert found.bound and found.value == pytest.approx(100 / 1.14) and np.isnan(found.error)


def test_weights_count() -> None:
    score = np.array([2.0, 1.0, 2.0, 1.0])
    signal = np.array([True, True, False, False])
    found = tagging.rejection(score, signal, np.array([1.0, 1.0, 1.0, 9.0]), 0.5)
    assert found.value == pytest.approx(10.0)
    assert found.error == pytest.approx(10.0 * np.sqrt(0.9 / (0.1 * 100 / 82)))


@pytest.mark.parametrize("signal", [[True, True], [False, False], []])
def test_one_class_alone_has_no_rejection(signal: list[bool]) -> None:
    found = tagging.rejection(np.arange(len(signal)) * 1.0, np.array(signal, dtype=bool), np.ones(len(signal)), 0.5)
    assert np.isnan(found.value)


def test_two_classes_have_plain_names_and_more_have_their_own() -> None:
    dice = np.random.default_rng(2)
    two = tagging.figures(dice.dirichlet([1, 1], 50), dice.integers(0, 2, 50), np.ones(50), ["qcd", "top"])
    assert set(two) == {"accuracy", "auc", "rejection_30", "rejection_50"}
    three = tagging.figures(dice.dirichlet([1, 1, 1], 60), np.arange(60) % 3, np.ones(60), ["qcd", "top", "w"])
    assert three["auc"] == pytest.approx((three["auc_top"] + three["auc_w"]) / 2)


def test_confusion_is_by_true_class() -> None:
    probability = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4]])
    found = tagging.confusion(probability, np.array([0, 0, 0, 1]), np.array([1.0, 1.0, 2.0, 5.0]))
    assert np.allclose(found, [[0.75, 0.25], [1, 0]])
    assert np.isnan(tagging.confusion(probability[:3], np.zeros(3, dtype=int), np.ones(3))[1]).all()


def test_true_probabilities_are_calibrated_and_bold_ones_are_not() -> None:
    dice = np.random.default_rng(3)
    said = dice.random(20_000)
    own = dice.random(20_000) < said
    good = tagging.calibration(said, own, np.ones(20_000))
    assert len(good) == 10 and all(abs(one.seen - one.said) < 4 * one.error for one in good)
    bold = tagging.calibration(np.where(said > 0.5, 0.95, 0.05), own, np.ones(20_000))
    assert all(abs(one.seen - one.said) > 10 * one.error for one in bold)


def test_classes_count_alike_whatever_their_cross_sections() -> None:
    kind, weight = np.array([0, 0, 0, 1, 2]), np.array([1e9, 2e9, 1e9, 1e-3, 0.0])
    even = tagging.balanced(kind, weight)
    assert even[:3].sum() == pytest.approx(even[3]) and even.sum() == pytest.approx(weight.sum())
    assert even[1] == pytest.approx(2 * even[0]) and even[4] == 0
    probability = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4]])
    assert tagging.accuracy(probability, kind[:4], weight[:4]) == pytest.approx((0.5 + 0.0) / 2)
    assert np.isnan(tagging.accuracy(probability[:0], kind[:0], weight[:0]))


def test_bounds_are_no_values_where_they_would_be_compared() -> None:
    probability = np.array([[1.0, 0.0]] * 100 + [[0.0, 1.0]] * 50)
    given = probability, np.arange(150) // 100, np.ones(150), ["qcd", "top"]
    assert tagging.figures(*given)["rejection_50"] == pytest.approx(100 / 1.14)
    found = tagging.figures(*given, bounds=False)
    assert np.isnan(found["rejection_50"]) and found["auc"] == 1.0
    label = np.where(given[1] == 1, code("top"), code("qcd")).astype(np.int8)
    scores = {"probability_qcd": probability[:, 0], "probability_top": probability[:, 1]}
    table = pa.table({"weight": np.ones(150), "jet_label": label, **scores})
    task = PFN(classes={"qcd": ("qcd",), "top": ("top",)})
    assert np.isnan(task.figures(table)["rejection_50"]) and task.figures(table)["auc"] == 1.0
