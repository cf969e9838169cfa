"""The commands from a job to a report."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, Protocol

import typer
from rich.console import Console
from rich.text import Text

from jetscale.cli.shared import LOG, SAMPLE_LOG, Out, Sets, check_out, job_file, started_ray, tell
from jetscale.errors import ConfigError, JetscaleError
from jetscale.terminal import Terminal

if TYPE_CHECKING:
    from jetscale.events import Events

training = typer.Typer()

Job = Annotated[str, typer.Argument(metavar="JOB.yaml", help="a job's file, or shipped:NAME for one that ships")]
Runs = Annotated[
    list[Path],
    typer.Argument(metavar="RUN...", help="folders that jetscale train or jetscale export has written"),
]
STYLES = {"good": "green", "note": "yellow", "broken": "red"}


@training.command(epilog="Example: jetscale quickstart --out first --seed 2")
def quickstart(
    out: Annotated[Path, typer.Option(metavar="DIR", help="folder to write to")] = Path("quickstart"),
    seed: Annotated[int, typer.Option(metavar="S", help="another seed gives another training")] = 1,
) -> None:
    """Train the jet assigner on the sample that ships, score it and write a report: a few minutes, offline."""
    from jetscale.quickstart import quickstart

    check_out(out)
    quickstart(out, seed)


@training.command(epilog="Example: jetscale systems")
def systems() -> None:
    """List what can be trained, with where each comes from."""
    from jetscale.task import find, names

    terminal = Terminal()
    for name in names():
        title, *rest = find(name).doc.split("\n\n")
        terminal.say(name, "bold")
        terminal.say(f"  {title}")
        for line in "\n".join(rest[:1]).splitlines():
            terminal.say(f"  {line}", "dim")


@training.command(epilog="Example: jetscale show shipped:assigner --why --set optimiser.rate=0.01")
def show(
    job: Job,
    why: Annotated[bool, typer.Option("--why", help="also say which layer set each value")] = False,
    sets: Sets = None,
) -> None:
    """Print the resolved run: every setting, as a job that can be run again."""
    from jetscale.config import leaves
    from jetscale.run import load

    resolved = load(job_file(job), sets or ())
    if not why:
        typer.echo(resolved.run.to_yaml(), nl=False)
        return
    rows = [(key, json.dumps(value), resolved.why[key]) for key, value in leaves(resolved.run.values()).items()]
    wide = [max(len(row[column]) for row in rows) for column in (0, 1)]
    console = Console(highlight=False)
    for key, value, layer in rows:
        line = Text.assemble((f"{key:<{wide[0]}}  ", "cyan"), f"{value:<{wide[1]}}  ")
        console.print(line.append(layer, "dim" if layer == "default" else "bold"), soft_wrap=True)


@training.command(epilog="Example: jetscale train shipped:assigner --out run --set horizon.epochs=5")
def train(job: Job, out: Out, sets: Sets = None) -> None:
    """Train one task on one stream. The same command again goes on with what was interrupted; what is done is left."""
    from jetscale.run import load, read

    run = load(job_file(job), sets or ()).run
    from jetscale.data.plan import Plan
    from jetscale.shape import shape
    from jetscale.train import launch
    from jetscale.train.checkpoint import is_complete, newest

    check_out(out)
    given, found = shape(run.scale.shape), newest(out)
    terminal, trained = Terminal(stages=2 + (run.scale.launch == "ray")), is_complete(out)
    if trained:
        launch.train(run, out)
    else:
        with terminal.stage("opening and counting samples"):
            counted = launch.prepare(run, run.stream.open())
            Plan(run, counted.chunks)
            launch.finished(run, launch.name_of(run, counted), out)
        going_on = f", going on from step {found[1].step}" if found else ""
        log, ray = terminal.logs_to(out / LOG), started_ray(terminal, given if run.scale.launch == "ray" else None)
        with log, ray, terminal.stage(f"training {run.system}{going_on}", follow=out / "log.jsonl"):
            launch.train(run, out, counted)
    if run.best and (ended := newest(out)) and ended[1].watch.figure is not None:
        point = ended[1]
        terminal.say(f"the best {run.best.metric} of validation was {point.watch.figure:.4g} at step {point.watch.step}"
                     f"{f'; patience ended at step {point.step}' if point.ended == 'early' else ''}")  # fmt: skip
    for name, how in read(out).stream.derive.items():
        for note in how.notes() if how.fitted else ():
            terminal.say(f"stream.derive.{name}: {note}", "dim")
    said = "already trained:" if trained else "the run is"
    terminal.say(f"{said} {out}; next: jetscale report {out} --events SAMPLE... --out REPORT")


@training.command(epilog="Example: jetscale score run classical:hemispheres --events sample --out scored")
def score(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="folders as from jetscale train or export, or classical:NAME"),
    ],
    events: Annotated[Path, typer.Option("--events", metavar="DIR", help="the sample to score, or shipped:NAME")],
    out: Out,
    format: Annotated[
        Literal["parquet", "root"], typer.Option(help="root: for ROOT too, OUT.root and OUT.friends beside the folder")
    ] = "parquet",
    constants: Annotated[
        list[str] | None,
        typer.Option("--constant", metavar="NAME=VALUE", help="a column that is one number; as often as needed"),
    ] = None,
) -> None:
    """Add a run's columns to a sample. Several runs give one folder each, OUT/RUN.

    Runs that are all folds of one split give one sample: every event is scored by the run that has not seen it. A
    scoring that was interrupted goes on where it was. Classical methods need no training: classical:asymmetry_6,
    asymmetry_8, asymmetry_12, delta_r, hemispheres.
    """
    from jetscale.evaluate.friends import origins, write_friends
    from jetscale.evaluate.root import refuse_stranger, write_root
    from jetscale.events import Events

    check_out(out, sample=True)
    sample, numbers = Events.open(events), _numbers(constants or ())
    scorings = _scorings(runs, numbers)
    work = {out / name if len(scorings) > 1 else out: one for name, one in scorings.items()}
    # Beside the folder, as whoever reads a folder of Parquet takes every file in it for a shard.
    roots = {place: place.resolve().with_name(f"{place.resolve().name}.root") for place in work if format == "root"}
    for file in roots.values():
        refuse_stranger(file)
    terminal = Terminal(stages=len(work))
    for place, one in work.items():
        with terminal.logs_to(place / SAMPLE_LOG), terminal.stage(f"scoring {sample.name} with {one.by}"):
            tell(terminal, one.scoring(sample, place), len(sample))
        scored = Events.open(place)
        terminal.say(f"scored: {write_root(scored, roots[place]) if place in roots else place}")
        if place in roots and (sources := origins(scored)):
            friends = place.resolve().with_name(f"{place.resolve().name}.friends")
            tell(terminal, (done for done, _ in enumerate(write_friends(scored, friends), 1)), len(sources), "files")
            terminal.say(f"friends of the {len(sources)} files that the sample was made of: {friends}")


@training.command(epilog="Example: jetscale export run --out model")
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="a folder that jetscale train has written")],
    out: Out,
    with_onnx: Annotated[
        bool, typer.Option("--onnx/--no-onnx", help="also one graph of network and readout, for other programs")
    ] = True,
) -> None:
    """Write a trained run as a small folder that can be moved: model.safetensors, run.yaml and model.onnx.

    jetscale score takes the folder in the place of the run. The ONNX file is checked against torch.
    """
    from jetscale.evaluate import onnx
    from jetscale.evaluate.export import export

    check_out(out)
    _trained([run])
    absent = onnx.missing() if with_onnx else []
    terminal = Terminal(stages=1)
    with terminal.logs_to(out.absolute().with_name(f"{out.name}.log")), terminal.stage(f"exporting {run}"):
        done = export(run, out, with_onnx=with_onnx and not absent)
    if absent:
        terminal.say(f"no model.onnx: {', '.join(absent)} not installed; pip install 'jetscale[export]'", "yellow")
    if done.agreement:
        terminal.say(f"ONNX against torch, {done.agreement}")
    terminal.say(f"exported: {out}; next: jetscale score {out} --events SAMPLE --out SCORED")


@training.command(epilog="Example: jetscale report run --events gluino qcd --out report")
def report(
    context: typer.Context,
    runs: Runs,
    events: Annotated[list[Path], typer.Option("--events", metavar="DIR...", help="samples, scored or not")],
    out: Out,
    classical: Annotated[
        list[str] | None,
        typer.Option("--classical", metavar="NAME...", help="classical methods beside them; default: asymmetry_6"),
    ] = None,
) -> None:
    """Write index.html, figures/ and results.json: peaks, backgrounds and labels, beside classical methods.

    Runs that are all folds of one split are one method, every event scored by the run that has not seen it.
    """
    from jetscale.evaluate.compare import CLASSICAL
    from jetscale.evaluate.report import Scored, report
    from jetscale.evaluate.score import scored_by
    from jetscale.events import Events
    from jetscale.physics.classical import find

    check_out(out)
    methods = list(dict.fromkeys(classical or CLASSICAL))
    for method in methods:
        find(method)
    samples = [Events.open(one) for one in events]
    _trained(runs)
    teams = _teams(runs)
    digests = {name: scored_by(team) for name, team in teams.items()}
    tables = {name: _tables(digest, samples) for name, digest in digests.items()}
    terminal = Terminal(stages=2)
    with terminal.logs_to(out / LOG):
        with terminal.stage("scoring"):
            scored = [
                Scored(name, _scored(team, digests[name], table, out / "scored" / name / table.name),
                       team[0] if len(team) == 1 else None)
                for name, team in teams.items()
                for table in tables[name]
            ]  # fmt: skip
        with terminal.stage("reporting"):
            page = report(scored, out, command=context.obj, wall=terminal.seconds, classical=methods)
    terminal.say(f"the report is {page}")


@training.command(epilog="Example: jetscale doctor")
def doctor(quick: Annotated[bool, typer.Option("--quick", help="do not start Ray")] = False) -> None:
    """Say what this machine can do, and what to do about what is missing."""
    from jetscale.doctor import examine

    terminal = Terminal()
    findings = examine(terminal, quick)
    for finding in findings:
        terminal.say(f"{finding.verdict:<6}  {finding.subject:<12}  {finding.found}", STYLES[finding.verdict])
        if finding.cure:
            terminal.say(f"{'':<22}what to do: {finding.cure}")
    if any(finding.verdict == "broken" for finding in findings):
        raise JetscaleError("the quickstart cannot run here", where="doctor", cure="see the lines marked broken")


def _numbers(assignments: Sequence[str]) -> dict[str, float]:
    """`NAME=VALUE` as a number by name."""
    found = {}
    for one in assignments:
        name, _, value = one.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            raise ConfigError(f"{one!r} is not NAME=NUMBER", where="--constant",
                              cure="write --constant theta=500") from None  # fmt: skip
    return found


def _names(paths: Sequence[Path]) -> list[str]:
    """The last part of each path, which must tell them apart."""
    names = [path.resolve().name for path in paths]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two of them are called {name!r}", where=", ".join(map(str, paths)),
                              cure="rename the folder of one")  # fmt: skip
    return names


class _Scores(Protocol):
    def __call__(self, events: Events, out: Path) -> Iterator[int]:
        """How many events are done so far."""


class _Scoring(NamedTuple):
    """One sample to be: who makes it, in words, and how."""

    by: str
    scoring: _Scores


def _scorings(given: Sequence[Path], constants: dict[str, float]) -> dict[str, _Scoring]:
    """What scores alone, by name: runs, folds of one split together, classical methods."""
    from jetscale.evaluate.classical import PREFIX, scoring_classical
    from jetscale.evaluate.score import scoring
    from jetscale.physics.classical import find

    classical = [str(one).removeprefix(PREFIX) for one in given if str(one).startswith(PREFIX)]
    runs = [one for one in given if not str(one).startswith(PREFIX)]
    for name in classical:
        find(name)
    if constants and classical:
        raise ConfigError("a classical method reads no constants", where=f"{PREFIX}{classical[0]}",
                          cure="score with it alone, without --constant")  # fmt: skip
    if sample := next((one for one in runs if _is_sample(one)), None):
        raise ConfigError("is a sample and no run, and jetscale score takes one sample", where=str(sample),
                          cure="score it by a command of its own, with another --out")  # fmt: skip
    _trained(runs)
    _names([*runs, *map(Path, classical)])
    teams = _teams(runs) if runs else {}
    found = {name: _Scoring(", ".join(map(str, team)), partial(scoring, team, constants=constants))
             for name, team in teams.items()}  # fmt: skip
    return found | {name: _Scoring(f"{PREFIX}{name}", partial(scoring_classical, name)) for name in classical}


def _is_sample(where: Path) -> bool:
    from jetscale.events import MANIFEST, SHIPPED

    return str(where).startswith(SHIPPED) or (where / MANIFEST).is_file()


def _teams(runs: Sequence[Path]) -> dict[str, list[Path]]:
    """Runs that score together, by name: all folds of one split, or else each run alone."""
    from jetscale.evaluate.folds import are_folds

    names = _names(runs)
    if are_folds(runs):
        return {"folds": list(runs)}
    return {name: [run] for name, run in zip(names, runs, strict=True)}


def _trained(runs: Sequence[Path]) -> None:
    """Refuse what is no run, not trained, or called like another."""
    from jetscale.run import read
    from jetscale.train import checkpoint

    _names(runs)
    for run in runs:
        read(run)
        checkpoint.chosen(run)
        checkpoint.read_data(run)


def _tables(run: str, samples: Sequence[Events]) -> list[Events]:
    """What concerns a run: its own tables, and each sample that it has no table of once, raw or scored by another."""
    own = [sample for sample in samples if _is_own(run, sample)]
    others = {_origin(sample): sample for sample in samples}
    for sample in own:
        others.pop(_origin(sample), None)
    found = [*own, *others.values()]
    names = [sample.name for sample in found]
    for name in names:
        if names.count(name) > 1:
            places = ", ".join(str(sample.path) for sample in found if sample.name == name)
            raise ConfigError(f"two samples are called {name!r}", where=places, cure="give one of them")
    return found


def _is_own(run: str, sample: Events) -> bool:
    made_by = sample.manifest.made_by
    return made_by.get("scored_by") == run and not made_by.get("untrained") and not made_by.get("constants")


def _origin(sample: Events) -> tuple[str, str]:
    """Which events these are, scored or not: name, and fingerprint before any scoring."""
    return sample.name, sample.origin


def _scored(team: Sequence[Path], digest: str, sample: Events, place: Path) -> Events:
    """The sample with the columns of a run, or of folds: as it is if they are its own, else scored once and kept."""
    from jetscale.evaluate.score import score

    return sample if _is_own(digest, sample) else score(team, sample, place)
