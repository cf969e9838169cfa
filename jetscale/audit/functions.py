"""The function that is looked at, a trained run's, a classical or a user's own: events in, one number each out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from jetscale import __version__, userfile
from jetscale.audit.jets import vectors
from jetscale.config import digest
from jetscale.data.batch import batch
from jetscale.data.rows import NOT_TRAINED, Rows, rows_of
from jetscale.derive import within
from jetscale.errors import ConfigError, DataError, nearest
from jetscale.events import ROW_GROUP, Events, Manifest
from jetscale.metrics import Floats
from jetscale.physics import classical
from jetscale.physics.groupings import reconstruct
from jetscale.run import Run
from jetscale.schema import JET_EVENTS, Column
from jetscale.task import At
from jetscale.train import checkpoint

CLASSICAL = "classical:"
MASS = "reco_mass"
MOST_MASSES = 30  # a training on more masses than this is one on a spectrum

Function = Callable[[pa.Table], Floats]
Kind = Literal["mass", "score"]


class Subject(NamedTuple):
    """A function (B,) of an events table, and what is known of it.

    A mass is in GeV and follows a change of all energies, a score does not. `trained_on` are the true masses in GeV
    that its training has seen, empty where there was none or nothing is known. `digest` names its content.
    """

    name: str
    function: Function
    kind: Kind = "mass"
    trained_on: tuple[float, ...] = ()
    digest: str = ""

    def __call__(self, table: pa.Table) -> Floats:
        """The value of every event, (B,).

        Raises:
            DataError: values of another shape, that are no numbers, or not finite.
        """
        try:
            values = np.asarray(self.function(table))
        except (ConfigError, DataError):
            raise
        except Exception as problem:  # the user's own code may raise anything
            raise DataError(f"fails with {type(problem).__name__}: {problem}", where=self.name,
                            cure="mend the function") from problem  # fmt: skip
        if values.shape != (table.num_rows,) or values.dtype.kind not in "fiub":
            raise DataError(f"gives {values.dtype} of shape {values.shape} for {table.num_rows} events",
                            where=self.name, cure="return one number per event")  # fmt: skip
        if odd := int(values.size - np.isfinite(values).sum()):
            raise DataError(f"gives {odd} values of {values.size} that are not finite", where=self.name,
                            cure="return a number for every event, 0 where there is none")  # fmt: skip
        return values.astype(np.float64)


def find(where: str, *, column: str = MASS, kind: Kind | None = None,
         trained_on: Sequence[float] | None = None) -> Subject:  # fmt: skip
    """The function that `classical:NAME`, `FILE.py:NAME`, or the folder of a trained run means.

    `column` is the output of a run that is looked at; what is in GeV is a mass. `trained_on` are masses in GeV, where
    they are not those in the run's samples.

    Raises:
        ConfigError: no such method, function, run or column.
        DataError: a sample of the run that cannot be read.
        TrainError: a run that is not trained to its end.
    """
    if where.startswith(CLASSICAL):
        name = where.removeprefix(CLASSICAL)
        subject = Subject(where, of_classical(name), digest=digest([name, __version__]))
    elif ".py:" in where:
        subject = _own(where)
    else:
        subject = of_run(Path(where), column, known=trained_on is not None)
    changes = {**({"kind": kind} if kind else {}), **({"trained_on": tuple(sorted(trained_on))} if trained_on else {})}
    return subject._replace(**changes)  # type: ignore[arg-type]


def of_classical(name: str) -> Function:
    """The mean mass of the two groups of a classical method.

    Raises:
        ConfigError: no such method.
    """
    method = classical.find(name)

    def mass(table: pa.Table) -> Floats:
        vectors_BJ4, mask_BJ = vectors(table)
        return reconstruct(vectors_BJ4, method(vectors_BJ4, mask_BJ)).mass_B.numpy()

    return mass


def of_run(folder: Path, column: str = MASS, *, known: bool = False) -> Subject:
    """A trained run's output column; `known` says that the training masses need not be looked up.

    Raises:
        ConfigError: not a run, or no such column of one number per event.
    """
    run, net = checkpoint.load(folder)
    columns = {one.name: one for one in run.task.outputs.each() if one.of is None}
    if column not in columns or run.stream.each:
        raise ConfigError(f"adds no number {column!r} to an event", where=str(folder), cure=nearest(column, columns))

    def value(table: pa.Table) -> Floats:
        rows = rows_of(run.stream, None, _in_memory(table), run.task.columns, run.seed, scored=True)
        parts = [_scored(run, net, rows, table.slice(start, ROW_GROUP), column)
                 for start in range(0, table.num_rows, ROW_GROUP)]  # fmt: skip
        return np.concatenate(parts)

    kind: Kind = "mass" if columns[column].unit == "GeV" else "score"
    trained_on = () if known else training_masses(run)
    return Subject(folder.resolve().name, value, kind, trained_on, str(checkpoint.read_data(folder)["run"]))


def training_masses(run: Run) -> tuple[float, ...]:
    """The true masses in GeV of the signal that a run was trained on; none where its task knows none.

    Raises:
        DataError: a sample that is not where it was.
    """
    found: set[float] = set()
    wanted = ["true_mass", "decay_mode"]
    for name in (name for name, source in run.stream.samples.items() if source.weight):
        table = truth(run, name, wanted)
        if table is not None:
            masses = np.unique(table["true_mass"].to_numpy())
            found |= {float(mass) for mass in masses if mass > 0}
    return tuple(sorted(found)) if len(found) <= MOST_MASSES else ()


def truth(run: Run, name: str, wanted: Sequence[str]) -> pa.Table | None:
    """Columns of a run's sample as its task sees them, of the rows that are selected; None if it has no such columns.

    Raises:
        DataError: a sample that is not where it was.
    """
    if any(column not in run.task.columns for column in wanted):
        return None
    events = Events.open(run.stream.samples[name].events)
    rows = rows_of(run.stream, name, events, run.task.columns.only(wanted), run.seed, scored=True)
    selects = {key: ends for key, ends in run.stream.select.items() if key in rows.layout.rows}
    names = list(dict.fromkeys([*wanted, *selects]))
    table = rows.make(events.read(rows.raw(names)), names, NOT_TRAINED)
    return table.filter(pa.array(within(table, selects))).select(list(wanted))


def _own(where: str) -> Subject:
    """`FILE.py:NAME`."""
    file, _, name = where.rpartition(":")
    module = userfile.load(Path(file))
    function = getattr(module, name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ConfigError(f"has no function {name!r}", where=file, cure=nearest(name, known))
    return Subject(f"{Path(file).stem}.{name}", function, digest=digest([name, Path(file).read_text()]))


def _in_memory(table: pa.Table) -> Events:
    """A table as an opened sample, as far as its columns go."""
    columns = tuple(_column(field) for field in table.schema)
    return Events(Path("the probed events"), Manifest(name="probed", columns=columns, shards=()))


def _column(field: pa.Field) -> Column:
    if field.name in JET_EVENTS:
        return JET_EVENTS[field.name]
    of = field.name.partition("_")[0] if pa.types.is_list(field.type) else None
    number = str(field.type.value_type if of else field.type).replace("double", "float64")
    return Column.model_validate({"name": field.name, "unit": "", "doc": "of the sample", "of": of,
                                  "dtype": "float32" if number == "float" else number})  # fmt: skip


def _scored(run: Run, net: nn.Module, rows: Rows, table: pa.Table, column: str) -> Floats:
    made = rows.make(table, run.task.columns.names, NOT_TRAINED)
    none_B = np.zeros(made.num_rows, dtype=np.int64)
    padded = batch([made], run.task.columns, np.ones(made.num_rows), none_B, np.arange(made.num_rows), At(0, 0, 1.0),
                   run.seed)  # fmt: skip
    with torch.no_grad():
        return run.task.score(net, padded)[column].double().numpy()
