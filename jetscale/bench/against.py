"""Taggers against weaver-core, from the same ROOT files: whole training, step alone, feed alone, and memory."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

from jetscale.bench.ingest import convert
from jetscale.bench.jetclass import FILES, MEAN, Size, jetclass
from jetscale.bench.measure import BenchError, Peak, Player, Round
from jetscale.bench.ours import job, ours
from jetscale.bench.result import Figure, Result, Say
from jetscale.bench.weaver import theirs
from jetscale.config import Values
from jetscale.errors import ConfigError

System = Literal["particlenet", "particle_transformer"]
Precision = Literal["fp32", "bf16"]
WEAVER, FIRST = "weaver", "ours, fp32"
PARTS = ("training", "step", "feed")
NAMES = {"training": "training", "step": "step alone", "feed": "feed alone"}
TARGETS = {("particlenet", "training", "fp32"): 4.0, ("particlenet", "training", "bf16"): 10.0,
           ("particle_transformer", "training", "fp32"): 2.5}  # fmt: skip
FEED = 8.0
CLOSE = 1e-4  # of the mean of a feature, which single precision makes differ
Played = Mapping[str, Mapping[str, Sequence[Round]]]


class Side(NamedTuple):
    """What one process plays: a generator of its own, and the parts that it goes through in turn."""

    make: Callable[..., Iterator[Values]]
    arguments: tuple[Any, ...]
    parts: tuple[str, ...]


def against(folder: Path, system: System, size: Size, say: Say, precisions: Sequence[Precision] = ("fp32", "bf16")
            ) -> Result:  # fmt: skip
    """Jets per second of both sides and how many times weaver's ours are.

    Raises:
        ConfigError: weaver-core is not installed.
        BenchError: the two sides have not read the same, or have networks of different size.
    """
    check_installed()
    size = whole(size)
    files, sample = jetclass(folder, size.jets), folder / f"sample-{size.jets}"
    say(f"{size.jets} made-up jets of {MEAN:g} particles, {sum(map(_bytes, files)) / 1e6:.0f} MB of ROOT")
    convert(job(files), sample)
    with TemporaryDirectory(dir=folder) as place, ExitStack() as stack:
        sides = _sides(system, files, sample, Path(place), size, precisions)
        players = {name: stack.enter_context(Player(side.make, *side.arguments)) for name, side in sides.items()}
        begun, peaks = {}, {}
        for name, player in players.items():
            with Peak(player.tree.root) as peak:
                begun[name] = player.play().said
            peaks[name] = peak.most
            say(f"{name}: {begun[name]['parameters']:,} parameters, {peak.most / 1e6:,.0f} MB at most")
        read = {name: player.play().said for name, player in players.items()}
        compare(begun, read)
        played = _played(players, sides, size.rounds, say)
    sizes = {"system": system, **size._asdict(), "weaver-core": importlib.metadata.version("weaver-core"),
             "parameters": {name: one["parameters"] for name, one in begun.items()},
             "bytes": {"ROOT": sum(map(_bytes, files)), "Parquet": sum(map(_bytes, sample.glob("*.parquet")))},
             "read": read, "peak_bytes": peaks}  # fmt: skip
    rounds = {f"{name}, {part}": [{**one.spent._asdict(), **one.said} for one in of]
              for name, parts in played.items() for part, of in parts.items()}  # fmt: skip
    return Result(f"train {system} --against weaver", figures(system, played, peaks), sizes, rounds)


def check_installed() -> None:
    """Refuse what cannot be compared with.

    Raises:
        ConfigError: weaver-core is not installed.
    """
    if importlib.util.find_spec("weaver") is None:
        raise ConfigError("weaver-core is not installed", where="--against weaver",
                          cure="pip install -c cluster/constraints.txt '.[weaver]' in the clone")  # fmt: skip


def whole(size: Size) -> Size:
    """As many jets as fill ten files and whole batches, of which weaver leaves out a last short one."""
    unit = math.lcm(len(FILES), size.batch)
    return size._replace(jets=max(1, round(size.jets / unit)) * unit)


def _sides(system: System, files: Sequence[Path], sample: Path, place: Path, size: Size,
           precisions: Sequence[Precision]) -> dict[str, Side]:  # fmt: skip
    sides = {WEAVER: Side(theirs, (system, files, place, size, PARTS), PARTS)}
    for precision in precisions:
        parts = (*PARTS, "conversion") if not sides.keys() - {WEAVER} else PARTS[:2]
        out = place / precision / "run"
        sides[f"ours, {precision}"] = Side(ours, (system, files, sample, out, size, parts, precision), parts)
    return sides


def compare(begun: Mapping[str, Values], read: Mapping[str, Values]) -> None:
    """Like with like: as many parameters, jets and particles, whose features have the same means."""
    for name, one in read.items():
        theirs, found = begun[WEAVER]["parameters"], begun[name]["parameters"]
        if theirs != found:
            raise BenchError(f"its network has {found} parameters, weaver's {theirs}", where=name)
        for what in ("jets", "particles"):
            if one[what] != read[WEAVER][what]:
                raise BenchError(f"has read {one[what]} {what}, weaver {read[WEAVER][what]}", where=name)
        for number, (a, b) in enumerate(zip(one["sums"], read[WEAVER]["sums"], strict=True)):
            if abs(a - b) > CLOSE * one["particles"]:
                raise BenchError(f"the sum of feature {number} is {a:g}, weaver's {b:g}", where=name)


def _played(players: Mapping[str, Player], sides: Mapping[str, Side], rounds: int, say: Say) -> Played:
    """Part after part, in which all sides have their turn."""
    played: dict[str, dict[str, list[Round]]] = {name: {} for name in sides}
    for number in range(rounds):
        for part in (*PARTS, "conversion"):
            having = [name for name, side in sides.items() if part in side.parts]
            for name in having[:: -1 if number % 2 else 1]:
                said, spent = one = players[name].play()
                played[name].setdefault(part, []).append(one)
                say(f"round {number + 1} of {rounds}: {part}, {name}, {said['jets'] / spent.wall_s:,.0f} jets/s")
    return played


def figures(system: str, played: Played, peaks: Mapping[str, int]) -> list[Figure]:
    """Ratios to weaver, what both sides do in a second, and the memory that they hold."""
    found = []
    for part in PARTS:
        for name in [name for name, parts in played.items() if name != WEAVER and part in parts]:
            precision = name.rpartition(" ")[2]
            target = FEED if part == "feed" else TARGETS.get((system, part, precision))
            what = NAMES[part] if part == "feed" else f"{NAMES[part]}, {precision}"
            for per in ("second", "CPU-second"):
                pairs = zip(_pace(played[name][part], per), _pace(played[WEAVER][part], per), strict=True)
                found.append(Figure(f"{what}: times weaver's, per {per}", [a / b for a, b in pairs], at_least=target))
    for part in (*PARTS, "conversion"):
        for name in [name for name, parts in played.items() if part in parts]:
            for per, unit in (("second", "jets/s"), ("CPU-second", "jets/CPU-s")):
                found.append(Figure(f"{NAMES.get(part, part)}, {name}", _pace(played[name][part], per), unit))
    found += _paid(played)
    return found + [Figure(f"peak memory of training, {name}", [one / 1e6], "MB") for name, one in peaks.items()]


def _paid(played: Played) -> list[Figure]:
    """After how many passes over the data the conversion has cost less than it saved."""
    mine = next(parts for parts in played.values() if "conversion" in parts)
    saved = [a.spent.all_s - b.spent.all_s for a, b in zip(played[WEAVER]["feed"], mine["feed"], strict=True)]
    if min(saved) <= 0:  # else it never has
        return []
    paid = [one.spent.all_s / seconds for one, seconds in zip(mine["conversion"], saved, strict=True)]
    return [Figure("conversion has paid after", paid, "passes")]


def _pace(rounds: Sequence[Round], per: str) -> list[float]:
    """Jets per second of the wall, or of the CPU with all processes."""
    return [one.said["jets"] / (one.spent.wall_s if per == "second" else one.spent.all_s) for one in rounds]


def _bytes(file: Path) -> int:
    return file.stat().st_size
