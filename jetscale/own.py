"""A user's own events or jets become a checked table: what is absent stands as not known, what is more is kept."""

from __future__ import annotations

from collections.abc import Mapping

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jetscale.errors import DataError, nearest
from jetscale.schema import (
    EVENT_ID,
    IMPACT,
    JET,
    JET_EVENTS,
    JET_LABEL,
    PARTICLE_IDS,
    PARTICLES,
    VERTICES,
    WEIGHT,
    Column,
    Number,
    Schema,
    check,
)

# What numbers become, by Arrow's names; of no numbers at all (null) the type is free.
OWN: dict[str, Number] = {
    "bool": "int8", "int8": "int8", "int16": "int32", "int32": "int32", "int64": "int64", "uint8": "int32",
    "uint16": "int32", "uint32": "int64", "uint64": "int64", "halffloat": "float32", "float": "float32",
    "double": "float64", "null": "float64",
}  # fmt: skip
ROWS = {"jet": "event", "particle": "jet", "vertex": "jet"}  # of what a row is, where lists are of these
MANY = {"jet": "jets", "particle": "particles", "vertex": "vertices"}


def complete(array: ak.Array | pa.Table, where: str) -> pa.Table:
    """A checked table of `JET_EVENTS`, from whatever of its columns the user has, and of the user's own columns."""
    return completed(array, {}, where)[0]


def completed(array: ak.Array | pa.Table, units: Mapping[str, str], where: str) -> tuple[pa.Table, Schema]:
    """The same for events or jets, with the schema; see `Events.write`."""
    source = _records(array, where)
    base = _jets(source.fields) if _are_jets(source) else JET_EVENTS
    schema = base.plus(*_own(source, base, units, where))
    given = {column.name: _known(source[column.name], column, where) for column in schema.each()
             if column.name in source.fields}  # fmt: skip
    ranks = {of: _rank(given, schema, of, where) for of in schema.collections}
    columns: dict[str, pa.Array] = {}
    for column in schema.each():
        if column.name in given:
            values = given[column.name]
            _same_lengths(values, ranks.get(column.of or ""), column, base, where)
            columns[column.name] = _arrow(values[ranks[column.of]] if column.of else values, column, where)
        else:
            columns[column.name] = _absent(column, source, where)
    if "true_mass" in given and "decay_mode" not in given:
        background = pc.equal(columns["true_mass"], 0)
        columns["decay_mode"] = pc.if_else(background, pa.scalar(0, pa.int8()), columns["decay_mode"])
    table = pa.table(columns)
    check(table, schema, where)
    return table, schema


def _are_jets(source: ak.Array) -> bool:
    """Whether rows are single jets, with a label, particles or vertices, and not events that list their jets."""
    names = source.fields
    listed = "jet_pt" in names and source["jet_pt"].layout.minmax_depth != (1, 1)
    return not listed and (JET_LABEL.name in names or any(name.startswith(("particle_", "vertex_")) for name in names))


def _jets(names: list[str]) -> Schema:
    """The columns of single jets, with those of what they are made of where the user has any of these."""
    particles = any(name.startswith("particle_") for name in names)
    schema = Schema(columns=(EVENT_ID, WEIGHT, JET_LABEL))
    if not particles or any(name in names for name in JET.names):
        schema = schema.plus(*JET.columns)
    schema = schema.plus(*PARTICLES.columns) if particles else schema
    for more in (PARTICLE_IDS, IMPACT, VERTICES):
        schema = schema.plus(*more.columns) if any(name in names for name in more.names) else schema
    return schema


def _own(source: ak.Array, base: Schema, units: Mapping[str, str], where: str) -> list[Column]:
    """The columns that the user has beside those of the schema."""
    names = [name for name in source.fields if name not in base]
    for name in units:
        if name not in names:
            raise DataError(f"units has {name!r}, which is no column of your own", where=where,
                            cure=nearest(name, names))  # fmt: skip
    return [_own_column(name, source[name], base, units.get(name, ""), where) for name in names]


def _own_column(name: str, values: ak.Array, base: Schema, unit: str, where: str) -> Column:
    kind = ak.to_arrow(ak.to_packed(values), extensionarray=False, list_to32=True).type
    listed = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
    # A list of an event is one of its jets, whatever it is called.
    known = [of for of in base.collections if of == "jet" or name.startswith(f"{of}_")]
    of = known[0] if listed and known else None
    number = OWN.get(str(kind.value_type if of else kind))
    if number is None:
        row = "event or one per jet" if base is JET_EVENTS else "jet, or one per particle in particle_*"
        raise DataError(f"column {name!r} is {values.type}, and only numbers are kept, one per {row}",
                        where=where, cure=f"leave {name!r} out, or make numbers of it")  # fmt: skip
    return Column(name=name, dtype=number, unit=unit, doc="the user's own", of=of)


def _records(array: object, where: str) -> ak.Array:
    if isinstance(array, pa.Table):
        array = ak.from_arrow(array)
    if not isinstance(array, ak.Array):
        raise DataError(f"the events are a {type(array).__name__}, not an awkward array or an Arrow table", where=where,
                        cure="give ak.Array({'jet_pt': [[...], ...], ...}), or pa.table of the same")  # fmt: skip
    return array


def _rank(given: Mapping[str, ak.Array], schema: Schema, of: str, where: str) -> ak.Array:
    """The order in which the members of a collection are kept: in falling pt, and vertices as they come."""
    name = f"{of}_pt"
    if name not in given:
        raise DataError(f"column {name!r} is missing", where=where, cure=nearest(name, list(given)))
    if given[name].layout.minmax_depth != (2, 2):
        alone = "; single jets have a column 'jet_label'" if of == "jet" else ""
        raise DataError(f"column {name!r} is {given[name].type}, not one list of numbers per {ROWS[of]}", where=where,
                        cure=f"group the {MANY[of]} by {ROWS[of]}, for example with "
                        f"ak.unflatten({MANY[of]}, counts){alone}")  # fmt: skip
    if of == "vertex":
        return ak.local_index(given[name], axis=1)
    return ak.argsort(given[name], axis=1, ascending=False, stable=True)


def _known(values: ak.Array, column: Column, where: str) -> ak.Array:
    """The same values with a type that has no room for nulls."""
    depths = range(min(2 if column.of else 1, values.ndim))
    nulls = sum(int(ak.sum(ak.is_none(values, axis=depth))) for depth in depths)
    if nulls:
        raise DataError(f"column {column.name!r} has {nulls} nulls", where=where, cure="fill them or drop the events")
    # awkward drops nulls from lists with 64-bit offsets alone; Arrow's have 32, and packing widens them.
    return ak.drop_none(ak.to_packed(values), axis=None)


def _same_lengths(values: ak.Array, rank: ak.Array | None, column: Column, base: Schema, where: str) -> None:
    if not column.of:
        return
    try:
        equal = bool(ak.all(ak.num(values, axis=1) == ak.num(rank, axis=1)))
    except (ValueError, np.exceptions.AxisError):
        equal = False
    if not equal:
        raise DataError(f"{column.name!r} does not hold one number per {column.of}", where=where,
                        cure=f"give it the same list lengths as {column.of}_pt"
                        + ("" if column.name in base else ", or leave it out"))  # fmt: skip


def _arrow(values: ak.Array, column: Column, where: str) -> pa.Array:
    packed = ak.to_arrow(ak.to_packed(values), extensionarray=False, list_to32=True)
    try:
        cast = pa.chunked_array([packed]).combine_chunks().cast(column.arrow)
    except pa.ArrowException as problem:
        raise DataError(f"column {column.name!r} cannot become {column.arrow}: {problem}", where=where,
                        cure=f"give numbers of type {column.dtype}")  from None  # fmt: skip
    return cast.combine_chunks() if isinstance(cast, pa.ChunkedArray) else cast


def _absent(column: Column, source: ak.Array, where: str) -> pa.Array:
    if column.name == "event_id":
        return pa.array(np.arange(len(source), dtype=np.int64))
    if column.missing is None:
        raise DataError(f"column {column.name!r} is missing", where=where, cure=nearest(column.name, source.fields))
    if not column.of:
        return pa.array(np.full(len(source), column.missing), type=column.arrow)
    return _arrow(ak.full_like(source[f"{column.of}_pt"], column.missing), column, where)
