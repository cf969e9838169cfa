"""Jets from inside: every number by a plain loop, the symmetries it must keep, and gluons against quarks."""

import json
from pathlib import Path

import fastjet
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetscale import cli
from jetscale.config import build
from jetscale.data import generate as room
from jetscale.data import pythia
from jetscale.data.generate import columns, generate, load, make_table
from jetscale.data.process import GenerateJob
from jetscale.data.substructure import charged, observables
from jetscale.data.truth import INVISIBLE, find_jets
from jetscale.events import Events, locate
from jetscale.schema import SUBSTRUCTURE, check, flat

NAMES = ("n_constituent", "n_charged", "width", "ptd", "lead_fraction", "c1")


def job_of(**values):
    common = {"name": "x", "events": 20, "events_per_shard": 10, "seed": 1, "mpi": False, "process": "gluino_direct",
              "mass": 1300, "jets": {"substructure": True}}  # fmt: skip
    return build(GenerateJob, {**common, **values}, "test")


def massless(pt, eta, phi):
    return np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)], axis=-1)


def by_hand(lines):
    """The numbers of one jet of massless particles (pt, eta, phi, charge), one after the other."""
    p4 = sum(massless(pt, eta, phi) for pt, eta, phi, _ in lines)
    axis = 0.5 * np.log((p4[3] + p4[2]) / (p4[3] - p4[2])), np.arctan2(p4[1], p4[0])

    def distance(eta, phi, other_eta, other_phi):
        turn = (phi - other_phi + np.pi) % (2 * np.pi) - np.pi
        return np.sqrt((eta - other_eta) ** 2 + turn**2)

    total = sum(line[0] for line in lines)
    pairs = [(one, other) for i, one in enumerate(lines) for other in lines[i + 1 :]]
    return {
        "n_constituent": len(lines),
        "n_charged": sum(line[3] != 0 for line in lines),
        "width": sum(pt * distance(eta, phi, *axis) for pt, eta, phi, _ in lines) / total,
        "ptd": np.sqrt(sum(line[0] ** 2 for line in lines)) / total,
        "lead_fraction": max(line[0] for line in lines) / total,
        "c1": sum(a[0] * b[0] * distance(*a[1:3], *b[1:3]) ** 0.2 for a, b in pairs) / total**2,
    }


particles = st.tuples(st.floats(0.1, 500), st.floats(-0.3, 0.3), st.floats(2.9, 3.4), st.sampled_from([0, 1]))
jets = st.lists(st.lists(particles, min_size=1, max_size=9), min_size=1, max_size=4)


def together(some):
    """The numbers of several jets at once, their particles dealt out in turns."""
    rows = [(number, place, line) for number, lines in enumerate(some) for place, line in enumerate(lines)]
    rows.sort(key=lambda row: row[1])
    pt, eta, phi, charge = (np.array(column) for column in zip(*(row[2] for row in rows), strict=True))
    jet, p4 = np.array([row[0] for row in rows]), massless(pt, eta, phi)
    axes = np.stack([p4[jet == number].sum(axis=0) for number in range(len(some))])
    return observables(p4, charge != 0, jet, axes)


@given(jets)
@settings(max_examples=60, deadline=None)
def test_every_number_is_that_of_a_plain_loop(some):
    found = together(some)
    assert tuple(found) == NAMES
    for number, lines in enumerate(some):
        for name, value in by_hand(lines).items():
            assert found[name][number] == pytest.approx(value, rel=1e-6, abs=1e-6), name


@given(jets, st.floats(0.01, 100), st.floats(-3, 3))
@settings(max_examples=30, deadline=None)
def test_neither_the_scale_nor_a_turn_matters(some, scale, angle):
    plain = together(some)
    other = together([[(pt * scale, eta, phi + angle, charge) for pt, eta, phi, charge in lines] for lines in some])
    for name in NAMES:
        assert other[name] == pytest.approx(plain[name], rel=1e-5, abs=1e-5)


def test_a_particle_in_two_halves_moves_no_angle_and_every_multiplicity():
    lines = [(100.0, 0.0, 3.0, 1), (40.0, 0.1, 3.1, 0), (7.0, -0.2, 3.3, 1)]
    half = [(50.0, 0.0, 3.0, 1), (50.0, 0.0, 3.0, 1), *lines[1:]]
    plain, split = together([lines]), together([half])
    assert (split["n_constituent"] - plain["n_constituent"], split["n_charged"] - plain["n_charged"]) == (1, 1)
    assert split["width"] == pytest.approx(plain["width"]) and split["c1"] == pytest.approx(plain["c1"])
    assert split["ptd"][0] < plain["ptd"][0] - 0.1


def test_a_jet_of_nothing_is_all_zero():
    found = observables(np.zeros((0, 4)), np.zeros(0, bool), np.zeros(0, np.int64), massless(*np.ones((3, 1))))
    assert all(found[name].tolist() == [0.0] for name in NAMES)


def test_who_is_charged_is_what_pythia_says():
    data = pythia._new("test").particleData
    known = [number for number in range(1, 6000) if data.isParticle(number)]
    known = np.array([number for number in known if data.isHadron(number) or 11 <= number <= 16 or number == 22])
    assert len(known) > 100
    assert charged(known).tolist() == [data.chargeType(int(number)) != 0 for number in known]
    assert np.array_equal(charged(-known), charged(known))


def test_real_jets_have_the_numbers_of_jets_found_one_by_one():
    job = job_of()
    record = next(pythia.batches(pythia.start(job, 3), job)).particles
    found = find_jets(record, job.jets)
    for event in range(5):
        chosen = slice(record.first_B[event], record.first_B[event] + record.count_B[event])
        ids, visible = record.id_N[chosen], record.status_N[chosen] > 0
        rows = np.flatnonzero(visible & ~np.isin(np.abs(ids), INVISIBLE))
        vectors = [fastjet.PseudoJet(*map(float, p4)) for p4 in record.p4_N4[chosen][rows]]
        for vector, row in zip(vectors, rows, strict=True):
            vector.set_user_index(int(row))
        sequence = fastjet.ClusterSequence(vectors, fastjet.JetDefinition(fastjet.antikt_algorithm, 0.4))
        central = [jet for jet in fastjet.sorted_by_pt(sequence.inclusive_jets(30)) if abs(jet.eta()) < 2.8][:12]
        assert len(central) == len(found[event])
        for jet, has in zip(central, found[event].to_list(), strict=True):
            inside = list(jet.constituents())
            total = sum(one.pt() for one in inside)
            assert has["n_constituent"] == len(inside)
            assert has["n_charged"] == sum(bool(charged(ids[[one.user_index()]])[0]) for one in inside)
            assert has["width"] == pytest.approx(sum(one.pt() * one.delta_R(jet) for one in inside) / total, rel=1e-6)
            assert has["lead_fraction"] == pytest.approx(max(one.pt() for one in inside) / total)
            pairs = [a.pt() * b.pt() * a.delta_R(b) ** 0.2 for i, a in enumerate(inside) for b in inside[i + 1 :]]
            assert has["c1"] == pytest.approx(sum(pairs) / total**2, rel=1e-6)


def test_gluons_make_more_and_softer_particles_and_wider_jets_than_quarks():
    select, means = {"jets": 2, "pt": 300, "ht": 700}, {}
    for process in ("gg2gg", "qq2qq"):
        job = job_of(process="qcd", mass=None, pthat_min=400, select=select, events=60, events_per_shard=60,
                     pythia={"HardQCD:all": False, f"HardQCD:{process}": True})  # fmt: skip
        table = make_table(job, 0)[0]
        means[process] = {name: np.mean([row[:2] for row in table[f"jet_{name}"].to_pylist()]) for name in NAMES}
    for name in ("n_constituent", "n_charged", "width", "c1"):
        assert means["gg2gg"][name] > 1.15 * means["qq2qq"][name], name
    for name in ("ptd", "lead_fraction"):
        assert means["gg2gg"][name] < 0.87 * means["qq2qq"][name], name


# ---- a sample


def test_a_sample_with_the_option_keeps_its_contract_and_can_be_looked_at(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pythia, "SIGNAL_BATCH", 20)
    monkeypatch.setattr(room, "_by_ray", lambda job, numbers: ((one, make_table(job, one)) for one in numbers))
    job = job_of()
    list(generate(job, tmp_path / "on"))
    sample = Events.open(tmp_path / "on")
    assert sample.schema == columns(job) and set(SUBSTRUCTURE.names) < set(sample.schema.names)
    assert sample.manifest.cuts["jets"]["substructure"] is True
    table = sample.read()
    check(table, columns(job), "test")
    assert (flat(table["jet_n_charged"]) < flat(table["jet_n_constituent"])).any()
    assert cli.main(["check", str(sample.path)]) == 0
    assert cli.main(["inspect", str(sample.path), "--out", str(tmp_path / "page")]) == 0
    assert all(name in capsys.readouterr().out or name in (tmp_path / "page" / "index.html").read_text()
               for name in SUBSTRUCTURE.names)  # fmt: skip


def test_the_option_that_is_off_leaves_no_trace():
    file = Path(str(locate("shipped:gluino-1300"))).parent / "gluino-1300.yaml"
    off = load(file)
    assert "substructure" not in json.dumps(off.values())
    assert off.digest() == Events.open("shipped:gluino-1300").manifest.made_by["digest"]
    said = off.but(jets={"substructure": False})
    assert said == off and said.digest() == off.digest()
    on = off.but(jets={"substructure": True})
    assert on.digest() != off.digest() and build(GenerateJob, on.values(), "test") == on
    assert [*columns(off).names, *SUBSTRUCTURE.names] == [*columns(on).names]
