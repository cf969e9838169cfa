"""Files at URLs, from real servers: found, stamped and read as the same files here; what fails is named."""

import hashlib
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import awkward as ak
import fsspec
import numpy as np
import pytest
import uproot
from servers import Served, certificate, free_port, s3, web, xrootd

from jetscale.config import build
from jetscale.data.formats.root import RootReader
from jetscale.data.ingest.files import find, stamp
from jetscale.data.ingest.job import Map
from jetscale.data.ingest.remote import filesystem, opened
from jetscale.errors import DataError

EVENTS = 20_000
BASKET = 500
HOW = build(Map, {"columns": {"jet": {name: f"jet_{name}" for name in ("pt", "eta", "phi", "mass")}}}, "test")


@pytest.fixture(scope="module")
def events(tmp_path_factory) -> Path:
    """A ROOT file of a few megabytes in many baskets."""
    file = tmp_path_factory.mktemp("events") / "events.root"
    numbers = np.random.default_rng(1)
    with uproot.recreate(file, compression=None) as root:
        root.mktree("tree", {f"jet_{name}": "var * float32" for name in ("pt", "eta", "phi", "mass")})
        for _ in range(EVENTS // BASKET):
            n_B = numbers.integers(0, 9, BASKET)
            root["tree"].extend({
                f"jet_{name}": ak.unflatten(numbers.random(n_B.sum(), dtype=np.float32), n_B)
                for name in ("pt", "eta", "phi", "mass")
            })  # fmt: skip
    return file


@pytest.fixture(scope="module")
def grid(events) -> Iterator[Served]:
    with xrootd() as served:
        for name in ("run/x_1.root", "run/x_2.root", "run/x_10.root", "run/deep/y.root", "run/notes.txt"):
            (served.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(events, served.folder / name)
        yield served


@pytest.fixture(scope="module")
def bucket(events) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as monkeypatch, s3(monkeypatch):
        fs, _ = filesystem("s3://jets")
        fs.mkdir("jets")
        for name in ("run/x_1.root", "run/x_2.root", "run/x_10.root", "run/deep/y.root", "run/notes.txt"):
            fs.put_file(str(events), f"jets/{name}")
        yield "s3://jets"


@pytest.fixture(params=["grid", "bucket"])
def listed(request) -> str:
    """Where files can be listed."""
    served = request.getfixturevalue(request.param)
    return served if isinstance(served, str) else f"{served.url}"


@pytest.fixture(params=["grid", "bucket", "web", "tls"])
def anywhere(request, events, monkeypatch) -> Iterator[str]:
    """The events at a URL."""
    if request.param == "web":
        with web(events.parent) as served:
            yield f"{served.url}/{events.name}"
    elif request.param == "tls":
        own = certificate(events.with_suffix(".pem"))
        monkeypatch.setitem(fsspec.config.conf, "https", {"ssl": ssl.create_default_context(cafile=own)})
        with web(events.parent, certificate=own) as served:
            yield f"{served.url}/{events.name}"
    else:
        served = request.getfixturevalue(request.param)
        yield f"{served if isinstance(served, str) else served.url}/run/x_1.root"


@pytest.mark.parametrize(("pattern", "names"), [
    ("run/*.root", ["x_1.root", "x_2.root", "x_10.root"]),
    ("run/x_{10,2}.root", ["x_2.root", "x_10.root"]),
    ("run/x_[12].root", ["x_1.root", "x_2.root"]),
    ("*/deep/y.*", ["deep/y.root"]),
    ("**/*.root", ["deep/y.root", "x_1.root", "x_2.root", "x_10.root"]),
    ("run", ["deep/y.root", "x_1.root", "x_2.root", "x_10.root"]),
    ("run/", ["deep/y.root", "x_1.root", "x_2.root", "x_10.root"]),
    ("run/notes.txt", ["notes.txt"]),
])  # fmt: skip
def test_patterns_are_listed_by_the_server(listed, pattern, names):
    wanted = [f"{listed}/run/{name}" for name in names]
    assert find([f"{listed}/{pattern}"], "job") == wanted
    assert find([f"{listed}/{pattern}", *wanted], "job") == wanted


def test_the_client_says_nothing_on_the_screen(grid):
    code = "import torch.distributed; from jetscale.data.ingest.files import find; print(*find(['{}'], 'job'))"
    command = [sys.executable, "-c", code.format(f"{grid.url}/run/x_*")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(done.stdout.split()) == 3
    assert done.stderr == ""


@pytest.mark.parametrize(("pattern", "cure"), [
    ("run/y_*.root", "did you mean 'x_2.root'?"),
    ("ruun/*.root", "there is no 'ruun'; did you mean 'run'?"),
])  # fmt: skip
def test_nothing_that_matches_is_named_with_what_is_there(listed, pattern, cure):
    with pytest.raises(DataError, match="matches no file") as problem:
        find([f"{listed}/{pattern}"], "job")
    assert cure in problem.value.cure


def test_a_file_at_a_url_is_what_it_is_here(anywhere, events):
    assert find([anywhere], "job") == [anywhere]
    with opened(anywhere) as stream:
        assert hashlib.file_digest(stream, "sha256").hexdigest() == stamp(str(events)).hash.removeprefix("sha256:")
    with RootReader(anywhere, HOW) as there, RootReader(str(events), HOW) as here:
        look = here.look()
        assert there.look() == look
        for start, stop in ((0, EVENTS), (1234, 2345)):
            wanted = ak.concatenate(list(here.read(start, stop, look.columns)))
            assert ak.array_equal(ak.concatenate(list(there.read(start, stop, look.columns))), wanted)


def test_a_stamp_at_a_url_is_of_size_time_and_ends(anywhere, events):
    first = stamp(anywhere)
    content = events.read_bytes()
    assert first.size == len(content)
    assert first.mark
    said = f"{first.size} {first.mark} ".encode() + content[: 1 << 16] + content[-(1 << 16) :]
    assert first.hash == f"ends:{hashlib.sha256(said).hexdigest()}"
    known = first.but(hash="ends:known")
    assert stamp(anywhere, known) == known
    assert stamp(anywhere, known.but(mark="another")) == first


def test_a_file_that_changed_at_the_server_is_noticed(grid):
    file = grid.folder / "changing.root"
    file.write_bytes(b"old" * 1000)
    os.utime(file, (1, 1))
    first = stamp(f"{grid.url}/changing.root")
    for content, when in ((b"new" * 1000, 2), (b"longer" * 1000, 2), (b"", 2)):
        file.write_bytes(content)
        os.utime(file, (when, when))
        second = stamp(f"{grid.url}/changing.root", first)
        assert (second.size, second.hash == first.hash) == (len(content), False)
        first = second


@pytest.mark.parametrize("name", ["run/x_3.root", "ruun/x_1.root"])
def test_a_file_that_is_not_there_is_named(listed, name):
    for attempt in (stamp, opened):
        with pytest.raises(DataError, match="is not there") as problem:
            attempt(f"{listed}/{name}")
        assert problem.value.where == f"{listed}/{name}"


def test_a_page_that_is_not_there_is_named(events):
    with web(events.parent) as served, pytest.raises(DataError, match="is not there"):
        stamp(f"{served.url}/nothing.root")


def test_a_folder_is_no_file(listed):
    with pytest.raises(DataError, match="is a folder"):
        stamp(f"{listed}/run")


@pytest.mark.usefixtures("bucket")
def test_no_such_bucket_is_named():
    with pytest.raises(DataError, match="matches no file") as problem:
        find(["s3://jest/run/*.root"], "job")
    assert problem.value.cure == "there is no bucket 'jest'"


def test_a_server_that_is_not_there_is_named():
    port = free_port()
    for look, url in ((lambda url: find([f"{url}/*.root"], "job"), f"root://localhost:{port}/"),
                      (lambda url: stamp(f"{url}/x.root"), f"root://localhost:{port}/"),
                      (lambda url: stamp(f"{url}/x.root"), f"http://localhost:{port}")):  # fmt: skip
        with pytest.raises(DataError, match="cannot be reached: Connect(ion error| call failed)") as problem:
            look(url)
        assert problem.value.where.startswith(url)
        assert "name and port" in problem.value.cure


def test_a_server_that_dies_in_the_middle_is_named(events):
    with xrootd() as served:
        shutil.copy(events, served.folder)
        url = f"{served.url}/{events.name}"
        with RootReader(url, HOW) as reader:
            look = reader.look()
            assert served.process
            served.process.kill()
            served.process.wait()
            with pytest.raises(DataError, match="cannot be reached: Connection error") as problem:
                list(reader.read(0, EVENTS, look.columns))
    assert problem.value.where == url
    assert problem.value.cure.endswith("run again")


def test_a_web_server_that_breaks_off_is_named(events):
    with web(events.parent, dies_after=1000) as served:
        with pytest.raises(DataError, match="cannot be reached") as problem:
            stamp(f"{served.url}/{events.name}")
        assert problem.value.where.startswith(served.url)


def test_a_web_server_without_ranges_is_named_before_anything_is_misread(events):
    with web(events.parent, whole=True) as served, pytest.raises(DataError, match="range") as problem:
        stamp(f"{served.url}/{events.name}")
    assert problem.value.where.startswith(served.url)


def test_a_certificate_that_nobody_vouches_for_is_named(events):
    with (web(events.parent, certificate=certificate(events.with_suffix(".pem"))) as served,
          pytest.raises(DataError, match="(?i)certificate verify failed")):  # fmt: skip
        stamp(f"{served.url}/{events.name}")
