"""A sweep from its first trial to its table: killed at any moment, it goes on where it was."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from jetscale.axes import Candidate, Optuna, Sweep
from jetscale.config import digest
from jetscale.data.cluster import cluster
from jetscale.events import Events
from jetscale.lock import held
from jetscale.shape import shape
from jetscale.sweep import folder
from jetscale.sweep.checks import check
from jetscale.sweep.judge import judged
from jetscale.sweep.search import Searcher
from jetscale.sweep.trials import Outcome, training
from jetscale.train.launch import Counted

JUDGED = "judged"


class Progress(NamedTuple):
    """All trials that are known so far, how far they are, and how many there will be."""

    candidates: Sequence[Candidate]
    outcomes: Mapping[str, Outcome]
    planned: int

    def best(self, sweep: Sweep) -> Outcome | None:
        """The best trial by the metric: among those that came to their end, or else among all."""
        over = [one for one in self.outcomes.values() if one.status == "done"]
        best: Outcome | None = None
        for one in over or self.outcomes.values():
            if sweep.metric.beats(value(sweep, one), value(sweep, best) if best else None):
                best = one
        return best


def value(sweep: Sweep, outcome: Outcome) -> float | None:
    """The metric of a trial; None as long as there is none, where it cannot be formed, and of one that has failed."""
    found = outcome.figures.get(sweep.metric.name)
    return found if found is not None and math.isfinite(found) else None


def planned(sweep: Sweep) -> tuple[list[Candidate], dict[str, Counted]]:
    """The trials of a sweep, checked: all of them, or for Optuna, which finds them as it goes, their extremes.

    Raises:
        ConfigError: what `Sweep.trials` and `check` refuse.
    """
    found = sweep.corners(sweep.base()) if sweep.search.optuna else sweep.trials()
    counted = check(sweep, found)
    return ([], {}) if sweep.search.optuna else (found, counted)


def sweeping(sweep: Sweep, out: Path) -> Iterator[Progress]:
    """Train all trials of a sweep in `out/trials`; yields how far they are, each time that something has changed.

    The same sweep again goes on with what was interrupted or has failed; one with more values, draws or seeds trains
    only what is new.

    Raises:
        ConfigError: a sweep that is refused, or a folder of another one.
        DataError: a sample that is missing or not what its manifest says.
    """
    folder.refuse_another(sweep, out)
    candidates, counted = planned(sweep)
    with _alone(out):
        folder.claim(sweep, out)
        if isinstance(sweep.search.how, Optuna):
            yield from _searched(sweep, sweep.search.how, out)
        else:
            yield from _trained(sweep, candidates, counted, out)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    out.mkdir(parents=True, exist_ok=True)
    with held(out / folder.LOCK, folder.busy(out)):
        yield


def _trained(sweep: Sweep, candidates: Sequence[Candidate], counted: Mapping[str, Counted], out: Path
             ) -> Iterator[Progress]:  # fmt: skip
    outcomes: Mapping[str, Outcome] = {}
    for found in _of(sweep, candidates, counted, out):
        # Where there is a judge, the figures of validation are those of other events in every trial.
        outcomes = {name: one._replace(figures={}) for name, one in found.items()} if sweep.judge else found
        yield Progress(candidates, outcomes, len(candidates))
    for found in _judged(sweep, outcomes):
        yield Progress(candidates, found, len(candidates))


def _judged(sweep: Sweep, outcomes: Mapping[str, Outcome]) -> Iterator[Mapping[str, Outcome]]:
    """One trial after the other with its figures on the judge's samples; nothing where there is no judge."""
    samples, found = [Events.open(place) for place in sweep.judge], dict(outcomes)
    for name, one in outcomes.items():
        if samples and one.status == "done":
            found[name] = one._replace(figures=judged(one.folder, samples, one.folder / JUDGED))
            yield dict(found)


def _searched(sweep: Sweep, how: Optuna, out: Path) -> Iterator[Progress]:
    """Batch after batch: draws that know all batches before their own."""
    base, layers, planned = sweep.base(), sweep.layers(), how.trials * how.seeds
    search, every, before = Searcher(sweep, how, base), dict[str, Candidate](), dict[str, Outcome]()
    with cluster(shape(base.scale.shape)):  # once, for all batches
        for start in range(0, how.trials, how.at_once):
            asked = search.ask(min(how.at_once, how.trials - start))
            drawn = [(trial, sweep.candidates(values, base, layers)) for trial, values in asked]
            batch = {one.name: one for _, replicas in drawn for one in replicas}
            every |= batch
            outcomes: Mapping[str, Outcome] = {}
            for outcomes in _of(sweep, list(batch.values()), {}, out):
                yield Progress(list(every.values()), {**before, **outcomes}, planned)
            before |= outcomes
            for trial, replicas in drawn:
                search.tell(trial, [value(sweep, outcomes[one.name]) for one in replicas])


def _of(sweep: Sweep, candidates: Sequence[Candidate], counted: Mapping[str, Counted], out: Path
        ) -> Iterator[Mapping[str, Outcome]]:  # fmt: skip
    # One group of Weights & Biases for a folder, however often the sweep is gone on with or extended.
    group = f"{out.resolve().name}-{digest(str(out.resolve()))}"
    return training({one.name: one.run for one in candidates}, out / folder.TRIALS, metric=sweep.metric,
                    stop=sweep.stop.asha if sweep.stop else None, group=group, counted=counted)  # fmt: skip
