"""cannonball's files: what their schema means, in .npz and in pandas' tables, from real simulated events."""

import pickle
import zipfile

import awkward as ak
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jetscale.data.formats import cannonball
from jetscale.data.formats.cannonball import CannonballReader
from jetscale.data.ingest.job import Map, load_map
from jetscale.errors import ConfigError, DataError
from jetscale.events import Events, as_awkward
from jetscale.physics.kinematics import mass, p4
from jetscale.schema import JET_EVENTS, check

HOW = Map(**load_map("cannonball"))


@pytest.fixture(scope="module")
def pairs() -> tuple[np.ndarray, np.ndarray]:
    """Momenta (B, 5, 4) of two jets of each parent and one of none, in random order, and their parents (B, 5)."""
    events = as_awkward(Events.open("shipped:gluino-1500").read())
    of = [events.jet_parent_quark == parent for parent in (1, 2, 0)]
    enough = (ak.sum(of[0], 1) >= 2) & (ak.sum(of[1], 1) >= 2) & (ak.sum(of[2], 1) >= 1)
    events, of = events[enough], [one[enough] for one in of]
    place = ak.local_index(events.jet_pt)
    chosen = ak.to_numpy(ak.concatenate([place[of[0]][:, :2], place[of[1]][:, :2], place[of[2]][:, :1]], axis=1))
    chosen = np.random.default_rng(3).permuted(chosen, axis=1)[:400]
    columns = [np.asarray(ak.to_numpy(events[f"jet_{name}"][:400][ak.from_regular(chosen)]), np.float64)
               for name in ("pt", "eta", "phi", "mass")]  # fmt: skip
    parent = ak.to_numpy(events.jet_parent_quark[:400][ak.from_regular(chosen)]).astype(int)
    return p4(*map(torch.tensor, columns)).numpy(), parent


def labels_of(parent: np.ndarray) -> np.ndarray:
    """As the original makes them: is of a stop, and is of the same as the first of those."""
    stop = parent > 0
    mothers = parent[stop].reshape(-1, 4)
    return np.concatenate([stop, mothers[:, 1:] == mothers[:, :1]], axis=1)


def frame_of(jets: np.ndarray, mother: np.ndarray) -> pd.DataFrame:
    """As the original makes it: columns by (name, slot), and 0 where an event has fewer jets."""
    slots = range(jets.shape[1])
    names = ["jet_e", "jet_px", "jet_py", "jet_pz", "partonindex", "mother"]
    blocks = [*np.moveaxis(jets, -1, 0), np.where(mother > 0, 1.0, 21.0), mother.astype(float)]
    columns = pd.MultiIndex.from_product([names, slots], names=[None, "subentry"])
    return pd.DataFrame(np.concatenate(blocks, axis=1), columns=columns, index=pd.RangeIndex(len(jets), name="entry"))


def write_frame(file, jets, mother, **settings):
    frame_of(jets, mother).to_hdf(file, key="df", mode="w", **{"append": True, **settings})
    return file


def read(file, start=0, stop=None, columns=None, how=HOW) -> ak.Array:
    with CannonballReader(str(file), how) as reader:
        look = reader.look()
        chunks = list(reader.read(start, look.entries if stop is None else stop, columns or look.columns))
        return ak.concatenate(chunks)


@pytest.fixture(scope="module")
def npz(pairs, tmp_path_factory):
    file = tmp_path_factory.mktemp("npz") / "pairs.npz"
    np.savez(file, jets=pairs[0], labels=labels_of(pairs[1]))
    return file


@pytest.fixture(scope="module")
def table(pairs, tmp_path_factory):
    mother = np.where(pairs[1] > 0, pairs[1] + 1, 0)
    return write_frame(tmp_path_factory.mktemp("df") / "pairs.h5", pairs[0], mother)


def masses(events: ak.Array) -> np.ndarray:
    """Masses of the groups of each parent, the smaller first, (B, 2)."""
    arrays = [torch.tensor(ak.to_numpy(events[f"jet_{name}"]).astype(np.float64))
              for name in ("pt", "eta", "phi", "mass")]  # fmt: skip
    parent = torch.tensor(ak.to_numpy(events.jet_parent_quark).astype(int))
    groups = [(p4(*arrays) * (parent == label)[..., None]).sum(1) for label in (1, 2)]
    return np.sort(torch.stack([mass(group) for group in groups], 1).numpy(), axis=1)


@pytest.mark.parametrize("kind", ["npz", "table"])
def test_labels_and_masses_are_those_of_the_simulation(pairs, kind, request):
    events = read(request.getfixturevalue(kind))
    jets, parent = pairs
    same = ak.to_numpy(events.jet_parent_quark)
    swapped = np.where(same > 0, 3 - same, 0)
    assert ((same == parent).all(1) | (swapped == parent).all(1)).all()
    of_stops = np.array([row[row > 0][0] for row in same])
    assert (of_stops == 1).all(), "the first jet of a stop is of parent 1"
    true = [np.sqrt(np.maximum(group[:, 0] ** 2 - (group[:, 1:] ** 2).sum(1), 0))
            for group in ((jets * (parent == label)[..., None]).sum(1) for label in (1, 2))]  # fmt: skip
    np.testing.assert_allclose(masses(events), np.sort(np.stack(true, 1), axis=1), rtol=1e-5)
    np.testing.assert_allclose(ak.to_numpy(events.jet_pt), np.hypot(jets[..., 1], jets[..., 2]), rtol=1e-6)
    assert ak.all(events.jet_parent_ancestry == events.jet_parent_quark)
    assert set(events.decay_mode) == {2}
    assert set(events.true_mass) == {-1.0}
    assert set(events.weight) == {1.0}


def test_both_kinds_hold_the_same_and_keep_the_contract(npz, table):
    one, other = read(npz), read(table)
    with CannonballReader(str(npz), HOW) as reader:
        columns = reader.look().columns
    assert one.fields == [*columns.names, "weight"]
    for name in columns.names:
        assert ak.all(one[name] == other[name]), name
    arrow = ak.to_arrow_table(one[list(columns.names)], extensionarray=False, list_to32=True)
    check(arrow.cast(columns.arrow), columns, "npz")
    assert set(columns.names) <= set(JET_EVENTS.names)


@pytest.mark.parametrize("compressed", [False, True])
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, 400), length=st.integers(0, 400), rows=st.integers(1, 90))
def test_any_range_in_any_chunks_is_the_same_events(npz, pairs, tmp_path, monkeypatch, compressed, start, length, rows):
    monkeypatch.setattr(cannonball, "ROWS", rows)
    file = npz
    if compressed:
        file = tmp_path / "compressed.npz"
        if not file.exists():
            np.savez_compressed(file, jets=pairs[0], labels=labels_of(pairs[1]))
    stop = min(start + length, 400)
    with CannonballReader(str(file), HOW) as reader:
        chunks = list(reader.read(start, stop, reader.look().columns))
    assert all(len(chunk) <= rows for chunk in chunks)
    pt = np.concatenate([np.zeros((0, 5)), *(ak.to_numpy(chunk.jet_pt) for chunk in chunks)])
    np.testing.assert_allclose(pt, np.hypot(pairs[0][start:stop, :, 1], pairs[0][start:stop, :, 2]), rtol=1e-6)


def test_a_tables_ranges_too(table, monkeypatch):
    everything = read(table)
    monkeypatch.setattr(cannonball, "ROWS", 7)
    part = read(table, 30, 77)
    assert ak.all(part.jet_eta == everything.jet_eta[30:77])
    assert ak.all(part.jet_parent_quark == everything.jet_parent_quark[30:77])


def test_background_has_no_parents_that_are_known(pairs, tmp_path):
    np.savez(tmp_path / "qcd.npz", jets=pairs[0])
    write_frame(tmp_path / "qcd.h5", pairs[0], np.zeros((400, 5)))
    for file in ("qcd.npz", "qcd.h5"):
        events = read(tmp_path / file)
        assert set(events.decay_mode) == {0}
        assert set(events.true_mass) == {0.0}
        assert set(ak.flatten(events.jet_parent_quark)) == {-1}


def test_no_jet_comes_of_a_momentum_of_zeros(pairs, tmp_path):
    jets = pairs[0].copy()
    jets[1, 3:] = 0.0
    np.savez(tmp_path / "qcd.npz", jets=jets)
    mother = np.where(pairs[1] > 0, pairs[1] + 1, 0)
    jets = np.concatenate([pairs[0], np.zeros((400, 2, 4))], axis=1)
    write_frame(tmp_path / "pairs.h5", jets, np.concatenate([mother, np.zeros((400, 2))], axis=1))
    assert ak.num(read(tmp_path / "qcd.npz").jet_pt).tolist()[:3] == [5, 3, 5]
    events = read(tmp_path / "pairs.h5")
    assert set(ak.num(events.jet_pt)) == {5}
    assert set(events.decay_mode) == {2}


def test_longer_decays_in_a_table(pairs, tmp_path):
    """Three jets of each: two events of five joined to one of ten."""
    jets = np.concatenate([pairs[0][:200], pairs[0][200:]], axis=1)
    mother = np.tile([2, 2, 2, 2, 0, 3, 3, 3, 3, 0], (200, 1))
    events = read(write_frame(tmp_path / "long.h5", jets, mother))
    assert set(events.decay_mode) == {4}
    assert events.jet_parent_quark[0].tolist() == [1, 1, 1, 1, 0, 2, 2, 2, 2, 0]


def test_energies_come_in_gev(pairs, tmp_path):
    np.savez(tmp_path / "tev.npz", jets=pairs[0] / 1e3, labels=labels_of(pairs[1]))
    events = read(tmp_path / "tev.npz", how=HOW.but(energy="TeV"))
    np.testing.assert_allclose(events.jet_pt[0], np.hypot(pairs[0][0, :, 1], pairs[0][0, :, 2]), rtol=1e-6)


def test_units_of_ht_are_no_energy(pairs, tmp_path):
    jets = pairs[0] / np.hypot(pairs[0][..., 1], pairs[0][..., 2]).sum(1)[:, None, None]
    np.savez(tmp_path / "ht.npz", jets=jets, labels=labels_of(pairs[1]))
    with pytest.raises(DataError, match=r"units of HT(.|\n)*map.energy=TeV"):
        read(tmp_path / "ht.npz")
    np.testing.assert_allclose(
        ak.sum(read(tmp_path / "ht.npz", how=HOW.but(energy="TeV")).jet_pt, axis=1), 1000, rtol=1e-5
    )


def test_what_is_odd_comes_as_it_is(pairs, tmp_path):
    jets = pairs[0].copy()
    jets[2, 1, 0] = np.nan
    jets[3, 0, 1:] *= 2
    np.savez(tmp_path / "odd.npz", jets=jets)
    events = read(tmp_path / "odd.npz")
    assert np.isnan(events.jet_mass[2, 1])
    assert events.jet_mass[3, 0] < -1.0


def test_single_precision_is_enough_for_the_masses_of_partons(pairs, tmp_path):
    """E^2 - p^2 of what was rounded: a small mass of either sign, nothing mended."""
    jets = pairs[0].copy()
    jets[..., 0] = np.sqrt((jets[..., 1:] ** 2).sum(-1))
    np.savez(tmp_path / "single.npz", jets=jets.astype(np.float32), labels=labels_of(pairs[1]))
    events = read(tmp_path / "single.npz")
    assert ak.max(abs(events.jet_mass) / events.jet_pt / np.cosh(events.jet_eta)) < 1e-3


def test_the_key_is_the_contents(npz, tmp_path, pairs):
    copy = tmp_path / "another name.npz"
    copy.write_bytes(npz.read_bytes())
    np.savez(tmp_path / "less.npz", jets=pairs[0][:10])
    keys = []
    for file in (npz, copy, tmp_path / "less.npz"):
        with CannonballReader(str(file), HOW) as reader:
            keys.append(reader.look().key)
    assert keys[0] == keys[1] != keys[2]
    assert len(bytes.fromhex(keys[0])) == 8


def savez(**arrays):
    return lambda file, jets, labels: np.savez(file, **{name: make(jets, labels) for name, make in arrays.items()})


def wrong_sum(jets, labels):
    labels = labels.copy()
    labels[17, :5] = [1, 1, 1, 0, 0]
    return labels


WRONG = {
    "five of stops": (savez(jets=lambda j, i: j, labels=wrong_sum), r"event 17: the labels .* two jets\s+of each stop"),
    "three of one": (savez(jets=lambda j, i: j, labels=lambda j, i: i * 0 + [1, 1, 1, 1, 0, 1, 1, 0]),
                     r"event 0: the labels"),
    "no booleans": (savez(jets=lambda j, i: j, labels=lambda j, i: i * 2), r"event 0: the labels"),
    "fractions": (savez(jets=lambda j, i: j, labels=lambda j, i: i * 0.5), r"labels holds 0.5 where a whole number"),
    "other key": (savez(jet=lambda j, i: j), r"array 'jet', which is none of this format(.|\n)*did you mean 'jets'"),
    "labels alone": (savez(labels=lambda j, i: i), r"no array 'jets'"),
    "further key": (savez(jets=lambda j, i: j, weights=lambda j, i: i), r"array 'weights'"),
    "other shape": (savez(jets=lambda j, i: j[:, :4]), r"'jets' is \(400, 4, 4\), and must be \(N, 5, 4\)"),
    "labels' shape": (savez(jets=lambda j, i: j, labels=lambda j, i: i[:, :5]), r"'labels' is \(400, 5\)"),
    "scalar": (savez(jets=lambda j, i: np.float64(3)), r"'jets' is"),
    "fewer labels": (savez(jets=lambda j, i: j, labels=lambda j, i: i[:-1]), r"400 jets and 399 labels"),
    "objects": (savez(jets=lambda j, i: j.astype(object)), r"of object, not of numbers"),
    "words": (savez(jets=lambda j, i: j.astype(str)), r"not of numbers"),
    "by columns": (savez(jets=lambda j, i: np.asfortranarray(j)), r"column by column"),
    "none": (savez(jets=lambda j, i: j[:0]), r"holds no events"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_in_this_format_is_named(pairs, tmp_path, name):
    write, said = WRONG[name]
    write(tmp_path / "wrong.npz", pairs[0], labels_of(pairs[1]))
    with pytest.raises(DataError, match=said) as problem:
        read(tmp_path / "wrong.npz")
    assert "wrong.npz" in str(problem.value)
    assert problem.value.cure


@pytest.mark.parametrize("kind", ["npz", "table"])
@pytest.mark.parametrize("share", [0.001, 0.5, 0.97])
def test_a_truncated_file_is_named(kind, share, request, tmp_path):
    content = request.getfixturevalue(kind).read_bytes()
    cut = tmp_path / "cut"
    cut.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match="cannot be read") as problem:
        read(cut)
    assert str(cut) in str(problem.value)


def test_a_damaged_archive_is_named(npz, tmp_path):
    content = bytearray(npz.read_bytes())
    content[5000:5010] = b"0123456789"
    (tmp_path / "bad.npz").write_bytes(bytes(content))
    with pytest.raises(DataError, match="CRC"):
        read(tmp_path / "bad.npz")


def test_an_array_that_ends_early_is_named(pairs, tmp_path):
    np.savez(tmp_path / "good.npz", jets=pairs[0])
    with zipfile.ZipFile(tmp_path / "good.npz") as good, zipfile.ZipFile(tmp_path / "short.npz", "w") as short:
        short.writestr("jets.npy", good.read("jets.npy")[:-100])
    with pytest.raises(DataError, match="'jets' ends early"):
        read(tmp_path / "short.npz")


@pytest.mark.parametrize("content", [b"", b"years of work\n"])
def test_another_kind_of_file_is_named(tmp_path, content):
    (tmp_path / "notes.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"notes.txt: is neither .npz nor HDF5"):
        read(tmp_path / "notes.txt")
    with pytest.raises(DataError, match="none.npz"):
        read(tmp_path / "none.npz")


def test_tables_of_another_kind_are_named(pairs, tmp_path):
    mother = np.where(pairs[1] > 0, pairs[1] + 1, 0)
    file = write_frame(tmp_path / "fixed.h5", pairs[0], mother, append=False)
    with pytest.raises(DataError, match="pandas' fixed format"):
        read(file)
    frame_of(pairs[0], mother).to_hdf(tmp_path / "key.h5", key="events", mode="w", append=True)
    with pytest.raises(DataError, match="has no table 'df'"):
        read(tmp_path / "key.h5")
    frame = frame_of(pairs[0], mother).rename(columns={"mother": "mothers"}, level=0)
    frame.to_hdf(tmp_path / "name.h5", key="df", mode="w", append=True)
    with pytest.raises(DataError, match=r"no columns 'mother'(.|\n)*did you mean 'mothers'"):
        read(tmp_path / "name.h5")
    frame_of(pairs[0], mother).drop(columns=[("jet_pz", 4)]).to_hdf(tmp_path / "less.h5", key="df", append=True)
    with pytest.raises(DataError, match="'jet_pz' of other jets"):
        read(tmp_path / "less.h5")


def test_a_table_whose_mothers_are_no_pair_is_named(pairs, tmp_path):
    mother = np.where(pairs[1] > 0, pairs[1] + 1, 0)
    mother[5] = [2, 2, 2, 3, 0]
    with pytest.raises(DataError, match=r"event 5: the mothers \[2, 2, 2, 3, 0\]"):
        read(write_frame(tmp_path / "odd.h5", pairs[0], mother))
    mother[5] = [2, 3, 4, 0, 0]
    with pytest.raises(DataError, match=r"event 5: the mothers"):
        read(write_frame(tmp_path / "three.h5", pairs[0], mother))


class Malice:
    """What a pickle may do when it is opened."""

    def __reduce__(self):
        return print, ("opened",)


def test_a_table_runs_no_code(table, tmp_path, capsys):
    h5py = pytest.importorskip("h5py")
    file = tmp_path / "malice.h5"
    file.write_bytes(table.read_bytes())
    with h5py.File(file, "a") as hdf5:
        hdf5["df/table"].attrs["values_block_0_kind"] = np.bytes_(pickle.dumps(Malice(), protocol=0))
    with pytest.raises(DataError, match=r"it asks for [\w.]+print"):
        read(file)
    assert not capsys.readouterr().out


@pytest.mark.parametrize("more", [{"columns": {"jet": {"btag": "btag"}}}, {"tree": "df"}, {"pad": -9},
                                  {"weight": {"generator": "w"}}])  # fmt: skip
def test_a_map_that_asks_for_more_is_refused(npz, more):
    with pytest.raises(ConfigError, match=f"map.{next(iter(more))}"):
        read(npz, how=HOW.but(**more))


def test_a_missing_library_is_named(table, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(DataError, match=r"h5py is not installed(.|\n)*pip install .*\.\[formats\]"):
        read(table)
