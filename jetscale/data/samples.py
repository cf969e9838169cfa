"""Samples of samples: several merged into one, or one split into parts; the events stay as they are.

What is made keeps where it comes from: `made_by.of` has name, fingerprint, counts, cuts and `made_by` of what went in.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from jetscale.config import digest
from jetscale.data.ids import all_ids, places, repeats
from jetscale.data.provenance import Root, described, roots
from jetscale.data.ragged import take
from jetscale.data.shards import ROWS, check_place, is_done, shards_in, working
from jetscale.data.split import part_of
from jetscale.errors import DataError
from jetscale.events import Events
from jetscale.schema import Column, Schema
from jetscale.stream import PARTS, Part, Split

MUST_AGREE = ("dtype", "of", "unit", "missing")


def merge(samples: Sequence[Events], out: Path, *, name: str | None = None, common: bool = False,
          rows: int = ROWS) -> Events:  # fmt: skip
    """One sample of all events, sample after sample, in shards of `rows`; weights and ids stay as they are.

    `common` keeps only the columns that all have.

    Raises:
        ConfigError: `out` holds what another command made.
        DataError: columns that differ, an event id that stands twice.
    """
    deque(merging(samples, out, name=name, common=common, rows=rows), maxlen=0)
    return Events.open(out)


def merging(samples: Sequence[Events], out: Path, *, name: str | None = None, common: bool = False,
            rows: int = ROWS) -> Iterator[int]:  # fmt: skip
    """The same step by step: how many events are done so far."""
    check_place(samples, out)
    schema = _agreed(samples, common)
    name = name or out.resolve().name
    work = working("merge", {"name": name, "columns": list(schema.names), "events_per_shard": rows}, samples)
    if is_done(out, work):
        yield sum(map(len, samples))
        return
    _refuse_twice(samples)
    done = 0
    with shards_in(out, schema, work, rows) as shards:
        for events in samples:
            for shard in events.manifest.shards:
                for table in events.pieces(schema.names, shard):
                    shards.add(table)
                    done += table.num_rows
                    yield done
        first, *rest = (events.manifest.cuts for events in samples)
        cuts = first if all(other == first for other in rest) else {}
        shards.finish(name, cuts, {"of": [described(events) for events in samples]})


def split(events: Events, out: Path, parts: Split, *, rows: int = ROWS) -> dict[Part, Events]:
    """A sample for each part, `out`/train and so on: the very events that a stream with this split would take.

    Parts with the share 0 get none.

    Raises:
        ConfigError: the folders hold what another command made.
    """
    deque(splitting(events, out, parts, rows=rows), maxlen=0)
    return {part: Events.open(out / part) for part in wanted_parts(parts)}


def splitting(events: Events, out: Path, parts: Split, *, rows: int = ROWS) -> Iterator[int]:
    """The same step by step: how many events are done so far."""
    works = {part: working("split", {"split": parts.values(), "part": part, "events_per_shard": rows}, [events])
             for part in wanted_parts(parts)}  # fmt: skip
    for part in works:
        check_place([events], out / part)
    missing = [part for part, work in works.items() if not is_done(out / part, work)]
    if not missing:
        yield len(events)
        return
    done = 0
    with ExitStack() as stack:
        into = {part: stack.enter_context(shards_in(out / part, events.schema, works[part], rows)) for part in missing}
        for shard in events.manifest.shards:
            for table in events.pieces(events.schema.names, shard):
                part_B = part_of(table["event_id"].to_numpy(), parts)
                for part, shards in into.items():
                    shards.add(take(table, np.flatnonzero(part_B == PARTS.index(part))))
                done += table.num_rows
                yield done
        for part, shards in into.items():
            shards.finish(f"{events.name}-{part}", events.manifest.cuts, {"of": [described(events)]})


def wanted_parts(parts: Split) -> list[Part]:
    """The parts that are not empty on purpose."""
    return [part for part in PARTS if getattr(parts, part) > 0]


def _agreed(samples: Sequence[Events], common: bool) -> Schema:
    """The columns of all samples, in the order of the first."""
    names = list(dict.fromkeys(name for events in samples for name in events.schema.names))
    lacking = {name: [events for events in samples if name not in events.schema] for name in names}
    for name, without in lacking.items():
        if without and not common:
            raise DataError(f"column {name!r} is missing, and others have it", where=str(without[0].path),
                            cure="keep the columns that all have, with --common, or make this sample anew with "
                            "it")  # fmt: skip
    kept = [name for name, without in lacking.items() if not without]
    return Schema(columns=tuple(_alike([events.schema[name] for events in samples], samples) for name in kept))


def _alike(columns: Sequence[Column], samples: Sequence[Events]) -> Column:
    """One column that has room for what all hold."""
    first = columns[0]
    for other, events in zip(columns[1:], samples[1:], strict=True):
        for key in MUST_AGREE:
            was, now = getattr(first, key), getattr(other, key)
            if was != now and not (first.name == "weight" and key != "dtype"):
                raise DataError(f"column {first.name!r} has {key} {now!r} here, and {was!r} in {samples[0].path}",
                                where=str(events.path), cure="make one of the samples anew")  # fmt: skip
    low, high = [c.low for c in columns], [c.high for c in columns]
    unit = first.unit if all(other.unit == first.unit for other in columns) else ""  # of weights: `doubts` tells
    return first.but(unit=unit, low=None if None in low else min(n for n in low if n is not None),
                     high=None if None in high else max(n for n in high if n is not None))  # fmt: skip


def _refuse_twice(samples: Sequence[Events]) -> None:
    """Two events of one id are one event twice, or two samples whose ids were only counted through."""
    again = repeats(all_ids(samples))
    if not len(again):
        return
    first, second, *_ = places(samples, int(again[0]))
    raise DataError(f"{len(again)} event ids stand more than once: {again[0]} in {first} and in {second}",
                    where="merge", cure="leave out the sample that has the same events again; if they are other "
                    "events, write them anew with an event_id column of their own")  # fmt: skip


def doubts(samples: Sequence[Events]) -> list[str]:
    """What may be wrong with the weights of a merged sample, in words: it keeps them as they are."""
    units = {events.schema["weight"].unit or "no unit" for events in samples}
    said = [f"the weights have different units: {', '.join(sorted(units))}"] if len(units) > 1 else []
    # Parts of one sample share its cross section; samples of their own have all of it each.
    whole: dict[str, dict[str, Path]] = defaultdict(dict)
    for events in samples:
        for root in roots(events):
            if key := _physics(root):
                whole[key].setdefault(root.fingerprint, events.path)
    for found in whole.values():
        places = list(dict.fromkeys(found.values()))
        if len(places) > 1:
            said.append(f"{', '.join(map(str, places))} are each normalised to the whole cross section of one process: "
                        "together they count it so many times; make them in one job, or scale the weights "
                        "(stream.samples.NAME.weight)")  # fmt: skip
    return said


def _physics(root: Root) -> str | None:
    """What names the process to whose cross section a sample is normalised, None where it is not known to be."""
    job = root.made_by.get("job")
    if not isinstance(job, dict):
        return None
    if root.made_by.get("command") == "generate":
        size = ("name", "events", "events_per_shard", "seed")
        return digest({key: value for key, value in job.items() if key not in size})
    cross_section_pb = job.get("cross_section_pb")
    return f"{job.get('name')} {cross_section_pb}" if cross_section_pb else None
