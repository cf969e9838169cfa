"""Which changes of a jet a tagger does not see, and which it does: a table that can fail both ways.

Every system of taggers has a row. A network that nothing may be hidden from, and which sees everything, shows that
each of the changes is one.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from jetscale.data.batch import batch
from jetscale.systems.deepjet import DeepJet
from jetscale.tagger import Tagger
from jetscale.task import At, Batch, find, names

Jet = dict[str, np.ndarray]  # columns of one jet, of its particles and of its vertices
N = 8
# Largest change of a logit, in units of the spread of the logits among jets: angles to the power of 1/2 feel rounding.
SAME, OTHER = 1e-3, 1e-2

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "deepjet": {"width": 32, "layers": 2},
    "efn": {},
    "efn turned": {"turned": True},
    "efp": {"edges": 3},
    "particle_transformer": {"embed": (32, 32), "pair_embed": (16, 16), "heads": 4, "blocks": 2},
    "particlenet": {"size": "lite"},
    "particlenet dropped": {"size": "lite", "phantom": "drop"},
    "pcnn": {},
    "pcnn published": {"pool": "length", "particles": 64},
    "pfn": {},
    "pfn turned": {"turned": True},
    "resnext": {"layers": 14, "size": 16},
    "rnn": {},
}
# What leaves the outputs as they are; all else must change them.
HIDDEN: Mapping[str, set[str]] = {
    # Of a turn only the energy of a vertex tells, in the fifth digit.
    "deepjet": {"order", "padding", "azimuth", "mirrored azimuth", "turn"},
    "efn": {"order", "padding", "azimuth", "boost", "scale", "soft", "split"},
    "efn turned": {"order", "padding", "azimuth", "boost", "scale", "soft", "split", "turn", "mirrored rapidity",
                   "mirrored azimuth"},
    "efp": {"order", "padding", "azimuth", "boost", "scale", "soft", "split", "turn", "mirrored rapidity",
            "mirrored azimuth"},
    "particle_transformer": {"order", "padding", "azimuth", "mirrored rapidity"},
    "particlenet": {"order", "padding", "azimuth", "mirrored rapidity"},
    "particlenet dropped": {"order", "padding", "azimuth", "mirrored rapidity"},
    "pcnn": {"padding", "azimuth", "mirrored rapidity"},
    "pcnn published": {"padding", "azimuth", "mirrored rapidity"},
    "pfn": {"order", "padding", "azimuth", "boost", "scale"},
    "pfn turned": {"order", "padding", "azimuth", "boost", "scale", "turn", "mirrored rapidity", "mirrored azimuth"},
    "resnext": {"order", "padding", "azimuth", "boost", "scale", "soft", "split", "turn", "mirrored rapidity",
                "mirrored azimuth"},
    "rnn": {"order", "padding", "azimuth", "boost", "scale"},
    "all": set(),
}  # fmt: skip


def columns(jet: Jet, of: str) -> list[str]:
    return [name for name in jet if name.startswith(f"{of}_")]


def rapidity(pt: np.ndarray, eta: np.ndarray, mass: np.ndarray) -> np.ndarray:
    return np.asarray(np.arcsinh(pt * np.sinh(eta) / np.hypot(pt, mass)))


def rearranged(jet: Jet, place_P: np.ndarray) -> Jet:
    return {**jet, **{name: jet[name][place_P] for name in columns(jet, "particle")}}


def order(jet: Jet) -> Jet:
    return rearranged(jet, np.random.default_rng(1).permutation(len(jet["particle_pt"])))


def azimuth(jet: Jet) -> Jet:
    """Turned about the beam, across the seam for most."""
    return {**jet, **{name: np.remainder(jet[name] + 2.5 + np.pi, 2 * np.pi) - np.pi
                      for name in jet if name.endswith("_phi")}}  # fmt: skip


def boost(jet: Jet) -> Jet:
    """Along the beam: transverse momenta and masses stay, rapidities move."""
    made = {}
    for of in ("jet", "particle", "vertex"):
        pt, eta, mass = (jet[f"{of}_{name}"] for name in ("pt", "eta", "mass"))
        made[f"{of}_eta"] = np.arcsinh(np.hypot(pt, mass) / pt * np.sinh(rapidity(pt, eta, mass) + 0.6))
    return {**jet, **made}


def scale(jet: Jet) -> Jet:
    """All momenta and masses three times as large."""
    return {**jet, **{name: 3 * jet[name] for name in jet if name.endswith(("_pt", "_mass"))}}


def mirrored_rapidity(jet: Jet) -> Jet:
    return {**jet, **{name: -jet[name] for name in jet if name.endswith(("_eta", "_dz"))}}


def mirrored_azimuth(jet: Jet) -> Jet:
    return {**jet, **{name: -jet[name] for name in jet if name.endswith("_phi")}}


def turn(jet: Jet) -> Jet:
    """Particles and vertices about the axis of the jet, in the plane of rapidity and azimuth."""
    made = {}
    for of in ("particle", "vertex"):
        y = jet[f"{of}_eta"] - jet["jet_eta"]
        x = np.remainder(jet[f"{of}_phi"] - jet["jet_phi"] + np.pi, 2 * np.pi) - np.pi
        made |= {f"{of}_eta": jet["jet_eta"] + np.cos(1.0) * y - np.sin(1.0) * x,
                 f"{of}_phi": jet["jet_phi"] + np.sin(1.0) * y + np.cos(1.0) * x}  # fmt: skip
    return {**jet, **made}


def soft(jet: Jet) -> Jet:
    """One particle more, of next to no momentum."""
    made = rearranged(jet, np.append(np.arange(len(jet["particle_pt"])), 0))
    made["particle_pt"][-1], made["particle_phi"][-1] = 1e-6, made["particle_phi"][0] + 0.3
    return made


def split(jet: Jet) -> Jet:
    """The hardest particle as two that fly side by side, each in its place in falling pt."""
    made = rearranged(jet, np.append(np.arange(len(jet["particle_pt"])), 0))
    made["particle_pt"][0] *= 0.7
    made["particle_pt"][-1] *= 0.3
    return rearranged(made, np.argsort(-made["particle_pt"], kind="stable"))


CHANGES: Mapping[str, Callable[[Jet], Jet]] = {
    "order": order, "azimuth": azimuth, "boost": boost, "scale": scale, "mirrored rapidity": mirrored_rapidity,
    "mirrored azimuth": mirrored_azimuth, "turn": turn, "soft": soft, "split": split,
}  # fmt: skip


def jets(task: Tagger) -> list[Jet]:
    """Toy jets away from the plane at a right angle to the beam, where mirrored features have no sign."""
    toy = DeepJet(classes=task.classes).toy(N, 4).to_pylist()
    return [{name: np.asarray(one, dtype=np.float64) for name, one in row.items()} for row in toy]


def rows(task: Tagger, changed: list[Jet], more: int = 0) -> Batch:
    """Jets as a batch; `more` slots hold numbers that are not 0."""
    schema = task.columns
    table = pa.table([pa.array([jet[column.name].tolist() for jet in changed]).cast(column.arrow)
                      for column in schema.each()], schema=schema.arrow)  # fmt: skip
    none = np.zeros(len(changed), dtype=np.int64)
    made = batch([table], schema, np.ones(len(changed)), none, none, At(0, 0, 0.0), 1)
    fill = torch.nn.functional.pad
    held = {column.name: fill(made[column.name], (0, more), value=2.0) if column.of else made[column.name]
            for column in schema.each()}  # fmt: skip
    masks = {name: fill(mask, (0, more)) for name, mask in made.masks.items()}
    return Batch(held, masks, made.weight_B, made.lane_B, made.row_B, made.at, made.seed)


def everything(task: Tagger, seen: Batch) -> Tensor:
    """A sum of all numbers of a jet, each with a weight of its own slot: nothing is hidden from it."""
    total_B = torch.zeros(len(seen.weight_B))
    for number, name in enumerate(task.inputs.names):
        value = seen[name].double()
        value = value / (1 + value.abs().mean())
        slots = torch.arange(1.0, 1 + value[0].numel())
        total_B = total_B + (value.flatten(1) if value.dim() > 1 else value[:, None]) @ (slots + number).cos().double()
    return total_B[:, None].float()


@pytest.mark.parametrize("name", HIDDEN)
def test_what_a_tagger_sees_of_a_jet(name: str) -> None:
    task: Any = DeepJet() if name == "all" else find(name.split(maxsplit=1)[0]).task(**SETTINGS[name])
    given = jets(task)
    net = task.build(1).eval()

    def logits(changed: list[Jet], more: int = 0) -> Tensor:
        seen = rows(task, changed, more)
        with torch.no_grad():
            return everything(task, seen) if name == "all" else net(*task.tensors(seen))

    wanted_BK = logits(given)
    spread = float(wanted_BK.std(0).max())
    found = {"padding": logits(given, 9)}
    found |= {change: logits([made(jet) for jet in given]) for change, made in CHANGES.items()}
    moved = {change: float((one - wanted_BK).abs().max()) / spread for change, one in found.items()}
    assert {change: round(by, 6) for change, by in moved.items() if change in HIDDEN[name] and by >= SAME} == {}
    assert {change: round(by, 6) for change, by in moved.items() if change not in HIDDEN[name] and by <= OTHER} == {}


CUT = [name for name in SETTINGS if name != "deepjet"]  # which reads so many of each of its lists


@pytest.mark.parametrize("name", CUT)
def test_only_the_hardest_are_read(name: str) -> None:
    task: Any = find(name.split(maxsplit=1)[0]).task(**{**SETTINGS[name], "particles": 5})
    net, seen = task.build(1).eval(), task.tensors(rows(task, jets(task)))
    *jet, particle, mask = seen
    assert mask[:, 6:].any()
    with torch.no_grad():
        found, few = net(*seen), net(*jet, particle[:, :5], mask[:, :5])
        spread = float(found.std(0).max())
        assert float((found - few).abs().max()) / spread < SAME
        assert float((found - net(*jet, particle[:, :4], mask[:, :4])).abs().max()) / spread > OTHER


def test_every_tagger_has_a_row() -> None:
    taggers = {name for name in names() if issubclass(find(name).task, Tagger)}
    assert {row.split()[0] for row in SETTINGS} == taggers
    assert set(HIDDEN) == {*SETTINGS, "all"}
