"""Graphs of taggers give what torch gives, of any number of jets of any number of particles."""

from pathlib import Path

import numpy as np
import pytest
import torch

from jetscale.config import Values
from jetscale.data.batch import batch
from jetscale.evaluate import onnx as graphs
from jetscale.run import Run, resolve
from jetscale.task import At, Batch

SYSTEMS: dict[str, tuple[str, Values]] = {
    "pfn": ("pfn", {"ids": "full"}),
    "efn of the hardest": ("efn", {"particles": 12}),
    "rnn": ("rnn", {"particles": 20}),
    "efp": ("efp", {"edges": 3, "particles": 16}),
    "particlenet lite": ("particlenet", {"size": "lite"}),
    "particlenet of its own size": ("particlenet", {"k": 4, "channels": ((16,), (24, 32)), "dense": 20}),
    "particle transformer": ("particle_transformer", {"embed": (16, 24), "pair_embed": (8,), "heads": 4, "blocks": 1,
                                                      "class_blocks": 1}),
}  # fmt: skip
# These take minutes together.
MORE: dict[str, tuple[str, Values]] = {
    "efn": ("efn", {}),
    "pfn turned": ("pfn", {"turned": True, "ids": "charge", "encoding": "number"}),
    "particlenet dropped": ("particlenet", {"size": "lite", "phantom": "drop", "features": "full"}),
    "particlenet full": ("particlenet", {"size": "full"}),
    "particle transformer full": ("particle_transformer", {"features": "full"}),
    "deepjet": ("deepjet", {}),
    "deepjet sets": ("deepjet", {"network": "sets", "width": 32, "layers": 2}),
    "deepjet dense": ("deepjet", {"network": "dense", "width": 32, "layers": 2}),
}


def run_of(name: str) -> Run:
    system, task = {**SYSTEMS, **MORE}[name]
    values = {"system": system, "task": task, "stream": {"samples": {"toy": {"events": "toy"}}}}
    return resolve([("test", values)], "test").run


def rows(run: Run, n: int, seed: int) -> Batch:
    none = np.zeros(n, dtype=np.int64)
    return batch([run.task.toy(n, seed)], run.task.columns, np.ones(n), none, none, At(0, 0, 0.0), 1)


def seasoned(run: Run) -> torch.nn.Module:
    """A network whose moments are of jets, and not those that it starts from."""
    net = run.task.build(3)
    with torch.no_grad():
        for seed in range(2):
            run.task.score(net, rows(run, 30, seed))
    return net.eval()


def cases(scorer: graphs.Scorer) -> list[tuple[torch.Tensor, ...]]:
    """One jet and many, with fewer slots than neighbours, with one and none at all, and one real particle in many."""
    found = []
    for jets, slots in ((1, None), (3, 40), (5, 6), (2, 1), (2, 0), (1, 3)):
        given = graphs._tensors(scorer, rows(scorer.run, jets, 5))
        found.append(tuple(one[:, :slots] if one.dim() > 1 else one for one in given))
    one = graphs._tensors(scorer, rows(scorer.run, 6, 6))
    alone = [
        first(tensor) if name.endswith("_mask") else tensor for name, tensor in zip(scorer.names, one, strict=True)
    ]
    return [*found, tuple(alone)]


def first(mask: torch.Tensor) -> torch.Tensor:
    return mask & (torch.arange(mask.shape[1]) == 0)


@pytest.mark.parametrize("name", [*SYSTEMS, *(pytest.param(one, marks=pytest.mark.slow) for one in MORE)])
def test_the_graph_gives_what_torch_gives(name: str, tmp_path: Path) -> None:
    run = run_of(name)
    net, file = seasoned(run), tmp_path / "network.onnx"
    found = graphs.write(run, net, file, "none")
    assert found.events == 75 and found.undecided == 0 and found.worst < graphs.CLOSE
    scorer = graphs.Scorer(run, net, graphs._asked(run, net, rows(run, 1, 1)), room=4)
    more = cases(scorer)
    seen = graphs.compare(file, scorer, more)
    assert seen.events == sum(len(case[0]) for case in more) and seen.undecided == 0
