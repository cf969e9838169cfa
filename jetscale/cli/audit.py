"""`jetscale audit`: does a function depend on the model that it was trained on?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from jetscale.cli.shared import LOG, Out, Sets, check_out, started_ray
from jetscale.errors import ConfigError, JetscaleError
from jetscale.terminal import Terminal

if TYPE_CHECKING:
    import pyarrow as pa

    from jetscale.audit.audit import Report
    from jetscale.sweep.trials import Outcome

audit = typer.Typer()

What = Annotated[
    str,
    typer.Argument(metavar="WHAT", help="the folder of a trained run, classical:NAME, FILE.py:NAME of your own, or an "
                   "audit's JOB.yaml (or shipped:NAME), which trains"),
]  # fmt: skip
STYLES = {"pass": "green", "fail": "red", "undecided": "yellow"}


@audit.command("audit", epilog="Example: jetscale audit classical:asymmetry_6 --trained-on 900,1300 --out audit")
def command(
    context: typer.Context,
    what: What,
    out: Out,
    events: Annotated[
        list[Path] | None, typer.Option("--events", metavar="DIR...", help="samples to probe on; none: made-up pairs")
    ] = None,
    trained_on: Annotated[
        str, typer.Option(metavar="M,M...", help="masses of the training in GeV; default: those of the run's samples")
    ] = "",
    column: Annotated[str, typer.Option(metavar="NAME", help="the output of a run that is looked at")] = "reco_mass",
    kind: Annotated[
        Literal["mass", "score"] | None, typer.Option(help="what scales with all energies, and what does not")
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option("--threshold", metavar="NAME=VALUE", help="change one, or switch it off: NAME=off; as often as "
                     "needed"),
    ] = None,
    most: Annotated[int, typer.Option("--most", metavar="N", min=100, help="events of a sample that are used")] = 4000,
    seed: Annotated[int, typer.Option(metavar="S", help="of the probes")] = 1,
    sets: Sets = None,
) -> None:  # fmt: skip
    """Say whether a mass or a score depends on its training model: one page, audit.json, and the exit code.

    Any function is probed with symmetries of events, and for a pull towards the masses of its training. A job is
    trained with every sample, mode or mass left out in turn, and with several seeds. 0: all thresholds are passed, 1:
    some are not.
    """
    from jetscale.audit.verdicts import Thresholds, changed

    check_out(out)
    if what.endswith(".yaml") or what.startswith("shipped:"):
        if events or trained_on or kind or threshold or column != "reco_mass":
            raise ConfigError("an audit's job says itself what is looked at", where=what,
                              cure="put it into the file; --set changes settings of the job's trainings")  # fmt: skip
        _of_job(what, out, sets or (), context.obj)
        return
    if sets:
        raise ConfigError("there is no job to set something in", where="--set", cure="give an audit's JOB.yaml")
    limits = changed(Thresholds(), threshold or ())
    masses = _masses(trained_on)
    tables, data = _tables(events or ())
    terminal = Terminal(stages=1)
    with terminal.logs_to(out / LOG), terminal.stage(f"probing {what}"):
        from jetscale.audit.audit import audit, check
        from jetscale.audit.functions import find

        subject = find(what, column=column, kind=kind, trained_on=masses)
        report = audit(subject, tables or None, thresholds=limits, events=most, seed=seed, data=data)
        check(report)
    _end(report, out, context.obj, terminal)


def _of_job(what: str, out: Path, sets: Sequence[str], said: str) -> None:
    from jetscale.audit.job import load, plan
    from jetscale.audit.trainings import RUNS, measure
    from jetscale.run import job_file
    from jetscale.shape import shape
    from jetscale.sweep.trials import training

    terminal = Terminal(stages=4)
    job = load(job_file(what), sets)
    with terminal.logs_to(out / LOG):
        with terminal.stage("looking at the samples"):
            planned = plan(job)
        given, title = shape(planned.base.scale.shape), f"training {len(planned.runs)} runs"
        with started_ray(terminal, given), terminal.stage(title):
            outcomes = _told(training(planned.runs, out / RUNS), terminal)
        with terminal.stage("measuring"):
            report = measure(job, planned, outcomes)
    _end(report, out, said, terminal)


def _told(states: Iterable[Mapping[str, Outcome]], terminal: Terminal) -> Mapping[str, Outcome]:
    """What has become of all trainings in the end; says meanwhile how many are over."""
    last: Mapping[str, Outcome] = {}
    told = 0
    for last in states:
        over = sum(outcome.status in ("done", "failed") for outcome in last.values())
        if over > told:
            terminal.say(f"  {over} of {len(last)} trainings are over")
            told = over
    return last


def _end(report: Report, out: Path, said: str, terminal: Terminal) -> None:
    """Write the page, say the verdicts, and fail where one does."""
    from jetscale.audit.page import write
    from jetscale.audit.results import sentence
    from jetscale.audit.verdicts import failed

    page = write(report, out, command=said, wall=terminal.seconds)
    for verdict in report.verdicts:
        limit = "" if verdict.threshold is None else f"  at most {verdict.threshold:g}"
        number = f"{verdict.value:9.4f}" if abs(verdict.value) < 1e5 else f"{verdict.value:9.2g}"
        terminal.say(f"{verdict.state:<10}  {verdict.name:<15}  {number}{limit}"
                     f"{f'  {verdict.note}' if verdict.note else ''}", STYLES.get(verdict.state, "dim"))  # fmt: skip
    terminal.say(f"the audit is {page}")
    if failed(report.verdicts):
        raise JetscaleError(sentence(report), cure=f"see {page}")


def _masses(text: str) -> tuple[float, ...] | None:
    """`900,1300` as numbers; None where nothing is said."""
    try:
        masses = tuple(float(one) for one in text.split(",") if one.strip())
    except ValueError:
        masses = (-1.0,)
    if any(not mass > 0 for mass in masses):
        raise ConfigError(f"{text!r} is not masses in GeV", where="--trained-on", cure="write --trained-on 900,1300")
    return masses or None


def _tables(places: Sequence[Path]) -> tuple[Mapping[str, pa.Table], Mapping[str, str]]:
    """The samples to probe on, and their fingerprints, by name."""
    from jetscale.events import Events

    samples = [Events.open(place) for place in places]
    for sample in samples:
        if [one.name for one in samples].count(sample.name) > 1:
            raise ConfigError(f"two samples are called {sample.name!r}", where="--events", cure="give one of them")
    return {one.name: one.read() for one in samples}, {one.name: one.fingerprint for one in samples}
