"""Which files are meant, here or at URLs, and how a changed one is noticed."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import fsspec

from jetscale.config import Config
from jetscale.data.ingest.remote import absent, filesystem, is_url, reaching
from jetscale.errors import ConfigError, DataError, nearest

SUFFIXES = (".root", ".h5", ".hdf5", ".npz")
ENDS = 1 << 16
ASKED = ("root", "http", "https")  # protocols where `?` begins what the server is told
MAGIC = re.compile(r"[*?\[]")
MARKS = ("ETag", "etag", "Last-Modified", "LastModified", "mtime", "modified")


class Stamp(Config):
    """What a file was when it was looked at.

    `mark` changes when the file is written: nanoseconds of its last change here, the server's ETag or time of change
    elsewhere, "" where the server says nothing. `hash` begins with how it was made: `sha256:` of the whole content,
    `ends:` of size, mark and both ends.
    """

    size: int
    mark: str
    hash: str


def stamp(file: str, known: Stamp | None = None) -> Stamp:
    """A file's stamp; where size and mark are as `known`, its bytes are not read again.

    A local file is hashed whole. Of a file at a URL size, mark and the first and last 64 KiB are hashed, so that nobody
    transfers it twice: a change that keeps all of these is not noticed.

    Raises:
        DataError: it is not there, is no file, or cannot be read.
    """
    with reaching(file):
        return _stamp_of_url(file, known) if is_url(file) else _stamp_of_path(Path(file), known)


def _stamp_of_path(path: Path, known: Stamp | None) -> Stamp:
    status = path.stat()
    mark = str(status.st_mtime_ns)
    if known and (known.size, known.mark) == (status.st_size, mark):
        return known
    with path.open("rb") as stream:
        return Stamp(size=status.st_size, mark=mark, hash=f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}")


def _stamp_of_url(url: str, known: Stamp | None) -> Stamp:
    fs, path = filesystem(url)
    info = fs.info(path)
    if info.get("type") == "directory":
        raise DataError("is a folder, not a file", where=url, cure="end it with a slash to mean the files below it")
    if info.get("size") is None:
        raise DataError("the server does not say how large it is", where=url, cure="copy the file here")
    size = int(info["size"])
    mark = next((str(info[name]).strip('"') for name in MARKS if info.get(name)), "")
    if known and mark and (known.size, known.mark) == (size, mark):
        return known
    digest = hashlib.sha256(f"{size} {mark} ".encode())
    # Without a cache, which would read megabytes ahead.
    with fs.open(path, "rb", cache_type="none") as stream:
        digest.update(stream.read(min(ENDS, size)))
        stream.seek(max(0, size - ENDS))
        digest.update(stream.read(min(ENDS, size)))
    return Stamp(size=size, mark=mark, hash=f"ends:{digest.hexdigest()}")


def find(patterns: Sequence[str], where: str) -> list[str]:
    """The files that are meant, each once, in natural order (x_2 before x_10): absolute paths, and URLs.

    A pattern is a path or URL; one with `*`, `?`, `[ab]` in the names of files or folders, `**` for folders of any
    depth, `{a,b}` for either; a folder, which stands for all *.root, *.h5, *.hdf5 and *.npz below it; or `@LIST.txt`,
    a file with one of all these a line, relative to its own folder, where empty lines and those with `#` are passed
    over. Hidden files are only found by a pattern that has the dot. At https:// nothing can be listed, so `*` and
    folders do not work there; there and at root:// `?` begins what the server is told. Whether a URL without `*` exists
    is seen when it is read. `where` names the job.

    Raises:
        ConfigError: a pattern that cannot be meant.
        DataError: nothing matches, no such list, a package that is not installed, a server that does not answer.
    """
    files: list[str] = []
    for pattern, place in _listed(patterns, where):
        for choice in _choices(pattern):
            files += _at_url(choice, place) if is_url(choice) else _here(choice, place)
    found: dict[str, str] = {}
    for file in sorted(files, key=_natural):
        found.setdefault(_identity(file), file)
    return list(found.values())


def _listed(patterns: Sequence[str], where: str) -> Iterator[tuple[str, str]]:
    """Every pattern with the place that it stands in; those in lists become absolute."""
    for pattern in patterns:
        if not pattern.startswith("@"):
            yield pattern, where
            continue
        file = Path(pattern[1:]).expanduser()
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as problem:
            said = problem.strerror if isinstance(problem, OSError) else "it is not text"
            raise DataError(f"the list {file} cannot be read: {said}", where=where,
                            cure="@ stands before a text file here, with one path or URL a line") from None  # fmt: skip
        kept = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
        kept = [(number, line) for number, line in kept if not line.startswith("#")]
        if not kept:
            raise DataError(f"the list {file} names no files", where=where, cure="write one path or URL a line")
        for number, line in kept:
            yield line if is_url(line) else str(file.parent / Path(line).expanduser()), f"{file}, line {number}"


def _choices(pattern: str) -> list[str]:
    """`x_{a,b}.root` as `x_a.root` and `x_b.root`, unless a file has that very name."""
    inner = re.search(r"\{([^{}]*,[^{}]*)\}", pattern)
    if not inner or (not is_url(pattern) and Path(pattern).exists()):
        return [pattern]
    ends = pattern[: inner.start()], pattern[inner.end() :]
    return [one for middle in inner[1].split(",") for one in _choices(middle.join(ends))]


def _here(pattern: str, where: str) -> list[str]:
    path = Path(pattern).expanduser().absolute()
    real, text = os.path.realpath(path), os.path.normpath(path)
    if path.exists() and real != os.path.realpath(text):
        text = real  # behind a link, `..` is not the name before
    if path.is_file():
        return [text]
    fs = fsspec.filesystem("file")
    return _below(fs, text, where) if path.is_dir() else _globbed(fs, text, pattern, where)


def _at_url(url: str, where: str) -> list[str]:
    protocol, rest = url.lower().partition("://")[0], url.partition("://")[2]
    if protocol == "file":
        return _here(rest, where)
    fs, path = filesystem(url)
    if protocol in ("http", "https"):
        if re.search(r"[*\[\]]", rest.partition("?")[0].partition("/")[2]) or url.endswith("/"):
            raise ConfigError(f"{url!r}: {protocol}:// servers do not list their files", where=where,
                              cure="write one URL a line into a file, and give it as @LIST.txt")  # fmt: skip
        return [url]
    if MAGIC.search(path.partition("?")[0] if protocol in ASKED else path):
        return _globbed(fs, path, url, where)
    if not url.lower().endswith(SUFFIXES) and _is_folder(fs, path):
        return _below(fs, path, where)
    return [url]


def _is_folder(fs: Any, path: str) -> bool:
    members = _listing(fs, path)
    return members is not None and [one["name"] for one in members] != [path]


def _below(fs: Any, folder: str, where: str) -> list[str]:
    """All files in the formats that are read, below a folder."""
    files = [_name(fs, file) for file in _readable(fs, folder)]
    if not files:
        raise DataError(f"no {', '.join(f'*{suffix}' for suffix in SUFFIXES)} below {_name(fs, folder)}",
                        where=where, cure="give a pattern, if their names end otherwise")  # fmt: skip
    return files


def _globbed(fs: Any, path: str, pattern: str, where: str) -> list[str]:
    """The files that match a pattern, and those below folders that do."""
    parts = path.split("/")
    # The last name is looked for among its neighbours, pattern or not.
    fixed = next((n for n, part in enumerate(parts) if MAGIC.search(part)), len(parts) - 1)
    folder, rest = "/".join(parts[:fixed]) or fs.root_marker, parts[fixed:]
    files = [_name(fs, file) for file in _matching(fs, folder, rest)]
    if not files:
        raise DataError(f"{pattern!r} matches no file", where=where, cure=_nearby(fs, folder, rest[0]))
    return files


def _matching(fs: Any, folder: str, parts: Sequence[str]) -> Iterator[str]:
    """Lists only what matches; fsspec's `glob` would take a folder that cannot be listed for an empty one."""
    yield from _among(fs, list(_members(fs, folder)), parts)


def _among(fs: Any, members: Sequence[tuple[str, bool]], parts: Sequence[str]) -> Iterator[str]:
    first, *rest = parts
    if first == "**":
        yield from _among(fs, members, rest or ["*"])
    for path, is_folder in members:
        if _last(path).startswith(".") and not first.startswith("."):
            continue
        if first == "**":
            yield from _matching(fs, path, parts) if is_folder else ()
        elif fnmatchcase(_last(path), first) and (rest or is_folder):
            yield from _matching(fs, path, rest) if rest else _readable(fs, path)
        elif fnmatchcase(_last(path), first):
            yield path


def _readable(fs: Any, folder: str) -> Iterator[str]:
    for path, is_folder in _members(fs, folder):
        if is_folder and not _last(path).startswith("."):
            yield from _readable(fs, path)
        elif path.lower().endswith(SUFFIXES) and not _last(path).startswith("."):
            yield path


def _members(fs: Any, folder: str) -> Iterator[tuple[str, bool]]:
    """The paths in a folder, each with whether it is a folder again; nothing where there is no such folder."""
    for member in _listing(fs, folder) or ():
        path = f"{folder.rstrip('/')}/{_last(member['name'])}" if folder else _last(member["name"])
        link = bool(member.get("islink"))
        if member["name"].rstrip("/") != folder and not (link and _returns(path)):
            yield path, member["type"] == "directory" or (link and Path(path).is_dir())


def _returns(path: str) -> bool:
    """Whether a link points to the folder that it stands in, or to one above."""
    target = Path(os.path.realpath(path))
    return Path(os.path.realpath(Path(path).parent)).is_relative_to(target)


def _listing(fs: Any, folder: str) -> list[dict[str, Any]] | None:
    """What stands in a folder; None if it is not there."""
    with reaching(_name(fs, folder)):
        try:
            return list(fs.ls(folder, detail=True))
        except Exception as problem:
            if absent(problem):
                return None
            raise


def _last(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _name(fs: Any, path: str) -> str:
    return path if fs.protocol[0] == "file" else str(fs.unstrip_protocol(path))


def _nearby(fs: Any, folder: str, name: str) -> str:
    """The names that are there, where the first part of a path is not."""
    above, _, last = folder.rpartition("/")
    if last and _listing(fs, folder) is None:
        # Who may read a bucket may seldom list the others.
        return _nearby(fs, above or fs.root_marker, last) if above or fs.root_marker else f"there is no bucket {last!r}"
    names = [_last(path) for path, _ in _members(fs, folder) if not _last(path).startswith(".")]
    return f"in {_name(fs, folder)} there is no {name!r}; {nearest(name, names)}"


def _identity(file: str) -> str:
    """Equal for two names of one file."""
    if not is_url(file):
        return os.path.realpath(file)
    fs, path = filesystem(file)
    return str(fs.unstrip_protocol(path))


def _natural(file: str) -> list[str | int]:
    return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", file)]
