"""Impact parameters and flight distances as a simple detector would measure them. Indices: I track, V vertex.

Lengths are in mm and momenta in GeV; the hard collision is at the origin. Tracks are helices in a uniform field along
the beam (T), on circles of radius pt / (0.3 B |q|) m across it: in 10 mm a track of 1 GeV leaves its tangent by 0.06 mm
at 3.8 T, almost as much as its resolution. What has not decayed yet flies straight. Resolutions are one term of the
detector and one of multiple scattering, added in squares:

    d0: 0.010 mm and 0.070 mm GeV / pt        dz: 0.020 mm and 0.100 mm GeV / pt

and a vertex of n tracks is known across the beam to 0.1 mm / sqrt(n - 1). They are of the size that trackers at the
LHC have, and of none in particular.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

D0_MM, D0_SCATTER = 0.010, 0.070
DZ_MM, DZ_SCATTER = 0.020, 0.100
VERTEX_MM = 0.1
NEVER = 1e-12
BEND = 0.299792458e-3  # GeV / (T mm), of pt = BEND B R: the speed of light


class Impact(NamedTuple):
    """Impact parameters of tracks and their uncertainties in mm, each (I,)."""

    d0: Floats
    d0_error: Floats
    dz: Floats
    dz_error: Floats


class Flight(NamedTuple):
    """Distances of vertices to the collision and their uncertainties in mm, each (V,)."""

    dxy: Floats
    dxy_error: Floats
    d3d: Floats
    d3d_error: Floats


def impact(
    made_I3: Floats, p_I3: Floats, charge_I: Floats, field: float, azimuth_I: Floats, noise_I2: Floats
) -> Impact:
    """Where tracks pass the collision, measured.

    `made_I3` is where each was made (mm), `p_I3` its momentum there (GeV), `charge_I` its charge, `field` that along z
    (T), `azimuth_I` the azimuth of the axis of its jet (rad) and `noise_I2` numbers from a normal distribution, for d0
    and dz. d0 is positive where the point of closest approach across the beam lies on the jet's side of the collision,
    so that tracks of what flew along the jet are positive and those of the collision itself as often one as the other.
    dz is along the beam, at that point.
    """
    pt_I = np.maximum(np.hypot(p_I3[:, 0], p_I3[:, 1]), NEVER)
    x_I, y_I = p_I3[:, 0] / pt_I, p_I3[:, 1] / pt_I
    along_I = made_I3[:, 0] * x_I + made_I3[:, 1] * y_I
    aside_I = made_I3[:, 1] * x_I - made_I3[:, 0] * y_I
    # Seen along the track, where it was made, the centre of its circle lies at 1 / curve to the right.
    curve_I = BEND * field * charge_I / pt_I
    turn_I = np.arctan2(curve_I * along_I, 1 - curve_I * aside_I)  # to the left, back to the closest approach
    near_I = 2 * aside_I - curve_I * (along_I**2 + aside_I**2)
    near_I /= 1 + np.hypot(curve_I * along_I, 1 - curve_I * aside_I)  # closest approach = near * (-y, x), as turned
    back_I = np.where(curve_I == 0, along_I, turn_I / np.where(curve_I == 0, 1, curve_I))  # length of the arc
    error_I, error_z_I = np.hypot(D0_MM, D0_SCATTER / pt_I), np.hypot(DZ_MM, DZ_SCATTER / pt_I)
    heading_I = np.arctan2(y_I, x_I) + turn_I
    side_I = np.where(np.sin(azimuth_I - heading_I) >= 0, 1.0, -1.0)
    d0_I = side_I * (near_I + error_I * noise_I2[:, 0])
    dz_I = made_I3[:, 2] - back_I * p_I3[:, 2] / pt_I + error_z_I * noise_I2[:, 1]
    return Impact(d0_I, error_I, dz_I, error_z_I)


def flight(place_V3: Floats, tracks_V: npt.NDArray[np.int64], noise_V: Floats) -> Flight:
    """How far from the collision vertices lie, measured.

    `place_V3` is where they are (mm), `tracks_V` how many tracks (two or more) each has and `noise_V` numbers from a
    normal distribution. Along the line of flight the uncertainty grows with the angle to the plane across the beam.
    """
    dxy_V = np.maximum(np.hypot(place_V3[:, 0], place_V3[:, 1]), NEVER)
    steep_V = np.hypot(1.0, place_V3[:, 2] / dxy_V)
    error_V = VERTEX_MM / np.sqrt(tracks_V - 1)
    seen_V = np.abs(dxy_V + error_V * noise_V)
    return Flight(seen_V, error_V, seen_V * steep_V, error_V * steep_V)
