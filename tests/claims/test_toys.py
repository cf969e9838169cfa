"""Every system learns its own toy."""

from pathlib import Path

import pytest

from jetscale.events import Events
from jetscale.run import resolve
from jetscale.task import find, names
from jetscale.train.launch import train
from jetscale.train.track import lines

pytestmark = pytest.mark.claims


# Epochs, and the share of the first loss that is left at most, where they are not 4 and 0.8: the flow of energy alone
# tells less of the toys, and slowly.
OTHER = {"efn": (10, 0.88)}


@pytest.mark.parametrize("name", names())
def test_it_learns_its_own_toy(name: str, tmp_path: Path) -> None:
    Events.write(find(name).task().toy(4000, 1), tmp_path / "toy")
    epochs, most = OTHER.get(name, (4, 0.8))
    values = {"system": name, "stream": {"samples": {"toy": {"events": str(tmp_path / "toy")}}},
              "horizon": {"epochs": epochs},
              "scale": {"engine": "torch", "launch": "here", "events_per_step": 100},
              "track": {"wandb": False, "validate_every": epochs}}  # fmt: skip
    out = train(resolve([("test", values)], "test").run, tmp_path / "run")
    before, after = (line["metrics"] for line in lines(out, "validation"))
    for term in (key for key in before if key.startswith("loss_")):
        assert after[term] < most * before[term]
    assert after.get("auc", 1.0) > 0.7
