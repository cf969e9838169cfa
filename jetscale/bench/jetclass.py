"""Files like JetClass's, made up from a seed: branches, types and compression as there, ten labels, one file for each.

Jets have 49 particles on average and at most 128, with a spread of 18 between them, which decides how much of a padded
batch is padding. The particles carry no physics: what counts is how many numbers have to be read, put in order and
gone through.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NamedTuple

import awkward as ak
import numpy as np
import uproot

# As the files of JetClass are called, and the label that is 1 in each.
FILES = {"ZJetsToNuNu": "QCD", "HToBB": "Hbb", "HToCC": "Hcc", "HToGG": "Hgg", "HToWW4Q": "H4q", "HToWW2Q1L": "Hqql",
         "ZToQQ": "Zqq", "WToQQ": "Wqq", "TTBar": "Tbqq", "TTBarLep": "Tbl"}  # fmt: skip
KINDS = {"ChargedHadron": 0.55, "NeutralHadron": 0.12, "Photon": 0.3, "Electron": 0.02, "Muon": 0.01}
CHARGED = ("ChargedHadron", "Electron", "Muon")
MEAN, SPREAD, MOST = 49.0, 18.0, 128
RADIUS = 0.8
BLOCK = 2000  # jets of a basket
TREE = "tree"
Columns = dict[str, np.ndarray | ak.Array]


class Size(NamedTuple):
    """How much both sides have to do: jets of the files and of a batch, steps of a turn, threads, turns that count.

    weaver trims no batch before its sixth step: a turn, whose first does not count, should have as many.
    """

    jets: int
    batch: int
    steps: int
    threads: int
    rounds: int


def jetclass(folder: Path, jets: int, seed: int = 1) -> list[Path]:
    """The ten files, of so many jets together (a multiple of ten); those that are there already are taken as they
    are."""
    place = folder / f"jetclass-{jets}-{seed}"
    if not place.is_dir():
        beside = folder / f".{place.name}.{os.getpid()}.part"
        try:
            beside.mkdir(parents=True)
            for number, (name, label) in enumerate(FILES.items()):
                _write(beside / f"{name}_000.root", jets // len(FILES), label, (seed, number))
            os.replace(beside, place)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return sorted(place.glob("*.root"))


def _write(file: Path, jets: int, label: str, seed: tuple[int, int]) -> None:
    with uproot.recreate(file, compression=uproot.ZLIB(1)) as root:
        for start in range(0, jets, BLOCK):
            columns = columns_of(min(BLOCK, jets - start), label, np.random.default_rng((*seed, start)))
            if not start:
                root.mktree(TREE, {name: one.type.content if isinstance(one, ak.Array) else one.dtype
                                   for name, one in columns.items()})  # fmt: skip
            root[TREE].extend(columns)


def columns_of(n: int, label: str, dice: np.random.Generator) -> Columns:
    """The branches of so many jets."""
    count_B = _counts(n, dice)
    jet_I = np.repeat(np.arange(n), count_B)
    axis = {"pt": dice.uniform(500, 1000, n), "eta": dice.uniform(-2, 2, n), "phi": dice.uniform(-np.pi, np.pi, n)}
    share_I = dice.exponential(1.0, len(jet_I)) ** 2 + 1e-3
    pt_I = (axis["pt"] / np.bincount(jet_I, share_I, n))[jet_I] * share_I
    order = np.lexsort((-pt_I, jet_I))
    away_I2 = dice.normal(0, 0.3 * RADIUS, (len(jet_I), 2)).clip(-RADIUS, RADIUS)
    momenta = _momenta(pt_I[order], axis["eta"][jet_I] + away_I2[:, 0], axis["phi"][jet_I] + away_I2[:, 1])
    jet = _sums(n, jet_I, momenta)
    eta_I, phi_I = np.arcsinh(momenta["pz"] / pt_I[order]), np.arctan2(momenta["py"], momenta["px"])
    parts = {
        **momenta,
        "deta": (eta_I - jet["eta"][jet_I]) * np.where(jet["eta"] < 0, -1, 1)[jet_I],
        "dphi": np.remainder(phi_I - jet["phi"][jet_I] + np.pi, 2 * np.pi) - np.pi,
        **_kinds(len(jet_I), dice),
    }
    labels = {f"label_{name}": np.full(n, name == label) for name in FILES.values()}
    flat = {**{f"jet_{name}": one for name, one in jet.items()}, "jet_nparticles": count_B, **labels}
    lists = {f"part_{name}": ak.unflatten(one.astype(np.float32), count_B) for name, one in parts.items()}
    return {**{name: one.astype(np.float32) for name, one in flat.items()}, **lists}


def _counts(n: int, dice: np.random.Generator) -> np.ndarray:
    """How many particles each jet has."""
    rest = MEAN / (SPREAD**2 - MEAN)
    return dice.poisson(dice.gamma(MEAN * rest, 1 / rest, n)).clip(1, MOST)


def _momenta(pt_I: np.ndarray, eta_I: np.ndarray, phi_I: np.ndarray) -> dict[str, np.ndarray]:
    """Of particles without mass, GeV."""
    return {"px": pt_I * np.cos(phi_I), "py": pt_I * np.sin(phi_I), "pz": pt_I * np.sinh(eta_I),
            "energy": pt_I * np.cosh(eta_I)}  # fmt: skip


def _sums(n: int, jet_I: np.ndarray, momenta: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The jets that the particles sum to."""
    px_B, py_B, pz_B, energy_B = (np.bincount(jet_I, one, n) for one in momenta.values())
    pt_B = np.hypot(px_B, py_B)
    return {"pt": pt_B, "eta": np.arcsinh(pz_B / pt_B), "phi": np.arctan2(py_B, px_B), "energy": energy_B}


def _kinds(particles: int, dice: np.random.Generator) -> dict[str, np.ndarray]:
    """Flags of kinds, charges, and the impact parameters (mm) of what is charged, with their errors."""
    kind_I = dice.choice(len(KINDS), particles, p=list(KINDS.values()))
    charged_I = np.isin(kind_I, [number for number, name in enumerate(KINDS) if name in CHARGED])
    found = {f"is{name}": kind_I == number for number, name in enumerate(KINDS)}
    found["charge"] = charged_I * dice.choice([-1, 1], particles)
    for name in ("d0", "dz"):
        found[f"{name}err"] = charged_I * dice.uniform(0.01, 0.1, particles)
        found[f"{name}val"] = dice.normal(0, 3, particles) * found[f"{name}err"]
    return found
