"""The minimum mass asymmetry of many events at once against the published way: combination by combination.

How much that gains depends on how many events the published head is given at a time: as its script gives them, two at
a time, nearly all goes into its loops; with thousands at a time these no longer weigh, and for five jets nothing is
left to gain. Both are told, and a plain loop over the events in numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from jetscale.bench import direct
from jetscale.bench.measure import Player, Spent
from jetscale.bench.result import Figure, Result, Say
from jetscale.physics.classical import asymmetry_8, asymmetry_12
from jetscale.physics.groupings import minimum_mass_asymmetry

PUBLISHED_BATCH = 2  # of the published script, unless it is told otherwise
LARGE_BATCH = 8192


class Case(NamedTuple):
    """A side of the comparison: jets of its events, the share of the events that it gets, and what it does."""

    jets: int
    share: float
    group: Callable[[Tensor], object]


def two_of_five(p4_BJ4: Tensor) -> Tensor:
    """2 + 2 of five jets with the smallest mass asymmetry, one left out, as an assignment (B, 5)."""
    return minimum_mass_asymmetry(p4_BJ4, _all_real(p4_BJ4), leading=5, smallest=2, none=(1,))


def _all_real(p4_BJ4: Tensor) -> Tensor:
    return torch.ones(p4_BJ4.shape[:2], dtype=torch.bool)


def _in_batches(p4_BJ4: Tensor, size: int) -> None:
    for part_BJ4 in p4_BJ4.split(size):
        direct.by_batch(part_BJ4)


# What is slow gets fewer events, so that all sides take about as long.
CASES = {
    "event by event": Case(5, 0.02, lambda p4_BJ4: direct.by_event(p4_BJ4.numpy())),
    "direct, batches of 2": Case(5, 0.02, lambda p4_BJ4: _in_batches(p4_BJ4, PUBLISHED_BATCH)),
    "direct, batches of 8192": Case(5, 1.0, lambda p4_BJ4: _in_batches(p4_BJ4, LARGE_BATCH)),
    "ours": Case(5, 1.0, two_of_five),
    "ours, 8 jets": Case(8, 0.25, lambda p4_BJ4: asymmetry_8(p4_BJ4, torch.ones(p4_BJ4.shape[:2], dtype=torch.bool))),
    "ours, 12 jets": Case(
        12, 0.02, lambda p4_BJ4: asymmetry_12(p4_BJ4, torch.ones(p4_BJ4.shape[:2], dtype=torch.bool))
    ),
}


def grouping(events: int, rounds: int, say: Say) -> Result:
    """Events per CPU-second over those of the direct ways, and of 8 and 12 jets."""
    played: dict[str, list[Spent]] = {name: [] for name in CASES}
    with Player(passes, events) as player:
        player.play()
        for number in range(rounds):
            for _ in CASES:
                name, spent = player.play()
                played[name].append(spent)
                say(f"round {number + 1} of {rounds}: {name}, {_rates(name, events, played)[-1]:,.0f} events/CPU-s")
    rate = {name: _rates(name, events, played) for name in CASES}
    figures = [
        *(Figure(f"2 + 2 of 5, over {what}",
                 [ours / theirs for ours, theirs in zip(rate["ours"], rate[name], strict=True)], at_least=target)
          for name, what, target in (("direct, batches of 2", "the published head, 2 events at a time", 50.0),
                                     ("direct, batches of 8192", "the published head, 8192 at a time", None),
                                     ("event by event", "a plain loop over events", None))),
        *(Figure(name, rate[name], "events/CPU-s") for name in CASES),
    ]  # fmt: skip
    sizes = {"events": {name: _count(name, events) for name in CASES}, "rounds": rounds, "seed": direct.SEED}
    return Result("grouping", figures, sizes, {name: [one._asdict() for one in of] for name, of in played.items()})


def passes(events: int) -> Iterator[str]:
    """Every side in turn, there and back, and which it was; the first thing is a short one of each, for its tables."""
    made = {name: torch.from_numpy(direct.made_up(_count(name, events), case.jets)) for name, case in CASES.items()}
    for name, case in CASES.items():
        case.group(made[name][:64])
    yield "all are warm"
    order = list(CASES)
    while True:
        for name in order:
            CASES[name].group(made[name])
            yield name
        order.reverse()


def _count(name: str, events: int) -> int:
    return max(64, int(events * CASES[name].share))


def _rates(name: str, events: int, played: dict[str, list[Spent]]) -> list[float]:
    return [_count(name, events) / max(one.own_s, 1e-9) for one in played[name]]
