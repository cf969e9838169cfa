"""A user's own kind of derived column."""

import numpy as np
import pyarrow as pa
from torch import Tensor

from jetscale.derive import Derived
from jetscale.schema import Column, Schema


class Half(Derived):
    """Half of another column."""

    of: str

    def numbers(self) -> tuple[str, ...]:
        return (self.of,)

    def column(self, name: str, schema: Schema) -> Column:
        return schema[self.of].but(name=name)

    def make(self, table: pa.Table, key_B: Tensor) -> np.ndarray:
        return table[self.of].to_numpy() / 2
