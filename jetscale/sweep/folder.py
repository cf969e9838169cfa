"""A sweep's folder: `sweep.yaml` says whose it is, `trials/` holds a run's folder for every trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jetscale.axes import VERB, Axis, Sweep, load
from jetscale.config import difference, dump_yaml
from jetscale.errors import ConfigError, JetscaleError
from jetscale.events import write_text

KEPT, TRIALS, LOCK = "sweep.yaml", "trials", ".lock"
GROWING = ("trials", "seeds")  # of a search: more of them leave those that are there as they are


def claim(sweep: Sweep, out: Path) -> None:
    """Write down that a folder is that of a sweep, or of one that it extends.

    Raises:
        ConfigError: the folder of another sweep, or of something else.
    """
    refuse_another(sweep, out)
    write_text(out / KEPT, dump_yaml({VERB: whole(sweep).values()}))


def refuse_another(sweep: Sweep, out: Path) -> None:
    """A folder may hold the same sweep with fewer values, draws or seeds, and no other.

    Raises:
        ConfigError: it holds another sweep, or something else.
    """
    if (out / KEPT).is_file():
        old = load(out / KEPT)
        if differs := difference(old, shrunk(whole(sweep), old)):
            raise ConfigError("holds another sweep; changed: " + "; ".join(differs), where=str(out),
                              cure="choose another --out, or remove this folder")  # fmt: skip
        return
    others = sorted(one.name for one in out.iterdir()) if out.is_dir() else []
    if others := [name for name in others if name != LOCK and not name.endswith(".log")]:
        raise ConfigError(f"holds {others[0]!r} and no sweep", where=str(out), cure="choose another --out")


def whole(sweep: Sweep) -> Sweep:
    """The same sweep with its job resolved inside it: what the folder keeps, so that a changed job is noticed."""
    return sweep.but(job=None, train=sweep.base().values(), set={}, against=None)  # which only the report looks at


def shrunk(new: Sweep, old: Sweep) -> Sweep:
    """The new sweep without what it has more of than the old one: values of a list, draws, seeds."""
    axes = {key: _shrunk(axis, old.axes.get(key)) for key, axis in new.axes.items()}
    how, before = new.search.values(), old.search.values()
    for kind, settings in how.items():
        for key in GROWING if settings and before[kind] else ():
            if key in settings and settings[key] > before[kind][key]:
                settings[key] = before[kind][key]
    return new.model_copy(update={"axes": axes, "search": type(new.search).model_validate(how)})


def _shrunk(axis: Axis, old: Axis | None) -> Axis:
    """A grid may have got more values; draws from a choice would become others."""
    if old is None or axis.grid is None or old.grid is None:
        return axis
    return axis.model_copy(update={"grid": old.grid}) if _within(old.grid, axis.grid) else axis


def _within(few: tuple[Any, ...], many: tuple[Any, ...]) -> bool:
    return all(one in many for one in few)


def busy(out: Path) -> JetscaleError:
    """What whoever comes second is told."""
    return ConfigError("another jetscale sweep is at work here", where=str(out),
                       cure="wait for it, stop it, or choose another --out")  # fmt: skip
