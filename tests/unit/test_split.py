"""Parts of a sample by a hash of the event id: shares or folds."""

import numpy as np
import pytest

from jetscale.config import Values, build
from jetscale.data.split import part_of
from jetscale.errors import ConfigError
from jetscale.run import Run, resolve
from jetscale.stream import Folds, Split, Stream, split_of

IDS = np.arange(30_000, dtype=np.int64)


def _run(split: Values, *sets: Values) -> Run:
    job = {"system": "assigner", "stream": {"samples": {"a": {"events": "a"}}, "split": split}}
    return resolve([("job", job), *(("--set", one) for one in sets)], "job").run


@pytest.mark.parametrize("k", [3, 5, 10])
def test_every_event_is_tested_once_and_validated_once(k: int) -> None:
    parts = np.stack([part_of(IDS, Folds(folds=k, test=i)) for i in range(k)])
    assert ((parts == 2).sum(0) == 1).all()
    assert ((parts == 1).sum(0) == 1).all()
    assert ((parts == 0).sum(0) == k - 2).all()
    assert np.bincount(parts[0]) / len(IDS) == pytest.approx([1 - 2 / k, 1 / k, 1 / k], abs=0.01)
    assert np.array_equal(parts[0] == 1, parts[1] == 2)  # the fold that validates is the next one's test


def test_folds_depend_on_the_id_and_the_seed_alone() -> None:
    folds = Folds(folds=4, test=1)
    back = np.random.default_rng(1).permutation(len(IDS))
    assert np.array_equal(part_of(IDS[back], folds), part_of(IDS, folds)[back])
    assert not np.array_equal(part_of(IDS, folds.but(seed=1)), part_of(IDS, folds))


def test_a_job_says_shares_or_folds_and_set_reaches_into_them() -> None:
    from jetscale.config import parse_set

    assert _run({"folds": 5, "test": 0}).stream.split == Folds(folds=5, test=0)
    assert _run({"folds": 5, "test": 0}, parse_set("stream.split.test=2")).stream.split == Folds(folds=5, test=2)
    shares = {"train": 0.5, "validation": 0.25, "test": 0.25}
    assert _run(shares).stream.split == Split(**shares)
    assert _run(shares, parse_set("stream.split={folds: 4, test: 3}")).stream.split == Folds(folds=4, test=3)


@pytest.mark.parametrize("split", [Split(train=0.5, validation=0.25, test=0.25), Folds(folds=3, test=2, seed=9)])
def test_splits_go_through_plain_values(split: Split | Folds) -> None:
    assert split_of(split.values()) == split
    stream = Stream.model_validate({"samples": {"a": {"events": "a"}}, "split": split.values()})
    assert stream.split == split
    assert build(Stream, stream.values(), "stream") == stream


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ({"folds": 5, "tset": 2}, r"'stream.split.tset'(.|\n)*did you mean 'test'"),
        ({"train": 0.6, "tset": 0.4}, r"'stream.split.tset'(.|\n)*did you mean 'test'"),
        ({"folds": 5}, r"'stream.split.test' is missing"),
        ({"folds": 2, "test": 0}, r"stream.split.folds = 2"),
        ({"folds": 5, "test": 5}, r"stream.split: test is 5, and the folds are 0 to 4"),
    ],
)
def test_what_cannot_be_a_split_is_named(split: Values, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        _run(split)
