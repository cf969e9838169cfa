"""ROOT files come in as they are: real ones, and ones of any shape, in any chunking; what is broken is named."""

from importlib import resources
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jetscale.config import build
from jetscale.data.formats import baskets
from jetscale.data.formats.branches import Branches
from jetscale.data.formats.root import RootReader
from jetscale.data.ingest.job import Map, load
from jetscale.data.ingest.mapping import own
from jetscale.errors import DataError
from jetscale.schema import JET_EVENTS

KINDS = ("TTree", "RNTuple")
PLAIN = {name: f"jet_{name}" for name in ("pt", "eta", "phi", "mass")}
CODECS = {"none": None, "zlib": uproot.ZLIB(1), "lzma": uproot.LZMA(1), "lz4": uproot.LZ4(1), "zstd": uproot.ZSTD(1)}


def real(name: str) -> str:
    """A file in the wheel of scikit-hep-testdata; its own function would download those that are not."""
    file = Path(str(resources.files("skhep_testdata"))) / "data" / name
    assert file.is_file()
    return str(file)


def a_map(columns=None, **more) -> Map:
    return build(Map, {"columns": columns or {"jet": PLAIN}, **more}, "test")


def shipped(name: str) -> Map:
    return load(None, name="x", files=["x"], map=name).map


def read(file, how: Map, start=0, stop=10**9, columns=None):
    with RootReader(str(file), how) as reader:
        look = reader.look()
        chunks = list(reader.read(start, stop, columns or look.columns))
    return look, ak.concatenate(chunks) if chunks else None, len(chunks)


def write(file, kind: str, pieces: list[dict], tree: str = "tree", codec: str = "zlib") -> str:
    """One basket of each branch, or one cluster, per piece."""
    with uproot.recreate(file, compression=CODECS[codec]) as root:
        types = {name: one.type.content if isinstance(one, ak.Array) else np.asarray(one).dtype
                 for name, one in pieces[0].items()}  # fmt: skip
        if kind == "TTree":
            root.mktree(tree, types)
            for piece in pieces:
                root[tree].extend(piece)
        else:
            into = root.mkrntuple(tree, pieces[0])
            for piece in pieces[1:]:
                into.extend(piece)
    return str(file)


def jets(n: int, seed: int = 1, mean: float = 3.0) -> dict:
    dice = np.random.default_rng(seed)
    counts = dice.poisson(mean, n)
    members = {name: ak.unflatten(dice.uniform(1, 3, counts.sum()).astype(np.float32), counts) for name in PLAIN}
    return {f"jet_{name}": one for name, one in members.items()} | {"event": np.arange(n) + 1000 * seed}


def flat_tree(file, kind: str = "TTree", pieces: int = 3, n: int = 50, codec: str = "zlib") -> tuple[str, list[dict]]:
    parts = [jets(n, seed) for seed in range(1, pieces + 1)]
    return write(file, kind, parts, codec=codec), parts


# ---- real files


def test_higgs_events_have_their_four_vectors():
    columns = {
        "jet": {"px": "Jet_Px", "py": "Jet_Py", "pz": "Jet_Pz", "energy": "Jet_E", "btag": "Jet_btag", "id": "Jet_ID"},
        "muon": {"px": "Muon_Px", "py": "Muon_Py", "pz": "Muon_Pz", "energy": "Muon_E", "iso": "Muon_Iso"},
    }
    for codec in ("", "-lz4", "-lzma", "-uncompressed", "-zlib", "-zstd"):
        file = real(f"uproot-HZZ{codec}.root")
        look, events, _ = read(file, a_map(columns, weight={"generator": "EventWeight"}))
        with uproot.open(file) as root:
            tree = root["events"].arrays()
        assert look.entries == 2421
        assert look.columns["jet_pt"] == JET_EVENTS["jet_pt"]
        assert look.columns["jet_id"].dtype == "int8"
        assert np.allclose(ak.flatten(events.jet_pt), np.hypot(ak.flatten(tree.Jet_Px), ak.flatten(tree.Jet_Py)))
        assert ak.all(events.jet_btag == tree.Jet_btag)
        assert ak.all(events.weight == tree.EventWeight)
        assert look.sum_weight == pytest.approx(float(ak.sum(tree.EventWeight, mask_identity=False)), rel=1e-6)
        # A muon weighs what a muon weighs, though single precision has left few digits of it.
        assert abs(float(np.median(ak.flatten(events.muon_mass))) - 0.1057) < 1e-3


def test_delphes():
    look, events, _ = read(real("uproot-issue513.root"), shipped("delphes"))
    with uproot.open(real("uproot-issue513.root")) as root:
        pt, tau = root["Delphes/Jet.PT"].array(), root["Delphes/Jet.Tau[5]"].array()
        process = root["Delphes/Event.ProcessID"].array()
    assert (look.entries, look.sum_weight) == (10, 10.0)
    assert ak.all(events.jet_pt == pt)
    assert ak.all(events.jet_tau2 == tau[..., 1])
    assert ak.all(events.process == process[:, 0])
    assert {"fatjet_pt", "met_pt"} <= set(look.absent)
    assert "fatjet_pt" not in look.columns


def test_objects_of_two_numbered_jets_in_mev():
    member = {"px": "fP.fX", "py": "fP.fY", "pz": "fP.fZ", "energy": "fE"}
    columns = {
        "jet": {name: f"jet{{n}}P4.{inside}" for name, inside in member.items()} | {"n_charged": "jet{n}ChgMult"},
        "track": {name: f"jet1TrksP4.{inside}" for name, inside in member.items()} | {"charge": "jet1TrksChg"},
        "event": {"event": "EventNumber"},
    }
    look, events, _ = read(real("uproot-issue96.root"), a_map(columns, tree="tree", energy="MeV"), stop=500)
    with uproot.open(real("uproot-issue96.root")) as root:
        second = root["tree/jet2P4"].array(entry_stop=500)
        charge = root["tree/jet1TrksChg"].array(entry_stop=500)
    assert look.entries == 13607
    assert ak.all(ak.num(events.jet_pt) == 2)
    assert np.allclose(events.jet_pt[:, 1], np.hypot(second.fP.fX, second.fP.fY) / 1000)
    assert ak.all(events.track_charge == charge)


@pytest.mark.parametrize("offsets", ["nooffsets", "withoffsets"])
def test_nanoaod_without_whole_jets_says_what_it_lacks(offsets):
    with pytest.raises(DataError, match=r"no branch for jet_eta \('Jet_eta'\), jet_phi.*jet_mass") as error:
        read(real(f"uproot-small-dy-{offsets}.root"), shipped("nanoaod").but(tree="tree"))
    assert "did you mean" in error.value.cure


def test_members_of_a_split_class():
    columns = {"event": {"run": "Info.runNum", "pileup": "Info/nPU", "lumi": "lumiSec"},
               "jet": {name: f"AK4CHS.{name}" for name in PLAIN}}  # fmt: skip
    _, events, _ = read(real("uproot-mc10events.root"), a_map(columns))
    with uproot.open(real("uproot-mc10events.root")) as root:
        tree = root["Events"]
        assert ak.all(events.jet_pt == tree["AK4CHS/AK4CHS.pt"].array())
        assert events.run.tolist() == tree["Info/runNum"].array().tolist()
        assert events.pileup.tolist() == tree["Info/nPU"].array().tolist()
        assert events.lumi.tolist() == tree["Info/lumiSec"].array().tolist()


REAL = ("uproot-sample-5.23.02-zlib.root", "uproot-sample-6.20.04-zlib.root", "uproot-nesteddirs.root",
        "uproot-stl_containers.root", "uproot-small-evnt-tree-fullsplit.root", "uproot-small-evnt-tree-nosplit.root",
        "uproot-leaflist.root", "uproot-double32-float16.root", "uproot-issue367.root", "uproot-issue513.root",
        "uproot-vectorVectorDouble.root", "uproot-issue232.root")  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_every_branch_of_real_files_is_what_uproot_reads(name):
    with uproot.open(real(name)) as root:
        trees = [one for one, kind in root.classnames(cycle=False).items() if kind == "TTree"]
        assert trees
        for branches in map(Branches, (root[one] for one in trees)):
            for key in branches:
                form = branches[key]
                if own(form.number) is None or len(form.axes) > 1 or key == "Particle.fBits":  # uproot reads it neither
                    continue
                array = branches.fields[branches.key(key)].array(entry_stop=20)
                numbers = branches.numbers(key, {branches.key(key): array}, 0, name)
                assert str(numbers.values.dtype) == form.number
                assert np.array_equal(numbers.values.ravel(), ak.to_numpy(ak.flatten(array, axis=None)))


@pytest.mark.parametrize("name, says", [
    ("uproot-issue70.root", "holds no TTree and no RNTuple"),
    ("uproot-histograms.root", "holds no TTree and no RNTuple"),
    ("uproot-empty.root", "tree 'tree' has no entries"),
    ("uproot-nesteddirs.root", r"holds 3 trees: 'one/two/tree', 'one/tree', 'three/tree'"),
    ("uproot-ntpl001_staff.root", "tree 'Staff' cannot be read"),
    ("uproot-simple.root", "has no branch for jet_pt"),
])  # fmt: skip
def test_real_files_that_are_no_events_are_refused(name, says):
    with pytest.raises(DataError, match=says) as error:
        read(real(name), a_map())
    assert error.value.where == real(name)
    assert error.value.cure


# ---- what goes in comes out


@pytest.mark.parametrize("kind", KINDS)
def test_a_tree_in_a_folder_is_found_and_chosen(tmp_path, kind):
    file = write(tmp_path / "a.root", kind, [jets(5)], tree="deep/er/tree" if kind == "TTree" else "tree")
    look, events, _ = read(file, a_map())
    assert (look.entries, len(events)) == (5, 5)
    if kind == "TTree":
        assert read(file, a_map(tree="deep/er/tree"))[0].key == look.key


def test_the_last_cycle_is_read(tmp_path):
    with uproot.recreate(tmp_path / "a.root") as root:
        for n in (4, 7):
            root.mktree("tree", {name: one.type.content if isinstance(one, ak.Array) else one.dtype
                                 for name, one in jets(n).items()})  # fmt: skip
            root["tree"].extend(jets(n))
    assert read(tmp_path / "a.root", a_map())[0].entries == 7


@pytest.mark.parametrize("kind", KINDS)
def test_ranges_and_chunks_join_without_a_seam(tmp_path, kind, monkeypatch):
    file, parts = flat_tree(tmp_path / "a.root", kind)
    how = a_map({"event": {"event": "event"}, "jet": PLAIN})
    whole = ak.concatenate([ak.zip(part, depth_limit=1) for part in parts])
    look, _, one = read(file, how)
    monkeypatch.setattr(baskets, "CHUNK", 700)
    for start, stop in [(0, 150), (0, 1), (49, 51), (50, 100), (37, 141), (149, 150), (100, 100)]:
        _, events, chunks = read(file, how, start, stop)
        for name in look.columns.names if chunks else ():
            assert ak.array_equal(events[name], whole[start:stop][name])
    assert one == 1
    assert chunks == 0
    assert read(file, how)[2] > 3


@pytest.mark.parametrize("kind", KINDS)
def test_each_basket_is_decompressed_once(tmp_path, kind, monkeypatch):
    """Though chunks and baskets do not begin together."""
    file, _ = flat_tree(tmp_path / "a.root", kind, pieces=8, n=100)
    monkeypatch.setattr(baskets, "CHUNK", 4_000)
    seen: list[int] = []
    monkeypatch.setattr(uproot.compression.decompress, "hook_before_block", lambda **_: seen.append(1))
    with RootReader(file, a_map()) as reader:
        look = reader.look()
        seen.clear()
        rows = [len(chunk) for chunk in reader.read(0, look.entries, look.columns)]
    blocks = 8 * 4 if kind == "TTree" else 8 * 8  # of a field's lists the bounds stand by themselves
    assert len(seen) <= blocks
    assert max(rows) <= 150
    assert sum(rows) == 800


NAMES = st.text(st.characters(codec="utf-8", categories=["Ll", "Lu", "Lo", "Nd"], include_characters="_-+. "),
                min_size=1, max_size=8).map(lambda name: f"b{name}".rstrip(". "))  # fmt: skip
DTYPES = st.sampled_from(["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64"])


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kind=st.sampled_from(KINDS), codec=st.sampled_from([*CODECS]), seed=st.integers(0, 2**31),
       sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4), mean=st.sampled_from([0.0, 0.3, 4.0]),
       names=st.lists(NAMES, min_size=2, max_size=5, unique_by=str.casefold),
       chunk=st.sampled_from([50, 900, 10**7]))  # fmt: skip
def test_what_goes_in_comes_out(tmp_path, monkeypatch, data, kind, codec, seed, sizes, mean, names, chunk):
    """Branches of any number type and name, in baskets of any size, with any compression, in any chunking."""
    monkeypatch.setattr(baskets, "CHUNK", chunk)
    dice = np.random.default_rng(seed)
    dtypes = [data.draw(DTYPES) for _ in names]
    jagged = [data.draw(st.booleans()) for _ in names]

    def values(n, dtype):
        return (dice.integers(0, 2, n) if dtype == "bool" else dice.integers(0, 100, n)).astype(dtype)

    def piece(n):
        counts = dice.poisson(mean, n)
        made = jets(n, int(dice.integers(2**31)), mean)
        for name, dtype, is_list in zip(names, dtypes, jagged, strict=True):
            made[name] = ak.unflatten(values(counts.sum(), dtype), counts) if is_list else values(n, dtype)
        return made

    pieces = [piece(n) for n in sizes]
    file = write(tmp_path / "any.root", kind, pieces, codec=codec)
    lists = {f"l{i}": name for i, name in enumerate(names) if jagged[i]}
    numbers = {f"n{i}": name for i, name in enumerate(names) if not jagged[i]}
    columns = {"event": numbers, "jet": PLAIN, **({"thing": lists} if lists else {})}
    look, events, _ = read(file, a_map(columns))
    assert look.entries == sum(sizes)
    for key, name in [*numbers.items(), *((f"thing_{key}", name) for key, name in lists.items()),
                      *((f"jet_{key}", name) for key, name in PLAIN.items())]:  # fmt: skip
        whole = ak.concatenate([ak.Array(piece[name]) for piece in pieces])
        assert ak.all(events[key] == whole)
        assert ak.to_numpy(ak.flatten(events[key], axis=None)).dtype == look.columns[key].dtype
        assert not look.columns[key].of or ak.all(ak.num(events[key]) == ak.num(whole))


@pytest.mark.parametrize("kind", KINDS)
def test_shipped_maps_fit_files_of_their_kind(tmp_path, kind):
    part = jets(20)
    nano = {f"Jet_{name}": part[f"jet_{name}"] for name in PLAIN}
    nano |= {"Jet_btagDeepFlavB": part["jet_pt"], "run": np.full(20, 7, np.uint32),
             "luminosityBlock": np.full(20, 9, np.uint32), "event": np.arange(20).astype(np.uint64),
             "genWeight": np.full(20, -2.0, np.float32), "MET_pt": np.ones(20, np.float32)}  # fmt: skip
    with uproot.recreate(tmp_path / "nano.root") as root:
        for name, one in (("Events", nano), ("Runs", {"genEventSumw": np.array([1e3, 500.0])})):
            if kind == "RNTuple":
                root.mkrntuple(name, one)
            else:
                root.mktree(
                    name, {key: it.type.content if isinstance(it, ak.Array) else it.dtype for key, it in one.items()}
                )
                root[name].extend(one)
    look, events, _ = read(tmp_path / "nano.root", shipped("nanoaod"))
    assert look.sum_weight == 1500.0
    assert events.weight.tolist() == [-2.0] * 20
    assert events.event.tolist() == list(range(20))
    assert look.columns["event"].dtype == "int64"
    assert ak.all(events.jet_btag_deepflav == part["jet_pt"])
    assert {"jet_btag_pnet", "fatjet_pt", "fatjet_softdrop_mass"} <= set(look.absent)
    assert look.columns["met_pt"].unit == "GeV"


def test_a_key_is_of_the_content_and_of_the_tree(tmp_path):
    file, _ = flat_tree(tmp_path / "a.root")
    other, _ = flat_tree(tmp_path / "b.root")
    copy = tmp_path / "elsewhere:with a colon.root"
    copy.write_bytes(Path(file).read_bytes())
    keys = [read(one, a_map())[0].key for one in (file, copy, f"file://{copy}", other)]
    assert keys[0] == keys[1] == keys[2]
    assert keys[3] != keys[0]
    assert len(keys[0]) == 16
    assert int(keys[0], 16) >= 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_look_reads_no_events(tmp_path, kind):
    file, _ = flat_tree(tmp_path / "a.root", kind, n=3000)
    with RootReader(file, a_map()) as reader:
        reader.look()
        asked = reader._root.file.source.num_requested_bytes
    assert asked < Path(file).stat().st_size / 4


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_summed_where_nobody_says_their_sum(tmp_path, kind):
    pieces = [jets(40, seed) | {"w": np.linspace(-1, seed, 40)} for seed in (1, 2)]
    file = write(tmp_path / "a.root", kind, pieces)
    total = sum(piece["w"].sum() for piece in pieces)
    for account in (None, {"tree": "Runs", "branch": "sum"}, {"tree": "tree", "branch": "none"}):
        look, *_ = read(file, a_map(weight={"generator": "w", "sum": account}))
        assert look.sum_weight == pytest.approx(total)
    assert read(file, a_map(weight={"generator": "none"}))[0].sum_weight is None
    assert read(file, a_map())[0].sum_weight is None


# ---- broken files are named


def no_other_exception(file, how) -> str:
    """What a broken file is said to be, '' if nothing shows."""
    try:
        look, *_ = read(file, how)
        read(file, how, look.entries // 3, look.entries // 2)
    except DataError as error:
        assert error.where == str(file)
        assert error.cure
        return str(error)
    return ""


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_anywhere_is_named(tmp_path, kind):
    file, _ = flat_tree(tmp_path / "a.root", kind)
    whole, cut = Path(file).read_bytes(), tmp_path / "cut.root"
    for size in [0, 1, 3, 4, 12, 63, 100, 300, 403, *range(500, len(whole), len(whole) // 30), len(whole) - 1]:
        cut.write_bytes(whole[:size])
        said = no_other_exception(cut, a_map())
        wanted = "is empty" if not size else "is not a ROOT file" if size < 4 else f"is truncated: it has {size} of "
        assert wanted in said


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("kind", KINDS)
def test_bytes_that_flip_raise_nothing_unnamed(tmp_path, kind, codec):
    file, _ = flat_tree(tmp_path / "a.root", kind, codec=codec)
    whole, bent = Path(file).read_bytes(), tmp_path / "bent.root"
    dice = np.random.default_rng(5)
    said = []
    for number in range(25):
        data = np.frombuffer(whole, np.uint8).copy()
        where = dice.integers(0, len(data), 1 if number % 2 else 40)
        data[where] ^= dice.integers(1, 256, len(where)).astype(np.uint8)
        bent.write_bytes(data.tobytes())
        said.append(no_other_exception(bent, a_map()))
    assert sum(map(bool, said)) > 8


def test_a_bad_basket_is_named_with_its_branch_and_entries(tmp_path):
    file, _ = flat_tree(tmp_path / "a.root")
    with uproot.open(file) as root:
        branch = root["tree/jet_phi"]
        at = int(branch.member("fBasketSeek")[1] + branch.basket_compressed_bytes(1) - 9)
    data = bytearray(Path(file).read_bytes())
    data[at] ^= 0xFF
    Path(file).write_bytes(data)
    with pytest.raises(DataError, match=r"branch 'jet_phi' cannot be read in entries 50 to 99"):
        read(file, a_map())
    assert len(read(file, a_map(), 0, 50)[1]) == 50
    assert len(read(file, a_map(), 100, 150)[1]) == 50


def test_a_bad_page_is_named_with_its_field_and_cluster(tmp_path):
    file, _ = flat_tree(tmp_path / "a.root", "RNTuple")
    with uproot.open(file) as root:
        tree = root["tree"]
        column = next(one.idx for one in tree.column_records if tree.field_records[one.field_id].parent_field_id
                      == tree.field_names.index("jet_phi"))  # fmt: skip
        at = tree.page_link_list[1][column].pages[0].locator.offset + 40
    data = bytearray(Path(file).read_bytes())
    data[at] ^= 0xFF
    Path(file).write_bytes(data)
    with pytest.raises(DataError, match=r"branch 'jet_phi' cannot be read in entries 50 to 99"):
        read(file, a_map())
    assert len(read(file, a_map(), 100, 150)[1]) == 50


@pytest.mark.parametrize("text, says", [(b"<!DOCTYPE html><html>", "is not a ROOT file: it begins with b'<!DOCTYPE"),
                                        (b"", "is empty: 0 bytes")])  # fmt: skip
def test_what_is_no_root_file_is_named(tmp_path, text, says):
    (tmp_path / "a.root").write_bytes(text)
    assert says in no_other_exception(tmp_path / "a.root", a_map())


def test_no_file_and_a_folder_are_named(tmp_path):
    assert "cannot be opened" in no_other_exception(tmp_path / "none.root", a_map())
    assert "is a folder" in no_other_exception(tmp_path, a_map())


def test_a_tree_that_is_not_there_has_a_nearest_name(tmp_path):
    file, _ = flat_tree(tmp_path / "a.root")
    with pytest.raises(DataError, match="has no tree 'three'") as error:
        read(file, a_map(tree="three"))
    assert "did you mean 'tree'?" in error.value.cure


@pytest.mark.parametrize("kind", KINDS)
def test_members_that_differ_in_number_are_named(tmp_path, kind):
    part, other = jets(50, 1), jets(50, 1)
    other["jet_phi"] = ak.concatenate([other["jet_phi"][:31], [[1.0] * 9], other["jet_phi"][32:]])
    other["jet_phi"] = ak.values_astype(other["jet_phi"], np.float32)
    file = write(tmp_path / "a.root", kind, [part, other])
    lengths = ak.num(other["jet_pt"])[31]
    with pytest.raises(DataError, match=rf"in entry 81 branch 'jet_pt' has {lengths} jets, and branch 'jet_phi' has 9"):
        read(file, a_map())


@pytest.mark.parametrize("kind", KINDS)
def test_forms_that_do_not_fit_are_named(tmp_path, kind):
    n = 6
    part = jets(n) | {"fixed": np.ones((n, 3)), "number": np.ones(n)}
    if kind == "RNTuple":
        part |= {
            "deep": ak.Array([[[1.0, 2.0], []]] * n),
            "word": ak.Array(["a"] * n),
            "maybe": ak.Array([1.0, None] * 3),
        }
    with uproot.recreate(tmp_path / "a.root") as root:
        if kind == "RNTuple":
            root.mkrntuple("tree", part)
        else:
            types = {key: one.type.content if isinstance(one, ak.Array) else one.dtype for key, one in part.items()}
            root.mktree("tree", types | {"fixed": np.dtype(("f8", (3,)))})
            root["tree"].extend(part)

    def says(columns):
        return no_other_exception(tmp_path / "a.root", a_map({**columns, "jet": PLAIN | columns.get("jet", {})}))

    assert "branch 'jet_pt' holds a list per event" in (said := says({"event": {"x": "jet_pt"}}))
    assert "take the first of them as jet_pt[0]" in said
    assert "branch 'number' holds one number per event" in says({"jet": {"x": "number"}})
    assert "branch 'fixed' holds 3 numbers per event" in says({"event": {"x": "fixed"}})
    if kind == "RNTuple":
        assert "branch 'deep' holds lists of lists (" in says({"jet": {"x": "deep"}})
        assert "branch 'word' holds std::string, no numbers" in says({"event": {"x": "word"}})
        assert "branch 'maybe' holds std::optional<double>, no numbers" in says({"event": {"x": "maybe"}})
    empty = int(np.flatnonzero(ak.num(part["jet_pt"]) == 0)[0]) if ak.any(ak.num(part["jet_pt"]) == 0) else None
    if empty is not None:
        assert f"branch 'jet_pt' holds 0 numbers in entry {empty}" in says({"event": {"x": "jet_pt[0]"}})


@pytest.mark.parametrize("branch, says", [
    ("vector_vector_int32", "lists of lists"), ("string", "std::string, no numbers"), ("map_int32_int16", "no numbers"),
    ("set_int32", "no numbers"),
])  # fmt: skip
def test_classes_of_cpp_are_named(branch, says):
    columns = {"jet": {name: "vector_int32" for name in PLAIN} | {"x": branch}}
    assert says in no_other_exception(real("uproot-stl_containers.root"), a_map(columns))
