"""The enumerator with all its parameters sharded: the same losses as in one process, and the same masses scored."""

from pathlib import Path

import pytest

from jetscale.config import Values
from jetscale.evaluate.score import score
from jetscale.events import Events
from jetscale.run import Run, resolve
from jetscale.systems.enumerator import Enumerator
from jetscale.train.launch import train
from jetscale.train.track import lines

pytestmark = pytest.mark.ray

STEPS = 6


def _run(toy: Path, scale: Values) -> Run:
    values = {"system": "enumerator", "task": {"width": 16, "layers": 2, "leading": 6, "most_none": 3, "sampled": 60},
              "stream": {"samples": {"toy": {"events": str(toy)}}}, "horizon": {"steps": STEPS},
              "scale": {"events_per_step": 120, "events_per_micro_batch": 30, "source": "pyarrow", **scale},
              "track": {"wandb": False, "log_every": 1}}  # fmt: skip
    return resolve([("test", values)], "test").run


def test_sharded_over_two_workers_it_learns_the_same(tmp_path: Path, ray_here: None) -> None:
    events = Events.write(Enumerator().toy(1500, 1), tmp_path / "toy", rows_per_shard=400)
    plain = train(_run(tmp_path / "toy", {"engine": "torch", "launch": "here"}), tmp_path / "plain")
    sharded = train(_run(tmp_path / "toy", {"engine": "deepspeed", "stage": 3, "workers": 2}), tmp_path / "sharded")
    some, others = ([line["loss"] for line in lines(folder, "step")] for folder in (plain, sharded))
    assert len(some) == len(others) == STEPS
    for one, other in zip(some, others, strict=True):
        assert set(one) == {"label", "mass", "trailing"}
        assert other == pytest.approx(one, rel=1e-3)
    masses = [
        score(run, events, tmp_path / f"{run.name}-scored").read()["reco_mass"].to_numpy() for run in (plain, sharded)
    ]
    near = abs(masses[0] - masses[1]) < 1e-2 * masses[0].clip(1.0)
    assert near.mean() > 0.95
