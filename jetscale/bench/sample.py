"""The data that benchmarks run on: a sample of so many bytes of Parquet, made once from a seed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from jetscale.bench import particles
from jetscale.config import Values
from jetscale.errors import ConfigError
from jetscale.events import MANIFEST, Events, Manifest, Shard, write_manifest, write_shard
from jetscale.run import Run, resolve

ROWS_PER_SHARD = 25_000
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
SYSTEM = str(Path(particles.__file__))


def parse_size(text: str) -> int:
    """Bytes: `50MB`, `1GB`, `1.5G`.

    Raises:
        ConfigError: not a size.
    """
    found = re.fullmatch(r"([0-9.]+)\s*([KMG]?)B?", text.strip().upper())
    try:
        bytes_ = int(float(found[1]) * UNITS[found[2]]) if found else 0
    except ValueError:
        bytes_ = 0
    if bytes_ <= 0:
        raise ConfigError(f"{text!r} is not a size", where="--size", cure="write 50MB or 1GB")
    return bytes_


def sample(folder: Path, size: int, say: Callable[[str], None] = lambda _: None) -> Events:
    """A sample of jets with particles, at least `size` bytes of Parquet; one that is there already is taken as it is.

    Its last shard is cut so that it is not much more.
    """
    path = folder / f"particles-{size}"
    if (path / MANIFEST).is_file():
        return Events.open(path)
    task = particles.Particles()
    shards: list[Shard] = []
    done = 0
    while done < size:
        left = (size - done) * sum(shard.rows for shard in shards) / done if done else min(ROWS_PER_SHARD, size / 1500)
        table = task.toy(max(1, min(ROWS_PER_SHARD, int(left) + 1)), len(shards))
        file = path / f"shard-{len(shards):05d}.parquet"
        shards.append(write_shard(table, file, task.columns))
        done += file.stat().st_size
        say(f"{done / 1e6:,.0f} of {size / 1e6:,.0f} MB")
    made_by: Values = {"writer": "jetscale bench", "bytes": done}
    write_manifest(Manifest(name=path.name, columns=task.columns.columns, shards=tuple(shards), made_by=made_by), path)
    return Events.open(path)


def run_on(events: Events, scale: Values, split: Values | None = None) -> Run:
    """One epoch over the sample, of which every column is read; all its rows are for training unless split."""
    values = {
        "system": SYSTEM,
        "stream": {"samples": {"particles": {"events": str(events.path)}},
                   "split": split or {"train": 1, "validation": 0, "test": 0}},
        "scale": scale,
        "track": {"wandb": False},
    }  # fmt: skip
    return resolve([("bench", values)], "bench").run
