"""A Sweep: axes over the settings of a run, and how they are searched. Pure: axes in, named runs out."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from jetscale.config import Config, Values, build, digest, leaves, parse_set, read_yaml
from jetscale.errors import ConfigError, nearest
from jetscale.run import NAMED, Run, job_file, layer, resolve

VERB = "sweep"  # the one top key of a sweep's file
CLOSE = 1e-9
MOST = 10_000  # trials of a sweep
DIGITS = 6  # of a number that is drawn: its trial's name then says it whole
LONGEST, LONGEST_VALUE = 120, 40  # letters of a trial's name, and of one value in it


class Metric(Config):
    """The figure of validation that trials are compared by."""

    name: str
    better: Literal["high", "low"] = "high"

    def beats(self, one: float | None, other: float | None) -> bool:
        """Whether one value is better than another; one that cannot be formed beats nothing and is beaten by any."""
        if one is None or not math.isfinite(one):
            return False
        if other is None or not math.isfinite(other):
            return True
        return one > other if self.better == "high" else one < other


class Asha(Config):
    """Asynchronous successive halving (Li et al., arXiv:1810.05934), as a rule that stops.

    At every rung, `grace_epochs` times a power of `factor`, a trial goes on if it is among the best 1 / `factor` of
    those that have come there so far.
    """

    grace_epochs: float = Field(1.0, gt=0)
    factor: float = Field(3.0, gt=1)

    def rung(self, epoch: float) -> float | None:
        """The newest rung at an epoch; None before the first one."""
        if epoch < self.grace_epochs - CLOSE:
            return None
        return self.grace_epochs * self.factor ** math.floor(math.log(epoch / self.grace_epochs, self.factor) + CLOSE)

    def goes_on(self, own: float | None, others: Sequence[float | None], metric: Metric) -> bool:
        """Whether a trial goes on with this value beside what others had at the same rung."""
        better = sum(metric.beats(other, own) for other in others)
        return better < max(1, math.ceil((len(others) + 1) / self.factor))


class Stop(Config):
    """When a trial is ended early."""

    asha: Asha


class Axis(Config):
    """The values of one setting: a list (`grid`, `choice`), or a range. `when` says for which values of others."""

    grid: tuple[Any, ...] | None = Field(None, min_length=1)
    choice: tuple[Any, ...] | None = Field(None, min_length=1)
    uniform: tuple[float, float] | None = None
    log_uniform: tuple[float, float] | None = None
    integer: tuple[int, int] | None = None
    when: dict[str, Any] = Field({}, description="a setting, or an axis above: a value, or a list of values")

    @property
    def kind(self) -> str:
        """Which of them it is."""
        return next(name for name in KINDS if getattr(self, name) is not None)

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(getattr(self, name) is not None for name in KINDS) != 1:
            raise ValueError(f"give exactly one of {', '.join(KINDS)}")
        return self

    @field_validator("uniform", "log_uniform", "integer")
    @classmethod
    def _has_an_order(cls, ends: tuple[float, float] | None) -> tuple[float, float] | None:
        if ends is not None and not ends[0] < ends[1]:
            raise ValueError(f"must rise from low to high, not from {ends[0]:g} to {ends[1]:g}")
        return ends

    @field_validator("log_uniform")
    @classmethod
    def _has_a_logarithm(cls, ends: tuple[float, float] | None) -> tuple[float, float] | None:
        if ends is not None and not ends[0] > 0:
            raise ValueError(f"must begin above 0, not at {ends[0]:g}")
        return ends

    def ends(self) -> tuple[Any, ...]:
        """All values of a list, both ends of a range."""
        return self.grid or self.choice or self.integer or self.log_uniform or self.uniform or ()

    def draw(self, dice: np.random.Generator) -> Any:
        """A value at random; numbers are rounded to six digits, which their trial's name says."""
        if listed := self.grid or self.choice:
            return listed[int(dice.integers(len(listed)))]
        if self.integer:
            return int(dice.integers(self.integer[0], self.integer[1] + 1))
        if self.log_uniform:
            low, high = self.log_uniform
            return rounded(math.exp(dice.uniform(math.log(low), math.log(high))))
        assert self.uniform is not None  # it is exactly one of them
        return rounded(dice.uniform(*self.uniform))


KINDS = ("grid", "choice", "uniform", "log_uniform", "integer")


class Grid(Config):
    """Every combination of the values, each with so many seeds."""

    seeds: int = Field(1, gt=0)


class Random(Config):
    """So many draws, each with so many seeds; the draws of a longer search begin with those of a shorter one."""

    trials: int = Field(gt=0, le=MOST)
    seeds: int = Field(1, gt=0)
    seed: int = Field(1, ge=0, description="of the draws")


class Optuna(Config):
    """Draws that learn from those before (Optuna's TPE); the mean metric over the seeds is what counts.

    `at_once` are drawn without knowing of each other: so the draws depend on nothing but the sweep, and one that was
    killed makes the same again.
    """

    trials: int = Field(gt=0, le=MOST)
    seeds: int = Field(1, gt=0)
    seed: int = Field(1, ge=0, description="of the draws")
    at_once: int = Field(4, gt=0)


class Search(Config):
    """How the axes are searched: one of `{grid: {}}`, `{random: {trials: 20}}`, `{optuna: {trials: 30}}`."""

    grid: Grid | None = None
    random: Random | None = None
    optuna: Optuna | None = None

    @property
    def how(self) -> Grid | Random | Optuna:
        """The one that is given."""
        found = self.grid or self.random or self.optuna
        assert found is not None  # it is exactly one of them
        return found

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(value is not None for value in (self.grid, self.random, self.optuna)) != 1:
            raise ValueError("give exactly one of grid, random, optuna")
        return self


class Candidate(NamedTuple):
    """A run of a sweep: the values of its axes, as far as they apply, and its seed."""

    name: str
    values: Mapping[str, Any]
    seed: int
    run: Run


class Sweep(Config):
    """A family of runs: one train job, and axes over its settings."""

    job: str | None = Field(None, description="a train job's file, or shipped:NAME")
    train: dict[str, Any] | None = Field(None, description="the job itself, instead")
    set: dict[str, Any] = Field({}, description="settings of all trials, by their dotted names")
    axes: dict[str, Axis] = Field(min_length=1)
    search: Search = Search(grid=Grid())
    metric: Metric
    against: Metric | None = Field(None, description="a second figure, for the trade-off between both")
    stop: Stop | None = None
    judge: tuple[str, ...] = Field((), description="samples that every trial is scored on at its end; the metric is "
                                   "then that of their held-out events")  # fmt: skip

    @model_validator(mode="after")
    def _one_job(self) -> Self:
        if (self.job is None) == (self.train is None):
            raise ValueError("give exactly one of job, train")
        return self

    @model_validator(mode="after")
    def _axes_suit_the_search(self) -> Self:
        for key, axis in self.axes.items():
            if self.search.grid and axis.kind not in ("grid", "choice"):
                raise ValueError(f"axes.{key} is {axis.kind}, which a grid search cannot list: give it as a grid, or "
                                 "search with random or optuna")  # fmt: skip
            if self.search.optuna and axis.kind == "grid":
                raise ValueError(f"axes.{key} is a grid, which Optuna does not walk through: write choice: "
                                 "[...] or a range, or search with grid")  # fmt: skip
        if self.judge and (self.stop or self.search.optuna):
            raise ValueError("judge is only known at the end of a trial: it goes with neither stop nor optuna")
        return self

    @model_validator(mode="after")
    def _when_is_above(self) -> Self:
        above: list[str] = []
        for key, axis in self.axes.items():
            for other in axis.when:
                if other in self.axes and other not in above:
                    raise ValueError(f"axes.{key}.when asks for {other}, which stands below it: put it above")
            above.append(key)
        if self.seeds > 1 and "seed" in self.axes:
            raise ValueError("seed is an axis, and search has seeds: leave one of them out")
        return self

    @property
    def seeds(self) -> int:
        """Trainings for every combination of values."""
        return self.search.how.seeds

    def base(self) -> Run:
        """The run that the axes start from.

        Raises:
            ConfigError: a job that cannot be meant, an axis or a `when` that names no setting.
        """
        run = resolve(self.layers(), VERB).run
        values = run.values()
        for where, keys in (("axes", self.axes), *((f"axes.{key}.when", axis.when) for key, axis in self.axes.items())):
            for key in keys:
                if not is_setting(key, values):
                    raise ConfigError(f"no setting {key!r}", where=where, cure=nearest(key, _settings(values)))
        return run

    def layers(self) -> list[tuple[str, Values]]:
        """The job, and the settings of all trials, for `resolve`."""
        first = layer(job_file(self.job)) if self.job is not None else ("train", dict(self.train or {}))
        return [first, *(_set(key, value, "set") for key, value in self.set.items())]

    def trials(self) -> list[Candidate]:
        """Every run of a grid or random search, by its name: a pure function of the sweep.

        Raises:
            ConfigError: what `base` refuses, too many trials, values that a run cannot have, two that are the same.
        """
        base, layers = self.base(), self.layers()
        found: dict[str, Candidate] = {}
        for values in self.combinations(base):
            for one in self.candidates(values, base, layers):
                if one.name in found:
                    raise ConfigError(f"{one.name} comes up twice", where="axes",
                                      cure="leave equal values out; for a few values search: {grid: {}}")  # fmt: skip
                found[one.name] = one
        return list(found.values())

    def combinations(self, base: Run) -> list[dict[str, Any]]:
        """The values of every grid point or random draw; axes whose condition does not hold are not in it."""
        if isinstance(self.search.how, Random):
            dice = [np.random.default_rng((self.search.how.seed, n)) for n in range(self.search.how.trials)]
            drawn = [{key: axis.draw(one) for key, axis in self.axes.items()} for one in dice]
            self._refuse_too_many(len(drawn) * self.seeds)
            return [self.applying(values, base) for values in drawn]
        axes = [(axis.grid or axis.choice or ()) for axis in self.axes.values()]
        found = list(islice(self._grid(base), MOST + 1))
        self._refuse_too_many((len(found) if len(found) <= MOST else math.prod(map(len, axes))) * self.seeds)
        return found

    def candidates(self, values: Mapping[str, Any], base: Run, layers: Sequence[tuple[str, Values]]
                   ) -> list[Candidate]:  # fmt: skip
        """The runs of one combination: one for every seed."""
        said = [_set(key, value, "axes") for key, value in values.items()]
        first = int(values.get("seed", base.seed))
        found = []
        for seed in range(first, first + self.seeds):
            name = named({**values, "seed": seed}, short(self.axes))
            run = resolve([*layers, *said, ("seeds", {"seed": seed})], f"trial {name}").run
            found.append(Candidate(name, dict(values), seed, run))
        return found

    def corners(self, base: Run) -> list[Candidate]:
        """A run for every value that an axis lists, and for both ends of every range, the others at their first."""
        first = {key: axis.ends()[0] for key, axis in self.axes.items()}
        combinations = [{**first, key: value} for key, axis in self.axes.items() for value in axis.ends()]
        layers = self.layers()
        every = [self.candidates(self.applying(one, base), base, layers)[0] for one in combinations]
        return list({one.name: one for one in every}.values())

    def applying(self, values: Mapping[str, Any], base: Run) -> dict[str, Any]:
        """The values of those axes whose conditions hold."""
        found: dict[str, Any] = {}
        for key, axis in self.axes.items():
            if self.applies(axis, found, base):
                found[key] = values[key]
        return found

    def applies(self, axis: Axis, above: Mapping[str, Any], base: Run) -> bool:
        """Whether an axis's conditions hold, with the values of the axes above it and the job's for the others."""
        return all(
            (above[key] if key in above else _value(key, base.values()))
            in (wanted if isinstance(wanted, list | tuple) else [wanted])
            for key, wanted in axis.when.items()
        )

    def _grid(self, base: Run) -> Iterator[dict[str, Any]]:
        """One combination after the other, the last axis fastest."""

        def below(above: dict[str, Any], rest: Sequence[tuple[str, Axis]]) -> Iterator[dict[str, Any]]:
            if not rest:
                yield above
                return
            key, axis = rest[0]
            if not self.applies(axis, above, base):
                yield from below(above, rest[1:])
                return
            for value in axis.grid or axis.choice or ():
                yield from below({**above, key: value}, rest[1:])

        return below({}, list(self.axes.items()))

    def _refuse_too_many(self, number: int) -> None:
        if number > MOST:
            raise ConfigError(f"gives {number:,} trials, and {MOST:,} are the most", where="axes",
                              cure="take fewer values or axes, or search: {random: {trials: 100}}")  # fmt: skip


def load(file: Path) -> Sweep:
    """The sweep in a file.

    Raises:
        ConfigError: a file that is not a sweep, an unknown key, a value that cannot be.
    """
    values = read_yaml(file)
    if set(values) != {VERB}:
        raise ConfigError(f"its top key is {', '.join(map(repr, values)) or 'absent'}, not {VERB!r}", where=str(file),
                          cure=f"put the sweep under the one key {VERB}:")  # fmt: skip
    return build(Sweep, values[VERB], str(file), under=VERB)


def is_setting(key: str, values: Values) -> bool:
    """Whether a dotted name is one of a run's settings, or a new one of those that the user names."""
    inside: Any = values
    parts = key.split(".")
    for depth, part in enumerate(parts):
        if not isinstance(inside, dict):
            return False
        if part not in inside:
            return ".".join(parts[:depth]) in NAMED
        inside = inside[part]
    return True


def rounded(value: float) -> float:
    """The number as a trial's name says it."""
    return float(f"{value:.{DIGITS}g}")


def short(keys: Sequence[str] | Mapping[str, Axis]) -> dict[str, str]:
    """What trials' names call each setting: its last part, and as much before it as tells it from the others."""
    parts = {key: key.removeprefix("stream.samples.").split(".") for key in keys}
    found = {}
    for key, mine in parts.items():
        start = 2 if key.startswith("stream.samples.") else 1
        tails = (".".join(mine[-length:]) for length in range(start, len(mine) + 1))
        others = [theirs for other, theirs in parts.items() if other != key]
        found[key] = next((one for one in tails if all(one != ".".join(two[-one.count(".") - 1 :]) for two in others)),
                          key)  # fmt: skip
    return found


def named(values: Mapping[str, Any], shorts: Mapping[str, str]) -> str:
    """`qcd.weight=0.1,loss_on=mass,seed=1`: safe as a folder's name, and never too long for one."""
    said = ",".join(f"{_safe(shorts.get(key, key))}={said_short(value)}" for key, value in values.items())
    return said if len(said) <= LONGEST else f"{said[: LONGEST - 13]}-{digest(dict(values))}"


def said_short(value: Any) -> str:
    """A value in a trial's name."""
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    text = value.rstrip("/").rpartition("/")[2] if isinstance(value, str) else json.dumps(value)
    said = _safe(text)
    # Two values must never look alike: whatever was changed in saying it brings its digest along.
    kept = said == (value if isinstance(value, str) else text) and len(said) <= LONGEST_VALUE
    return said if kept else f"{said[:LONGEST_VALUE]}-{digest(value)[:6]}"


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+_-]+", "-", text).strip("-.") or "-"


def _set(key: str, value: Any, where: str) -> tuple[str, Values]:
    """A layer that sets one setting, as `--set` does."""
    return f"{where} {key}", parse_set(f"{key}={json.dumps(value)}")


def _value(key: str, values: Values) -> Any:
    inside: Any = values
    for part in key.split("."):
        inside = inside.get(part) if isinstance(inside, dict) else None
    return inside


def _settings(values: Values) -> list[str]:
    return list(leaves(values))
