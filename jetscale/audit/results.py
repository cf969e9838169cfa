"""An audit as one JSON file, and in one sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from jetscale import __version__
from jetscale.audit.audit import Matrix, Report
from jetscale.audit.influence import Influence
from jetscale.audit.verdicts import Verdict, failed
from jetscale.metrics import Estimate


def sentence(report: Report) -> str:
    """What came out: how many thresholds were passed, and which were not."""
    judged = [verdict for verdict in report.verdicts if verdict.state in ("pass", "fail", "undecided")]
    bad = failed(report.verdicts)
    if bad:
        return f"{report.subject.name} fails {len(bad)} of {len(judged)} thresholds: {', '.join(bad)}."
    open_ones = [verdict.name for verdict in judged if verdict.state == "undecided"]
    said = f"; undecided: {', '.join(open_ones)}" if open_ones else ""
    return f"{report.subject.name} passes {len(judged) - len(open_ones)} of {len(judged)} thresholds{said}."


def to_json(report: Report) -> str:
    """All numbers with sorted keys; no times and no paths, so that equal work gives equal bytes."""
    values: dict[str, Any] = {
        "version": __version__,
        "subject": {"name": report.subject.name, "kind": report.subject.kind, "digest": report.subject.digest,
                    "trained_on": list(report.subject.trained_on)},
        "data": dict(report.data),
        "settings": report.settings,
        "symmetry": {name: _estimate(one) for name, one in report.symmetry.items()},
        "nearest_mass_coef": None,
        "transfer_matrix": None,
        "interpolation_gap": None,
        "extrapolation_gap": None,
        "function_spread": None,
        "one_class": [{"composition": one.composition, "distance": _number(one.distance), "p": _number(one.p)}
                      for one in report.distances] or None,
        "influence": _influence(report.influence) if report.influence else None,
        "verdicts": [_verdict(verdict) for verdict in report.verdicts],
        "failed": failed(report.verdicts),
        "runs": dict(report.runs),
    }  # fmt: skip
    if pull := report.coefficient:
        values["nearest_mass_coef"] = {**_estimate(Estimate(pull.value, pull.error)), "true": _number(pull.true),
                                       "constant": _number(pull.constant), "ht": _number(pull.ht),
                                       "masses": pull.masses, "events": pull.events}  # fmt: skip
    if matrix := report.matrix:
        values["transfer_matrix"] = _matrix(matrix)
        values["interpolation_gap"] = _estimate(matrix.interpolation) if matrix.interpolation else None
        values["extrapolation_gap"] = _estimate(matrix.extrapolation) if matrix.extrapolation else None
    if found := report.spread:
        values["function_spread"] = {"between": _number(found.between), "within": _number(found.within),
                                     "F": _number(found.f), "p": _number(found.p),
                                     "smallest_p": _number(found.smallest_p), "functions": len(found.points_KC),
                                     "compositions": list(dict.fromkeys(report.compositions))}  # fmt: skip
    return json.dumps(values, indent=1, sort_keys=True, allow_nan=False) + "\n"


def _matrix(matrix: Matrix) -> dict[str, Any]:
    """`without[d][e]` is the quality at e of the training without d, `all[e]` that of the training on everything."""
    names, mean_DD, full_D = matrix.names, matrix.out_SDD.mean(0), matrix.full_SD.mean(0)
    summary = matrix.transfer
    return {
        "without": {d: _row(names, mean_DD[place]) for place, d in enumerate(names)},
        "all": _row(names, full_D),
        "by_seed": {"without": matrix.out_SDD.round(6).tolist(), "all": matrix.full_SD.round(6).tolist()},
        "inside": dict(matrix.inside),
        "gap": {**_estimate(summary.gap), "p": _number(summary.p)},
        "worst": {**_estimate(summary.worst), "at": summary.worst_at},
    }


def _row(names: Sequence[str], values_D: Any) -> dict[str, float | None]:
    return {name: _number(float(value)) for name, value in zip(names, values_D, strict=True)}


def _influence(found: Influence) -> list[dict[str, Any]]:
    """A row per weight; the slope is that from the weight before."""
    rows = []
    for place, weight in enumerate(found.weights):
        row: dict[str, Any] = {"weight": weight, "response": _estimate(found.response[place])}
        if found.position:
            row["relative_signal_position"] = _estimate(found.position[place])
        row["slope"] = _estimate(found.slope[place - 1]) if place else None
        rows.append(row)
    return rows


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {"name": verdict.name, "state": verdict.state, "threshold": verdict.threshold, "note": verdict.note,
            **_estimate(Estimate(verdict.value, verdict.error))}  # fmt: skip


def _estimate(estimate: Estimate) -> dict[str, float | None]:
    return {"value": _number(estimate.value), "err": _number(estimate.error)}


def _number(value: float) -> float | None:
    """Six digits: more would be noise of the machine. None for what is no number."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
