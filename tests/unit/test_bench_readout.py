"""The benchmark of read-outs: what is timed is the read-out, and its figures belong to their targets."""

import json
from pathlib import Path

import torch
from torch import nn

from jetscale.bench.readout import ALONE, CASES, MOST_MS, TRAINING, _Ready, _rows
from jetscale.cli import main
from jetscale.task import find


def test_a_network_that_is_ready_gives_the_same_scores_without_being_asked() -> None:
    for system in ("assigner", "enumerator"):
        task = find(system).task()
        net, rows = task.build(1).eval(), _rows(task, 20, 5)
        asked: list[nn.Module] = []
        with torch.no_grad():
            wanted = task.score(net, rows)
            ready = _Ready(task, net, rows)
            net.register_forward_hook(lambda module, *_, asked=asked: asked.append(module))
            found = task.score(ready, rows)
        assert not asked
        assert all(found[name].equal(column) for name, column in wanted.items())


def test_the_command_says_every_side_and_the_target_of_the_default_readouts(tmp_path: Path) -> None:
    assert main(["bench", "readout", "--events", "256", "--rounds", "1", "--out", str(tmp_path / "r.json")]) == 0
    found = json.loads((tmp_path / "r.json").read_text())
    assert set(found["rounds"]) == {case.name for case in CASES}
    targets = {one["name"]: one["at_most"] for one in found["figures"] if one["at_most"]}
    assert targets == {"assigner, mbr": MOST_MS, "enumerator, mbr": MOST_MS}
    medians = {one["name"]: one["median"] for one in found["figures"]}
    alone, whole = (medians[f"enumerator, mbr{what}"] for what in (ALONE, ", with its network"))
    assert 0 < alone < whole
    drawn, every = (medians[case.name] for case in CASES if case.what == TRAINING)
    assert found["figures"][-1]["rounds"] == [every / drawn]
