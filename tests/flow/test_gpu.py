"""What only an accelerator can show: the same training there as on the CPU, and bf16 near it."""

from pathlib import Path

import pytest
import torch

from jetscale.events import Events
from jetscale.run import resolve
from jetscale.systems.assigner import Assigner
from jetscale.train.launch import train
from jetscale.train.track import lines

pytestmark = pytest.mark.gpu


def _losses(folder: Path, name: str, **more: object) -> list[float]:
    if not (folder / "toy").exists():
        Events.write(Assigner().toy(2000, 1), folder / "toy")
    values = {"system": "assigner", "task": {"readout": "argmax"}, "horizon": {"steps": 40},
              "stream": {"samples": {"toy": {"events": str(folder / "toy")}}},
              "track": {"wandb": False, "log_every": 1}, **more}  # fmt: skip
    out = train(resolve([("test", values)], "test").run, folder / name)
    return [line["loss"]["label"] for line in lines(out, "step")]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_deepspeed_on_the_accelerator_agrees_with_torch_on_the_cpu(
    tmp_path: Path, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = _losses(tmp_path, "there", precision=precision,
                    scale={"engine": "deepspeed", "launch": "here"})  # fmt: skip
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    here = _losses(tmp_path, "here", scale={"engine": "torch", "launch": "here"})
    assert there == pytest.approx(here, rel=1e-3 if precision == "fp32" else 5e-2)
