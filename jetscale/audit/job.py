"""An audit of a whole job: which trainings it takes, each with something left out, another seed or another weight."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from jetscale.audit.functions import MASS, truth
from jetscale.audit.spread import FEWEST_SEEDS
from jetscale.audit.verdicts import Thresholds
from jetscale.axes import named
from jetscale.config import Config, Values, build, parse_set, read_yaml
from jetscale.errors import ConfigError, DataError, nearest
from jetscale.run import Run, job_file, layer, resolve

VERB = "audit"  # the one top key of its file
ALL, WITHOUT = "all", "without-"


class Scan(Config):
    """The weights in the loss that a background sample is given one after the other."""

    sample: str
    weights: tuple[float, ...] = Field(min_length=2, description="rising, 0 or more")

    @field_validator("weights")
    @classmethod
    def _rises(cls, weights: tuple[float, ...]) -> tuple[float, ...]:
        if weights[0] < 0 or any(a >= b for a, b in itertools.pairwise(weights)):
            raise ValueError("must rise, from 0 or more")
        return weights


class Audit(Config):
    """What is trained, and what is asked of the functions that come out of it.

    The signal samples of the job are the cells: each holds one true mass and one decay mode. `leave_out` says what is
    left out at a time: one sample, all of a decay mode, or all of a mass.
    """

    job: str | None = Field(None, description="a train job's file, or shipped:NAME")
    train: dict[str, Any] | None = Field(None, description="the job itself, instead")
    set: dict[str, Any] = Field({}, description="settings of all trainings, by their dotted names")
    leave_out: Literal["sample", "mode", "mass"] = "sample"
    compositions: dict[str, tuple[str, ...]] = Field({}, description="further trainings: signal samples, by a name")
    seeds: int = Field(3, ge=1, description="trainings of every composition")
    column: str = Field(MASS, description="the output that is looked at")
    quality: Literal["f10", "peak_fraction"] = "f10"
    events: int = Field(2000, ge=50, description="most held-out events of a sample that are looked at")
    probes: int = Field(2048, ge=100, description="made-up events")
    permutations: int = Field(999, ge=19)
    one_class: bool = Field(False, description="also the distance of each composition from the seeds of all")
    influence: Scan | None = None
    thresholds: Thresholds = Thresholds()
    seed: int = Field(1, ge=0, description="of the probes and the permutations")

    @model_validator(mode="after")
    def _one_job(self) -> Self:
        if (self.job is None) == (self.train is None):
            raise ValueError("give exactly one of job, train")
        return self

    @model_validator(mode="after")
    def _enough_seeds(self) -> Self:
        if self.seeds < 2 and self.thresholds.spread is not None:
            raise ValueError("seeds is 1, and the spread between compositions is measured by that between seeds: give "
                             "2 or more, or thresholds: {spread: null}")  # fmt: skip
        if self.seeds < FEWEST_SEEDS and self.one_class:
            raise ValueError(f"one_class needs {FEWEST_SEEDS} seeds or more for a distribution of functions")
        return self

    @field_validator("compositions")
    @classmethod
    def _own_names(cls, compositions: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name, samples in compositions.items():
            if name == ALL or name.startswith(WITHOUT):
                raise ValueError(f"{name!r} is what this audit calls a composition of its own")
            if not samples:
                raise ValueError(f"{name!r} leaves nothing to train on")
        return compositions

    def base(self) -> Run:
        """The run that everything starts from.

        Raises:
            ConfigError: a job that cannot be meant.
        """
        first = layer(job_file(self.job)) if self.job is not None else (VERB, dict(self.train or {}))
        return resolve([first, *((f"set {key}", _nested(key, value)) for key, value in self.set.items())], VERB).run


class Cell(NamedTuple):
    """What a signal sample holds: one true mass in GeV, one decay mode, so many events."""

    mass: float
    mode: float
    events: int


class Plan(NamedTuple):
    """The trainings of an audit.

    `cells` are the signal samples by name, `parts` the samples that are left out together, `compositions`
    those that are trained on. `runs` are the trainings by the names of their folders; `trained` says which of them has
    a composition and a seed, `weighted` which one a weight of the background and a seed.
    """

    base: Run
    cells: Mapping[str, Cell]
    backgrounds: tuple[str, ...]
    parts: Mapping[str, tuple[str, ...]]
    compositions: Mapping[str, tuple[str, ...]]
    runs: Mapping[str, Run]
    trained: Mapping[tuple[str, int], str]
    weighted: Mapping[tuple[float, int], str]


def load(file: Path, sets: Sequence[str] = ()) -> Audit:
    """The audit in a file; `--set` changes the job's settings.

    Raises:
        ConfigError: a file that is not an audit, an unknown key, a value that cannot be.
    """
    values = read_yaml(file)
    if set(values) != {VERB} or not isinstance(values[VERB], dict):
        raise ConfigError(f"its top key is {', '.join(map(repr, values)) or 'absent'}, not {VERB!r} with settings",
                          where=str(file), cure=f"put the audit under the one key {VERB}:")  # fmt: skip
    said: Values = {}
    for one in sets:
        nested = parse_set(one)
        key = one.partition("=")[0].strip()
        for part in key.split("."):
            nested = nested[part]
        said[key] = nested
    audit = values[VERB]
    return build(Audit, {**audit, "set": {**(audit.get("set") or {}), **said}}, str(file), under=VERB)


def plan(audit: Audit) -> Plan:
    """Everything that must be trained, with all samples looked at.

    Raises:
        ConfigError: something left out that leaves nothing to train on, a sample that is not one of the job's.
        DataError: a signal sample without true masses, or with several.
    """
    base = audit.base()
    cells, backgrounds = _cells(base)
    parts = _parts(cells, audit.leave_out)
    for name, left_out in parts.items():
        if len(left_out) == len(cells):
            raise ConfigError(f"leaving out {name!r} leaves no signal to train on", where=f"{VERB}.leave_out",
                              cure="give the job more signal samples, or leave out something smaller")  # fmt: skip
    compositions = {ALL: tuple(cells), **{
        f"{WITHOUT}{part}": tuple(name for name in cells if name not in left_out) for part, left_out in parts.items()
    }, **_own(audit, cells)}  # fmt: skip
    seeds = range(base.seed, base.seed + audit.seeds)
    runs: dict[str, Run] = {}
    trained = {(name, seed): _add(runs, base, {"train": name, "seed": seed}, samples, cells)
               for name, samples in compositions.items() for seed in seeds}  # fmt: skip
    return Plan(base, cells, backgrounds, parts, compositions, runs, trained,
                _scanned(audit, base, cells, backgrounds, runs))  # fmt: skip


def _cells(run: Run) -> tuple[dict[str, Cell], tuple[str, ...]]:
    """What every signal sample holds, and the names of the backgrounds."""
    cells: dict[str, Cell] = {}
    backgrounds = []
    for name in run.stream.samples:
        table = truth(run, name, ("true_mass", "decay_mode"))
        if table is None:
            raise ConfigError(f"{run.system!r} reads no true mass and no decay mode", where=f"{VERB}.job",
                              cure="audit a system that reconstructs masses")  # fmt: skip
        found = {(float(mass), float(mode)) for mass, mode in
                 np.unique(np.stack([table[key].to_numpy() for key in table.column_names], -1), axis=0)}  # fmt: skip
        if all(mode == 0 for _, mode in found) and found:
            backgrounds.append(name)
            continue
        if len(found) != 1 or not min(found)[0] > 0:
            what = f"holds {len(found)} masses and decay modes" if len(found) != 1 else "has no true mass"
            raise DataError(f"{what}, and a cell of the audit has one", where=run.stream.samples[name].events,
                            cure="give one sample for each mass and decay mode; jetscale skim makes them")  # fmt: skip
        cells[name] = Cell(*found.pop(), table.num_rows)
    if not cells:
        raise ConfigError("the job has no signal sample: nothing could be left out", where=f"{VERB}.job",
                          cure="give stream.samples some with a true mass")  # fmt: skip
    return cells, tuple(backgrounds)


def _parts(cells: Mapping[str, Cell], leave_out: str) -> dict[str, tuple[str, ...]]:
    said = {
        name: {"sample": name, "mode": f"{cell.mode:g}-quarks", "mass": f"{cell.mass:g}-GeV"}[leave_out]
        for name, cell in cells.items()
    }
    return {part: tuple(name for name in cells if said[name] == part) for part in said.values()}


def _own(audit: Audit, cells: Mapping[str, Cell]) -> dict[str, tuple[str, ...]]:
    for name, samples in audit.compositions.items():
        for sample in samples:
            if sample not in cells:
                raise ConfigError(f"no signal sample {sample!r} in the job", where=f"{VERB}.compositions.{name}",
                                  cure=nearest(sample, cells))  # fmt: skip
    return dict(audit.compositions)


def _scanned(audit: Audit, base: Run, cells: Mapping[str, Cell], backgrounds: tuple[str, ...], runs: dict[str, Run]
             ) -> dict[tuple[float, int], str]:  # fmt: skip
    """The trainings of a scan of the background's weight, which are added to the others."""
    if audit.influence is None:
        return {}
    sample = audit.influence.sample
    if sample not in backgrounds:
        raise ConfigError(f"no background {sample!r} in the job", where=f"{VERB}.influence.sample",
                          cure=nearest(sample, backgrounds))  # fmt: skip
    found = {}
    for weight in audit.influence.weights:
        for seed in range(base.seed, base.seed + audit.seeds):
            values = {"train": ALL, f"{sample}.weight": weight, "seed": seed}
            if weight == base.stream.samples[sample].weight:  # that one is trained anyway
                values = {"train": ALL, "seed": seed}
            found[weight, seed] = _add(runs, base, values, tuple(cells), cells, {sample: weight})
    return found


def _add(runs: dict[str, Run], base: Run, values: Mapping[str, Any], signals: Sequence[str], cells: Mapping[str, Cell],
         weights: Mapping[str, float] | None = None) -> str:  # fmt: skip
    """Put a run on some of the signals, and all backgrounds, among the others; the name that it has there.

    The signals that are left take over the part of the others, so that the background's part in the loss does not
    change along with the signal's composition.
    """
    name = named(values, {})
    stream = base.stream.values()
    kept = {key: {**source, **({"weight": weights[key]} if weights and key in weights else {})}
            for key, source in stream["samples"].items() if key in signals or key not in cells}  # fmt: skip
    samples = base.stream.samples
    counts = "weight" if samples[signals[0]].share is None else "share"
    size = {key: cell.events * samples[key].weight if counts == "weight" else samples[key].share or 0.0
            for key, cell in cells.items()}  # fmt: skip
    for key in signals:
        kept[key][counts] *= sum(size.values()) / sum(size[one] for one in signals)
    stream |= {"samples": kept, "epoch_of": stream["epoch_of"] if stream["epoch_of"] in kept else None}
    runs[name] = base.but(stream=stream, seed=values["seed"])
    return name


def _nested(key: str, value: Any) -> Values:
    """A setting as `--set` would give it."""
    return parse_set(f"{key}={json.dumps(value)}")
