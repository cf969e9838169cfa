"""Runs that are the folds of one split: together they test on every event, each by a network that has not seen it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jetscale.config import Values, digest, leaves
from jetscale.data.split import part_of
from jetscale.errors import ConfigError
from jetscale.run import Run, read
from jetscale.stream import PARTS, Folds, split_of
from jetscale.train import checkpoint

TEST = PARTS.index("test")
IDS = np.arange(20_000)  # as good as any others for finding what two splits have in common


def are_folds(runs: Sequence[Path]) -> bool:
    """Whether runs are meant as folds of one split: the same system, folds and seed of the split, other test folds.

    Whether they can be taken for one method is for `held_out_folds` to say.
    """
    opened = [read(run) for run in runs]
    folds = [one.stream.split for one in opened if isinstance(one.stream.split, Folds)]
    kinds = {(Path(one.system).name, split.folds, split.seed) for one, split in zip(opened, folds, strict=False)}
    return len(folds) == len(runs) > 1 and len(kinds) == 1 and len({split.test for split in folds}) == len(runs)


def held_out_folds(runs: Sequence[Path]) -> list[int]:
    """The test folds of these runs, in the order of the runs.

    Raises:
        ConfigError: runs that are not folds of one split or not all of them, that differ in anything else that decides
            the outcome but the seed, or that have seen events of their test fold.
    """
    where = ", ".join(map(str, runs))
    if not are_folds(runs):
        raise ConfigError("the runs are not folds of one split", where=where,
                          cure="give runs with equal stream.split.folds and seed, each with another test")  # fmt: skip
    folds = [split for run in runs if isinstance(split := read(run).stream.split, Folds)]
    if absent := sorted(set(range(folds[0].folds)) - {split.test for split in folds}):
        said = ", ".join(map(str, absent))
        raise ConfigError(f"of {folds[0].folds} folds no run tests on {said}: their events would have no score",
                          where=where, cure=f"train with --set stream.split.test={absent[0]} as well, "
                                            "or give one run alone")  # fmt: skip
    for run, split in zip(runs, folds, strict=True):
        _refuse_another_method(runs[0], run)
        _refuse_seen(run, split)
    return [split.test for split in folds]


def fold_of(event_id_B: np.ndarray, run: Run) -> np.ndarray:
    """The fold that each event lies in, (B,) int64, for a run whose split is into folds."""
    split = run.stream.split
    assert isinstance(split, Folds)
    tests = (split.but(test=fold) for fold in range(split.folds))
    found_B: np.ndarray = np.argmax([part_of(event_id_B, one) == TEST for one in tests], axis=0)
    return found_B


def _refuse_another_method(first: Path, run: Path) -> None:
    ours, theirs = leaves(_method(first)), leaves(_method(run))
    differ = [f"{key}: {_said(ours.get(key))} and {_said(theirs.get(key))}"
              for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]  # fmt: skip
    if differ:
        raise ConfigError(f"are folds, but not of one method; different: {'; '.join(differ[:5])}",
                          where=f"{first}, {run}",
                          cure="train one of them again, with nothing but stream.split.test changed, "
                               "or give one run alone")  # fmt: skip


def _method(folder: Path) -> Values:
    """What the folds of one method have in common: all that decides the outcome but the test fold and the seed."""
    run, data = read(folder), checkpoint.read_data(folder)
    values = run.work({name: sample["fingerprint"] for name, sample in data["samples"].items()})
    values["stream"]["split"].pop("test", None)
    values.pop("seed")
    if run.start:
        start = Path(run.start)
        values["start"] = _method(start) if (start / "run.yaml").is_file() else "has moved"
    return values


def _said(value: object) -> str:
    """A value as it is, unless it is as long as a file."""
    text = str(value)
    return text if len(text) <= 60 else f"content {digest(text)}"


def _refuse_seen(run: Path, own: Folds) -> None:
    """Whatever the weights have been trained on before must have left out the events that they are to be tested on."""
    data = checkpoint.read_data(run)
    samples = {sample["origin"] for sample in data["samples"].values()}
    held_out = part_of(IDS, own) == TEST
    for before in data["trained_on"]:
        split = split_of(before["split"])
        if samples & set(before["samples"]) and (part_of(IDS, split)[held_out] != TEST).any():
            raise ConfigError(f"has seen events that its fold {own.test} is to test on: its weights come from a "
                              f"training with stream.split {split.values()}", where=str(run),
                              cure="start it from a run with the same stream.split, or on other samples")  # fmt: skip
