"""Scored samples of taggers side by side, and the numbers of the report on them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jetscale import labels, tagging
from jetscale.errors import DataError
from jetscale.evaluate.compare import HELD_OUT, Scored
from jetscale.events import Events
from jetscale.metrics import Bools, Bootstrap, Floats, Ints, n_eff, quantile
from jetscale.schema import PROBABILITY, flat, lengths
from jetscale.tagging import Rejection
from jetscale.train import checkpoint

REPLICAS, BINS = 50, 4
COLUMNS = ("event_id", "weight", "jet_label", "split")
# What a tagger writes beside the probability of a class, before the labels that the class holds.
SAID, BETWEEN = "that the jet is ", " or "
AXES = ("jet_pt", "jet_mass")  # of bins, where a sample says so

Classes = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Jets:
    """Held-out jets of known class, (B), and what every run says of them, (B, K).

    Weights make all classes count alike, as the training's mixture does by default.
    `unknown` jets are of no class and `left_out` ones were trained or validated on.
    """

    classes: Classes
    probability: Mapping[str, Floats]
    class_B: Ints
    weight_B: Floats
    axis: Mapping[str, Floats]
    unknown: int
    left_out: int

    def __len__(self) -> int:
        return len(self.class_B)

    @property
    def runs(self) -> tuple[str, ...]:
        return tuple(self.probability)

    def pair(self, run: str, signal: int, rows_B: Bools | None = None) -> tuple[Floats, Bools, Floats]:
        """Score, which are signal, and weight of the jets of one class and of the first, the background."""
        two_B = (self.class_B == 0) | (self.class_B == signal)
        two_B = two_B if rows_B is None else two_B & rows_B
        score_B = tagging.discriminant(self.probability[run][two_B], [signal], [0])
        return score_B, self.class_B[two_B] == signal, self.weight_B[two_B]


class Network(NamedTuple):
    """What a run has trained: a system, and how many numbers its network has learned."""

    system: str
    parameters: int


def networks(scored: Sequence[Scored]) -> dict[str, Network]:
    """The network of every run whose folder is known: not of folds, which are several."""
    found: dict[str, Network] = {}
    for one in scored:
        if one.run_dir is not None and one.run_name not in found:
            run, net = checkpoint.load(one.run_dir)
            parameters = sum(tensor.numel() for tensor in net.parameters() if tensor.requires_grad)
            found[one.run_name] = Network(Path(run.system).stem, parameters)
    return found


def are_tagged(scored: Sequence[Scored]) -> bool:
    """Whether samples are scored by taggers: all have probabilities of classes."""
    return bool(scored) and all(_probabilities(one.events) for one in scored)


def _probabilities(events: Events) -> list[str]:
    return [column.name for column in events.manifest.columns if column.name.startswith(PROBABILITY)]


def classes_of(events: Events) -> Classes:
    """The classes and their labels, as the docs of the columns of probabilities have them.

    Raises:
        DataError: a doc that names no labels.
    """
    found = {}
    for column in events.manifest.columns:
        if column.name.startswith(PROBABILITY):
            held = tuple(column.doc.removeprefix(SAID).split(BETWEEN))
            if not column.doc.startswith(SAID) or not set(held) <= set(labels.NAMES):
                raise DataError(f"the doc of {column.name!r} does not say which labels the class holds: {column.doc!r}",
                                where=events.name, cure=f"let it be {SAID + BETWEEN.join(('w', 'z'))!r}")  # fmt: skip
            found[column.name.removeprefix(PROBABILITY)] = held
    return found


def jets(scored: Sequence[Scored]) -> Jets:
    """The jets of all samples together, held out by every run.

    Raises:
        DataError: runs with other samples, events or classes than the first, no held-out jets of known class.
    """
    by_run: dict[str, dict[str, Events]] = {}
    for one in scored:
        if one.events.name in by_run.setdefault(one.run_name, {}):
            raise DataError(f"two samples {one.events.name!r} of {one.run_name}", where="report", cure="give it once")
        by_run[one.run_name][one.events.name] = one.events
    samples = list(next(iter(by_run.values())))
    classes = classes_of(scored[0].events)
    for run, events in by_run.items():
        if set(events) != set(samples) or any(classes_of(sample) != classes for sample in events.values()):
            raise DataError(f"{run} has other samples or classes than {scored[0].run_name}", where="report",
                            cure="score the same samples with runs of the same classes")  # fmt: skip
    axes = [name for name in AXES if all(name in one.events.schema for one in scored)]
    read = {run: _read([events[name] for name in samples], [*axes, *(f"{PROBABILITY}{name}" for name in classes)])
            for run, events in by_run.items()}  # fmt: skip
    return _together(read, classes, axes)


def _read(samples: Sequence[Events], more: Sequence[str]) -> dict[str, np.ndarray]:
    read = [_jets(events, (*COLUMNS, *more)) for events in samples]
    return {name: np.concatenate([one[name] for one in read]) for name in read[0]}


def _jets(events: Events, names: Sequence[str]) -> dict[str, np.ndarray]:
    """A number per jet, by event id: what an event of several jets has once is repeated for each."""
    table, schema = events.read(names).sort_by("event_id"), events.schema.only(names)
    count_B = lengths(table, schema.collections[0], schema) if schema.collections else np.ones(len(table), np.int64)
    return {name: flat(table[name]) if schema[name].of else np.repeat(flat(table[name]), count_B) for name in names}


def _together(read: Mapping[str, Mapping[str, np.ndarray]], classes: Classes, axes: Sequence[str]) -> Jets:
    first = next(iter(read.values()))
    for run, columns in read.items():
        if not all(np.array_equal(columns[name], first[name]) for name in (*COLUMNS, *axes) if name != "split"):
            raise DataError(f"{run} has scored other jets", where="report", cure="score the same samples with all runs")
    class_of = {labels.code(label): number for number, held in enumerate(classes.values()) for label in held}
    class_B = np.array([class_of.get(int(code), -1) for code in first["jet_label"]], dtype=np.int64)
    held_B = np.minimum.reduce([columns["split"] for columns in read.values()]) >= HELD_OUT
    rows_B = held_B & (class_B >= 0)
    if not rows_B.any():
        raise DataError("no held-out jets of known class", where="report",
                        cure="score a sample that has labels and that the runs have not been trained on")  # fmt: skip
    probability = {run: np.stack([columns[f"{PROBABILITY}{name}"][rows_B] for name in classes], 1).astype(np.float64)
                   for run, columns in read.items()}  # fmt: skip
    axis = {name: first[name][rows_B].astype(np.float64) for name in axes}
    weight_B = tagging.balanced(class_B[rows_B], first["weight"][rows_B].astype(np.float64))
    return Jets(classes, probability, class_B[rows_B], weight_B, axis,
                int((held_B & (class_B < 0)).sum()), int((~held_B).sum()))  # fmt: skip


def bootstrap(found: Jets, replicas: int = REPLICAS, seed: int = 0) -> Bootstrap:
    """Accuracy, AUC and rejections of every run, and on jets drawn anew within each class, the same for all runs."""
    dice, names = np.random.default_rng(seed), list(found.classes)
    weights = [found.weight_B]
    for _ in range(replicas):
        counts_B = np.zeros(len(found))
        for number in range(len(names)):
            rows = np.flatnonzero(found.class_B == number)
            if len(rows):
                counts_B[rows] = np.bincount(dice.integers(len(rows), size=len(rows)), minlength=len(rows))
        weights.append(found.weight_B * counts_B)
    figures = {run: [tagging.figures(probability_BK, found.class_B, weight_B, names) for weight_B in weights]
               for run, probability_BK in found.probability.items()}  # fmt: skip
    drawn = {run: {name: np.array([one[name] for one in all_[1:]]) for name in all_[0]}
             for run, all_ in figures.items()}  # fmt: skip
    return Bootstrap({run: all_[0] for run, all_ in figures.items()}, drawn, n_eff(found.weight_B) or 1.0)


def rejections(found: Jets, run: str, rows_B: Bools | None = None) -> dict[str, Rejection]:
    """1/eps_B of every class but the first against the first, by `CLASS at PERCENT %`."""
    return {
        f"{name} at {100 * at:.0f} %": tagging.rejection(*found.pair(run, number, rows_B), at)
        for number, name in enumerate(found.classes) if number for at in tagging.EFFICIENCIES
    }  # fmt: skip


def bins(found: Jets, axis: str) -> list[tuple[float, float, Bools]]:
    """Low, high and the rows (B) of bins that hold equal weights of the jets."""
    values_B = found.axis[axis]
    inner = quantile(values_B, [number / BINS for number in range(1, BINS)], found.weight_B)
    edges = np.unique([values_B.min(), *inner[np.isfinite(inner)], values_B.max()])
    place_B = np.searchsorted(edges[1:-1], values_B, side="right")
    return [(float(edges[k]), float(edges[k + 1]), place_B == k) for k in range(len(edges) - 1)]


def to_json(found: Jets, boot: Bootstrap, known: Mapping[str, Network],
            more: Mapping[str, Mapping[str, Any]]) -> str:  # fmt: skip
    """All numbers as JSON with sorted keys, six digits, no times and no paths.

    `more` holds numbers that some runs have, by their name and then by run: of filters, of images.
    """
    values = {
        "classes": {name: list(held) for name, held in found.classes.items()},
        "background": next(iter(found.classes)),
        "jets": {"known": len(found), "unknown": found.unknown, "left_out": found.left_out,
                 "n_eff": n_eff(found.weight_B),
                 "by_class": {name: int((found.class_B == k).sum()) for k, name in enumerate(found.classes)}},
        "runs": {run: {**_of_run(found, boot, run), **({"network": known[run]._asdict()} if run in known else {}),
                       **{name: of[run] for name, of in more.items() if run in of}} for run in found.runs},
        "differences": {run: {other: {name: boot.difference(run, other, name)._asdict() for name in boot.values[run]}
                              for other in found.runs if other != run} for run in found.runs},
    }  # fmt: skip
    return json.dumps(_digits(values), indent=1, sort_keys=True, allow_nan=False) + "\n"


def _of_run(found: Jets, boot: Bootstrap, run: str) -> dict[str, Any]:
    probability_BK = found.probability[run]
    return {
        "figures": {name: boot.estimate(run, name)._asdict() for name in boot.values[run] if "rejection" not in name},
        "rejections": {name: one._asdict() for name, one in rejections(found, run).items()},
        "confusion": tagging.confusion(probability_BK, found.class_B, found.weight_B).tolist(),
        "calibration": {
            name: [one._asdict() for one in tagging.calibration(probability_BK[:, k], found.class_B == k,
                                                                found.weight_B)]
            for k, name in enumerate(found.classes)
        },
        "bins": {axis: [_in_bin(found, run, *one) for one in bins(found, axis)] for axis in found.axis},
    }  # fmt: skip


def _in_bin(found: Jets, run: str, low: float, high: float, rows_B: Bools) -> dict[str, Any]:
    figures = tagging.figures(found.probability[run][rows_B], found.class_B[rows_B], found.weight_B[rows_B],
                              list(found.classes))  # fmt: skip
    return {"low": low, "high": high, "n": int(rows_B.sum()),
            "figures": {name: value for name, value in figures.items() if "rejection" not in name},
            "rejections": {name: one._asdict() for name, one in rejections(found, run, rows_B).items()}}  # fmt: skip


def _digits(value: Any) -> Any:
    """Six digits: more would be noise of the machine; what is not finite is null."""
    if isinstance(value, dict):
        return {key: _digits(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_digits(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
