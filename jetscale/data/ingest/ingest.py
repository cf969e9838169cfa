"""Files into a sample: each is looked at, then converted in parts; what is there already is kept.

out/_job.json         what decides the rows: the same command again must agree with it
out/_looks.jsonl      what was seen of every file, so that the next look is short
out/shard-*.parquet   named after what is in them: settings, content of the file, entries, scale of the weights
out/_manifest.json    last, renamed into place; a reader sees the sample as it was until then
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import NamedTuple, TypeVar

import jetscale
from jetscale.config import Values, digest, leaves
from jetscale.data.cluster import cluster
from jetscale.data.formats.open import close
from jetscale.data.ingest import golden
from jetscale.data.ingest.convert import FREE, Counts, Part, Recipe, convert, rescale, stamp
from jetscale.data.ingest.files import find
from jetscale.data.ingest.golden import Golden
from jetscale.data.ingest.job import Ingest
from jetscale.data.ingest.look import Seen, distinct, look_at, remembered, scale_of, together
from jetscale.data.ingest.remote import is_url
from jetscale.data.shards import check_folder
from jetscale.data.work import each, said
from jetscale.derive import content
from jetscale.errors import ConfigError, DataError, IngestError
from jetscale.events import MANIFEST, Manifest, Shard, describe_shard, read_manifest, write_manifest, write_text
from jetscale.lock import held
from jetscale.shape import shape

JOB = "_job.json"
LOCK = "_lock"
LIBRARIES = ("uproot", "awkward", "pyarrow")
SMALL = 50_000_000  # bytes
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # no file of the job is to blame for these
SHOWN = 10  # files that could not be converted and are named in the error


T = TypeVar("T")


class Progress(NamedTuple):
    """How far it is: files looked at, or entries converted. `bad` is what was just found to be unfit."""

    stage: str
    done: int
    of: int
    bad: str = ""


Working = Generator["Progress", None, T]  # says how far it is, and ends with a result


class Made(NamedTuple):
    """One shard and what became of the entries behind it."""

    shard: Shard
    counts: Counts


@dataclass(frozen=True)
class Work:
    """A job whose files are found, with what decides its rows; `mask` are the certified blocks, where there are any."""

    job: Ingest
    files: list[str]
    mask: Golden | None
    settings: Values
    out: Path

    @property
    def is_small(self) -> bool:
        """Whether it is one file of this machine that is converted before a Ray would have started."""
        first, *more = self.files
        return not more and not is_url(first) and Path(first).stat().st_size < SMALL


def prepare(job: Ingest, out: Path) -> Work:
    """Find the files, and refuse what cannot be meant before anything is started.

    Raises:
        ConfigError: no files, a golden JSON that is none, a folder that holds another sample or lies in one.
    """
    check_folder(out)
    mask = golden.load(Path(job.golden)) if job.golden else None
    work = Work(job, find(job.files, "ingest.files"), mask, _settings(job), out)
    _refuse_other(work)
    return work


def ingest(job: Ingest, out: Path, *, here: bool = False) -> Iterator[Progress]:
    """Convert what is missing of a sample, on Ray tasks or, if `here`, in this process.

    Every entry of every file is in one shard, or counted under the reason why it is not. Files that cannot be read are
    left out and named in the manifest; the others make the sample.

    Raises:
        ConfigError: settings that the files do not allow; a folder that holds another sample.
        IngestError: files that could not be converted, after all others were.
    """
    yield from converting(prepare(job, out), here=here)


def converting(work: Work, *, here: bool) -> Iterator[Progress]:
    """The same for a job that is prepared."""
    job, out, bad = work.job, work.out, dict[str, str]()
    out.mkdir(parents=True, exist_ok=True)
    busy = ConfigError("another jetscale ingest is at work here", where=str(out), cure="wait for it, or stop it")
    with held(out / LOCK, busy), ExitStack() as stack:
        stack.callback(close)
        if not here:
            stack.enter_context(cluster(shape("laptop")))
        _refuse_other(work)
        for part in out.glob(".*.part"):
            part.unlink()
        seen = yield from _seen(job, work.files, out, bad, here=here)
        common = together(seen, job.map)
        for file, why in common.bad.items():
            bad[file] = why
            yield Progress("looking", len(work.files), len(work.files), why)
        seen = [one for one in seen if one.file not in common.bad]
        recipe = Recipe(job, common.columns, common.weights, work.mask)
        made = yield from _converted(recipe, seen, work, bad, here=here)
        if made:
            left = {file: why for file, why in bad.items() if file not in {one.file for one, _ in made}}
            write_manifest(_manifest(recipe, made, common.absent, left), out)
            _sweep(out)
    if bad:
        what = f"{len(bad)} of {len(work.files)} files were not converted\n{_listed(bad, work.files)}"
        raise IngestError(what, where=str(out), cure="mend or leave out these files, and run the same command again")


def _settings(job: Ingest) -> Values:
    """What decides the rows, by content; defaults are left out, so that a new key makes no old sample another."""
    values = job.model_dump(mode="json", exclude=FREE, exclude_defaults=True)
    values["derive"] = {name: content(how) for name, how in job.derive.items()}
    if job.golden:
        values["golden"] = hashlib.sha256(Path(job.golden).read_bytes()).hexdigest()
    return values


def _refuse_other(work: Work) -> None:
    """A folder may hold this sample, whole or in part, made of some of these files, or nothing."""
    out, cure = work.out, "choose another --out"
    manifest = read_manifest(out) if (out / MANIFEST).is_file() else None
    if manifest and manifest.made_by.get("command") != "ingest":
        raise ConfigError("holds a sample that jetscale ingest did not make", where=str(out), cure=cure)
    shards = sorted(out.glob("*.parquet")) if out.is_dir() else []
    if (out / JOB).is_file() and shards:
        old, new = leaves(_settled(out / JOB)), leaves(work.settings)
        changed = [f"{key}: {old.get(key, '(absent)')} -> {new.get(key, '(absent)')}"
                   for key in {**old, **new} if old.get(key) != new.get(key)]  # fmt: skip
        if changed:
            shown = "\n  ".join(changed[:SHOWN])
            raise ConfigError(f"holds a sample that other settings have made:\n  {shown}", where=str(out),
                              cure=f"{cure}, or take back the change")  # fmt: skip
    elif strange := next((file for file in shards if not stamp(file)), None):
        raise ConfigError(f"holds {strange.name}, which jetscale ingest did not write", where=str(out), cure=cure)
    gone = [one["file"] for one in (manifest.made_by["files"] if manifest else ()) if one["file"] not in work.files]
    if gone:
        raise ConfigError(f"holds the events of {gone[0]}{f' and {len(gone) - 1} more files' if gone[1:] else ''}, "
                          "which this command does not name", where=str(out),
                          cure=f"name them too, or {cure}")  # fmt: skip


def _settled(file: Path) -> Values:
    """The settings that a folder's rows were made with."""
    try:
        values = json.loads(file.read_bytes())
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise DataError("is damaged", where=str(file), cure="remove it, and run the command that made this sample")
    return values


def _seen(job: Ingest, files: Sequence[str], out: Path, bad: dict[str, str], *,
          here: bool) -> Working[list[Seen]]:  # fmt: skip
    """The files that can be read and differ, in order; the others go to `bad`.

    One that cannot be read now and is in the sample already stays in it as it was.
    """
    found: dict[str, Seen] = {}
    before = _before(out, job)
    for done, (file, result) in enumerate(look_at(files, job.map, out, here=here), 1):
        if isinstance(result, str):
            bad[file] = result
            if file in before:
                found[file] = before[file]
                bad[file] += "\n  its events of before stay in the sample"
        else:
            found[file] = result
        yield Progress("looking", done, len(files), bad.get(file, ""))
    kept, twins = distinct([found[file] for file in files if file in found])
    for file, why in twins.items():
        bad[file] = why
        yield Progress("looking", len(files), len(files), why)
    return kept


def _before(out: Path, job: Ingest) -> dict[str, Seen]:
    """The files of the sample that stands in the folder, as they were then."""
    if not (out / MANIFEST).is_file():
        return {}
    hashes = {one["file"]: one["hash"] for one in read_manifest(out).made_by["files"]}
    known = remembered(out, job.map)
    return {file: one for file, one in known.items() if hashes.get(file) == one.stamp.hash}


def _converted(recipe: Recipe, seen: Sequence[Seen], work: Work, bad: dict[str, str], *,
               here: bool) -> Working[list[tuple[Seen, list[Made]]]]:  # fmt: skip
    """The files with their shards, in order. One that fails goes to `bad`, and the scale of the others follows."""
    if seen:
        recipe.schema  # noqa: B018 (refuses here what would otherwise be refused in every task)
        write_text(work.out / JOB, json.dumps(work.settings, indent=1) + "\n")
    made: dict[Part, Made] = {}
    scale = None
    while seen and scale != (now := scale_of(recipe.job, seen)):
        scale = now
        made, failed = yield from _round(recipe, seen, scale, work.out, here=here)
        bad |= failed
        seen = [one for one in seen if one.file not in failed]
    return [(one, [made[part] for part in _parts(recipe.job, one)]) for one in seen]


def _round(recipe: Recipe, seen: Sequence[Seen], scale: float, out: Path, *,
           here: bool) -> Working[tuple[dict[Part, Made], dict[str, str]]]:  # fmt: skip
    """Every part with its weights at one scale, and why files failed."""
    places = {part: out / _name(recipe, part, scale) for one in seen for part in _parts(recipe.job, one)}
    known = {shard.file: shard for shard in read_manifest(out).shards} if (out / MANIFEST).is_file() else {}
    made = {part: whole for part, file in places.items() if (whole := _whole(file, known))}
    missing = {f"converting {part.file} [{part.start}]": part for part in places if part not in made}
    tasks = {name: (part, scale, places[part], _sibling(places[part])) for name, part in missing.items()}
    failed: dict[str, str] = {}
    done, total = sum(one.counts.entries for one in made.values()), sum(one.look.entries for one in seen)
    yield Progress("converting", done, total)
    for name, result in each(_make, recipe, tasks, here=here):
        part, why = missing[name], ""
        if isinstance(result, OSError) and result.errno in FULL:
            raise IngestError(f"cannot be written: {os.strerror(result.errno)}", where=str(out),
                              cure="make room there, and run the same command again") from result  # fmt: skip
        if isinstance(result, Exception):
            why = "" if part.file in failed else said(result, part.file)
            failed.setdefault(part.file, why)
        elif not places[part].is_file():
            raise IngestError(f"{places[part].name} was written, but cannot be seen from here", where=str(out),
                              cure="choose an --out that all nodes share")  # fmt: skip
        else:
            made[part] = result
            done += result.counts.entries
        yield Progress("converting", done, total, why)
    return made, failed


def _parts(job: Ingest, one: Seen) -> list[Part]:
    """A file in ranges of entries, one for each shard."""
    size, entries = job.events_per_shard, one.look.entries
    return [Part(one.file, one.stamp, one.look.key, start, min(start + size, entries))
            for start in range(0, entries, size)]  # fmt: skip


def _make(recipe: Recipe, part: Part, scale: float, file: Path, sibling: Path | None) -> Made:
    """One shard: of the file, or of the same shard with another scale."""
    return Made(*(rescale(recipe, sibling, scale, file) if sibling else convert(recipe, part, scale, file)))


def _name(recipe: Recipe, part: Part, scale: float) -> str:
    rows = digest([recipe.digest, part.stamp.hash, part.key, part.start, part.stop])
    return f"shard-{rows}-{digest(scale)[:6]}.parquet"


def _whole(file: Path, known: Mapping[str, Shard]) -> Made | None:
    """The shard as it stands on disk, if it is there and whole."""
    if not (note := stamp(file)):
        return None
    shard, counts = known.get(file.name) or describe_shard(file), Counts.of(note)
    return Made(shard, counts) if shard.rows == counts.kept else None


def _sibling(file: Path) -> Path | None:
    """The same rows with another scale of the weights."""
    rows, _ = file.stem.rsplit("-", 1)
    return next((one for one in sorted(file.parent.glob(f"{rows}-*.parquet")) if stamp(one)), None)


def _sweep(out: Path) -> None:
    """Remove shards of ours that the manifest does not name: of files that changed, and of another scale."""
    named = {shard.file for shard in read_manifest(out).shards} if (out / MANIFEST).is_file() else set()
    for file in out.glob("shard-*.parquet"):
        if file.name not in named and stamp(file):
            file.unlink()


def _listed(bad: Mapping[str, str], files: Sequence[str]) -> str:
    """The first few, in the order of the files."""
    lines = ["  " + bad[file].replace("\n", "\n  ") for file in files if file in bad]
    more = [f"  and {len(lines) - SHOWN} more, in {MANIFEST}"] if len(lines) > SHOWN else []
    return "\n".join([*lines[:SHOWN], *more])


def _manifest(recipe: Recipe, made: Sequence[tuple[Seen, list[Made]]], absent: Sequence[str],
              bad: Mapping[str, str]) -> Manifest:  # fmt: skip
    job, total = recipe.job, Counts()
    files = []
    for one, parts in made:
        counts = Counts()
        for part in parts:
            counts = counts.plus(part.counts)
        total = total.plus(counts)
        files.append({"file": one.file, "size": one.stamp.size, "hash": one.stamp.hash, "key": one.look.key,
                      "sum_weight": one.look.sum_weight, **counts.values(),
                      "shards": [part.shard.file for part in parts]})  # fmt: skip
    versions = {"jetscale": jetscale.__version__, **{name: metadata.version(name) for name in LIBRARIES}}
    return Manifest(
        name=job.name,
        columns=recipe.schema.columns,
        shards=tuple(part.shard for _, parts in made for part in parts),
        cuts={"keep": job.values()["keep"], "select": job.values()["select"], "golden": job.golden},
        made_by={
            "command": "ingest",
            "job": job.values(),
            "digest": recipe.digest,
            "versions": versions,
            **total.values(),
            "scale": scale_of(job, [one for one, _ in made]),
            "absent": list(absent),
            "files": files,
            "bad": dict(bad),
        },
    )
