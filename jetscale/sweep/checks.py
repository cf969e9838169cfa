"""What a sweep is refused for before anything is started: trials that cannot be, or cannot be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jetscale.axes import Candidate, Sweep
from jetscale.config import Values, leaves
from jetscale.data.provenance import origins
from jetscale.errors import ConfigError, JetscaleError, nearest
from jetscale.evaluate.logs import TERM
from jetscale.events import Events
from jetscale.sweep.trials import counts
from jetscale.train.launch import Counted, name_of
from jetscale.train.validate import figure_names

# Settings that change neither a loss nor the rows that it is a mean of.
SAME_LOSS = ("optimiser", "horizon", "precision", "scale", "track", "keep", "best", "start", "freeze", "seed")
# What of a stream changes the training alone, and no row of the validation part.
TRAINING = ("epoch_of", "buckets", "reweight", "negative_weights")
SOURCE_TRAINING = ("share", "weight", "event_weight")


def check(sweep: Sweep, candidates: Sequence[Candidate]) -> dict[str, Counted]:
    """Refuse what cannot be compared or trained; what was found out about the trials' samples on the way.

    Raises:
        ConfigError: a metric that no trial reports, that depends on an axis, or that is taken on different events in
            different trials; a trial without events to train or validate on; two that are the same work.
        DataError: a sample that is missing or not what its manifest says.
    """
    check_metric(sweep, candidates)
    found = {}
    for name, counted in counts({one.name: one.run for one in candidates}).items():
        if isinstance(counted, JetscaleError):
            raise type(counted)(counted.what, where=f"trial {name}: {counted.where}", cure=counted.cure)
        _refuse_empty(name, counted, sweep)
        found[name] = counted
    check_judge(sweep, candidates, found)
    _refuse_twins(candidates, found)
    return found


def check_metric(sweep: Sweep, candidates: Sequence[Candidate]) -> None:
    """The metric must be a figure of every trial's validation, and mean the same in all of them."""
    name = sweep.metric.name
    changing = [key for key in sweep.axes if key.split(".")[0] not in SAME_LOSS]
    if name.startswith(TERM) and changing:
        raise ConfigError(f"{name!r} is a loss, and the axis {changing[0]} changes what that is: it would compare "
                          "trials that are measured differently", where="metric.name",
                          cure="choose a figure of the masses, as f10 or mass_auc")  # fmt: skip
    for one in {candidate.run.system: candidate for candidate in candidates}.values():
        known = figure_names(one.run)
        if name not in known:
            raise ConfigError(f"no trial reports {name!r}", where="metric.name", cure=nearest(name, known))
    if not sweep.judge:
        _refuse_other_rows(candidates)


def _refuse_other_rows(candidates: Sequence[Candidate]) -> None:
    """The metric is a figure of the validation part, which must be the same events in all trials."""
    first = judged_rows(candidates[0])
    for other in candidates[1:]:
        if (theirs := judged_rows(other)) != first:
            key = next(key for key in {**first, **theirs} if first.get(key) != theirs.get(key))
            raise ConfigError(f"is measured on different events in {candidates[0].name} and in {other.name}: {key} is "
                              f"{first.get(key, 'absent')} and {theirs.get(key, 'absent')}", where="metric",
                              cure="name samples that every trial is scored on: judge: [SAMPLE, ...]")  # fmt: skip


def judged_rows(candidate: Candidate) -> dict[str, Any]:
    """The settings that decide which events a trial is validated on; weights and shares do not enter a figure."""
    stream: Values = candidate.run.stream.values()
    derive = {name: one for name, one in stream["derive"].items() if name != stream["reweight"]}
    samples = {
        name: {key: value for key, value in source.items() if key not in SOURCE_TRAINING}
        for name, source in stream["samples"].items()
    }
    kept = {key: value for key, value in stream.items() if key not in TRAINING}
    return leaves({"stream": {**kept, "samples": samples, "derive": derive}})


def _refuse_empty(name: str, counted: Counted, sweep: Sweep) -> None:
    for sample, chunks in counted.chunks.items():
        if not sum(chunk.selected["train"] for chunk in chunks):
            raise ConfigError(f"sample {sample!r} has no events left to train on", where=f"trial {name}",
                              cure="widen stream.select, or hold out less in stream.split")  # fmt: skip
    if not sweep.judge and not sum(chunk.selected["validation"] for of in counted.chunks.values() for chunk in of):
        raise ConfigError("has no events to validate on, so it never reports the metric", where=f"trial {name}",
                          cure="enlarge stream.split.validation, or name samples to judge on")  # fmt: skip


def check_judge(sweep: Sweep, candidates: Sequence[Candidate], counted: Mapping[str, Counted]) -> None:
    """The held-out events of the judge's samples must be the same in all trials."""
    if sweep.judge and any(one.run.stream.each for one in candidates):
        raise ConfigError("judge looks at events, and stream.each makes rows of their members", where="judge",
                          cure="leave judge out, and compare trials with the same samples and split")  # fmt: skip
    for place in sweep.judge:
        ours = origins(Events.open(place))
        first = _trained_part(candidates[0], counted[candidates[0].name], ours)
        for other in candidates[1:]:
            if _trained_part(other, counted[other.name], ours) != first:
                raise ConfigError(f"{candidates[0].name} and {other.name} have been trained on different events of it",
                                  where=f"judge {place}",
                                  cure="take a sample that no trial is trained on")  # fmt: skip


def _trained_part(candidate: Candidate, counted: Counted, ours: frozenset[str]) -> list[Values]:
    """The splits by which a trial has been trained on events of samples with these origins."""
    return [
        {"split": candidate.run.stream.split.values(), "within": family["within"]}
        for family in counted.families.values()
        if ours & set(family["origins"])
    ]


def _refuse_twins(candidates: Sequence[Candidate], counted: Mapping[str, Counted]) -> None:
    seen: dict[str, Candidate] = {}
    for one in candidates:
        twin = seen.setdefault(name_of(one.run, counted[one.name]), one)
        if twin is not one:
            differ = [key for key in {**twin.values, **one.values} if twin.values.get(key) != one.values.get(key)]
            raise ConfigError(f"{twin.name} and {one.name} are the same work: {', '.join(differ)} changes no result",
                              where="axes", cure=f"take {differ[0]} out of the axes")  # fmt: skip
