"""The sample that ships is what its YAML files make."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from jetscale.config import build
from jetscale.data.generate import columns, load, make_table
from jetscale.data.jet_process import JetJob
from jetscale.data.process import GenerateJob
from jetscale.events import Events, locate
from jetscale.schema import check, flat

ROOM = Path(str(locate("shipped:qcd"))).parent
NAMES = sorted(path.stem for path in ROOM.glob("*.yaml"))
JOBS = {name: load(ROOM / f"{name}.yaml") for name in NAMES}
EVENTS = [name for name, job in JOBS.items() if isinstance(job, GenerateJob)]
JETS = [name for name, job in JOBS.items() if isinstance(job, JetJob)]
EXACT = (
    "event_id",
    "jet_label",
    "particle_pdg",
    "particle_charge",
    "true_mass",
    "decay_mode",
    "jet_parent_ancestry",
    "jet_parent_quark",
)


def test_the_sample_has_what_the_quickstart_needs_and_is_small():
    jobs = [JOBS[name] for name in EVENTS]
    assert sorted(job.mass for job in jobs if job.process == "gluino_direct") == [900, 1100, 1300, 1500, 1700]
    assert {job.process for job in jobs} == {"gluino_direct", "gluino_cascade", "qcd"}
    assert {(JOBS[name].jets_of, JOBS[name].events) for name in JETS} == {("top", 2000), ("qcd", 2000)}
    assert sorted(path.name for path in ROOM.iterdir() if path.is_dir()) == NAMES
    assert sum(file.stat().st_size for file in ROOM.rglob("*") if file.is_file()) <= 9_000_000


@pytest.mark.parametrize("name", NAMES)
def test_the_whole_sample_keeps_the_contract_and_is_its_job_s(name):
    sample = Events.open(f"shipped:{name}")
    job = JOBS[name]
    by = sample.manifest.made_by
    assert build(type(job), by["job"], name) == job and by["digest"] == job.digest()
    table = sample.read()
    check(table, columns(job), name)
    assert table.num_rows == len(sample) == job.events
    weight = table["weight"].to_numpy()
    assert weight.sum() == pytest.approx(by["selected_pb"])
    assert weight.sum() ** 2 / (weight**2).sum() == pytest.approx(by["effective_events"])
    assert by["effective_events"] > (0.97 * job.events if name in JETS else 3900)


@pytest.mark.parametrize("name", NAMES)
def test_a_shard_made_again_is_the_shipped_one(name):
    sample, job = Events.open(f"shipped:{name}"), JOBS[name]
    number = 1
    shipped, again = sample.read(shard=sample.manifest.shards[number]), make_table(job, number)[0]
    assert again.schema.names == shipped.schema.names
    for column in shipped.schema.names:
        assert again[column].combine_chunks().type == shipped[column].combine_chunks().type
        if column in EXACT:
            assert again[column].equals(shipped[column]), column
        else:
            np.testing.assert_allclose(flat(again[column]), flat(shipped[column]), rtol=1e-5, atol=1e-5, err_msg=column)
            if pa.types.is_list(shipped.schema.field(column).type):
                assert list(map(len, again[column].to_pylist())) == list(map(len, shipped[column].to_pylist()))


def test_the_masses_can_be_told_from_the_true_labels():
    """Median mass of the true groups rises with the true mass and lies near it."""
    for name in EVENTS:
        sample = Events.open(f"shipped:{name}")
        job = JOBS[name]
        if not job.mass:
            continue
        found = np.median([_mean_mass(row) for row in sample.read(shard=sample.manifest.shards[0]).to_pylist()])
        assert 0.88 < found / job.mass < 1.02, name


def test_jets_of_tops_have_the_mass_of_the_top_and_those_of_qcd_have_not():
    top, qcd = (
        flat(Events.open(f"shipped:{name}").read(["jet_mass"])["jet_mass"]) for name in ("jets-top", "jets-qcd")
    )
    assert 170 < np.median(top) < 178 and np.mean((top > 150) & (top < 200)) > 0.75
    assert np.median(qcd) < 80 and np.mean((qcd > 150) & (qcd < 200)) < 0.15


def _mean_mass(row):
    pt, eta, phi, mass = (np.array(row[f"jet_{field}"], dtype=np.float64) for field in ("pt", "eta", "phi", "mass"))
    p4 = np.stack([np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)])
    label = np.array(row["jet_parent_ancestry"])
    groups = [p4[:, label == parent].sum(axis=1) for parent in (1, 2)]
    return np.mean([np.sqrt(max(group[0] ** 2 - (group[1:] ** 2).sum(), 0)) for group in groups])
