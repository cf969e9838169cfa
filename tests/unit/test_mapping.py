"""Which branches make which columns, and what their numbers become."""

import awkward as ak
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetscale.config import build
from jetscale.data.ingest import momenta
from jetscale.data.ingest.job import Map, load, shipped
from jetscale.data.ingest.mapping import Form, plan
from jetscale.data.ingest.values import Entries, Numbers
from jetscale.errors import ConfigError, DataError
from jetscale.schema import JET_EVENTS, Column, Schema

PLAIN = {name: f"jet_{name}" for name in ("pt", "eta", "phi", "mass")}


def a_map(columns=None, **more) -> Map:
    return build(Map, {"columns": {"jet": PLAIN, **(columns or {})}, **more}, "test")


def branch(values) -> Numbers:
    """Lists, rows of numbers, or numbers, as a file would hold them."""
    if isinstance(values, np.ndarray):
        return Numbers(values)
    array = ak.Array(values)
    if array.ndim == 1:
        return Numbers(ak.to_numpy(array))
    bounds = np.concatenate([[0], np.cumsum(ak.to_numpy(ak.num(array)))])
    return Numbers(ak.to_numpy(ak.values_astype(ak.flatten(array), np.float32)), bounds)


def form(numbers: Numbers) -> Form:
    axes = (None,) if numbers.bounds is not None else numbers.values.shape[1:]
    return Form(str(numbers.values.dtype), axes)


def made(how: Map, file: dict, columns: Schema | None = None, first: int = 0):
    """The plan, and the events of a file of these branches."""
    numbers = {name: branch(values) for name, values in file.items()}
    found = plan(how, {name: form(one) for name, one in numbers.items()}, "f.root")
    wanted = columns or found.columns
    read = {name: numbers[name] for name in found.needs(wanted)}
    one = next(iter(numbers.values()))
    rows = len(one.values) if one.bounds is None else len(one.bounds) - 1
    return found, Entries(found, read, rows, first, "f.root").array(wanted)


def lists(*names: str, values=((30.0, 20.0), (), (25.0,))) -> dict:
    return {name: [list(one) for one in values] for name in names}


def jets(**more) -> dict:
    return lists(*PLAIN.values()) | more


# ---- columns


def test_columns_of_events_then_jets_then_others():
    how = a_map({"fatjet": {"tau1": "fat_tau1"}, "event": {"run": "run"}})
    found, events = made(how, jets(run=np.arange(3, dtype=np.uint32), **lists("fat_tau1")))
    assert found.columns.names == ("run", "jet_pt", "jet_eta", "jet_phi", "jet_mass", "fatjet_tau1")
    assert events.fields == [*found.columns.names, "weight"]
    assert events.run.tolist() == [0, 1, 2]
    assert events.weight.tolist() == [1.0] * 3


def test_standard_columns_are_the_schemas_own():
    how = a_map({"jet": {**PLAIN, "parent_quark": "label"}, "event": {"true_mass": {"branch": "m", "unit": "TeV"}}})
    found, events = made(how, jets(label=[[1, 2], [], [0]], m=np.array([1.5, 0.0, 2.0])))
    for column in found.columns.each():
        assert column == JET_EVENTS[column.name]
    assert events.true_mass.tolist() == [1500, 0, 2000]
    assert events.jet_parent_quark.tolist() == [[1, 2], [], [0]]
    assert ak.to_numpy(ak.flatten(events.jet_parent_quark)).dtype == np.int8


@pytest.mark.parametrize("kind, wide", [
    ("bool", "int8"), ("int8", "int8"), ("uint8", "int32"), ("int16", "int32"), ("uint16", "int32"), ("int32", "int32"),
    ("uint32", "int64"), ("int64", "int64"), ("uint64", "int64"), ("float16", "float32"), ("float32", "float32"),
    ("float64", "float64"),
])  # fmt: skip
def test_types_are_wide_enough(kind, wide):
    values = np.array([0, 1, 1], dtype=kind)
    found, events = made(a_map({"event": {"x": "x"}}), jets(x=values))
    assert found.columns["x"].dtype == wide
    assert ak.to_numpy(events.x).dtype == wide
    assert events.x.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    "dtype, value", [("int8", 300), ("int32", 2.5), ("int32", np.nan), ("int64", 2.0**63), ("int32", np.inf)]
)
def test_a_number_that_does_not_fit_is_named(dtype, value):
    values = np.array([1, 2, value])
    with pytest.raises(DataError, match=rf"branch 'x' holds .* in entry 1002, and x is {dtype}"):
        made(a_map({"event": {"x": {"branch": "x", "dtype": dtype}}}), jets(x=values), first=1000)


@pytest.mark.parametrize(("missing", "dtype"), [(0.5, "float32"), (400, "int32")])
def test_what_stands_for_the_missing_fits_its_column(missing, dtype):
    spec = {"branch": "x", "missing": missing}
    file = jets(x=np.array([True, False, True]))
    with pytest.raises(DataError, match=rf"missing = {missing:g} is no int8, as which branch 'x' gives x"):
        made(a_map({"event": {"x": spec}}), file)
    assert made(a_map({"event": {"x": spec | {"dtype": dtype}}}), file)[0].columns["x"].missing == missing


def test_a_column_of_the_schema_cannot_be_made_wider():
    with pytest.raises(DataError, match=r"jet_parent_quark is int8\n.*make it of another branch: it is parent of"):
        made(a_map({"jet": {**PLAIN, "parent_quark": "x"}}), jets(**lists("x", values=((0.5, 1), (), (1,)))))


def test_an_event_number_too_large_for_a_column_is_named():
    with pytest.raises(DataError, match=r"branch 'x' holds 18446744073709551615 in entry 1, .*\n.*no whole numbers"):
        made(a_map({"event": {"x": "x"}}), jets(x=np.array([0, 2**64 - 1, 3], dtype=np.uint64)))


def test_of_several_names_the_first_that_is_there():
    how = a_map({"event": {"met": ["PuppiMET", "MET"]}})
    assert made(how, jets(MET=np.ones(3)))[1].met.tolist() == [1, 1, 1]
    assert made(how, jets(MET=np.ones(3), PuppiMET=np.zeros(3)))[1].met.tolist() == [0, 0, 0]
    old, new = (made(how, jets(**{name: np.ones(3)}))[0].columns for name in ("MET", "PuppiMET"))
    assert old == new


def test_what_is_absent_is_listed_and_what_stands_for_it_stands():
    how = a_map({"event": {"n_pv": {"branch": "npv", "missing": -1}},
                 "jet": {**PLAIN, "btag": {"branch": "b", "missing": 0.5}},
                 "fatjet": {"pt": {"branch": "fat_pt", "missing": 0},
                            "tau": {"branch": "tau", "missing": 9}}})  # fmt: skip
    full = jets(npv=np.arange(3), **lists("b"), **lists("fat_pt", "tau", values=[(1.0,), (), ()]))
    whole, _ = made(how, full)
    poor, events = made(how, jets(), whole.columns)
    assert poor.absent == ("n_pv", "jet_btag", "fatjet_pt", "fatjet_tau")
    assert whole.absent == ()
    assert events.n_pv.tolist() == [-1, -1, -1]
    assert events.jet_btag.tolist() == [[0.5, 0.5], [], [0.5]]
    assert events.fatjet_tau.tolist() == [[], [], []]
    _, events = made(how, jets(**lists("fat_pt")), whole.columns.only(["jet_pt", "fatjet_pt", "fatjet_tau"]))
    assert events.fatjet_tau.tolist() == [[9, 9], [], [9]]


def test_only_what_is_asked_for_is_read():
    found, _ = made(a_map({"event": {"x": "x"}}, weight={"factors": ["w"]}), jets(x=np.ones(3), w=np.ones(3)))
    assert set(found.needs(found.columns.only(["x"]))) == {"x", "w"}
    assert set(found.needs(found.columns.only(["jet_eta"]))) == {"jet_eta", "jet_pt", "w"}


def test_a_column_without_branch_and_without_missing_is_named():
    columns = Schema(columns=(*JET_EVENTS.only(["jet_pt"]).columns, Column(name="y", dtype="int8", unit="", doc="")))
    with pytest.raises(DataError, match="column 'y' has no branch here"):
        made(a_map(), jets(), columns)


# ---- four-vectors


FOUR = st.tuples(*[st.floats(-2000, 2000, width=32)] * 3, st.floats(0, 500, width=32))


@given(st.lists(FOUR, min_size=1, max_size=20))
def test_all_three_kinds_of_four_vectors_agree(rows):
    px, py, pz, mass = np.array(rows, dtype=np.float64).T
    energy = np.sqrt(px**2 + py**2 + pz**2 + mass**2)
    pt, eta, phi = np.hypot(px, py), np.arcsinh(pz / np.maximum(np.hypot(px, py), 1e-12)), np.arctan2(py, px)
    have = {"jet_pt": pt, "jet_eta": eta, "jet_phi": phi, "jet_mass": mass, "jet_energy": energy, "jet_px": px,
            "jet_py": py, "jet_pz": pz}  # fmt: skip
    file = {name: one[None, :] for name, one in have.items()}
    scale = np.maximum(energy, 1)
    for kind in momenta.KINDS:
        how = build(Map, {"columns": {"jet": {name: f"jet_{name}" for name in kind}}}, "test")
        _, events = made(how, file)
        assert ak.to_numpy(events.jet_pt)[0].dtype == np.float32
        assert np.allclose(events.jet_pt[0], pt, rtol=1e-6)
        assert np.allclose(events.jet_eta[0], eta, atol=1e-5)
        assert np.allclose(events.jet_phi[0], phi, atol=1e-6) or kind[0] == "px"
        if pt.min() > 1e-3:  # along the beam pt and eta alone do not say the momentum
            assert np.all(np.abs(ak.to_numpy(events.jet_mass[0]) - mass) <= 1e-3 * scale)


def test_momenta_at_the_edges():
    zero, px, py, pz = np.zeros(1), np.array([3.0]), np.array([4.0]), np.array([700.0])
    assert momenta.eta(zero, zero, zero) == 0
    assert np.isfinite(momenta.eta(zero, zero, pz)) and momenta.eta(zero, zero, pz) > 30
    assert momenta.eta(zero, zero, -pz) == -momenta.eta(zero, zero, pz)
    assert momenta.pt(px, py) == 5
    energy = np.array([5.0], dtype=np.float32).astype(np.float64)
    assert momenta.mass(px, py, zero, energy) == 0
    assert momenta.mass(px, py, zero, energy * (1 - 1e-7)) == 0  # rounded
    assert momenta.mass(px, py, zero, energy * 0.6) == pytest.approx(-4)  # no jet at all, and to be seen as such
    assert np.isnan(momenta.eta(np.array([np.nan]), py, pz))


@pytest.mark.parametrize("energy, factor", [("MeV", 1e-3), ("GeV", 1.0), ("TeV", 1e3)])
def test_energies_become_gev(energy, factor):
    how = a_map({"event": {"ht": {"branch": "ht", "unit": energy}, "n": "n", "d0": {"branch": "d0", "unit": "mm"}},
                 "fatjet": {"pt": "jet_pt", "eta": "jet_eta", "phi": "jet_phi", "energy": "jet_e"}},
                energy=energy)  # fmt: skip
    file = jets(
        ht=np.array([1, 2, 3]),
        n=np.array([1, 2, 3]),
        d0=np.ones(3),
        **lists("jet_e", values=[(1e30,) * 2, (), (1e30,)]),
    )
    found, events = made(how, file)
    assert events.jet_pt.tolist() == ak.values_astype(ak.Array(file["jet_pt"]) * factor, np.float32).tolist()
    assert events.jet_eta.tolist() == ak.Array(file["jet_eta"]).tolist()
    assert events.fatjet_pt.tolist() == events.jet_pt.tolist()
    assert events.ht.tolist() == pytest.approx([factor, 2 * factor, 3 * factor])
    assert found.columns["ht"].unit == found.columns["fatjet_mass"].unit == "GeV"
    assert found.columns["ht"].dtype == ("int64" if energy == "GeV" else "float64")
    assert (found.columns["d0"].unit, found.columns["n"].unit, found.columns["fatjet_phi"].unit) == ("mm", "", "rad")


def test_a_unit_may_be_that_of_the_four_vectors():
    numbers = {"met": {"branch": "met", "unit": "energy"}, "ht": {"branch": "ht", "unit": "GeV"}}
    found, events = made(a_map({"event": numbers}, energy="MeV"), jets(met=np.full(3, 5e3), ht=np.full(3, 5e3)))
    assert events.met.tolist() == [5.0] * 3 and events.ht.tolist() == [5000.0] * 3
    assert found.columns["met"].unit == found.columns["ht"].unit == "GeV"


def test_a_map_may_know_several_kinds_and_a_file_have_one():
    how = load(None, name="x", files=["x"], map="flat").map
    for kind in momenta.KINDS:
        found, events = made(how, lists(*(f"jet_{name}" for name in kind)))
        assert found.columns.names == ("jet_pt", "jet_eta", "jet_phi", "jet_mass")
        assert ak.num(events.jet_mass).tolist() == [2, 0, 1]


def test_jets_without_four_vectors_are_refused():
    with pytest.raises(DataError, match=r"has no branch for jet_mass \('jet_mass'\)") as error:
        made(a_map(), lists("jet_pt", "jet_eta", "jet_phi", "jet_mas"))
    assert "did you mean 'jet_mas'?" in error.value.cure


def test_odd_numbers_come_as_they_are():
    _, events = made(a_map(), jets(jet_pt=[[np.nan, np.inf], [], [-1.0]]))
    assert str(events.jet_pt.tolist()) == "[[nan, inf], [], [-1.0]]"


# ---- numbered branches and arrays of a fixed length


def numbered(first: int, slots: int, pattern="jet{n}_{name}", pad=-999.9) -> dict:
    """Three events with two, none and one of the slots in use."""
    file = {}
    for slot in range(slots):
        for name in PLAIN:
            values = np.full(3, pad, dtype=np.float32)
            if slot < 2:
                values[0] = 10 + slot
            if slot < 1:
                values[2] = 7
            file[pattern.replace("{n}", str(first + slot)).replace("{name}", name)] = values
    return file


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("pattern", ["jet{n}_{name}", "jet{n}{name}", "jet_{n}_{name}"])
def test_numbered_branches(first, pattern):
    how = load(None, name="x", files=["x"], map={"like": "flat", "pad": -999.9}).map
    _, events = made(how, numbered(first, 12, pattern))
    assert events.jet_pt.tolist() == [[10, 11], [], [7]]
    assert events.jet_mass.tolist() == [[10, 11], [], [7]]
    _, events = made(how.but(pad=None), numbered(first, 12, pattern))
    assert ak.num(events.jet_pt).tolist() == [12] * 3


def test_a_numbered_branch_too_few_is_named():
    file = numbered(1, 4)
    del file["jet4_eta"]
    how = build(Map, {"columns": {"jet": {name: f"jet{{n}}_{name}" for name in PLAIN}}}, "test")
    with pytest.raises(DataError, match=r"there are 4 jets in 'jet\{n\}_pt', and 3 in 'jet\{n\}_eta'"):
        made(how, file)


def test_arrays_of_a_fixed_length_with_a_pad_or_a_counter():
    grid = np.array([[5, 4, 0], [0, 0, 0], [3, 0, 0]], dtype=np.float32)
    holes = {name: grid for name in PLAIN.values()}
    assert made(a_map(pad=0), holes)[1].jet_pt.tolist() == [[5, 4], [], [3]]
    assert made(a_map(), holes)[1].jet_pt.tolist() == grid.tolist()
    how = a_map(counts={"jet": "njet"})
    assert made(how, holes | {"njet": np.array([2, 3, 0])})[1].jet_eta.tolist() == [[5, 4], [0, 0, 0], []]
    assert made(how, jets())[1].jet_pt.tolist() == [[30, 20], [], [25]]
    with pytest.raises(DataError, match="branch 'njet' says 4 in entry 1, and there is room for 3"):
        made(how, holes | {"njet": np.array([2, 4, 0])})
    with pytest.raises(DataError, match=r"no branch 'njet', which counts.jet names"):
        made(how, holes)


def test_a_pad_is_looked_for_where_the_momenta_are():
    grid = np.array([[5, 4, -1], [-1, 3, -1]], dtype=np.float32)
    how = a_map({"jet": {**PLAIN, "btag": "b"}}, pad=-1)
    _, events = made(how, {name: grid for name in PLAIN.values()} | {"b": -np.ones((2, 3), dtype=np.int32)})
    assert events.jet_btag.tolist() == [[-1, -1], [-1]]
    assert events.jet_pt.tolist() == [[5, 4], [3]]


def test_an_array_beside_lists_is_filled_from_the_front():
    grid = np.array([[1, 2, 0], [0, 0, 0], [3, 0, 0]])
    how = a_map({"jet": {**PLAIN, "id": "id"}})
    assert made(how, jets(id=grid))[1].jet_id.tolist() == [[1, 2], [], [3]]
    with pytest.raises(DataError, match="in entry 0 branch 'jet_pt' has 2 jets, and branch 'id' has 1"):
        made(how, jets(id=grid[:, :1]))


# ---- weights and variations


def test_weights_are_the_product_of_what_is_there():
    how = a_map(weight={"generator": "gen", "factors": ["pu", "none"]})
    found, events = made(how, jets(gen=np.array([1.0, -2.0, 3.0], dtype=np.float32), pu=np.array([2.0, 2.0, 0.5])))
    assert events.weight.tolist() == [2.0, -4.0, 1.5]
    assert ak.to_numpy(events.weight).dtype == np.float64
    assert found.absent_weights == ("none",)


def test_variations_of_weights():
    how = a_map(weight={"generator": "gen", "factors": ["pu"]},
                variations={"pileup": {"pu": ["pu_up", "pu_down"]},
                            "scale": {"gen": ["gen_up", "gen_down"]}})  # fmt: skip
    each = {"gen": 2, "pu": 3, "pu_up": 5, "pu_down": 1, "gen_up": 1}
    file = jets(**{name: np.full(3, float(value)) for name, value in each.items()})
    found, events = made(how, file)
    assert events.weight_pileup_up.tolist() == [10] * 3
    assert events.weight_pileup_down.tolist() == [2] * 3
    assert events.weight_scale_up.tolist() == [3] * 3
    assert tuple(found.weights) == ("weight", "weight_pileup_up", "weight_pileup_down", "weight_scale_up")
    assert found.absent_weights == ("weight_scale_down",)


def test_variations_of_columns_reach_all_that_is_made_of_the_branch():
    kinds = {("pt", "eta", "phi", "mass"): {"pt"}, ("pt", "eta", "phi", "energy"): {"pt", "mass"}}
    for kind, moved in kinds.items():
        columns = {"jet": {name: f"jet_{name}" for name in kind}}
        how = build(
            Map, {"columns": columns, "variations": {"jes": {"jet_pt": ["up", "down"]}}, "energy": "MeV"}, "test"
        )
        file = lists(*columns["jet"].values(), "down") | lists("up", values=[(60.0, 40.0), (), (50.0,)])
        found, events = made(how, file)
        twins = {name for name in found.columns.names if "_jes_" in name}
        assert twins == {f"jet_{name}_jes_{way}" for name in moved for way in ("up", "down")}
        assert np.allclose(ak.flatten(events.jet_pt_jes_up), 2 * ak.flatten(events.jet_pt))
        assert ak.all(events.jet_pt_jes_down == events.jet_pt)
        assert found.columns["jet_pt_jes_up"].unit == "GeV"
        del file["down"]
        assert set(made(how, file)[0].absent) == {f"jet_{name}_jes_down" for name in moved}


def test_px_moves_pt_and_eta_and_phi_and_mass():
    kind = ("px", "py", "pz", "energy")
    variations = {"x": {"jet_px": ["a", "b"]}, "z": {"jet_pz": ["a", "b"]}}
    how = build(Map, {"columns": {"jet": {name: f"jet_{name}" for name in kind}}, "variations": variations}, "test")
    names = made(how, lists(*(f"jet_{name}" for name in kind), "a", "b"))[0].columns.names
    assert {name for name in names if name.endswith("_x_up")} == {f"jet_{name}_x_up" for name in PLAIN}
    assert {name for name in names if name.endswith("_z_up")} == {"jet_eta_z_up", "jet_mass_z_up"}


def test_variations_of_numbered_branches():
    columns = {"jet": {name: f"jet{{n}}_{name}" for name in PLAIN}}
    how = build(Map, {"columns": columns, "pad": -999.9,
                      "variations": {"jes": {"jet{n}_pt": ["jet{n}_pt_up", "jet{n}_eta"]}}}, "test")  # fmt: skip
    file = numbered(1, 3)
    file |= {f"jet{n}_pt_up": 2 * file[f"jet{n}_pt"] for n in (1, 2, 3)}
    _, events = made(how, file)
    assert events.jet_pt_jes_up.tolist() == [[20, 22], [], [14]]
    assert events.jet_pt_jes_down.tolist() == events.jet_eta.tolist()


# ---- what does not fit


@pytest.mark.parametrize("change, says", [
    ({"columns": {"event": {"x": "run"}, "jet": PLAIN}, "variations": {"v": {"runn": ["a", "b"]}}},
     "variations.v: no column is made of 'runn'; did you mean 'run'"),
    ({"columns": {"event": {"jet_pt": "x"}, "jet": PLAIN}}, "two columns would have the name 'jet_pt'"),
    ({"columns": {"event": {"weight": "x"}, "jet": PLAIN}}, "two columns would have the name 'weight'"),
    ({"columns": {"jet": {**PLAIN, "index": "x"}}}, "two columns would have the name 'jet_index'"),
    ({"columns": {"jet": {**PLAIN, "pt_v_up": "x"}}, "variations": {"v": {PLAIN["pt"]: ["a", "b"]}}},
     "two columns would have the name 'jet_pt_v_up'"),
    ({"columns": {"event": {"weight_v_down": "x"}, "jet": PLAIN}, "weight": {"factors": ["w"]},
      "variations": {"v": {"w": ["a", "b"]}}}, "two columns would have the name 'weight_v_down'"),
    ({"columns": {"jet": {**PLAIN, "pt": {"branch": "x", "unit": "Mev"}}}}, "did you mean 'MeV'"),
    ({"columns": {"jet": {**PLAIN, "mass": {"branch": "x", "unit": "keV"}}}}, "columns.jet.mass cannot be in 'keV'"),
    ({"columns": {"jet": {**PLAIN, "phi": {"branch": "x", "unit": "deg"}}}}, "columns.jet.phi cannot be in 'deg'"),
    ({"columns": {"jet": PLAIN}, "counts": {"jets": "njet"}}, "counts.jets: columns has no 'jets'"),
    ({"columns": {"jet": {"pt": "x"}}}, "columns.jet has pt, and must have"),
    ({"columns": {}}, "columns has no jet"),
])  # fmt: skip
def test_maps_that_cannot_be_meant_are_refused(change, says):
    with pytest.raises(ConfigError, match=says.replace(".", "[.]")):
        build(Map, change, "test")


@pytest.mark.parametrize("where, values, says", [
    ("event", [[1.0], [2.0], []], r"'x' holds a list per event \(float32\), and event.x wants one number per event"),
    ("jet", np.ones(3), r"'x' holds one number per event .* jet.x wants one list of numbers per event, of its jets"),
    ("event", np.ones((3, 4)), "branch 'x' holds 4 numbers per event"),
    ("jet", np.ones((3, 4, 2)), "branch 'x' holds 4 numbers of 2 numbers"),
    ("event", np.ones(3, dtype=complex), "branch 'x' holds complex128, no numbers that can be kept"),
    ("jet", [[1.0], [2.0], [3.0]], "in entry 40 branch 'jet_pt' has 2 jets, and branch 'x' has 1"),
])  # fmt: skip
def test_branches_that_do_not_fit_are_named(where, values, says):
    columns = {"event": {"x": "x"}} if where == "event" else {"jet": {**PLAIN, "x": "x"}}
    with pytest.raises(DataError, match=says) as error:
        made(a_map(columns), jets(x=values), first=40)
    assert error.value.where == "f.root"
    assert error.value.cure


def test_one_number_in_an_array_is_a_number():
    assert made(a_map({"event": {"x": "x"}}), jets(x=np.array([[4.0], [5.0], [6.0]])))[1].x.tolist() == [4, 5, 6]


@pytest.mark.parametrize("name", ["nanoaod", "delphes", "flat"])
def test_shipped_maps_are_whole(name):
    assert name in shipped()
    how = load(None, name="x", files=["x"], map=name).map
    for collection, members in how.columns.items():
        for member, one in members.items():
            assert len(set(one.branch)) == len(one.branch), (collection, member)
