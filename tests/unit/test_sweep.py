"""What a sweep refuses, how it stops, what it keeps and what it shows: all that needs no Ray."""

import io
import json
import math
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from jetscale.axes import Asha, Metric, Optuna, Sweep, load
from jetscale.cli import main
from jetscale.config import Values, build, dump_yaml
from jetscale.errors import ConfigError, DataError, TrainError
from jetscale.events import Events
from jetscale.run import Run
from jetscale.stream import Source
from jetscale.sweep import folder, page, trials
from jetscale.sweep.checks import check, check_metric
from jetscale.sweep.figures import on_front
from jetscale.sweep.judge import judged
from jetscale.sweep.search import Searcher
from jetscale.sweep.standings import Standings
from jetscale.sweep.sweep import Progress, planned, value
from jetscale.sweep.table import table
from jetscale.sweep.trial import Trial, error_of, here, train_trial
from jetscale.sweep.trials import Outcome, ended, train_all
from jetscale.sweep.tune import at_once
from jetscale.systems.assigner import Assigner
from jetscale.terminal import Terminal
from jetscale.train import checkpoint, launch
from jetscale.train.rungs import Rungs
from jetscale.train.track import lines
from jetscale.train.validate import figure_names

F10 = {"name": "f10", "better": "high"}


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    room = tmp_path_factory.mktemp("toys")
    for seed, name in enumerate(("one", "two", "judge"), 1):
        Events.write(Assigner().toy(600, seed), room / name)
    return room


def sweep(toys: Path, axes: Values, **more: object) -> Sweep:
    train = {"system": "assigner", "task": {"width": 16, "layers": 2}, "horizon": {"epochs": 3},
             "stream": {"samples": {name: {"events": str(toys / name)} for name in ("one", "two")}},
             "scale": {"engine": "torch", "events_per_step": 64}, "track": {"wandb": False}}  # fmt: skip
    return build(Sweep, {"train": train, "axes": axes, "metric": F10, **more}, "test")


RATES = {"optimiser.rate": {"grid": [1e-3, 1e-2]}}
LOSSES = {"task.loss_on": {"grid": ["label", "mass"]}}
WEIGHTS = {"stream.samples.two.weight": {"grid": [0.1, 10]}}
LABEL = {"metric": {"name": "loss_label", "better": "low"}}
SPLITS = {"stream.split": {"grid": [{"folds": 3, "test": 0}, {"folds": 3, "test": 1}]}}


def refusals(toys: Path) -> dict[str, tuple[Values, Values, str]]:
    sample = f"{toys}/judge"
    return {
        "a metric that no trial reports": (RATES, {"metric": {"name": "f11"}}, "no trial reports 'f11'.*mean 'f10'"),
        "a loss while the loss is swept": (LOSSES, LABEL, "'loss_label' is a loss, and the axis task.loss_on changes"),
        "a loss while a weight is swept": (WEIGHTS, LABEL, "is a loss, and the axis stream.samples.two.weight"),
        "other events by a split": (SPLITS, {}, r"different events in split=folds.*split.test is 0 and 1"),
        "other events by a selection": (
            {"stream.select.decay_mode": {"grid": [[0, 4], [3, 4]]}}, {}, r"different events in .*decay_mode"),
        "other events by a sample": (
            {"stream.samples.two.events": {"grid": [f"{toys}/two", sample]}}, {}, r"different events.*two.events"),
        "nothing to train on": (
            {"stream.select.decay_mode": {"grid": [[0, 4], [8, 9]]}}, {"judge": [sample]}, r"'one' has no events"),
        "nothing to validate on": (RATES, {"set": {"stream.split": {"train": 0.5, "validation": 0, "test": 0.5}}},
                                   "has no events to validate on"),
        "two that are the same work": ({"scale.workers": {"grid": [1, 2]}}, {}, "same work: scale.workers changes no"),
        "a judge that some have trained on": (
            {"stream.samples.two.events": {"grid": [f"{toys}/two", sample]}}, {"judge": [sample]},
            "have been trained on different events of it"),
    }  # fmt: skip


@pytest.mark.parametrize("kind", refusals(Path()))
def test_it_is_refused_before_anything_starts(toys, kind, tmp_path):
    axes, more, said = refusals(toys)[kind]
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        planned(sweep(toys, axes, **more))


def test_what_can_be_compared_is_not_refused(toys):
    for axes, more in ((RATES, LABEL), (LOSSES, {}), (WEIGHTS, {}), (SPLITS, {"judge": [str(toys / "judge")]})):
        family = sweep(toys, axes, **more)
        assert set(check(family, family.trials())) == {one.name for one in family.trials()}


def test_a_sample_that_is_missing_names_the_trial(toys):
    with pytest.raises(DataError, match=r"trial two.events=nowhere-\w+,seed=1: .*is not a sample"):
        planned(sweep(toys, {"stream.samples.two.events": {"grid": [f"{toys}/nowhere"]}}))


def test_optuna_is_checked_at_the_ends_of_its_axes(toys):
    axes = {"task.width": {"integer": [8, 16]}, "task.loss_on": {"choice": ["label", "lable"]}}
    with pytest.raises(ConfigError, match="loss_on=lable"):
        planned(sweep(toys, axes, search={"optuna": {"trials": 2}}))


def test_validation_reports_what_is_said_before(toys, tmp_path):
    run = here(sweep(toys, RATES).trials()[0].run)
    out = launch.train(run, tmp_path / "run")
    assert set(figure_names(run)) == set(lines(out, "validation")[-1]["metrics"])


def test_the_weight_in_the_loss_changes_no_figure(toys, tmp_path):
    """Both have the same weights of the network at step 0: only the loss may differ."""
    found = []
    for one in sweep(toys, WEIGHTS, set={"horizon.epochs": None, "horizon.steps": 1}).trials():
        out = launch.train(here(one.run), tmp_path / one.name)
        found.append(lines(out, "validation")[0]["metrics"])
    assert found[0]["f10"] == found[1]["f10"] and found[0]["mass_auc"] == found[1]["mass_auc"]
    assert found[0]["loss_label"] != found[1]["loss_label"]


def log(place: Path, name: str, values: list[float | None]) -> Path:
    """The log of a training with a validation at the end of every epoch of ten steps."""
    (place / name).mkdir()
    said = [{"kind": "start", "steps": 100, "steps_per_epoch": 10.0}]
    said += [{"kind": "validation", "step": 10 * n, "metrics": {"f10": one}} for n, one in enumerate(values)]
    (place / name / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in said))
    return place / name


def test_a_trial_is_stopped_at_a_rung_and_nowhere_else(tmp_path):
    good = log(tmp_path, "good", [0, 0.1, 0.5, 0.6, 0.7])
    other = log(tmp_path, "other", [0, 0.1, 0.4])
    bad = log(tmp_path, "bad", [0, 0.9, 0.3])
    rule = Asha(grace_epochs=2, factor=2)
    ours = [Rungs(rule, Metric(name="f10"), own, [good, other, bad]) for own in (good, other, bad)]
    assert [one.go_on(2.0) for one in ours] == [True, True, False], "two of three, by what they had at the rung"
    assert ours[0].go_on(3.0) and ours[0].go_on(4.0), "between rungs, and where nobody else has come"
    log(tmp_path, "late", [0, 0.1, 0.2, 0.2])
    assert Rungs(rule, Metric(name="f10"), tmp_path / "late", [good, other]).go_on(3.0), "the rung was before"
    assert not Rungs(rule, Metric(name="f10"), tmp_path / "late", [good, other]).go_on(2.0)


def test_a_stopped_training_ends_with_its_checkpoint(toys, tmp_path):
    best = log(tmp_path, "best", [0, 1.0, 1.0, 1.0])
    run, out = here(sweep(toys, RATES).trials()[0].run), tmp_path / "run"
    rungs = Rungs(Asha(grace_epochs=1, factor=2), Metric(name="f10"), out, [best, out])
    launch.train(run, out, rungs=rungs)
    outcome = ended(Outcome("run", out))
    assert outcome.status == "stopped" and 1 <= outcome.epoch < 2 and outcome.figures["f10"] is not None
    assert lines(out, "end")[-1]["status"] == "done" and checkpoint.is_complete(out)
    log_before = (out / "log.jsonl").read_bytes()
    launch.train(run, out)
    assert (out / "log.jsonl").read_bytes() == log_before, "it is left as it is"


def test_a_failing_trial_is_written_down(toys, tmp_path):
    run = sweep(toys, {"optimiser.rate": {"grid": [1e30]}}, set={"optimiser.clip": 0.0}).trials()[0].run
    counted = launch.prepare(run, run.stream.open())
    train_trial(Trial("bad", here(run), tmp_path / "bad", counted))
    assert "the loss of step 1 is not finite" in error_of(tmp_path / "bad")
    outcome = ended(Outcome("bad", tmp_path / "bad", figures={"f10": 0.5}))
    assert (outcome.status, outcome.figures) == ("failed", {})
    assert "Traceback" not in (tmp_path / "bad" / "error.txt").read_text()
    train_trial(Trial("bug", here(run), tmp_path / "bug", "no counts"))  # type: ignore[arg-type]
    assert error_of(tmp_path / "bug").startswith("AttributeError: 'str' object has no attribute")
    assert "Traceback" in (tmp_path / "bug" / "error.txt").read_text(), "of what is not ours, also where"


def test_the_same_samples_are_counted_once(toys, monkeypatch):
    counted = []
    prepare = launch.prepare
    monkeypatch.setattr(launch, "prepare", lambda *args: counted.append(args) or prepare(*args))
    runs = {one.name: one.run for one in sweep(toys, {**RATES, **WEIGHTS}, search={"grid": {"seeds": 2}}).trials()}
    assert len(trials.counts(runs)) == 8 and len(counted) == 1
    trials.counts({one.name: one.run for one in sweep(toys, SPLITS).trials()})
    assert len(counted) == 3


def test_finished_trials_need_no_ray_and_other_runs_are_refused(toys, tmp_path, monkeypatch):
    found = {one.name: one.run for one in sweep(toys, RATES).trials()}
    for name, run in found.items():
        launch.train(here(run), tmp_path / name)
    monkeypatch.setattr(trials, "cluster", lambda *_: pytest.fail("Ray was started"))
    outcomes = train_all(found, tmp_path)
    assert [one.status for one in outcomes.values()] == ["done", "done"] and outcomes[name].epoch == pytest.approx(3.0)
    with pytest.raises(TrainError, match=r"holds another run; changed: optimiser.rate"):
        train_all(dict(zip(found, reversed(found.values()), strict=True)), tmp_path)


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a" * 300, "a\nb"])
def test_a_name_must_be_that_of_a_folder(toys, tmp_path, name):
    with pytest.raises(ConfigError, match="cannot be the name of a trial's folder"):
        train_all({name: sweep(toys, RATES).trials()[0].run}, tmp_path)


def test_a_sweep_may_grow_and_nothing_else(toys, tmp_path):
    few = sweep(toys, {**RATES, **LOSSES})
    folder.claim(few, tmp_path)
    more = sweep(toys, {"optimiser.rate": {"grid": [1e-2, 1e-1, 1e-3]}, **LOSSES}, search={"grid": {"seeds": 3}})
    folder.claim(more, tmp_path)
    assert load(tmp_path / "sweep.yaml").axes["optimiser.rate"].grid == (1e-2, 1e-1, 1e-3)
    for other, said in (
        (few, r"axes.optimiser.rate.grid: \[0.01, 0.1, 0.001\] -> \[0.001, 0.01\]"),
        (sweep(toys, {**RATES, **LOSSES}, set={"task.width": 8}), r"train.task.width: 16 -> 8"),
        (sweep(toys, {**RATES, **LOSSES}, metric={"name": "width", "better": "low"}), r"metric.name: f10 -> width"),
    ):
        with pytest.raises(ConfigError, match=f"holds another sweep; changed: .*{said}"):
            folder.claim(other, tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(ConfigError, match=r"holds 'thesis.tex' and no sweep"):
        folder.refuse_another(few, tmp_path / "mine")


def test_draws_may_become_more_but_not_others(toys, tmp_path):
    ranges = {"optimiser.rate": {"log_uniform": [1e-4, 1e-2]}}
    folder.claim(sweep(toys, ranges, search={"random": {"trials": 3}}), tmp_path)
    folder.claim(sweep(toys, ranges, search={"random": {"trials": 5}}), tmp_path)
    with pytest.raises(ConfigError, match=r"search.random.seed: 1 -> 2"):
        folder.claim(sweep(toys, ranges, search={"random": {"trials": 5, "seed": 2}}), tmp_path)


def found_by(family: Sweep, batches: int, of: int) -> list[Values]:
    """All that is drawn when f10 is best at a rate of 1e-3."""
    how = family.search.how
    assert isinstance(how, Optuna)
    search, every = Searcher(family, how, family.base()), []
    for _ in range(batches):
        for trial, drawn in search.ask(of):
            every.append(drawn)
            quality = -abs(math.log10(drawn["optimiser.rate"]) + 3)
            search.tell(trial, [quality - 0.1, None, quality + 0.1])
    return every


def test_optuna_draws_the_same_again_and_comes_closer(toys):
    axes = {"optimiser.rate": {"log_uniform": [1e-6, 1.0]}, "task.loss_on": {"choice": ["label", "mass"]},
            "task.gumbel": {"choice": ["hard", "soft"], "when": {"task.loss_on": "mass"}}}  # fmt: skip
    family = sweep(toys, axes, search={"optuna": {"trials": 40, "seeds": 3}})
    first, again = found_by(family, 10, 4), found_by(family, 10, 4)
    assert first == again
    far = [abs(math.log10(one["optimiser.rate"]) + 3) for one in first]
    assert np.mean(far[-12:]) < 0.7 * np.mean(far[:12])
    assert all(("task.gumbel" in one) == (one["task.loss_on"] == "mass") for one in first)
    other = sweep(toys, axes, search={"optuna": {"trials": 40, "seeds": 3, "seed": 2}})
    assert found_by(other, 1, 4) != first[:4]


def test_a_draw_without_any_metric_counts_as_failed(toys):
    family = sweep(toys, {"optimiser.rate": {"uniform": [0, 1]}}, search={"optuna": {"trials": 4}})
    search = Searcher(family, Optuna(trials=4), family.base())
    ((trial, _),) = search.ask(1)
    search.tell(trial, [None, None])
    assert [one.state.name for one in search.study.trials] == ["FAIL"]


def test_a_judge_looks_at_held_out_events_alone(toys, tmp_path):
    run = here(sweep(toys, RATES).trials()[0].run)
    launch.train(run, tmp_path / "run")
    unseen = judged(tmp_path / "run", [Events.open(toys / "judge")], tmp_path / "a")
    assert set(unseen) == {name for name in figure_names(run) if not name.startswith("loss_")}
    both = judged(tmp_path / "run", [Events.open(toys / "judge"), Events.open(toys / "one")], tmp_path / "b")
    assert both["f10"] != unseen["f10"]
    scored = Events.open(tmp_path / "b" / "one").read(["split"])["split"].to_numpy()
    assert 0 < (scored >= 2).sum() < len(scored), "the training's own events were there to be left out"


def progress(toys: Path, place: Path) -> tuple[Sweep, Progress]:
    """A sweep of eight trials with made-up ends: two stopped, one failed, one never begun."""
    axes = {**WEIGHTS, **LOSSES, "optimiser.rate": {"grid": [1e-3, 1e-2], "when": {"task.loss_on": "label"}}}
    family = sweep(toys, axes, search={"grid": {"seeds": 2}}, stop={"asha": {"grace_epochs": 1}})
    dice, outcomes = np.random.default_rng(1), {}
    for n, one in enumerate(family.trials()):
        curve = list(np.cumsum(dice.uniform(0, 0.1, 4)))
        status = {1: "stopped", 4: "stopped", 6: "failed", 7: "waiting"}.get(n, "done")
        figures = {"f10": curve[-1], "mass_auc": 1 - curve[-1], "loss_label": 2.0, "width": None}
        has = figures if status in ("done", "stopped") else {}
        outcomes[one.name] = Outcome(one.name, log(place, one.name, curve), status, 3.0, has,
                                     "assigner: no luck" if status == "failed" else "")  # fmt: skip
    return family, Progress(family.trials(), outcomes, 12)


def test_the_table_has_every_trial(toys, tmp_path):
    family, state = progress(toys, tmp_path)
    found = table(family, state)
    assert found.column_names[:5] == ["trial", *family.axes, "seed"] and len(found) == 12
    rows = found.to_pylist()
    assert [row["stream.samples.two.weight"] for row in rows] == [0.1] * 6 + [10.0] * 6
    assert rows[4]["task.loss_on"] == "mass" and rows[4]["optimiser.rate"] is None
    assert rows[6]["error"] == "assigner: no luck" and rows[6]["metric"] is None and rows[0]["metric"] == rows[0]["f10"]
    best = state.best(family)
    done = [row for row in rows if row["status"] == "done"]
    assert best is not None and best.name == max(done, key=lambda row: row["metric"])["trial"]


def test_the_page_shows_all_of_it(toys, tmp_path):
    family, state = progress(toys, tmp_path)
    file = page.report(family, state, tmp_path / "out", command="jetscale sweep x.yaml")
    text = file.read_text()
    assert text.count("<img") == 5 and "no luck" in text and "jetscale sweep x.yaml" in text
    assert {one.name for one in (tmp_path / "out" / "figures").glob("*.png")} == {
        "axes.png", "pairs.png", "parallel.png", "pareto.png", "learning.png"}  # fmt: skip
    assert len(pq.read_table(tmp_path / "out" / "trials.parquet")) == 12
    assert "11 trials" not in text and "12 trials: " in text and "1 failed" in text


def test_a_lead_is_only_called_one_beyond_its_seeds(toys, tmp_path):
    family, state = progress(toys, tmp_path)
    good = [0.9 if "rate=0.01" in name and "=10" in name else 0.1 + n / 1e3 for n, name in enumerate(state.outcomes)]
    sure = {name: one._replace(status="done", figures={"f10": good[n]})
            for n, (name, one) in enumerate(state.outcomes.items())}  # fmt: skip
    told = page.tell(family, state._replace(outcomes=sure))
    assert "more than two of the standard errors" in page.verdicts(family, state, told)[1]
    even = {name: one._replace(status="done", figures={"f10": 0.1 * (n % 2)})
            for n, (name, one) in enumerate(state.outcomes.items())}  # fmt: skip
    told = page.tell(family, state._replace(outcomes=even))
    assert "within two of the standard errors" in page.verdicts(family, state, told)[1]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_nothing_beats_what_is_on_the_front(points):
    x, y = np.array(points).T
    front = on_front(x, y)
    assert front.any()
    for n, point in enumerate(points):
        beaten = any(a >= point[0] and b >= point[1] and (a, b) != point for a, b in points)
        assert front[n] != beaten


def test_plain_lines_tell_each_end_once(toys, tmp_path):
    family, state = progress(toys, tmp_path)
    terminal = Terminal(console=Console(file=io.StringIO(), width=80), every_s=1e9)
    with Standings(terminal, family.metric) as standings:
        standings.show(state.outcomes, 20)
        standings.show(state.outcomes, 20)
    said = terminal.console.file.getvalue()  # type: ignore[attr-defined]
    assert said.count(" done after 3.0 epochs, f10 0.") == 8 and said.count("failed after") == 1
    assert said.count("failed after 3.0 epochs, f10 -: assigner: no luck") == 1
    assert "20 trials: 1 waiting, 8 done, 2 stopped, 1 failed" in said.splitlines()[-1]


def test_the_live_table_shows_the_best_on_a_small_screen(toys, tmp_path):
    family, state = progress(toys, tmp_path)
    console = Console(file=io.StringIO(), width=120, height=12, force_terminal=True)
    with Standings(Terminal(console=console), family.metric) as standings:
        standings.show(state.outcomes)
        console.print(standings.table())
        best = standings.best()
    rows = console.file.getvalue()  # type: ignore[attr-defined]
    assert best in rows and value(family, state.outcomes[best]) == max(
        found for one in state.outcomes.values() if (found := value(family, one)) is not None)  # fmt: skip
    assert len(list(standings.table().rows)) == 6


def test_a_trial_of_one_worker_is_the_same_work_in_its_own_process(toys):
    run = sweep(toys, RATES).trials()[0].run
    large = build(Run, {**run.values(), "scale": {**run.scale.values(), "workers": 2}}, "test")
    assert here(large) == large and here(run).scale.launch == "here" and here(run).scale.source == "pyarrow"
    names = dict.fromkeys(run.stream.samples, "x")
    assert here(run).name(names) == run.name(names)
    assert isinstance(run.stream.samples["one"], Source)
    check_metric(sweep(toys, RATES), sweep(toys, RATES).trials())


def cluster_of(monkeypatch, nodes: int, cpus: float, gpus: float = 0.0) -> None:
    ray = SimpleNamespace(cluster_resources=lambda: {"CPU": cpus, "GPU": gpus}, nodes=lambda: [{"Alive": True}] * nodes)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


def trial_of(toys: Path, **scale: object) -> Trial:
    run = sweep(toys, RATES).trials()[0].run
    large = build(Run, {**run.values(), "scale": {**run.scale.values(), **scale}}, "test")
    return Trial("one", here(large), toys / "one", launch.prepare(run, run.stream.open()))


@pytest.mark.parametrize(
    ("nodes", "cpus", "scale", "number"),
    [
        (1, 4, {}, 2),  # logical CPUs that are no cores
        (2, 16, {}, 16),
        (1, 4, {"workers": 2, "source": "pyarrow"}, 1),  # with their drivers two would not fit
        (1, 5, {"workers": 2, "source": "pyarrow"}, 2),
        (2, 16, {"workers": 4}, 2),  # four workers and eight tasks that read: 6.01
        (2, 7, {"workers": 4}, 1),
    ],
)
def test_as_many_trials_as_the_cluster_holds_with_their_readers(toys, monkeypatch, nodes, cpus, scale, number):
    trial = trial_of(toys, **scale)
    cluster_of(monkeypatch, nodes, cpus)
    assert at_once(trial) == number


@pytest.mark.parametrize("scale", [{"workers": 4, "source": "pyarrow"}, {"workers": 2, "shape": "gpu"}])
def test_a_trial_that_never_fits_is_refused(toys, monkeypatch, scale):
    trial = trial_of(toys, **scale)
    cluster_of(monkeypatch, 1, 4)
    with pytest.raises(ConfigError, match=r"trial one: needs [\d.]+ CPUs and [\d.]+ GPUs, and the cluster has 4 and 0"):
        at_once(trial)


def written(family: Sweep, place: Path) -> Path:
    file = place / "sweep.yaml"
    file.write_text(dump_yaml({"sweep": family.values()}))
    return file


def test_the_command_lists_its_trials_and_makes_nothing(toys, tmp_path, capfd):
    file = written(sweep(toys, {**RATES, **LOSSES}), tmp_path)
    assert main(["sweep", str(file), "--out", str(tmp_path / "out"), "--dry"]) == 0
    said = capfd.readouterr().out
    assert "rate=0.001,loss_on=mass,seed=1\n" in said and said.endswith("4 trials\n")
    assert not (tmp_path / "out").exists()
    search = {"optuna": {"trials": 5, "seeds": 2}}
    draws = written(sweep(toys, {"task.width": {"integer": [8, 9]}}, search=search), tmp_path)
    assert main(["sweep", str(draws), "--out", str(tmp_path / "out"), "--dry"]) == 0
    assert capfd.readouterr().out == "10 trials, which Optuna draws as it goes\n"


def test_the_command_refuses_and_leaves_nothing(toys, tmp_path, capfd):
    file = written(sweep(toys, LOSSES, **LABEL), tmp_path)
    assert main(["sweep", str(file), "--out", str(tmp_path / "out")]) == 2
    assert "'loss_label' is a loss" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(["sweep", str(tmp_path / "none.yaml"), "--out", str(tmp_path / "out")]) == 2


def test_the_command_ends_in_a_page_and_the_next_command(toys, tmp_path, capfd, monkeypatch):
    """Of trials that are done already: Ray is not needed for them."""
    family, out = sweep(toys, RATES), tmp_path / "out"
    for one in family.trials():
        launch.train(here(one.run), out / "trials" / one.name)
    folder.claim(family, tmp_path / "claimed")
    (tmp_path / "claimed" / "sweep.yaml").rename(out / "sweep.yaml")
    monkeypatch.setattr(trials, "cluster", lambda *_: pytest.fail("Ray was started"))
    assert main(["sweep", str(written(family, tmp_path)), "--out", str(out)]) == 0
    said = capfd.readouterr().out
    assert "2 trials: 2 done" in said and f"the report is {out}/index.html" in said
    assert f"next: jetscale report {out.absolute()}/trials/rate=0.0" in said
    assert (out / "index.html").is_file() and (out / "trials.parquet").is_file()
