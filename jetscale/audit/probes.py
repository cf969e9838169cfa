"""Probes: what a symmetry makes of events, and by how much a function breaks it.

Every public function of a table and a random generator here is a probe: it gives the events after the change, and the
factor by which a mass must have changed. The jets are not sorted again.
"""

from __future__ import annotations

import inspect
import sys
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from jetscale.audit.jets import counts, jet_columns, momenta, rows, with_jets
from jetscale.errors import ConfigError, nearest
from jetscale.metrics import Estimate, Floats
from jetscale.schema import flat

FARTHEST = 0.5  # rapidity of a boost
MOST = 2.0  # of a rescaling
CONSTANT = 1e-9  # what varies by less of its own size is a constant up to rounding


class Moved(NamedTuple):
    """Events after a change, and what a mass must have been multiplied by, (B,)."""

    table: pa.Table
    factor_B: Floats


def permutation(table: pa.Table, dice: np.random.Generator) -> Moved:
    """The jets of every event in another order, all that is known of a jet staying with it."""
    order_J = np.lexsort((dice.random(int(counts(table).sum())), rows(table)))
    return _invariant(with_jets(table, {name: flat(table[name])[order_J] for name in jet_columns(table)}))


def rotation(table: pa.Table, dice: np.random.Generator) -> Moved:
    """Every event turned round the beam by an angle of its own."""
    turned_J = momenta(table)["jet_phi"] + dice.uniform(-np.pi, np.pi, table.num_rows)[rows(table)]
    return _invariant(with_jets(table, {"jet_phi": _wrapped(turned_J)}))


def phi_reflection(table: pa.Table, dice: np.random.Generator) -> Moved:
    """Every event in a mirror that contains the beam."""
    return _invariant(with_jets(table, {"jet_phi": -_wrapped(momenta(table)["jet_phi"])}))


def eta_reflection(table: pa.Table, dice: np.random.Generator) -> Moved:
    """Every event with the two beams exchanged."""
    return _invariant(with_jets(table, {"jet_eta": -momenta(table)["jet_eta"]}))


def boost(table: pa.Table, dice: np.random.Generator) -> Moved:
    """Every event boosted along the beam by a rapidity of its own, up to half a unit either way."""
    jets = momenta(table)
    shift_J = dice.uniform(-FARTHEST, FARTHEST, table.num_rows)[rows(table)]
    pt_J = np.maximum(jets["jet_pt"], 1e-12)
    transverse_J = np.hypot(pt_J, jets["jet_mass"])
    along_J = transverse_J * np.sinh(np.arcsinh(pt_J * np.sinh(jets["jet_eta"]) / transverse_J) + shift_J)
    eta_J = np.where(jets["jet_pt"] > 0, np.arcsinh(along_J / pt_J), jets["jet_eta"])
    return _invariant(with_jets(table, {"jet_eta": eta_J}))


def scale(table: pa.Table, dice: np.random.Generator) -> Moved:
    """Every event with all energies multiplied by a number of its own between 1/2 and 2: a mass must follow."""
    factor_B = MOST ** dice.uniform(-1, 1, table.num_rows)
    jets = momenta(table)
    scaled = {name: jets[name] * factor_B[rows(table)] for name in ("jet_pt", "jet_mass")}
    return Moved(with_jets(table, scaled), factor_B)


def names() -> tuple[str, ...]:
    """The probes of this module: its functions of a table and a generator."""
    wanted = {"table": "pa.Table", "dice": "np.random.Generator", "return": "Moved"}
    found = inspect.getmembers(sys.modules[__name__], inspect.isfunction)
    return tuple(name for name, function in found if function.__annotations__ == wanted)


def moved(name: str, table: pa.Table, seed: int) -> Moved:
    """The events after the change of a name; equal seeds draw equal changes.

    Raises:
        ConfigError: no such probe.
    """
    if name not in names():
        raise ConfigError(f"no probe {name!r}", where="probes", cure=nearest(name, names()))
    change: Moved = getattr(sys.modules[__name__], name)(table, np.random.default_rng([seed, *name.encode()]))
    return change


def violation(before_B: Floats, after_B: Floats, factor_B: Floats, *, replicas: int = 200, seed: int = 0) -> Estimate:
    """E|f(gx) - rho(g) f(x)| / std f, with its error from events drawn anew (Efron 1979).

    `before_B` is f(x), `after_B` is f(gx) and `factor_B` is rho(g), all (B,). 0 is an exact symmetry; two values of f
    that have nothing to do with each other differ by about 1.
    """
    columns_3B = np.stack([np.abs(after_B - factor_B * before_B), _centred(before_B), _centred(before_B) ** 2])
    events = len(before_B)
    dice = np.random.default_rng(seed)
    counts_RB = [np.bincount(dice.integers(events, size=events), minlength=events) for _ in range(replicas)]
    least = CONSTANT * float(np.abs(before_B).mean())
    drawn_R = _ratio(np.stack([columns_3B @ count_B / events for count_B in counts_RB]), least)
    value = _ratio(columns_3B.mean(1)[None], least)[0]
    return Estimate(float(value), float(np.std(drawn_R, ddof=1)))


def _ratio(means_R3: Floats, least: float) -> Floats:
    """Mean difference over standard deviation; 0 where nothing differs."""
    deviation_R = np.sqrt(np.maximum(means_R3[:, 2] - means_R3[:, 1] ** 2, 0.0))
    scale_R = np.maximum(deviation_R, least)
    return np.divide(means_R3[:, 0], scale_R, out=np.zeros(len(means_R3)), where=means_R3[:, 0] > 0)


def _centred(values_B: Floats) -> Floats:
    return np.asarray(values_B - values_B.mean())


def _wrapped(phi_J: Floats) -> Floats:
    return np.asarray(np.arctan2(np.sin(phi_J), np.cos(phi_J)))


def _invariant(table: pa.Table) -> Moved:
    return Moved(table, np.ones(table.num_rows))
