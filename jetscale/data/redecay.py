"""Pseudo-decays: a sample's signal with its parents decayed anew, so that a training sees decays that it lacks.

What is drawn is a function of the seed and the event id, so that neither shards nor other events matter.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from jetscale import keyed
from jetscale.config import Config, build, digest
from jetscale.data.process import Selection
from jetscale.data.provenance import described
from jetscale.data.ragged import take
from jetscale.data.shards import ROWS, check_place, is_done, shards_in, working
from jetscale.data.truth import Jets
from jetscale.errors import ConfigError, DataError, nearest
from jetscale.events import Events
from jetscale.physics.pseudodecays import MOST, PARENTS, Labelled, choose, decayed
from jetscale.schema import JET_EVENTS, Schema, flat, lengths

LEAST = 2  # jets of a parent: with fewer its momentum is not known
KNOWN = JET_EVENTS.names

Bodies = Annotated[int, Field(ge=2, le=MOST)]


class Redecay(Config):
    """How parents decay anew: both parents of an event to the same number of quarks, one of `bodies`.

    `response` and `smear` are the mean and the relative width of what is seen of a quark's momentum. With these, three
    bodies give the jets of a parent's true labels the masses that they had: at 1300 GeV 0.953 of the true mass in the
    median, and 0.906 to 0.994 for two thirds, where real decays have 0.956, and 0.890 to 0.986.
    """

    bodies: Annotated[tuple[Bodies, ...], Field(min_length=1)] = (4, 5, 6)
    seed: Annotated[int, Field(ge=0)] = 0
    response: float = Field(0.95, gt=0, le=2)
    smear: float = Field(0.08, ge=0, lt=1)
    events_per_shard: int = Field(ROWS, gt=0)


@dataclass(frozen=True)
class Work:
    """What is the same for all pieces of a sample; `rejected` counts the events left out by reason."""

    how: Redecay
    schema: Schema
    jets: Jets
    select: Selection
    space: int  # of the new event ids
    rejected: Counter[str]


def redecay(events: Events, out: Path, how: Redecay) -> Events:
    """Write the signal of a sample with its parents decayed anew, cut as the sample was; the rest is counted.

    Of every event `true_mass` and the weight stay, the id is new, `decay_mode` is the number of quarks. Columns of jets
    that are not of `JET_EVENTS` are those of the jet that a new one is like.

    Raises:
        ConfigError: columns or cuts that are not known; `out` holds what another command made.
        DataError: no event is left.
    """
    deque(redecaying(events, out, how), maxlen=0)
    return Events.open(out)


def redecaying(events: Events, out: Path, how: Redecay) -> Iterator[int]:
    """The same step by step: how many events have been looked at so far."""
    check_place([events], out)
    done = working("redecay", how.values(), [events])
    work = Work(how, events.schema, *_cuts(events), int(digest(done), 16), Counter())
    if is_done(out, done):
        yield len(events)
        return
    seen = 0
    with shards_in(out, events.schema, done, how.events_per_shard) as shards:
        for shard in events.manifest.shards:
            for table in events.pieces(events.schema.names, shard):
                seen += table.num_rows
                shards.add(_anew(table, work))
                yield seen
        if seen == work.rejected.total():
            raise DataError(f"no event is left: {dict(work.rejected)}", where=str(events.path),
                            cure="give a signal sample with labels")  # fmt: skip
        shards.finish(out.resolve().name, events.manifest.cuts,
                      {"of": [described(events)], "rejected": dict(work.rejected)})  # fmt: skip


def _cuts(events: Events) -> tuple[Jets, Selection]:
    """How the sample's jets and events were chosen; what cannot be decayed anew is refused."""
    where = str(events.path)
    for name in KNOWN:
        if name not in events.schema:
            raise ConfigError(f"the sample has no column {name!r}", where=where,
                              cure=nearest(name, events.schema.names))  # fmt: skip
    for column in events.schema.each():
        if column.of not in (None, "jet"):
            raise ConfigError(f"column {column.name!r} is not of jets and cannot follow them", where=where,
                              cure="leave it out, with jetscale skim --columns")  # fmt: skip
    cuts = events.manifest.cuts
    if set(cuts) != {"jets", "select"}:
        raise ConfigError(f"the cuts cannot be made again: the manifest has {sorted(cuts) or 'none'}", where=where,
                          cure="take a sample as jetscale generate makes it, and skim afterwards")  # fmt: skip
    return build(Jets, cuts["jets"], where, "cuts.jets"), build(Selection, cuts["select"], where, "cuts.select")


def _anew(table: pa.Table, work: Work) -> pa.Table:
    """The events of a table that can decay anew and pass the cuts afterwards."""
    before = _padded(table, work.schema)
    known_B = (table["true_mass"].to_numpy() > 0) & (table["decay_mode"].to_numpy() > 0)
    few_B = np.min([before.of(parent).sum(axis=1) for parent in PARENTS], axis=0) < LEAST
    keep = _kept(work, [("no signal of known mass", ~known_B), (f"a parent with fewer than {LEAST} jets", few_B)])
    table, before = take(table, keep), _rows(before, keep)
    id_B, mass_B = table["event_id"].to_numpy(), table["true_mass"].to_numpy().astype(np.float64)
    bodies_B = choose(id_B, work.how.seed, work.how.bodies)
    after = _chosen(decayed(before, id_B, mass_B, bodies_B, seed=work.how.seed, radius=work.jets.radius,
                            response=work.how.response, smear=work.how.smear), work.jets)  # fmt: skip
    select, pt_BJ = work.select, np.where(after.mask_BJ, after.pt_BJ, 0.0)
    keep = _kept(work, [(f"fewer than {select.jets} jets above {select.pt:g} GeV",
                         (pt_BJ > select.pt).sum(axis=1) < select.jets),
                        (f"HT is not above {select.ht:g} GeV", pt_BJ.sum(axis=1) <= select.ht)])  # fmt: skip
    return _table(take(table, keep), _rows(after, keep), bodies_B[keep], work)


def _kept(work: Work, reasons: list[tuple[str, np.ndarray]]) -> np.ndarray:
    """Rows that fail for no reason; the others are counted under the first."""
    keep_B = np.ones(len(reasons[0][1]), dtype=bool)
    for reason, fails_B in reasons:
        if failed := int((keep_B & fails_B).sum()):
            work.rejected[reason] += failed
        keep_B &= ~fails_B
    return np.flatnonzero(keep_B)


def _padded(table: pa.Table, schema: Schema) -> Labelled:
    count_B = lengths(table, "jet", schema)
    mask_BJ = np.arange(max(count_B.max(initial=0), 1)) < count_B[:, None]

    def column(name: str) -> np.ndarray:
        padded_BJ = np.zeros(mask_BJ.shape)
        padded_BJ[mask_BJ] = flat(table[f"jet_{name}"])
        return padded_BJ

    pt, eta, phi, mass = (column(name) for name in ("pt", "eta", "phi", "mass"))
    momentum = [pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)]
    p4_BJ4 = np.stack([np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2) * mask_BJ, *momentum], axis=-1)
    ancestry, quark = column("parent_ancestry"), column("parent_quark")
    label_BJ = np.where(ancestry >= 0, ancestry, quark).astype(np.int64)
    return Labelled(mask_BJ, p4_BJ4, label_BJ, np.broadcast_to(np.arange(mask_BJ.shape[1]), mask_BJ.shape))


def _rows(jets: Labelled, keep: np.ndarray) -> Labelled:
    return Labelled(jets.mask_BJ[keep], jets.p4_BJ4[keep], jets.label_BJ[keep], jets.like_BJ[keep])


def _chosen(jets: Labelled, cuts: Jets) -> Labelled:
    """The leading central jets."""
    eta_BJ = np.arcsinh(jets.p4_BJ4[..., 3] / np.maximum(jets.pt_BJ, 1e-9))
    mask_BJ = jets.mask_BJ & (jets.pt_BJ > cuts.min_pt) & (np.abs(eta_BJ) < cuts.max_eta)
    mask_BJ &= np.cumsum(mask_BJ, axis=1) <= cuts.keep
    return Labelled(mask_BJ, jets.p4_BJ4, jets.label_BJ, jets.like_BJ)


def _table(table: pa.Table, jets: Labelled, bodies_B: np.ndarray, work: Work) -> pa.Table:
    """Rows with other jets; `table` has the events before."""
    bounds = np.concatenate([[0], np.cumsum(lengths(table, "jet", work.schema))])
    like = (bounds[:-1, None] + jets.like_BJ)[jets.mask_BJ]
    offsets = np.concatenate([[0], np.cumsum(jets.mask_BJ.sum(axis=1))]).astype(np.int32)
    energy, px, py, pz = jets.p4_BJ4[jets.mask_BJ].T
    pt, label = np.hypot(px, py), jets.label_BJ[jets.mask_BJ]
    mass = np.sqrt(np.maximum(energy**2 - pt**2 - pz**2, 0.0))
    new: dict[str, Any] = {
        "event_id": _ids(table["event_id"].to_numpy(), work.space),
        "decay_mode": bodies_B,
        "jet_pt": pt,
        "jet_eta": np.arcsinh(pz / pt),
        "jet_phi": np.arctan2(py, px),
        "jet_mass": mass,
        "jet_parent_ancestry": label,
        "jet_parent_quark": label,
    }
    arrays = []
    for column in work.schema.each():
        if column.of:
            values = new[column.name] if column.name in new else flat(table[column.name])[like]
            arrays.append(pa.ListArray.from_arrays(offsets, values).cast(column.arrow))
        else:
            arrays.append(pa.array(new.get(column.name, table[column.name].to_numpy())).cast(column.arrow))
    return pa.table(arrays, schema=work.schema.arrow)


def _ids(id_B: np.ndarray, space: int) -> np.ndarray:
    """New ids, 63 bits of a hash of the old ones: chance makes two of n events alike once in 1.8e19 / n^2 times."""
    mixed = keyed.mix(keyed.mix(np.array(id_B, dtype=np.int64)) + space)
    return np.asarray(mixed & ((1 << 63) - 1))
