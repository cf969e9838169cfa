"""Taggers whose inputs are scaled by fitted numbers have them in the network, and those of the whole training part."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from jetscale import task
from jetscale.aggregates import Moments
from jetscale.data.batch import batch
from jetscale.data.fit import fit
from jetscale.data.split import part_of
from jetscale.events import Events
from jetscale.nn.particles import ParticleInputs
from jetscale.run import resolve
from jetscale.tagger import TERM, Tagger
from jetscale.task import At, Batch
from jetscale.train.launch import prepare

TAGGERS = {name: kind for name, kind in ((name, task.find(name).task) for name in task.names())
           if issubclass(kind, Tagger)}  # fmt: skip
SCALED = [name for name, kind in TAGGERS.items() if "standardise" in kind.model_fields]


def rows(one: Tagger, n: int = 20) -> Batch:
    return batch([one.toy(n, 3)], one.columns, np.ones(n), np.zeros(n, dtype=np.int64), np.arange(n), At(0, 0, 0.0), 1)


@pytest.mark.parametrize("name", SCALED)
def test_inputs_are_scaled_by_the_moments_of_the_training_part(name: str, tmp_path: Path) -> None:
    tagger: Any = TAGGERS[name](standardise="fitted")
    Events.write(tagger.toy(120, 1), tmp_path / "jets", rows_per_shard=50)
    stream = {"samples": {"jets": {"events": str(tmp_path / "jets")}}, "chunk_rows": 30}
    run = resolve([("job", {"system": name, "task": {"standardise": "fitted"}, "stream": stream,
                            "scale": {"launch": "here"}})], "job").run  # fmt: skip
    opened = run.stream.open()
    counted = prepare(run, opened)
    fitted = fit(run, opened, counted.chunks, counted.means)
    net = run.task.build(1, fitted)
    (scaled,) = (module for module in net.modules() if isinstance(module, ParticleInputs))

    table = opened["jets"].read()
    table = table.filter(part_of(table["event_id"].to_numpy(), run.stream.split) == 0)
    n = table.num_rows
    seen = batch([table], run.task.columns, np.ones(n), np.zeros(n, dtype=np.int64), np.arange(n), At(0, 0, 0.0), 1)
    jet, particle, mask = tagger.tensors(seen)[:3]
    plain = scaled.plain(jet, particle)[mask].double()
    assert torch.allclose(scaled.shift_C.double(), plain.mean(0), atol=1e-4)
    varies = plain.std(0) > 1e-3
    assert torch.allclose(scaled.scale_C.double()[varies], 1 / plain.std(0, correction=0)[varies], rtol=1e-3)
    assert isinstance(run.task.needs()["particles"], Moments)
    saved = net.state_dict()
    fresh = run.task.build(2, run.task.neutral())
    fresh.load_state_dict(saved)  # that all there is to know is in the weights
    few = [one[:5] for one in tagger.tensors(seen)]
    assert torch.equal(fresh.eval()(*few), net.eval()(*few))


@pytest.mark.parametrize("name", SCALED)
def test_published_numbers_need_no_pass_over_the_data(name: str) -> None:
    assert set(TAGGERS[name]().needs()) == {"classes", "inputs"}


@pytest.mark.parametrize("name", TAGGERS)
def test_label_smoothing_is_off(name: str) -> None:
    assert TAGGERS[name].model_fields["label_smoothing"].default == 0.0


def test_label_smoothing_spreads_a_share_of_the_target() -> None:
    plain, smooth = (TAGGERS["pfn"](label_smoothing=share) for share in (0.0, 0.1))
    net, seen = plain.build(1), rows(plain)  # type: ignore[arg-type]
    logits = net(*plain.tensors(seen))  # type: ignore[attr-defined]
    target = functional.one_hot(plain.class_of(seen), 2) * 1.0  # type: ignore[attr-defined]
    for one, share in ((plain, 0.0), (smooth, 0.1)):
        wanted = -(((1 - share) * target + share / 2) * logits.log_softmax(-1)).sum(-1)
        assert torch.allclose(one.loss(net, seen)[TERM], wanted, atol=1e-6)
