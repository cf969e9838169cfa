"""A Run: one task trained on one stream. Everything that decides the outcome is here, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, SerializeAsAny, ValidationInfo, field_validator, model_validator

from jetscale.config import Config, Values, build, digest, dump_yaml, leaves, merge, parse_set, read_yaml
from jetscale.derive import absolute, content
from jetscale.errors import ConfigError, nearest
from jetscale.events import SHIPPED
from jetscale.shape import built_in
from jetscale.stream import Stream
from jetscale.task import Task, find

VERB = "train"  # the one top key of a job's file
KEPT = "run.yaml"  # what a run's folder keeps
# How layers merge: see jetscale.config.merge.
WHOLE = ("horizon", "task.classes")
NAMED = tuple(f"stream.{key}" for key in ("samples", "select", "split", "rename", "set", "derive"))


class Horizon(Config):
    """How long: one of `{epochs: 20}`, `{steps: 10000}`, `{events: 1e9}`."""

    epochs: float | None = Field(None, gt=0)
    steps: int | None = Field(None, gt=0)
    events: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(value is not None for value in (self.epochs, self.steps, self.events)) != 1:
            raise ValueError("give exactly one of epochs, steps, events")
        return self


class Optimiser(Config):
    """AdamW or RAdam with a learning-rate schedule; `clip` is the largest norm of the whole gradient, 0 for none.

    RAdam with `lookahead: 6` is known as Ranger. With `ema` (0.999 averages over about 1000 updates) the weights'
    exponential average is what is validated and what the run ends with. For every validation the running moments of
    batch normalisation are made anew with the averages, in the last 40 steps' batches; the training does not notice.
    """

    kind: Literal["adamw", "radam"] = "adamw"
    lookahead: int = Field(0, ge=0, description="steps between two pulls back to the slow weights; 0 for none")
    ema: float = Field(0.0, ge=0, lt=1, description="decay per update of the weights' average; 0 for none")
    rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)
    schedule: Literal["constant", "cosine", "one_cycle"] = "one_cycle"
    warm_up: float = Field(0.15, ge=0, lt=1, description="share of the horizon over which the rate rises")
    clip: float = Field(1.0, ge=0)


class Scale(Config):
    """How much at once and where; nothing here but `events_per_step` and `lanes` changes the result.

    Dropout and batch normalisation are the exceptions: masks are drawn, and moments taken, per micro-batch, which
    depends on `workers` and `events_per_micro_batch`. Running moments are averaged over the workers before they are
    validated or saved.
    """

    events_per_step: int = Field(256, gt=0, description="rows of a global step, all workers together")
    lanes: int = Field(12, gt=0, description="fixed shares that a step is dealt to; workers must divide it")
    workers: int = Field(1, gt=0)
    events_per_micro_batch: int = Field(1024, gt=0, description="most rows in one forward pass of one worker")
    engine: Literal["torch", "deepspeed"] = "deepspeed"
    stage: Literal[0, 1, 2, 3] = Field(1, description="ZeRO stage of DeepSpeed")
    source: Literal["auto", "ray", "pyarrow"] = "auto"
    launch: Literal["ray", "here"] = Field("ray", description="under Ray Train, or in this process (one worker)")
    shape: str = Field("laptop", description="a file in cluster/shapes/: what one worker is given")
    restarts: int = Field(3, ge=0, description="how often to go on from the newest checkpoint when workers are lost")

    @field_validator("workers")
    @classmethod
    def _workers_divide_lanes(cls, workers: int, before: ValidationInfo) -> int:
        lanes = before.data.get("lanes", workers)
        if lanes % workers:
            fit = [n for n in range(1, lanes + 1) if lanes % n == 0]
            raise ValueError(f"{workers} workers do not divide {lanes} lanes: use one of {fit} workers")
        return workers

    @field_validator("events_per_micro_batch")
    @classmethod
    def _holds_a_lane(cls, most: int, before: ValidationInfo) -> int:
        lanes, rows = before.data.get("lanes", 1), before.data.get("events_per_step", 1)
        if most * lanes < rows:
            raise ValueError(f"a lane of {rows} / {lanes} rows goes through the network at once: use at least "
                             f"{-(-rows // lanes)}, or more lanes")  # fmt: skip
        return most

    @field_validator("launch")
    @classmethod
    def _here_is_one_worker(cls, launch: str, before: ValidationInfo) -> str:
        workers = before.data.get("workers", 1)
        if launch == "here" and workers > 1:
            raise ValueError(f"has one worker, not {workers}: use launch: ray")
        return launch


class Track(Config):
    """Where the training can be watched, beside the JSON-lines log that is always written."""

    wandb: bool = True
    tensorboard: bool = Field(False, description="also write TensorBoard's event files to the run's folder")
    project: str = "jetscale"
    group: str = Field("", description="of Weights & Biases; empty: runs of equal work stand together")
    log_every: int = Field(10, gt=0, description="steps between two lines of the log")
    validate_every: float = Field(1.0, gt=0, description="epochs between two passes over the validation part")


class Keep(Config):
    """Which checkpoints are written and stay; nothing here changes the result."""

    every: float = Field(1.0, gt=0, description="epochs between two checkpoints")
    last: int = Field(2, gt=0, description="newest checkpoints that stay, beside the best one")


class Best(Config):
    """The network that a run ends with: the best one by a figure of validation, instead of the last one."""

    metric: str = Field(description="a figure of validation: f10, mass_auc, loss_label, ...")
    better: Literal["high", "low"]
    patience: int | None = Field(None, gt=0, description="stop after so many validations without a better one")


class Run(Config):
    """One task trained on one stream."""

    system: str
    task: SerializeAsAny[Task]
    stream: Stream
    horizon: Horizon
    optimiser: Optimiser = Optimiser()
    precision: Literal["fp32", "bf16"] = "fp32"
    scale: Scale = Scale()
    track: Track = Track()
    keep: Keep = Keep()
    best: Best | None = None
    start: str | None = Field(None, description="folder of a trained run whose weights this one starts from")
    freeze: tuple[str, ...] = Field((), description="parameters that stay: prefixes of their names")
    seed: int = Field(1, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _task_of_the_system(cls, values: Any) -> Any:
        return _with_task(values, cls.__name__) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _engine_can(self) -> Self:
        if self.precision == "bf16" and (self.scale.engine != "deepspeed" or self.scale.stage == 0):
            raise ValueError("precision bf16 needs scale.engine deepspeed and scale.stage 1 or more")
        return self

    def to_yaml(self) -> str:
        """A job that gives this run again: what a run's folder keeps."""
        return dump_yaml({VERB: self.values()})

    def name(self, fingerprints: Mapping[str, str], start: str | None = None) -> str:
        """The digest that names the work: equal digests, equal work."""
        return digest(self.work(fingerprints, start))

    def work(self, fingerprints: Mapping[str, str], start: str | None = None) -> Values:
        """All that decides the outcome.

        `fingerprints` are the samples' (`Events.fingerprint`), `start` is the name of the run that this one starts
        from: the content counts, not where it lies. How the work is spread over workers, tracked, logged and kept does
        not count.
        """
        values = {**self.values(), "start": start}
        if self.system.endswith(".py"):
            values["system"] = Path(self.system).read_text()
        values["stream"]["derive"] = {name: content(column) for name, column in self.stream.derive.items()}
        values["stream"]["samples"] = {
            name: {**source, "events": fingerprints[name]} for name, source in values["stream"]["samples"].items()
        }
        if not self.optimiser.ema:
            del values["optimiser"]["ema"]  # off, it renames no work that was done before there was one
        scale = values.pop("scale")
        if self.best:
            values["validate_every"] = values["track"]["validate_every"]  # the best is looked for there
        for told in ("track", "keep"):
            values.pop(told)
        values["lanes"], values["events_per_step"] = scale["lanes"], scale["events_per_step"]
        return values


class Resolved(NamedTuple):
    """A run and, for every dotted setting, the layer that set it."""

    run: Run
    why: dict[str, str]


def _job(file: Path) -> Values:
    """The settings of a job."""
    values = read_yaml(file)
    if set(values) != {VERB}:
        raise ConfigError(f"its top key is {', '.join(map(repr, values)) or 'absent'}, not {VERB!r}", where=str(file),
                          cure=f"put the job under the one key {VERB}:")  # fmt: skip
    job = values[VERB]
    if not isinstance(job, dict):
        raise ConfigError(f"{VERB!r} holds {_said(job)}, not keys with values", where=str(file),
                          cure=f"indent the job under {VERB}:, at least system: and stream:")  # fmt: skip
    return job


def load(job: Path, sets: Sequence[str] = ()) -> Resolved:
    """Resolve a job: field defaults < the system's recipe < the job's YAML < `--set`.

    The `run.yaml` in a run's folder is a job too: a user's own files are those beside it.

    Raises:
        ConfigError: an unknown key or system, a value that cannot be, a file that is not a train job.
    """
    return resolve([layer(job), *((f"--set {one}", parse_set(one)) for one in sets)], str(job))


def layer(job: Path) -> tuple[str, Values]:
    """What a job's file says, under its name: a layer for `resolve`.

    Raises:
        ConfigError: a file that is not a train job.
    """
    values = _job(job)
    if job.name == KEPT:
        values = _found_beside(values, job.parent.absolute())
    return job.name, values


def job_file(where: str) -> Path:
    """A path, or `shipped:NAME` for a job, or the recipe of a sample, that ships.

    Raises:
        ConfigError: no such file.
    """
    rooms = (built_in("jobs"), Path(__file__).parent / "data" / "sample")
    ships = {
        f"{SHIPPED}{file.relative_to(room).with_suffix('')}": file
        for room in rooms
        for file in sorted(room.rglob("*.yaml"))
    }
    path = ships.get(where, Path(where))
    if not path.is_file():
        near = [str(file) for file in path.parent.glob("[!.]*.yaml")]
        raise ConfigError("no such file", where=where, cure=nearest(where, [*near, *ships]))
    return path


def resolve(layers: Sequence[tuple[str, Values]], where: str) -> Resolved:
    """Put the layers of a job, the strongest last, over its system's recipe.

    Numbers that were fitted to another training part are no settings: they are left out.

    Raises:
        ConfigError: an unknown key or system, a value that cannot be, a start that is not the folder of a run.
    """
    layer, system = next(
        ((name, values["system"]) for name, values in reversed(layers) if "system" in values), ("", None)
    )
    if not isinstance(system, str):
        what = f"{layer}: system is {_said(system)}, not a name or a path" if layer else "'system' is missing"
        raise ConfigError(what, where=where, cure="add system: assigner (jetscale systems lists them)")
    recipe = find(system).recipe()
    values, why = merge([(f"recipe of {system}", recipe), *layers], WHOLE, NAMED)
    run = _build(_absolute(values), where)
    run = run.model_copy(update={"stream": run.stream.unfitted()})
    # Here alone: a run that was made must still be readable when the folder that it started from has moved.
    if run.start is not None and not (Path(run.start) / "run.yaml").is_file():
        raise ConfigError(f"start = {run.start!r}: is not the folder of a run: it has no run.yaml", where=where,
                          cure="change start")  # fmt: skip
    return Resolved(run, _defaults_named(run, why))


def _said(value: object) -> str:
    return "nothing" if value is None else repr(value)


def _build(values: Values, where: str) -> Run:
    return build(Run, _with_task(values, where), where)


def _with_task(values: Values, where: str) -> Values:
    """The same values with the task built by its system, whose class knows which keys it may have."""
    if not isinstance(values.get("system"), str) or isinstance(values.get("task"), Task):
        return values
    return {**values, "task": build(find(values["system"]).task, values.get("task", {}), where, under="task")}


def _absolute(values: Values) -> Values:
    """Folders and files as absolute paths, so that workers elsewhere and later runs find them."""
    values = {**values}
    if isinstance(values.get("start"), str):
        values["start"] = str(Path(values["start"]).expanduser().absolute())
    if str(values.get("system", "")).endswith(".py"):
        values["system"] = str(Path(values["system"]).expanduser().absolute())
    stream = values.get("stream")
    samples = stream.get("samples") if isinstance(stream, dict) else None
    if not isinstance(stream, dict) or not isinstance(samples, dict):
        return values
    found = {}
    for name, source in samples.items():
        events = source.get("events") if isinstance(source, dict) else None
        local = isinstance(events, str) and not events.startswith(SHIPPED)
        found[name] = {**source, "events": str(Path(str(events)).expanduser().absolute())} if local else source
    columns = stream.get("derive")
    if isinstance(columns, dict):
        stream = {**stream, "derive": {name: _kind_found(column) for name, column in columns.items()}}
    return {**values, "stream": {**stream, "samples": found}}


def _kind_found(column: Any) -> Any:
    return {**column, "by": absolute(column["by"])} if isinstance(column, dict) and "by" in column else column


def _defaults_named(run: Run, why: dict[str, str]) -> dict[str, str]:
    return {leaf: why.get(leaf, "default") for leaf in leaves(run.values())}


def read(folder: Path) -> Run:
    """The resolved run that a run's folder keeps, with what was fitted.

    Raises:
        ConfigError: no run.yaml there, or one that cannot be meant.
    """
    file = folder / "run.yaml"
    if not file.is_file():
        near = [path.parent.name for path in folder.parent.glob("*/run.yaml")] if folder.parent.is_dir() else []
        raise ConfigError("is not the folder of a run: it has no run.yaml", where=str(folder),
                          cure=nearest(folder.name, near))  # fmt: skip
    return _build(_found_beside(_job(file), folder.absolute()), str(file))


def _found_beside(values: Values, folder: Path) -> Values:
    """A user's own files as paths from here: a run that is kept has copies beside it, under their bare names."""
    values = {**values}
    if str(values.get("system", "")).endswith(".py"):
        values["system"] = _beside(values["system"], folder)
    stream = values.get("stream")
    if isinstance(stream, dict) and isinstance(stream.get("derive"), dict):
        derive = {
            name: {**column, "by": _beside(column["by"], folder)} if ".py:" in str(column.get("by")) else column
            for name, column in stream["derive"].items()
        }
        values["stream"] = {**stream, "derive": derive}
    return values


def _beside(name: str, folder: Path) -> str:
    return name if "/" in name else str(folder / name)
