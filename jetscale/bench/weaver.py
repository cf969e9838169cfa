"""weaver-core as it ships, on files of JetClass: its loader with one worker, its networks, its training loop.

Its command `weaver` does the same from the same options, epoch after epoch; here an epoch has so many steps, and comes
when it is told to. The networks are those of its wheel with the numbers of the papers (arXiv:1902.08570, 2202.03772).
It is imported in the process that plays it, and nowhere else.
"""

from __future__ import annotations

import multiprocessing
from argparse import Namespace
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from jetscale.bench.jetclass import FILES, MOST, TREE, Size
from jetscale.config import Values, dump_yaml
from jetscale.physics.constituents import FEATURES, Scaling

FETCHED = 20_000  # jets that its worker reads and pads at once: with fewer it is slower, opening every file so often
KEPT = 8  # batches in memory, for steps without a feed
RATE = 1e-3
INPUTS = {"particlenet": ("points", "features", "mask"), "particle_transformer": ("features", "vectors", "mask")}
# Our names of features, and what they are made of in the files.
MADE = {
    "log_pt": "np.log(np.hypot(part_px, part_py))", "log_e": "np.log(part_energy)",
    "log_pt_rel": "np.log(np.hypot(part_px, part_py) / jet_pt)", "log_e_rel": "np.log(part_energy / jet_energy)",
    "delta_r": "np.hypot(part_deta, part_dphi)", "d0": "np.tanh(part_d0val)", "dz": "np.tanh(part_dzval)",
    "mask": "ak.ones_like(part_energy)",
}  # fmt: skip
BRANCHES = {
    "charge": "part_charge", "charged_hadron": "part_isChargedHadron", "neutral_hadron": "part_isNeutralHadron",
    "photon": "part_isPhoton", "electron": "part_isElectron", "muon": "part_isMuon", "d0_error": "part_d0err",
    "dz_error": "part_dzerr", "delta_eta": "part_deta", "delta_phi": "part_dphi",
}  # fmt: skip


def theirs(system: str, files: Sequence[Path], folder: Path, size: Size, parts: Sequence[str]) -> Iterator[Values]:
    """First a turn of training, then what a pass over the files reads, then the parts in turn, again and again."""
    from weaver.train import init_opt, iotest, train_load
    from weaver.utils.nn.tools import train_classification

    # As in a process that nobody has spawned: its loader's worker could not be spawned in its turn.
    multiprocessing.set_start_method("fork", force=True)
    torch.set_num_threads(size.threads)
    torch.manual_seed(1)
    config = folder / f"{system}.yaml"
    config.write_text(dump_yaml(config_of(system)))
    args = arguments(config, files, size)
    net = network(system)
    optimiser, _ = init_opt(args, net)
    loader = train_load(args)[0]

    def turn(batches: Any) -> Values:
        train_classification(net, nn.CrossEntropyLoss(), optimiser, None, batches, torch.device("cpu"), 0,
                             steps_per_epoch=size.steps, extra_args={"args": args})  # fmt: skip
        return {"jets": size.steps * size.batch}

    yield turn(loader) | {"parameters": sum(one.numel() for one in net.parameters())}
    args.steps_per_epoch = None
    whole = train_load(args)[0]
    kept = Kept(loader)
    yield read(whole)
    while True:
        for part in parts:
            if part == "feed":
                iotest(args, whole)
                yield {"jets": size.jets}
            else:
                yield turn(loader if part == "training" else kept)


class Kept:
    """The first batches of a loader, in memory, over and over: what its training loop takes for a loader."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.dataset, self.batches = loader.dataset, list(islice(loader, KEPT))

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield from self.batches


def read(loader: DataLoader[Any]) -> Values:
    """Jets and particles of a pass, and the sums of the particles' features."""
    jets, particles, sum_C = 0, 0.0, torch.zeros(len(FEATURES), dtype=torch.float64)
    for inputs, _, _ in loader:
        mask_B1P: Tensor = inputs["mask"]
        jets, particles = jets + len(mask_B1P), particles + float(mask_B1P.sum())
        sum_C += (inputs["features"] * mask_B1P).double().sum((0, 2))
    return {"jets": jets, "particles": int(particles), "sums": sum_C.tolist()}


def network(system: str) -> nn.Module:
    """A network of its wheel with fresh weights, for the features and the labels of JetClass."""
    from weaver.nn.model.ParticleNet import ParticleNet
    from weaver.nn.model.ParticleTransformer import ParticleTransformer

    if system == "particlenet":
        blocks = [(16, (64, 64, 64)), (16, (128, 128, 128)), (16, (256, 256, 256))]
        net: nn.Module = ParticleNet(len(FEATURES), len(FILES), blocks, [(256, 0.1)], use_fusion=False)
    else:
        net = ParticleTransformer(len(FEATURES), len(FILES), pair_input_dim=4, use_pre_activation_pair=False)
    return net


def arguments(config: Path, files: Sequence[Path], size: Size) -> Namespace:
    """What its command would make of these options, with all of the files for training."""
    from weaver.train import parser

    groups = [f"{file.stem}:{file}" for file in files]
    words = {"--data-config": config, "--data-config-val": config, "--batch-size": size.batch,
             "--batch-size-val": size.batch, "--num-workers": 1, "--fetch-step": min(1.0, FETCHED / size.jets),
             "--fetch-step-val": 1, "--data-split-val": 1, "--steps-per-epoch": size.steps, "--gpus": "",
             "--optimizer": "adamw", "--start-lr": RATE, "--lr-scheduler": "none"}  # fmt: skip
    said = [str(word) for pair in words.items() for word in pair]
    args: Namespace = parser.parse_args([*said, "--data-train", *groups, "--data-val", *groups])
    args.local_rank = None
    return args


def config_of(system: str) -> Values:
    """Its data config: the same features with the same numbers as ours, at most 128 particles."""
    features = [[_variable(name), *([None] if one == Scaling() else one)] for name, one in FEATURES.items()]
    inputs = {
        "points": {"length": MOST, "pad_mode": "constant", "vars": [["part_deta", None], ["part_dphi", None]]},
        "features": {"length": MOST, "pad_mode": "constant", "vars": features},
        "vectors": {"length": MOST, "pad_mode": "constant",
                    "vars": [[f"part_{name}", None] for name in ("px", "py", "pz", "energy")]},
        "mask": {"length": MOST, "pad_mode": "constant", "vars": [[_variable("mask"), None]]},
    }  # fmt: skip
    return {
        "treename": TREE,
        "selection": None,
        "new_variables": {_variable(name): how for name, how in MADE.items()},
        "preprocess": {"method": "manual"},
        "inputs": {name: inputs[name] for name in INPUTS[system]},
        "labels": {"type": "simple", "value": [f"label_{name}" for name in FILES.values()]},
    }


def _variable(name: str) -> str:
    return BRANCHES.get(name, f"made_{name}")
