"""Whether a network has learned is decided by five standard errors, and an untrained one has not."""

from pathlib import Path

import pytest

from jetscale.evaluate.compare import Scored
from jetscale.evaluate.learned import ENOUGH, gains
from jetscale.evaluate.report import report
from jetscale.evaluate.score import score
from jetscale.events import Events
from jetscale.run import resolve
from jetscale.train.launch import train

SAMPLES = {"gluino-1500": 2000, "qcd": 1000}


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Events]:
    """Some events of two shipped samples."""
    folder = tmp_path_factory.mktemp("samples")
    return [
        Events.write(Events.open(f"shipped:{name}").read().slice(0, rows), folder / name)
        for name, rows in SAMPLES.items()
    ]


def _scored(run: Path, samples: list[Events], folder: Path, *, untrained: bool = False) -> list[Scored]:
    return [Scored("network", score(run, one, folder / one.name, untrained=untrained), run) for one in samples]


def _all(samples: list[Events], folder: Path, seed: int) -> tuple[list[Scored], list[Scored]]:
    """A short training in this process, its scores and those of its start, and the report."""
    stream = {"samples": {one.name: {"events": str(one.path)} for one in samples}}
    values = {"system": "assigner", "task": {"readout": "argmax"}, "stream": stream, "horizon": {"epochs": 8},
              "seed": seed, "scale": {"engine": "torch", "launch": "here", "events_per_step": 128},
              "track": {"wandb": False, "validate_every": 8}}  # fmt: skip
    run = train(resolve([("test", values)], "test").run, folder / "run")
    trained = _scored(run, samples, folder / "scored")
    report(trained, folder / "report", command="test", wall={"training": 1.0})
    return trained, _scored(run, samples, folder / "untrained", untrained=True)


@pytest.fixture(scope="module")
def first(samples: list[Events], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Scored], list[Scored]]:
    folder = tmp_path_factory.mktemp("first")
    return folder, *_all(samples, folder, 1)


def test_an_untrained_network_has_not_learned(first: tuple[Path, list[Scored], list[Scored]]) -> None:
    _, _, untrained = first
    found = {(gain.figure, gain.over): gain for gain in gains(untrained, untrained)}
    assert set(found) == {(f, o) for f in ("f10", "jet_accuracy") for o in ("untrained", "random_grouping")}
    assert found["f10", "untrained"].sigmas == 0.0
    assert not found["f10", "untrained"].enough
    assert not found["jet_accuracy", "untrained"].enough


def test_a_trained_one_has_and_the_gain_is_in_standard_errors(first: tuple[Path, list[Scored], list[Scored]]) -> None:
    _, trained, untrained = first
    accuracy = next(gain for gain in gains(trained, untrained) if gain.figure == "jet_accuracy")
    assert accuracy.sigmas == pytest.approx(accuracy.difference.value / accuracy.difference.error)
    assert accuracy.enough == (accuracy.sigmas >= ENOUGH)
    assert accuracy.enough, str(accuracy)


def test_same_seed_same_results_another_seed_others(
    first: tuple[Path, list[Scored], list[Scored]], samples: list[Events], tmp_path: Path
) -> None:
    for name, seed in (("again", 1), ("other", 2)):
        _all(samples, tmp_path / name, seed)
    wanted = (first[0] / "report" / "results.json").read_bytes()
    assert (tmp_path / "again" / "report" / "results.json").read_bytes() == wanted
    assert (tmp_path / "other" / "report" / "results.json").read_bytes() != wanted
