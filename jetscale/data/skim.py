"""A skim: the events of a sample that pass cuts on its columns, and on columns that are derived from them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field, SerializeAsAny, ValidationInfo, field_validator

from jetscale.config import Config, Values, build, digest, merge, parse_set, read_yaml
from jetscale.data.provenance import described
from jetscale.data.ragged import take
from jetscale.data.rows import NOT_TRAINED, Rows
from jetscale.data.shards import ROWS, check_place, is_done, shards_in, working
from jetscale.derive import Derived, Ends, Fitted, Range, absolute, content, within
from jetscale.errors import ConfigError, nearest
from jetscale.events import Events
from jetscale.kinds import derived
from jetscale.schema import Schema

ALWAYS = ("event_id", "weight")


class Skim(Config):
    """Which events and columns are kept; what stands under `skim:` in its YAML file.

    Columns are derived first, and can be cut on; without `columns` all are kept. Cuts are made in their order, so that
    an event that fails several is counted under the first.
    """

    derive: dict[str, SerializeAsAny[Derived]] = {}
    select: dict[str, Range] = Field({}, description="events that are kept: columns in [low, high)")
    columns: tuple[str, ...] | None = Field(None, description="that are kept, beside event_id and weight")
    events_per_shard: int = Field(ROWS, gt=0)

    @field_validator("derive", mode="before")
    @classmethod
    def _kinds(cls, values: Any, given: ValidationInfo) -> Any:
        where = (given.context or {}).get("where", "skim")
        if not isinstance(values, dict):
            return values
        return {name: derived({**one, "by": absolute(one.get("by"))}, where, f"derive.{name}")
                if isinstance(one, dict) else one for name, one in values.items()}  # fmt: skip


def load(path: Path | None, sets: Sequence[str] = (), select: Sequence[str] = (), derive: Sequence[str] = (),
         columns: Sequence[str] = ()) -> Skim:  # fmt: skip
    """The skim of a YAML file, of options as they are typed (`ht=1200:`, `ht=Sum:jet_pt`), or of both; options win.

    Raises:
        ConfigError: not a `skim:` file, an unknown key, an option that cannot be meant.
    """
    where = str(path) if path else "skim"
    given: Values = {"select": _once("--select", map(_cut, select), "write met=10:20 for both ends"),
                     "derive": _once("--derive", map(_made, derive), "give each column another name")}  # fmt: skip
    if columns:
        given["columns"] = [name.strip() for some in columns for name in some.split(",")]
    layers = [(where, _under_skim(path))] if path else []
    layers += [("command line", given), *(("--set", parse_set(one)) for one in sets)]
    return build(Skim, merge(layers)[0], where)


def _once(where: str, given: Iterable[tuple[str, Any]], cure: str) -> Values:
    """Options by name; of two with one name none would be meant more than the other."""
    found: Values = {}
    for name, value in given:
        if name in found:
            raise ConfigError(f"{name!r} stands twice", where=where, cure=cure)
        found[name] = value
    return found


def _under_skim(path: Path) -> Values:
    values = read_yaml(path)
    if list(values) != ["skim"] or not isinstance(values["skim"], dict):
        raise ConfigError("does not hold the keys of a skim", where=str(path),
                          cure="put them under the one top key skim:")  # fmt: skip
    inside: Values = values["skim"]
    return inside


def _cut(text: str) -> tuple[str, list[float | None]]:
    name, _, ends = text.partition("=")
    low, colon, high = ends.partition(":")
    try:
        found = [float(end) if end.strip() else None for end in (low, high)]
    except ValueError:
        colon = ""
    if not (colon and name.strip()) or found == [None, None]:
        raise ConfigError(f"{text!r} is not NAME=LOW:HIGH", where="--select",
                          cure="write ht=1200: for 1200 and above, ht=:3000 for below it, n_jet=6:7 for 6")  # fmt: skip
    return name.strip(), found


def _made(text: str) -> tuple[str, Values]:
    name, _, how = text.partition("=")
    by, _, of = how.rpartition(":")
    if not (name.strip() and by and of):
        raise ConfigError(f"{text!r} is not NAME=KIND:COLUMN", where="--derive",
                          cure="write ht=Sum:jet_pt; what has more settings in a YAML file or with --set")  # fmt: skip
    return name.strip(), {"by": by, "of": of}


def skim(events: Events, out: Path, how: Skim) -> Events:
    """Write the events of a sample that pass; `made_by.rejected` counts the others by reason.

    Raises:
        ConfigError: a column that cannot be derived, cut on or kept; `out` holds what another command made.
    """
    deque(skimming(events, out, how), maxlen=0)
    return Events.open(out)


def skimming(events: Events, out: Path, how: Skim) -> Iterator[int]:
    """The same step by step: how many events have been looked at so far."""
    check_place([events], out)
    rows = _rows(events, how)
    schema = _kept(rows.schema, how)
    settings = {**how.values(), "derive": {name: _content(one) for name, one in how.derive.items()}}
    work = working("skim", {"name": out.resolve().name, **settings}, [events])
    if is_done(out, work):
        yield len(events)
        return
    wanted, rejected, seen = tuple(dict.fromkeys((*schema.names, *how.select))), Counter[str](), 0
    with shards_in(out, schema, work, how.events_per_shard) as shards:
        for shard in events.manifest.shards:
            for table in events.pieces(rows.raw(wanted), shard):
                seen += table.num_rows
                shards.add(_passing(rows.make(table, wanted, NOT_TRAINED), how, rejected))
                yield seen
        cuts = [*events.manifest.cuts.get("skim", []), how.values()["select"]]
        shards.finish(out.resolve().name, {**events.manifest.cuts, "skim": cuts},
                      {"of": [described(events)], "rejected": dict(rejected)})  # fmt: skip


def _rows(events: Events, how: Skim) -> Rows:
    """How the columns are made; all that cannot be is refused here, before anything is read."""
    for name, one in how.derive.items():
        if one.drawn or isinstance(one, Fitted):
            raise ConfigError(f"by: {one.by} needs a training", where=f"derive.{name}",
                              cure="derive it in the stream of a training")  # fmt: skip
        if name in events.schema:
            raise ConfigError(f"the sample has a column {name!r} already", where=f"derive.{name}",
                              cure="choose another name")  # fmt: skip
    rows = Rows(str(events.path), events.schema, {}, {}, dict(how.derive), None, {}, 0)
    single = [column.name for column in rows.schema.each() if not column.of]
    for name in how.select:
        if name not in single:
            what = "holds a list per event, not one number" if name in rows.schema else "is no column"
            raise ConfigError(f"{name!r} {what}", where="select", cure=nearest(name, single))
    return rows


def _kept(schema: Schema, how: Skim) -> Schema:
    for name in how.columns or ():
        if name not in schema:
            raise ConfigError(f"there is no column {name!r}", where="columns", cure=nearest(name, schema.names))
    wanted = {*schema.names} if how.columns is None else {*ALWAYS, *how.columns}
    return schema.only([name for name in schema.names if name in wanted])


def _content(one: Derived) -> Values:
    """How a column is derived; a user's own file is named by what it holds."""
    values = content(one)
    if isinstance(values["by"], list):
        text, name = values["by"]
        values["by"] = f"{name} of a file {digest(text)}"
    return values


def _passing(table: pa.Table, how: Skim, rejected: Counter[str]) -> pa.Table:
    """The rows that pass all cuts, the others counted under the first that they fail."""
    keep_B = np.ones(table.num_rows, dtype=bool)
    for name, ends in how.select.items():
        pass_B = within(table, {name: ends})
        if failed := int((keep_B & ~pass_B).sum()):
            rejected[f"{name} is not in {said(ends)}"] += failed
        keep_B &= pass_B
    return take(table, np.flatnonzero(keep_B))


def said(ends: Ends) -> str:
    """A range as it is written: [1200, inf)."""
    low, high = ends
    return f"[{'-inf' if low is None else f'{low:g}'}, {'inf' if high is None else f'{high:g}'})"
