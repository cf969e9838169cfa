"""Impact parameters and flight distances: by hand, and what turning and noise do to them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetscale.physics.impact import D0_MM, D0_SCATTER, DZ_MM, DZ_SCATTER, VERTEX_MM, flight, impact


def measured(made, p, azimuth=0.0, noise=(0.0, 0.0)):
    """d0, its error, dz and its error of one track."""
    found = impact(np.array([made], float), np.array([p], float), np.array([azimuth]), np.array([noise], float))
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
    found = impact(np.zeros((20_000, 3)), p, angles + draws.normal(0, 0.2, 20_000), draws.standard_normal((20_000, 2)))
    for value, error in ((found.d0, found.d0_error), (found.dz, found.dz_error)):
        assert np.mean(value / error) == pytest.approx(0, abs=0.03)
        assert np.std(value / error) == pytest.approx(1, abs=0.03)


@given(st.floats(-3, 3), st.integers(0, 100))
def test_turned_about_the_beam_all_stays_the_same(turn, seed):
    draws = np.random.default_rng(seed)
    made, p, azimuth, noise = (
        draws.normal(size=(9, 3)),
        draws.normal(size=(9, 3)),
        draws.normal(size=9),
        np.ones((9, 2)),
    )
    turned = np.array([[np.cos(turn), np.sin(turn), 0], [-np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    for one, other in zip(impact(made, p, azimuth, noise),
                          impact(made @ turned, p @ turned, azimuth + turn, noise), strict=True):  # fmt: skip
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
