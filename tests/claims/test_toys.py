"""Every system learns its own toy."""

from pathlib import Path

import pytest

from jetscale.events import Events
from jetscale.run import resolve
from jetscale.task import find, names
from jetscale.train.launch import train
from jetscale.train.track import lines

pytestmark = pytest.mark.claims


@pytest.mark.parametrize("name", names())
def test_it_learns_its_own_toy(name: str, tmp_path: Path) -> None:
    Events.write(find(name).task().toy(4000, 1), tmp_path / "toy")
    values = {"system": name, "stream": {"samples": {"toy": {"events": str(tmp_path / "toy")}}},
              "horizon": {"epochs": 4}, "scale": {"engine": "torch", "launch": "here"},
              "track": {"wandb": False, "validate_every": 4}}  # fmt: skip
    out = train(resolve([("test", values)], "test").run, tmp_path / "run")
    before, after = (line["metrics"] for line in lines(out, "validation"))
    for term in (key for key in before if key.startswith("loss_")):
        assert after[term] < 0.8 * before[term]
