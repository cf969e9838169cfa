import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jetscale.physics import kinematics

PT = st.floats(1.0, 3000.0)
ETA = st.floats(-4.0, 4.0)
PHI = st.floats(-3.1, 3.1)
MASS = st.floats(0.1, 500.0)


def double(*values: float) -> list[torch.Tensor]:
    return [torch.tensor(value, dtype=torch.float64) for value in values]


def test_a_jet_at_rest_along_the_beam_direction_by_hand():
    vector = kinematics.p4(*double(3.0, 0.0, math.pi / 2, 4.0))
    assert vector.tolist() == pytest.approx([5.0, 0.0, 3.0, 0.0], abs=1e-12)
    assert kinematics.mass(vector).item() == pytest.approx(4.0)


def test_two_back_to_back_massless_jets_weigh_their_energy():
    two = kinematics.p4(*double(50.0, 0.0, 0.0, 0.0)) + kinematics.p4(*double(50.0, 0.0, math.pi, 0.0))
    assert kinematics.mass(two).item() == pytest.approx(100.0)


@given(PT, ETA, PHI, MASS)
def test_there_and_back(pt, eta, phi, mass):
    vector = kinematics.p4(*double(pt, eta, phi, mass))
    assert kinematics.pt(vector).item() == pytest.approx(pt, rel=1e-9)
    assert kinematics.eta(vector).item() == pytest.approx(eta, abs=1e-9)
    assert kinematics.phi(vector).item() == pytest.approx(phi, abs=1e-9)
    assert kinematics.mass(vector).item() == pytest.approx(mass, rel=1e-3, abs=1e-3)


@given(PHI, PHI)
def test_delta_phi_wraps(a, b):
    turned = kinematics.delta_phi(*double(a, b)).item()
    assert -math.pi <= turned <= math.pi
    assert math.cos(turned) == pytest.approx(math.cos(a - b), abs=1e-12)
    assert math.sin(turned) == pytest.approx(math.sin(a - b), abs=1e-12)


def test_delta_r_across_the_seam_by_hand():
    a, b = kinematics.p4(*double(30.0, 0.3, 3.0, 0.0)), kinematics.p4(*double(40.0, -0.1, -3.0, 0.0))
    assert kinematics.delta_r(a, b).item() == pytest.approx(math.hypot(0.4, 2 * math.pi - 6.0))


def test_an_empty_vector_is_finite_everywhere():
    empty = torch.zeros(2, 4)
    for number in (kinematics.mass, kinematics.pt, kinematics.eta, kinematics.phi):
        assert number(empty).tolist() == [0.0, 0.0]


def test_rounding_below_zero_is_no_mass():
    assert kinematics.mass(torch.tensor([1.0, 1.0, 1e-2, 0.0])).item() == 0.0


def test_a_floor_bounds_mass_and_gradient():
    vector = torch.zeros(4, requires_grad=True)
    mass = kinematics.mass(vector, floor=1.0)
    mass.backward()
    assert mass.item() == 1.0
    assert torch.isfinite(vector.grad).all()
