"""What the columns of a sample hold: counts, ends, means and histograms, in passes that keep a few thousand rows.

The weights come first, then a few row groups from all over the sample, which the axes are chosen by, then everything.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import hist
import numpy as np
import pyarrow as pa

from jetscale.data.chunks import read_groups
from jetscale.data.plan import Chunk
from jetscale.events import Events
from jetscale.schema import IMPACT, Column, Schema, flat, one, plural, rows_are

ROWS = 20_000  # read at once
GROUPS, KEPT = 32, 20_000  # row groups and values of a column that axes are chosen by
BINS, BARS = 48, 48
TAIL = 0.01  # of the values at either end, which may be anything
ROOM = 1.0  # an axis goes on beyond the rest by up to so many times its length
FAR = 100.0  # interquartile ranges; what spreads further has no axis that shows everything
WIDE = 50.0  # large values that are so many times the median make an axis logarithmic,
FAR_LOG = 20.0  # unless they are so far out there as well
MOST = 1e300  # no axis goes on beyond
LEAST = 1e-300  # and none is shorter, as its bins would have no width
NO_PLOT = ("event_id",)
CODES = ("jet_label", "particle_pdg")  # numbers that stand for names, so that they have no mean
NO_TRACK = tuple(column.name for column in IMPACT.columns)  # 0 of what is neutral, which is no measurement


class Quantity(NamedTuple):
    """What one plot shows: a column, how long the lists of a collection are, or the first and the second of a list."""

    name: str
    column: Column
    kind: Literal["column", "length", "first", "second"] = "column"

    @property
    def missing(self) -> float | None:
        """What stands for "not known": the column's missing where that is negative, as 0 or 1 may well be known."""
        missing = self.column.missing
        told = missing is not None and (missing < 0 or self.name in NO_TRACK)
        return missing if told and self.kind == "column" else None


@dataclass
class Summary:
    """The numbers of one quantity; `plain` and `weighted` are histograms, `low` and `high` its ends."""

    quantity: Quantity
    plain: hist.Hist
    weighted: hist.Hist | None
    entries: int = 0
    odd: int = 0
    missing: int = 0
    low: float = math.inf
    high: float = -math.inf
    total: float = 0.0
    sums: np.ndarray = field(default_factory=lambda: np.zeros(2))

    @property
    def known(self) -> int:
        """Entries that are finite and not missing."""
        return self.entries - self.odd - self.missing

    @property
    def mean(self) -> float:
        return self.total / self.known if self.known else math.nan

    @property
    def weighted_mean(self) -> float:
        return float(self.sums[0] / self.sums[1]) if self.sums[1] else math.nan

    @property
    def constant(self) -> bool:
        """Whether all known entries are one number."""
        return self.low == self.high

    @property
    def flag(self) -> bool:
        """Whether it is 0 or 1 for each event."""
        small = self.quantity.column.dtype == "int8" and not self.quantity.column.of and self.quantity.missing is None
        return bool(self.known) and small and self.low >= 0 and self.high <= 1

    @property
    def beyond(self) -> tuple[int, int]:
        """Entries below and above the axis."""
        view = self.plain.view(flow=True)
        return int(view[0]), int(view[-1])

    def add(self, values: np.ndarray, weights: np.ndarray | None) -> None:
        """More entries, (N,), and the weights of their events."""
        good = np.isfinite(values) if values.dtype.kind == "f" else np.ones(len(values), dtype=bool)
        self.entries += len(values)
        self.odd += int(len(values) - good.sum())
        if self.quantity.missing is not None:
            absent = good & (values == self.quantity.missing)
            self.missing += int(absent.sum())
            good &= ~absent
        known = values[good].astype(np.float64)
        if not len(known):
            return
        self.low, self.high = min(self.low, float(known.min())), max(self.high, float(known.max()))
        with np.errstate(over="ignore", invalid="ignore"):
            self.total += float(known.sum())
            self.plain.fill(known)
            if weights is not None and self.weighted is not None:
                self.weighted.fill(known, weight=weights[good])
                self.sums += (float((weights[good] * known).sum()), float(weights[good].sum()))


@dataclass
class Weights:
    """The weights of all events: sums of w and w², the ends, how many are below 0 and not finite."""

    total: float = 0.0
    squares: float = 0.0
    low: float = math.inf
    high: float = -math.inf
    negative: int = 0
    odd: int = 0

    @property
    def effective(self) -> float:
        """As many events of equal weights would say as much."""
        return self.total**2 / self.squares if self.squares else 0.0

    @property
    def differ(self) -> bool:
        return self.low < self.high


class Profile:
    """A sample and what its columns hold, known after `steps`."""

    def __init__(self, events: Events) -> None:
        self.events = events
        self.quantities = quantities(events.schema)
        self.weights = Weights()
        self.summaries: dict[str, Summary] = {}

    def steps(self) -> Iterator[int]:
        """Look at the sample; how many events are done so far.

        Raises:
            DataError: a shard that cannot be read.
        """
        self._weigh()
        axes = _axes(self.events, self.quantities)
        for quantity in self.quantities:
            weighted = hist.Hist(axes[quantity.name]) if self.weights.differ and quantity.name != "weight" else None
            self.summaries[quantity.name] = Summary(quantity, hist.Hist(axes[quantity.name]), weighted)
        done = 0
        for shard in self.events.manifest.shards:
            for table in self.events.pieces(self.events.schema.names, shard, ROWS):
                self._add(table)
                done += table.num_rows
                yield done

    def _weigh(self) -> None:
        if "weight" not in self.events.schema:
            return
        known = self.weights
        for shard in self.events.manifest.shards:
            weight_B = flat(self.events.read(["weight"], shard)["weight"])
            good = np.isfinite(weight_B)
            known.odd += int(len(weight_B) - good.sum())
            weight_B = weight_B[good]
            if len(weight_B):
                known.low, known.high = min(known.low, weight_B.min()), max(known.high, weight_B.max())
            known.negative += int((weight_B < 0).sum())
            known.total += float(weight_B.sum())
            known.squares += float((weight_B**2).sum())

    def _add(self, table: pa.Table) -> None:
        weight_B = np.nan_to_num(flat(table["weight"])) if self.weights.differ else None
        length = {of: _length(table, of, self.events.schema) for of in self.events.schema.collections}
        for quantity in self.quantities:
            own = None if weight_B is None else _weights(weight_B, quantity, length)
            self.summaries[quantity.name].add(numbers(table, quantity, length), own)


def quantities(schema: Schema) -> list[Quantity]:
    """All columns, and of every collection the length of its lists and the first two of its falling pt."""
    found = [Quantity(column.name, column) for column in schema.each() if not column.of]
    whole = rows_are(schema)
    whole = f"{'an' if whole == 'event' else 'a'} {whole}"
    for of in schema.collections:
        many = plural(of)
        length = Column(name=f"number of {many}", dtype="int32", unit="", doc=f"{many} of {whole}", of=of)
        found.append(Quantity(length.name, length, "length"))
        if (pt := f"{of}_pt") in schema:
            found.append(Quantity(f"{pt} leading", schema[pt].but(doc=f"of the first {of} of {whole}"), "first"))
            found.append(Quantity(f"{pt} sub-leading", schema[pt].but(doc=f"of the second {of} of {whole}"), "second"))
        found += [Quantity(column.name, column) for column in schema.each() if column.of == of]
    return found


def numbers(table: pa.Table, quantity: Quantity, length: Mapping[str, np.ndarray]) -> np.ndarray:
    """The numbers of a quantity in some events; `length` has the list lengths of every collection, (B,)."""
    column = quantity.column
    if quantity.kind == "column":
        return flat(table[column.name])
    length_B = length[str(column.of)]
    if quantity.kind == "length":
        return length_B
    place = int(quantity.kind == "second")
    found: np.ndarray = flat(table[column.name])[(np.cumsum(length_B) - length_B + place)[length_B > place]]
    return found


def _weights(weight_B: np.ndarray, quantity: Quantity, length: Mapping[str, np.ndarray]) -> np.ndarray:
    """The weight of every number of a quantity."""
    length_B = length.get(quantity.column.of or "")
    if length_B is None or quantity.kind == "length":
        return weight_B
    if quantity.kind == "column":
        return np.repeat(weight_B, length_B)
    found: np.ndarray = weight_B[length_B > (quantity.kind == "second")]
    return found


def _length(table: pa.Table, of: str, schema: Schema) -> np.ndarray:
    name = next(column.name for column in schema.each() if column.of == of)
    found: np.ndarray = one(table[name]).value_lengths().to_numpy(zero_copy_only=False)
    return found


def _axes(events: Events, wanted: Sequence[Quantity]) -> dict[str, Any]:
    """An axis for every quantity, by what some row groups hold of it."""
    groups = [(shard.file, group) for shard in events.manifest.shards for group in range(len(shard.row_groups))]
    picked = [groups[n] for n in np.unique(np.linspace(0, len(groups) - 1, GROUPS).astype(int))] if groups else []
    seen: dict[str, list[np.ndarray]] = {quantity.name: [] for quantity in wanted}
    for group in picked:
        table = read_groups(events.path, Chunk((group,), {}), events.schema.names)
        length = {of: _length(table, of, events.schema) for of in events.schema.collections}
        for quantity in wanted:
            values = numbers(table, quantity, length)
            seen[quantity.name] += [_some(values, max(1, len(picked) * len(values) // KEPT))]
    return {quantity.name: axis(quantity, np.concatenate([np.zeros(0), *seen[quantity.name]])) for quantity in wanted}


def _some(values: np.ndarray, step: int) -> np.ndarray:
    """Every so many-th value, and the ends."""
    ends = [values.min(), values.max()] if len(values) else []
    return np.concatenate([values[::step], ends]).astype(np.float64)


def axis(quantity: Quantity, values: np.ndarray) -> Any:
    """Bins that show where most of the values are; a few that are far away do not stretch them."""
    values = np.clip(values[np.isfinite(values)], -MOST, MOST)
    if quantity.missing is not None:
        values = values[values != quantity.missing]
    if not len(values):
        return hist.axis.Regular(1, 0, 1)
    if quantity.column.dtype.startswith("int") or quantity.kind == "length":
        return _integers(*_room(values))
    if values.min() > 0 and np.quantile(values, 1 - TAIL) > WIDE * np.median(values):
        logs = np.log(values)
        if not _is_far(logs, FAR_LOG):
            low, high = _room(logs)
            return hist.axis.Regular(BINS, math.exp(low), math.exp(high + 1e-6), transform=hist.axis.transform.log)
    low, high = _wider(*_room(values))
    # The largest value belongs to the last bin.
    return hist.axis.Regular(BINS, low, high + 1e-6 * (high - low))


def _integers(low: float, high: float) -> Any:
    """A bar for every integer, or equally many integers in every bin."""
    low, high = math.floor(low), math.ceil(high)
    width = math.ceil((high - low + 1) / BARS)
    bins = math.ceil((high - low + 1) / width)
    if low - 0.5 == low:  # too large for halves
        return hist.axis.Regular(BINS, *_wider(low, high))
    return hist.axis.Regular(bins, low - 0.5, low - 0.5 + bins * width)


def _wider(low: float, high: float) -> tuple[float, float]:
    """Ends that differ."""
    if high - low > max(1e-9 * abs(low), LEAST):
        return low, high
    room = 0.5 * abs(low) if abs(low) > LEAST else 0.5
    return low - room, high + room


def _is_far(values: np.ndarray, most: float) -> bool:
    """Whether the tails are so many interquartile ranges apart."""
    tail, quarter, three, top = (float(x) for x in np.quantile(values, [TAIL, 0.25, 0.75, 1 - TAIL]))
    return top - tail > most * (three - quarter) > 0


def _room(values: np.ndarray) -> tuple[float, float]:
    """The ends of the values, as far as they are not much further out than all but the tails."""
    first, last = float(values.min()), float(values.max())
    tail, quarter, three, top = (float(x) for x in np.quantile(values, [TAIL, 0.25, 0.75, 1 - TAIL]))
    if _is_far(values, FAR):
        return max(first, quarter - 5 * (three - quarter)), min(last, three + 5 * (three - quarter))
    span = top - tail
    if span == 0 and last > first:  # nearly always one number: the others are told in words
        span = 0.5 * abs(tail) or 1.0
    return max(first, tail - ROOM * span), min(last, top + ROOM * span)
