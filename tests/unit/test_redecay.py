"""Pseudo-decays: what must stay stays, what is new has the masses it must have, and shards do not matter."""

import json

import awkward as ak
import numpy as np
import pyarrow.compute as pc
import pytest

from jetscale import cli
from jetscale.config import build
from jetscale.data.redecay import Redecay, redecay
from jetscale.data.samples import merge
from jetscale.errors import ConfigError, DataError
from jetscale.events import MANIFEST, Events, write_manifest
from jetscale.physics.pseudodecays import MOST, Labelled, choose, decayed

JETS = {"radius": 0.4, "min_pt": 30.0, "max_eta": 2.8, "keep": 12}
SELECT = {"jets": 6, "pt": 50.0, "ht": 1200.0}
PLAIN = {"response": 1.0, "smear": 0.0}


def how(**values):
    return build(Redecay, {"seed": 3, **values}, "test")


@pytest.fixture(scope="module")
def some(tmp_path_factory):
    """Three hundred real events in shards of 70, with two columns of the user's own."""
    table = Events.open("shipped:gluino-1300").read().slice(0, 300)
    array = ak.with_field(ak.from_arrow(table), ak.from_arrow(table)["jet_pt"] * 2, "jet_twice")
    array = ak.with_field(array, np.arange(300.0), "own")
    place = tmp_path_factory.mktemp("some") / "some"
    events = Events.write(array, place, rows_per_shard=70)
    write_manifest(events.manifest.but(cuts={"jets": JETS, "select": SELECT}), place)
    return Events.open(place)


def lists(events, *names):
    return [ak.from_arrow(events.read()[name]) for name in names]


def momenta(events, parent):
    """(B, 4) of the jets of a parent, (E, px, py, pz)."""
    pt, eta, phi, mass, label = lists(events, "jet_pt", "jet_eta", "jet_phi", "jet_mass", "jet_parent_ancestry")
    energy = np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2)
    parts = energy, pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    return np.stack([ak.to_numpy(ak.sum(part[label == parent], axis=1)) for part in parts], axis=1).astype(float)


def masses(p4):
    return np.sqrt(np.maximum(p4[:, 0] ** 2 - (p4[:, 1:] ** 2).sum(axis=1), 0))


def one_event(rng, jets=8):
    """Jets by hand: two of each parent, the others of none; all without mass."""
    pt, eta, phi = rng.uniform(60, 600, jets), rng.uniform(-1.5, 1.5, jets), rng.uniform(-3, 3, jets)
    p4 = np.stack([pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], axis=1)
    label = np.array([1, 2, 1, 2] + [0] * (jets - 4))
    return Labelled(np.ones((1, jets), bool), p4[None], label[None], np.arange(jets)[None])


# ---- one event, without cuts


@pytest.mark.parametrize("bodies", [2, 4, 7, MOST])
def test_parents_keep_momentum_and_get_their_mass_and_others_stay(bodies):
    for number in range(20):
        old = one_event(np.random.default_rng(number))
        new = decayed(old, np.array([number]), np.array([1300.0]), np.array([bodies]), seed=1, radius=1e-6)
        for parent in (1, 2):
            assert new.of(parent).sum() == bodies
            total = new.p4_BJ4[new.of(parent)].sum(axis=0)
            before = old.p4_BJ4[old.of(parent)].sum(axis=0)
            assert total[1:] == pytest.approx(before[1:], abs=1e-6)
            assert masses(total[None]) == pytest.approx(1300.0, rel=1e-6)
        assert sorted(new.p4_BJ4[new.of(0)][:, 0]) == pytest.approx(sorted(old.p4_BJ4[old.of(0)][:, 0]))
        pt = np.where(new.mask_BJ, new.pt_BJ, 0)[0]
        assert (np.diff(pt) <= 0).all()


def test_quarks_that_are_near_become_one_jet_of_whom_most_pt_is():
    old = one_event(np.random.default_rng(5))
    arguments = np.array([9]), np.array([1300.0]), np.array([6])
    fine = decayed(old, *arguments, seed=1, radius=1e-6)
    coarse = decayed(old, *arguments, seed=1, radius=1.5)
    assert coarse.mask_BJ.sum() < fine.mask_BJ.sum()
    # Momentum is only put together otherwise.
    for one, other in zip(fine.p4_BJ4.sum(axis=1)[0, 1:], coarse.p4_BJ4.sum(axis=1)[0, 1:], strict=True):
        assert one == pytest.approx(other, abs=1e-6)
    everything = decayed(old, *arguments, seed=1, radius=100.0)
    pt = [fine.pt_BJ[fine.of(parent)].sum() for parent in (0, 1, 2)]
    assert everything.mask_BJ.sum() == 1 and everything.label_BJ[everything.mask_BJ] == np.argmax(pt)


def test_a_new_jet_has_the_mass_of_its_like_scaled_to_its_pt():
    old = one_event(np.random.default_rng(2))
    heavy = old.p4_BJ4.copy()
    heavy[..., 0] = np.sqrt((heavy[..., 1:] ** 2).sum(axis=-1) + (0.2 * old.pt_BJ) ** 2)
    old = Labelled(old.mask_BJ, heavy, old.label_BJ, old.like_BJ)
    new = decayed(old, np.array([7]), np.array([1300.0]), np.array([4]), seed=1, radius=1e-6)
    mine = new.mask_BJ[0]
    assert masses(new.p4_BJ4[0, mine]) == pytest.approx(0.2 * new.pt_BJ[0, mine], rel=1e-6)
    away = np.abs(np.log((new.pt_BJ[0] + 1e-9)[:, None] / old.pt_BJ[0][None]))
    for jet in np.flatnonzero(new.of(1)[0] | new.of(2)[0]):
        labelled = np.flatnonzero(old.label_BJ[0])
        assert new.like_BJ[0, jet] == labelled[away[jet, labelled].argmin()]


def test_response_and_smear_are_mean_and_width_of_what_is_seen():
    ids = np.arange(2000)
    old = one_event(np.random.default_rng(1), jets=4)
    many = Labelled(*(np.repeat(some, len(ids), axis=0) for some in
                      (old.mask_BJ, old.p4_BJ4, old.label_BJ, old.like_BJ)))  # fmt: skip
    rest = {"seed": 1, "radius": 1e-6}
    mass, bodies = np.full(len(ids), 1300.0), np.full(len(ids), 4)
    exact = decayed(many, ids, mass, bodies, **rest)
    seen = decayed(many, ids, mass, bodies, response=0.9, smear=0.1, **rest)
    # Both have the same quarks, by falling pt of what is seen: by azimuth they can be put side by side.
    ratio = []
    for one, other in zip(exact.p4_BJ4, seen.p4_BJ4, strict=True):
        first, second = (p4[np.argsort(np.where(p4[:, 0] > 0, np.arctan2(p4[:, 2], p4[:, 1]), 9))][:8]
                         for p4 in (one, other))  # fmt: skip
        ratio.append(np.log(second[:, 0] / first[:, 0]))
    assert np.exp(np.median(ratio)) == pytest.approx(0.9, abs=0.003)
    assert np.std(ratio) == pytest.approx(0.1, abs=0.003)


def test_every_number_of_bodies_is_chosen_about_equally_often_and_by_the_event_alone():
    ids = np.arange(6000)
    found = choose(ids, 1, (4, 5, 6))
    assert {4: 0, 5: 0, 6: 0}.keys() == set(found.tolist())
    assert np.bincount(found)[4:] == pytest.approx([2000] * 3, abs=150)
    assert np.array_equal(choose(ids[::-7], 1, (4, 5, 6)), found[::-7])
    assert not np.array_equal(choose(ids, 2, (4, 5, 6)), found)


# ---- a sample


def test_the_sample_is_signal_with_other_decays_and_passes_its_cuts(some, tmp_path):
    made = redecay(some, tmp_path / "new", how(bodies=[3, 5, 6]))
    table, old = made.read(), some.read()
    assert made.schema == some.schema and made.manifest.cuts == some.manifest.cuts
    assert set(table["decay_mode"].to_pylist()) == {3, 5, 6} and set(table["true_mass"].to_pylist()) == {1300}
    assert not set(table["event_id"].to_pylist()) & set(old["event_id"].to_pylist())
    pt, eta, ancestry, quark = lists(made, "jet_pt", "jet_eta", "jet_parent_ancestry", "jet_parent_quark")
    assert ak.all(pt > 30) and ak.all(abs(eta) < 2.8) and ak.max(ak.num(pt)) <= 12
    assert ak.all(ak.sum(pt > 50, axis=1) >= 6) and ak.all(ak.sum(pt, axis=1) > 1200)
    assert ak.all(pt[:, 1:] <= pt[:, :-1]) and ak.all(ancestry == quark)
    by = made.manifest.made_by
    assert len(made) + sum(by["rejected"].values()) == 300
    assert by["of"][0]["fingerprint"] == some.fingerprint and by["settings"]["bodies"] == [3, 5, 6]
    # An event keeps its weight and its own column, a jet follows the one it is like.
    rows = [int(own) for own in table["own"].to_pylist()]
    assert rows == sorted(set(rows))
    assert table["weight"].to_pylist() == [old["weight"][row].as_py() for row in rows]
    for row, twice in zip(rows, table["jet_twice"].to_pylist(), strict=True):
        assert set(twice) <= set(old["jet_twice"][row].as_py())


def test_more_bodies_make_more_jets_and_true_labels_give_the_mass(some, tmp_path):
    found, medians = {}, {}
    for bodies in (3, 6):
        made = redecay(some, tmp_path / f"of{bodies}", how(bodies=[bodies], **PLAIN))
        label = lists(made, "jet_parent_ancestry")[0]
        found[bodies] = ak.mean(ak.sum(label > 0, axis=1))
        medians[bodies] = np.median([masses(momenta(made, parent)) for parent in (1, 2)]) / 1300
    assert found[6] > found[3] + 3
    assert all(0.95 < one < 1.03 for one in medians.values())
    default = redecay(some, tmp_path / "seen", how(bodies=[3]))
    real, pseudo = (np.median([masses(momenta(one, parent)) for parent in (1, 2)]) for one in (some, default))
    assert pseudo == pytest.approx(real, rel=0.02)


def test_neither_shards_nor_other_events_matter(some, tmp_path):
    whole = redecay(some, tmp_path / "whole", how())
    other = merge([some], tmp_path / "other", rows=43)
    cut = redecay(other, tmp_path / "cut", how(events_per_shard=20))
    names = [name for name in whole.schema.names if name != "event_id"]
    assert len(cut.manifest.shards) > 10
    assert cut.read(names).equals(whole.read(names))
    assert redecay(some, tmp_path / "again", how()).fingerprint == whole.fingerprint
    assert not redecay(some, tmp_path / "seed", how(seed=4)).read(["jet_pt"]).equals(whole.read(["jet_pt"]))


def test_ids_are_unique_and_differ_from_seed_to_seed(some, tmp_path):
    made = [redecay(some, tmp_path / f"s{seed}", how(seed=seed)) for seed in (1, 2)]
    both = merge(made, tmp_path / "both")
    assert (
        pc.count_distinct(both.read()["event_id"]).as_py() == len(both) and pc.min(both.read()["event_id"]).as_py() >= 0
    )
    assert cli.main(["check", str(both.path)]) == 0


def test_background_and_parents_without_jets_are_counted(some, tmp_path):
    array = ak.from_arrow(some.read())
    background = np.arange(300) % 3 == 0
    array["true_mass"] = np.where(background, 0, array["true_mass"])
    array["decay_mode"] = np.where(background, 0, array["decay_mode"])
    array["jet_parent_ancestry"] = ak.where(np.arange(300) % 3 == 1, 0 * array["jet_parent_ancestry"],
                                            array["jet_parent_ancestry"])  # fmt: skip
    events = Events.write(array, tmp_path / "odd")
    write_manifest(events.manifest.but(cuts={"jets": JETS, "select": SELECT}), events.path)
    rejected = redecay(Events.open(events.path), tmp_path / "new", how()).manifest.made_by["rejected"]
    assert rejected["no signal of known mass"] == 100
    assert rejected["a parent with fewer than 2 jets"] >= 100


def test_labels_of_quarks_do_where_there_are_no_others(some, tmp_path):
    array = ak.from_arrow(some.read())
    array["jet_parent_quark"] = array["jet_parent_ancestry"]
    array["jet_parent_ancestry"] = ak.full_like(array["jet_parent_ancestry"], -1)
    events = Events.write(array, tmp_path / "quarks")
    write_manifest(events.manifest.but(cuts={"jets": JETS, "select": SELECT}), events.path)
    made = redecay(Events.open(events.path), tmp_path / "new", how())
    assert made.read(["jet_pt"]).equals(redecay(some, tmp_path / "plain", how()).read(["jet_pt"]))


@pytest.mark.parametrize(
    ("values", "words"),
    [({"bodies": [1]}, "bodies.0 = 1"), ({"bodies": [11]}, "bodies.0 = 11"), ({"bodies": []}, "bodies = []"),
     ({"smear": -1}, "smear = -1"), ({"response": 0}, "response = 0"), ({"seed": -1}, "seed = -1")],
)  # fmt: skip
def test_settings_that_cannot_be_are_said(values, words):
    with pytest.raises(ConfigError) as caught:
        how(**values)
    assert words in str(caught.value)


def test_what_cannot_decay_anew_is_refused_and_leaves_nothing(some, tmp_path):
    plain = Events.write(ak.from_arrow(some.read()), tmp_path / "plain")
    with pytest.raises(ConfigError, match="the cuts cannot be made again: the manifest has none"):
        redecay(plain, tmp_path / "new", how())
    skimmed = plain.manifest.but(cuts={"jets": JETS, "select": SELECT, "skim": []})
    write_manifest(skimmed, plain.path)
    with pytest.raises(ConfigError, match="skim afterwards"):
        redecay(Events.open(plain.path), tmp_path / "new", how())
    assert not (tmp_path / "new").exists()
    with pytest.raises(DataError, match=r"no event is left: \{'no signal of known mass': 8000\}"):
        redecay(Events.open("shipped:qcd"), tmp_path / "qcd", how())
    assert not (tmp_path / "qcd" / MANIFEST).exists()


def test_the_command_says_what_is_left_out_and_refuses_another_in_its_folder(some, tmp_path, capsys):
    out = str(tmp_path / "new")
    assert cli.main(["redecay", str(some.path), "--bodies", "4,6", "--seed", "1", "--out", out]) == 0
    said = capsys.readouterr().out
    by = json.loads((tmp_path / "new" / MANIFEST).read_text())["made_by"]
    assert by["settings"]["bodies"] == [4, 6] and by["settings"]["response"] == Redecay().response
    assert all(f"{number:,}  {reason}" in said for reason, number in by["rejected"].items())
    assert cli.main(["redecay", str(some.path), "--bodies", "4", "--out", out]) == 2
    assert cli.main(["redecay", str(some.path), "--bodies", "4,x", "--out", str(tmp_path / "x")]) == 2
    assert cli.main(["check", out]) == 0
