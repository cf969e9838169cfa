"""Monte Carlo from a YAML file: one Ray task a shard, the same events whatever the number of workers.

A shard is a pure function of the job and its number. Its file carries the job and the counts behind it in the Parquet
metadata, so that a folder half made can be completed, and one made from another job is recognised.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import jetscale
from jetscale.config import Values, build, difference, read_yaml
from jetscale.data import labelled, pythia
from jetscale.data.cluster import cluster
from jetscale.data.jet_process import JetJob
from jetscale.data.process import GenerateJob, Selection
from jetscale.data.truth import Floats, Particles, find_jets
from jetscale.data.work import each, said
from jetscale.errors import ConfigError, DataError, GenerateError
from jetscale.events import MANIFEST, Manifest, Shard, describe_shard, ids_for, write_manifest, write_shard
from jetscale.schema import JET_EVENTS, SUBSTRUCTURE, WEIGHT, Schema, check
from jetscale.shape import shape

ENOUGH_TRIES = 2000  # before an acceptance is called too small
SHOWN = 5  # causes of failure that are listed
NOTE = "jetscale.generate"
SAMPLE = JET_EVENTS.plus(
    WEIGHT.but(unit="pb", missing=None, doc="the event's share of the cross section that passes the selection")
)
Job = GenerateJob | JetJob  # rows are events, or single jets
FIELDS = {"jet_parent_ancestry": "ancestry", "jet_parent_quark": "quark"}  # named otherwise than their columns


@dataclass(frozen=True)
class Made:
    """What it took to make a shard: events tried, rows accepted, cross sections in pb, and by which Pythia."""

    tried: int
    accepted: int
    generated_pb: float
    selected_pb: float
    pythia: str


def columns(job: Job) -> Schema:
    """The columns of a job's sample."""
    if isinstance(job, JetJob):
        return labelled.columns(job)
    return SAMPLE.plus(*SUBSTRUCTURE.each()) if job.jets.substructure else SAMPLE


def load(path: Path, events: int | None = None, seed: int | None = None) -> Job:
    """The job in a YAML file, with another number of events or another seed where these are given.

    Raises:
        ConfigError: not a `generate:` file, an unknown key, a mass that cannot be.
    """
    values = read_yaml(path)
    other = [key for key in values if key != "generate"]
    if other or not isinstance(values.get("generate"), dict):
        raise ConfigError(f"{other[0]!r} stands where 'generate' belongs" if other else "'generate' holds no keys",
                          where=str(path), cure="put everything under the one top key generate:")  # fmt: skip
    given = {key: value for key, value in (("events", events), ("seed", seed)) if value is not None}
    return _job({**values["generate"], **given}, str(path))


def _job(values: Values, where: str) -> Job:
    return build(JetJob, values, where) if "jets_of" in values else build(GenerateJob, values, where)


def generate(job: Job, out: Path) -> Iterator[Shard]:
    """Make what is missing of a sample, shard by shard as they are done, and its manifest when all of them are.

    Raises:
        ConfigError: the folder holds a sample made from another job; the difference is shown.
        GenerateError: shards that could not be made, with their numbers and causes; the others are kept.
    """
    _refuse_other(job, out)
    for leftover in out.glob(".shard-*.part"):
        leftover.unlink()
    hashes = _hashes(out)
    kept = {number: shard for number in range(job.shards) if (shard := _kept(job, number, out, hashes))}
    yield from kept.values()
    missing = [number for number in range(job.shards) if number not in kept]
    causes: dict[int, str] = {}
    for number, result in _by_ray(job, missing) if missing else ():
        try:
            if isinstance(result, Exception):
                raise result
            yield _write(job, number, out, *result)
        except Exception as problem:  # whatever ends a shard must not end the others
            causes[number] = said(problem)
    if causes:
        raise GenerateError(f"{len(causes)} of {job.shards} shards were not made\n{_listed(causes)}", where=str(out),
                            cure="run the same command again: it makes only what is missing")  # fmt: skip
    write_manifest(_manifest(job, out), out)


def make_shard(job: Job, number: int, out: Path) -> Shard:
    """Make one shard of a sample in this process and write it.

    Raises:
        GenerateError: Pythia or fastjet are missing or refuse, or hardly any event passes the selection.
    """
    return _write(job, number, out, *make_table(job, number))


def make_table(job: Job, number: int) -> tuple[pa.Table, Made]:
    """The rows of one shard, columns as `columns` says, and what it took; a function of the job and the number alone.

    Raises:
        GenerateError: Pythia or fastjet are missing or refuse, or hardly any event passes the selection.
    """
    seed = _seed(job, number)
    generator = pythia.start(job, seed)
    tried, found, weights = 0, [], []
    for tries, rows, of_rows in _selected(generator, job, seed):
        tried += tries
        found.append(rows)
        weights.append(of_rows)
        accepted = sum(map(len, weights))
        if accepted >= job.rows(number):
            break
        if tried >= ENOUGH_TRIES and accepted < job.min_acceptance * tried:
            raise _too_few(job, tried, accepted, generator.infoPython().nAccepted())
    weight = np.concatenate(weights)
    info = generator.infoPython()
    generated_pb = info.sigmaGen() * pythia.PB
    made = Made(
        tried=tried,
        accepted=accepted,
        generated_pb=generated_pb,
        selected_pb=generated_pb * float(weight.sum()) / info.weightSum(),
        pythia=pythia.version(generator),
    )
    return _table(job, number, pa.concat_tables(found), weight, made), made


def _selected(generator: Any, job: Job, seed: int) -> Iterator[tuple[int, pa.Table, Floats]]:
    """Events tried since the last batch, and the rows and the generator's weights of what is selected; without end."""
    if isinstance(job, JetJob):
        draws = np.random.default_rng(seed)
        for whole in pythia.whole_batches(generator):
            if len(whole.particles):
                yield whole.tries, *labelled.find_labelled(whole.particles, job, draws)
            else:
                yield whole.tries, labelled.found(job).arrow.empty_table(), np.zeros(0)
    else:
        for batch in pythia.batches(generator, job):
            yield batch.tries, *_events(batch.particles, job)


def _events(particles: Particles, job: GenerateJob) -> tuple[pa.Table, Floats]:
    """The events that pass the selection, with all columns but the id and the weight, and their weights (B,)."""
    schema = columns(job)
    wanted = schema.only(name for name in schema.names if name not in ("event_id", "weight"))
    if not len(particles):
        return wanted.arrow.empty_table(), np.zeros(0)
    jets = find_jets(particles, job.jets)
    chosen = passes(jets, job.select)
    jets, weight = jets[chosen], particles.weight_B[ak.to_numpy(chosen)]
    found: dict[str, Any] = {
        "true_mass": np.full(len(weight), job.true_mass), "decay_mode": np.full(len(weight), job.decay_mode)
    }  # fmt: skip
    offsets = np.concatenate([[0], np.cumsum(ak.to_numpy(ak.num(jets, axis=1)))]).astype(np.int32)
    for column in wanted.each():
        if column.of:
            flat = ak.to_numpy(ak.flatten(jets[FIELDS.get(column.name, column.name.removeprefix("jet_"))]))
            found[column.name] = pa.ListArray.from_arrays(offsets, flat)
    arrays = [pa.array(found[column.name]).cast(column.arrow) for column in wanted.each()]
    return pa.table(arrays, schema=wanted.arrow), weight


def passes(jets: ak.Array, select: Selection) -> ak.Array:
    """Which events have enough hard jets and enough HT: (B,) bool."""
    return (ak.sum(jets.pt > select.pt, axis=1) >= select.jets) & (ak.sum(jets.pt, axis=1) > select.ht)


def _seed(job: Job, number: int) -> int:
    """Pythia's seed, 1 to 900,000,000."""
    text = f"{job.digest()} {job.seed} {number}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % 900_000_000 + 1


def _table(job: Job, number: int, table: pa.Table, weight: np.ndarray, made: Made) -> pa.Table:
    """The shard's rows, with ids and weights. These sum to the shard's share of the selected cross section, so that
    those of the whole sample sum to the mean over its shards."""
    rows = job.rows(number)
    table, weight = table.slice(0, rows), weight[:rows]
    share_pb = made.selected_pb * rows / job.events
    schema = columns(job)
    table = table.append_column("event_id", pa.array(ids_for(job.digest(), number, np.arange(rows))))
    table = table.append_column("weight", pa.array(share_pb * weight / weight.sum()))
    return table.select(list(schema.names)).combine_chunks().cast(schema.arrow)


def _too_few(job: Job, tried: int, accepted: int, whole: int) -> GenerateError:
    counts = f"tried {tried}, accepted {accepted}, failed in Pythia {tried - whole}"
    if isinstance(job, JetJob):
        return GenerateError(f"hardly any event has a jet of {job.jets_of}: {counts}", where=job.name,
                             cure="widen pt: and abs_eta:, raise pthat_min towards the smallest pt, or lower "
                             "min_acceptance")  # fmt: skip
    what, select = f"hardly any event passes: {counts}", job.select
    cure = (f"loosen select: (now {select.jets} jets above {select.pt:g} GeV, HT above {select.ht:g} GeV), raise the "
            "mass or pthat_min, or lower min_acceptance")  # fmt: skip
    if whole == 0:
        cure = "Pythia could not make a single event: check the mass and the quarks"
        charge_3 = sum((-1 if quark % 2 else 2) * (1 if quark > 0 else -1) for quark in job.decay_quarks)
        last_3 = 0 if job.signal is None or job.signal.cascade else job.signal.charge_3
        if charge_3 != last_3:
            cure = (f"quarks {list(job.decay_quarks)} carry the charge {charge_3:+d}/3, what decays to them "
                    f"{last_3:+d}/3: check their signs")  # fmt: skip
    return GenerateError(what, where=job.name, cure=cure)


def _file(out: Path, number: int) -> Path:
    return out / f"shard-{number:05d}.parquet"


def _write(job: Job, number: int, out: Path, table: pa.Table, made: Made) -> Shard:
    note = {"job": job.values(), "shard": number, "made": asdict(made)}
    return write_shard(table, _file(out, number), columns(job), notes={NOTE: json.dumps(note)})


def _note(file: Path) -> dict[str, Any] | None:
    """What `generate` noted in a shard; None for a file that it did not finish."""
    try:
        notes = pq.read_schema(file).metadata or {}
        note = json.loads(notes[NOTE.encode()])
    except (OSError, pa.ArrowException, KeyError, json.JSONDecodeError):
        return None
    return note if isinstance(note, dict) else None


def _job_of(note: dict[str, Any], file: Path) -> Job:
    """The job that made a shard; jets of before there was a field had straight tracks."""
    values: Values = note["job"]
    return _job({"field": 0, **values} if "jets_of" in values and values.get("tracks", True) else values, str(file))


def _refuse_other(job: Job, out: Path) -> None:
    cure = "choose another --out"
    notes = {file: note for file in sorted(out.glob("*.parquet")) if (note := _note(file))}
    if (out / MANIFEST).exists() and not notes:
        raise ConfigError("holds a sample that jetscale generate did not make", where=str(out), cure=cure)
    for file, note in notes.items():
        lines = difference(_job_of(note, file), job)
        if lines:
            shown = "\n  ".join(lines)
            raise ConfigError(f"holds a sample made from another job:\n  {shown}", where=str(out),
                              cure=f"{cure}, or take back the change")  # fmt: skip


def _hashes(out: Path) -> dict[str, str]:
    """Shard file -> sha256, by the manifest of a sample that was once complete."""
    file = out / MANIFEST
    manifest = build(Manifest, json.loads(file.read_text()), str(file)) if file.exists() else None
    return {shard.file: shard.sha256 for shard in manifest.shards} if manifest else {}


def _kept(job: Job, number: int, out: Path, hashes: Mapping[str, str]) -> Shard | None:
    """The shard as it stands on disk, if it is there and whole."""
    file = _file(out, number)
    if _note(file) is None:
        return None
    try:
        check(pq.read_table(file, partitioning=None), columns(job), str(file))
    except (OSError, pa.ArrowException, DataError):
        return None
    shard = describe_shard(file)
    whole = shard.rows == job.rows(number) and shard.sha256 == hashes.get(shard.file, shard.sha256)
    return shard if whole else None


def _by_ray(job: Job, numbers: Sequence[int]) -> Iterator[tuple[int, tuple[pa.Table, Made] | Exception]]:
    """Every shard or what ended it, as they come; written by the caller, so that the workers need no common disk."""
    tasks = {f"shard {number}": (number,) for number in numbers}
    with cluster(shape("laptop")):
        for name, result in each(make_table, job, tasks, retries=0):
            yield tasks[name][0], result


def _listed(causes: dict[int, str]) -> str:
    """Shards with the same cause on one line, and not more than a few lines."""
    alike: dict[str, list[int]] = {}
    for number, cause in sorted(causes.items()):
        alike.setdefault(cause, []).append(number)
    lines = [f"  shard {', '.join(map(str, numbers))}: {cause}" for cause, numbers in alike.items()]
    more = [f"  and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "\n".join([*lines[:SHOWN], *more])


def _manifest(job: Job, out: Path) -> Manifest:
    files = [_file(out, number) for number in range(job.shards)]
    notes = [note for file in files if (note := _note(file))]
    made = [Made(**note["made"]) for note in notes]
    weights = np.concatenate([pq.read_table(file, columns=["weight"], partitioning=None)["weight"] for file in files])
    share = np.array([job.rows(number) for number in range(job.shards)]) / job.events
    versions = {"jetscale": jetscale.__version__, "fastjet": metadata.version("fastjet")}
    tried, accepted = sum(one.tried for one in made), sum(one.accepted for one in made)
    return Manifest(
        name=job.name,
        columns=columns(job).columns,
        shards=tuple(describe_shard(file) for file in files),
        cuts=job.cuts,
        made_by={
            "command": "generate",
            "job": job.values(),
            "digest": job.digest(),
            "versions": versions | {"pythia": made[0].pythia},
            "tried": tried,
            "accepted": accepted,
            "acceptance": accepted / tried,
            "generated_pb": float(share @ [one.generated_pb for one in made]),
            "selected_pb": float(share @ [one.selected_pb for one in made]),
            "effective_events": float(weights.sum() ** 2 / (weights**2).sum()),
        },
    )
