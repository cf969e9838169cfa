"""Large jets have the label of the decay that lies in them whole."""

from __future__ import annotations

import numpy as np
import pytest

from jetscale.data.formats.genparts import Record, labels
from jetscale.labels import CODES, name_of

T, B, HIGGS, W, Z = 6, 5, 25, 24, 23
BESIDE, FAR = 0.5, 1.2
Particle = tuple[int, int, float]  # PDG id, mother, and eta: the jet is at 0


def record_of(*events: list[Particle]) -> Record:
    flat = [one for event in events for one in event]
    bounds = np.cumsum([0, *(len(event) for event in events)])
    pdg, mother, eta = (np.array([one[n] for one in flat]) for n in range(3))
    return Record(eta.astype(float), np.full(len(flat), 3.1), pdg.astype(int), mother.astype(int), bounds)


def label(*event: Particle) -> str:
    """Of a jet at eta 0 on the other side of the seam of the azimuth, behind an event of nothing."""
    found = labels(record_of([], list(event), []), np.zeros(1), np.full(1, -3.1), np.ones(1, dtype=int))
    return name_of(int(found[0]))


def top(b: float = 0.1, one: int = 2, other: int = -1, first: float = 0.2, second: float = -BESIDE) -> list[Particle]:
    """A top and its W, each written twice, with what they decay to; a gluon between."""
    return [(T, -1, 3.0), (T, 0, 3.0), (W, 1, 3.0), (B, 1, b), (W, 2, 3.0), (one, 4, first), (other, 4, second),
            (21, 0, 0.0), (B, 3, 3.0)]  # fmt: skip


def boson(pdg: int, *daughters: int, at: float = 0.1) -> list[Particle]:
    return [(pdg, -1, 3.0), (pdg, 0, 3.0), *((one, 1, at if n else -at) for n, one in enumerate(daughters))]


CASES = {
    "top": ("top", top()),
    "of antiquarks": ("top", [(-pdg, mother, eta) for pdg, mother, eta in top()]),
    "top without its b": ("w", top(b=FAR)),
    "top without a quark of its W": ("unknown", top(second=FAR)),
    "b of a top": ("unknown", top(first=FAR, second=FAR)),
    "beside a top": ("qcd", top(b=FAR, first=FAR, second=FAR)),
    "top to electron": ("top_lepton", top(one=-11, other=12, second=FAR)),
    "top to lepton that is far": ("unknown", top(one=-13, other=14, first=FAR)),
    "w": ("w", boson(W, 2, -1)),
    "z": ("z", boson(Z, 5, -5)),
    "w to a lepton": ("unknown", boson(W, 11, -12)),
    "z to neutrinos": ("qcd", boson(Z, 12, -12)),
    "h to b": ("h_bb", boson(HIGGS, 5, -5)),
    "h to c": ("h_cc", boson(HIGGS, 4, -4)),
    "h to s": ("unknown", boson(HIGGS, 3, -3)),
    "h to gluons": ("h_gg", boson(HIGGS, 21, 21)),
    "h to gluons of which one is far": ("unknown", [*boson(HIGGS, 21)[:2], (21, 1, 0.1), (21, 1, FAR)]),
    "h to w w": ("h_4q", [*boson(HIGGS, W, -W), (2, 2, 0), (-1, 2, 0.3), (3, 3, 0.2), (-4, 3, -0.3)]),
    "one w of h": ("w", [*boson(HIGGS, W, -W), (2, 2, 0), (-1, 2, 0.3), (3, 3, FAR), (-4, 3, FAR)]),
    "h to lepton": ("h_lepton", [*boson(HIGGS, W, -W), (2, 2, 0), (-1, 2, 0.3), (-11, 3, 0.2), (12, 3, FAR)]),
    "h to z z": ("z", [*boson(HIGGS, Z, Z), (2, 2, 0), (-2, 2, 0.3), (3, 3, 0.2), (-3, 3, -0.3)]),
    "nothing heavy": ("qcd", [(21, -1, 0.0), (5, 0, 0.1), (-5, 0, -0.1)]),
    "nothing": ("qcd", []),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_jet_has_the_label_of_its_decay(case: str) -> None:
    wanted, event = CASES[case]
    assert label(*event) == wanted


def test_events_do_not_mix() -> None:
    events = [top(), [], boson(W, 2, -1), [(21, -1, 0.0)], top(b=FAR)]
    event_J = np.array([0, 0, 1, 2, 3, 4])
    eta_J = np.array([0.0, 4.0, 0.0, 0.0, 0.0, 0.0])
    found = labels(record_of(*events), eta_J, np.full(6, -3.1), event_J)
    assert found.tolist() == [CODES[name] for name in ("top", "qcd", "qcd", "w", "qcd", "w")]


def test_a_circle_of_mothers_ends() -> None:
    assert label((T, 1, 0.0), (T, 0, 0.0), (W, 2, 0.0)) == "qcd"
