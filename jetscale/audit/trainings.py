"""The audit of a job: its trainings, what is measured of each, and what they say together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from jetscale.audit.audit import Matrix, Report, audit
from jetscale.audit.bank import bank, off_grid
from jetscale.audit.functions import Subject, of_run
from jetscale.audit.influence import Influence, influence
from jetscale.audit.job import ALL, WITHOUT, Audit, Plan, plan
from jetscale.audit.spread import distances, spread
from jetscale.audit.transfer import lost, sides, transfer
from jetscale.audit.verdicts import Verdict, judge, not_formed
from jetscale.config import digest
from jetscale.data.rows import NOT_TRAINED, rows_of
from jetscale.data.split import part_of
from jetscale.derive import within
from jetscale.errors import DataError, TrainError
from jetscale.events import Events
from jetscale.metrics import Estimate, Floats, Table, figures
from jetscale.run import Run
from jetscale.schema import EVENT_ID, Schema
from jetscale.stream import PARTS
from jetscale.sweep.trials import Outcome, train_all
from jetscale.train.checkpoint import read_data

RUNS = "runs"
OFF_SHELL = 0.15
POSITION = "relative_signal_position"


class Measured(NamedTuple):
    """A function's responses on the probes (P), its quality in every cell, and the signals' mean position."""

    response_P: Floats
    quality: Mapping[str, float]
    position: float


def audit_job(job: Audit, out: Path) -> Report:
    """Train what the audit needs in `out/runs`, as far as it is not there, and look at what comes out.

    Raises:
        ConfigError: an audit that cannot be meant.
        DataError: samples that it cannot use.
        TrainError: a training that failed.
    """
    planned = plan(job)
    return measure(job, planned, train_all(planned.runs, out / RUNS))


def measure(job: Audit, planned: Plan, outcomes: Mapping[str, Outcome]) -> Report:
    """All that the trained functions say.

    Raises:
        DataError: no held-out event, or a function that does not give one finite number per event.
        TrainError: a training that has not come to its end.
    """
    check(outcomes)
    masses = sorted({cell.mass for cell in planned.cells.values()})
    probes = bank(off_grid(masses), job.probes, job.seed, off_shell=OFF_SHELL)
    tables = {name: held_out(planned.base, name, job.events) for name in (*planned.cells, *planned.backgrounds)}
    found = {name: _measured(job, planned, of_run(outcomes[name].folder, job.column, known=True), probes, tables)
             for name in planned.runs}  # fmt: skip
    first = outcomes[planned.trained[ALL, planned.base.seed]]
    subject = of_run(first.folder, job.column, known=True)
    subject = subject._replace(name=Path(planned.base.system).stem, trained_on=tuple(masses))
    report = audit(subject, thresholds=job.thresholds, events=job.probes, seed=job.seed)
    fewest = min(tables[name].num_rows for name in planned.cells)
    matrix, verdicts = _matrix(job, planned, found, fewest)
    report = replace(report, matrix=matrix, verdicts=(*report.verdicts, *verdicts))
    report = _with_influence(_with_spread(report, job, planned, found), job, planned, found)
    samples = {name: Events.open(source.events) for name, source in planned.base.stream.samples.items()}
    return replace(
        report,
        settings=digest({**job.values(), "job": planned.base.values()}),
        data={**report.data, **{name: events.fingerprint for name, events in samples.items()}},
        runs={name: str(read_data(outcomes[name].folder)["run"]) for name in planned.runs},
    )


def check(outcomes: Mapping[str, Outcome]) -> None:
    """Refuse trainings that have not come to their end.

    Raises:
        TrainError: names them; the others are kept, and the same command goes on.
    """
    failed = [outcome for outcome in outcomes.values() if outcome.status != "done"]
    if failed:
        first = failed[0]
        raise TrainError(f"{len(failed)} of {len(outcomes)} trainings are not done; the first: "
                         f"{first.error or first.status}", where=str(first.folder),
                         cure="mend it, and give the same command again: what is done is kept")  # fmt: skip


def held_out(run: Run, name: str, most: int) -> pa.Table:
    """The first events of a sample that no training of the job has seen, as its task selects them.

    Raises:
        DataError: there are none.
    """
    events = Events.open(run.stream.samples[name].events)
    rows = rows_of(run.stream, name, events, Schema(columns=(EVENT_ID,)), run.seed, scored=True)
    names = [EVENT_ID.name, *(key for key in run.stream.select if key in rows.layout.rows)]
    table = events.read()
    made = rows.make(table.select(rows.raw(names)), names, NOT_TRAINED)
    kept_B = part_of(made[EVENT_ID.name].to_numpy(), run.stream.split) == PARTS.index("test")
    kept_B &= within(made, {key: run.stream.select[key] for key in names[1:]})
    if not kept_B.any():
        raise DataError("no event is held out", where=str(events.path), cure="give stream.split a test part")
    return table.take(np.flatnonzero(kept_B)[:most])


def _measured(job: Audit, planned: Plan, subject: Subject, probes: pa.Table, tables: Mapping[str, pa.Table]
              ) -> Measured:  # fmt: skip
    signals = {name: _table(subject, tables[name], planned.cells[name].mass) for name in planned.cells}
    quality = {name: figures([job.quality], table)[job.quality] for name, table in signals.items()}
    position = np.nan
    if job.influence:
        background = _table(subject, tables[job.influence.sample], 0.0)
        below = [figures([POSITION], _joined(one, background))[POSITION] for one in signals.values()]
        position = float(np.mean(below))
    return Measured(subject(probes), quality, position)


def _table(subject: Subject, events: pa.Table, true_mass: float) -> Table:
    none_B = np.zeros(events.num_rows, dtype=np.int64)
    return Table(subject(events), np.full(len(none_B), true_mass), events["weight"].to_numpy(),
                 np.full(len(none_B), true_mass == 0), none_B, none_B)  # fmt: skip


def _joined(one: Table, other: Table) -> Table:
    return Table(*(np.concatenate([vars(one)[key], vars(other)[key]]) for key in vars(one)))


def _matrix(job: Audit, planned: Plan, found: Mapping[str, Measured], events: int
            ) -> tuple[Matrix, list[Verdict]]:  # fmt: skip
    """The leave-one-out matrix and what its thresholds say."""
    seeds = sorted({seed for _, seed in planned.trained})
    parts, cells = planned.parts, list(planned.cells)

    def quality(composition: str) -> Floats:
        """Of every seed and cell, (S, cells)."""
        runs = [found[planned.trained[composition, seed]] for seed in seeds]
        return np.array([[run.quality[cell] for cell in cells] for run in runs])

    full_SC = quality(ALL)
    out = {part: quality(f"{WITHOUT}{part}") for part in parts}
    columns = {part: [cells.index(name) for name in left_out] for part, left_out in parts.items()}
    full_SD = np.stack([full_SC[:, columns[part]].mean(1) for part in parts], -1)
    out_SDD = np.stack([np.stack([out[d][:, columns[e]].mean(1) for e in parts], -1) for d in parts], 1)
    left_SC = np.empty_like(full_SC)
    for part, places in columns.items():
        left_SC[:, places] = out[part][:, places]
    summary = transfer(out_SDD, full_SD, list(parts), events, permutations=job.permutations, seed=job.seed)
    inside = sides({name: (cell.mass, cell.mode) for name, cell in planned.cells.items()}, parts)
    gaps: dict[str, Estimate | None] = {}
    for name, wanted in (("interpolation", True), ("extrapolation", False)):
        places = [n for n, cell in enumerate(cells) if inside[cell] == wanted]
        gaps[name] = lost(left_SC[:, places], full_SC[:, places], events) if places else None
    verdicts = [judge(name, *gap, job.thresholds) if gap else
                not_formed(name, job.thresholds, f"no cell lies {where} the grid that is left")
                for (name, gap), where in zip(gaps.items(), ("inside", "outside"), strict=True)]  # fmt: skip
    verdicts.append(judge("worst_transfer", *summary.worst, job.thresholds, note=f"at {summary.worst_at}"))
    return Matrix(tuple(parts), out_SDD, full_SD, summary, inside, **gaps), verdicts


def _with_spread(report: Report, job: Audit, planned: Plan, found: Mapping[str, Measured]) -> Report:
    if job.seeds < 2:
        verdict = not_formed("spread", job.thresholds, "a single seed has no spread")
        return replace(report, verdicts=(*report.verdicts, verdict))
    names = [composition for composition, _ in planned.trained]
    response_KP = np.stack([found[run].response_P for run in planned.trained.values()])
    between = spread(response_KP, names, permutations=job.permutations, seed=job.seed)
    few = between.smallest_p > 0.05
    note = f"p {between.p:.3g}" + (f"; {len(names)} functions cannot give less than {between.smallest_p:.2g}: more "
                                   "seeds are needed" if few else "")  # fmt: skip
    verdicts = [judge("spread", between.f, np.nan, job.thresholds, p=between.p, note=note)]
    far = distances(response_KP, names, ALL) if job.one_class else []
    if far:
        worst = max(far, key=lambda one: one.distance)
        verdicts.append(judge("one_class", worst.distance, np.nan, job.thresholds, p=min(1, worst.p * len(far)),
                              note=f"{worst.composition}, p {worst.p:.2g}"))  # fmt: skip
    return replace(report, compositions=tuple(names), spread=between, distances=far,
                   verdicts=(*report.verdicts, *verdicts))  # fmt: skip


def _with_influence(report: Report, job: Audit, planned: Plan, found: Mapping[str, Measured]) -> Report:
    if job.influence is None:
        return report
    seeds = sorted({seed for _, seed in planned.weighted})
    runs = [[found[planned.weighted[weight, seed]] for weight in job.influence.weights] for seed in seeds]
    curve: Influence = influence(np.array(job.influence.weights),
                                 np.array([[run.response_P.mean() for run in row] for row in runs]),
                                 np.array([[run.position for run in row] for row in runs]))  # fmt: skip
    verdict = judge("influence", *curve.largest, job.thresholds,
                    note="a single seed has no error" if len(seeds) < 2 else "")  # fmt: skip
    return replace(report, influence=curve, verdicts=(*report.verdicts, verdict))
