"""Real servers on loopback that hand out files: XRootD, HTTP(S), S3."""

import contextlib
import functools
import os
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

# Read once per process, when the client is loaded: a server that is gone is given up after a second.
os.environ.setdefault("XRD_CONNECTIONWINDOW", "1")
os.environ.setdefault("XRD_CONNECTIONRETRY", "2")

CONFIG = """
all.export /
oss.localroot {place}/files
all.adminpath {place}/admin
all.pidpath {place}/admin
xrd.network nodnr
"""


class Served(NamedTuple):
    """What lies in `folder` is read at `url/NAME`."""

    folder: Path
    url: str
    process: subprocess.Popen | None = None


@contextlib.contextmanager
def xrootd() -> Iterator[Served]:
    """A data server of XRootD; skips the test where it is not installed."""
    if not shutil.which("xrootd"):
        pytest.skip("no xrootd here (Debian: apt-get install xrootd-server)")
    with tempfile.TemporaryDirectory(prefix="xrootd-") as name:
        place = Path(name)
        place.chmod(0o755)
        (place / "files").mkdir()
        (place / "admin").mkdir()
        (place / "admin").chmod(0o777)
        (place / "config").write_text(CONFIG.format(place=place))
        port = free_port()
        # It refuses to serve as root.
        command = ["xrootd", *(["-R", "nobody"] if os.getuid() == 0 else []), "-c", str(place / "config"),
                   "-p", str(port), "-l", str(place / "admin" / "log")]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=place) as process:
            try:
                wait_for(port, process)
                yield Served(place / "files", f"root://localhost:{port}/", process)
            finally:
                process.kill()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen) -> None:
    """Until something listens."""
    for _ in range(200):
        assert process.poll() is None, f"{process.args} ended with {process.returncode}"
        with contextlib.suppress(OSError), socket.create_connection(("localhost", port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens at {port}")


class Ranges(BaseHTTPRequestHandler):
    """GET and HEAD of files, in ranges unless `whole`; gives up after `dies_after` bytes of each answer."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *args: object, folder: Path, whole: bool, dies_after: int | None) -> None:
        self.folder, self.whole, self.dies_after = folder, whole, dies_after
        super().__init__(*args)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        file = self.folder / self.path.partition("?")[0].lstrip("/")
        if not file.is_file():
            self.send_error(404)
            return
        size, asked = file.stat().st_size, re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, stop = (int(asked[1]), min(int(asked[2]) + 1, size)) if asked and not self.whole else (0, size)
        self.send_response(206 if stop - start < size else 200)
        self.send_header("Content-Length", str(stop - start))
        self.send_header("Last-Modified", self.date_time_string(file.stat().st_mtime))
        if not self.whole:
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(file.read_bytes()[start:stop][: self.dies_after])
            self.close_connection = self.dies_after is not None

    def log_message(self, *args: object) -> None:
        """Says nothing."""


@contextlib.contextmanager
def web(folder: Path, *, whole: bool = False, dies_after: int | None = None,
        certificate: Path | None = None) -> Iterator[Served]:  # fmt: skip
    """The files of a folder at http://, or at https:// with a certificate."""
    handler = functools.partial(Ranges, folder=folder, whole=whole, dies_after=dies_after)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield Served(folder, f"{'https' if certificate else 'http'}://localhost:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()


def certificate(file: Path) -> Path:
    """A certificate for localhost that nobody vouches for, with its key."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl here")
    key = file.with_suffix(".key")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
               "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
               "-keyout", str(key), "-out", str(file)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    file.write_text(file.read_text() + key.read_text())
    return file


@contextlib.contextmanager
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 server without buckets, which this process finds by its environment; the address of its endpoint."""
    import s3fs
    from moto.server import ThreadedMotoServer

    s3fs.S3FileSystem.clear_instance_cache()  # of clients of another server
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        endpoint = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anybody")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "anything")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield endpoint
    finally:
        server.stop()
