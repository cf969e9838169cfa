"""Where a sample comes from: what its manifest keeps of it, read back through merges, skims and splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from jetscale.config import Values
from jetscale.events import Events

RESHAPED = ("merge", "skim", "split")


class Root(NamedTuple):
    """A sample that was made of no other sample."""

    name: str
    fingerprint: str
    made_by: Values


def described(events: Events) -> Values:
    """What a sample that is made of this one keeps of it."""
    manifest = events.manifest
    return {"name": manifest.name, "fingerprint": events.fingerprint, "rows": manifest.rows,
            "sum_weight": manifest.sum_weight, "cuts": manifest.cuts, "made_by": manifest.made_by}  # fmt: skip


def roots(events: Events) -> Iterator[Root]:
    """The samples at the beginning of all, each as often as it went in."""
    yield from _roots(Root(events.name, events.fingerprint, events.manifest.made_by))


def _roots(one: Root) -> Iterator[Root]:
    before = parents(one.made_by)
    if not before:
        yield one
    for other in before:
        yield from _roots(Root(other["name"], other["fingerprint"], other["made_by"]))


def parents(made_by: Mapping[str, Any]) -> list[Values]:
    """What a merge, a skim or a split was made of, as `described`."""
    return list(made_by["of"]) if made_by.get("command") in RESHAPED else []


def origins(events: Events) -> frozenset[str]:
    """The origin of a sample, and those of all samples whose events it has: equal ones may share events."""
    return frozenset([events.origin, *_before(events.manifest.made_by)])


def _before(made_by: Values) -> Iterator[str]:
    for one in parents(made_by):
        yield str(one["made_by"].get("sample", one["fingerprint"]))
        yield from _before(one["made_by"])


def within(events: Events) -> list[Values]:
    """The parts of splits that all its events lie in, as `{split, part}`; of what was merged nothing is said."""
    found, made_by = [], events.manifest.made_by
    while len(before := parents(made_by)) == 1:
        if made_by["command"] == "split":
            found.append({"split": made_by["settings"]["split"], "part": made_by["settings"]["part"]})
        made_by = before[0]["made_by"]
    return found


def family(events: Events) -> Values:
    """With which samples this one may share events, as `origins`, and which of theirs alone it has, as `within`."""
    return {"origins": sorted(origins(events)), "within": within(events)}


def rejected(made_by: Mapping[str, Any]) -> Counter[str]:
    """Events that were left out when this sample was made, by reason; those of earlier steps are not among them."""
    return Counter(made_by.get("rejected", {}))


def bad_files(made_by: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Files that could not be converted: what is wrong with each, and what to do about it."""
    found = {}
    for file, why in made_by.get("bad", {}).items():
        what, _, cure = str(why).removeprefix(f"{file}: ").partition("\n  what to do: ")
        found[file] = (what, cure or "mend it, and run jetscale ingest again")
    return found
