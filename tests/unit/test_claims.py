"""Every claim on made-up tables: each can hold, not hold, and be undecided."""

import json
import math

import numpy as np
import pytest
from verdicts import WEIGHTS, best, evidence, ranked, row, rows

from jetscale.conduct import claims, table
from jetscale.conduct.claims import Claim, Part
from jetscale.conduct.table import combined, less, over
from jetscale.evaluate.logs import Curves
from jetscale.metrics import Estimate


def forgets_heavy(figure, loss, masses, weight, mass):
    return -0.3 if figure == "median" and masses == "single" and mass > 1300 else 0.0


@pytest.mark.parametrize(
    ("change", "error", "verdict"),
    [
        (forgets_heavy, 0.005, "holds"),
        (lambda *_: 0.0, 0.005, "does not hold"),
        (lambda figure, *_: -0.3 * (_[-1] > 1300) if figure == "median" else 0.0, 0.005, "does not hold"),
        (forgets_heavy, 0.2, "undecided"),
    ],
)
def test_c1_one_mass_cannot_and_several_can(change, error, verdict):
    assert claims.masses(evidence(change, error)).verdict == verdict


def test_c1_needs_a_mass_above_those_that_were_trained():
    found = claims.masses(evidence(forgets_heavy, top=1700.0))
    assert (found.verdict, found.parts) == ("undecided", ())
    assert "no hold-out" in found.missing


@pytest.mark.parametrize(
    ("at", "verdict"),
    [
        ((0.0, 0.05, 0.08), "holds"),
        ((0.0, 0.05, 0.045), "holds"),  # a fall within its error
        ((0.0, 0.08, 0.04), "does not hold"),
        ((0.0, -0.05, -0.08), "does not hold"),
        ((0.0, 0.0, 0.003), "undecided"),
        ((0.0, 0.097, 0.06), "holds"),  # saturated before it falls
    ],
)
def test_c2_the_position_moves_right(at, verdict):
    def change(figure, loss, masses, weight, mass):
        return at[WEIGHTS.index(weight)] if figure == "relative_signal_position" else 0.0

    assert claims.background(evidence(change)).verdict == verdict


@pytest.mark.parametrize(
    ("ranks", "verdict"),
    [
        ([*ranked("dense", 0.06), *ranked("equivariant", 0.02)], "holds"),
        ([*ranked("dense", 0.03), *ranked("equivariant", 0.03)], "does not hold"),
        ([*ranked("dense", 0.06, 0.4), *ranked("equivariant", 0.02, 0.4)], "undecided"),
        (ranked("equivariant", 0.02), "undecided"),
        ([*ranked("dense", 0.06, mode=3), *ranked("equivariant", 0.02, mode=3)], "undecided"),
    ],
)
def test_c3_dense_networks_drop_trailing_jets(ranks, verdict):
    assert claims.order(evidence(ranks=ranks)).verdict == verdict


def test_c3_says_what_was_not_run():
    assert claims.order(evidence(ranks=ranked("equivariant", 0.02))).missing == "not run: dense"


@pytest.mark.parametrize(
    ("jets", "peak", "verdict"),
    [(-0.05, 0.1, "holds"), (-0.05, -0.1, "does not hold"), (0.05, 0.1, "does not hold"), (-0.05, 0.001, "undecided")],
)
def test_c4_labels_for_labels_and_masses_for_masses(jets, peak, verdict):
    def change(figure, loss, masses, weight, mass):
        return {"jet_accuracy": jets, "f10": peak}.get(figure, 0.0) if loss == "mass" else 0.0

    assert claims.losses(evidence(change)).verdict == verdict


def curve(values: np.ndarray) -> Curves:
    return Curves({}, {}, {"f10": (np.arange(len(values)) * 10.0, values)})


@pytest.mark.parametrize(
    ("shape", "noise", "verdict"),
    [
        (lambda x: 0.4 - 0.3 * (x - 0.4) ** 2, 0.002, "holds"),
        (lambda x: 0.2 + 0.2 * x, 0.002, "does not hold"),
        (lambda x: 0.4 - 0.0 * x, 0.05, "undecided"),
    ],
)
def test_c5_the_mass_passes_an_optimum(shape, noise, verdict):
    dice = np.random.default_rng(4)
    x = np.linspace(0, 1, 40)
    curves = {(f"label-{name}", 1): curve(shape(x) + dice.normal(0, noise, 40)) for name in "abc"}
    assert claims.optimum(evidence(curves=curves)).verdict == verdict


def test_c5_needs_enough_validations():
    found = claims.optimum(evidence(curves={("label-mixed", 1): curve(np.ones(4))}))
    assert (found.verdict, bool(found.missing)) == ("undecided", True)


@pytest.mark.parametrize(
    ("change", "error", "verdict"),
    [
        (best, 0.003, "holds"),
        (best, 0.1, "undecided"),
        (lambda *keys: best(*keys) - 0.2 * (keys[0] == "f10" and keys[2] == "mixed"), 0.003, "does not hold"),
        # the label loss is better in both where there is background
        (lambda *keys: best(*keys) + 0.1 * (keys[1] == "label" and keys[0] in ("f10", "mass_auc")), 0.003,
         "does not hold"),
    ],
)  # fmt: skip
def test_c6_mass_loss_with_background_is_best(change, error, verdict):
    assert claims.best_of_all(evidence(change, error)).verdict == verdict


def test_c6_a_classical_method_that_is_better_in_both_wins():
    made = evidence(best, 0.003)
    strong = {"f10": Estimate(0.9, 0.003), "mass_auc": Estimate(0.99, 0.003)}
    keys = {"loss": "", "masses": "", "network": "", "readout": "", "seed": 0}
    found = claims.best_of_all(made._replace(rows=[*made.rows, row(strong, "g1100", method="oracle", **keys)]))
    (lost,) = [part for part in found.parts if part.verdict == "does not hold"]
    assert lost.said.startswith("g1100") and "oracle" in lost.said
    assert found.verdict == "does not hold"


def test_c6_a_method_that_was_not_judged_leaves_it_open():
    made = evidence(best, 0.003)
    keys = {"loss": "", "masses": "", "network": "", "readout": "", "seed": 0}
    found = claims.best_of_all(made._replace(rows=[*made.rows, row({}, "g1100", method="absent", **keys)]))
    assert [part.verdict for part in found.parts if part.said.startswith("g1100")] == ["undecided"]


@pytest.mark.parametrize(
    ("value", "error", "rises", "verdict"),
    [(0.021, 0.01, True, "holds"), (0.019, 0.01, True, "undecided"), (-0.019, 0.01, True, "undecided"),
     (-0.021, 0.01, True, "does not hold"), (-0.019, 0.01, False, "holds"), (-0.021, 0.01, False, "does not hold"),
     (math.nan, 0.01, True, "undecided"), (0.5, math.nan, False, "undecided")],
)  # fmt: skip
def test_two_errors_decide(value, error, rises, verdict):
    assert Part("", Estimate(value, error), rises).verdict == verdict


def test_one_part_that_fails_is_enough_and_a_missing_one_leaves_it_open():
    good, open_, bad = (Part("", Estimate(value, 0.01)) for value in (1.0, 0.0, -1.0))
    assert Claim("C", "", 1, "", (good, good)).verdict == "holds"
    assert Claim("C", "", 1, "", (good, open_)).verdict == "undecided"
    assert Claim("C", "", 1, "", (good, open_, bad)).verdict == "does not hold"
    assert Claim("C", "", 1, "", (good,), "no seeds").verdict == "undecided"
    assert Claim("C", "", 1, "", ()).verdict == "undecided"


def test_claims_are_plain_json():
    found = [claim.values() for claim in claims.judge(evidence())]
    assert [one["name"] for one in found] == ["C1", "C2", "C3", "C4", "C5", "C6"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_seeds_add_their_deviation_over_the_root_of_their_number():
    f10 = [Estimate(value, 0.01) for value in (0.40, 0.44, 0.42)]
    found = combined([row({"f10": one}, seed=seed) for seed, one in enumerate(f10)], "f10", {})
    assert found.value == pytest.approx(0.42)
    assert found.error == pytest.approx(math.hypot(0.01, 0.02 / math.sqrt(3)))


def test_one_seed_takes_the_deviation_that_is_given_and_classical_methods_have_none():
    one = row({"f10": Estimate(0.4, 0.01)})
    assert combined([one], "f10", {"f10": 0.03}).error == pytest.approx(math.hypot(0.01, 0.03))
    assert combined([one._replace(loss="")], "f10", {"f10": 0.03}).error == pytest.approx(0.01)
    assert math.isnan(combined([], "f10", {}).value)


def test_samples_are_averaged_as_if_their_errors_moved_together():
    some = [row({"f10": Estimate(value, 0.01)}, name) for name, value in (("g1100", 0.3), ("g1500", 0.5))]
    assert combined(some, "f10", {}) == pytest.approx((0.4, 0.01))


def test_differences_and_ratios_have_both_errors():
    assert less(Estimate(0.5, 0.03), Estimate(0.2, 0.04)) == pytest.approx((0.3, 0.05))
    assert over(Estimate(0.5, 0.01), Estimate(1.0, 0.02)) == pytest.approx((0.5, math.hypot(0.01, 0.01)))
    assert math.isnan(over(Estimate(1.0, 0.1), Estimate(0.0, 0.1)).value)


def test_the_table_comes_back_as_it_was_written(tmp_path):
    made = rows(lambda *_: 0.0)
    table.write(made, tmp_path / "study.parquet")
    assert repr(table.read(tmp_path / "study.parquet")) == repr(made)  # NaN is not NaN
    assert [path.name for path in tmp_path.iterdir()] == ["study.parquet"]
