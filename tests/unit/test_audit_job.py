"""An audit of a job: what is trained is planned before anything starts, and what came out is measured."""

import json
from pathlib import Path

import numpy as np
import pytest

from jetscale.audit.bank import bank
from jetscale.audit.functions import of_run
from jetscale.audit.job import Audit, Plan, load, plan
from jetscale.audit.page import write
from jetscale.audit.trainings import held_out, measure
from jetscale.config import Values, build
from jetscale.data.split import part_of
from jetscale.errors import ConfigError, DataError, JetscaleError, TrainError
from jetscale.events import Events
from jetscale.physics import toys
from jetscale.sweep.trials import Outcome
from jetscale.train.launch import train


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two masses, one of them in two decay modes, a background, and events of unknown truth."""
    folder = tmp_path_factory.mktemp("samples")
    made = {}
    for name, mass, mode in (("light", 700.0, 3), ("heavy", 1400.0, 3), ("many", 1400.0, 5)):
        table = bank([mass], 1200, 1)
        made[name] = table.filter(np.asarray(table["decay_mode"]) == mode)
    pairs = toys.pairs(600, np.random.default_rng(1))
    made["soft"] = pairs[pairs["true_mass"] == 0]
    made["unknown"] = made["light"].drop_columns(["true_mass", "decay_mode"])
    made["both"] = bank([700.0, 1400.0], 200, 1)
    return {name: str(Events.write(table, folder / name).path) for name, table in made.items()}


def _job(samples: dict[str, str], names: tuple[str, ...] = ("light", "heavy", "soft"), **more: object) -> Audit:
    job = {"system": "assigner", "task": {"width": 16, "layers": 2, "readout": "argmax"}, "horizon": {"steps": 3},
           "stream": {"samples": {name: {"events": samples[name]} for name in names}}, "track": {"wandb": False},
           "scale": {"engine": "torch", "launch": "here", "events_per_step": 24, "lanes": 1}}  # fmt: skip
    values = {"train": job, "seeds": 2, "events": 100, "probes": 200, "permutations": 19, **more}
    return build(Audit, values, "test")


def _weights(planned: Plan, composition: str) -> dict[str, float]:
    run = planned.runs[planned.trained[composition, 1]]
    return {name: source.weight for name, source in run.stream.samples.items()}


def test_everything_is_left_out_once_with_every_seed(samples: dict[str, str]) -> None:
    planned = plan(_job(samples, compositions={"one": ("light",)}, influence={"sample": "soft", "weights": [0, 1]}))
    assert list(planned.compositions) == ["all", "without-light", "without-heavy", "one"]
    # The weight 1 is the job's own, and is trained anyway.
    assert len(planned.runs) == 4 * 2 + 2
    assert {planned.weighted[1.0, seed] for seed in (1, 2)} == {planned.trained["all", seed] for seed in (1, 2)}
    assert {run.seed for run in planned.runs.values()} == {1, 2}
    assert planned.runs[planned.weighted[0.0, 2]].stream.samples["soft"].weight == 0
    assert planned.backgrounds == ("soft",)


def test_what_is_left_takes_over_the_part_of_what_is_left_out(samples: dict[str, str]) -> None:
    planned = plan(_job(samples))
    size = {name: cell.events for name, cell in planned.cells.items()}
    assert _weights(planned, "all") == {"light": 1, "heavy": 1, "soft": 1}
    left = _weights(planned, "without-light")
    assert set(left) == {"heavy", "soft"}
    assert left["heavy"] * size["heavy"] == pytest.approx(size["heavy"] + size["light"])
    shared = {name: {"events": samples[name], "share": share}
              for name, share in (("light", 0.5), ("heavy", 0.2), ("soft", 0.3))}  # fmt: skip
    run = plan(_job(samples, set={"stream.samples": shared})).runs["train=without-light,seed=1"]
    assert {name: source.share for name, source in run.stream.samples.items()} == pytest.approx(
        {"heavy": 0.7, "soft": 0.3}
    )


def test_modes_and_masses_are_left_out_together(samples: dict[str, str]) -> None:
    names = ("light", "heavy", "many")
    modes = plan(_job(samples, names, leave_out="mode"))
    assert modes.parts == {"3-quarks": ("light", "heavy"), "5-quarks": ("many",)}
    masses = plan(_job(samples, names, leave_out="mass"))
    assert masses.parts == {"700-GeV": ("light",), "1400-GeV": ("heavy", "many")}
    assert masses.compositions["without-1400-GeV"] == ("light",)


@pytest.mark.parametrize(
    ("names", "more", "kind", "hint"),
    [
        (("light", "soft"), {}, ConfigError, "leaving out 'light' leaves no signal"),
        (("light", "heavy"), {"leave_out": "mode"}, ConfigError, "leaving out '3-quarks' leaves no signal"),
        (("soft",), {}, ConfigError, "no signal sample"),
        (("light", "unknown"), {}, DataError, "has no true mass"),
        (("light", "both"), {}, DataError, "masses and decay modes"),
        (("light", "heavy"), {"seeds": 1}, ConfigError, "spread between seeds|seeds is 1"),
        (("light", "heavy"), {"one_class": True}, ConfigError, "needs 5 seeds"),
        (("light", "heavy"), {"compositions": {"x": ["ligt"]}}, ConfigError, "did you mean 'light'"),
        (("light", "heavy"), {"compositions": {"x": []}}, ConfigError, "leaves nothing to train on"),
        (("light", "heavy"), {"compositions": {"all": ["light"]}}, ConfigError, "of its own"),
        (
            ("light", "soft", "heavy"),
            {"influence": {"sample": "light", "weights": [0, 1]}},
            ConfigError,
            "no background",
        ),
        (("light", "heavy"), {"influence": {"sample": "soft", "weights": [1, 0]}}, ConfigError, "must rise"),
        (("light", "heavy"), {"thresholds": {"scal": 1}}, ConfigError, "scale"),
        (("light", "heavy"), {"job": "shipped:assigner"}, ConfigError, "exactly one of job, train"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_starts(
    samples: dict[str, str], names: tuple[str, ...], more: Values, kind: type[JetscaleError], hint: str
) -> None:
    with pytest.raises(kind, match=hint):
        plan(_job(samples, names, **more))


def test_a_file_with_settings_for_the_job(tmp_path: Path) -> None:
    file = tmp_path / "audit.yaml"
    file.write_text("audit:\n  job: shipped:assigner\n  set: {horizon.epochs: 2}\n")
    job = load(file, ["horizon.epochs=3", "task.width=8"])
    assert (job.base().horizon.epochs, job.base().task.values()["width"]) == (3, 8)
    file.write_text("train: {}\n")
    with pytest.raises(ConfigError, match="top key is 'train'"):
        load(file)


def test_only_held_out_events_are_looked_at(samples: dict[str, str]) -> None:
    run = _job(samples).base()
    found = held_out(run, "light", 10_000)
    part_B = part_of(found["event_id"].to_numpy(), run.stream.split)
    assert set(part_B.tolist()) == {2}
    assert 0 < found.num_rows < len(Events.open(samples["light"]))
    assert held_out(run, "light", 5).num_rows == 5
    nothing = run.but(stream={**run.stream.values(), "split": {"train": 0.9, "validation": 0.1, "test": 0.0}})
    with pytest.raises(DataError, match="no event is held out"):
        held_out(nothing, "light", 10)


def test_trainings_are_measured(samples: dict[str, str], tmp_path: Path) -> None:
    job = _job(samples, influence={"sample": "soft", "weights": [0, 1]})
    planned = plan(job)
    outcomes = {name: Outcome(name, train(run, tmp_path / name), "done") for name, run in planned.runs.items()}
    report = measure(job, planned, outcomes)
    assert report.matrix is not None
    assert report.matrix.names == ("light", "heavy")
    assert report.matrix.out_SDD.shape == (2, 2, 2)
    # The quality of a training at what it was made without, by hand.
    run = of_run(outcomes[planned.trained["without-heavy", 2]].folder)
    ratio_B = run(held_out(planned.base, "heavy", 100)) / 1400
    assert report.matrix.out_SDD[1, 1, 1] == pytest.approx(np.mean(np.abs(ratio_B - 1) < 0.1))
    assert report.matrix.inside == {"light": False, "heavy": False}
    states = {verdict.name: verdict.state for verdict in report.verdicts}
    assert states["interpolation"] == "not formed"
    assert {"extrapolation", "worst_transfer", "spread", "influence"} <= set(states)
    assert report.spread is not None
    assert report.spread.points_KC.shape == (6, 5)
    page = write(report, tmp_path / "page")
    values = json.loads((tmp_path / "page" / "audit.json").read_text())
    assert page.read_text().count("data:image/png") == 5
    assert set(values["transfer_matrix"]["without"]) == {"light", "heavy"}
    assert [row["weight"] for row in values["influence"]] == [0, 1]
    assert len(values["runs"]) == len(planned.runs)
    assert set(values["data"]) == {"light", "heavy", "soft", "made-up pairs"}


def test_a_training_that_failed_is_named(samples: dict[str, str]) -> None:
    planned = plan(_job(samples))
    outcomes = {name: Outcome(name, Path(name), "done") for name in planned.runs}
    name = next(iter(outcomes))
    outcomes[name] = outcomes[name]._replace(status="failed", error="no room")
    with pytest.raises(TrainError, match="1 of 6 trainings are not done; the first: no room"):
        measure(_job(samples), planned, outcomes)
