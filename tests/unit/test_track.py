"""What a training leaves behind to be watched: a closed Weights & Biases run without a key, and the log."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from wandb.proto import wandb_internal_pb2

from jetscale.events import Events
from jetscale.run import resolve
from jetscale.systems.assigner import Assigner
from jetscale.train.launch import train
from jetscale.train.track import has_key, lines

BLOCK, HEADER, FILE_HEADER = 32768, 7, 7


def _records(file: Path) -> Iterator[wandb_internal_pb2.Record]:
    """The records of an offline run's file, a LevelDB log: blocks of 32 KiB, records in pieces with 7-byte headers."""
    data, place, pieces = file.read_bytes(), FILE_HEADER, b""
    while place + HEADER <= len(data):
        if BLOCK - place % BLOCK < HEADER:
            place += BLOCK - place % BLOCK
            continue
        size, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        pieces += data[place + HEADER : place + HEADER + size]
        place += HEADER + size
        if kind in (1, 4):  # whole, or the last piece
            yield wandb_internal_pb2.Record.FromString(pieces)
            pieces = b""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tracked")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WANDB_API_KEY", raising=False)
        patch.delenv("WANDB_MODE", raising=False)
        Events.write(Assigner().toy(300, 1), folder / "toy")
        values = {"system": "assigner", "task": {"width": 16, "layers": 2, "readout": "jets"},
                  "stream": {"samples": {"toy": {"events": str(folder / "toy")}}}, "horizon": {"steps": 12},
                  "scale": {"engine": "torch", "launch": "here"}, "track": {"log_every": 3}}  # fmt: skip
        return train(resolve([("test", values)], "test").run, folder / "run")


def test_without_a_key_the_run_is_offline_whole_and_closed(run: Path) -> None:
    (file,) = (run / "wandb").glob("offline-run-*/*.wandb")
    records = list(_records(file))
    kinds = [record.WhichOneof("record_type") for record in records]
    name = json.loads((run / "data.json").read_text())["run"]
    assert next(record.run.run_id for record in records if record.HasField("run")) == name
    assert "exit" in kinds, "a run that is not closed never appears as finished"
    assert [record.exit.exit_code for record in records if record.HasField("exit")] == [0]
    steps = {item.key or item.nested_key[0] for record in records for item in record.history.item}
    assert {"loss/label", "validation/f10", "rate", "wait"} <= steps


def test_a_key_is_seen_where_login_puts_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert not has_key()
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert has_key()
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert has_key()


def test_the_log_has_a_line_for_every_third_step(run: Path) -> None:
    kinds = [json.loads(line)["kind"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert kinds[0] == "start" and kinds[-1] == "end"
    assert [line["step"] for line in lines(run, "step")] == [3, 6, 9, 12]
