"""The study as a noun: its grid, the runs that follow, and what it refuses."""

from pathlib import Path

import pytest
import yaml

from jetscale.errors import ConfigError
from jetscale.study import Found, Setting, Study, Training, load

SHIPPED = Path(__file__).parents[2] / "jobs" / "studies" / "multijet.yaml"
FOUND = {
    "light": Found("events/light", 4000, 900.0, 3), "heavy": Found("events/heavy", 4000, 1300.0, 3),
    "between": Found("events/between", 500, 1100.0, 3), "qcd": Found("events/qcd", 2000, 0.0, 0),
}  # fmt: skip


def values(**changes) -> dict:
    made = {
        "samples": {name: {"events": one.place, "generate": {"process": "qcd"}} for name, one in FOUND.items()},
        "train_on": {"single": ["heavy"], "mixed": ["light", "heavy"]},
        "background": "qcd", "background_weight": 0.3, "holdouts": ["between"],
        "training": {"system": "assigner", "horizon": {"steps": 10}},
        "sizes": {"small": {"weights": [0, 0.3, 3]},
                  "large": {"weights": [0, 0.3], "signal_events": 10, "background_events": 20, "seeds": [1, 2],
                            "networks": ["equivariant", "dense"]}},
    }  # fmt: skip
    return {**made, **changes}


def study(tmp_path: Path, *sets: str, **changes) -> Study:
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump({"study": values(**changes)}))
    return load(file, sets)


def test_the_grid_has_every_loss_on_one_mass_on_several_and_with_background(tmp_path):
    made = study(tmp_path)
    points = made.trainings(made.size("small"))
    assert [point.name for point in points[:4]] == [
        "label-single-equivariant-s1", "label-mixed-equivariant-s1", "label-mixed-w0.3-equivariant-s1",
        "label-mixed-w3-equivariant-s1"]  # fmt: skip
    assert len(points) == 2 * 4
    assert len(made.trainings(made.size("large"))) == 2 * 3 * 2 * 2
    assert len({point.name for point in made.trainings(made.size("large"))}) == 24


def test_the_background_weighs_so_many_times_as_much_as_all_signals(tmp_path):
    made = study(tmp_path)
    run = made.run(made.size("small"), Training("mass", "mixed", 0.3, "dense", 7), FOUND)
    sources = run.stream.samples
    assert list(sources) == ["light", "heavy", "qcd"]
    assert sources["qcd"].weight * 2000 == pytest.approx(0.3 * 8000)
    assert sources["light"].weight == 1.0
    assert (run.task.values()["loss_on"], run.task.values()["network"], run.seed) == ("mass", "dense", 7)


def test_weight_0_and_one_mass_have_no_background_in_them(tmp_path):
    made = study(tmp_path)
    for setting, wanted in ((Setting("single"), ["heavy"]), (Setting("mixed"), ["light", "heavy"])):
        run = made.run(made.size("small"), Training("label", *setting, "equivariant", 1), FOUND)
        assert list(run.stream.samples) == wanted


def test_settings_of_a_size_win_over_those_of_the_study_and_those_of_a_loss_over_both(tmp_path):
    sizes = {"small": {"weights": [0, 0.3], "label": {"horizon": {"epochs": 3}}, "training": {"seed": 3}}}
    made = study(tmp_path, sizes=sizes, label={"horizon": {"steps": 20}}, mass={"horizon": {"steps": 30}})
    label, mass = (made.run(made.size("small"), Training(loss, "single", 0.0, "equivariant", 1), FOUND)
                   for loss in ("label", "mass"))  # fmt: skip
    assert (label.horizon.epochs, label.horizon.steps) == (3, None)
    assert mass.horizon.steps == 30
    assert mass.seed == 1, "the grid has the last word"


def test_sets_reach_a_size_and_replace_a_horizon(tmp_path):
    made = study(tmp_path, "sizes.small.label.horizon.epochs=2", "training.horizon.events=1e5",
                 sizes={"small": {"weights": [0, 0.3], "label": {"horizon": {"steps": 5}}}})  # fmt: skip
    assert made.size("small").label == {"horizon": {"epochs": 2}}
    assert made.training["horizon"] == {"events": 1e5}


def test_a_mass_run_starts_from_the_label_run_alike_or_from_nothing(tmp_path):
    point = Training("mass", "mixed", 0.3, "dense", 2)
    assert study(tmp_path).starts_from(point) == Training("label", "mixed", 0.3, "dense", 2)
    assert study(tmp_path).starts_from(point._replace(loss="label")) is None
    assert study(tmp_path, mass_starts="fresh").starts_from(point) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"holdouts": ["heavy"]}, r"with heavy held out, 0 of the samples of 'single' are left to train on"),
        ({"holdouts": ["light"]}, r"with light held out, 1 of the samples of 'mixed' are left to train on, .* needs 2"),
        ({"holdouts": ["betwen"]}, "no sample 'betwen'; did you mean 'between'"),
        ({"holdouts": ["qcd"]}, "'qcd' is the background, and a signal too"),
        ({"split": {"train": 0.8, "validation": 0.2, "test": 0.0}}, "test has no share"),
        ({"sizes": {"small": {"weights": [0, 1]}}}, "sizes.small.weights lacks 0.3"),
        ({"sizes": {"small": {"weights": [0.3, 1]}}}, "sizes.small.weights lacks 0, which"),
        ({"sizes": {"small": {"weights": [0, 0.3, 0.3]}}}, "weights names one twice"),
        ({"sizes": {"small": {"weights": [0, 0.3], "signal_events": 5}}}, "belong together"),
        ({"samples": {**values()["samples"], "odd": {}}}, "says neither events: nor generate:"),
        ({"samples": {**values()["samples"], "odd": {"generate": {"seed": 2}}}}, "'seed', which the study sets"),
        ({"training": {"system": "assigner"}, "hold_outs": []}, "unknown key 'hold_outs'"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, changes, said):
    with pytest.raises(ConfigError, match=said):
        study(tmp_path, **changes)


def test_a_held_out_sample_is_taken_out_of_what_is_trained_on(tmp_path):
    three = {"single": ["heavy"], "mixed": ["light", "between", "heavy"]}
    assert study(tmp_path, train_on=three).signals("mixed") == ("light", "heavy")


def test_sizes_that_are_not_there_are_named(tmp_path):
    with pytest.raises(ConfigError, match="no size 'smal'.*\n.*did you mean 'small'"):
        study(tmp_path).size("smal")


def test_samples_that_a_size_lacks(tmp_path):
    samples = {**values()["samples"], "between": {"generate": {"process": "qcd"}}}
    made = study(tmp_path, samples=samples)
    assert "between" in made.used(made.size("large"))
    with pytest.raises(ConfigError, match="none of the hold-outs has events"):
        made.used(made.size("small"))
    made = study(tmp_path, samples={**values()["samples"], "heavy": {"generate": {"process": "qcd"}}})
    with pytest.raises(ConfigError, match=r"'heavy' has no events:, and this size asks for it"):
        made.used(made.size("small"))


def test_a_file_of_another_verb(tmp_path):
    file = tmp_path / "job.yaml"
    file.write_text("train: {system: assigner}\n")
    with pytest.raises(ConfigError, match="'train', not 'study'"):
        load(file)


def test_longer_axes_are_the_same_study_grown_and_anything_else_is_another(tmp_path):
    def small(**changes) -> dict:
        return {"small": {"weights": [0, 0.3], **changes}}

    before = study(tmp_path, sizes=small())
    assert before.grown_from(before)
    for size in ({"seeds": [1, 2]}, {"weights": [0, 0.3, 1]}, {"networks": ["equivariant", "dense"]}, {"replicas": 50}):
        after = study(tmp_path, sizes=small(**size))
        assert after.grown_from(before), size
        assert before.grown_from(after) == ("replicas" in size), size
    assert not study(tmp_path, sizes=small(), holdouts=["between"], seed=2).grown_from(before)
    assert not study(tmp_path, sizes={"large": {"weights": [0, 0.3]}}).grown_from(before)
    assert not study(tmp_path, sizes=small(training={"seed": 2})).grown_from(before)


def test_the_study_that_ships_has_its_three_sizes():
    made = load(SHIPPED)
    assert list(made.sizes) == ["quick", "full", "cluster"]
    quick, full = made.size("quick"), made.size("full")
    assert (len(made.trainings(quick)), len(made.trainings(full))) == (10, 84)
    assert (full.signal_events, full.background_events, len(full.seeds)) == (20_000, 50_000, 3)
    assert set(full.weights) == {0, 0.03, 0.1, 0.3, 1, 3}
    assert len(quick.weights) == 4
    assert set(made.used(full)) - set(made.used(quick)) == {"gluino-700", "squark-1500-750"}
