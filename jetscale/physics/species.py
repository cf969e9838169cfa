"""What particles are, as much of it as is looked at: by PDG id, by what an experiment can tell, by charge, or not.

The fourteen species of EnergyFlow's jets and the small numbers that its particle flow networks take for them are those
of Komiske, Metodiev, Thaler, arXiv:1810.05165.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from jetscale.errors import DataError

Ids = Literal["none", "charge", "experimental", "full"]

# PDG id: the number that stands for it.
FULL: Mapping[int, float] = MappingProxyType(
    {22: 0.0, 211: 0.1, -211: 0.2, 321: 0.3, -321: 0.4, 130: 0.5, 2112: 0.6, -2112: 0.7, 2212: 0.8, -2212: 0.9,
     11: 1.0, -11: 1.1, 13: 1.2, -13: 1.3}
)  # fmt: skip
# Groups of these: of what an experiment tells apart (photon, h+, h-, h0, e-, e+, mu-, mu+), and of charges (0, +, -).
EXPERIMENTAL = ((22,), (211, 321, 2212), (-211, -321, -2212), (130, 2112, -2112), (11,), (-11,), (13,), (-13,))
CHARGE = ((22, 130, 2112, -2112), (211, 321, 2212, -11, -13), (-211, -321, -2212, 11, 13))
GROUPS: Mapping[Ids, tuple[tuple[int, ...], ...]] = MappingProxyType(
    {"none": (), "charge": CHARGE, "experimental": EXPERIMENTAL, "full": tuple((one,) for one in FULL)}
)


def species(pdg_BP: Tensor, ids: Ids) -> Tensor:
    """Which group of `ids` every particle is of, int64; -1 of none of the fourteen species."""
    found_BP = torch.full_like(pdg_BP, -1, dtype=torch.int64)
    for number, group in enumerate(GROUPS[ids]):
        for one in group:
            found_BP = torch.where(pdg_BP == one, number, found_BP)
    return found_BP


def one_hot(pdg_BP: Tensor, ids: Ids) -> Tensor:
    """1 in the column of a particle's group, (B, P, groups) float32; all 0 of none of the species."""
    groups = torch.arange(len(GROUPS[ids]), device=pdg_BP.device)
    return (species(pdg_BP, ids)[..., None] == groups).float()


def as_number(pdg_BP: Tensor, ids: Ids) -> Tensor:
    """The number that stands for a particle's group, (B, P, 1) float32: tenths; 0 of none of the species.

    Padding is 0 too, and so are photons: a network needs the mask.
    """
    return species(pdg_BP, ids).clamp_min(0)[..., None].float() / 10


def check(pdg_BP: Tensor, mask_BP: Tensor) -> None:
    """See that all particles are of one of the fourteen species.

    Raises:
        DataError: the first that is not, and how many there are.
    """
    odd_BP = mask_BP & (species(pdg_BP, "full") < 0)
    if odd_BP.any():
        what = f"{int(odd_BP.sum())} particles are of none of the {len(FULL)} species that are known; the first has "
        raise DataError(f"{what}the PDG id {int(pdg_BP[odd_BP][0])}", where="particle_pdg",
                        cure="set task.unknown=zero to let them be of no species, or change the sample")  # fmt: skip
