"""Conducting without Ray: what is refused before anything starts, what methods become, and the pictures."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from verdicts import best, evidence, ranked

from jetscale import cli
from jetscale.conduct import figures, page, samples, scores, stages
from jetscale.conduct.estimate import estimate
from jetscale.conduct.scores import Bench, Method
from jetscale.conduct.stages import Clock, Work, check, places
from jetscale.config import Values
from jetscale.errors import ConfigError, DataError
from jetscale.evaluate.figures import picture
from jetscale.evaluate.logs import Curves
from jetscale.events import Events, Manifest, write_manifest, write_shard
from jetscale.schema import ASSIGNMENT, JET_EVENTS, Column
from jetscale.study import LOSSES, Found, Study, Training, load

SHIPPED = Path(__file__).parents[2] / "jobs" / "studies" / "multijet.yaml"
SPLIT = Column(name="split", dtype="int8", unit="", doc="part")


def work(out: Path, *sets: str, size: str = "quick") -> Work:
    study = load(SHIPPED, sets)
    return Work(study, study.size(size), size, out)


def test_the_study_that_ships_can_begin(tmp_path):
    found = check(work(tmp_path / "out"))
    assert found["gluino-1500-750"] == Found("shipped:gluino-1500-750", 4000, 1500.0, 5)
    assert not (tmp_path / "out").exists(), "a check makes nothing"


def test_what_will_be_generated_is_known_beforehand(tmp_path):
    found = check(work(tmp_path, size="full"))
    assert found["squark-1500-750"][1:] == (20_000, 1500.0, 4)
    assert found["qcd"][1:] == (50_000, 0.0, 0)
    made = samples.jobs(work(tmp_path).study, work(tmp_path).study.size("full"))
    assert made["qcd"].pthat_min == 350 and not made["qcd"].mpi and len({job.name for job in made.values()}) == 9


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["sizes.quick.classical=[asymmetry_7]"], "no classical method 'asymmetry_7'"),
        (["readouts=[argmax, mbrr]"], "readout"),
        (["training.task.widht=3"], "widht"),
        (["training.system=asigner"], "no system 'asigner'"),
        (["training.scale.shape=lapptop"], "lapptop"),
        (["samples.gluino-900.events=shipped:gluino-901"], "no shipped sample 'gluino-901'"),
        (["background=gluino-700"], "is the background, and a signal too"),
    ],
)
def test_what_cannot_come_to_its_end_does_not_begin(tmp_path, sets, said):
    with pytest.raises((ConfigError, DataError), match=said):
        check(work(tmp_path / "out", *sets))
    assert not (tmp_path / "out").exists()


def test_a_generate_job_that_cannot_be_names_its_sample(tmp_path):
    with pytest.raises(ConfigError, match=r"samples.gluino-700.generate"):
        check(work(tmp_path, "samples.gluino-700.generate.mass=-3", size="full"))


def test_a_folder_of_another_study_is_refused_with_the_difference(tmp_path):
    first = work(tmp_path)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"study": first.study.at("quick").values()}))
    check(first)
    check(work(tmp_path, "sizes.quick.seeds=[1, 2]"))
    with pytest.raises(ConfigError, match=r"holds another study:\n  background_weight: 0.3 -> 3.0\n"):
        check(work(tmp_path, "background_weight=3"))
    with pytest.raises(ConfigError, match=r"sizes.quick.*-> \(absent\)"):
        check(work(tmp_path, size="full"))


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ConfigError, match="holds 'notes.txt' and no study"):
        check(work(tmp_path))


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--size", "quik"], "did you mean 'quick'"), (["--until", "lable"], "'lable'"),
     (["--set", "holdouts=[gluino-1300]"], "left to train on"), (["--set", "sizes.quick.classical=[x]"], "'x'")],
)  # fmt: skip
def test_wrong_usage_has_exit_code_2_and_leaves_nothing(tmp_path, capsys, words, said):
    assert cli.main(["study", "shipped:studies/multijet", "--out", str(tmp_path / "out"), *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_places_are_seen_from_the_mixed_masses():
    study = load(SHIPPED)
    found = {name: Found("", 1, float(name.split("-")[1]) if "-" in name else 0.0, 3) for name in study.samples}
    found["gluino-1500-750"] = Found("", 1, 1500.0, 5)
    assert places(study, found) == {
        "gluino-700": "outside", "gluino-900": "trained", "gluino-1100": "inside", "gluino-1300": "trained",
        "gluino-1500": "outside", "gluino-1700": "outside", "gluino-1500-750": "decay",
        "squark-1500-750": "outside"}  # fmt: skip


def test_the_estimate_counts_what_is_left(tmp_path):
    small = ["training.task.width=8", "training.task.layers=2", "readouts=[argmax]", "sizes.quick.classical=[]"]
    one = work(tmp_path, *small)
    (said,) = estimate(one, check(one))
    assert said.startswith("10 trainings and 10 scorings are to be done: about ")
    assert "training" in said and "generating" not in said
    full = work(tmp_path / "full", *small, "sizes.full.classical=[]", "sizes.full.networks=[equivariant]", size="full")
    assert "generating" in estimate(full, check(full))[0]


def test_there_is_time_for_a_piece_that_is_no_longer_than_the_longest_so_far():
    clock = Clock(100.0)
    assert clock.allows("label")
    clock.longest["label"] = 99.0
    assert clock.allows("label") and clock.allows("mass")
    clock.longest["label"] = 101.0
    assert not clock.allows("label") and clock.allows("mass")
    assert Clock(None, longest={"label": 1e9}).allows("label")


def scored(folder: Path, mass: float, rows: int = 40, split: int = 3) -> Events:
    """Events with four jets, of which the last is given to none with probability 0.9; masses by a seed."""
    dice = np.random.default_rng(int(mass))
    schema = JET_EVENTS.plus(*ASSIGNMENT.columns, SPLIT)
    jets: Values = {"jet_pt": [400, 300, 200, 100], "jet_eta": [0.1] * 4, "jet_phi": [0.0, 1, 2, 3],
                    "jet_mass": [5.0] * 4, "jet_parent_ancestry": [1, 2, 0, 1], "jet_parent_quark": [1, 2, 0, 1],
                    "jet_assigned": [1, 2, 0, 0], "jet_none_probability": [0.1, 0.2, 0.7, 0.9]}  # fmt: skip
    columns = {"event_id": np.arange(rows) + int(mass), "weight": np.ones(rows), "true_mass": np.full(rows, mass),
               "decay_mode": np.full(rows, 3 if mass else 0), "split": np.full(rows, split),
               "reco_mass": dice.normal(mass or 400, 60, rows).clip(1)}  # fmt: skip
    for column in schema.each():
        columns.setdefault(column.name, [jets[column.name]] * rows if column.of else np.ones(rows))
    table = pa.table([pa.array(columns[one.name]).cast(one.arrow) for one in schema.each()], schema=schema.arrow)
    shard = write_shard(table, folder / "shard-00000.parquet", schema)
    write_manifest(Manifest(name=folder.name, columns=schema.columns, shards=(shard,)), folder)
    return Events.open(folder)


def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: int = 3) -> Bench:
    events = {"heavy": scored(tmp_path / "heavy", 1000.0, split=split), "qcd": scored(tmp_path / "qcd", 0.0)}
    monkeypatch.setattr(scores, "_scored", lambda bench, method, run_dir, name: events[name])
    found = {"heavy": Found("", 40, 1000.0, 3), "qcd": Found("", 40, 0.0, 0)}
    return Bench(tmp_path, dict.fromkeys(events, ""), found, {"heavy": "inside"}, "qcd",
                 "jet_parent_ancestry", 20)  # fmt: skip


def test_a_network_is_judged_with_figures_errors_and_ranks(tmp_path, monkeypatch):
    point = Training("mass", "mixed", 0.3, "dense", 2)
    (row,), ranks = scores.judge(bench(tmp_path, monkeypatch), Method(point.name, point, "mbr"), None)
    assert row[:9] == ("mass-mixed-w0.3", "mass", "mixed", 0.3, "dense", "mbr", 2, "heavy", "inside")
    assert row.figures["f10"].value > 0.7 and row.figures["f10"].error > 0
    assert row.figures["mass_auc"].value == 1.0
    assert row.figures["background_median"].value == pytest.approx(400, abs=40)
    assert row.figures["jet_accuracy"].value == 0.75
    # jets 1, 2 and 4 come from a parent; the third does not
    assert [(one.rank, one.n, pytest.approx(one.mean)) for one in ranks] == [(1, 40, 0.1), (2, 40, 0.2), (4, 40, 0.9)]


def test_rows_are_kept_until_what_they_are_made_of_changes(tmp_path, monkeypatch):
    made, calls = bench(tmp_path, monkeypatch), []
    real = scores._rows
    monkeypatch.setattr(scores, "_rows", lambda *given: calls.append(1) or real(*given))
    first = scores.judge(made, Method("asymmetry_6"), None)
    assert repr(scores.judge(made, Method("asymmetry_6"), None)) == repr(first)
    assert len(calls) == 1 and first[0][0].classical and first[1] == []
    scores.judge(made._replace(replicas=30), Method("asymmetry_6"), None)
    assert len(calls) == 2


def test_events_that_a_training_has_seen_are_an_error(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="40 events have been trained or validated on"):
        scores.judge(bench(tmp_path, monkeypatch, split=1), Method("asymmetry_6"), None)


def drawn() -> figures.Drawn:
    ranks = [*ranked("dense", 0.06), *ranked("equivariant", 0.02), *ranked("equivariant", 0.01, mode=3)]
    made = evidence(best, ranks=ranks, curves={})
    dice = np.random.default_rng(3)
    names = {row.sample for row in made.rows if row.place != "decay"}
    masses = {(setting.named(loss), name): (dice.normal(1000, 100, 50), np.ones(50))
              for loss in LOSSES for setting in made.settings for name in names}  # fmt: skip
    curve = (np.arange(5.0), dice.random(5))
    learning = {Training(loss, *setting, "equivariant", 1): Curves({}, {}, {"f10": curve, "jet_accuracy": curve})
                for loss in LOSSES for setting in made.settings}  # fmt: skip
    return figures.Drawn(made, ["argmax"], masses, {"single": [1300.0], "mixed": [900.0, 1300.0]}, learning, True)


def test_networks_have_a_line_each_in_every_decay_and_the_same_bytes_twice(tmp_path):
    figure = figures.ranks(drawn())
    assert [ax.get_title() for ax in figure.axes] == ["3 quarks per parent", "5 quarks per parent, not trained on"]
    assert {len(line.get_xdata()) for ax in figure.axes for line in ax.lines if len(line.get_xdata())} == {12}
    one, two = (picture("ranks", "", "", figures.ranks(drawn()), tmp_path / name) for name in ("one", "two"))
    assert one.png == two.png


def test_the_plane_has_filled_and_empty_markers_and_a_panel_for_every_hold_out():
    figure = figures.plane(drawn())
    assert [ax.get_title() for ax in figure.axes] == ["1100 GeV, inside", "1500 GeV, outside", "1700 GeV, outside",
                                                      "1500 GeV, 5 quarks"]  # fmt: skip
    markers = [line for line in figure.axes[0].lines if line.get_marker() not in ("", "None", "|", "_")]
    inside = [line.get_markerfacecolor() == "white" for line in markers]
    assert (inside.count(True), inside.count(False)) == (3, 3 + 1), "mass; label and one classical method"


def test_the_sentence_sums_the_verdicts_up():
    assert page.sentence({"argmax": stages.report.claims.judge(evidence(best))}).startswith("With the read-out argmax,")
    made = {"mbr": [stages.report.claims.Claim(name, "", 1, "", ()) for name in ("C1", "C2", "C3")]}
    assert page.sentence(made) == "With the read-out mbr, C1, C2 and C3 are undecided."


def test_a_claim_that_no_read_out_changes_stands_once():
    judged = {name: stages.report.claims.judge(evidence(best)) for name in ("argmax", "mbr")}
    assert [len(one) for one in page._together(judged)] == [1] * 6
    judged["mbr"] = stages.report.claims.judge(evidence())
    assert [len(one) for one in page._together(judged)] == [1, 1, 1, 2, 1, 2]


def test_settings_on_the_page_are_the_study(tmp_path):
    study = load(SHIPPED).at("quick")
    made = evidence(best)
    text = page.render(study, study.size("quick"), {}, made, {"argmax": stages.report.claims.judge(made)}, [])
    assert json.dumps("x")[0] == '"' and "background_weight: 0.3" in text and "<td>asymmetry_6</td>" in text
    assert isinstance(study, Study)
