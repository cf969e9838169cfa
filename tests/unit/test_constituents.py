"""What kinds of particles there are, by their PDG ids."""

import pytest
import torch

from jetscale.errors import DataError
from jetscale.nn.particles import ParticleInputs
from jetscale.physics import constituents


def test_hadrons_are_those_of_pythia() -> None:
    pythia8 = pytest.importorskip("pythia8mc", reason="needs Pythia")
    table = pythia8.Pythia("", False).particleData
    ids, found, number = [], [], table.nextId(1)
    while number:
        # Of its diffractive states it says sometimes so, sometimes else; nuclei are hadrons to us.
        if "dif" not in table.name(number) and number < 1_000_000_000:
            ids.append(number)
            found.append(table.isHadron(number))
        number = table.nextId(number)
    assert sum(found) > 200 and not all(found)
    assert constituents.hadrons(torch.tensor(ids)).tolist() == found
    assert constituents.hadrons(-torch.tensor([211, 3122, 1000010020])).all()


def test_every_particle_is_of_one_kind_or_of_none() -> None:
    pdg = torch.tensor([22, 11, -13, 130, -211, 3122, 2212, 0])
    charge = torch.tensor([0.0, -1, 1, 0, -1, 0, 1, 1])
    found = constituents.kinds(pdg, charge)
    order = ["photon", "electron", "muon", "neutral_hadron", "charged_hadron", "neutral_hadron", "charged_hadron"]
    assert [[name for name, one in found.items() if one[place]] for place in range(7)] == [[one] for one in order]
    assert not any(one[7] for one in found.values())


@pytest.mark.parametrize("pdg", [12, -16, 15, 24, 5, 21, 990, 999999])
def test_what_is_no_particle_of_a_jet_is_named(pdg: int) -> None:
    jet = torch.tensor([[500.0, 0.1, 0.2, 50.0]])
    particle = torch.tensor([[[100.0, 0.1, 0.2, 0.1, 211.0, 1.0], [50.0, 0.2, 0.1, 0.0, pdg, 0.0], [0.0] * 6]])
    inputs, mask = ParticleInputs("ids"), torch.tensor([[True, True, False]])
    with pytest.raises(DataError, match=f"particle_pdg: 1 particles are neither .* PDG id {pdg}\\n"):
        inputs(jet, particle, mask)
    assert inputs(jet, particle, mask & torch.tensor([True, False, True])).features_BPC.isfinite().all()
