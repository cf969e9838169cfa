"""The audit of one function: its symmetries and its pull towards the training masses, on events of any kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from jetscale.audit.bank import bank, off_grid
from jetscale.audit.coefficient import FEWEST, Coefficient, coefficient, points
from jetscale.audit.functions import Function, Subject
from jetscale.audit.influence import Influence
from jetscale.audit.jets import check_jets, ht
from jetscale.audit.probes import moved, names, violation
from jetscale.audit.spread import Distance, Spread
from jetscale.audit.transfer import Transfer
from jetscale.audit.verdicts import Thresholds, Verdict, judge, not_formed
from jetscale.config import digest
from jetscale.errors import DataError
from jetscale.metrics import Estimate, Floats

TOYS = "made-up pairs"


@dataclass(frozen=True)
class Response:
    """A mass at every mass point (M) in GeV: its 16, 50 and 84 % quantiles, (3, M)."""

    true_M: Floats
    quantile_3M: Floats


@dataclass(frozen=True)
class Matrix:
    """Leave-one-out: qualities (S, D, D) and (S, D), means over the cells of each part, with their summary.

    `inside` says of every cell whether it lies in the hull of what is trained on without it; the gaps are the means of
    what is lost at cells inside and outside, None where there are none.
    """

    names: tuple[str, ...]
    out_SDD: Floats
    full_SD: Floats
    transfer: Transfer
    inside: Mapping[str, bool]
    interpolation: Estimate | None
    extrapolation: Estimate | None


@dataclass(frozen=True)
class Report:
    """All that an audit has found. `data` names the events by what they are and their content."""

    subject: Subject
    data: Mapping[str, str]
    settings: str
    symmetry: Mapping[str, Estimate]
    verdicts: tuple[Verdict, ...]
    response: Response | None = None
    coefficient: Coefficient | None = None
    matrix: Matrix | None = None
    compositions: tuple[str, ...] = ()
    spread: Spread | None = None
    distances: Sequence[Distance] = ()
    influence: Influence | None = None
    runs: Mapping[str, str] = field(default_factory=dict)


def audit(function: Subject | Function, tables: Mapping[str, pa.Table] | None = None, *,
          trained_on: Sequence[float] = (), thresholds: Thresholds | None = None, events: int = 4000, seed: int = 1,
          data: Mapping[str, str] | None = None) -> Report:  # fmt: skip
    """Probe a function of events: the symmetries on all tables, the nearest-mass coefficient where masses are known.

    A plain function is taken for a mass in GeV. Without tables, or where these have fewer than five true masses, the
    coefficient comes from made-up pairs at masses between and beyond `trained_on` (GeV). At most `events` events of a
    table are looked at. `data` holds digests of the tables.

    Raises:
        DataError: a table without jets, or a function that does not give one finite number per event.
    """
    subject = function if isinstance(function, Subject) else Subject(getattr(function, "__name__", "own"), function)
    known, limits = tuple(sorted(trained_on)) or subject.trained_on, thresholds or Thresholds()
    subject = subject._replace(trained_on=known)
    toys = bank(off_grid(known), events, seed)
    chosen = {name: _some(table, name, events, seed) for name, table in (tables or {TOYS: toys}).items()}
    before = {name: subject(table) for name, table in chosen.items()}
    symmetry = {
        probe: _violation(subject, chosen, before, probe, seed)
        for probe in sorted(names(), key=list(Thresholds.model_fields).index)
    }
    found = [judge(probe, *estimate, limits) for probe, estimate in symmetry.items()]
    digests = {TOYS: digest([off_grid(known).tolist(), events, seed]), **(data or {})}
    report = Report(subject, {name: digests.get(name, "") for name in chosen}, limits.digest(), symmetry, tuple(found))
    if subject.kind != "mass":
        return _with(report, not_formed("nearest_mass", limits, "a score has no true mass to be compared with"))
    signal = _signal(chosen, before)
    if signal is None:
        signal = (toys["true_mass"].to_numpy().astype(np.float64), subject(toys), ht(toys))
        report = _with(report, data={**report.data, TOYS: digests[TOYS]})
    true_B, mass_B, ht_B = signal
    report = _with(report, response=_response(true_B, mass_B))
    if not known:
        return _with(report, not_formed("nearest_mass", limits, "no training masses are known: see --trained-on"))
    pull = coefficient(mass_B, true_B, ht_B, known)
    return _with(report, judge("nearest_mass", pull.value, pull.error, limits), coefficient=pull)


def _with(report: Report, *verdicts: Verdict, **more: object) -> Report:
    return Report(**{**vars(report), **more, "verdicts": (*report.verdicts, *verdicts)})


def _some(table: pa.Table, name: str, events: int, seed: int) -> pa.Table:
    """At most so many events of a table, drawn by the seed."""
    check_jets(table, name)
    if table.num_rows <= events:
        return table
    return table.take(np.sort(np.random.default_rng(seed).permutation(table.num_rows)[:events]))


def _violation(subject: Subject, tables: Mapping[str, pa.Table], before: Mapping[str, Floats], probe: str,
               seed: int) -> Estimate:  # fmt: skip
    """Of all tables together."""
    after, factors = [], []
    for table in tables.values():
        change = moved(probe, table, seed)
        after.append(subject(change.table))
        factors.append(change.factor_B if subject.kind == "mass" else np.ones(table.num_rows))
    return violation(np.concatenate(list(before.values())), np.concatenate(after), np.concatenate(factors), seed=seed)


def _signal(tables: Mapping[str, pa.Table], before: Mapping[str, Floats]) -> tuple[Floats, Floats, Floats] | None:
    """True mass, mass and HT of all events with a true mass (B); None where there are too few masses."""
    parts = []
    for name, table in tables.items():
        if "true_mass" in table.column_names:
            true_B = table["true_mass"].to_numpy().astype(np.float64)
            parts.append(np.stack([true_B, before[name], ht(table)])[:, true_B > 0])
    columns_3B = np.concatenate(parts, axis=1) if parts else np.zeros((3, 0))
    if len(np.unique(columns_3B[0])) < FEWEST:
        return None
    return columns_3B[0], columns_3B[1], columns_3B[2]


def _response(true_B: Floats, mass_B: Floats) -> Response:
    point_B = points(true_B)
    rows = [point_B == point for point in range(point_B.max() + 1)]
    quantiles = [np.quantile(mass_B[row_B], (0.16, 0.5, 0.84)) for row_B in rows]
    return Response(np.array([true_B[row_B].mean() for row_B in rows]), np.stack(quantiles, -1))


def check(report: Report) -> None:
    """Refuse a report in which nothing was judged.

    Raises:
        DataError: every threshold is off or could not be formed.
    """
    if all(verdict.state in ("off", "not formed") for verdict in report.verdicts):
        raise DataError("no threshold is left to judge by", where=report.subject.name, cure="switch some of them on")
