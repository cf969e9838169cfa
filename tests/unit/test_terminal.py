"""The terminal: stages are announced, others' output goes to the log, progress comes from the trainer's file."""

import io
import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from jetscale.terminal import Tail, Terminal, picture, sentences

STEP = {
    "kind": "step", "step": 120, "of": 400, "epoch": 1, "loss": {"label": 0.51234, "mass": None},
    "events_per_s": 1234.5, "wait": 0.031, "left_s": 80.4,
}  # fmt: skip

NOISY = """
import os, subprocess, sys
from pathlib import Path
from jetscale.terminal import Terminal
terminal = Terminal(stages=1)
with terminal.logs_to(Path(sys.argv[1])), terminal.stage("making noise", about_s=2):
    print("from python")
    os.write(2, b"from a library\\n")
    subprocess.run(["echo", "from a child"], check=True)
    terminal.say("from us")
print("afterwards")
"""


def written(terminal: Terminal) -> str:
    return terminal.console.file.getvalue()


@pytest.fixture
def plain() -> Terminal:
    return Terminal(stages=2, every_s=0.0, console=Console(file=io.StringIO(), width=60))


def test_stages_count_and_say_what_to_expect(plain):
    with plain.stage("starting Ray", about_s=20):
        pass
    with plain.stage("training"):
        pass
    assert written(plain).splitlines() == [
        "1/2 starting Ray (about 20 s)", "1/2 starting Ray: done in 0 s", "2/2 training", "2/2 training: done in 0 s",
    ]  # fmt: skip
    assert list(plain.seconds) == ["starting Ray", "training"]


def test_a_stage_that_fails_says_so_and_keeps_no_time(plain):
    with pytest.raises(ValueError, match="broken"), plain.stage("training"):
        raise ValueError("broken")
    assert "1/2 training: failed after 0 s" in written(plain)
    assert plain.seconds == {}


def test_brackets_and_long_lines_stay_as_they_are(plain):
    line = "wrote [red]" + "x" * 200
    plain.say(line)
    assert written(plain) == line + "\n"


def test_a_training_is_followed_while_it_writes(plain, tmp_path):
    log = tmp_path / "log.jsonl"
    with plain.stage("training", follow=log), log.open("w") as stream:
        for step in (10, 20):
            stream.write(json.dumps({**STEP, "step": step}) + "\n")
            stream.flush()
            time.sleep(0.6)
    lines = written(plain).splitlines()
    assert [line.split()[1] for line in lines if line.startswith("  step")] == ["10", "20"]


def test_the_sentences_hold_all_that_matters():
    seen = {"kind": "validation", "step": 100, "metrics": {"f10": 0.25, "mass_auc": float("nan"), "width": None}}
    validation, step = sentences({"step": STEP, "validation": seen})
    assert validation == "validation at step 100: f10 0.25"
    for word in ("step 120 of 400", "label 0.5123", "mass -", "1,234 events/s", "waiting for data 3 %", "1:20 left"):
        assert word in step


def test_nothing_is_said_before_the_first_step():
    assert sentences({"start": {"kind": "start", "steps": 400}}) == []


def test_the_picture_says_the_same():
    console = Console(file=io.StringIO(), width=120)
    console.print(picture({"step": STEP}))
    assert "step 120 of 400" in console.file.getvalue()
    assert "waiting for data 3 %" in console.file.getvalue()


def test_a_half_written_line_waits(tmp_path):
    log = tmp_path / "log.jsonl"
    tail = Tail(log)
    assert tail.last() == {}
    text = json.dumps(STEP) + "\n"
    log.write_text(text[:20])
    assert tail.last() == {}
    log.write_text(text)
    assert tail.last()["step"]["step"] == 120


def test_a_log_begun_anew_is_read_anew(tmp_path):
    log = tmp_path / "log.jsonl"
    tail = Tail(log)
    log.write_text((json.dumps(STEP) + "\n") * 3)
    tail.last()
    log.write_text(json.dumps({**STEP, "step": 1}) + "\n")
    assert tail.last()["step"]["step"] == 1


def test_a_log_of_before_is_not_told_again(plain, tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps(STEP) + "\n")
    with plain.stage("training", follow=log):
        pass
    assert "step" not in written(plain)
    tail = Tail(log)
    longer = json.dumps({**STEP, "step": 1}) + "\n" + json.dumps({**STEP, "step": 2}) + "\n"
    log.write_text(longer)
    assert tail.last()["step"]["step"] == 2
    log.write_text(longer + json.dumps({**STEP, "step": 3}) + "\n")
    assert tail.last()["step"]["step"] == 3


def test_a_training_that_goes_on_is_told_from_there(tmp_path):
    log = tmp_path / "log.jsonl"
    start, resume = {"kind": "start", "steps": 400}, {"kind": "resume", "step": 100, "steps": 400}
    kept = [start, {**STEP, "step": 100}]
    log.write_text("".join(json.dumps(line) + "\n" for line in [*kept, {**STEP, "step": 150}]))
    tail = Tail(log)
    beside = tmp_path / "beside"
    beside.write_text("".join(json.dumps(line) + "\n" for line in [*kept, resume]))
    beside.replace(log)
    assert sentences(tail.last()) == ["going on from step 100 of 400"]
    console = Console(file=io.StringIO(), width=120)
    console.print(picture(tail.last()))
    assert "going on from step 100 of 400" in console.file.getvalue()
    with log.open("a") as stream:
        stream.write(json.dumps({**STEP, "step": 110}) + "\n")
    assert [line.split("  ")[0] for line in sentences(tail.last())] == [
        "going on from step 100 of 400", "step 110 of 400",
    ]  # fmt: skip


def test_a_validation_without_figures_says_nothing():
    seen = {"validation": {"kind": "validation", "step": 0, "metrics": {"width": None}}, "step": STEP}
    assert [line.split()[0] for line in sentences(seen)] == ["step"]
    console = Console(file=io.StringIO(), width=120)
    console.print(picture(seen))
    assert "so far" not in console.file.getvalue()


@pytest.mark.parametrize("noise", [b"", b"a banner\n"])
def test_a_log_without_a_word_leaves_nothing_behind(tmp_path, noise):
    log: Path = tmp_path / "deep" / "er" / "output.log"
    with pytest.raises(ValueError, match="refused") as problem, Terminal().logs_to(log):
        os.write(1, noise)
        raise ValueError("refused")
    assert (tmp_path / "deep").exists() == log.exists() == bool(noise)
    assert hasattr(problem.value, "__notes__") == bool(noise)


def test_folders_that_were_there_or_hold_something_stay(tmp_path):
    (tmp_path / "old").mkdir()
    with Terminal().logs_to(tmp_path / "old" / "new" / "output.log"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["old"] and not list((tmp_path / "old").iterdir())
    with Terminal().logs_to(tmp_path / "old" / "new" / "output.log"):
        (tmp_path / "old" / "new" / "result").touch()
    assert [path.name for path in (tmp_path / "old" / "new").iterdir()] == ["result"]


def test_noise_goes_to_the_log_and_our_lines_to_the_user(tmp_path):
    log = tmp_path / "deep" / "output.log"
    done = subprocess.run([sys.executable, "-c", NOISY, str(log)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "1/1 making noise (about 2 s)", "from us", "1/1 making noise: done in 0 s", "afterwards",
    ]  # fmt: skip
    assert done.stderr == ""
    assert {"from python", "from a library", "from a child"} == set(log.read_text().splitlines())


def test_on_a_real_terminal_the_stage_is_alive(tmp_path):
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", NOISY, str(tmp_path / "log")], stdout=theirs, stderr=theirs, check=True,
                   env={**os.environ, "TERM": "xterm-256color"})  # fmt: skip
    os.close(theirs)
    seen = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "\x1b[" in seen
    assert "making noise (about 2 s)" in seen
    assert "from a library" not in seen


def test_an_error_takes_the_end_of_the_log_along(tmp_path):
    log: Path = tmp_path / "output.log"
    with pytest.raises(ValueError, match="broken") as problem, Terminal().logs_to(log):
        os.write(1, b"line before the end\n")
        raise ValueError("broken")
    (note,) = problem.value.__notes__
    assert str(log) in note
    assert "| line before the end" in note
