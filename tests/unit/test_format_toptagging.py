"""The reference sample of top tagging becomes a sample of jets, and what is odd in it is counted or named."""

from __future__ import annotations

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

from jetscale.data.formats import frames
from jetscale.data.formats.open import reader
from jetscale.data.ingest.ingest import ingest
from jetscale.data.ingest.job import Map, load
from jetscale.errors import ConfigError, DataError, JetscaleError
from jetscale.events import Events
from jetscale.labels import CODES
from jetscale.physics.toy_jets import jets
from jetscale.schema import EVENT_ID, JET, JET_LABEL, PARTICLES, WEIGHT, check

SLOTS = 200
NAMES = [f"{name}_{slot}" for slot in range(SLOTS) for name in ("E", "PX", "PY", "PZ")]
NAMES += ["truthE", "truthPX", "truthPY", "truthPZ"]
EVERY = JET.plus(EVENT_ID, WEIGHT, JET_LABEL, *PARTICLES.columns)


@pytest.fixture
def toys() -> tuple[np.ndarray, np.ndarray, list[dict[str, list[float]]]]:
    """The two blocks of the table, (30, 804) and (30, 2), and the jets that they are made of."""
    columns = jets(30, ("qcd", "top"), np.random.default_rng(3))
    rows = [{name: columns[name][row].as_py() for name in PARTICLES.names} for row in range(30)]
    numbers = np.zeros((30, len(NAMES)), dtype=np.float32)
    for row, one in enumerate(rows):
        pt, eta, phi, mass = (np.array(one[name]) for name in PARTICLES.names)
        p4 = [np.hypot(pt * np.cosh(eta), mass), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)]
        assert len(pt) < SLOTS
        numbers[row, : 4 * len(pt)] = np.stack(p4, axis=1).ravel()
    return numbers, np.stack([np.full(30, 1), columns["place"].to_numpy()], axis=1), rows


def by_pandas(file: Path, numbers: np.ndarray, flags: np.ndarray, **settings: object) -> Path:
    """As the sample was written."""
    pytest.importorskip("tables")
    pandas = pytest.importorskip("pandas")
    frame = pandas.concat([pandas.DataFrame(numbers, columns=NAMES),
                           pandas.DataFrame(flags, columns=["ttv", "is_signal_new"])], axis=1)  # fmt: skip
    frame.to_hdf(file, key="table", mode="w", **{"format": "table", "complib": "zlib", "complevel": 1, **settings})
    return file


def by_hand(file: Path, numbers: np.ndarray, flags: np.ndarray, names: list[str] | None = NAMES) -> Path:
    """The same layout without pandas and PyTables; `names` are what the table says of itself."""
    kind = [("index", "<i8"), ("values_block_0", "<f4", numbers.shape[1:]), ("values_block_1", "<i8", (2,))]
    rows = np.zeros(len(numbers), dtype=kind)
    rows["index"], rows["values_block_0"], rows["values_block_1"] = np.arange(len(numbers)), numbers, flags
    with h5py.File(file, "w") as hdf5:
        table = hdf5.create_dataset("table/table", data=rows)
        if names is not None:
            table.attrs["values_block_0_kind"] = np.bytes_(pickle.dumps(names, protocol=0))
            table.attrs["values_block_1_kind"] = np.bytes_(pickle.dumps(["ttv", "is_signal_new"], protocol=0))
    return file


def run(file: Path, out: Path, **given: object) -> Events:
    job = load(None, **{"name": "j", "files": [str(file)], "map": "top_tagging", **given})
    for _ in ingest(job, out, here=True):
        pass
    return Events.open(out)


WRITERS = {
    "pandas": by_pandas,
    "pandas, fixed": lambda *given: by_pandas(*given, format="fixed"),
    "pandas, columns of their own": lambda *given: by_pandas(*given, data_columns=["is_signal_new"]),
    "pandas, blosc": lambda *given: by_pandas(*given, complib="blosc", complevel=5),
    "pandas, bzip2": lambda *given: by_pandas(*given, format="fixed", complib="bzip2", complevel=5),
    "h5py": by_hand,
    "h5py, no names": lambda *given: by_hand(*given, names=None),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_jets_come_as_they_were_written(writer, toys, tmp_path: Path) -> None:
    numbers, flags, rows = toys
    events = run(WRITERS[writer](tmp_path / "train.h5", numbers, flags), tmp_path / "out", events_per_shard=11)
    table = events.read()
    check(table, EVERY, "sample")
    assert set(table.column_names) == set(EVERY.names)
    assert events.manifest.made_by["rejected"] == {}
    assert table["jet_label"].to_pylist() == [CODES["top" if one else "qcd"] for one in flags[:, 1]]
    for row, one in enumerate(rows):
        order = np.argsort(-np.array(one["particle_pt"]), kind="stable")
        have = table.slice(row, 1).to_pylist()[0]
        for name in ("particle_pt", "particle_eta", "particle_phi"):
            assert have[name] == pytest.approx(np.array(one[name])[order], rel=1e-4, abs=1e-4)
        # What single precision leaves of E^2 - p^2 = 0.
        momentum = np.array(have["particle_pt"]) * np.cosh(have["particle_eta"])
        assert (np.array(have["particle_mass"]) < 1e-3 * momentum).all()


def test_a_jet_is_the_sum_of_its_particles_with_their_masses(toys, tmp_path: Path) -> None:
    numbers, flags, _ = toys
    numbers[:] = 0
    numbers[:, :8] = [5, 0, 0, 3, 50, 30, 0, 40]
    table = run(by_hand(tmp_path / "two.h5", numbers, flags), tmp_path / "out").read()
    assert table["particle_mass"][0].as_py() == pytest.approx([0, 4])
    assert table["jet_pt"][0].as_py() == pytest.approx(30)
    assert table["jet_mass"][0].as_py() == pytest.approx(np.sqrt(55**2 - 43**2 - 30**2), rel=1e-5)


def test_columns_are_found_by_their_names(toys, tmp_path: Path) -> None:
    numbers, flags, _ = toys
    order = np.random.default_rng(5).permutation(len(NAMES))
    one = run(by_hand(tmp_path / "a.h5", numbers, flags), tmp_path / "a").read()
    other = run(by_hand(tmp_path / "b.h5", numbers[:, order], flags, [NAMES[place] for place in order]),
                tmp_path / "b").read()  # fmt: skip
    assert one.drop_columns("event_id").equals(other.drop_columns("event_id"))


def test_odd_jets_are_counted(toys, tmp_path: Path) -> None:
    numbers, flags, _ = toys
    numbers[1], numbers[2, 0], flags[3, 1], numbers[4, 1], numbers[5, 4] = 0, -1, 2, np.nan, np.inf
    numbers[6, 0] = numbers[6, 0] / 2  # less energy than momentum
    said = run(by_hand(tmp_path / "odd.h5", numbers, flags), tmp_path / "out").manifest.made_by
    rejected = dict(said["rejected"])
    assert rejected.pop("the jet has no particles") == 1
    assert rejected.pop("a particle has negative energy") == 1
    assert rejected.pop("the label is none of the format's") == 1
    assert sum(rejected.values()) == 3 and said["kept"] == 24
    assert all("finite" in why or "mass" in why for why in rejected)


def test_other_tables_are_named(toys, tmp_path: Path) -> None:
    numbers, flags, _ = toys
    wrong = {
        r"values_block_0 of 'table' is of 100 columns and has names of 0; as published it is of 804 or 2":
            by_hand(tmp_path / "few.h5", numbers[:, :100], flags, None),
        r"is of 100 columns and has names of 804": by_hand(tmp_path / "names.h5", numbers[:, :100], flags),
        r"lacks 2 columns: E_7, E_8": by_hand(
            tmp_path / "other.h5", numbers, flags, [{"E_7": "A", "E_8": "B"}.get(name, name) for name in NAMES]),
        r"holds no jets": by_hand(tmp_path / "none.h5", numbers[:0], flags[:0]),
    }  # fmt: skip
    with h5py.File(tmp_path / "key.h5", "w") as hdf5:
        hdf5["tables/table"] = np.zeros(3)
    wrong[r"has no table 'table'(.|\n)*tables"] = tmp_path / "key.h5"
    for number, (said, file) in enumerate(wrong.items()):
        with pytest.raises(JetscaleError, match=said) as problem:
            run(file, tmp_path / f"out{number}")
        assert file.name in str(problem.value)


def test_what_cannot_be_decompressed_is_named(toys, tmp_path: Path, monkeypatch) -> None:
    file = by_pandas(tmp_path / "blosc.h5", *toys[:2], complib="blosc")
    monkeypatch.setattr(frames, "_plugins", lambda: False)
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda number: number < 32000)
    with pytest.raises(JetscaleError, match=r"compressed with blosc(.|\n)*hdf5plugin(.|\n)*ptrepack"):
        run(file, tmp_path / "out")


def test_damage_is_named(toys, tmp_path: Path) -> None:
    whole, dice = by_pandas(tmp_path / "whole.h5", *toys[:2], format="fixed").read_bytes(), np.random.default_rng(4)
    for number in range(60):
        content = bytearray(whole)
        if number % 3:
            for place in dice.integers(0, 6000, 20):
                content[place] = dice.integers(256)
        else:
            del content[dice.integers(len(content)) :]
        (tmp_path / "odd.h5").write_bytes(content)
        try:
            with reader(str(tmp_path / "odd.h5"), Map(format="top_tagging")) as source:
                look = source.look()
                assert sum(len(part) for part in source.read(0, look.entries, look.columns)) == look.entries
        except DataError as problem:
            assert "odd.h5" in str(problem)


def test_names_of_levels_need_a_table(toys, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    names = pandas.MultiIndex.from_product([["E", "PX", "PY", "PZ"], range(SLOTS)])
    frame = pandas.DataFrame(toys[0][:, :-4], columns=names)
    frame.to_hdf(tmp_path / "levels.h5", key="table", format="fixed")
    with pytest.raises(JetscaleError, match=r"levels(.|\n)*format='table'"):
        run(tmp_path / "levels.h5", tmp_path / "out")


class Malice:
    """What a pickle may do when it is opened."""

    def __reduce__(self):
        return print, ("opened",)


def test_a_table_runs_no_code(toys, tmp_path: Path, capsys) -> None:
    file = by_hand(tmp_path / "malice.h5", *toys[:2])
    with h5py.File(file, "a") as hdf5:
        hdf5["table/table"].attrs["values_block_0_kind"] = np.bytes_(pickle.dumps(Malice(), protocol=0))
    with pytest.raises(JetscaleError, match=r"it asks for [\w.]+print"):
        run(file, tmp_path / "out")
    assert not capsys.readouterr().out


def test_a_map_cannot_ask_for_more(toys, tmp_path: Path) -> None:
    file = by_hand(tmp_path / "a.h5", *toys[:2])
    with pytest.raises((ConfigError, JetscaleError), match=r"map\.tree"):
        run(file, tmp_path / "out", map={"like": "top_tagging", "tree": "t"})
