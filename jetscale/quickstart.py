"""The quickstart: the main job on the sample that ships, from training to the report."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from jetscale.data.cluster import cluster
from jetscale.errors import TrainError
from jetscale.evaluate.learned import gains
from jetscale.evaluate.report import Scored, report
from jetscale.evaluate.score import score
from jetscale.events import SHIPPED, Events
from jetscale.run import Run, load
from jetscale.shape import built_in, shape
from jetscale.terminal import Terminal
from jetscale.train.launch import train

SAMPLES = ("gluino-900", "gluino-1100", "gluino-1300", "gluino-1500", "gluino-1700", "gluino-1500-750", "qcd")
ANOTHER_MASS = "{gluino-1500: {events: shipped:gluino-1500}, qcd: {events: shipped:qcd}}"


def quickstart(out: Path, seed: int) -> Path:
    """Train, score and report in a folder; the page that it wrote.

    Raises:
        TrainError: the network did not learn: it does not beat its untrained start and random grouping by 5 standard
            errors in f10 and in jet accuracy.
    """
    terminal = Terminal(stages=5)
    with terminal.logs_to(out / "output.log"):
        with terminal.stage("opening the sample that ships", about_s=2):
            run = load(built_in("jobs") / "assigner.yaml", [f"seed={seed}"]).run
            samples = [Events.open(SHIPPED + name) for name in SAMPLES]
        _train(run, out / "run", terminal)
        with terminal.stage("scoring, trained and untrained", about_s=30):
            trained = _scored(out / "run", samples, out / "scored")
            untrained = _scored(out / "run", samples, out / "untrained", untrained=True)
        with terminal.stage("writing the report", about_s=30):
            page = report(trained, out / "report", command=f"jetscale quickstart --out {out} --seed {seed}",
                          wall={stage: s for stage, s in terminal.seconds.items() if stage != "training"})  # fmt: skip
            found = gains(trained, untrained)
    terminal.say("\non events that the network has not seen:")
    for gain in found:
        terminal.say(f"  {gain}")
    if not all(gain.enough for gain in found):
        raise TrainError("the network has not learned: a gain is below 5 standard errors", where=str(out / "run"),
                         cure=f"look at the learning curves in {page}")  # fmt: skip
    terminal.say(f"\nthe report is {page}\n\nto try next:")
    for what, command in next_commands(out):
        terminal.say(f"  {what}")
        terminal.say(f"    {command}", "bold")
    return page


def next_commands(out: Path) -> list[tuple[str, str]]:
    """What to try after the quickstart: (what, command)."""
    return [
        ("train on another mass", f"jetscale train shipped:assigner --out {out}-1500 "
                                  f"--set 'stream.samples={ANOTHER_MASS}'"),
        ("train on two workers", f"jetscale train shipped:assigner --out {out}-two --set scale.workers=2"),
        ("score your own events, written by jetscale.Events.write(array, 'MY_EVENTS')",
         f"jetscale score {out / 'run'} --events MY_EVENTS --out MY_SCORES"),
    ]  # fmt: skip


def _train(run: Run, out: Path, terminal: Terminal) -> None:
    """Ray's start is a stage of its own, so that it is never silence."""
    with ExitStack() as stack:
        with terminal.stage("starting Ray", about_s=10):
            stack.enter_context(cluster(shape(run.scale.shape)))
        with terminal.stage("training", about_s=90, follow=out / "log.jsonl"):
            train(run, out)


def _scored(run: Path, samples: Sequence[Events], out: Path, *, untrained: bool = False) -> list[Scored]:
    return [Scored("network", score(run, sample, out / sample.name, untrained=untrained), run) for sample in samples]
