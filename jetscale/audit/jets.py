"""The jets of an events table as flat arrays, and as padded four-vectors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from jetscale.errors import DataError, nearest
from jetscale.metrics import Floats, Ints
from jetscale.physics import kinematics
from jetscale.schema import flat, one

MOMENTA = ("jet_pt", "jet_eta", "jet_phi", "jet_mass")


def check_jets(table: pa.Table, where: str) -> None:
    """Refuse a table without events, or without the momenta of jets.

    Raises:
        DataError: it is one.
    """
    for name in MOMENTA:
        if name not in table.column_names:
            raise DataError(f"column {name!r} is missing", where=where, cure=nearest(name, table.column_names))
    if not table.num_rows:
        raise DataError("has no events", where=where, cure="give a sample that has some")


def counts(table: pa.Table) -> Ints:
    """Jets of every event, (B,)."""
    count_B = pc.list_value_length(one(table["jet_pt"])).to_numpy(zero_copy_only=False)
    return np.asarray(count_B, dtype=np.int64)


def rows(table: pa.Table) -> Ints:
    """The event that every jet of the flat arrays lies in."""
    return np.repeat(np.arange(table.num_rows), counts(table))


def jet_columns(table: pa.Table) -> list[str]:
    """All columns that hold one number per jet."""
    return [field.name for field in table.schema if field.name.startswith("jet_") and pa.types.is_list(field.type)]


def momenta(table: pa.Table) -> dict[str, Floats]:
    """pt, eta, phi and mass of all jets, event after event, in double precision."""
    return {name: flat(table[name]).astype(np.float64) for name in MOMENTA}


def with_jets(table: pa.Table, columns: Mapping[str, np.ndarray]) -> pa.Table:
    """The table with other numbers in some columns of jets, in the types that they had."""
    ends = pa.array(np.concatenate([[0], np.cumsum(counts(table))]), pa.int32())
    for name, values in columns.items():
        field = table.schema.field(name)
        numbers = pa.array(values).cast(field.type.value_type)
        array = pa.ListArray.from_arrays(ends, numbers).cast(field.type)
        table = table.set_column(table.column_names.index(name), field, array)
    return table


def ht(table: pa.Table) -> Floats:
    """Scalar sum of the jets' pt in GeV, (B,)."""
    ht_B = np.bincount(rows(table), flat(table["jet_pt"]), minlength=table.num_rows)
    return np.asarray(ht_B, dtype=np.float64)


def vectors(table: pa.Table) -> tuple[Tensor, Tensor]:
    """Four-vectors (B, J, 4) in GeV in double precision, 0 where padded, and the mask (B, J) of real jets."""
    count_B = counts(table)
    mask_BJ = torch.arange(max(1, int(count_B.max(initial=0)))) < torch.from_numpy(count_B)[:, None]
    columns = []
    for values in momenta(table).values():
        padded_BJ = torch.zeros(mask_BJ.shape, dtype=torch.float64)
        padded_BJ[mask_BJ] = torch.from_numpy(values)
        columns.append(padded_BJ)
    return torch.where(mask_BJ[..., None], kinematics.p4(*columns), 0.0), mask_BJ
