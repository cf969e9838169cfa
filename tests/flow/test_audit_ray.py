"""An audit from its file to its page on Ray; the same command again trains nothing anew."""

import json
from pathlib import Path

import pytest
import yaml

from jetscale import cli
from jetscale.audit.bank import bank
from jetscale.events import Events

pytestmark = pytest.mark.ray


@pytest.mark.usefixtures("ray_here")
def test_a_job_is_audited_and_what_is_trained_is_kept(tmp_path: Path) -> None:
    samples = {f"m{mass:g}": Events.write(bank([mass], 300, 1).drop_columns(["decay_mode"]).append_column(
        "decay_mode", [[3] * 300]), tmp_path / f"m{mass:g}") for mass in (800.0, 1200.0)}  # fmt: skip
    job = {"system": "assigner", "task": {"width": 16, "layers": 2, "readout": "argmax"}, "horizon": {"steps": 3},
           "stream": {"samples": {name: {"events": str(events.path)} for name, events in samples.items()}},
           "track": {"wandb": False}, "scale": {"engine": "torch", "events_per_step": 24}}  # fmt: skip
    values = {"train": job, "seeds": 2, "events": 100, "probes": 200, "permutations": 19,
              "thresholds": {"scale": 1e-3, "extrapolation": None, "worst_transfer": None, "nearest_mass": None,
                             "spread": None}}  # fmt: skip
    file, out = tmp_path / "audit.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump({"audit": values}))
    assert cli.main(["audit", str(file), "--out", str(out)]) == 0
    runs = sorted(folder.name for folder in (out / "runs").iterdir() if folder.is_dir())
    assert runs == [f"train={name},seed={seed}" for name in ("all", "without-m1200", "without-m800") for seed in (1, 2)]
    logs = {name: (out / "runs" / name / "log.jsonl").stat().st_mtime_ns for name in runs}
    before = (out / "audit.json").read_text()
    values["thresholds"] |= {"nearest_mass": 1e-12, "boost": 1e-12}  # nothing that is trained depends on them
    file.write_text(yaml.safe_dump({"audit": values}))
    assert cli.main(["audit", str(file), "--out", str(out)]) == 1
    assert logs == {name: (out / "runs" / name / "log.jsonl").stat().st_mtime_ns for name in runs}
    after = json.loads((out / "audit.json").read_text())
    assert "boost" in after["failed"]
    assert after["transfer_matrix"] == json.loads(before)["transfer_matrix"]
