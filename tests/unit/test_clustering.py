"""Anti-kT of many small events at once is anti-kT of each."""

import fastjet
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jetscale.physics.clustering import anti_kt

momenta = st.tuples(st.floats(5, 500), st.floats(-3, 3), st.floats(-3.1, 3.1), st.floats(0, 60))
events = st.lists(st.lists(momenta, min_size=1, max_size=14), min_size=1, max_size=4)


def vector(pt, eta, phi, mass):
    p = [pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)]
    return [np.sqrt(mass**2 + np.square(p).sum()), *p]


def padded(some, size=16):
    p4, mask = np.zeros((len(some), size, 4)), np.zeros((len(some), size), dtype=bool)
    for number, lines in enumerate(some):
        places = np.arange(len(lines)) * size // len(lines)  # gaps between them, too
        p4[number, places], mask[number, places] = [vector(*line) for line in lines], True
    return p4, mask


def by_fastjet(p4, mask, radius):
    """Sets of places, one a jet."""
    vectors = []
    for place in np.flatnonzero(mask):
        energy, *p = map(float, p4[place])
        vectors.append(fastjet.PseudoJet(*p, energy))
        vectors[-1].set_user_index(int(place))
    sequence = fastjet.ClusterSequence(vectors, fastjet.JetDefinition(fastjet.antikt_algorithm, radius))
    return {frozenset(one.user_index() for one in jet.constituents()) for jet in sequence.inclusive_jets()}


@given(events, st.sampled_from([0.4, 1.0, 1.5]))
@settings(max_examples=80, deadline=None)
def test_it_is_what_fastjet_finds(some, radius):
    p4, mask = padded(some)
    before = p4.copy(), mask.copy()
    jet = anti_kt(p4, mask, radius)
    assert (jet[~mask] == -1).all() and (np.array_equal(p4, before[0]) and np.array_equal(mask, before[1]))
    for number in range(len(some)):
        found = {frozenset(np.flatnonzero(jet[number] == one).tolist()) for one in set(jet[number][mask[number]])}
        assert found == by_fastjet(p4[number], mask[number], radius)
        assert all(one in jet_members for jet_members in found for one in {jet[number][next(iter(jet_members))]})


def test_there_are_events_that_merge_in_a_chain():
    """So that the test above would see a wrong order: the middle one goes to the harder neighbour, or joins both."""
    soft_between = [[(300, 0.0, 0.0, 0), (20, 0.0, 0.35, 0), (200, 0.0, 0.7, 0)]]
    assert len(set(anti_kt(*padded(soft_between), 0.4)[0])) == 3  # two jets, and -1
    hard_between = [[(20, 0.0, 0.0, 0), (300, 0.0, 0.35, 0), (30, 0.0, 0.7, 0)]]
    assert len(set(anti_kt(*padded(hard_between), 0.4)[0])) == 2


def test_no_events_and_no_jets():
    assert anti_kt(np.zeros((0, 3, 4)), np.zeros((0, 3), dtype=bool), 0.4).shape == (0, 3)
    assert (anti_kt(np.zeros((2, 3, 4)), np.zeros((2, 3), dtype=bool), 0.4) == -1).all()
