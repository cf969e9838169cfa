"""Scoring adds a run's columns to a sample: the same events, the same ids, each exactly once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from jetscale.data.batch import batch, table_of
from jetscale.data.rows import NOT_TRAINED, Rows, rows_of
from jetscale.data.split import part_of
from jetscale.errors import DataError
from jetscale.events import MANIFEST, Events, Manifest, Shard, write_manifest, write_shard
from jetscale.run import Run
from jetscale.schema import Column, Schema
from jetscale.stream import Folds, Split, split_of
from jetscale.task import At
from jetscale.train import checkpoint

ROWS = 2048
UNSEEN = 3
SPLIT = Column(name="split", dtype="int8", unit="",
               doc="part in the run's training: 0 train, 1 validation, 2 test, 3 a sample it has not seen")  # fmt: skip


def score(run_dir: Path, events: Events, out: Path, *, untrained: bool = False) -> Events:
    """Write a sample with the columns that a trained run adds, and `split`; one that is there already is kept.

    Columns that another scoring has added are left out. `untrained` scores with the weights that the run started from.

    Raises:
        DataError: the sample lacks a column, or `out` holds something else.
    """
    run, net = checkpoint.load_start(run_dir) if untrained else checkpoint.load(run_dir)
    data = checkpoint.read_data(run_dir)
    sample = events.manifest.made_by.get("sample", events.fingerprint)
    added = [column.name for column in (*run.task.outputs.columns, SPLIT)]
    made_by = {"scored_by": data["run"], "sample": sample, "untrained": untrained, "added": added}
    if (out / MANIFEST).is_file():
        return _kept(Events.open(out), made_by)
    name = next((name for name, one in data["samples"].items() if one["fingerprint"] == sample), None)
    rows = rows_of(run.stream, name, events, run.task.columns, run.seed, scored=True)
    outputs = rows.back_schema(run.task.outputs)
    old = events.manifest.made_by.get("added", [])
    raw = events.schema.only([name for name in events.schema.names if name not in old])
    splits = [split_of(one["split"]) for one in data["trained_on"] if sample in one["samples"]]
    schema = raw.plus(*outputs.columns, SPLIT)
    shards = [
        write_shard(_score(run, net, rows, events.read(raw.names, shard), schema, splits), out / shard.file, schema)
        for shard in events.manifest.shards
    ]
    write_manifest(_manifest(events, schema, shards, made_by), out)
    return Events.open(out)


def _score(run: Run, net: nn.Module, rows: Rows, table: pa.Table, schema: Schema,
           splits: list[Split | Folds]) -> pa.Table:  # fmt: skip
    made = rows.make(table, run.task.columns.names, NOT_TRAINED)
    parts = [_score_rows(run, net, made.slice(start, ROWS)) for start in range(0, made.num_rows, ROWS)]
    scores = pa.concat_tables(parts) if parts else run.task.outputs.arrow.empty_table()
    scores = rows.back(table, scores, run.task.outputs)
    id_B = table["event_id"].to_numpy()
    # Of several trainings behind the weights, the part counts that was closest to training.
    parts_B = [part_of(id_B, split) for split in splits] or [np.full(len(id_B), UNSEEN, dtype=np.int8)]
    split_B = np.minimum.reduce(parts_B)
    added = {**{name: scores[name] for name in scores.column_names}, SPLIT.name: pa.array(split_B)}
    kept = {name: table[name] for name in table.column_names if name not in added}
    return pa.table({**kept, **added}).select(schema.names)


def _score_rows(run: Run, net: nn.Module, table: pa.Table) -> pa.Table:
    rows = table.num_rows
    lanes_B = np.zeros(rows, dtype=np.int64)
    padded = batch([table], run.task.columns, np.ones(rows), lanes_B, np.arange(rows), At(0, 0, 1.0), run.seed)
    with torch.no_grad():
        return table_of(padded, run.task.score(net, padded), run.task.outputs)


def _manifest(events: Events, schema: Schema, shards: list[Shard], made_by: dict[str, object]) -> Manifest:
    history = {**events.manifest.made_by, **made_by}
    return events.manifest.but(columns=[column.values() for column in schema.each()],
                               shards=[shard.values() for shard in shards], made_by=history)  # fmt: skip


def _kept(there: Events, made_by: dict[str, object]) -> Events:
    for key, value in made_by.items():
        if there.manifest.made_by.get(key) != value:
            raise DataError(f"holds another sample: {key} is {there.manifest.made_by.get(key)!r}, not {value!r}",
                            where=str(there.path), cure="choose another --out, or remove this folder")  # fmt: skip
    return there
