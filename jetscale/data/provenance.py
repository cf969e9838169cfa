"""Where a sample comes from: what its manifest keeps of it, read back through merges, skims and splits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from jetscale.config import Values
from jetscale.events import Events, Manifest

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


def miscounts(manifest: Manifest) -> Iterator[str]:
    """Sums that do not come out: all that went in must be in the sample, or counted under the reason why it is not."""
    made_by = manifest.made_by
    if before := parents(made_by):
        yield from _of_parents(manifest, sum(one["rows"] for one in before))
        size, kept = math.fsum(abs(one["sum_weight"]) for one in before), math.fsum(one["sum_weight"] for one in before)
        if made_by["command"] == "merge" and abs(kept - manifest.sum_weight) > 1e-9 * size:
            yield f"weights of {kept:.9g} were merged, and the shards have {manifest.sum_weight:.9g}"
    elif made_by.get("command") == "ingest" and "files" in made_by:
        rows = {shard.file: shard.rows for shard in manifest.shards}
        yield from _of_entries("all files", made_by, manifest.rows)
        for one in made_by["files"]:
            yield from _of_entries(one["file"], one, sum(rows.get(name, 0) for name in one["shards"]))
        if (total := sum(one["entries"] for one in made_by["files"])) != made_by["entries"]:
            yield f"all files: {made_by['entries']} entries, and one by one {total}"


def _of_parents(manifest: Manifest, before: int) -> Iterator[str]:
    rows, out = manifest.rows, rejected(manifest.made_by).total()
    if manifest.made_by["command"] == "split" and rows <= before:
        return
    if rows + out != before:
        yield f"{before} events went in, {out} were left out, and the shards have {rows}"


def _of_entries(where: str, counts: Values, rows: int) -> Iterator[str]:
    entries, kept, out = counts["entries"], counts["kept"], sum(counts["rejected"].values())
    if entries != kept + out:
        yield f"{where}: {entries} entries are not {kept} kept and {out} rejected"
    if kept != rows:
        yield f"{where}: {kept} entries were kept, and the shards have {rows}"
