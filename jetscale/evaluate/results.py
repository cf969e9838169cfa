"""The figures of every method on every sample with their errors, and what they amount to in one sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jetscale import metrics
from jetscale.evaluate.compare import RANDOM, TRUTH, Sample, join
from jetscale.metrics import Bootstrap, Estimate

FIGURES = ("f10", "width", "half_width", "median", "peak_fraction", "jet_accuracy", "event_accuracy")
ACCURACIES = ("jet_accuracy", "event_accuracy")
SCULPTING = ("mass_auc", "relative_signal_position")
REPLICAS = 200
DECIDED = 2.0
LABELS = {
    "asymmetry_6": "min. mass asymmetry",
    "asymmetry_8": "min. asymmetry, 8 jets",
    "asymmetry_12": "min. asymmetry, 12 jets",
    "delta_r": "min. Delta R",
    RANDOM: "random grouping",
    TRUTH: "true labels",
}


@dataclass(frozen=True)
class Results:
    """Everything that the page, the pictures and results.json say."""

    runs: tuple[str, ...]
    samples: tuple[Sample, ...]
    by_signal: Mapping[str, Bootstrap]
    mean: Bootstrap | None
    background: Bootstrap | None

    def of_kind(self, kind: str) -> list[Sample]:
        return [sample for sample in self.samples if sample.kind == kind]

    @property
    def methods(self) -> list[str]:
        """The runs, then the methods without a network, in the order of tables and legends."""
        found = {method for sample in self.samples for method in sample.methods}
        return [*self.runs, *self.classical, *(method for method in (RANDOM, TRUTH) if method in found)]

    @property
    def classical(self) -> list[str]:
        """The classical methods, in the order in which they were asked for."""
        first = self.samples[0].methods if self.samples else {}
        return [method for method in first if method not in (*self.runs, RANDOM, TRUTH)]

    @property
    def figures(self) -> tuple[str, ...]:
        return (*FIGURES, *SCULPTING) if self.of_kind("background") else FIGURES


def compare(samples: Sequence[Sample], runs: Sequence[str], seed: int = 0) -> Results:
    """Figures with bootstrap errors: each signal against the union of all background, and the mean over the signals.

    The same events are drawn for all methods, and the same background for all signals, so that differences and means
    have the errors that they have.
    """
    background = [sample for sample in samples if sample.kind == "background"]
    by_signal = {sample.name: _bootstrap(sample, background, seed) for sample in samples if sample.kind == "signal"}
    below = _below(background, seed) if background else None
    return Results(tuple(runs), tuple(samples), by_signal, _mean(list(by_signal.values())), below)


def _bootstrap(signal: Sample, background: Sequence[Sample], seed: int) -> Bootstrap:
    return _merged([_of_method(method, signal, background, seed) for method in signal.methods])


def _of_method(method: str, signal: Sample, background: Sequence[Sample], seed: int) -> Bootstrap:
    # True labels agree with themselves, and where the background has none they say nothing of sculpting.
    wanted = [name for name in FIGURES if method != TRUTH or name not in ACCURACIES]
    together = [signal]
    if background and method in _common(background):
        wanted, together = [*wanted, *SCULPTING], [signal, *background]
    table = join([sample.table(method) for sample in together])
    return metrics.bootstrap({method: table}, wanted, replicas=REPLICAS, seed=seed, key=signal.name)


def _below(background: Sequence[Sample], seed: int) -> Bootstrap:
    tables = {method: join([one.table(method) for one in background]) for method in _common(background)}
    return metrics.bootstrap(tables, ["background_median"], replicas=REPLICAS, seed=seed)


def _common(samples: Sequence[Sample]) -> list[str]:
    return [method for method in samples[0].methods if all(method in sample.methods for sample in samples)]


def _merged(boots: Sequence[Bootstrap]) -> Bootstrap:
    """Several methods' figures as one; equal seeds and keys have drawn the same events."""
    values = {method: figures for boot in boots for method, figures in boot.values.items()}
    replicas = {method: figures for boot in boots for method, figures in boot.replicas.items()}
    return Bootstrap(values, replicas, min(boot.n_eff for boot in boots))


def _mean(boots: Sequence[Bootstrap]) -> Bootstrap | None:
    """The mean over signals of every figure that all of them have."""
    if not boots:
        return None
    first, *rest = (boot.values for boot in boots)
    have = {
        method: [name for name in figures if all(name in other.get(method, {}) for other in rest)]
        for method, figures in first.items()
    }
    values = {m: {f: float(np.mean([b.values[m][f] for b in boots])) for f in have[m]} for m in have if have[m]}
    replicas = {m: {f: np.mean([b.replicas[m][f] for b in boots], axis=0) for f in have[m]} for m in values}
    return Bootstrap(values, replicas, min(boot.n_eff for boot in boots))


def label(method: str) -> str:
    """A method's name as it is read."""
    return LABELS.get(method, method)


def verdict(results: Results, run: str) -> str:
    """One or two sentences: is the run sharper than the best classical method, and does it sculpt less, with errors."""
    mean = results.mean
    if mean is None:
        return f"{run} has masses for these events, but no signal with a known mass is among them: nothing to compare."
    over = len(results.by_signal)
    where = f"Over {over} signal samples, " if over > 1 else ""
    if not results.classical:
        return f"{where}{100 * mean.values[run]['f10']:.1f} % of the events of {run} lie within 10 % of the true mass."
    best = _best(mean, results.classical, "f10")
    sharper = mean.difference(run, best, "f10")
    a, b = (f"{100 * mean.values[method]['f10']:.1f} %" for method in (run, best))
    first = (f"{where}{run} is {_word(sharper, 'sharper than', 'less sharp than', 'not measurably sharper than')} "
             f"{_said(results, best)}: {a} of the events lie within 10 % of the true mass against {b} "
             f"({_points(sharper)} percentage points{_signal_by_signal(results, run, best)}).")  # fmt: skip
    if not results.of_kind("background"):
        return f"{first} Without background events, sculpting is not judged."
    lowest = _best(mean, results.classical, "mass_auc")
    less = mean.difference(run, lowest, "mass_auc")
    a, b = (f"{mean.values[method]['mass_auc']:.3f}" for method in (run, lowest))
    word = _word(less, "sculpts the background less", "sculpts the background more",
                 "sculpts the background neither measurably less nor more")  # fmt: skip
    against = b if lowest == best else f"{b} of {_said(results, lowest)}"
    return f"{first} It {word}: mass AUC {a} against {against} ({less.value:+.3f} ± {less.error:.3f})."


def _best(mean: Bootstrap, methods: Sequence[str], figure: str) -> str:
    """The method whose figure is largest: what a run must beat is the best of them, picked after the fact."""
    return max(methods, key=lambda method: mean.values[method][figure])


def _said(results: Results, method: str) -> str:
    name = "minimum mass asymmetry" if method == "asymmetry_6" else label(method)
    return (
        f"the {name}"
        if len(results.classical) == 1
        else f"the best of {len(results.classical)} classical methods ({name})"
    )


def _signal_by_signal(results: Results, run: str, other: str) -> str:
    """In how many signals the run is sharper: a mean over several may be the doing of one."""
    differences = [boot.difference(run, other, "f10") for boot in results.by_signal.values()]
    if len(differences) < 2:
        return ""
    words = [_word(difference, "sharper", "less sharp", "undecided") for difference in differences]
    counted = ", ".join(f"{word} in {words.count(word)}" for word in ("sharper", "less sharp", "undecided"))
    return f"; one by one: {counted}"


def _word(difference: Estimate, more: str, less: str, undecided: str) -> str:
    if not abs(difference.value) > DECIDED * difference.error:
        return undecided
    return more if difference.value > 0 else less


def _points(difference: Estimate) -> str:
    return f"{100 * difference.value:+.1f} ± {100 * difference.error:.1f}"


def to_json(results: Results) -> str:
    """All figures as JSON with sorted keys; no times and no paths, so that equal work gives equal bytes."""
    values: dict[str, Any] = {
        "runs": list(results.runs),
        "verdict": {run: verdict(results, run) for run in results.runs},
        "samples": {sample.name: _sample(sample, results) for sample in results.samples},
    }
    if results.mean:
        values["mean"] = {"methods": _all(results.mean), "differences": _differences(results.mean, results.runs)}
    if results.background:
        values["background"] = {"methods": _all(results.background)}
    return json.dumps(values, indent=1, sort_keys=True, allow_nan=False) + "\n"


def _sample(sample: Sample, results: Results) -> dict[str, Any]:
    size = Estimate(metrics.n_eff(sample.weight_B), 0.0)
    found: dict[str, Any] = {
        "kind": sample.kind,
        "n": len(sample),
        "n_eff": _estimate(size)["value"],
        "left_out": sample.left_out,
    }
    if boot := results.by_signal.get(sample.name):
        found |= {"true_mass": sample.true_mass, "methods": _all(boot), "differences": _differences(boot, results.runs)}
    return found


def _all(boot: Bootstrap) -> dict[str, Any]:
    return {
        method: {name: _estimate(boot.estimate(method, name)) for name in figures}
        for method, figures in boot.values.items()
    }


def _differences(boot: Bootstrap, runs: Sequence[str]) -> dict[str, Any]:
    """Each run less every other method, paired by event."""
    return {
        run: {
            other: {name: _estimate(boot.difference(run, other, name)) for name in boot.values[other]}
            for other in boot.values
            if other != run
        }
        for run in runs
    }


def _estimate(estimate: Estimate) -> dict[str, float | None]:
    """Six digits: more would be noise of the machine."""
    pair = {"value": estimate.value, "error": estimate.error}
    return {key: float(f"{number:.6g}") if math.isfinite(number) else None for key, number in pair.items()}
