"""Classical methods add the columns that a network adds, and keep its promises."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from jetscale import cli
from jetscale.errors import ConfigError, DataError
from jetscale.evaluate.classical import score_classical, scoring_classical
from jetscale.events import MANIFEST, ROW_GROUP, Events, write_manifest, write_shard
from jetscale.physics import classical, kinematics
from jetscale.schema import ASSIGNMENT, JET_EVENTS, flat
from jetscale.systems.assigner import Assigner


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Events:
    """Three shards, one of them empty, and an event without jets."""
    room = tmp_path_factory.mktemp("room")
    table = Assigner().toy(400, 1)
    bare = {column.name: [[] if column.of else table[column.name][0].as_py()] for column in JET_EVENTS.each()}
    bare["event_id"] = [999_999]
    shards = [table.slice(0, 300), table.slice(0, 0), table.slice(300)]
    shards.append(JET_EVENTS.arrow.empty_table().from_pydict(bare, schema=JET_EVENTS.arrow))
    written = [write_shard(one, room / "toy" / f"shard-{n:05d}.parquet", JET_EVENTS) for n, one in enumerate(shards)]
    made = Events.write(table, room / "plain").manifest.but(name="toy", shards=[one.values() for one in written])
    write_manifest(made, room / "toy")
    return Events.open(room / "toy")


@pytest.mark.parametrize("name", classical.names())
def test_the_columns_are_those_of_a_network_and_true(toy: Events, tmp_path: Path, name: str) -> None:
    scored = score_classical(name, toy, tmp_path / "scored")
    assert scored.schema.names == (*toy.schema.names, *ASSIGNMENT.names, "split")
    assert scored.read(toy.schema.names).equals(toy.read())
    table = scored.read()
    assert set(table["split"].to_pylist()) == {3}
    for row in (0, 150, 399):
        jets = (table[f"jet_{part}"][row].as_py() for part in ("pt", "eta", "phi", "mass"))
        p4 = kinematics.p4(*(torch.tensor(one, dtype=torch.float64)[None] for one in jets))
        groups = classical.find(name)(p4, torch.ones(p4.shape[:2], dtype=torch.bool))
        assert table["jet_assigned"][row].as_py() == groups[0].tolist()
        mass = [kinematics.mass(p4[0][groups[0] == group].sum(0)).item() for group in (1, 2)]
        assert table["reco_mass"][row].as_py() == pytest.approx(np.mean(mass), rel=1e-5)
        assert table["jet_none_probability"][row].as_py() == (groups[0] == 0).float().tolist()
        assert table["reco_confidence"][row].as_py() == 1
    assert table["jet_assigned"][400].as_py() == [] and table["reco_mass"][400].as_py() == 0
    assert table["reco_confidence"][400].as_py() == 0
    assert all(np.isfinite(flat(table[column])).all() for column in ASSIGNMENT.names)


def test_what_is_interrupted_goes_on_and_is_the_same(toy: Events, tmp_path: Path) -> None:
    going = scoring_classical("delta_r", toy, tmp_path / "scored")
    assert [next(going) for _ in range(3)] == [300, 300, 300]
    going.close()
    assert not (tmp_path / "scored" / MANIFEST).exists()
    before = (tmp_path / "scored" / "shard-00000.parquet").stat().st_mtime_ns
    with pytest.raises(DataError, match="no shard of this scoring"):
        score_classical("hemispheres", toy, tmp_path / "scored")
    scored = score_classical("delta_r", toy, tmp_path / "scored")
    assert (scored.path / "shard-00000.parquet").stat().st_mtime_ns == before
    assert scored.fingerprint == score_classical("delta_r", toy, tmp_path / "at once").fingerprint
    assert score_classical("delta_r", toy, tmp_path / "scored").fingerprint == scored.fingerprint
    with pytest.raises(DataError, match="scored_by is 'classical:delta_r', not 'classical:hemispheres'"):
        score_classical("hemispheres", toy, tmp_path / "scored")


def test_another_method_s_columns_are_left_out(toy: Events, tmp_path: Path) -> None:
    first = score_classical("asymmetry_8", toy, tmp_path / "first")
    again = score_classical("asymmetry_6", first, tmp_path / "again")
    assert again.read().equals(score_classical("asymmetry_6", toy, tmp_path / "direct").read())
    assert again.origin == toy.origin


def test_no_more_than_a_row_group_is_in_memory(tmp_path: Path) -> None:
    table = Assigner().toy(2 * ROW_GROUP + 7, 4)
    large = Events.write(table, tmp_path / "large", rows_per_shard=len(table))
    done = [0, *scoring_classical("asymmetry_6", large, tmp_path / "scored")]
    assert max(np.diff(done)) == ROW_GROUP and done[-1] == len(table)


def test_a_sample_without_four_vectors_is_refused(toy: Events, tmp_path: Path) -> None:
    names = {"jet_pt": "jet_momentum"}
    schema = toy.schema.but(columns=[one.but(name=names.get(one.name, one.name)) for one in toy.schema.each()])
    table = toy.read().rename_columns(list(schema.names))
    shard = write_shard(table, tmp_path / "other" / "shard-00000.parquet", schema)
    write_manifest(toy.manifest.but(columns=schema.columns, shards=[shard.values()]), tmp_path / "other")
    with pytest.raises(DataError, match="needs 'jet_pt' of every jet"):
        score_classical("asymmetry_6", Events.open(tmp_path / "other"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unknown_method_is_refused_with_the_nearest(toy: Events, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'hemispheres'"):
        score_classical("hemisphere", toy, tmp_path / "out")


def test_the_command_scores_with_several(toy: Events, tmp_path: Path) -> None:
    words = ["score", "classical:delta_r", "classical:asymmetry_8", "--events", str(toy.path), "--out"]
    assert cli.main([*words, str(tmp_path / "two")]) == 0
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["asymmetry_8", "delta_r"]
    assert cli.main([words[0], words[1], *words[3:], str(tmp_path / "one")]) == 0
    made_by = json.loads((tmp_path / "one" / MANIFEST).read_text())["made_by"]
    assert made_by["scored_by"] == "classical:delta_r"
    assert Events.open(tmp_path / "one").fingerprint == Events.open(tmp_path / "two" / "delta_r").fingerprint


def test_several_methods_and_samples_may_follow_their_word() -> None:
    spread = cli.spread(["report", "run", "--classical", "delta_r", "asymmetry_8", "--events", "a", "b", "--out", "o"])
    assert spread == ["report", "run", "--classical", "delta_r", "--classical", "asymmetry_8", "--events", "a",
                      "--events", "b", "--out", "o"]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["score", "classical:asymetry_8"], "did you mean 'asymmetry_8'"),
        (["score", "classical:delta_r", "--constant", "jet_mass=1"], "reads no constants"),
        (["score", "classical:delta_r", "classical:delta_r"], "two of them are called 'delta_r'"),
        (["score", "classical:delta_r", "nowhere"], "nowhere"),
        (["report", "nowhere", "--classical", "asymmetry_8", "hemispheer"], "did you mean 'hemispheres'"),
    ],
)
def test_what_cannot_be_meant_leaves_nothing(toy: Events, tmp_path: Path, capsys, words: list[str], hint: str) -> None:
    assert cli.main([*words, "--events", str(toy.path), "--out", str(tmp_path / "deep" / "out")]) in {1, 2}
    assert hint in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
