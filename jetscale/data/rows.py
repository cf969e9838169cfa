"""From a sample's table to the rows that a task sees, and back: rename, set, derive, each.

Counting, training, fitting and scoring all go through here, so that they cannot differ.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from jetscale.data.members import counts_name, exploded, exploded_column, imploded, index_name
from jetscale.derive import Derived, Fitted
from jetscale.errors import ConfigError, DataError, nearest
from jetscale.events import Events
from jetscale.keyed import mix
from jetscale.schema import Column, Schema, flat
from jetscale.stream import Each, Source, Stream

NOT_TRAINED = -1  # the epoch of rows that are validated on, fitted or scored


class Constant(NamedTuple):
    """A column that is one number for all rows, and for all members where it is a collection's."""

    column: Column
    value: float


class Layout(NamedTuple):
    """What becomes of a sample's columns: the derived ones in the order in which they can be made.

    `early` are those that need all members of an event, and are made before these become rows.
    """

    order: tuple[str, ...]
    early: frozenset[str]
    events: dict[str, Column]
    rows: dict[str, Column]


@dataclass(frozen=True)
class Rows:
    """How the rows of a task are made of one sample's table; small, so that it can be sent anywhere.

    `own` are the sample's columns under its own names, `cast` those that the task wants as another type. With `each`
    the column `<collection>_index` is the place of a row's member in its event.
    """

    where: str
    own: Schema
    rename: Mapping[str, str]
    constants: Mapping[str, Constant]
    derive: Mapping[str, Derived]
    each: Each | None
    cast: Mapping[str, Column]
    seed: int

    @property
    def plain(self) -> bool:
        """Whether rows are the sample's own, unchanged."""
        return not (self.rename or self.constants or self.derive or self.each or self.cast)

    @property
    def schema(self) -> Schema:
        """All columns that the rows can have."""
        return Schema(columns=tuple(self.layout.rows.values()))

    @cached_property
    def layout(self) -> Layout:
        """The columns before and after events are taken apart.

        Raises:
            ConfigError: a derived column that cannot be made.
        """
        events = {self.rename.get(column.name, column.name): column for column in self.own.each()}
        events = {name: column.but(name=name) for name, column in events.items()}
        events |= {name: constant.column for name, constant in self.constants.items()}
        rows = {name: exploded_column(column, self.each) for name, column in events.items()}
        if self.each:
            _check_each(self.each, events)
            place = Column(name=index_name(self.each), dtype="int32", unit="", doc="place in the event")
            rows[place.name] = place
        early = []
        for name in (order := _order(self.derive)):
            how = self.derive[name]
            if self.each and any(one in events and events[one].of == self.each.of for one in how.lists()):
                if isinstance(how, Fitted):
                    raise ConfigError(f"is fitted to rows, and {how.lists()[0]!r} is of whole events",
                                      where=f"stream.derive.{name}", cure="fit a number of each row")  # fmt: skip
                early.append(name)
                events[name] = _column(name, how, events)
                rows[name] = exploded_column(events[name], self.each)
            else:
                rows[name] = _column(name, how, rows)
        return Layout(order, frozenset(early), events, rows)

    @property
    def id_name(self) -> str:
        """The sample's own name of the event id."""
        return next((old for old, new in self.rename.items() if new == "event_id"), "event_id")

    def raw(self, wanted: Iterable[str]) -> tuple[str, ...]:
        """The sample's columns, under its own names, that must be read for these."""
        if self.plain:
            return tuple(dict.fromkeys(wanted))
        closure = self._closure(wanted)
        names = [name for name in closure if name not in self.constants and name not in self.derive]
        names += [self._like(constant.column.of) for name, constant in self.constants.items()
                  if name in closure and constant.column.of]  # fmt: skip
        if self.each:
            present = {self.layout.events[name].of for name in names if name in self.layout.events} - {None}
            counts = [counts_name(self.each, of) for of in sorted(map(str, present))]
            names += [self._like(self.each.of), *(name for name in counts if name in self.layout.events)]
            names = [name for name in names if name != index_name(self.each)]
        old = {new: old for old, new in self.rename.items()}
        return tuple(dict.fromkeys(old.get(name, name) for name in ("event_id", *names)))

    def make(self, table: pa.Table, wanted: Iterable[str], epoch: int) -> pa.Table:
        """The rows, with the wanted columns, of a table that holds at least the columns `raw(wanted)`.

        Raises:
            DataError: a derived value that is not finite, or members that do not match their counts.
        """
        wanted = list(wanted)
        if self.plain:
            return table.select(wanted)
        closure = self._closure(wanted)
        table = table.select(self.raw(wanted))
        table = table.rename_columns([self.rename.get(name, name) for name in table.column_names])
        for name, constant in self.constants.items():
            if name in closure:
                table = _put(table, name, self._constant(table, constant))
        table = self._derived(table, closure, epoch, early=True)
        if self.each:
            table = exploded(table, self.each, self.layout.events, self.where)
        table = self._derived(table, closure, epoch, early=False)
        columns = [self.cast.get(name, self.layout.rows[name]) for name in wanted]
        try:
            return table.select(wanted).cast(Schema(columns=tuple(columns)).arrow)
        except pa.ArrowException as problem:
            raise DataError(f"a column does not become what the task wants: {problem}", where=self.where,
                            cure="write it with the task's type") from None  # fmt: skip

    def ancestors(self, name: str) -> list[str]:
        """The derived columns that a column is made of, itself included, in the order in which they are made."""
        closure = self._closure([name])
        return [one for one in self.layout.order if one in closure]

    def back(self, table: pa.Table, scores: pa.Table, outputs: Schema) -> pa.Table:
        """Scores of the rows of a table as columns of its events, (B,): with `each` they become lists again.

        Members that are no rows get the column's `missing`.
        """
        if not self.each:
            return scores
        table = table.rename_columns([self.rename.get(name, name) for name in table.column_names])
        return imploded(table, scores, outputs, self.each, self.layout.events)

    def back_schema(self, outputs: Schema) -> Schema:
        """What `back` gives.

        Raises:
            ConfigError: not every member is a row, and an output does not say what stands for the others.
        """
        if not self.each:
            return outputs
        for column in outputs.each():
            if self.each.first and column.missing is None:
                raise ConfigError(f"the output {column.name!r} has no value for members after the first "
                                  f"{self.each.first}", where="stream.each.first",
                                  cure="give the task's column a `missing`, or leave first out")  # fmt: skip
        return Schema(columns=tuple(c if c.of else c.but(of=self.each.of) for c in outputs.each()))

    def _closure(self, wanted: Iterable[str]) -> dict[str, None]:
        return _closure(wanted, self.derive)

    def _like(self, collection: str | None) -> str:
        """A column of the sample that is as long as the collection."""
        return next(name for name, column in self.layout.events.items()
                    if column.of == collection and name not in self.constants and name not in self.derive)  # fmt: skip

    def _constant(self, table: pa.Table, constant: Constant) -> pa.Array:
        column = constant.column
        if not column.of:
            return pa.array(np.full(table.num_rows, constant.value), pa.float64()).cast(column.arrow)
        like = table[self._like(column.of)].combine_chunks()
        ends = np.cumsum(np.concatenate([[0], pc.list_value_length(like)])).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(ends), pa.array(np.full(ends[-1], constant.value))).cast(column.arrow)

    def _derived(self, table: pa.Table, closure: Mapping[str, None], epoch: int, *, early: bool) -> pa.Table:
        columns = self.layout.events if early else self.layout.rows
        for name in self.layout.order:
            if name in closure and (name in self.layout.early) == early:
                made = self.derive[name].make(table, self._keys(name, table, epoch))
                table = _put(table, name, _typed(made, columns[name]))
                _check_finite(name, table, self.where)
        return table

    def _keys(self, name: str, table: pa.Table, epoch: int) -> Tensor:
        """An int64 per row, (B,), of seed, epoch, the column's name, event id and place in the event."""
        word = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
        key = mix(mix(mix(torch.tensor(self.seed)) + epoch) + torch.tensor(word))
        key_B = mix(key + torch.from_numpy(table["event_id"].to_numpy().copy()))
        if self.each and index_name(self.each) in table.column_names:
            key_B = mix(key_B + torch.from_numpy(table[index_name(self.each)].to_numpy().copy()))
        return key_B


def rows_of(stream: Stream, name: str | None, events: Events, wanted: Schema, seed: int, *,
            scored: bool = False) -> Rows:  # fmt: skip
    """How the rows with some columns are made of a sample; `name` is None for one that is not of the stream.

    A sample that is only scored need not have columns whose `missing` stands for "not known", nor those that only the
    training looks at, for its weights and selections.

    Raises:
        ConfigError: settings of the stream that do not fit each other or the sample, naming key, value and cure.
        DataError: the sample lacks a column.
    """
    source = stream.samples[name] if name else None
    rename = _renamed(stream, source, events)
    own = {rename.get(column.name, column.name): column for column in events.schema.each()}
    numbers = {**stream.set, **(source.set if source else {})}
    said = "--constant or stream.set" if scored else "stream.set"
    constants = {key: _constant(key, value, wanted, own, f"{said}.{key}") for key, value in numbers.items()}
    derive = {key: how for key, how in stream.derive.items() if key not in constants}
    if scored:
        looked_at = _closure(wanted.names, derive)
        derive = {key: how for key, how in derive.items() if key in looked_at}
    if taken := [key for key in derive if key in own]:
        raise ConfigError(f"the sample has a column {taken[0]!r} already", where=f"stream.derive.{taken[0]}",
                          cure=f"choose another name, or rename the one of {events.path}")  # fmt: skip
    if scored:
        absent = [c for c in wanted.each() if c.name not in {*own, *constants, *derive} and c.missing is not None]
        constants |= {c.name: Constant(c, c.missing) for c in absent if c.missing is not None}
    rows = Rows(str(events.path), events.schema, rename, constants, derive, stream.each, {}, seed)
    check_wanted(rows, wanted)
    other = {c.name: c for c in wanted.each() if c.dtype != rows.layout.rows[c.name].dtype}
    return replace(rows, cast=other) if other else rows


def check_wanted(rows: Rows, wanted: Schema) -> None:
    """Refuse rows that lack a column, or have a list where one number is wanted.

    Raises:
        DataError: names the column.
    """
    for column in wanted.each():
        if column.name not in rows.layout.rows:
            raise _missing(column.name, rows)
        have = rows.layout.rows[column.name].of
        if have != column.of:
            raise DataError(f"column {column.name!r} holds {_said(have)}, not {_said(column.of)}", where=rows.where,
                            cure="see stream.each, or rename another column")  # fmt: skip


def check_stream(stream: Stream, rows: Rows, wanted: Schema) -> None:
    """Refuse selections, weights and buckets that a sample's rows cannot have.

    Raises:
        ConfigError: names the key.
        DataError: the sample lacks a column.
    """
    for name in (*stream.select, *([stream.reweight] if stream.reweight else [])):
        if name not in rows.layout.rows:
            raise _missing(name, rows)
    for name in stream.select:
        for made in rows.ancestors(name):
            if rows.derive[made].drawn or isinstance(rows.derive[made], Fitted):
                raise ConfigError(f"{name!r} is not the same in every epoch, or fitted to what is selected",
                                  where="stream.select", cure="select on columns of the sample")  # fmt: skip
    if stream.reweight and rows.layout.rows[stream.reweight].of:
        raise ConfigError(f"{stream.reweight!r} holds a list per row, not one number", where="stream.reweight",
                          cure="derive one number per row")  # fmt: skip
    if stream.buckets and stream.buckets.of not in wanted.collections:
        raise ConfigError(f"the task has no collection {stream.buckets.of!r}", where="stream.buckets.of",
                          cure=nearest(stream.buckets.of, wanted.collections))  # fmt: skip


def _renamed(stream: Stream, source: Source | None, events: Events) -> dict[str, str]:
    """Old name: new name. What the sample says wins, and one that has the new name already needs none."""
    names, said = set(events.schema.names), source.rename if source else {}
    general = {
        old: new
        for old, new in stream.rename.items()
        if old not in said and new not in said.values() and (old in names or (source and new not in names))
    }
    rename = {**general, **said}
    seen: dict[str, str] = {}
    for name in [*rename, *(name for name in events.schema.names if name not in rename)]:
        new = rename.get(name, name)
        if name not in names:
            raise ConfigError(f"no column {name!r} in {events.path}", where=f"stream.rename.{name}",
                              cure=nearest(name, names))  # fmt: skip
        if new in seen:
            raise ConfigError(f"{events.path} has a column {new!r} already", where=f"stream.rename.{seen[new]}",
                              cure=f"rename {name!r} too, or choose another name")  # fmt: skip
        seen[new] = name
    return rename


def _constant(name: str, value: float, wanted: Schema, own: Mapping[str, Column], where: str) -> Constant:
    fresh = Column(name=name, dtype="float32", unit="", doc="one number for all rows")
    column = wanted[name] if name in wanted else own.get(name, fresh).but(name=name)
    if column.dtype.startswith("int") and not (value.is_integer() and abs(value) < 2 ** (int(column.dtype[3:]) - 1)):
        raise ConfigError(f"{value:g} is not of the type {column.dtype}", where=where, cure="give a whole number")
    if column.dtype.startswith("float") and not abs(value) <= float(np.finfo(column.dtype).max):
        raise ConfigError(f"{value:g} is not finite as {column.dtype}", where=where, cure="give a finite number")
    low, high = (-np.inf if column.low is None else column.low), (np.inf if column.high is None else column.high)
    if not low <= value <= high:
        raise ConfigError(f"{value:g} is outside {low:g} to {high:g}", where=where,
                          cure=f"give {column.doc}{f', in {column.unit}' if column.unit else ''}")  # fmt: skip
    return Constant(column, value)


def _order(derive: Mapping[str, Derived]) -> tuple[str, ...]:
    """Derived columns, each after those that it is made of.

    Raises:
        ConfigError: a column that is made of itself.
    """
    done: dict[str, None] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            circle = " of ".join([*path[path.index(name) :], name])
            raise ConfigError(f"is made of itself: {circle}", where=f"stream.derive.{name}", cure="break the circle")
        if name not in done:
            for other in _reads(derive[name]):
                if other in derive:
                    visit(other, (*path, name))
            done[name] = None

    for name in derive:
        visit(name, ())
    return tuple(done)


def _closure(wanted: Iterable[str], derive: Mapping[str, Derived]) -> dict[str, None]:
    """These columns and all that they are made of."""
    found: dict[str, None] = {}
    waiting = list(wanted)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = None
            waiting += _reads(derive[name]) if name in derive else ()
    return found


def _reads(how: Derived) -> tuple[str, ...]:
    return (*how.numbers(), *how.lists())


def _column(name: str, how: Derived, columns: Mapping[str, Column]) -> Column:
    """What a derived column is, given those that it can be made of."""
    where = f"stream.derive.{name}"
    for other in _reads(how):
        if other not in columns:
            raise ConfigError(f"there is no column {other!r} to make it of", where=where, cure=nearest(other, columns))
        of = columns[other].of
        if (of is None) != (other in how.numbers()):
            raise ConfigError(f"{other!r} holds {_said(of)}, and {how.by} wants {_said(None if of else 'other')}",
                              where=where, cure="read another column, or see stream.each")  # fmt: skip
    return how.column(name, Schema(columns=tuple(columns.values())))


def _check_each(each: Each, events: Mapping[str, Column]) -> None:
    collections = {column.of for column in events.values() if column.of}
    if each.of not in collections:
        raise ConfigError(f"there is no collection {each.of!r}", where="stream.each.of",
                          cure=nearest(each.of, collections))  # fmt: skip
    if index_name(each) in events:
        raise ConfigError(f"the sample has a column {index_name(each)!r} already", where="stream.each",
                          cure="rename it with stream.rename")  # fmt: skip


def _missing(name: str, rows: Rows) -> DataError:
    return DataError(f"column {name!r} is missing", where=rows.where, cure=nearest(name, rows.layout.rows))


def _said(of: str | None) -> str:
    return "a list per row" if of else "one number per row"


def _put(table: pa.Table, name: str, array: pa.Array) -> pa.Table:
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, array)
    return table.append_column(name, array)


def _typed(made: np.ndarray | pa.Array, column: Column) -> pa.Array:
    array = made if isinstance(made, pa.Array) else pa.array(np.asarray(made).astype(np.dtype(column.dtype)))
    return array.cast(column.arrow)


def _check_finite(name: str, table: pa.Table, where: str) -> None:
    values = flat(table[name])
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(f"the derived column {name!r} has {int((~np.isfinite(values)).sum())} values that are not "
                        "finite", where=where, cure=f"see stream.derive.{name}")  # fmt: skip
