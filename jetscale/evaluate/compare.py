"""Scored samples side by side: every method's groups and masses for the same held-out events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from jetscale.errors import DataError
from jetscale.events import Events
from jetscale.metrics import Bools, Floats, Ints, Table
from jetscale.physics import classical, groupings, kinematics
from jetscale.schema import JET_EVENTS, flat, lengths

RANDOM, TRUTH = "random_grouping", "true_labels"
CLASSICAL = ("asymmetry_6",)  # beside the runs, where nothing else is asked for
COLUMNS = (*JET_EVENTS.names, "jet_assigned", "reco_mass", "split")
HELD_OUT = 2
# A sample with more masses than this has a continuous spectrum of them and stays in one piece.
MOST_MASSES = 12
LABELS = ("jet_parent_ancestry", "jet_parent_quark")
RANDOM_SEED = 1

Kind = Literal["signal", "background", "unknown"]


class Scored(NamedTuple):
    """A sample with the columns that a run has added; `run_dir` is the run's folder, where it is known."""

    run_name: str
    events: Events
    run_dir: Path | None = None


class Method(NamedTuple):
    """One method's groups (B, J) int64, named as agrees best with the true labels, and mass (B) in GeV."""

    assigned_BJ: Tensor
    mass_B: Floats


@dataclass(frozen=True)
class Sample:
    """Held-out events of one kind and, if they are signal, of one true mass where the sample has few."""

    name: str
    kind: Kind
    true_mass: float
    decay_mode: int
    left_out: int
    event_id_B: Ints
    weight_B: Floats
    true_mass_B: Floats
    p4_BJ4: Tensor
    mask_BJ: Tensor
    label_BJ: Tensor
    methods: Mapping[str, Method]

    def __len__(self) -> int:
        return len(self.event_id_B)

    @property
    def known(self) -> Tensor:
        """Which jets are real and have a known label (B, J)."""
        return self.mask_BJ & (self.label_BJ >= 0)

    def right(self, method: str) -> Tensor:
        """Which of them a method puts where the label says (B, J)."""
        return self.known & (self.methods[method].assigned_BJ == self.label_BJ)

    def table(self, method: str) -> Table:
        """A method's masses and right jets, for the figures of `metrics`."""
        right_BJ, known_BJ = self.right(method), self.known
        background_B = np.full(len(self), self.kind == "background")
        return Table(self.methods[method].mass_B, self.true_mass_B, self.weight_B, background_B,
                     right_BJ.sum(-1).numpy(), known_BJ.sum(-1).numpy())  # fmt: skip


def join(tables: Sequence[Table]) -> Table:
    """The rows of several tables, one after the other."""
    columns = {name: np.concatenate([getattr(table, name) for table in tables]) for name in vars(tables[0])}
    return Table(**columns)


def samples(scored: Sequence[Scored], methods: Sequence[str] = CLASSICAL) -> list[Sample]:
    """Every sample with the runs' groups and the classical, random and true ones, held-out events only.

    `methods` are names of classical ones. An event is held out when no run has trained or validated on it (`split` of
    2 or more in all of them).

    Raises:
        ConfigError: no such classical method.
        DataError: nothing given, a run that lacks a sample or has it twice, a column that is missing, no event left.
    """
    chosen = {name: classical.find(name) for name in methods}
    found = [part for name, runs in _by_sample(scored, (*chosen, RANDOM, TRUTH)).items()
             for part in _parts(name, _held_out(name, runs), chosen)]  # fmt: skip
    if not any(len(part) for part in found):
        raise DataError("no held-out event is left", where=", ".join(one.events.name for one in scored),
                        cure="score a sample that the run has not seen, or give its split a test part")  # fmt: skip
    return sorted((part for part in found if len(part)), key=_place)


def _place(sample: Sample) -> tuple[int, int, float, str]:
    """Signals first, by decay and mass; then background."""
    return ("signal", "background", "unknown").index(sample.kind), sample.decay_mode, sample.true_mass, sample.name


def _by_sample(scored: Sequence[Scored], reserved: Sequence[str]) -> dict[str, dict[str, Events]]:
    found: dict[str, dict[str, Events]] = {}
    for run_name, events, _ in scored:
        runs = found.setdefault(events.name, {})
        if run_name in runs or run_name in reserved:
            raise DataError(f"two sets of scores are called {run_name!r}", where=events.name, cure="rename the run")
        runs[run_name] = events
    names = {run_name for run_name, _, _ in scored}
    for sample, runs in found.items():
        if missing := sorted(names - set(runs)):
            raise DataError(f"run {missing[0]!r} has not scored this sample, {next(iter(runs))!r} has", where=sample,
                            cure="score the same samples with every run")  # fmt: skip
    if not found:
        raise DataError("no scored events", where="report", cure="give at least one scored sample")
    return found


class _Rows(NamedTuple):
    """One sample's rows by event id, of every run, and which of them are held out."""

    tables: dict[str, pa.Table]
    held_out_B: Bools


def _held_out(name: str, runs: dict[str, Events]) -> _Rows:
    tables = {run_name: events.read(COLUMNS) for run_name, events in runs.items()}
    ids = {run_name: table["event_id"].to_numpy() for run_name, table in tables.items()}
    common = reduce(np.intersect1d, ids.values())
    tables = {run: table.take(_places(ids[run], common)) for run, table in tables.items()}
    if not len(common) and any(map(len, ids.values())):
        raise DataError("the runs have scored different events", where=name, cure="score one sample with every run")
    held_out_B = np.logical_and.reduce([table["split"].to_numpy() >= HELD_OUT for table in tables.values()])
    return _Rows(tables, np.asarray(held_out_B, dtype=bool))


def _places(ids_B: Ints, wanted: Ints) -> Ints:
    order_B = np.argsort(ids_B)
    return np.asarray(order_B[np.searchsorted(ids_B[order_B], wanted)])


def _parts(name: str, rows: _Rows, chosen: Mapping[str, classical.Method]) -> Iterator[Sample]:
    """Signal of each mass, background and unknown events apart."""
    first = next(iter(rows.tables.values()))
    true_mass_B = first["true_mass"].to_numpy().astype(np.float64)
    background_B = first["decay_mode"].to_numpy() == 0
    signal_B = (true_mass_B > 0) & ~background_B
    masses = np.unique(true_mass_B[signal_B])
    kinds: list[tuple[str, Kind, Bools]] = [("signal", "signal", signal_B)]
    if len(masses) <= MOST_MASSES:
        kinds = [(f"{mass:g} GeV", "signal", signal_B & (true_mass_B == mass)) for mass in masses]
    kinds += [("background", "background", background_B), ("unknown", "unknown", ~signal_B & ~background_B)]
    kinds = [(label, kind, rows_B) for label, kind, rows_B in kinds if rows_B.any()]
    for label, kind, rows_B in kinds:
        yield _sample(name if len(kinds) == 1 else f"{name}, {label}", kind, rows, rows_B, chosen)


def _sample(name: str, kind: Kind, rows: _Rows, rows_B: Bools, chosen: Mapping[str, classical.Method]) -> Sample:
    kept_B = pa.array(rows_B & rows.held_out_B)
    tables = {run_name: table.filter(kept_B) for run_name, table in rows.tables.items()}
    first = next(iter(tables.values()))
    # Some formats know only which jets were matched to quarks.
    label = next((name for name in LABELS if (flat(first[name]) >= 0).any()), LABELS[0])
    mask_BJ, jets = _padded(first, ("jet_pt", "jet_eta", "jet_phi", "jet_mass", label))
    p4_BJ4 = kinematics.p4(*(jets[f"jet_{part}"].double() for part in ("pt", "eta", "phi", "mass")))
    p4_BJ4 = torch.where(mask_BJ[..., None], p4_BJ4, 0.0)
    label_BJ = torch.where(mask_BJ, jets[label].long(), -1)
    event_id_B = first["event_id"].to_numpy()
    true_mass_B = first["true_mass"].to_numpy().astype(np.float64)
    masses, modes = np.unique(true_mass_B), np.unique(first["decay_mode"].to_numpy())
    methods = {run_name: _network(table, label_BJ, mask_BJ) for run_name, table in tables.items()}
    methods |= _without_network(chosen, p4_BJ4, mask_BJ, label_BJ, event_id_B)
    return Sample(name, kind, float(masses[0]) if len(masses) == 1 else 0.0, int(modes[0]) if len(modes) == 1 else -1,
                  int(rows_B.sum()) - len(event_id_B), event_id_B, first["weight"].to_numpy(),
                  true_mass_B, p4_BJ4, mask_BJ, label_BJ, methods)  # fmt: skip


def _network(table: pa.Table, label_BJ: Tensor, mask_BJ: Tensor) -> Method:
    assigned_BJ = _padded(table, ("jet_assigned",))[1]["jet_assigned"].long()
    return Method(groupings.best_swap(assigned_BJ, label_BJ, mask_BJ), table["reco_mass"].to_numpy().astype(np.float64))


def _without_network(chosen: Mapping[str, classical.Method], p4_BJ4: Tensor, mask_BJ: Tensor, label_BJ: Tensor,
                     event_id_B: Ints) -> dict[str, Method]:  # fmt: skip
    assigned = {
        **{name: method(p4_BJ4, mask_BJ) for name, method in chosen.items()},
        RANDOM: groupings.random_groups(p4_BJ4, mask_BJ, RANDOM_SEED, torch.from_numpy(event_id_B.copy())),
    }
    if (label_BJ > 0).any():
        assigned[TRUTH] = label_BJ.clamp_min(0)
    return {
        name: Method(groupings.best_swap(groups_BJ, label_BJ, mask_BJ),
                     groupings.reconstruct(p4_BJ4, groups_BJ).mass_B.numpy())
        for name, groups_BJ in assigned.items()
    }  # fmt: skip


def _padded(table: pa.Table, names: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
    """A mask (B, J), True for real jets, and columns of jets (B, J) with 0 where there is none."""
    schema = JET_EVENTS.only(["jet_pt"])
    count_B = lengths(table, "jet", schema)
    mask_BJ = np.arange(max(1, int(count_B.max(initial=0)))) < count_B[:, None]
    columns = {}
    for name in names:
        numbers = flat(table[name])
        if len(numbers) != mask_BJ.sum():
            raise DataError(f"{name} has {len(numbers)} entries for {mask_BJ.sum()} jets", where=name,
                            cure="score the events anew")  # fmt: skip
        columns[name] = np.zeros(mask_BJ.shape, numbers.dtype)
        columns[name][mask_BJ] = numbers
    return torch.from_numpy(mask_BJ), {name: torch.from_numpy(column) for name, column in columns.items()}
