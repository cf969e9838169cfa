"""A trained network as one ONNX graph: from the columns of a batch to the task's outputs.

The scaling of the inputs and the readout are inside, so that jets go in and masses come out. Events and the members of
every collection may be any number; a mask says which entries of the padded lists are real.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from jetscale import __version__
from jetscale.data.batch import batch
from jetscale.errors import TrainError
from jetscale.run import Run
from jetscale.schema import Column
from jetscale.task import At, Batch

if TYPE_CHECKING:
    from onnx import ModelProto

LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
OPSET = 20
# Padded entries that the graph itself adds: with so many, no size that the code asks for depends on the input's.
ROOMS = (16, 32, 64)
SIZES = (1, 2, 7, 64)
CLOSE = 1e-4
NUDGES = 4
ULP = 2.0**-23


class Agreement(NamedTuple):
    """How far a graph agrees with torch: events compared, those that rounding decides, the largest difference."""

    events: int
    undecided: int
    worst: float

    def __str__(self) -> str:
        said = f"{self.events} events: labels equal, numbers within {self.worst:.1e}"
        return f"{said}; {self.undecided} that rounding decides left out" if self.undecided else said


class Scorer(nn.Module):
    """The task's score as a function of named tensors: event columns (B,), columns of a collection and masks (B, J)."""

    def __init__(self, run: Run, net: nn.Module, names: Sequence[str], room: int = 0) -> None:
        super().__init__()
        self.run, self.net, self.room = run, net, room
        self.names = tuple(names)

    @property
    def inputs(self) -> tuple[Column, ...]:
        """What goes in, in order."""
        schema = self.run.task.columns
        masks = {mask_of(name): _mask(name) for name in schema.collections}
        return tuple(masks.get(name) or schema[name] for name in self.names)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The columns of `outputs`, in order: (B,), or (B, J) for a collection's."""
        given = dict(zip(self.names, tensors, strict=True))
        width = {column.of: given[column.name].shape[1] for column in self.inputs if column.of}
        scores = self.run.task.score(self.net, self._batch(given))
        return tuple(
            (scores[column.name][:, : width[column.of]] if column.of else scores[column.name]).to(_dtype(column))
            for column in self.run.task.outputs.each()
        )

    def _batch(self, given: Mapping[str, Tensor]) -> Batch:
        padded = {
            column.name: functional.pad(given[column.name], (0, self.room)) if column.of else given[column.name]
            for column in self.inputs
        }
        masks = {name: padded.pop(mask_of(name)) for name in self.run.task.columns.collections
                 if mask_of(name) in padded}  # fmt: skip
        rows = next(iter(given.values())).shape[0]
        zero_B = torch.zeros(rows, dtype=torch.int64)
        return Batch(padded, masks, torch.ones(rows), zero_B, zero_B, At(0, 0, 1.0), self.run.seed)


def missing() -> list[str]:
    """The libraries of the extra `export` that are not installed."""
    return [name for name in LIBRARIES if find_spec(name) is None]


def mask_of(collection: str) -> str:
    """The name of the input that says which entries of a collection are real."""
    return f"{collection}_mask"


def write(run: Run, net: nn.Module, file: Path, digest: str) -> Agreement:
    """Write a run's network and readout as an ONNX file, once it is seen to agree with torch.

    Raises:
        TrainError: a task that cannot be traced, or a graph that gives something else than torch.
    """
    import onnx

    rows = list(toy_rows(run))
    scorer = Scorer(run, net.eval(), _asked(run, net, rows[0]))
    with _quiet():
        graph = _graph(scorer, _tensors(scorer, rows[-1]), file)
    _say(graph, scorer, digest)
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, file)
    return compare(file, scorer, [_tensors(scorer, one) for one in rows])


def toy_rows(run: Run) -> Iterator[Batch]:
    """Batches of the task's own toy events, of several sizes, and one without anything in it."""
    for size in SIZES:
        toy = batch([run.task.toy(size, size)], run.task.columns, np.ones(size), np.zeros(size, dtype=np.int64),
                    np.arange(size), At(0, 0, 1.0), run.seed)  # fmt: skip
        yield toy
        if size == 1:
            nothing = {name: torch.zeros_like(tensor) for name, tensor in toy.columns.items()}
            yield replace(toy, columns=nothing, masks={name: mask & False for name, mask in toy.masks.items()})


def compare(file: Path, scorer: Scorer, batches: Sequence[Sequence[Tensor]]) -> Agreement:
    """How far an ONNX file agrees with torch on the CPU.

    Whole numbers must be equal and others closer than 1e-4, relative to what is above 1. An event is left out where
    torch itself gives something else as soon as an input changes by its last bit: there, rounding decides.

    Raises:
        TrainError: they differ in an event that rounding does not decide.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    columns = scorer.run.task.outputs.columns
    events, undecided, worst = 0, 0, 0.0
    for tensors in batches:
        got = [torch.from_numpy(one) for one in session.run(None, _fed(scorer, tensors))]
        with torch.no_grad():
            want = scorer(*tensors)
            nudged = [scorer(*_nudged(tensors, seed)) for seed in range(NUDGES)]
        loose_B = torch.stack([_apart(want, other) for other in nudged]).amax(0) > CLOSE
        apart_B = torch.where(loose_B, 0.0, _apart(want, got))
        if (apart_B > CLOSE).any():
            row = int(apart_B.argmax())
            odd = [c.name for c, a, b in zip(columns, want, got, strict=True) if _apart([a], [b])[row] > CLOSE]
            raise TrainError(f"ONNX and torch differ in event {row} of {len(apart_B)}: {', '.join(odd)}",
                             where=str(file), cure="export without it: --no-onnx")  # fmt: skip
        events, undecided = events + len(apart_B), undecided + int(loose_B.sum())
        worst = max(worst, float(apart_B.max()))
    return Agreement(events, undecided, worst)


def _apart(some: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    """The largest difference of every event, (B,): infinite where a whole number is another."""
    found = []
    for a, b in zip(some, others, strict=True):
        if a.is_floating_point():
            apart = (a - b).abs().double() / a.abs().double().clamp_min(1.0)
        else:
            apart = torch.where(a == b, 0.0, torch.inf)
        flat_BX = apart.reshape(len(a), -1).nan_to_num(nan=torch.inf)
        found.append(functional.pad(flat_BX, (0, 1)).amax(1))
    return torch.stack(found).amax(0)


def _nudged(tensors: Sequence[Tensor], seed: int) -> list[Tensor]:
    """The same numbers, each moved by its last bit or not at all."""
    draw = torch.Generator().manual_seed(seed)
    return [
        one * (1 + ULP * torch.randint(-1, 2, one.shape, generator=draw)) if one.is_floating_point() else one
        for one in tensors
    ]


def _fed(scorer: Scorer, tensors: Sequence[Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in zip(scorer.names, tensors, strict=True)}


class _Asked(dict[str, Tensor]):
    """Columns that remember which of them were asked for."""

    def __init__(self, columns: Mapping[str, Tensor]) -> None:
        super().__init__(columns)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        self.names.add(name)
        return super().__getitem__(name)


def _asked(run: Run, net: nn.Module, rows: Batch) -> list[str]:
    """The columns that scoring looks at, and the masks of their collections: an application has no truth to give."""
    columns, masks = _Asked(rows.columns), _Asked(rows.masks)
    with torch.no_grad():
        run.task.score(net, replace(rows, columns=columns, masks=masks))
    schema = run.task.columns
    names = [name for name in schema.names if name in columns.names]
    used = masks.names | {str(schema[name].of) for name in names if schema[name].of}
    return [*names, *(mask_of(name) for name in schema.collections if name in used)]


def _tensors(scorer: Scorer, rows: Batch) -> tuple[Tensor, ...]:
    masks = {mask_of(name): mask for name, mask in rows.masks.items()}
    return tuple(masks[name] if name in masks else rows[name] for name in scorer.names)


def _graph(scorer: Scorer, example: Sequence[Tensor], file: Path) -> ModelProto:
    """The traced graph, from the first room in which no size depends on the input's."""
    wide = {name: torch.export.Dim(name, min=0) for name in scorer.run.task.columns.collections}
    many = torch.export.Dim("event")
    shapes = (tuple({0: many, **({1: wide[c.of]} if c.of else {})} for c in scorer.inputs),)
    for room in ROOMS:
        scorer.room = room
        with torch.no_grad():
            scorer(*example)  # what is kept between calls must be kept before tracing
        try:
            program = torch.export.export(scorer, tuple(example), dynamic_shapes=shapes)
        except Exception as problem:
            last = problem
            continue
        onnx_program = torch.onnx.export(
            program.run_decompositions(_in_double()), dynamo=True, opset_version=OPSET, dynamic_shapes=shapes,
            input_names=list(scorer.names), output_names=list(scorer.run.task.outputs.names), verbose=False,
        )  # fmt: skip
        assert onnx_program is not None
        return onnx_program.model_proto
    raise TrainError(f"the task cannot be traced: {str(last).strip().splitlines()[0]}", where=str(file),
                     cure="export without ONNX: --no-onnx") from last  # fmt: skip


def _in_double() -> dict[object, object]:
    """What onnxruntime has for single precision alone, made of what it has for double."""
    aten = torch.ops.aten
    return {
        aten.sinh.default: lambda x: 0.5 * (torch.exp(x) - torch.exp(-x)),
        aten.cosh.default: lambda x: 0.5 * (torch.exp(x) + torch.exp(-x)),
    }


def _say(graph: ModelProto, scorer: Scorer, digest: str) -> None:
    """Names, units and meanings; and nothing of the machine that traced it."""
    for node in graph.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    columns = {column.name: column for column in (*scorer.inputs, *scorer.run.task.outputs.each())}
    for value in (*graph.graph.input, *graph.graph.output):
        del value.metadata_props[:]
        column = columns[value.name]
        value.doc_string = f"{column.doc} [{column.unit}]" if column.unit else column.doc
    told = {
        "inputs": [_told(column) for column in scorer.inputs],
        "outputs": [_told(column) for column in scorer.run.task.outputs.each()],
    }
    said = {"run": digest, "system": Path(scorer.run.system).stem, "version": __version__, "columns": json.dumps(told)}
    del graph.metadata_props[:]
    for key, text in said.items():
        graph.metadata_props.add(key=f"jetscale.{key}", value=text)
    graph.doc_string = f"jetscale {said['system']}, run {digest}"


def _told(column: Column) -> dict[str, object]:
    return {"name": column.name, "unit": column.unit, "doc": column.doc, "of": column.of}


def _mask(collection: str) -> Column:
    return Column(name=mask_of(collection), of=collection, dtype="int8", unit="", doc=f"whether a {collection} is real")


def _dtype(column: Column) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, column.dtype)
    return dtype


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of itself: of libraries that it could use, and of its own future."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning)
            warnings.filterwarnings("ignore", message="# The axis name", category=UserWarning)
            # torch's own recurrent layers keep a list of their weights, which tracing makes anew.
            warnings.filterwarnings("ignore", message="The tensor attribute.*_flat_weights", category=UserWarning)
            yield
    finally:
        logger.setLevel(level)
