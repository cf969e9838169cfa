"""What every method makes of the events that no training has seen: scored samples, and the rows of the study's table.

A network is scored with every read-out. The read-out is no part of a training, so that the same weights with another
one are a run of their own, in a folder like an exported run's.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from jetscale import metrics
from jetscale.conduct.table import FIGURES, Place, Ranked, Row, row_of
from jetscale.config import digest
from jetscale.errors import DataError
from jetscale.evaluate.compare import join
from jetscale.evaluate.score import score
from jetscale.events import Events, write_text
from jetscale.metrics import Table
from jetscale.run import Run
from jetscale.schema import JET_EVENTS, flat, lengths
from jetscale.study import Found, Training
from jetscale.train import checkpoint, exported
from jetscale.train.own import keep

SCORED, NETWORKS, JUDGED = "scored", "networks", "judged"
SEEN = 2  # parts of a split below this one have been trained or validated on
RANKS = 12
COLUMNS = (*JET_EVENTS.names, "jet_assigned", "reco_mass", "split")


class Method(NamedTuple):
    """A trained network with a read-out, or a classical method, which has no training."""

    name: str
    training: Training | None = None
    readout: str = ""

    @property
    def key(self) -> str:
        """What its folder is called."""
        return f"{self.name}-{self.readout}" if self.training else self.name


class Bench(NamedTuple):
    """What all methods are judged on, and how."""

    out: Path
    samples: Mapping[str, str]
    found: Mapping[str, Found]
    places: Mapping[str, Place]
    background: str
    label: str
    replicas: int


def judge(bench: Bench, method: Method, run_dir: Path | None, threads: int = 1) -> tuple[list[Row], list[Ranked]]:
    """Score every sample with a method and form its rows; what is there already is taken from there."""
    torch.set_num_threads(threads)
    scored = {name: _scored(bench, method, run_dir, name) for name in bench.samples}
    key = digest([[one.fingerprint for one in scored.values()], bench.replicas, bench.label, dict(bench.places),
                  list(method), FIGURES])  # fmt: skip
    file = bench.out / JUDGED / f"{method.key}.json"
    if (known := _known(file, key)) is None:
        rows, ranks = _rows(bench, method, scored), _ranks(bench, method, scored)
        known = {"of": key, "rows": [row.values() for row in rows], "ranks": [list(one) for one in ranks]}
        write_text(file, json.dumps(known) + "\n")
    return [row_of(one) for one in known["rows"]], [Ranked(*one) for one in known["ranks"]]


def _known(file: Path, key: str) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    values: dict[str, Any] = json.loads(file.read_text())
    return values if values["of"] == key else None


def scored_place(out: Path, method: Method, sample: str) -> Path:
    """The folder of a scored sample."""
    return out / SCORED / method.key / sample


def _scored(bench: Bench, method: Method, run_dir: Path | None, sample: str) -> Events:
    out, events = scored_place(bench.out, method, sample), Events.open(bench.samples[sample])
    if run_dir is None:
        from jetscale.evaluate.classical import score_classical

        return score_classical(method.name, events, out)
    return score(with_readout(run_dir, method.readout, bench.out / NETWORKS / method.key), events, out)


def with_readout(run_dir: Path, readout: str, out: Path) -> Path:
    """The same trained network with another read-out; the run itself where that is its own."""
    run, net = checkpoint.load(run_dir)
    other = _read_otherwise(run, readout)
    if other == run:
        return run_dir
    data = checkpoint.read_data(run_dir)
    data = {**data, "run": digest([data["run"], readout])}
    if exported.is_exported(out) and exported.read_data(out) == data:
        return out
    beside = out.with_name(f".{out.name}.{os.getpid()}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    exported.write(beside, net.state_dict(), data)
    write_text(beside / "run.yaml", keep(other, beside).to_yaml())
    shutil.rmtree(out, ignore_errors=True)
    beside.rename(out)
    return out


def _read_otherwise(run: Run, readout: str) -> Run:
    return run.model_copy(update={"task": run.task.but(readout=readout)})


def _table(bench: Bench, scored: Events) -> Table:
    table = scored.read(COLUMNS)
    if (seen := table["split"].to_numpy() < SEEN).any():
        raise DataError(f"{int(seen.sum())} events have been trained or validated on", where=str(scored.path),
                        cure="this must not happen: please report it")  # fmt: skip
    return metrics.scored(table, bench.label)


def _rows(bench: Bench, method: Method, scored: Mapping[str, Events]) -> list[Row]:
    below = _table(bench, scored[bench.background])
    rows = []
    for name in (name for name in scored if name != bench.background):
        signal, about = _table(bench, scored[name]), bench.found[name]
        together = join([signal, below])
        boot = metrics.bootstrap({method.key: together}, FIGURES, replicas=bench.replicas, key=name)
        training = method.training
        rows.append(Row(
            training.setting if training else method.name, training.loss if training else "",
            training.masses if training else "", training.weight if training else 0.0,
            training.network if training else "", method.readout, training.seed if training else 0, name,
            bench.places[name], about.true_mass, about.decay_mode, len(signal),
            {figure: boot.estimate(method.key, figure) for figure in FIGURES},
        ))  # fmt: skip
    return rows


def _ranks(bench: Bench, method: Method, scored: Mapping[str, Events]) -> list[Ranked]:
    """Of networks alone: a classical method has no probability."""
    if method.training is None:
        return []
    found = []
    for name, events in scored.items():
        if name == bench.background:
            continue
        table = events.read(["weight", "jet_pt", "jet_none_probability", bench.label])
        count_B = lengths(table, "jet", JET_EVENTS.only(["jet_pt"]))
        rank_J = np.arange(count_B.sum()) - np.repeat(np.cumsum(count_B) - count_B, count_B) + 1
        of_parent_J, none_J = flat(table[bench.label]) > 0, flat(table["jet_none_probability"]).astype(np.float64)
        for rank in range(1, RANKS + 1):
            values = none_J[of_parent_J & (rank_J == rank)]
            if len(values) > 1:
                found.append(Ranked(method.training.network, method.training.setting, method.training.seed, name,
                                    bench.found[name].decay_mode, rank, float(values.mean()),
                                    float(values.std(ddof=1) / np.sqrt(len(values))), len(values)))  # fmt: skip
    return found
