"""SPANet's HDF5: what its schema means, in both layouts, from real simulated events."""

from pathlib import Path

import awkward as ak
import h5py
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jetscale.config import merge
from jetscale.data.formats import spanet
from jetscale.data.formats.spanet import SpanetReader
from jetscale.data.ingest.job import Map, load_map
from jetscale.errors import DataError
from jetscale.events import Events, as_awkward
from jetscale.physics.groupings import reconstruct
from jetscale.physics.kinematics import p4
from jetscale.schema import JET_EVENTS, check

PRODUCTS = ("q1", "q2", "q3")
SLOTS = 14
NAMES = ("pt", "eta", "phi", "mass")


def how(**more) -> Map:
    return Map(**merge([("map", load_map("spanet")), ("test", more)])[0])


@pytest.fixture(scope="module")
def events() -> ak.Array:
    """Simulated events: gluinos that decay to three quarks each."""
    return ak.from_iter(as_awkward(Events.open("shipped:gluino-1500").read())[:300].to_list())


@pytest.fixture(scope="module")
def padded(events) -> dict[str, np.ndarray]:
    """The arrays of a file by path, in the newer layout."""
    jets = {name: ak.fill_none(ak.pad_none(events[f"jet_{name}"], SLOTS, clip=True), 0) for name in NAMES}
    arrays = {f"INPUTS/Source/{name}": ak.to_numpy(jets[name]).astype(np.float32) for name in NAMES}
    arrays["INPUTS/Source/btag"] = np.random.default_rng(1).integers(0, 2, (300, SLOTS)).astype(np.float32)
    arrays["INPUTS/Source/MASK"] = np.arange(SLOTS) < ak.to_numpy(ak.num(events.jet_pt))[:, None]
    place = ak.local_index(events.jet_pt)
    for parent, particle in ((1, "t1"), (2, "t2")):
        of = place[events.jet_parent_quark == parent]
        matched = ak.to_numpy(ak.fill_none(ak.pad_none(of, len(PRODUCTS), clip=True), -1))
        for number, product in enumerate(PRODUCTS):
            arrays[f"TARGETS/{particle}/{product}"] = matched[:, number].astype(np.int64)
    return arrays


def write(file: Path, arrays: dict[str, np.ndarray], **settings) -> Path:
    with h5py.File(file, "w") as hdf5:
        for path, values in arrays.items():
            hdf5.create_dataset(path, data=values, **settings)
    return file


def older(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As the first version has it: in lower case, the particles at the top, each with a mask."""
    made = {}
    for path, values in arrays.items():
        made[path.replace("INPUTS/Source/MASK", "source/mask").replace("INPUTS/Source", "source")
             .replace("TARGETS/", "")] = values  # fmt: skip
    for particle in ("t1", "t2"):
        made[f"{particle}/mask"] = np.all([made[f"{particle}/{product}"] >= 0 for product in PRODUCTS], axis=0)
    return made


def read(file, start=0, stop=None, **more) -> ak.Array:
    with SpanetReader(str(file), how(**more)) as reader:
        look = reader.look()
        return ak.concatenate(list(reader.read(start, look.entries if stop is None else stop, look.columns)))


@pytest.fixture(scope="module")
def file(padded, tmp_path_factory):
    return write(tmp_path_factory.mktemp("spanet") / "events.h5", padded)


def leading(parents: list[int]) -> list[int]:
    """The labels of at most three jets of each parent, the leading ones; -1 where there are none."""
    few = [parent if parents[:place].count(parent) < len(PRODUCTS) else 0 for place, parent in enumerate(parents)]
    return few if any(few) else [-1] * len(few)


LAYOUTS = {
    "capitals": lambda arrays: arrays,
    "small": lambda arrays: {path.replace("INPUTS", "inputs").replace("TARGETS", "targets").replace("MASK", "mask"):
                             values for path, values in arrays.items()},
    "older": older,
    "older with target": lambda arrays: {(path if path.startswith("source") else f"target/{path}"): values
                                         for path, values in older(arrays).items()},
    "another name": lambda arrays: {path.replace("Source", "Jets"): values for path, values in arrays.items()},
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_labels_come_back_from_either_layout(events, padded, layout, tmp_path):
    read_back = read(write(tmp_path / "events.h5", LAYOUTS[layout](padded)))
    clipped = {name: events[f"jet_{name}"][:, :SLOTS] for name in (*NAMES, "parent_quark")}
    for name in NAMES:
        assert ak.all(read_back[f"jet_{name}"] == clipped[name]), name
    wanted = [leading(parents) for parents in clipped["parent_quark"].tolist()]
    matched = np.array([any(label > 0 for label in labels) for labels in wanted])
    assert 290 < matched.sum() <= 300
    assert read_back.jet_parent_quark.tolist() == wanted
    assert read_back.decay_mode.tolist() == np.where(matched, 3, -1).tolist()
    assert ak.all(read_back.weight == 1.0)


def test_masses_are_those_of_the_simulation(events, file):
    """Of events whose six quarks all have a jet, to the precision of the file."""
    made = read(file)
    whole = (ak.sum(made.jet_parent_quark == 1, 1) == 3) & (ak.sum(made.jet_parent_quark == 2, 1) == 3)
    whole = whole & (ak.sum(events.jet_parent_quark > 0, 1) == 6)

    def masses(array: ak.Array) -> np.ndarray:
        columns = [
            ak.to_numpy(ak.fill_none(ak.pad_none(array[f"jet_{name}"], 30), 0)).astype(np.float64) for name in NAMES
        ]
        parent = ak.to_numpy(ak.fill_none(ak.pad_none(array.jet_parent_quark, 30), 0)).astype(int)
        return reconstruct(p4(*map(torch.tensor, columns)), torch.tensor(parent)).mass_B.numpy()

    assert ak.sum(whole) > 50
    np.testing.assert_allclose(masses(made[whole]), masses(events[whole]), rtol=1e-6)
    assert abs(np.median(masses(made[whole])) / 1500 - 1) < 0.1


def test_the_contract_is_kept_and_ancestry_is_not_made_up(file):
    with SpanetReader(str(file), how()) as reader:
        look = reader.look()
    assert look.entries == 300
    assert look.absent == ("jet_qtag",)
    assert look.sum_weight is None
    assert "jet_parent_ancestry" not in look.columns
    for name in ("jet_pt", "jet_parent_quark", "decay_mode"):
        assert look.columns[name] == JET_EVENTS[name]
    assert look.columns["jet_btag"].of == "jet"
    made = read(file)
    assert made.fields == [*look.columns.names, "weight"]
    table: pa.Table = ak.to_arrow_table(made[list(look.columns.names)], extensionarray=False, list_to32=True)
    check(table.cast(look.columns.arrow), look.columns, "spanet")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, 300), length=st.integers(0, 300), rows=st.integers(1, 120))
def test_any_range_in_any_chunks_is_the_same_events(file, padded, monkeypatch, start, length, rows):
    monkeypatch.setattr(spanet, "CHUNK", rows * SLOTS * 30)
    stop = min(start + length, 300)
    with SpanetReader(str(file), how()) as reader:
        columns = reader.look().columns
        chunks = list(reader.read(start, stop, columns))
    mask = padded["INPUTS/Source/MASK"][start:stop]
    for name in (*NAMES, "btag"):
        flat = np.concatenate([[], *(ak.to_numpy(ak.flatten(chunk[f"jet_{name}"])) for chunk in chunks)])
        assert np.array_equal(flat, padded[f"INPUTS/Source/{name}"][start:stop][mask])
    lengths = np.concatenate([[], *(ak.to_numpy(ak.num(chunk.jet_pt)) for chunk in chunks)])
    assert np.array_equal(lengths, mask.sum(1))
    assert rows >= 300 or stop - start < 2 * rows or len(chunks) > 1


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_events_come_back(tmp_path, data):
    """Masks with holes, events without jets, products that are not there, compressed or not, in any number type."""
    rows, slots = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 7))
    dice = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    mask = dice.random((rows, slots)) < data.draw(st.sampled_from([0.0, 0.5, 1.0]))
    parent = np.where(mask, dice.integers(0, 3, mask.shape), 0)
    number = data.draw(st.sampled_from(["f2", "f4", "f8", ">f4"]))
    arrays = {f"INPUTS/Source/{name}": dice.random(mask.shape).astype(number) for name in NAMES}
    arrays["INPUTS/Source/MASK"] = mask
    products = {particle: np.full((slots, rows), -1) for particle in ("t1", "t2")}
    for row, slot in zip(*np.nonzero(parent), strict=True):
        of = products["t1" if parent[row, slot] == 1 else "t2"]
        of[dice.choice(np.flatnonzero(of[:, row] < 0)), row] = slot
    for particle, places in products.items():
        arrays |= {f"TARGETS/{particle}/q{number}": place for number, place in enumerate(places)}
    compressed = {"compression": "gzip", "chunks": True} if data.draw(st.booleans()) else {}
    made = read(write(tmp_path / "random.h5", arrays, **compressed))
    known = (parent > 0).any(1)
    assert made.jet_parent_quark.tolist() == [
        one[there].tolist() if any_ else [-1] * int(there.sum())
        for one, there, any_ in zip(parent, mask, known, strict=True)
    ]
    assert made.jet_pt.tolist() == [
        one[there].tolist() for one, there in zip(arrays["INPUTS/Source/pt"].astype("f4"), mask, strict=True)
    ]
    assert made.decay_mode.tolist() == np.where(known, slots, -1).tolist()


def changed(padded, **changes) -> dict[str, np.ndarray]:
    return {**padded, **{path.replace("__", "/"): values for path, values in changes.items()}}


def test_two_of_more_particles_are_parents_when_the_map_says_which(padded, tmp_path):
    arrays = changed(padded, TARGETS__w__q1=np.full(300, -1), TARGETS__w__q2=padded["TARGETS/t1/q2"])
    file = write(tmp_path / "three.h5", arrays)
    with pytest.raises(DataError, match=r"3 target particles, not two: t1, t2, w(.|\n)*map.parents=\[NAME,NAME\]"):
        read(file)
    both, one = read(file, parents=["t1", "t2"]), read(file, parents=["t2", "w"])
    assert set(both.decay_mode) <= {3, -1}
    t2, w = both.jet_parent_quark == 2, one.jet_parent_quark == 2
    assert ak.all(one.jet_parent_quark[t2] == 1)
    assert ak.all(both.jet_parent_quark[w] == 1)
    assert set(one.decay_mode) == {-1}, "three quarks of one, two of the other"
    with pytest.raises(DataError, match=r"no target particle 't3'(.|\n)*t1, t2, w"):
        read(file, parents=["t1", "t3"])


def test_files_of_data_have_no_targets(padded, tmp_path):
    arrays = {path: values for path, values in padded.items() if path.startswith("INPUTS")}
    file = write(tmp_path / "data.h5", arrays)
    with h5py.File(file, "a") as hdf5:
        hdf5.create_group("TARGETS/t1")
    with SpanetReader(str(file), how()) as reader:
        look = reader.look()
    assert {"jet_parent_quark", "decay_mode"} <= set(look.absent)
    assert "jet_parent_quark" not in look.columns


def test_other_inputs_weights_and_classes_are_branches_by_their_path(padded, tmp_path):
    dice = np.random.default_rng(2)
    met, weight, signal = dice.random(300), dice.normal(1, 1, 300).astype("f4"), dice.integers(0, 2, 300)
    leptons = {"MASK": dice.random((300, 2)) < 0.5, "pt": dice.random((300, 2)).astype("f4")}
    arrays = changed(padded, INPUTS__Met__met=met, WEIGHTS__weight=weight, CLASSIFICATIONS__EVENT__signal=signal,
                     REGRESSIONS__t1__PARTICLE__pt=met * 3)  # fmt: skip
    arrays |= {f"INPUTS/Leptons/{name}": values for name, values in leptons.items()}
    file = write(tmp_path / "more.h5", arrays)
    with pytest.raises(DataError, match=r"2 inputs with a mask: Leptons, Source(.|\n)*tree: NAME"):
        read(file)
    more = {
        "tree": "Source",
        "weight": {"generator": "WEIGHTS/weight"},
        "columns": {
            "event": {"met": {"branch": "Met/met", "unit": "MeV"}, "signal": "CLASSIFICATIONS/EVENT/signal",
                      "parent_pt": "REGRESSIONS/t1/PARTICLE/pt"},
            "lepton": {"pt": "Leptons/pt"},
        },
    }  # fmt: skip
    made = read(file, **more)
    np.testing.assert_allclose(made.met, met * 1e-3, rtol=1e-6)
    np.testing.assert_allclose(made.parent_pt, met * 3)
    assert made.signal.tolist() == signal.tolist()
    assert made.weight.tolist() == weight.tolist()
    assert made.lepton_pt.tolist() == [
        pt[mask].tolist() for pt, mask in zip(leptons["pt"], leptons["MASK"], strict=True)
    ]
    with SpanetReader(str(file), how(**more)) as reader:
        assert reader.look().sum_weight == pytest.approx(float(weight.sum(dtype=np.float64)))


def test_momenta_of_other_kinds(events, padded, tmp_path):
    """Sine and cosine instead of phi; energies; Cartesian; MeV."""
    pt, eta, phi, mass = (padded[f"INPUTS/Source/{name}"].astype(np.float64) for name in NAMES)
    px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    energy = np.sqrt(px**2 + py**2 + pz**2 + mass**2)
    rest = {path: values for path, values in padded.items() if path.startswith("TARGETS") or path.endswith("MASK")}
    kinds = {
        "sines": {"pt": pt, "eta": eta, "sin_phi": np.sin(phi), "cos_phi": np.cos(phi), "mass": mass},
        "energies": {"pt": pt, "eta": eta, "phi": phi, "e": energy},
        "cartesian": {"px": px, "py": py, "pz": pz, "energy": energy},
    }
    energies = {"pt", "mass", "e", "energy", "px", "py", "pz"}
    wanted = read(write(tmp_path / "plain.h5", padded))
    for kind, features in kinds.items():
        for unit, scale in (("GeV", 1), ("MeV", 1e3)):
            file = write(tmp_path / f"{kind}{unit}.h5", rest | {
                f"INPUTS/Source/{name}": values * (scale if name in energies else 1)
                for name, values in features.items()})  # fmt: skip
            made = read(file, energy=unit)
            for name in ("pt", "eta", "mass"):
                np.testing.assert_allclose(
                    *(ak.flatten(one[f"jet_{name}"]) for one in (made, wanted)), rtol=1e-4, atol=1e-3
                )
            turn = ak.to_numpy(ak.flatten(made.jet_phi)) - ak.to_numpy(ak.flatten(wanted.jet_phi))
            np.testing.assert_allclose(np.cos(turn), 1, atol=1e-6)


def test_what_is_odd_comes_as_it_is(padded, tmp_path):
    mass = padded["INPUTS/Source/mass"].copy()
    mass[3, 0] = np.nan
    made = read(write(tmp_path / "odd.h5", changed(padded, INPUTS__Source__mass=mass)))
    assert np.isnan(made.jet_mass[3, 0])


def twice(padded):
    places = padded["TARGETS/t2/q1"].copy()
    places[7] = padded["TARGETS/t1/q1"][7]
    return changed(padded, TARGETS__t2__q1=places)


def beyond(padded):
    places = padded["TARGETS/t2/q2"].copy()
    places[11] = SLOTS
    return changed(padded, TARGETS__t2__q2=places)


def on_padding(padded):
    mask, places = padded["INPUTS/Source/MASK"].copy(), padded["TARGETS/t1/q3"].copy()
    mask[5, SLOTS - 1], places[5] = False, SLOTS - 1
    return changed(padded, TARGETS__t1__q3=places, INPUTS__Source__MASK=mask)


def without(*paths):
    return lambda padded: {path: values for path, values in padded.items() if path not in paths}


WRONG = {
    "two parents": (twice, r"event 7: t2/q1 is jet \d+, which is of t1 as well"),
    "beyond the jets": (beyond, rf"event 11: t2/q2 is jet {SLOTS}, and there is room for {SLOTS}"),
    "no jet there": (on_padding, rf"event 5: t1/q3 is jet {SLOTS - 1}, which the mask says is not there"),
    "half a jet": (lambda p: changed(p, TARGETS__t1__b=np.full(300, 0.5)), r"/TARGETS/t1/b holds 0.5 where a whole"),
    "one particle": (without(*(f"TARGETS/t2/{product}" for product in PRODUCTS)), r"1 target particles, not two: t1"),
    "no mask": (without("INPUTS/Source/MASK"), r"0 inputs with a mask: none"),
    "no mass": (without("INPUTS/Source/mass"), r"no branch .*jet_mass"),
    "no inputs": (lambda p: {path: v for path, v in p.items() if path.startswith("T")}, r"neither INPUTS nor source"),
    "other length": (lambda p: changed(p, INPUTS__Source__btag=p["INPUTS/Source/btag"][:-1]), r"btag is \(299, 14\)"),
    "other slots": (lambda p: changed(p, INPUTS__Source__eta=p["INPUTS/Source/eta"][:, :-1]), r"eta is \(300, 13\)"),
    "short target": (lambda p: changed(p, TARGETS__t1__q1=p["TARGETS/t1/q1"][:-1]), r"t1/q1 is \(299,\)"),
    "a number": (lambda p: changed(p, INPUTS__Source__pt=p["INPUTS/Source/pt"][:, 0]), r"'pt' holds .*list of numbers"),
    "words": (lambda p: changed(p, INPUTS__Source__pt=p["INPUTS/Source/pt"].astype("S8")), r"'pt' holds"),
    "no events": (lambda p: {path: values[:0] for path, values in p.items()}, r"holds no events"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_in_this_format_is_named(padded, tmp_path, name):
    change, said = WRONG[name]
    with pytest.raises(DataError, match=said) as problem:
        read(write(tmp_path / "wrong.h5", change(padded)))
    assert "wrong.h5" in str(problem.value)
    assert problem.value.cure


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.98])
def test_a_truncated_file_is_named(file, tmp_path, share):
    content = file.read_bytes()
    (tmp_path / "cut.h5").write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"cut.h5: cannot be read as HDF5"):
        read(tmp_path / "cut.h5")


def test_damaged_numbers_are_named(padded, tmp_path):
    file = write(tmp_path / "bad.h5", padded, compression="gzip")
    with h5py.File(file) as hdf5:
        chunk = hdf5["INPUTS/Source/eta"].id.get_chunk_info(0)
    content = bytearray(file.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + 40] = b"\xff" * 40
    file.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"bad.h5: cannot be read as HDF5"):
        read(file)


def test_another_kind_of_file_is_named(tmp_path):
    (tmp_path / "notes.h5").write_text("years of work\n")
    with pytest.raises(DataError, match=r"notes.h5: cannot be read as HDF5"):
        read(tmp_path / "notes.h5")
    with pytest.raises(DataError, match=r"none.h5: cannot be read"):
        read(tmp_path / "none.h5")


def test_a_missing_library_is_named(file, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(DataError, match=r"h5py is not installed(.|\n)*\.\[formats\]"):
        read(file)


def test_the_key_is_the_contents(file, padded, tmp_path):
    copy = tmp_path / "another name.h5"
    copy.write_bytes(file.read_bytes())
    other = write(tmp_path / "other.h5", {path: values[:-1] for path, values in padded.items()})
    keys = []
    for one in (file, copy, other):
        with SpanetReader(str(one), how()) as reader:
            keys.append(reader.look().key)
    assert keys[0] == keys[1] != keys[2]
    assert len(bytes.fromhex(keys[0])) == 8
