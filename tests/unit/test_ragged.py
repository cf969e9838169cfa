"""Rows picked, cut and put together are the rows that Arrow gives."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetscale.data.ragged import Piece, flattened, take, together
from jetscale.data.source import cut
from jetscale.errors import DataError
from jetscale.schema import Column, Schema

SCHEMA = Schema(
    columns=(
        Column(name="event_id", dtype="int64", unit="", doc=""),
        Column(name="jet_pt", of="jet", dtype="float32", unit="", doc=""),
        Column(name="jet_label", of="jet", dtype="int8", unit="", doc=""),
        Column(name="track_pt", of="track", dtype="float32", unit="", doc=""),
    )
)


def made(jets: list[int], seed: int = 0, chunks: int = 1) -> pa.Table:
    """Events with so many jets, and with one track more."""
    dice = np.random.default_rng(seed)

    def lists(counts: list[int], dtype: str) -> list[np.ndarray]:
        return [(100 * dice.random(n)).astype(dtype) for n in counts]

    columns = {"event_id": np.arange(len(jets)) * 7, "jet_pt": lists(jets, "float32"),
               "jet_label": lists(jets, "int8"), "track_pt": lists([n + 1 for n in jets], "float32")}  # fmt: skip
    table = pa.table(columns, schema=SCHEMA.arrow)
    edges = np.linspace(0, len(jets), chunks + 1).astype(int)
    return pa.concat_tables([table.slice(low, high - low) for low, high in pairwise(edges)])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(1, 4), st.data())
def test_take_is_arrows(jets, chunks, data):
    table = made(jets, chunks=chunks)
    rows = np.array(data.draw(st.lists(st.integers(0, len(jets) - 1), max_size=40)), dtype=np.int64)
    assert take(table, rows).equals(table.take(pa.array(rows)))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(0, 35), st.data())
def test_pieces_are_slices(jets, n, data):
    table = made(jets)
    low = data.draw(st.integers(0, len(jets)))
    flat = flattened(table, SCHEMA, np.arange(float(len(jets))))
    used, rest = Piece(flat, low, len(jets)).cut(n)
    assert (used.low, used.high, rest.low, rest.high) == (low, min(low + n, len(jets)), used.high, len(jets))
    spans = [slice(*flat.bounds["jet"][[piece.low, piece.high]]) for piece in (rest, used)]
    expected = [*table["jet_pt"].slice(rest.low), *table["jet_pt"].slice(low, used.rows)]
    assert together([rest, used], "jet_pt", spans).tolist() == [pt for jets in expected for pt in jets.as_py()]
    assert used.weight_B.tolist() == list(range(used.low, used.high))
    assert used.id_B.tolist() == [7 * row for row in range(used.low, used.high)]


def test_lists_of_one_collection_are_equally_long():
    table = made([1, 2]).set_column(2, "jet_label", pa.array([[1], [1]], pa.list_(pa.int8())))
    with pytest.raises(DataError, match="jet_pt has 2 entries, jet_label has 1"):
        flattened(table, SCHEMA, np.ones(2))


@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_blocks_are_cut_wherever_items_end(blocks, items):
    rows = min(sum(blocks), sum(items))
    table = made([n % 4 for n in range(sum(blocks))])
    ends = np.cumsum(blocks)
    given_ = [table.slice(end - size, size) for end, size in zip(ends, blocks, strict=True)]
    wanted = [items[n] for n in range(len(items)) if sum(items[: n + 1]) <= rows]
    found = list(cut(given_, wanted))
    assert [part.num_rows for part in found] == wanted
    assert found == [] or pa.concat_tables(found).equals(table.slice(0, sum(wanted)))


def test_what_is_cut_no_longer_holds_the_block():
    table = made([3, 2, 4])
    (part,) = cut([table], [3])
    for name in ("event_id", "jet_pt"):
        before, after = ({buffer.address for buffer in one[name].chunk(0).buffers() if buffer} for one in (table, part))
        assert not before & after
