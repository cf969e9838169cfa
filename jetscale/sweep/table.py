"""The result of a sweep: one row per trial, `trials.parquet`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jetscale.axes import Sweep, said_short
from jetscale.evaluate.logs import seconds
from jetscale.sweep.sweep import Progress, value
from jetscale.train.checkpoint import read_data

FILE = "trials.parquet"


def table(sweep: Sweep, progress: Progress) -> pa.Table:
    """Axis values (null where an axis does not apply), seed, status, epochs, metric, figures, seconds, digest, error.

    An axis whose values are not all numbers is a column of text.
    """
    outcomes = [progress.outcomes[one.name] for one in progress.candidates]
    columns: dict[str, Any] = {"trial": pa.array([one.name for one in progress.candidates], pa.string())}
    for key in sweep.axes:
        columns[key] = _column([one.values.get(key) for one in progress.candidates])
    columns["seed"] = pa.array([one.seed for one in progress.candidates], pa.int64())
    columns["status"] = pa.array([one.status for one in outcomes], pa.string())
    columns["epochs"] = pa.array([one.epoch for one in outcomes], pa.float64())
    columns["metric"] = pa.array([value(sweep, one) for one in outcomes], pa.float64())
    for name in dict.fromkeys(name for one in outcomes for name in one.figures):
        columns[name] = pa.array([one.figures.get(name) for one in outcomes], pa.float64())
    columns["seconds"] = pa.array([seconds(one.folder) for one in outcomes], pa.float64())
    columns["digest"] = pa.array([_digest(one.folder) for one in outcomes], pa.string())
    columns["error"] = pa.array([one.error for one in outcomes], pa.string())
    columns["folder"] = pa.array([str(one.folder) for one in outcomes], pa.string())
    return pa.table(columns)


def write(sweep: Sweep, progress: Progress, out: Path) -> Path:
    """Write the table beside, then rename."""
    beside = out / f".{FILE}.part"
    pq.write_table(table(sweep, progress), beside)
    os.replace(beside, out / FILE)
    return out / FILE


def _column(values: Sequence[Any]) -> pa.Array:
    if all(isinstance(one, int | float) and not isinstance(one, bool) for one in values if one is not None):
        return pa.array(values, pa.float64())
    return pa.array([None if one is None else said_short(one) for one in values], pa.string())


def _digest(folder: Path) -> str | None:
    """The digest that names a trial's work, if it has come so far."""
    return str(read_data(folder)["run"]) if (folder / "data.json").is_file() else None
