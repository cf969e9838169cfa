"""Files at URLs: root://, s3://, https:// and whatever else fsspec finds a package for.

What a server wants to know (keys, an endpoint, anonymous access) is said where fsspec and its packages look for it:
`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `FSSPEC_S3='{"anon": true}'`, `X509_USER_PROXY`, ~/.config/fsspec/*.json.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec
from fsspec.core import url_to_fs

from jetscale.errors import ConfigError, DataError, JetscaleError, nearest

PACKAGES = {"root": "fsspec-xrootd", "s3": "s3fs", "http": "aiohttp", "https": "aiohttp"}
# XRootD and S3 would try a server that is not there for ten and for five minutes. What the user has set wins.
XROOTD = {"XRD_CONNECTIONWINDOW": "10", "XRD_CONNECTIONRETRY": "2", "XRD_STREAMTIMEOUT": "60",
          "XRD_REQUESTTIMEOUT": "180", "XRD_TIMEOUTRESOLUTION": "1"}  # fmt: skip
S3: dict[str, Any] = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 2}}
ABSENT = re.compile(r"\[3011\]|no such file|\b404\b|NoSuchKey|NoSuchBucket", re.IGNORECASE)
REFUSED = re.compile(r"credential|access denied|forbidden|auth|permission|\b40[13]\b", re.IGNORECASE)


def is_url(file: str) -> bool:
    """Whether a file is reached through a server (or any other `protocol://`) rather than by its path here."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", file) is not None


def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it.

    Raises:
        ConfigError: a protocol that nobody knows.
        DataError: its package is not installed, or the URL cannot be meant.
    """
    protocol = url.partition("://")[0].lower()
    finite_waits()  # before the package is loaded, as some look at the environment then
    # When Python ends, XRootD looks at every object there is; those of torch that will go complain on the screen.
    warnings.filterwarnings("ignore", category=FutureWarning, module="XRootD[.]")
    try:
        kind = fsspec.get_filesystem_class(protocol)
    except ImportError as problem:
        package = PACKAGES.get(protocol)
        tested = "of the tested version with pip install -c cluster/constraints.txt '.[remote]' in the clone"
        cure = f"pip install {package}, or {tested}" if package else str(problem)
        raise DataError(f"nothing here reads {protocol}://", where=url, cure=cure) from None
    except ValueError:
        raise ConfigError(f"no protocol {protocol!r}", where=url, cure=nearest(protocol, PACKAGES)) from None
    with reaching(url):
        # A remembered listing hides what others add, and that of XRootD's root also what is there.
        fs, path = url_to_fs(url, use_listings_cache=False)
        assert isinstance(fs, kind)
        return fs, path


def finite_waits() -> None:
    """See to it that a server that does not answer ends in an error; to be called before anything opens a URL."""
    for name, seconds in XROOTD.items():
        os.environ.setdefault(name, seconds)
    fsspec.config.conf.setdefault("s3", {}).setdefault("config_kwargs", dict(S3))


@contextmanager
def reaching(file: str) -> Iterator[None]:
    """Whatever goes wrong inside, between here and the bytes of a file, is an error of that file; no wait is endless.

    Raises:
        DataError: no such file, a server that does not answer, refuses, or goes away.
    """
    finite_waits()
    try:
        yield
    except JetscaleError:
        raise
    except Exception as problem:  # each package raises what it likes, and few of it are OSErrors
        raise unreached(file, problem) from None


def unreached(file: str, problem: Exception) -> DataError:
    """What a client's exception means, in words."""
    origin = _origin(problem)
    return DataError(_reason(origin), where=file, cure=_cure(origin))


def opened(file: str) -> BinaryIO:
    """The bytes of a file here or at a URL, from the start, to be closed after use; `reaching` names what fails later.

    Raises:
        DataError: it cannot be opened.
    """
    with reaching(file):
        if not is_url(file):
            return Path(file).open("rb")
        fs, path = filesystem(file)
        return cast(BinaryIO, fs.open(path, "rb"))


def absent(problem: Exception) -> bool:
    """Whether an error says that there is no such file or folder, rather than that nobody could look."""
    return isinstance(problem, FileNotFoundError | NotADirectoryError) or ABSENT.search(str(problem)) is not None


def _origin(problem: Exception) -> Exception:
    """Of whatever fails at https:// fsspec says that there is no such file; the cause knows better."""
    cause = problem.__cause__
    if isinstance(problem, FileNotFoundError) and isinstance(cause, Exception) and not absent(cause):
        return cause
    return problem


def _reason(problem: Exception) -> str:
    if absent(problem):
        return "is not there"
    if isinstance(problem, TimeoutError):
        return "the server does not answer in time"
    text = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
    # XRootD's packages put the call in front, with addresses of Python's objects.
    text = re.sub(r"^.*\[(ERROR|FATAL)\] ", "", re.sub(r"\s+", " ", text)).strip()
    return f"cannot be reached: {text or type(problem).__name__}"


def _cure(problem: Exception) -> str:
    if absent(problem):
        return "correct the path"
    if isinstance(problem, PermissionError) or REFUSED.search(f"{type(problem).__name__} {problem}"):
        return "give the credentials that the server wants (a grid proxy, AWS_ACCESS_KEY_ID), or ask for access"
    return "check the server's name and port, and whether it can be reached from here; then run again"
