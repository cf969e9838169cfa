"""The files of a sample before any is converted: what each holds, and what they have in common."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jetscale.config import Config, digest
from jetscale.data.formats.open import entered
from jetscale.data.formats.reader import Look
from jetscale.data.ingest.files import Stamp, stamp
from jetscale.data.ingest.job import Ingest, Map
from jetscale.data.ingest.remote import is_url
from jetscale.data.work import each, said
from jetscale.errors import ConfigError
from jetscale.schema import Column, Schema

MEMORY = "_looks.jsonl"
PER_FB = 1000.0  # 1 / fb in 1 / pb


class Seen(Config):
    """A file that was looked at; `key` names its content in event ids, and is unlike that of any other file."""

    file: str
    stamp: Stamp
    look: Look

    @property
    def key(self) -> str:
        return self.look.key


@dataclass(frozen=True)
class Together:
    """Columns and weights that all files give, those that none has, and why some files cannot be of the sample."""

    columns: Schema
    weights: tuple[str, ...]
    absent: tuple[str, ...]
    bad: dict[str, str]


def look(how: Map, file: str, known: Seen | None) -> Seen:
    """What a file holds; nothing is read of one that is as it was.

    Raises:
        DataError: as `Reader.look`.
    """
    now = stamp(file, known.stamp if known else None)
    if known and known.stamp.hash == now.hash:
        return Seen(file=file, stamp=now, look=known.look)
    with entered(file, how, now.hash) as source:
        return Seen(file=file, stamp=now, look=source.look())


def look_at(files: Sequence[str], how: Map, out: Path, *, here: bool) -> Iterator[tuple[str, Seen | str]]:
    """Every file as `look` sees it, or why it cannot be read. What was seen is remembered in the folder."""
    name = digest(how.values())
    known = remembered(out, how)
    tasks = {file: (file, known.get(file)) for file in files}
    with (out / MEMORY).open("a", encoding="utf-8") as memory:
        for file, result in each(look, how, tasks, here=here):
            if isinstance(result, Exception):
                yield file, said(result, file)
                continue
            if result != known.get(file):
                memory.write(json.dumps({"map": name, "seen": result.values()}) + "\n")
                memory.flush()
            yield file, result


def remembered(out: Path, how: Map) -> dict[str, Seen]:
    """What was seen with this map; a line that is damaged is passed over."""
    name, found = digest(how.values()), dict[str, Seen]()
    if not (out / MEMORY).is_file():
        return found
    for line in (out / MEMORY).read_bytes().splitlines():
        try:
            values = json.loads(line)
            if values["map"] == name:
                seen = Seen.model_validate(values["seen"])
                found[seen.file] = seen
        except (ValueError, KeyError, TypeError):
            continue
    return found


def distinct(seen: Sequence[Seen]) -> tuple[list[Seen], dict[str, str]]:
    """The files with different content, in order, and for the others which file holds the same events.

    Keys that agree by chance in the bits that event ids have are told apart by the content's hash.
    """
    kept: list[Seen] = []
    bad: dict[str, str] = {}
    contents: dict[str, str] = {}
    keys: dict[int, str] = {}
    for one in seen:
        content = one.stamp.hash if not is_url(one.file) else one.look.key
        twin = contents.get(content) or contents.get(one.look.key)
        if twin:
            bad[one.file] = f"{one.file}: holds the same events as {twin}\n  what to do: give one of them"
            continue
        contents |= {content: one.file, one.look.key: one.file}
        salted = one
        while _bits(salted.key) in keys:
            fresh = hashlib.sha256(f"{salted.key} {one.stamp.hash}".encode()).hexdigest()[:16]
            salted = one.but(look=one.look.but(key=fresh).values())
        keys[_bits(salted.key)] = one.file
        kept.append(salted)
    return kept, bad


def _bits(key: str) -> int:
    from jetscale.data.ingest.convert import KEY_BITS

    return int(key, 16) & ((1 << KEY_BITS) - 1)


def together(seen: Sequence[Seen], how: Map) -> Together:
    """What the files have in common.

    Where some lack a column that has no `missing`, or a weight, the fewer are unfit; types of columns are widened.
    """
    bad: dict[str, str] = {}
    for column in {column.name: column for one in seen for column in one.look.columns.each()}.values():
        if column.missing is None:
            having = [one.file for one in seen if column.name in one.look.columns]
            cure = "give it a `missing` in the map, or take it out of the map"
            _unfit(f"column {column.name!r}{_branch(column.name, how)}", having, seen, cure, bad)
    for name in dict.fromkeys(weight for one in seen for weight in one.look.absent_weights):
        having = [one.file for one in seen if name not in one.look.absent_weights]
        _unfit(f"{name!r}, of the weights", having, seen, "take it out of the map", bad)
    good = [one.look for one in seen if one.file not in bad]
    found: dict[str, list[Column]] = {}
    for look in good:
        for column in look.columns.each():
            found.setdefault(column.name, []).append(column)
    weights = tuple(dict.fromkeys(weight for look in good for weight in look.weights))
    every = [{*look.absent, *look.absent_weights} for look in good]
    absent = tuple(sorted(set.intersection(*every))) if every else ()
    return Together(Schema(columns=tuple(_wide(columns) for columns in found.values())), weights, absent, bad)


def _branch(name: str, how: Map) -> str:
    for collection, columns in how.columns.items():
        for short, branch in columns.items():
            if name in (short, f"{collection}_{short}"):
                return f" (branch {' or '.join(map(repr, branch.branch))})"
    return ""


def _unfit(what: str, having: Sequence[str], seen: Sequence[Seen], cure: str, bad: dict[str, str]) -> None:
    """Of the files that have something and those that lack it, the fewer are bad; of as many, those that lack it."""
    lacking = [one.file for one in seen if one.file not in set(having)]
    if len(lacking) <= len(having):
        for file in lacking:
            said = f"{file}: lacks {what}, which {len(having)} of {len(seen)} files have, as {having[0]}"
            bad.setdefault(file, f"{said}\n  what to do: {cure}")
        return
    for file in having:
        said = f"{file}: has {what}, which {len(lacking)} of {len(seen)} files lack, as {lacking[0]}"
        bad.setdefault(file, f"{said}\n  what to do: {cure}; or convert the two kinds of files apart")


def _wide(columns: Sequence[Column]) -> Column:
    """A column that holds what all of them hold."""
    wide = np.result_type(*{column.dtype for column in columns})
    kinds = Counter(column.dtype for column in columns)
    return columns[0] if len(kinds) == 1 else columns[0].but(dtype=str(wide))


def scale_of(job: Ingest, seen: Sequence[Seen]) -> float:
    """What every weight is multiplied by, so that all generated events sum to the cross section.

    Raises:
        ConfigError: the weights sum to nothing.
    """
    if job.cross_section_pb is None:
        return 1.0
    found = [one.look.entries if one.look.sum_weight is None else one.look.sum_weight for one in seen]
    total = job.sum_of_weights or math.fsum(found)
    if not total > 0.0:
        raise ConfigError(f"the generator's weights sum to {total:g}", where="weight.generator",
                          cure="name the right branch in the map, or give sum_of_weights")  # fmt: skip
    return job.cross_section_pb * (PER_FB * job.luminosity_fb if job.luminosity_fb else 1.0) / total
