"""Files like CMS NanoAOD, made up from a seed: what people have, and most of it is nothing that a training reads.

As there: a kilobyte or two per event, hundreds of branches, collections with their counters, floats whose last bits
are cut off. Central NanoAOD has LZMA, beside whose reading everything else looks cheap: here that is one kind, at a
level that is quick to write and as slow to read, and the others have zstd, which skims often have.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import awkward as ak
import numpy as np
import uproot

Kind = Literal["TTree", "RNTuple", "TTree with LZMA"]
Columns = dict[str, Any]
TREE = "Events"
BLOCK = 5000
RUN = 316_000
BYTES_PER_EVENT = 2000
KEPT_BITS = np.uint32(0xFFFFF800)  # 12 of the 23 bits behind the point


class Collection(NamedTuple):
    """A collection: how many members an event has in the mean, and its members' numbers by their type."""

    mean: float
    floats: tuple[str, ...]
    ints: tuple[str, ...] = ()


MOMENTUM = ("pt", "eta", "phi", "mass")
LEPTON = (*MOMENTUM, "dxy", "dxyErr", "dz", "dzErr", "ip3d", "sip3d", "miniPFRelIso_all", "pfRelIso03_all", "mvaTTH")
COLLECTIONS = {
    "Jet": Collection(
        7.0,
        (*MOMENTUM, "area", "rawFactor", "chHEF", "neHEF", "chEmEF", "neEmEF", "muEF", "btagDeepFlavB",
         "btagDeepFlavCvL", "btagDeepFlavCvB", "btagDeepFlavQG", "btagPNetB", "qgl"),
        ("jetId", "puId", "nConstituents", "hadronFlavour", "partonFlavour", "genJetIdx"),
    ),
    "FatJet": Collection(
        1.5,
        (*MOMENTUM, "msoftdrop", "tau1", "tau2", "tau3", "tau4", "particleNet_TvsQCD", "particleNet_WvsQCD"),
        ("jetId", "nConstituents", "hadronFlavour"),
    ),
    "Electron": Collection(1.0, LEPTON, ("charge", "cutBased", "pdgId")),
    "Muon": Collection(1.0, LEPTON, ("charge", "nStations", "pdgId")),
    "Tau": Collection(1.0, (*LEPTON[:8], "rawDeepTau2017v2p1VSjet"), ("charge", "decayMode")),
    "GenJet": Collection(9.0, MOMENTUM, ("partonFlavour",)),
    "GenPart": Collection(40.0, MOMENTUM, ("genPartIdxMother", "pdgId", "status", "statusFlags")),
}  # fmt: skip
NUMBERS = ("genWeight", "puWeight", "MET_pt", "MET_phi", "MET_sumEt", "PuppiMET_pt", "PuppiMET_phi", "RawMET_pt",
           "PV_x", "PV_y", "PV_z", "fixedGridRhoFastjetAll", "Pileup_nTrueInt", "Generator_scalePDF")  # fmt: skip
TRIGGERS = tuple(f"HLT_Path{number:02}" for number in range(60))


def nanoaod(folder: Path, size: int, kind: Kind, seed: int = 1, say: Callable[[str], None] = lambda _: None) -> Path:
    """A file of about `size` bytes; one that is there already is taken as it is."""
    path = folder / f"nanoaod-{kind.lower().replace(' ', '-')}-{size}-{seed}.root"
    if path.is_file():
        return path
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        _write(beside, size, kind, seed)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    say(f"{path.stat().st_size / 1e6:,.0f} MB of made-up NanoAOD as {kind}")
    return path


def _write(path: Path, size: int, kind: Kind, seed: int) -> None:
    """Block by block, each one basket of every branch, or one cluster; the last one is cut to size.

    A second tree says what the generator's weights sum to.
    """
    name = uuid.uuid5(uuid.NAMESPACE_URL, f"{kind} {size} {seed}")
    written = events = 0
    total = 0.0
    compression = uproot.LZMA(1) if kind.endswith("LZMA") else uproot.ZSTD(5)
    with uproot.recreate(path, compression=compression, uuid_function=lambda: name) as file:
        make = file.mkrntuple if kind == "RNTuple" else file.mktree
        tree = make(TREE, _types(_laid_out(events_of(1, (seed, 0)), kind), kind))
        while written < size:
            left = (size - written) * events / written if events else size / BYTES_PER_EVENT
            block = max(1, min(BLOCK, int(left) + 1))
            columns = events_of(block, (seed, events))
            tree.extend(_laid_out(columns, kind))
            events, total = events + block, total + float(columns["genWeight"].sum(dtype=np.float64))
            written = path.stat().st_size
        runs: Columns = {"run": np.array([RUN], dtype=np.uint32), "genEventCount": np.array([events]),
                         "genEventSumw": np.array([total])}  # fmt: skip
        make("Runs", _types(runs, kind)).extend(runs)


def events_of(n: int, seed: tuple[int, ...]) -> Columns:
    """So many events: one array per number, one array of records per collection."""
    dice = np.random.default_rng(seed)
    columns: Columns = {
        "run": np.full(n, RUN, dtype=np.uint32),
        "luminosityBlock": (seed[-1] // 1000 + np.arange(n) // 1000 + 1).astype(np.uint32),
        "event": (seed[-1] + np.arange(n)).astype(np.uint64),
    }
    columns |= {name: _floats(dice, name, n) for name in NUMBERS}
    columns |= {name: dice.random(n) < 0.05 for name in TRIGGERS}
    for name, collection in COLLECTIONS.items():
        count_B = dice.poisson(collection.mean, n)
        total = int(count_B.sum())
        members: Columns = {one: _floats(dice, one, total) for one in collection.floats}
        members |= {one: dice.integers(0, 12, total, dtype=np.int32) for one in collection.ints}
        columns[name] = ak.unflatten(ak.zip(members, depth_limit=1), count_B)
    return columns


def _floats(dice: np.random.Generator, name: str, n: int) -> np.ndarray:
    """As wide as their names say, with as many bits as are kept there."""
    if name.endswith("phi"):
        values = dice.uniform(-np.pi, np.pi, n)
    elif name.endswith(("eta", "_x", "_y", "_z")):
        values = dice.normal(0, 1.5, n)
    else:
        values = dice.standard_exponential(n) * (50 if name.endswith(("pt", "Et")) else 1)
    return (values.astype(np.float32).view(np.uint32) & KEPT_BITS).view(np.float32)


def _laid_out(columns: Columns, kind: Kind) -> Columns:
    """As uproot takes them: of a collection's records a tree makes branches and a counter by itself."""
    if kind != "RNTuple":
        return columns
    flat: Columns = {}
    for name, values in columns.items():
        if name in COLLECTIONS:
            flat[f"n{name}"] = ak.num(values, axis=1).to_numpy().astype(np.int32)
            flat |= {f"{name}_{member}": values[member] for member in values.fields}
        else:
            flat[name] = values
    return flat


def _types(columns: Columns, kind: Kind) -> Any:
    if kind != "RNTuple":
        return {name: one.type.content if isinstance(one, ak.Array) else one.dtype for name, one in columns.items()}
    return ak.Array(columns).layout.form
