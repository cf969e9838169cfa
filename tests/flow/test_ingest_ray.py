"""ingest on Ray: what one process makes, whatever dies on the way."""

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import ray
from killing import kill_the_worker_of
from ntuples import job, made, write
from servers import xrootd

from jetscale.data.ingest.convert import stamp
from jetscale.data.ingest.ingest import MANIFEST, ingest
from jetscale.errors import IngestError
from jetscale.events import Events

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_here")]
DRIVER = """
import sys
from pathlib import Path
from ntuples import job
from jetscale.data.ingest.ingest import ingest
for _ in ingest(job(sys.argv[2:], events_per_shard=2000), Path(sys.argv[1])):
    pass
"""


def make(given, out, *, here=False):
    steps = list(ingest(given, out, here=here))
    return Events.open(out), steps


def test_workers_make_what_one_process_makes_and_name_what_is_bad(tmp_path):
    files = [write(tmp_path / f"{seed}.root", made(400, seed)) for seed in range(4)]
    (tmp_path / "bad.root").write_bytes(Path(files[0]).read_bytes()[:3000])
    given = job([*files, tmp_path / "bad.root"], events_per_shard=150, cross_section_pb=3.0)
    for place, here in (("ray", False), ("one", True)):
        with pytest.raises(IngestError, match=r"1 of 5 files were not converted\n.*bad\.root"):
            make(given, tmp_path / place, here=here)
    many, one = Events.open(tmp_path / "ray"), Events.open(tmp_path / "one")
    assert many.manifest == one.manifest
    for shard in many.manifest.shards:
        assert (many.path / shard.file).read_bytes() == (one.path / shard.file).read_bytes()


def test_a_worker_that_is_killed_costs_nothing(tmp_path):
    files = [write(tmp_path / f"{seed}.root", made(20_000, seed)) for seed in range(3)]
    killed = []
    killer = threading.Thread(target=kill_the_worker_of, args=("converting", killed), daemon=True)
    killer.start()
    events, _ = make(job(files), tmp_path / "out")
    killer.join()
    assert killed and len(events) == 60_000
    assert len(set(events.read()["event_id"].to_pylist())) == 60_000


def test_a_driver_that_is_killed_leaves_whole_shards_and_the_same_command_goes_on(tmp_path):
    files = [write(tmp_path / f"{seed}.root", made(20_000, seed)) for seed in range(4)]
    out = tmp_path / "out"
    (tmp_path / "driver.py").write_text(DRIVER)
    command = [sys.executable, str(tmp_path / "driver.py"), str(out), *files]
    address = ray.get_runtime_context().gcs_address
    env = {**os.environ, "RAY_ADDRESS": address, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    driver = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while len(list(out.glob("shard-*.parquet"))) < 3 and driver.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    driver.kill()
    driver.wait()
    assert not (out / MANIFEST).exists(), "it was killed too late"
    before = -1
    while before != (before := len(list(out.iterdir()))):
        time.sleep(1.0)  # the workers outlive their driver for a moment
    shards = {file: file.stat().st_mtime_ns for file in out.glob("shard-*.parquet")}
    assert 3 <= len(shards) < 40
    assert all(pq.read_table(file).num_rows == stamp(file)["kept"] for file in shards)
    events, _ = make(job(files, events_per_shard=2000), out, here=True)
    assert len(events.manifest.shards) == 40 and len(events) == 80_000
    assert {file: file.stat().st_mtime_ns for file in shards} == shards
    assert not list(out.glob(".*.part"))


def test_files_of_a_server_are_read_by_the_workers(tmp_path):
    with xrootd() as grid:
        local = [write(grid.folder / f"{seed}.root", made(300, seed)) for seed in (1, 2)]
        (grid.folder / "3.root").write_bytes(Path(local[0]).read_bytes()[:2000])
        with pytest.raises(IngestError, match=rf"1 of 3 files were not converted\n *{re.escape(grid.url)}/3\.root: "):
            make(job([f"{grid.url}/*.root"], events_per_shard=200), tmp_path / "far")
        near, _ = make(job(local, events_per_shard=200), tmp_path / "near", here=True)
        far = Events.open(tmp_path / "far")
        assert far.read().equals(near.read())  # ids included: they are of the content, not of the path
        assert [one["file"] for one in far.manifest.made_by["files"]] == [f"{grid.url}/{seed}.root" for seed in (1, 2)]
        stamps = {file.name: file.stat().st_mtime_ns for file in far.path.glob("*.parquet")}
        (grid.folder / "3.root").unlink()
        make(job([f"{grid.url}/*.root"], events_per_shard=200), tmp_path / "far")
        assert {file.name: file.stat().st_mtime_ns for file in far.path.glob("*.parquet")} == stamps
