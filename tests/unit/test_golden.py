"""The golden JSON: certified blocks, both ends included, however the file is ordered."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetscale.data.ingest.golden import load
from jetscale.errors import ConfigError

STRETCH = st.tuples(st.integers(0, 30), st.integers(0, 10)).map(lambda pair: [pair[0], pair[0] + pair[1]])


@given(st.dictionaries(st.integers(1, 4), st.lists(STRETCH, max_size=5), max_size=4))
def test_the_mask_is_what_a_search_through_all_stretches_says(tmp_path_factory, runs):
    file = tmp_path_factory.mktemp("golden") / "golden.json"
    file.write_text(json.dumps(runs))
    run_B, block_B = (part.ravel() for part in np.meshgrid(np.arange(6), np.arange(45)))
    plain = [any(low <= block <= high for low, high in runs.get(int(run), [])) for run, block in
             zip(run_B, block_B, strict=True)]  # fmt: skip
    assert load(file).certified(run_B.astype(np.uint32), block_B.astype(np.uint32)).tolist() == plain


@pytest.mark.parametrize(
    ("text", "said"),
    [("[1]", "a list"), ("{", "not JSON"), ('{"a": [[1, 2]]}', "run 'a'"), ('{"1": [[1, 2, 3]]}', "run '1'"),
     ('{"1": [[3, 2]]}', "ends before"), ('{"1": "x"}', "run '1'"), ('{"1": null}', "run '1'"),
     ('{"1": [1, 2]}', "run '1'"), ('{"1": [[1.5, 2.5]]}', "run '1'")],
)  # fmt: skip
def test_other_files_are_refused(tmp_path, text, said):
    file = tmp_path / "golden.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        load(file)


def test_an_end_beyond_all_blocks_is_in_its_own_run(tmp_path):
    (tmp_path / "golden.json").write_text('{"1": [[5, 99999999999]], "3": []}')
    run_B, block_B = np.array([1, 1, 2, 3]), np.array([4, 4294967295, 7, 7])
    assert load(tmp_path / "golden.json").certified(run_B, block_B).tolist() == [False, True, False, False]


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.json: cannot be read"):
        load(tmp_path / "none.json")
