"""Monte Carlo on Ray: the same files from many workers and from one, and shards that die are named, not lost."""

import threading

import pytest
from killing import kill_the_worker_of

from jetscale.config import build
from jetscale.data.generate import generate, make_shard
from jetscale.data.jet_process import JetJob
from jetscale.data.process import GenerateJob
from jetscale.errors import GenerateError
from jetscale.events import MANIFEST, Events

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_here")]


def job_of(**values):
    common = {"name": "x", "events": 40, "events_per_shard": 10, "seed": 1, "mpi": False}
    return build(GenerateJob, {**common, **values}, "test")


GLUINOS = {"process": "gluino_direct", "mass": 1300}
BOTTOMS = JetJob(name="b", jets_of="bottom", pt=(100, 200), events=20, events_per_shard=10, seed=1, mpi=False)


@pytest.mark.parametrize("job", [job_of(**GLUINOS), BOTTOMS], ids=["events", "jets"])
def test_many_workers_make_the_sample_that_one_process_makes(tmp_path, job):
    shards = list(generate(job, tmp_path / "workers"))
    for number in reversed(range(job.shards)):
        make_shard(job, number, tmp_path / "one")
    assert list(generate(job, tmp_path / "one")) == sorted(shards, key=lambda shard: shard.file)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == [MANIFEST, *(f"shard-{number:05d}.parquet" for number in range(job.shards))]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "workers" / name).read_bytes()


def test_a_worker_that_is_killed_is_named_and_running_again_completes(tmp_path):
    job = job_of(process="qcd", pthat_min=450, events=60, events_per_shard=30)
    killed = []
    killer = threading.Thread(target=kill_the_worker_of, args=("shard 1", killed), daemon=True)
    killer.start()
    with pytest.raises(GenerateError, match="1 of 2 shards were not made\n  shard 1: WorkerCrashedError") as caught:
        list(generate(job, tmp_path))
    killer.join()
    assert killed == ["shard 1"]
    assert "run the same command again" in caught.value.cure
    assert [path.name for path in tmp_path.iterdir()] == ["shard-00000.parquet"]
    kept = (tmp_path / "shard-00000.parquet").stat().st_mtime_ns
    list(generate(job, tmp_path))
    assert (tmp_path / "shard-00000.parquet").stat().st_mtime_ns == kept
    assert len(Events.open(tmp_path)) == 60


def test_an_error_inside_a_shard_keeps_its_words(tmp_path):
    job = job_of(process="stop_direct", mass=800, quarks=[1, 3], events=20)
    with pytest.raises(GenerateError) as caught:
        list(generate(job, tmp_path))
    assert "2 of 2 shards were not made" in str(caught.value)
    assert "shard 0, 1: x: hardly any event passes: tried 2000, accepted 0" in str(caught.value)
    assert "check their signs" in str(caught.value)
    assert not list(tmp_path.glob("*.parquet")) and not (tmp_path / MANIFEST).exists()
