"""Runs that are the folds of one split: together they test on every event, each by a network that has not seen it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jetscale.data.split import part_of
from jetscale.errors import ConfigError
from jetscale.run import Run
from jetscale.stream import PARTS, Folds

TEST = PARTS.index("test")


def are_folds(runs: Sequence[Run]) -> bool:
    """Whether runs are different folds of one split: the same system, folds and seed, each with another test fold."""
    splits = [run.stream.split for run in runs]
    folds = [split for split in splits if isinstance(split, Folds)]
    kinds = {(run.system, split.folds, split.seed) for run, split in zip(runs, folds, strict=False)}
    return len(folds) == len(runs) > 1 and len(kinds) == 1 and len({split.test for split in folds}) == len(runs)


def held_out_folds(runs: Sequence[Run]) -> list[int]:
    """The test folds of these runs, in the order of the runs.

    Raises:
        ConfigError: runs that are not folds of one split, or not all of them.
    """
    if not are_folds(runs):
        raise ConfigError("the runs are not folds of one split", where="score",
                          cure="give runs with equal stream.split.folds and seed, each with another test")  # fmt: skip
    splits = [run.stream.split for run in runs if isinstance(run.stream.split, Folds)]
    tests = [split.test for split in splits]
    if absent := sorted(set(range(splits[0].folds)) - set(tests)):
        said = ", ".join(map(str, absent))
        raise ConfigError(f"of {splits[0].folds} folds no run tests on {said}: their events would have no score",
                          where="score", cure=f"train with --set stream.split.test={absent[0]} as well, "
                                              "or score with one run at a time")  # fmt: skip
    return tests


def fold_of(event_id_B: np.ndarray, run: Run) -> np.ndarray:
    """The fold that each event lies in, (B,) int64, for a run whose split is into folds."""
    split = run.stream.split
    assert isinstance(split, Folds)
    tests = (split.but(test=fold) for fold in range(split.folds))
    found_B: np.ndarray = np.argmax([part_of(event_id_B, one) == TEST for one in tests], axis=0)
    return found_B
