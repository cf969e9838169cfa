"""The samples of a study at one size: found or generated, and the parts of them that are judged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jetscale.config import Values, build
from jetscale.data import generate, samples
from jetscale.data.process import GenerateJob
from jetscale.errors import DataError
from jetscale.events import MANIFEST, Events
from jetscale.study import FIXED, Found, Size, Study

FOLDER, PARTS = "samples", "parts"


def jobs(study: Study, size: Size) -> dict[str, GenerateJob]:
    """What must be generated for a size: a job per sample; none where those are taken that are there.

    Raises:
        ConfigError: a job that cannot be meant.
    """
    used = study.used(size) if size.generates else {}
    return {name: _job(study, size, name, sample.generate or {}) for name, sample in used.items()}


def _job(study: Study, size: Size, name: str, values: Values) -> GenerateJob:
    events = size.background_events if name == study.background else size.signal_events
    fixed = dict(zip(FIXED, (name, events, study.seed), strict=True))
    return build(GenerateJob, {**study.generate, **values, **fixed}, "study", under=f"samples.{name}.generate")


def generating(study: Study, size: Size, out: Path) -> Iterator[tuple[str, int, int]]:
    """Make what is missing, sample by sample and shard by shard: (name, events done, of)."""
    for name, job in jobs(study, size).items():
        done = 0
        for shard in generate.generate(job, out / FOLDER / name):
            done += shard.rows
            yield name, done, job.events


def places(study: Study, size: Size, out: Path) -> dict[str, str]:
    """Where every sample of a size lies, as a run's settings say it."""
    return {name: str((out / FOLDER / name).absolute()) if size.generates else str(sample.events)
            for name, sample in study.used(size).items()}  # fmt: skip


def found(study: Study, size: Size, out: Path) -> dict[str, Found]:
    """Where the samples lie and what they hold.

    Raises:
        DataError: a sample that is missing, a signal of several masses or decays, or a background that is signal.
    """
    held = {}
    for name, place in places(study, size, out).items():
        sample = Events.open(place)
        table = sample.read(["true_mass", "decay_mode"])
        masses, modes = (np.unique(table[column].to_numpy()) for column in ("true_mass", "decay_mode"))
        if len(masses) != 1 or len(modes) != 1 or (modes[0] == 0) != (name == study.background):
            have = f"true_mass {masses[:5].tolist()} and decay_mode {modes[:5].tolist()}"
            raise DataError(f"sample {name!r} has {have}", where=place,
                            cure="a signal has one mass and one decay, background has decay_mode 0")  # fmt: skip
        held[name] = Found(place, len(sample), float(masses[0]), int(modes[0]))
    return held


def expected(study: Study, size: Size) -> dict[str, Found]:
    """The same before anything is generated, from the jobs."""
    if not size.generates:
        return found(study, size, Path())
    return {name: Found(f"generated:{name}", job.events, job.true_mass, job.decay_mode)
            for name, job in jobs(study, size).items()}  # fmt: skip


def judged(study: Study, size: Size, out: Path) -> dict[str, Events]:
    """The events that methods are judged on: hold-outs whole, of the others the part that no training has seen."""
    events = {name: Events.open(place) for name, place in places(study, size, out).items()}
    return {name: sample if name in study.holdouts else samples.split(sample, out / PARTS / name, study.split)["test"]
            for name, sample in events.items()}  # fmt: skip


def complete(study: Study, size: Size, out: Path) -> bool:
    """Whether all samples are there."""
    return all((out / FOLDER / name / MANIFEST).is_file() for name in jobs(study, size))
