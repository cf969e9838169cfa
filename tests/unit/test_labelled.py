"""Labelled jets: jobs, matching by hand, and what real jets of each kind must look like."""

import json
from functools import cache
from itertools import chain

import fastjet
import numpy as np
import pyarrow.parquet as pq
import pytest

from jetscale import labels
from jetscale.config import build, digest
from jetscale.data import generate as room
from jetscale.data import pythia
from jetscale.data.generate import columns, generate, load, make_table
from jetscale.data.heavy import Produced, flavour, flown, vertices
from jetscale.data.jet_process import ORIGINS, JetJob
from jetscale.data.labelled import FOUND, TRACKED, charges, find_labelled
from jetscale.data.process import GenerateJob
from jetscale.errors import ConfigError, GenerateError
from jetscale.evaluate.inspect import steps
from jetscale.events import Events
from jetscale.schema import check, flat

WINDOWS = {"top": (500, 700), "w": (400, 600), "z": (400, 600), "qcd": (500, 700), "quark": (200, 300),
           "gluon": (200, 300), "bottom": (100, 200), "charm": (100, 200), "light": (100, 200)}  # fmt: skip
JETS = {"bottom": 120, "charm": 120, "light": 120}


def job_of(kind="bottom", **values):
    common = {"name": kind, "jets_of": kind, "pt": WINDOWS[kind], "events": 30, "events_per_shard": 10, "seed": 1}
    return build(JetJob, {**common, "mpi": False, **values}, "test")


@cache
def table_of(kind):
    jets = JETS.get(kind, 80)
    return make_table(job_of(kind, events=jets, events_per_shard=jets), 0)[0]


def lists(table, name):
    return [np.array(one) for one in table[name].to_pylist()]


def yaml_of(folder, **values):
    path = folder / "sample.yaml"
    path.write_text(json.dumps({"generate": {"name": "x", "events": 30, "seed": 1, **values}}))
    return path


@pytest.fixture(scope="module")
def tables():
    """What Pythia knows of particles."""
    return pythia.start(job_of(), 1).particleData


@pytest.fixture
def here(monkeypatch):
    """Shards are made in this process; those that are asked for are listed."""
    asked = []

    def in_process(job, numbers):
        for number in numbers:
            asked.append(number)
            yield number, make_table(job, number)

    monkeypatch.setattr(room, "_by_ray", in_process)
    return asked


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """So that a shard of a few jets does not try a hundred events."""
    monkeypatch.setattr(pythia, "JET_BATCH", 25)


# ---- jobs


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"jets_of": "tau"}, "jets_of = 'tau'"),
        ({"pt": [200, 100]}, "the window pt is empty: 200 is not below 100"),
        ({"abs_eta": [1, 1]}, "the window abs_eta is empty: 1 is not below 1"),
        ({"abs_eta": [-1, 1]}, "abs_eta"),
        ({"pt": [7000, 8000]}, "more than one of the beams of 6500 GeV"),
        ({"pt": [100, 200], "abs_eta": [5, 6]}, "more than one of the beams of 6500 GeV"),
        ({"pthat_min": 300}, "pthat_min 300 GeV lies above the largest pt of a jet, 200 GeV"),
        ({"pt": [100, 7000], "pthat_min": 6600}, "more than half of the beam energy"),
        ({"mass": 5}, "mass"),
        ({"process": "qcd"}, "process"),
        ({"events": 0}, "events = 0"),
    ],
)
def test_what_cannot_be_is_said_with_the_file(tmp_path, values, words):
    path = yaml_of(tmp_path, **{"jets_of": "bottom", "pt": [100, 200], **values})
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert words in str(caught.value) and str(path) in str(caught.value)


def test_a_job_goes_to_yaml_and_back_and_the_command_line_wins(tmp_path):
    job = load(yaml_of(tmp_path, jets_of="charm", pt=[100, 200]), events=7, seed=9)
    assert isinstance(job, JetJob) and (job.events, job.seed, job.pthat) == (7, 9, 80)
    (tmp_path / "again.yaml").write_text(json.dumps({"generate": job.values()}))
    again = load(tmp_path / "again.yaml")
    assert again == job and again.digest() == job.digest()


@pytest.mark.parametrize("kind", ORIGINS)
def test_every_kind_has_a_label_of_the_list(kind):
    assert labels.name_of(job_of(kind).label) == {"light": "quark"}.get(kind, kind)


# ---- what Pythia knows of particles


def ids(tables, wanted):
    found, one = [], tables.nextId(1)
    while one:
        if wanted(one):
            found += [one, -one] if tables.hasAnti(one) else [one]
        one = tables.nextId(one)
    return np.array(found)


def test_charges_are_those_of_pythia_s_tables(tables):
    known = ids(tables, lambda one: tables.isHadron(one) or one in (*range(11, 17), 22))
    assert len(known) > 300
    np.testing.assert_array_equal(charges(known), [round(tables.charge(int(one))) for one in known])


def test_flavours_are_those_of_pythia_s_tables(tables):
    known = ids(tables, lambda one: one < 1_000_000)
    hadron = np.array([tables.isHadron(int(one)) for one in known])
    heaviest = np.array([abs(tables.heaviestQuark(int(one))) for one in known])
    assert len(known) > 400
    np.testing.assert_array_equal(flavour(known), np.where(hadron & (heaviest > 3), heaviest, 0))


# ---- by hand


class Record:
    """An event by hand: system, beams, incoming partons, two hard particles, and what is added."""

    def __init__(self, *hard):
        self.rows = []
        for id in (90, 2212, 2212, 21, 21):
            self.add(id, -21, 0, (1, 0, 0))
        for id, direction in hard:
            self.add(id, -23, 3, direction)

    def add(self, id, status, mother, direction, made=(0.0, 0.0, 0.0)):
        """A massless particle of (pt, eta, phi)."""
        pt, eta, phi = direction
        p4 = [pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)]
        self.rows.append((id, status, mother, p4, made))
        return len(self.rows) - 1


def produced(*records):
    rows = [row for record in records for row in record.rows]
    id, status, mother, p4, made = (np.array(column) for column in zip(*rows, strict=True))
    count = np.array([len(record.rows) for record in records])
    none = np.zeros(len(rows))
    return Produced(count, id, status, mother, none.astype(int), p4.astype(float), np.ones(len(count)), none,
                    made.astype(float))  # fmt: skip


def found(job, *records):
    return find_labelled(produced(*records), job, np.random.default_rng(1))[0]


def decaying(*quarks):
    """A parent whose decay products go these ways, one pion each."""
    record = Record((24, (600, 0, 0)), (24, (600, 0, 3)))
    for direction in quarks:
        quark = record.add(1, -23, 5, direction)
        record.add(211, 83, quark, direction)
    return record


def test_a_jet_of_a_decay_holds_all_its_quarks():
    whole = decaying((300, 0.1, 0.1), (300, 0.0, -0.3))
    beside = decaying((500, 0.1, 0.1), (100, 1.0, -0.3))
    table = found(job_of("w"), whole, beside)
    assert table.num_rows == 1
    assert table["particle_phi"].to_pylist() == [pytest.approx([0.1, -0.3])]
    assert found(job_of("w"), beside).num_rows == 0
    of_other = decaying((300, 0.1, 0.1))
    of_other.add(211, 83, of_other.add(1, -23, 6, (300, 0.0, -0.3)), (300, 0.0, -0.3))
    assert found(job_of("w"), of_other).num_rows == 0, "one quark of each parent is no decay"


def test_a_jet_is_of_the_hardest_parton_in_it():
    def record(quark, gluon):
        one = Record((1, quark), (21, gluon))
        one.add(211, 83, 5, (250, 0.0, 0.0))
        return one

    near, far = (250, 0.0, 0.1), (240, 0.0, 3.0)
    assert found(job_of("quark"), record(near, far)).num_rows == 1
    assert found(job_of("gluon"), record(near, far)).num_rows == 0
    softer = (100, 0.1, 0.0)
    assert found(job_of("quark"), record(near, softer)).num_rows == 1
    assert found(job_of("gluon"), record(near, softer)).num_rows == 0
    assert found(job_of("quark"), record((250, 0.0, 0.5), far)).num_rows == 0


def test_the_heaviest_hadron_gives_the_flavour_and_soft_ones_give_none():
    def record(*hadrons):
        one = Record((1, (150, 0.0, 0.0)), (21, (150, 0.0, 3.0)))
        for id, pt in hadrons:
            one.add(211, 83, one.add(id, -83, 5, (pt, 0.0, 0.1)), (150 / len(hadrons), 0.0, 0.1))
        return one

    kinds = ("bottom", "charm", "light")
    for hadrons, kind in (([(511, 90)], "bottom"), ([(511, 20), (411, 80)], "bottom"), ([(411, 80)], "charm"),
                          ([(511, 4), (411, 80)], "charm"), ([(511, 4), (321, 90)], "light")):  # fmt: skip
        assert [found(job_of(one), record(*hadrons)).num_rows for one in kinds] == [kind == one for one in kinds]


def test_neither_neutrinos_nor_what_lies_outside_the_windows_count():
    record = Record((1, (150, 0.0, 0.0)), (1, (150, 0.0, 3.0)))
    record.add(211, 83, 5, (150, 0.0, 0.0))
    record.add(12, 83, 5, (100, 0.0, 0.1))
    record.add(211, 83, 6, (220, 0.0, 3.0))
    table = found(job_of("light"), record)
    assert table["jet_pt"].to_pylist() == pytest.approx([150])
    assert table["particle_pdg"].to_pylist() == [[211]]
    assert found(job_of("light", abs_eta=(0.5, 2)), record).num_rows == 0


def test_batches_without_jets_have_all_columns():
    empty = found(job_of("bottom"), Record((5, (50, 0, 0)), (5, (50, 0, 3))))
    assert empty.num_rows == 0 and empty.schema == TRACKED.arrow


def two_decays():
    """A b hadron that flies 3 mm to two pions and a D, which flies 1 mm more to two pions and a soft one."""
    record = Record((5, (150, 0, 0)), (5, (150, 0, 3)))
    b = record.add(511, -83, 5, (150, 0, 0))
    rows = [record.add(211, 91, b, (30, 0, 0.1), (3, 0, 0)), record.add(-211, 91, b, (20, 0, -0.1), (3, 0, 0))]
    excited = record.add(413, -91, b, (60, 0, 0), (3, 0, 0))
    d = record.add(421, -91, excited, (60, 0, 0), (3, 0, 0))
    rows += [record.add(-321, 91, d, (40, 0, 0), (4, 0, 0)), record.add(211, 91, d, (5, 0, 0), (4, 0, 0))]
    rows.append(record.add(211, 84, 5, (10, 0, 0.2)))
    return record, b, d, np.array(rows)


def test_tracks_come_from_what_flew_and_decayed_where_they_were_made():
    record, b, d, rows = two_decays()
    assert flown(produced(record), rows).tolist() == [b, b, d, d, 0]
    both = produced(Record((5, (150, 0, 0)), (5, (150, 0, 3))), record)
    assert flown(both, rows + 7).tolist() == [b + 7, b + 7, d + 7, d + 7, 7]


def test_vertices_are_decays_of_heavy_hadrons_with_two_tracks_or_more():
    record, _, _, rows = two_decays()
    made = vertices(produced(record), rows, np.zeros(5, dtype=int))
    assert made.jet_V.tolist() == [0, 0] and made.tracks_V.tolist() == [2, 2]
    assert made.place_V3.tolist() == [[3, 0, 0], [4, 0, 0]], "the harder one first"
    split = vertices(produced(record), rows, np.array([0, 1, 0, 0, 0]))
    assert split.place_V3.tolist() == [[4, 0, 0]], "tracks of two jets make no vertex"


# ---- real jets


@pytest.mark.parametrize("kind", ORIGINS)
def test_a_shard_keeps_the_contract_and_its_windows(kind):
    table, job = table_of(kind), job_of(kind)
    check(table, columns(job), kind)
    assert table.schema == columns(job).arrow
    assert set(table["jet_label"].to_pylist()) == {job.label}
    pt, eta = flat(table["jet_pt"]), flat(table["jet_eta"])
    assert job.pt[0] <= pt.min() and pt.max() <= job.pt[1] and np.abs(eta).max() <= 2
    assert all((np.diff(one) <= 0).all() for one in lists(table, "particle_pt"))
    assert not set(np.abs(flat(table["particle_pdg"]))) & {12, 14, 16}


def p4_of(table, name, row):
    pt, eta, phi, mass = (
        np.array(table[f"{name}_{field}"][row].as_py(), float) for field in ("pt", "eta", "phi", "mass")
    )
    px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    return np.stack([px, py, pz, np.sqrt(px**2 + py**2 + pz**2 + mass**2)], axis=-1)


def test_jets_are_the_sums_of_their_particles():
    table = table_of("top")
    for row in range(20):
        jet, particles = p4_of(table, "jet", row), p4_of(table, "particle", row)
        np.testing.assert_allclose(particles.sum(0), jet, rtol=1e-4, atol=0.02)


def test_jets_are_those_that_are_found_event_by_event(monkeypatch):
    monkeypatch.setattr(pythia, "JET_BATCH", 60)
    job = job_of("qcd")
    batch = next(pythia.whole_batches(pythia.start(job, 5))).particles
    table = find_labelled(batch, job, np.random.default_rng(1))[0]
    seen = []
    for event in range(len(batch)):
        rows = np.flatnonzero((batch.event_N == event) & (batch.status_N > 0)
                              & ~np.isin(np.abs(batch.id_N), [12, 14, 16]))  # fmt: skip
        inputs = [fastjet.PseudoJet(*batch.p4_N4[row]) for row in rows]
        for jet in fastjet.sorted_by_pt(fastjet.ClusterSequence(
                inputs, fastjet.JetDefinition(fastjet.antikt_algorithm, 0.8)).inclusive_jets(500.0)):  # fmt: skip
            if jet.pt() < 700 and abs(jet.eta()) < 2:
                seen.append(jet.pt())
    assert len(seen) > 15
    # A few hard jets come from radiation alone, with no hard parton near them.
    kept = flat(table["jet_pt"])
    assert 0.9 * len(seen) <= len(kept) <= len(seen)
    assert np.isin(kept.astype(np.float32).round(2), np.array(seen, np.float32).round(2)).mean() > 0.98


@pytest.mark.parametrize(("kind", "low", "high"), [("top", 167, 181), ("w", 78, 86), ("z", 89, 98)])
def test_masses_peak_where_they_must(kind, low, high):
    mass = flat(table_of(kind)["jet_mass"])
    assert low < np.median(mass) < high
    assert np.mean((mass > 0.85 * np.median(mass)) & (mass < 1.15 * np.median(mass))) > 0.6


def test_masses_of_qcd_do_not_peak_there():
    mass = flat(table_of("qcd")["jet_mass"])
    assert np.median(mass) < 100 and np.mean((mass > 150) & (mass < 200)) < 0.25


def test_gluons_have_more_constituents_than_quarks():
    gluon, quark = (np.mean([len(one) for one in lists(table_of(kind), "particle_pt")]) for kind in ("gluon", "quark"))
    assert gluon > 1.25 * quark


def significance(kind):
    """The second largest significance of d0 in every jet."""
    table = table_of(kind)
    pairs = zip(lists(table, "particle_d0"), lists(table, "particle_d0_error"), strict=True)
    return np.array([np.sort(np.where(error > 0, d0 / np.maximum(error, 1e-9), -99))[-2] for d0, error in pairs])


def test_impact_parameters_are_larger_in_b_than_in_c_than_in_light_jets():
    b, c, light = (significance(kind) for kind in ("bottom", "charm", "light"))
    assert np.median(b) > 2 * np.median(c) > 2.5 * np.median(light)
    assert np.mean(b > 5) > 0.5 > np.mean(c > 5) > 2 * np.mean(light > 5)


def test_without_tracks_jets_are_the_same_but_for_their_columns():
    batch = next(pythia.whole_batches(pythia.start(job_of(), 5))).particles
    whole, less = (find_labelled(batch, job_of(tracks=on), np.random.default_rng(1))[0] for on in (True, False))
    assert whole.num_rows > 5 and whole.select(list(FOUND.names)).equals(less)


def test_only_tracks_have_impact_parameters():
    table = table_of("bottom")
    error, charge = flat(table["particle_d0_error"]), flat(table["particle_charge"])
    track = (charge != 0) & (flat(table["particle_pt"]) > 0.5) & (np.abs(flat(table["particle_eta"])) < 2.5)
    assert not (error[~track] > 0).any() and np.mean(error[track] > 0) > 0.85  # the others fly for 10 cm
    for name in ("particle_d0", "particle_dz", "particle_dz_error"):
        assert not flat(table[name])[error == 0].any()


def test_vertices_are_of_heavy_hadrons():
    counts = {
        kind: np.mean([len(one) for one in lists(table_of(kind), "vertex_pt")]) for kind in ("bottom", "charm", "light")
    }
    assert counts["bottom"] > counts["charm"] + 0.3 > counts["light"] + 0.8
    mass, tracks = flat(table_of("bottom")["vertex_mass"]), flat(table_of("bottom")["vertex_n_track"])
    assert mass.max() < 6 and tracks.min() >= 2
    assert 1 < np.median(flat(table_of("bottom")["vertex_d3d"])) < 20


# ---- samples


def test_the_same_job_makes_the_same_jets_and_another_seed_others():
    small = {"events": 10, "events_per_shard": 5}
    one, again = (make_table(job_of(**small), 1)[0] for _ in range(2))
    assert one.equals(again)
    other, first = make_table(job_of(**small, seed=2), 1)[0], make_table(job_of(**small), 0)[0]
    for different in (other, first):
        assert not set(one["event_id"].to_pylist()) & set(different["event_id"].to_pylist())
        assert not one["jet_pt"].equals(different["jet_pt"])


def test_nothing_reaches_the_terminal(capfd):
    make_table(job_of(events=2, events_per_shard=2), 0)
    assert capfd.readouterr() == ("", "")


def test_a_sample_has_its_manifest_and_running_again_makes_only_what_is_missing(tmp_path, here):
    job = job_of(events=25)
    shards = list(generate(job, tmp_path))
    sample = Events.open(tmp_path)
    by = sample.manifest.made_by
    assert [shard.rows for shard in shards] == [10, 10, 5]
    assert build(JetJob, by["job"], "manifest") == job and by["digest"] == job.digest()
    assert sample.manifest.cuts == {"radius": 0.4, "pt": [100, 200], "abs_eta": [0, 2]}
    weight = sample.read()["weight"].to_numpy()
    assert weight.sum() == pytest.approx(by["selected_pb"], rel=1e-12)
    assert by["effective_events"] == pytest.approx(25, rel=0.05)
    assert steps(sample) == []
    good, manifest = sample.read(), (tmp_path / "_manifest.json").read_bytes()
    file = tmp_path / "shard-00001.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    list(generate(job, tmp_path))
    assert here == [0, 1, 2, 1]
    assert Events.open(tmp_path).read().equals(good) and (tmp_path / "_manifest.json").read_bytes() == manifest


def test_another_job_in_an_old_folder_is_refused_with_the_difference(tmp_path, here):
    list(generate(job_of(events=5), tmp_path))
    with pytest.raises(ConfigError, match="another job") as caught:
        list(generate(job_of("charm", name="bottom", events=5), tmp_path))
    assert "jets_of: bottom -> charm" in str(caught.value)
    events = build(GenerateJob, {"name": "x", "process": "gluino_direct", "mass": 900, "events": 5, "seed": 1}, "test")
    with pytest.raises(ConfigError, match="another job") as caught:
        list(generate(events, tmp_path))
    assert "jets_of: bottom -> (absent)" in str(caught.value)
    assert len(pq.read_table(tmp_path / "shard-00000.parquet")) == 5


def test_straight_tracks_of_old_are_not_mixed_with_bent_ones(tmp_path, here):
    """A sample of before there was a field says nothing of one."""
    list(generate(job_of(events=5), tmp_path))
    file = tmp_path / "shard-00000.parquet"
    table = pq.read_table(file)
    note = json.loads(table.schema.metadata[b"jetscale.generate"])
    del note["job"]["field"]
    pq.write_table(table.replace_schema_metadata({"jetscale.generate": json.dumps(note)}), file)
    with pytest.raises(ConfigError, match=r"field: 0\.0 -> 3\.8"):
        list(generate(job_of(events=5), tmp_path))


def test_jets_are_named_by_the_field_where_tracks_feel_it():
    bent, straight = job_of(), job_of(field=0)
    old = digest(bent.model_dump(mode="json", exclude_defaults=True))
    assert len({bent.digest(), straight.digest(), old}) == 3
    assert job_of(tracks=False).digest() == job_of(tracks=False, field=0).digest()


def test_windows_that_hardly_any_jet_is_in_are_an_error(monkeypatch):
    monkeypatch.setattr(room, "ENOUGH_TRIES", 50)
    with pytest.raises(GenerateError, match="hardly any event has a jet of bottom: tried 50, accepted 0") as caught:
        make_table(job_of(pt=(150, 150.01)), 0)
    assert "widen pt: and abs_eta:" in caught.value.cure


def test_a_batch_that_fails_as_a_whole_is_tried_again(monkeypatch):
    real = pythia.whole_batches
    monkeypatch.setattr(pythia, "whole_batches", lambda one: chain([pythia.Whole(7, Produced.none())], real(one)))
    table, made = make_table(job_of(events_per_shard=3), 0)
    assert table.num_rows == 3 and made.tried == 7 + pythia.JET_BATCH
