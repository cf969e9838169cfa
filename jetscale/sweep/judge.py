"""Judging: the figures of a trained network on samples that all trials are held against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from jetscale.data.rows import NOT_TRAINED, rows_of
from jetscale.errors import DataError
from jetscale.evaluate.score import SPLIT, score
from jetscale.events import Events
from jetscale.run import Run, read
from jetscale.stream import PARTS


def judged(folder: Path, samples: Sequence[Events], out: Path) -> dict[str, float | None]:
    """The task's figures of all held-out events of some samples; the scored samples stay in `out`.

    Raises:
        DataError: no held-out events.
    """
    run = read(folder)
    every = pa.concat_tables([_held_out(run, score(folder, sample, out / sample.name)) for sample in samples])
    if not every.num_rows:
        raise DataError("they have no held-out events", where=f"judge {', '.join(one.name for one in samples)}",
                        cure="judge on samples that no trial is trained on")  # fmt: skip
    figures = run.task.figures(every)
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}


def _held_out(run: Run, scored: Events) -> pa.Table:
    """The rows of a task with the columns that it has added, of events that the run was not fitted to."""
    task = run.task
    rows = rows_of(run.stream, None, scored, task.columns, run.seed, scored=True)
    table = scored.read([*rows.raw(task.columns.names), *task.outputs.names, SPLIT.name])
    made = rows.make(table, task.columns.names, NOT_TRAINED)
    for name in task.outputs.names:
        made = made.append_column(name, table[name])
    return made.filter(pc.greater_equal(table[SPLIT.name], PARTS.index("test")))
