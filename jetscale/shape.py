"""A Shape: what one worker is given, and what a Ray of one machine offers. The only seam between jobs and cluster."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from pydantic import Field

from jetscale.config import Config, build, read_yaml
from jetscale.errors import ConfigError, nearest


class Shape(Config):
    """One file of `cluster/shapes/`."""

    cpus_per_worker: float = Field(gt=0)
    gpus_per_worker: float = Field(0, ge=0)
    cpus_per_read: float = Field(0.25, gt=0, description="what one task of the Ray Data feed reserves")
    reads_per_worker: int = Field(2, gt=0, description="tasks of the Ray Data feed at a time, for each worker")
    local_cpus: int = Field(gt=0, description="logical CPUs of a Ray that is started on this machine")
    local_object_store: int = Field(gt=0, description="bytes of its object store")


def built_in(room: str) -> Path:
    """`jobs` or `shapes`: inside an installed package, or beside it in a clone."""
    package = Path(str(resources.files("jetscale")))
    beside = {"jobs": package.parent / "jobs", "shapes": package.parent / "cluster" / "shapes"}
    return package / room if (package / room).is_dir() else beside[room]


def shape(name: str) -> Shape:
    """The shape of a name.

    Raises:
        ConfigError: no such file, or a setting in it that cannot be.
    """
    file = built_in("shapes") / f"{name}.yaml"
    if not file.is_file():
        known = [path.stem for path in built_in("shapes").glob("*.yaml")]
        raise ConfigError(f"no shape {name!r}", where="scale.shape", cure=nearest(name, known))
    return build(Shape, read_yaml(file), str(file))
