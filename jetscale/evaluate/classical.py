"""Classical methods behind the interface of a network: the same columns, added to a sample in the same way.

A classical method is sure of itself: `jet_none_probability` is 0 or 1, and `reco_confidence` is 1 where it has found
two groups, else 0. It has seen no event, so `split` is 3 throughout.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from jetscale.data.batch import batch, table_of
from jetscale.errors import DataError, nearest
from jetscale.evaluate.added import adding
from jetscale.evaluate.score import SPLIT, UNSEEN
from jetscale.events import ROW_GROUP, Events
from jetscale.physics import classical, kinematics
from jetscale.physics.groupings import reconstruct
from jetscale.schema import ASSIGNMENT, JET_EVENTS
from jetscale.task import At, Batch

PREFIX = "classical:"
JETS = JET_EVENTS.only(["jet_pt", "jet_eta", "jet_phi", "jet_mass"])


def score_classical(name: str, events: Events, out: Path) -> Events:
    """Write a sample with the columns of a classical method, and `split`; one that is there already is kept.

    Raises:
        ConfigError: no such method.
        DataError: the sample lacks a column, or `out` holds something else.
    """
    deque(scoring_classical(name, events, out), maxlen=0)
    return Events.open(out)


def scoring_classical(name: str, events: Events, out: Path) -> Iterator[int]:
    """The same step by step: how many events are done so far."""
    method = classical.find(name)
    for column in JETS.names:
        if column not in events.schema or events.schema[column].of != "jet":
            raise DataError(f"a classical method needs {column!r} of every jet", where=str(events.path),
                            cure=nearest(column, events.schema.names))  # fmt: skip
    added = ASSIGNMENT.plus(SPLIT)
    yield from adding(events, out, added, JETS.names, {"scored_by": f"{PREFIX}{name}", "untrained": False},
                      lambda table: _columns(method, table))  # fmt: skip


def _columns(method: classical.Method, table: pa.Table) -> pa.Table:
    """What a method adds to the events of a table."""
    parts = [_assigned(method, table.slice(start, ROW_GROUP)) for start in range(0, table.num_rows, ROW_GROUP)]
    scores = pa.concat_tables([ASSIGNMENT.arrow.empty_table(), *parts])
    return scores.append_column(SPLIT.name, pa.array(np.full(table.num_rows, UNSEEN, dtype=np.int8)))


def _assigned(method: classical.Method, table: pa.Table) -> pa.Table:
    rows = table.num_rows
    padded = batch([table], JETS, np.ones(rows), np.zeros(rows, dtype=np.int64), np.arange(rows), At(0, 0, 1.0), 0)
    p4_BJ4, mask_BJ = _four_vectors(padded), padded.mask("jet")
    assigned_BJ = method(p4_BJ4, mask_BJ)
    groups = reconstruct(p4_BJ4, assigned_BJ)
    return table_of(padded, {
        "jet_assigned": assigned_BJ,
        "jet_none_probability": (assigned_BJ == 0).double(),
        "reco_confidence": ((assigned_BJ == 1).any(1) & (assigned_BJ == 2).any(1)).double(),
        "reco_mass_1": groups.mass_1_B,
        "reco_mass_2": groups.mass_2_B,
        "reco_mass": groups.mass_B,
        "reco_asymmetry": groups.asymmetry_B,
    }, ASSIGNMENT)  # fmt: skip


def _four_vectors(padded: Batch) -> torch.Tensor:
    p4_BJ4 = kinematics.p4(*(padded[name].double() for name in JETS.names))
    return torch.where(padded.mask("jet")[..., None], p4_BJ4, 0.0)
