"""Which files are meant: every one once, in natural order; what is not there is named with what is."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetscale.data.ingest.files import Stamp, find, stamp
from jetscale.data.ingest.remote import is_url, opened, reaching
from jetscale.errors import ConfigError, DataError


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    for name in ("x_1.root", "x_2.root", "x_10.root", "a/y.h5", "a/b/z.root", "a/b/.z.root.part", ".old/x_1.root",
                 "notes.txt", "odd[1].root"):  # fmt: skip
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(place: Path, *patterns: str) -> list[str]:
    return [str(Path(file).relative_to(place)) for file in find(patterns, "job")]


@pytest.mark.parametrize(("patterns", "files"), [
    (["x_2.root"], ["x_2.root"]),
    (["x_*.root"], ["x_1.root", "x_2.root", "x_10.root"]),
    (["x_?.root"], ["x_1.root", "x_2.root"]),
    (["x_[!1]*.root"], ["x_2.root"]),
    (["x_{10,2}.root"], ["x_2.root", "x_10.root"]),
    (["{a/b/z,x_{1,2}}.root"], ["a/b/z.root", "x_1.root", "x_2.root"]),
    (["**/z.root"], ["a/b/z.root"]),
    (["**/*.root"], ["a/b/z.root", "odd[1].root", "x_1.root", "x_2.root", "x_10.root"]),
    (["*/b"], ["a/b/z.root"]),
    (["*.txt"], ["notes.txt"]),
    (["odd[1].root"], ["odd[1].root"]),
    ([".old/*"], [".old/x_1.root"]),
    (["a"], ["a/b/z.root", "a/y.h5"]),
    (["."], ["a/b/z.root", "a/y.h5", "odd[1].root", "x_1.root", "x_2.root", "x_10.root"]),
    (["a/../x_1*"], ["x_1.root", "x_10.root"]),
])  # fmt: skip
def test_what_is_meant(place, patterns, files):
    assert found(place, *patterns) == files
    assert [is_url(file) or Path(file).is_absolute() for file in find(patterns, "job")] == [True] * len(files)


def test_a_file_with_two_names_counts_once(place):
    (place / "link.root").symlink_to("x_2.root")
    (place / "again").symlink_to("a")
    assert found(place, "x_1.root", "x_*.root", f"file://{place}/x_1.root", "./a/../x_10.root") == [
        "x_1.root", "x_2.root", "x_10.root"]  # fmt: skip
    assert found(place, "x_2.root", "link.root") == ["link.root"]
    (place / "deep").symlink_to("a/b")
    assert found(place, "deep/../y.h5") == ["a/y.h5"]
    assert found(place, "again", "a") == ["a/b/z.root", "a/y.h5"]


def test_links_that_go_up_are_no_traps(place):
    (place / "a" / "here").symlink_to(".")
    (place / "a" / "up").symlink_to("..")
    (place / "a" / "itself").symlink_to("itself")
    assert found(place, "a") == ["a/b/z.root", "a/y.h5"]
    assert found(place, "a/**/*.root") == ["a/b/z.root"]


def test_a_list_that_windows_wrote(place):
    (place / "list.txt").write_bytes(b"\xef\xbb\xbfx_1.root\r\nx_2.root\r\n")
    assert found(place, "@list.txt") == ["x_1.root", "x_2.root"]


def test_a_list_is_relative_to_its_folder(place, monkeypatch):
    (place / "a" / "list.txt").write_text("# of 2018\n\n  b/*.root \n../x_{1,2}.root\nroot://host//store/x.root\n")
    monkeypatch.chdir("/")
    assert find([f"@{place}/a/list.txt"], "job") == [
        str(place / "a/b/z.root"), str(place / "x_1.root"), str(place / "x_2.root"), "root://host//store/x.root",
    ]  # fmt: skip


@given(numbers=st.lists(st.integers(0, 10**12), unique=True, min_size=1, max_size=8), start=st.randoms())
def test_urls_stand_in_natural_order_whatever_the_order_given(numbers, start):
    wanted = [f"https://host/run{n}/x.root?token=*" for n in sorted(numbers)]
    given = wanted * 2
    start.shuffle(given)
    assert find(given, "job") == wanted


def test_nothing_is_asked_of_a_server_for_urls_that_name_a_file():
    urls = [f"root://nobody.invalid//store/x_{n}.root" for n in range(300)]
    assert find(urls, "job") == urls


@pytest.mark.parametrize(("pattern", "what", "cure"), [
    ("x_3.root", "'x_3.root' matches no file", "did you mean 'x_2.root'?"),
    ("x_{1,3}.root", "'x_3.root' matches no file", "did you mean 'x_2.root'?"),
    ("aa/b/*.root", "'aa/b/*.root' matches no file", "there is no 'aa'; did you mean 'a'?"),
    ("a/**/*.npz", "matches no file", "known here: b, y.h5"),
    ("x_1.root:Events", "matches no file", "did you mean 'x_1.root'?"),
    ("@list.txt", "the list list.txt cannot be read: No such file", "one path or URL a line"),
    ("@a", "the list a cannot be read: Is a directory", "one path or URL a line"),
    ("@empty.txt", "the list empty.txt names no files", "write one path or URL a line"),
    ("@binary.root", "cannot be read: it is not text", "@ stands before a text file"),
    ("empty", "no *.root, *.h5, *.hdf5, *.npz below", "give a pattern"),
])  # fmt: skip
def test_what_is_not_there_is_named_with_what_is(place, pattern, what, cure):
    (place / "empty").mkdir()
    (place / "empty.txt").write_text("# nothing\n")
    (place / "binary.root").write_bytes(b"root\xff\xfe")
    with pytest.raises(DataError) as problem:
        find([pattern], "my job")
    assert problem.value.where == "my job"
    assert what in problem.value.what
    assert cure in problem.value.cure


def test_a_line_of_a_list_is_named(place):
    (place / "list.txt").write_text("x_1.root\n\nx_3.root\n")
    with pytest.raises(DataError) as problem:
        find(["@list.txt"], "job")
    assert problem.value.where == "list.txt, line 3"


def test_a_folder_that_cannot_be_listed_is_no_empty_one(place, monkeypatch):
    real = os.scandir

    def denied(path: str):
        if str(path).endswith("/a/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", denied)
    for pattern in ("a", "**/*.root", "a/b/*.root"):
        with pytest.raises(DataError, match="a/b: .*Permission denied"):
            find([pattern], "job")
    assert found(place, "x_1*.root") == ["x_1.root", "x_10.root"]


@pytest.mark.parametrize("url", ["https://host/x_*.root", "http://host/data/", "https://host/[ab].root?x=1"])
def test_web_servers_list_nothing(url):
    with pytest.raises(ConfigError, match="do not list their files") as problem:
        find([url], "job")
    assert "@LIST.txt" in problem.value.cure


def test_an_unknown_protocol_is_named():
    with pytest.raises(ConfigError, match="no protocol 'rooot'") as problem:
        find(["rooot://host//x.root"], "job")
    assert "did you mean 'root'?" in problem.value.cure


@pytest.mark.parametrize(("url", "module", "package"), [
    ("root://host//x.root", "fsspec_xrootd", "fsspec-xrootd"),
    ("s3://bucket/x.root", "s3fs", "s3fs"),
    ("https://host/x.root", "aiohttp", "aiohttp"),
])  # fmt: skip
def test_a_missing_package_is_named_with_its_command(url, module, package):
    """In a process of its own: file systems that were once loaded stay."""
    code = f"""
import sys
sys.modules[{module!r}] = None
from jetscale.data.ingest.files import find
from jetscale.errors import DataError
try:
    find([{url!r}], "job")
except DataError as problem:
    print(problem)
"""
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert f"nothing here reads {url.partition(':')[0]}://" in said
    assert f"pip install {package}" in said


def test_a_stamp_is_of_the_content(place):
    file = place / "x_1.root"
    first = stamp(str(file))
    assert first.size == len("x_1.root")
    assert first.hash == f"sha256:{hashlib.sha256(b'x_1.root').hexdigest()}"
    file.write_text("X_1.root")
    os.utime(file, ns=(0, int(first.mark) + 1))
    assert stamp(str(file), first).hash != first.hash


def test_a_file_is_not_read_again_where_size_and_time_agree(place):
    file = place / "x_1.root"
    status = file.stat()
    known = Stamp(size=status.st_size, mark=str(status.st_mtime_ns), hash="sha256:known")
    assert stamp(str(file), known) == known
    assert stamp(str(file), known.but(size=7)).hash != known.hash
    assert stamp(str(file), known.but(mark="7")).hash != known.hash


@pytest.mark.parametrize(("name", "what"), [("x_3.root", "is not there"), ("a", "Is a directory")])
def test_a_file_that_cannot_be_stamped_is_named(place, name, what):
    with pytest.raises(DataError, match=what) as problem:
        stamp(str(place / name))
    assert problem.value.where == str(place / name)
    with pytest.raises(DataError, match=what):
        opened(str(place / name))


def test_opened_gives_the_bytes(place):
    with opened(str(place / "x_1.root")) as stream:
        stream.seek(2)
        assert stream.read() == b"1.root"


@pytest.mark.parametrize(("problem", "what", "cure"), [
    (TimeoutError(), "does not answer in time", "can be reached from here"),
    (OSError("x <bound method> request: [FATAL] Auth failed\n"), "cannot be reached: Auth failed", "credentials"),
    (RuntimeError(), "cannot be reached: RuntimeError", "name and port"),
    (OSError("[ERROR] [3011] Unable to locate /x; no such file or directory"), "is not there", "correct the path"),
])  # fmt: skip
def test_what_clients_raise_is_an_error_of_the_file(problem, what, cure):
    with pytest.raises(DataError) as named, reaching("root://host//x.root"):
        raise problem
    assert (named.value.where, what in named.value.what, cure in named.value.cure) == (
        "root://host//x.root", True, True)  # fmt: skip


def test_waits_are_finite_and_the_users_own_win():
    code = ("import os; from jetscale.data.ingest.remote import finite_waits; finite_waits(); "
            "print(os.environ['XRD_CONNECTIONWINDOW'], os.environ['XRD_REQUESTTIMEOUT'])")  # fmt: skip
    own = {name: value for name, value in os.environ.items() if not name.startswith("XRD_")}
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True,
                          env={**own, "XRD_REQUESTTIMEOUT": "7"}).stdout  # fmt: skip
    assert said.split() == ["10", "7"]
