"""Scoring adds a run's columns to a sample: the same events, the same ids, each exactly once.

Runs that are folds of one split make one scored sample together: every event is scored by the run whose test fold
holds it, also in a sample that none of them has seen.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from jetscale.config import Values, digest
from jetscale.data.batch import batch, table_of
from jetscale.data.provenance import origins
from jetscale.data.rows import NOT_TRAINED, Rows, rows_of
from jetscale.data.split import part_of
from jetscale.errors import ConfigError, nearest
from jetscale.evaluate.added import adding
from jetscale.evaluate.folds import fold_of, held_out_folds
from jetscale.events import ROW_GROUP, Events
from jetscale.run import Run
from jetscale.schema import Column, Schema
from jetscale.stream import PARTS, Folds, Part, Split, Stream, split_of
from jetscale.task import At, Batch
from jetscale.train import checkpoint

UNSEEN = 3
SPLIT = Column(name="split", dtype="int8", unit="",
               doc="part in the run's training: 0 train, 1 validation, 2 test, 3 a sample it has not seen")  # fmt: skip


class Seen(NamedTuple):
    """A training that held events of the sample: its split, and the parts of splits on disk that they all lay in."""

    split: Split | Folds
    within: tuple[tuple[Split | Folds, Part], ...]

    def part_of(self, event_id_B: np.ndarray) -> np.ndarray:
        """The part of every event in this training, (B,) int8."""
        part_B = part_of(event_id_B, self.split)
        for split, part in self.within:
            part_B = np.where(part_of(event_id_B, split) == PARTS.index(part), part_B, np.int8(UNSEEN))
        return part_B


class Scorer(NamedTuple):
    """A trained run, what its trainings have seen of the sample, and how the sample becomes its rows."""

    name: str
    run: Run
    net: nn.Module
    seen: tuple[Seen, ...]
    rows: Rows

    @property
    def outputs(self) -> Schema:
        """The columns that are added, but for `split`."""
        return self.rows.back_schema(self.run.task.outputs)

    def columns(self, table: pa.Table) -> pa.Table:
        """What is added to the events of a table."""
        task = self.run.task
        made = self.rows.make(table, task.columns.names, NOT_TRAINED)
        parts = [self._score(made.slice(start, ROW_GROUP)) for start in range(0, made.num_rows, ROW_GROUP)]
        scores = self.rows.back(table, pa.concat_tables([task.outputs.arrow.empty_table(), *parts]), task.outputs)
        id_B = table["event_id"].to_numpy()
        # Of several trainings behind the weights, the part counts that was closest to training.
        parts_B = [seen.part_of(id_B) for seen in self.seen] or [np.full(len(id_B), UNSEEN, dtype=np.int8)]
        return scores.append_column(SPLIT.name, pa.array(np.minimum.reduce(parts_B)))

    def batch(self, table: pa.Table) -> Batch:
        """Rows of the task, padded."""
        rows = table.num_rows
        lanes_B = np.zeros(rows, dtype=np.int64)
        return batch([table], self.run.task.columns, np.ones(rows), lanes_B, np.arange(rows), At(0, 0, 1.0),
                     self.run.seed)  # fmt: skip

    def _score(self, table: pa.Table) -> pa.Table:
        task, padded = self.run.task, self.batch(table)
        with torch.no_grad():
            return table_of(padded, task.score(self.net, padded), task.outputs)


def score(runs: Path | Sequence[Path], events: Events, out: Path, *, untrained: bool = False,
          constants: Mapping[str, float] | None = None) -> Events:  # fmt: skip
    """Write a sample with the columns that trained runs add, and `split`; one that is there already is kept.

    Several runs must be the folds of one split. Columns that another scoring has added are left out, unless the task
    reads them. `untrained` scores with the weights that a run started from; `constants` are columns that are one number
    for all events, as `stream.set` is in training, and win over it.

    Raises:
        ConfigError: several runs that are not all folds of one split, a constant that the task does not read.
        DataError: the sample lacks a column, or `out` holds something else.
    """
    deque(scoring([runs] if isinstance(runs, Path) else runs, events, out, untrained=untrained, constants=constants),
          maxlen=0)  # fmt: skip
    return Events.open(out)


def scoring(runs: Sequence[Path], events: Events, out: Path, *, untrained: bool = False,
            constants: Mapping[str, float] | None = None) -> Iterator[int]:  # fmt: skip
    """The same step by step: how many events are done so far."""
    scorers = [_scorer(run, events, untrained, constants or {}) for run in runs]
    if len(runs) > 1:
        scorers = _in_order(scorers, held_out_folds(runs))
    read = {name for one in scorers for name in one.rows.raw(one.run.task.columns.names)}
    added = scorers[0].outputs.plus(SPLIT)
    yield from adding(events, out, added, read, _made_by(scorers, untrained, constants or {}),
                      lambda table: _scores(scorers, table))  # fmt: skip


def looked_at(run_dir: Path, events: Events, rows: int) -> tuple[Run, nn.Module, Batch]:
    """A trained run, its network, and the first rows of a sample, at most so many, as the task sees them."""
    one = _scorer(run_dir, events, False, events.manifest.made_by.get("constants", {}))
    names = one.run.task.columns.names
    shard = max(events.manifest.shards, key=lambda shard: shard.rows)
    read = next(events.pieces(one.rows.raw(names), shard, rows))
    return one.run, one.net, one.batch(one.rows.make(read, names, NOT_TRAINED).slice(0, rows))


def scored_by(runs: Sequence[Path]) -> str:
    """The digest that a table scored by these runs carries: a run's own, or one for all folds together."""
    names = [str(checkpoint.read_data(run)["run"]) for run in runs]
    if len(names) == 1:
        return names[0]
    tests = held_out_folds(runs)
    return _joint([name for _, name in sorted(zip(tests, names, strict=True))])


def _joint(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else digest(list(names))


def _in_order(scorers: Sequence[Scorer], tests: Sequence[int]) -> list[Scorer]:
    """The runs by their test fold; their outputs must be the same columns."""
    ordered = [scorer for _, scorer in sorted(zip(tests, scorers, strict=True), key=lambda pair: pair[0])]
    for scorer in ordered:
        if scorer.outputs != ordered[0].outputs:
            raise ConfigError("the folds add different columns", where="score", cure="score with one run at a time")
    return ordered


def _scorer(run_dir: Path, events: Events, untrained: bool, constants: Mapping[str, float]) -> Scorer:
    run, net = checkpoint.load_start(run_dir) if untrained else checkpoint.load(run_dir)
    data, sample = checkpoint.read_data(run_dir), events.origin
    stream = _with(run.stream, constants)
    name = _name_of(events, stream, [name for name, one in data["samples"].items() if one["origin"] == sample])
    rows = rows_of(stream, name, events, run.task.columns, run.seed, scored=True)
    known = {*run.task.columns.names, *(column for how in rows.derive.values() for column in how.numbers())}
    for constant in constants:
        if constant not in known:
            raise ConfigError(f"the task reads no column {constant!r}", where=f"--constant {constant}",
                              cure=nearest(constant, known))  # fmt: skip
    return Scorer(data["run"], run, net, tuple(_seen(data["trained_on"], origins(events))), rows)


def _seen(trained_on: Sequence[Values], ours: frozenset[str]) -> Iterator[Seen]:
    """The trainings that may have held events of the sample: those on samples that are of one origin with it."""
    for one in trained_on:
        for family in one.get("families", [{"origins": one["samples"], "within": []}]):
            if ours & set(family["origins"]):
                within = ((split_of(two["split"]), two["part"]) for two in family["within"])
                yield Seen(split_of(one["split"]), tuple(within))


def _name_of(events: Events, stream: Stream, names: Sequence[str]) -> str | None:
    """What the stream calls the sample: one of its names for it, which must not differ in what they say of columns."""
    for name in names[1:]:
        one, other = stream.samples[names[0]], stream.samples[name]
        differ = sorted(key for key in {*one.set, *other.set} if one.set.get(key) != other.set.get(key))
        if differ or one.rename != other.rename:
            raise ConfigError(f"the run was trained on this sample as {names[0]!r} and as {name!r}, which differ in "
                              f"{'set' if differ else 'rename'}", where=str(events.path),
                              cure=f"choose: {' '.join(f'--constant {key}=NUMBER' for key in differ)}" if differ
                              else "rename the columns in the sample itself")  # fmt: skip
    return names[0] if names else None


def _with(stream: Stream, constants: Mapping[str, float]) -> Stream:
    """The stream with other constants, which also win over those of single samples."""
    samples = {name: source.model_copy(update={"set": {**source.set, **constants}})
               for name, source in stream.samples.items()}  # fmt: skip
    return stream.model_copy(update={"set": {**stream.set, **constants}, "samples": samples})


def _made_by(scorers: Sequence[Scorer], untrained: bool, constants: Mapping[str, float]) -> Values:
    names = [scorer.name for scorer in scorers]
    return {
        "scored_by": _joint(names),
        "untrained": untrained,
        "weights": digest([_weights(scorer.net) for scorer in scorers]),
        **({"folds": names} if len(names) > 1 else {}),
        **({"constants": dict(constants)} if constants else {}),
    }


def _weights(net: nn.Module) -> str:
    content = hashlib.sha256()
    for name, tensor in net.state_dict().items():
        content.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return content.hexdigest()


def _scores(scorers: Sequence[Scorer], table: pa.Table) -> pa.Table:
    """What the run that scores each event adds to it."""
    owner_B = fold_of(table["event_id"].to_numpy(), scorers[0].run) if len(scorers) > 1 else np.zeros(table.num_rows)
    rows = {number: np.flatnonzero(owner_B == number) for number in np.unique(owner_B).astype(int)}
    rows = rows or {0: np.zeros(0, dtype=np.int64)}
    scores = [scorers[number].columns(table.take(row_B)) for number, row_B in rows.items()]
    return pa.concat_tables(scores).take(np.argsort(np.concatenate(list(rows.values()))))
