"""Where the files that ship beside the code lie: inside the installed package, or elsewhere in a clone."""

from __future__ import annotations

from pathlib import Path

from jetscale.errors import ConfigError, nearest

HERE = Path(__file__).parent
IN_A_CLONE = {"jobs": "jobs", "shapes": "cluster/shapes", "constraints.txt": "cluster/constraints.txt"}
SHIPPED = "shipped:"


def shipped(name: str) -> Path:
    """The folder `jobs` or `shapes`, or the file `constraints.txt`."""
    installed = HERE / name
    return installed if installed.exists() else HERE.parent / IN_A_CLONE[name]


def job_file(where: str) -> Path:
    """The file of a job: a path, or `shipped:NAME` for one of those that ship.

    Raises:
        ConfigError: no such job.
    """
    if not where.startswith(SHIPPED):
        path = Path(where)
        if not path.is_file():
            near = [str(one) for one in path.parent.glob("[!.]*.yaml")]
            raise ConfigError("no such job", where=where, cure=nearest(where, [*near, *_shipped_jobs()]))
        return path
    if where not in _shipped_jobs():
        raise ConfigError("no such job", where=where, cure=nearest(where, _shipped_jobs()))
    return shipped("jobs") / f"{where.removeprefix(SHIPPED)}.yaml"


def _shipped_jobs() -> list[str]:
    room = shipped("jobs")
    return [f"{SHIPPED}{file.relative_to(room).with_suffix('')}" for file in sorted(room.rglob("*.yaml"))]
