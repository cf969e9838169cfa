"""Outputs of EnergyFlow's own networks on a few jets, with the weights that gave them: writes energyflow.json beside.

    python tests/reference/make_energyflow.py

Needs energyflow 1.4, tensorflow 2.21 and tf_keras, in an environment of their own: as wasserstein, which energyflow
imports, is built for NumPy 1, there `pip install energyflow tensorflow tf_keras scikit-learn "numpy<2"
"ml_dtypes<0.6"`. Networks and the preparation of jets are EnergyFlow's; all of it runs in double precision.
"""

import json
from pathlib import Path

import numpy as np
import tf_keras
from energyflow.archs import EFN, PFN
from energyflow.utils import reflect_ptyphims, remap_pids, rotate_ptyphims

PIDS = (22, 211, -211, 321, -321, 130, 2112, -2112, 2212, -2212, 11, -11, 13, -13)
SLOTS = 14
SIZES = (14, 14, 9, 6, 3, 2, 1, 11)  # particles of the jets
PHI, F = (12, 10), (8, 6)
RADIUS, PIXELS = 0.5, 6


def jets(dice: np.random.Generator) -> np.ndarray:
    """pt, rapidity, azimuth and PDG id of massless particles, 0 where there are none: (B, P, 4)."""
    made = np.zeros((len(SIZES), SLOTS, 4))
    for jet, size in zip(made, SIZES, strict=True):
        jet[:size, 0] = np.sort(dice.exponential(20.0, size))[::-1] + 0.5
        jet[:size, 1:3] = np.array([dice.uniform(-1.5, 1.5), 3.0]) + dice.normal(0, 0.15, (size, 2))
        jet[:size, 3] = dice.choice(PIDS, size)
    return np.round(made, 4)


def prepared(made: np.ndarray, turned: bool = False) -> np.ndarray:
    """Shares of pt, places about the centre, and ids as small numbers, as in EnergyFlow's examples."""
    made = made.copy()
    for jet in made:
        real = jet[:, 0] > 0
        jet[real, 1:3] -= np.average(jet[real, 1:3], weights=jet[real, 0], axis=0)
        if turned:
            jet[real, :3] = reflect_ptyphims(rotate_ptyphims(jet[real, :3]))
        jet[real, 0] /= jet[:, 0].sum()
    remap_pids(made, pid_i=3, error_on_unknown=False)
    return made


def weighted(net: object, dice: np.random.Generator, first: float = 0.6) -> list[list]:
    """Give a network rounded weights, of the first matrix so large, and return them."""
    sizes = [0.6 if one.ndim == 2 else 0.1 for one in net.model.get_weights()]
    sizes[0] = first
    weights = [np.round(dice.normal(0, size, one.shape), 3)
               for size, one in zip(sizes, net.model.get_weights(), strict=True)]  # fmt: skip
    net.model.set_weights(weights)
    return [one.tolist() for one in weights]


def main() -> None:
    tf_keras.backend.set_floatx("float64")
    dice = np.random.default_rng(7)
    made = jets(dice)
    ready = prepared(made)
    sizes = {"Phi_sizes": PHI, "F_sizes": F, "output_dim": 2, "summary": False}
    found = {"jets": made.tolist(), "phi": PHI, "f": F, "radius": RADIUS, "pixels": PIXELS, "networks": {}}
    given = {"pfn": ready[..., :3], "pfn_turned": prepared(made, turned=True)[..., :3], "pfn_id": ready}
    for name, inputs in given.items():
        net = PFN(input_dim=inputs.shape[-1], **sizes)
        weights = weighted(net, dice)
        found["networks"][name] = {"weights": weights, "outputs": net.predict(inputs, verbose=0).tolist()}
    net = EFN(input_dim=2, **sizes)
    weights = weighted(net, dice, first=2.5)  # angles are small
    edge = RADIUS - RADIUS / PIXELS  # the middle of the last pixel
    grid = net.eval_filters(edge, n=PIXELS, prune=False)[2]
    outputs = net.predict([ready[..., 0], ready[..., 1:3]], verbose=0)
    found["networks"]["efn"] = {"weights": weights, "outputs": outputs.tolist(), "filters": grid.tolist()}
    Path(__file__).with_name("energyflow.json").write_text(json.dumps(found, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
