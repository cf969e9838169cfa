"""Flow networks with EnergyFlow's weights give EnergyFlow's outputs, which make_energyflow.py has stored."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from jetscale.systems.efn import EFN, filters
from jetscale.systems.pfn import PFN
from jetscale.tagger import Tagger

pytestmark = pytest.mark.reference
STORED = json.loads(Path(__file__).with_name("energyflow.json").read_text())
SIZES = {"phi": tuple(STORED["phi"]), "f": tuple(STORED["f"])}
TASKS: dict[str, Tagger] = {
    "pfn": PFN(**SIZES), "pfn_turned": PFN(turned=True, **SIZES),
    "pfn_id": PFN(ids="full", encoding="number", **SIZES), "efn": EFN(**SIZES),
}  # fmt: skip
CLOSE = 1e-8  # their numbers are in double precision; the small numbers that stand for species are not


def ours(name: str) -> torch.nn.Module:
    """Our network with their weights: theirs are (into, out), a kernel and a bias by turns."""
    net = TASKS[name].build(1).double().eval()
    layers = [*net.net.phi.layers, *net.net.f.layers]
    weights = [torch.tensor(one, dtype=torch.float64) for one in STORED["networks"][name]["weights"]]
    state = {}
    for layer, kernel, bias in zip(layers, weights[::2], weights[1::2], strict=True):
        (prefix,) = [name for name, one in net.named_modules() if one is layer]
        state |= {f"{prefix}.weight": kernel.t(), f"{prefix}.bias": bias}
    net.load_state_dict(state)
    return net


def inputs(name: str) -> tuple[Tensor, Tensor]:
    """Our columns of the same jets: azimuths lie on both sides of the seam."""
    pt, rapidity, phi, pdg = torch.tensor(STORED["jets"], dtype=torch.float64).unbind(-1)
    phi = torch.remainder(phi + math.pi, 2 * math.pi) - math.pi
    columns = [pt, rapidity, phi, torch.zeros_like(pt), *([pdg] if name == "pfn_id" else [])]
    return torch.stack(columns, -1), pt > 0


@pytest.mark.parametrize("name", TASKS)
def test_outputs_are_those_of_energyflow(name: str) -> None:
    particle, mask = inputs(name)
    assert sorted(mask.sum(1).tolist())[:2] == [1, 2] and (particle[..., 2] > 3).any() and (particle[..., 2] < -3).any()
    with torch.no_grad():
        found = ours(name)(particle, mask).softmax(-1)
    wanted = torch.tensor(STORED["networks"][name]["outputs"], dtype=torch.float64)
    assert wanted.std(0).min() > 0.03, "outputs that are all alike compare nothing"
    assert (found - wanted).abs().max() < CLOSE


def test_filters_are_those_of_energyflow() -> None:
    found = filters(ours("efn"), STORED["radius"], STORED["pixels"])
    wanted = torch.tensor(STORED["networks"]["efn"]["filters"], dtype=torch.float64)
    assert (wanted > 0).float().mean() > 0.2
    assert (found - wanted).abs().max() < CLOSE
