"""Columns with units, and the check that a table keeps the contract."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jetscale.config import Config
from jetscale.errors import ConfigError, DataError, nearest

Number = Literal["int8", "int32", "int64", "float32", "float64"]
FILL = "fill them, or drop the events, and make the sample anew"
ARROW: dict[str, pa.DataType] = {
    "int8": pa.int8(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
}


class Column(Config):
    """One named column: a number per event, or, with `of`, a list with one number per member of a collection.

    `of="jet"` makes it a ragged list per event; all columns of one collection have the same lengths.
    `missing` stands where a user's events do not have the column; without it the column is required. `low` and `high`
    are the smallest and the largest value that it may hold.
    """

    name: str
    dtype: Number
    unit: str
    doc: str
    of: str | None = None
    missing: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def arrow(self) -> pa.DataType:
        number = ARROW[self.dtype]
        return pa.list_(number) if self.of else number


class Schema(Config):
    """An ordered set of columns."""

    columns: tuple[Column, ...]

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise ConfigError(f"no column {name!r}", where="schema", cure=nearest(name, self.names))

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def each(self) -> Iterator[Column]:
        return iter(self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def collections(self) -> tuple[str, ...]:
        """Names of the collections that the columns speak of, in order."""
        return tuple(dict.fromkeys(column.of for column in self.columns if column.of))

    @property
    def arrow(self) -> pa.Schema:
        return pa.schema([pa.field(column.name, column.arrow, nullable=False) for column in self.columns])

    def only(self, names: Iterable[str]) -> Schema:
        return Schema(columns=tuple(self[name] for name in names))

    def plus(self, *columns: Column) -> Schema:
        """This schema with columns added; one of the same name takes the old one's place."""
        fresh = {column.name: column for column in columns}
        kept = tuple(fresh.pop(column.name, column) for column in self.columns)
        return Schema(columns=kept + tuple(fresh.values()))


EVENT_ID = Column(name="event_id", dtype="int64", unit="", doc="unique in the sample")
WEIGHT = Column(name="weight", dtype="float64", unit="", doc="physics weight", missing=1.0)

JET_EVENTS = Schema(
    columns=(
        EVENT_ID,
        WEIGHT,
        Column(name="true_mass", dtype="float32", unit="GeV", missing=-1.0, low=-1,
               doc="mass of the two parents; 0 background, -1 not known"),
        Column(name="decay_mode", dtype="int8", unit="", missing=-1, low=-1,
               doc="quarks per parent; 0 background, -1 not known"),
        Column(name="jet_pt", of="jet", dtype="float32", unit="GeV", low=0,
               doc="transverse momentum, falling within an event"),
        Column(name="jet_eta", of="jet", dtype="float32", unit="", doc="pseudorapidity"),
        # Wide enough for both conventions, -pi to pi and 0 to 2 pi, and too narrow for degrees.
        Column(name="jet_phi", of="jet", dtype="float32", unit="rad", low=-7, high=7, doc="azimuth"),
        Column(name="jet_mass", of="jet", dtype="float32", unit="GeV", low=0, doc="mass"),
        Column(name="jet_parent_ancestry", of="jet", dtype="int8", unit="", missing=-1, low=-1, high=2,
               doc="parent of most of the jet's parton pt: 0 none, 1, 2 the parents, -1 not known"),
        Column(name="jet_parent_quark", of="jet", dtype="int8", unit="", missing=-1, low=-1, high=2,
               doc="parent of the hardest decay quark in the jet: 0 none, 1, 2 the parents, -1 not known"),
    )
)  # fmt: skip

# What jets are made of, where a sample says so: numbers that tell quarks from gluons.
SUBSTRUCTURE = Schema(
    columns=(
        Column(name="jet_n_constituent", of="jet", dtype="int32", unit="", low=0, doc="visible particles in the jet"),
        Column(name="jet_n_charged", of="jet", dtype="int32", unit="", low=0, doc="charged ones among them"),
        Column(name="jet_width", of="jet", dtype="float32", unit="", low=0,
               doc="mean distance of the particles to the axis in rapidity and azimuth, by pt"),
        Column(name="jet_ptd", of="jet", dtype="float32", unit="", low=0, high=1,
               doc="sqrt(sum pt^2) / sum pt of the particles"),
        Column(name="jet_lead_fraction", of="jet", dtype="float32", unit="", low=0, high=1,
               doc="share of the hardest particle in the particles' pt"),
        Column(name="jet_c1", of="jet", dtype="float32", unit="", low=0,
               doc="energy correlator of two particles, beta = 0.2"),
    )
)  # fmt: skip

# Rows that are single jets, for taggers: the jet, and what it is made of. A task asks for what it looks at.
JET = Schema(
    columns=(
        Column(name="jet_pt", dtype="float32", unit="GeV", low=0, doc="transverse momentum"),
        Column(name="jet_eta", dtype="float32", unit="", doc="pseudorapidity"),
        Column(name="jet_phi", dtype="float32", unit="rad", low=-7, high=7, doc="azimuth"),
        Column(name="jet_mass", dtype="float32", unit="GeV", low=0, doc="mass"),
    )
)  # fmt: skip
JET_LABEL = Column(name="jet_label", dtype="int8", unit="", missing=-1, low=-1,
                   doc="what the jet comes from: a code of jetscale.labels; -1 not known")  # fmt: skip
PARTICLES = Schema(
    columns=(
        Column(name="particle_pt", of="particle", dtype="float32", unit="GeV", low=0,
               doc="transverse momentum, falling within a jet"),
        Column(name="particle_eta", of="particle", dtype="float32", unit="", doc="pseudorapidity"),
        Column(name="particle_phi", of="particle", dtype="float32", unit="rad", low=-7, high=7, doc="azimuth"),
        Column(name="particle_mass", of="particle", dtype="float32", unit="GeV", low=0, doc="mass"),
    )
)  # fmt: skip
PARTICLE_IDS = Schema(
    columns=(
        Column(name="particle_pdg", of="particle", dtype="int32", unit="", missing=0,
               doc="PDG id; 0 not known. Where only its kind is: 211, -211 charged hadrons, 130 a neutral one"),
        Column(name="particle_charge", of="particle", dtype="int8", unit="e", missing=0, low=-1, high=1,
               doc="electric charge"),
    )
)  # fmt: skip
IMPACT = Schema(
    columns=(
        Column(name="particle_d0", of="particle", dtype="float32", unit="mm", missing=0,
               doc="transverse impact parameter of the track, with its sign; 0 without a track"),
        Column(name="particle_d0_error", of="particle", dtype="float32", unit="mm", missing=0, low=0,
               doc="its uncertainty; 0 without a track"),
        Column(name="particle_dz", of="particle", dtype="float32", unit="mm", missing=0,
               doc="longitudinal impact parameter of the track; 0 without a track"),
        Column(name="particle_dz_error", of="particle", dtype="float32", unit="mm", missing=0, low=0,
               doc="its uncertainty; 0 without a track"),
    )
)  # fmt: skip
VERTICES = Schema(
    columns=(
        Column(name="vertex_pt", of="vertex", dtype="float32", unit="GeV", low=0,
               doc="transverse momentum of a secondary vertex's tracks together"),
        Column(name="vertex_eta", of="vertex", dtype="float32", unit="", doc="their pseudorapidity"),
        Column(name="vertex_phi", of="vertex", dtype="float32", unit="rad", low=-7, high=7, doc="their azimuth"),
        Column(name="vertex_mass", of="vertex", dtype="float32", unit="GeV", low=0, doc="their mass"),
        Column(name="vertex_n_track", of="vertex", dtype="int32", unit="", low=0, doc="how many they are"),
        Column(name="vertex_dxy", of="vertex", dtype="float32", unit="mm", low=0,
               doc="transverse distance to the primary vertex"),
        Column(name="vertex_dxy_error", of="vertex", dtype="float32", unit="mm", low=0, doc="its uncertainty"),
        Column(name="vertex_d3d", of="vertex", dtype="float32", unit="mm", low=0, doc="distance to the primary vertex"),
        Column(name="vertex_d3d_error", of="vertex", dtype="float32", unit="mm", low=0, doc="its uncertainty"),
    )
)  # fmt: skip
PROBABILITY = "probability_"  # and the name of a class: what every tagger adds to jets

# What every method that puts jets into two groups adds to events, a network or a classical one.
ASSIGNMENT = Schema(
    columns=(
        Column(name="jet_assigned", of="jet", dtype="int8", unit="", doc="group given: 0 none, 1, 2"),
        Column(name="jet_none_probability", of="jet", dtype="float32", unit="", doc="probability of no parent"),
        Column(name="reco_confidence", dtype="float32", unit="",
               doc="how sure the method is, 0 to 1; by read-out: mbr, the posterior at about this mass; map, that of "
               "this assignment; argmax, the product of its jets' probabilities"),
        Column(name="reco_mass_1", dtype="float32", unit="GeV", doc="mass of group 1; 0 if empty"),
        Column(name="reco_mass_2", dtype="float32", unit="GeV", doc="mass of group 2; 0 if empty"),
        Column(name="reco_mass", dtype="float32", unit="GeV", doc="mean of the two group masses"),
        Column(name="reco_asymmetry", dtype="float32", unit="", doc="|m1 - m2| / (m1 + m2)"),
    )
)  # fmt: skip


def rows_are(schema: Schema) -> str:
    """What a row is: `jet` in samples of single jets, else `event`."""
    return "jet" if "jet_pt" in schema and not schema["jet_pt"].of else "event"


def plural(of: str) -> str:
    """Several members of a collection."""
    return "vertices" if of == "vertex" else f"{of}s"


def lengths(table: pa.Table, collection: str, schema: Schema) -> np.ndarray:
    """Members of a collection in every event, (B,) int64.

    Raises:
        DataError: two columns of the collection differ in length.
    """
    names = [column.name for column in schema.each() if column.of == collection]
    first, *rest = [one(pc.list_value_length(table[name])).to_numpy(zero_copy_only=False) for name in names]
    for name, other in zip(names[1:], rest, strict=True):
        if not np.array_equal(first, other):
            row = int(np.flatnonzero(first != other)[0])
            raise DataError(
                f"event {row}: {names[0]} has {first[row]} entries, {name} has {other[row]}",
                where=name,
                cure=f"all {collection}_* columns must describe the same {collection}s",
            )
    return np.asarray(first, dtype=np.int64)


def one(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece; Arrow's own `combine_chunks` copies even a single chunk."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def flat(column: pa.ChunkedArray) -> np.ndarray:
    """All numbers of a column, lists flattened, as one numpy array."""
    array = one(column)
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        array = array.flatten()
    return np.asarray(array.to_numpy(zero_copy_only=False))


def whole(table: pa.Table, where: str) -> pa.Table:
    """The same table, with columns that may not hold nulls: tables that different programs wrote can then be joined.

    Raises:
        DataError: a column does hold nulls, which in numpy's eyes are NaN, and among whole numbers anything.
    """
    for name in table.column_names:
        inner = [chunk.values for chunk in table[name].chunks if pa.types.is_list(chunk.type)]
        if nulls := sum(array.null_count for array in (*table[name].chunks, *inner)):
            raise DataError(f"column {name!r} has {nulls} nulls", where=where, cure=FILL)
    if not any(field.nullable for field in table.schema):
        return table
    return table.cast(pa.schema([field.with_nullable(False) for field in table.schema]))


def check(table: pa.Table, schema: Schema, where: str) -> None:
    """The contract at both ends: columns, types, no nulls, finite values in range, equal lengths, unique ids.

    Raises:
        DataError: names the column, the value and the cure.
    """
    for column in schema.each():
        if column.name not in table.column_names:
            raise DataError(f"column {column.name!r} is missing", where=where,
                            cure=nearest(column.name, table.column_names))  # fmt: skip
        have = table.schema.field(column.name).type
        if have != column.arrow:
            raise DataError(f"column {column.name!r} is {have}, not {column.arrow}", where=where,
                            cure="convert it before writing")  # fmt: skip
        if table[column.name].null_count:
            raise DataError(f"column {column.name!r} has {table[column.name].null_count} nulls", where=where,
                            cure="fill them or drop the events")  # fmt: skip
        _check_finite(table, column, where)
        _check_range(table, column, where)
    for collection in schema.collections:
        lengths(table, collection, schema)
    if "event_id" in schema and pc.count_distinct(table["event_id"]).as_py() != table.num_rows:
        raise DataError("event_id is not unique", where=where, cure="give every event an id of its own")


def _check_finite(table: pa.Table, column: Column, where: str) -> None:
    values = flat(table[column.name])
    if values.dtype.kind != "f":
        return
    bad = int(values.size - np.isfinite(values).sum())
    if bad:
        first = values[~np.isfinite(values)][0]
        raise DataError(f"column {column.name!r} has {bad} values that are not finite (the first is {first})",
                        where=where, cure="drop or mend these events before writing")  # fmt: skip


def _check_range(table: pa.Table, column: Column, where: str) -> None:
    low = -np.inf if column.low is None else column.low
    high = np.inf if column.high is None else column.high
    values = flat(table[column.name])
    outside = values[(values < low) | (values > high)]
    if outside.size:
        cure = f"it holds {column.doc}{f', in {column.unit}' if column.unit else ''}: drop or mend these events"
        if low == 0:
            cure = f"set those that rounding made negative to 0; {cure}"
        raise DataError(f"column {column.name!r} has {outside.size} values outside {low:g} to {high:g} "
                        f"(the first is {outside[0]:g})", where=where, cure=cure)  # fmt: skip
