"""Starting a training: in this process, or as workers of Ray Train."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch

from jetscale.config import Values, build, difference
from jetscale.data.chunks import check_samples, count, mean_weight, needed, readers
from jetscale.data.cluster import cluster
from jetscale.data.feed import Feed, Pass, weightings
from jetscale.data.fit import fit, fit_stream
from jetscale.data.plan import Chunk, Plan
from jetscale.data.provenance import family
from jetscale.data.source import Bytes, PyarrowBytes, RayBytes
from jetscale.errors import TrainError
from jetscale.events import Events, write_text
from jetscale.lock import held
from jetscale.run import Run, read
from jetscale.shape import shape
from jetscale.stream import Part
from jetscale.task import NOTHING, Fitted
from jetscale.train import checkpoint
from jetscale.train.board import check_boards
from jetscale.train.checkpoint import Point
from jetscale.train.engine import Engine, ready_deepspeed, start
from jetscale.train.exported import is_exported
from jetscale.train.failure import LostError, failure
from jetscale.train.loop import train as loop
from jetscale.train.own import keep, told
from jetscale.train.rungs import Rungs
from jetscale.train.track import Tracker
from jetscale.train.world import World

LOCK, WORKING, RAYS = ".lock", ".working", "ray-"
PATIENCE_S = 60.0  # Ray ends the workers of a driver that is gone within seconds


class Counted(NamedTuple):
    """What is known of the samples before the first step: chunks with counts, mean weights, fingerprints, fits.

    `origins` are the fingerprints before any scoring, `families` say with what other samples events are shared.
    """

    chunks: dict[str, tuple[Chunk, ...]]
    means: dict[str, float]
    fingerprints: dict[str, str]
    origins: dict[str, str]
    families: dict[str, Values]
    fitted: Fitted = NOTHING


def train(run: Run, out: Path, counted: Counted | None = None, rungs: Rungs | None = None) -> Path:
    """Train a run in a folder: `run.yaml`, `data.json`, `log.jsonl` and `checkpoints/` are written there.

    A folder that holds the same run finished is left as it is; one that holds it unfinished is gone on with from its
    newest complete checkpoint, with whatever workers, engine and stage the run now asks for. `counted` is what
    `prepare` has found, if it was asked; `rungs` may stop the training before its end.

    Raises:
        DataError: a sample that is missing or not what its manifest says.
        TrainError: a folder of another run or of a training that still goes on, or a training that failed.
    """
    shape(run.scale.shape)
    counted = counted or prepare(run, run.stream.open())
    Plan(run, counted.chunks)  # refuses here what would otherwise be refused on every worker
    name = name_of(run, counted)
    if finished(run, name, out):
        return out
    with _place(run):
        out.mkdir(parents=True, exist_ok=True)
        with _alone(out):
            if finished(run, name, out):
                return out  # by somebody else, while this one was starting
            run, counted = _fitted(run, counted, out)
            if name_of(run, counted) != name:
                raise TrainError("a file of your own was changed while the training was starting", where=str(out),
                                 cure="the same command once more")  # fmt: skip
            for left in out.glob(f"{RAYS}*"):
                shutil.rmtree(left, ignore_errors=True)
            if checkpoint.newest(out) is None:
                shutil.rmtree(out / checkpoint.FOLDER, ignore_errors=True)
            write_text(out / "run.yaml", keep(run, out).to_yaml())
            run = read(out)  # with the copies of a user's own files
            checkpoint.write_data(out, data_of(run, name, counted))
            if run.scale.launch == "here":
                work(run, name, counted, out, replace(world_here(run), rungs=rungs))
            else:
                _on_ray(run, name, counted, out, rungs)
    return out


def _place(run: Run) -> AbstractContextManager[None]:
    """Where the work is done: one Ray for the fit, the reading and the training, or this process."""
    on_ray = run.scale.launch == "ray" or run.scale.source == "ray"
    return cluster(shape(run.scale.shape)) if on_ray else nullcontext()


def _fitted(run: Run, counted: Counted, out: Path) -> tuple[Run, Counted]:
    """The resolved run with the numbers of its stream, and those of its task; a warm start brings these along.

    A training that goes on has the first in its folder and the others in its weights.
    """
    if checkpoint.newest(out):
        stream = run.stream.model_copy(update={"derive": read(out).stream.derive})
        return run.model_copy(update={"stream": stream}), counted
    samples = run.stream.open()
    run = fit_stream(run, samples, counted.chunks, counted.means)
    numbers = {} if run.start else fit(run, samples, counted.chunks, counted.means)
    return run, counted._replace(fitted=numbers)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the folder while training in it; whoever is killed lets go of it.

    The workers of a driver that was killed may live on for some seconds: they are waited for.
    """
    with held(out / LOCK, _busy(out)):
        with held(out / WORKING, _busy(out), PATIENCE_S):
            pass
        yield


def _busy(out: Path) -> TrainError:
    return TrainError("another jetscale train is at work here", where=str(out),
                      cure="wait for it, stop it, or choose another --out")  # fmt: skip


def name_of(run: Run, counted: Counted) -> str:
    """The digest that names the run, from the content of its samples and of the run that it starts from."""
    return run.name(counted.fingerprints, checkpoint.read_data(Path(run.start))["run"] if run.start else None)


def prepare(run: Run, samples: Mapping[str, Events]) -> Counted:
    """Open, check and count every sample, before anything is started."""
    check_boards(run)
    rows = check_samples(run.stream, samples, needed(run.task.columns), run.seed)
    return Counted(
        {name: count(events, run.stream, rows[name]) for name, events in samples.items()},
        {name: mean_weight(events, run.stream, name, rows[name]) for name, events in samples.items()},
        {name: events.fingerprint for name, events in samples.items()},
        {name: events.origin for name, events in samples.items()},
        {name: family(events) for name, events in samples.items()},
    )


def data_of(run: Run, name: str, counted: Counted) -> dict[str, Any]:
    """What `data.json` keeps: the run's name, its samples, and all that its weights have been trained on.

    A warm start has seen what the run that it starts from has seen.
    """
    before = checkpoint.read_data(Path(run.start))["trained_on"] if run.start else []
    samples = {
        sample: {
            "fingerprint": counted.fingerprints[sample],
            "origin": counted.origins[sample],
            "mean_weight": counted.means[sample],
            "rows": {part: sum(chunk.selected[part] for chunk in chunks) for part in chunks[0].selected},
        }
        for sample, chunks in counted.chunks.items()
    }
    families = list(counted.families.values())
    now = {"split": run.stream.split.values(), "samples": [one for each in families for one in each["origins"]],
           "families": families}  # fmt: skip
    return {"run": name, "samples": samples, "trained_on": [*before, now]}


def finished(run: Run, name: str, out: Path) -> bool:
    """Whether the folder holds this very run, trained to its end.

    A run without any complete checkpoint may be started again with other settings.

    Raises:
        TrainError: the folder holds another run, or something else.
    """
    found = checkpoint.newest(out)
    if found is None or not (out / "run.yaml").is_file():
        _refuse_strangers(out)
        return False
    if checkpoint.read_data(out)["run"] != name:
        differs = difference(told(read(out)), told(run))
        changed = [line for line in differs if ".fitted" not in line.partition(":")[0]] or ["the content of a sample"]
        raise TrainError("holds another run; changed: " + "; ".join(changed), where=str(out),
                         cure="choose another --out, or remove this folder")  # fmt: skip
    return found[1].ended is not None


def _refuse_strangers(out: Path) -> None:
    """A folder that no run has written in may hold logs and nothing else."""
    if is_exported(out):
        raise TrainError("holds an exported run", where=str(out), cure="choose another --out")
    if out.is_dir() and not (out / "run.yaml").is_file():
        others = sorted(
            path.name for path in out.iterdir() if path.suffix != ".log" and path.name not in (LOCK, WORKING)
        )
        if others:
            raise TrainError(f"holds {others[0]!r} and no run", where=str(out), cure="choose another --out")


def work(run: Run, name: str, counted: Counted, out: Path, world: World) -> None:
    """What every worker does: from the newest complete checkpoint, or the beginning, to the end."""
    torch.set_num_threads(max(1, int(shape(run.scale.shape).cpus_per_worker)))
    samples = run.stream.open()
    feed = Feed(Plan(run, counted.chunks), _bytes(run, samples, counted, "train"), run.task.columns,
                weightings(run.stream, counted.means), rank=world.rank, world=world.size)  # fmt: skip
    validation = Pass(counted.chunks, "validation", _bytes(run, samples, counted, "validation"), run.task.columns,
                      weightings(run.stream, counted.means), seed=run.seed, rank=world.rank, world=world.size,
                      most=run.stream.validation_rows,
                      shares={name: source.share for name, source in run.stream.samples.items()})  # fmt: skip
    with held(out / WORKING, _busy(out), PATIENCE_S) if world.first else nullcontext():
        engine, point = _engine(run, counted.fitted, out, world)
        plan = feed.plan
        track = Tracker(run, name, out, plan.steps, point.step, plan.steps_per_epoch) if world.first else None
        status = "failed"
        try:
            loop(run, engine, feed, validation, world, track, out, point)
            status = "done"
        finally:
            if track:
                track.close(status)


def _engine(run: Run, fitted: Fitted, out: Path, world: World) -> tuple[Engine, Point]:
    """The engine as the newest complete checkpoint has it, or fresh. The first worker says which, for all."""
    place, point = world.gather(checkpoint.newest(out))[0] or (None, Point())
    if place is None:
        return start(run, checkpoint.starting_net(run, fitted), world), point
    net = run.task.build(run.seed, run.task.neutral())
    checkpoint.start_from(net, place)
    engine = start(run, net, world)
    checkpoint.go_on(engine, place, point)
    return engine, point


def _bytes(run: Run, samples: Mapping[str, Events], counted: Counted, part: Part) -> Bytes:
    """Ray Data for the training rows if the run says so; a validation pass is short and read in place."""
    ours = readers(run.stream, samples, needed(run.task.columns), part, run.seed)
    if part != "train" or source(run) == "pyarrow":
        return PyarrowBytes(ours, counted.chunks)
    given = shape(run.scale.shape)
    return RayBytes(ours, counted.chunks, given.cpus_per_read, given.reads_per_worker)


def source(run: Run) -> str:
    """Which source of bytes `auto` means: Ray Data for several nodes, pyarrow on one machine."""
    if run.scale.source != "auto":
        return run.scale.source
    if run.scale.launch == "here":
        return "pyarrow"
    import ray

    return "ray" if len(ray.nodes()) > 1 else "pyarrow"


def world_here(run: Run) -> World:
    """One worker, this process."""
    if run.scale.engine == "torch":
        return World(device=torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    for variable, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "RANK": "0", "WORLD_SIZE": "1",
                            "LOCAL_RANK": "0"}.items():  # fmt: skip
        os.environ.setdefault(variable, value)
    return World(device=ready_deepspeed())


def _on_ray(run: Run, name: str, counted: Counted, out: Path, rungs: Rungs | None) -> None:
    """Train under Ray Train, and go on from the newest checkpoint when workers are lost."""
    with cluster(shape(run.scale.shape)):
        for left in range(run.scale.restarts, -1, -1):
            try:
                _fit(run, name, counted, out, rungs)
                return
            except Exception as problem:
                cause = failure(problem, out)
                if not isinstance(cause, LostError) or not left:
                    raise cause from problem
                found = checkpoint.newest(out)
                step = found[1].step if found else 0
                print(f"workers were lost; going on from step {step}, {left} restarts left", flush=True)  # noqa: T201


def _fit(run: Run, name: str, counted: Counted, out: Path, rungs: Rungs | None) -> None:
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    given = shape(run.scale.shape)
    per_worker = {"CPU": given.cpus_per_worker, **({"GPU": given.gpus_per_worker} if given.gpus_per_worker else {})}
    config = {"run": run.values(), "name": name, "counted": counted, "out": str(out.absolute()), "rungs": rungs}
    # A name and a folder of its own for every start: what Ray remembers of one must not reach the next.
    with TemporaryDirectory(prefix=RAYS, dir=out, ignore_cleanup_errors=True) as storage:
        TorchTrainer(
            _worker,
            train_loop_config=config,
            torch_config=TorchConfig(backend="nccl" if given.gpus_per_worker else "gloo"),
            scaling_config=ray.train.ScalingConfig(
                num_workers=run.scale.workers, use_gpu=bool(given.gpus_per_worker), resources_per_worker=per_worker
            ),
            run_config=ray.train.RunConfig(name=f"jetscale-{name}", storage_path=str(Path(storage).absolute())),
        ).fit()


def _worker(config: Values) -> None:
    """The function that Ray Train runs on every worker."""
    import ray.train

    context = ray.train.get_context()
    run = build(Run, config["run"], "run")
    if run.scale.engine == "deepspeed":
        device = ready_deepspeed()
    else:
        import ray.train.torch

        device = ray.train.torch.get_device()
    world = World(context.get_world_rank(), context.get_world_size(), device, config["rungs"])
    work(run, config["name"], config["counted"], Path(config["out"]), world)
