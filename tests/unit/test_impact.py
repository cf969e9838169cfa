"""Impact parameters and flight distances: by hand, and what turning and noise do to them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetscale.physics.impact import D0_MM, D0_SCATTER, DZ_MM, DZ_SCATTER, VERTEX_MM, flight, impact


def measured(made, p, azimuth=0.0, noise=(0.0, 0.0), charge=1.0, field=0.0):
    """d0, its error, dz and its error of one track, a straight one without a field."""
    made, p, noise = (np.array([one], float) for one in (made, p, noise))
    found = impact(made, p, np.array([charge]), field, np.array([azimuth]), noise)
    return [float(values[0]) for values in found]


def test_what_is_made_at_the_collision_passes_it():
    d0, _, dz, _ = measured((0, 0, 0), (3, 1, 2))
    assert d0 == dz == 0


@pytest.mark.parametrize("turn", [0.3, -0.3, 1.2])
def test_what_flew_along_the_jet_is_positive_and_what_flew_against_it_negative(turn):
    """A hadron flies 5 mm along x and gives a track at an angle: the line passes the collision at 5 sin(angle)."""
    p = (10 * np.cos(turn), 10 * np.sin(turn), 0.0)
    assert measured((5, 0, 0), p)[0] == pytest.approx(5 * np.sin(abs(turn)))
    assert measured((-5, 0, 0), p)[0] == pytest.approx(-5 * np.sin(abs(turn)))


def test_dz_is_where_the_track_comes_nearest_to_the_beam():
    """Made 3 mm out and 2 mm along the beam, at 45 degrees: back at the beam it was at -1 mm."""
    d0, _, dz, _ = measured((3, 0, 2), (4, 0, 4))
    assert d0 == 0 and dz == pytest.approx(-1)
    assert measured((0, 0, 7), (1, 1, 9))[2] == pytest.approx(7)


def test_a_positive_track_bends_clockwise():
    """Seen against the field, which comes towards us: made 20 mm along x and going there, it came from below."""
    radius = 1 / (0.299792458e-3 * 3.8)
    away = np.hypot(radius, 20) - radius
    assert measured((20, 0, 0), (1, 0, 0), azimuth=-1.0, field=3.8)[0] == pytest.approx(away)
    assert measured((20, 0, 0), (1, 0, 0), azimuth=1.0, field=3.8)[0] == pytest.approx(-away)
    assert measured((20, 0, 0), (1, 0, 0), azimuth=1.0, field=3.8, charge=-1)[0] == pytest.approx(away)


def followed(made, p, charge, field):
    """Points (S, 3) of a track and its directions there, by small steps of the Lorentz force both ways."""
    points, ways = [], []
    for sign in (-1, 1):
        place, momentum, steps = np.array(made, float), sign * np.array(p, float), []
        size, bend = 0.05, sign * 0.299792458e-3 * field * charge * np.array([0, 0, 1.0])  # mm
        unit = momentum / np.linalg.norm(momentum)
        for _ in range(4000):
            steps.append((place, sign * unit))
            half = unit + np.cross(unit, bend) / np.linalg.norm(p) * size / 2
            half /= np.linalg.norm(half)
            place = place + size * half
            unit = unit + np.cross(half, bend) / np.linalg.norm(p) * size
            unit /= np.linalg.norm(unit)
        points += [one for one, _ in steps]
        ways += [one for _, one in steps]
    return np.array(points), np.array(ways)


@pytest.mark.parametrize("charge", [-1, 1])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_helices_pass_where_tracks_do_that_are_followed_step_by_step(seed, charge):
    draws = np.random.default_rng(seed)
    made, angle, azimuth = draws.uniform(-40, 40, 3), draws.uniform(-np.pi, np.pi), draws.uniform(-np.pi, np.pi)
    p = np.array([np.cos(angle), np.sin(angle), draws.uniform(-1, 1)]) * draws.uniform(0.2, 2)
    points, ways = followed(made, p, charge, 3.8)
    at = np.argmin(np.hypot(points[:, 0], points[:, 1]))
    # between two steps the track is straight
    (x, y, z), (u, v, w) = points[at], ways[at]
    step = -(x * u + y * v) / (u * u + v * v)
    x, y, z = x + step * u, y + step * v, z + step * w
    wanted = np.hypot(x, y) * np.sign(np.cos(azimuth) * x + np.sin(azimuth) * y)
    d0, _, dz, _ = measured(made, p, azimuth, charge=charge, field=3.8)
    assert d0 == pytest.approx(wanted, abs=1e-3) and dz == pytest.approx(z, abs=1e-3)
    straight = measured(made, p, azimuth, charge=charge)
    assert abs(straight[0] - wanted) > 0.01


def test_hard_tracks_are_measured_to_the_detector_s_own_error_and_soft_ones_scatter():
    _, d0_error, _, dz_error = measured((0, 0, 0), (1, 0, 5))
    assert d0_error == pytest.approx(np.hypot(D0_MM, D0_SCATTER))
    assert dz_error == pytest.approx(np.hypot(DZ_MM, DZ_SCATTER))
    _, d0_error, _, dz_error = measured((0, 0, 0), (1e6, 0, 5))
    assert (d0_error, dz_error) == (pytest.approx(D0_MM), pytest.approx(DZ_MM))


def test_tracks_of_the_collision_have_significances_of_width_one_and_either_sign():
    draws = np.random.default_rng(1)
    angles = draws.uniform(-np.pi, np.pi, 20_000)
    p = np.stack([np.cos(angles), np.sin(angles), draws.normal(size=20_000)], axis=1)
    charge, azimuth = draws.choice([-1.0, 1.0], 20_000), angles + draws.normal(0, 0.2, 20_000)
    found = impact(np.zeros((20_000, 3)), p, charge, 3.8, azimuth, draws.standard_normal((20_000, 2)))
    for value, error in ((found.d0, found.d0_error), (found.dz, found.dz_error)):
        assert np.mean(value / error) == pytest.approx(0, abs=0.03)
        assert np.std(value / error) == pytest.approx(1, abs=0.03)


@given(st.floats(-3, 3), st.integers(0, 100))
def test_turned_about_the_beam_all_stays_the_same(turn, seed):
    draws = np.random.default_rng(seed)
    made, p, azimuth, noise = (*draws.normal(size=(2, 9, 3)), draws.normal(size=9), np.ones((9, 2)))
    charge = draws.choice([-1.0, 1.0], 9)
    turned = np.array([[np.cos(turn), np.sin(turn), 0], [-np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    before = impact(made, p, charge, 3.8, azimuth, noise)
    after = impact(made @ turned, p @ turned, charge, 3.8, azimuth + turn, noise)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def test_flights_are_seen_as_far_as_they_went_and_many_tracks_tell_better():
    place = np.array([[3.0, 4.0, 12.0], [3.0, 4.0, 0.0]])
    found = flight(place, np.array([2, 5]), np.zeros(2))
    np.testing.assert_allclose(found.dxy, [5, 5])
    np.testing.assert_allclose(found.d3d, [13, 5])
    np.testing.assert_allclose(found.dxy_error, [VERTEX_MM, VERTEX_MM / 2])
    np.testing.assert_allclose(found.d3d_error, [VERTEX_MM * 13 / 5, VERTEX_MM / 2])
    off = flight(place, np.array([2, 5]), np.array([1.0, -100.0]))
    np.testing.assert_allclose(off.dxy, [5 + VERTEX_MM, 0])
