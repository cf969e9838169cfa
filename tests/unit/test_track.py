"""The log of a training: every step once, also where it was killed and went on, and figures that JSON can hold."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetscale.evaluate.logs import curves, seconds
from jetscale.events import Events
from jetscale.run import Run, resolve
from jetscale.systems.assigner import Assigner
from jetscale.task import At
from jetscale.train import track as module
from jetscale.train.launch import train
from jetscale.train.track import LOG, Tracker, lines

NAME, STEPS = "0123456789ab", 30


def settings(toy: str) -> Run:
    values = {"system": "assigner", "task": {"width": 16, "layers": 2, "readout": "argmax"},
              "stream": {"samples": {"toy": {"events": toy}}}, "horizon": {"steps": 12},
              "scale": {"engine": "torch", "launch": "here"},
              "track": {"wandb": False, "log_every": 3}}  # fmt: skip
    return resolve([("test", values)], "test").run


def follow(out: Path, after: int, last: int, part: int = 0) -> Tracker:
    """Track the steps between two, with a validation after every tenth; `part` tells who wrote a line."""
    track = Tracker(settings("toy"), NAME, out, STEPS, after)
    for step in range(after, last):
        track.step(At(step, 0, 0.0), {"label": step + 1.0, "part": float(part)}, 1e-3, 100.0, 0.0)
        if (step + 1) % 10 == 0:
            track.validation(At(step + 1, 0, 0.0), {"f10": 0.1 * (step + 1), "mass_auc": float("nan")})
    return track


def die(track: Tracker, torn: str = "") -> None:
    """What a killed process leaves: no end, perhaps half a line."""
    track.log.write(torn)
    track.log.close()


def test_the_log_has_a_line_for_every_third_step(tmp_path):
    Events.write(Assigner().toy(300, 1), tmp_path / "toy")
    run = train(settings(str(tmp_path / "toy")), tmp_path / "run")
    kinds = [line["kind"] for line in lines(run)]
    assert kinds[0] == "start" and kinds[-1] == "end"
    assert [line["step"] for line in lines(run, "step")] == [3, 6, 9, 12]


@pytest.mark.parametrize("torn", ["", '{"kind": "step", "st', '{"kind": "step", "step": 99', "nu", '"', "[1]"])
def test_a_log_that_goes_on_has_every_step_once(tmp_path, torn):
    die(follow(tmp_path, 0, 17), torn)
    follow(tmp_path, 10, STEPS, part=1).close("done")
    assert [line["step"] for line in lines(tmp_path, "step")] == list(range(1, STEPS + 1))
    assert [line["loss"]["part"] for line in lines(tmp_path, "step")] == [0] * 10 + [1] * 20
    assert [line["step"] for line in lines(tmp_path, "validation")] == [10, 20, 30]
    assert [line["kind"] for line in lines(tmp_path) if "steps" in line or "status" in line] == [
        "start", "resume", "end",
    ]  # fmt: skip
    for text in (tmp_path / LOG).read_text().splitlines():
        json.loads(text)


@given(st.lists(st.tuples(st.integers(0, STEPS - 1), st.integers(1, STEPS)), max_size=5))
def test_however_often_it_is_killed(tmp_path_factory, starts):
    out = tmp_path_factory.mktemp("run")
    reached = 0
    for after, more in [*starts, (STEPS - 1, 1)]:
        begin, reached = min(after, reached), min(STEPS, min(after, reached) + more)
        die(follow(out, begin, reached))
    follow(out, reached, STEPS).close("done")
    assert [line["loss"]["label"] for line in lines(out, "step")] == list(range(1, STEPS + 1))
    assert len(lines(out, "start")) <= 1 and len(lines(out, "end")) == 1
    found = curves(out)
    assert found.terms["label"][0].tolist() == list(range(1, STEPS + 1))
    assert found.figures["f10"][0].tolist() == [10, 20, 30] and "mass_auc" not in found.figures


def test_an_end_is_taken_back_where_the_training_goes_on(tmp_path):
    follow(tmp_path, 0, 12).close("failed")
    follow(tmp_path, 12, 13).close("done")
    assert [line["status"] for line in lines(tmp_path, "end")] == ["done"]


def test_a_training_from_the_start_has_a_new_log(tmp_path):
    follow(tmp_path, 0, 12).close("failed")
    follow(tmp_path, 0, 3).close("done")
    assert [line["kind"] for line in lines(tmp_path)] == ["start", "step", "step", "step", "end"]


def test_a_log_that_was_lost_begins_where_the_training_goes_on(tmp_path):
    follow(tmp_path, 12, 14).close("done")
    assert [line["kind"] for line in lines(tmp_path)] == ["resume", "step", "step", "end"]


def test_the_time_left_is_that_of_the_steps_made_since(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    track = Tracker(settings("toy"), NAME, tmp_path, STEPS)
    now[0] = 100.0  # ten seconds a step
    track.step(At(9, 0, 0.0), {}, 1e-3, 1.0, 0.0)
    die(track)
    track = Tracker(settings("toy"), NAME, tmp_path, STEPS, after=10)
    now[0] = 105.0  # one second a step
    track.step(At(14, 0, 0.0), {}, 1e-3, 1.0, 0.0)
    track.close("done")
    first, second = lines(tmp_path, "step")
    assert (first["seconds"], first["left_s"]) == (100.0, 200.0)
    assert (second["seconds"], second["left_s"]) == (105.0, 15.0)
    assert seconds(tmp_path) == 105.0


def test_a_step_that_was_validated_again_is_one_point(tmp_path):
    follow(tmp_path, 0, 10).close("failed")
    track = Tracker(settings("toy"), NAME, tmp_path, STEPS, after=10)
    track.validation(At(10, 0, 0.0), {"f10": 0.5})
    track.close("done")
    assert curves(tmp_path).figures["f10"][1].tolist() == [0.5]
