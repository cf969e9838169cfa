"""Weights & Biases and TensorBoard: a training that is started again goes on in the same record, and keys stay out."""

import gzip
import json
import os
import re
import secrets
import struct
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import wandb
from tensorboardX.proto.event_pb2 import Event, SessionLog
from wandb.proto import wandb_internal_pb2

from jetscale.errors import ConfigError
from jetscale.events import Events
from jetscale.run import Run, resolve
from jetscale.systems.assigner import Assigner
from jetscale.task import At
from jetscale.train.board import WandbBoard, has_key, wandb_id
from jetscale.train.launch import train
from jetscale.train.track import Tracker

BLOCK, HEADER, FILE_HEADER = 32768, 7, 7
TASK = {"width": 16, "layers": 2, "readout": "argmax"}

# One start of a training that is tracked: (folder, name, step it goes on from, last step, whether it is killed).
PART = """
import os, sys
from pathlib import Path
from jetscale.run import resolve
from jetscale.task import At
from jetscale.train.track import Tracker

out, name, after, last, killed = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])
values = {"system": "assigner", "stream": {"samples": {"toy": {"events": "toy"}}}, "horizon": {"steps": 9}}
track = Tracker(resolve([("test", values)], "test").run, name, out, 9, after)
for step in range(after, last):
    track.step(At(step, 0, 0.0), {"label": float(step + 1)}, 1e-3, 100.0, 0.0)
if killed:
    os.kill(os.getpid(), 9)
track.close("done")
"""


def records(file: Path) -> Iterator[wandb_internal_pb2.Record]:
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


def settings(folder: Path, **track: object) -> Run:
    values = {"system": "assigner", "task": TASK, "stream": {"samples": {"toy": {"events": str(folder / "toy")}}},
              "horizon": {"steps": 12}, "scale": {"engine": "torch", "launch": "here"},
              "track": {"log_every": 3, **track}}  # fmt: skip
    return resolve([("test", values)], "test").run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tracked")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WANDB_API_KEY", raising=False)
        patch.delenv("WANDB_MODE", raising=False)
        Events.write(Assigner().toy(300, 1), folder / "toy")
        return train(settings(folder), folder / "run")


def test_without_a_key_the_run_is_offline_whole_and_closed(run: Path) -> None:
    (file,) = (run / "wandb").glob("offline-run-*/*.wandb")
    found = list(records(file))
    kinds = [record.WhichOneof("record_type") for record in found]
    name = json.loads((run / "data.json").read_text())["run"]
    said = next(record.run for record in found if record.HasField("run"))
    assert (said.run_id, said.run_group) == (wandb_id(name, run), name)
    assert "exit" in kinds, "a run that is not closed never appears as finished"
    assert [record.exit.exit_code for record in found if record.HasField("exit")] == [0]
    assert {"loss/label", "validation/f10", "rate", "wait"} <= {key for row in history(file) for key in row}


def history(file: Path) -> list[dict[str, float]]:
    """The rows of an offline run."""
    rows = [record.history for record in records(file) if record.HasField("history")]
    return [{item.key or item.nested_key[0]: json.loads(item.value_json) for item in row.item} for row in rows]


def test_a_key_is_seen_where_login_puts_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_BASE_URL", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert not has_key()
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org:8080")
    assert not has_key()
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert has_key()


class _Server(BaseHTTPRequestHandler):
    """As much of a W&B server as a client needs: it keeps every run's history, and says how far it has come."""

    protocol_version = "HTTP/1.1"
    histories: dict[str, list[str]]

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer({})

    def do_PUT(self) -> None:
        self._body()
        self._answer({})

    def do_POST(self) -> None:
        body = self._body()
        if self.path.endswith("/graphql"):
            asked = json.loads(body)
            verb = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
            self._answer({"data": self._graphql(verb[1] if verb else "", asked.get("variables") or {})})
            return
        if self.path.endswith("/file_stream"):
            new = json.loads(body).get("files", {}).get("wandb-history.jsonl")
            if new:
                self.histories[self.path.split("/")[-2]][new["offset"] :] = new["content"]
        self._answer({})

    def _graphql(self, verb: str, given: dict[str, Any]) -> dict[str, Any]:
        name, place = given.get("name", ""), {"id": "p", "name": "p", "entity": {"id": "e", "name": "me"}}
        if verb == "Viewer":
            return {"viewer": {"id": "u", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}
        if verb == "RunResumeStatus":
            return {"model": {**place, "bucket": self._bucket(name) if name in self.histories else None}}
        if verb == "UpsertBucket":
            self.histories.setdefault(name, [])
            return {"upsertBucket": {"bucket": {**self._bucket(name), "project": place}, "inserted": True}}
        if verb == "CreateRunFiles":
            files = [{"name": file, "uploadUrl": f"http://{self.headers['Host']}/{file}"} for file in given["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        return {}

    def _bucket(self, name: str) -> dict[str, Any]:
        rows = self.histories[name]
        return {"id": "b", "name": name, "displayName": name, "config": "{}", "wandbConfig": '{"t": 1}', "tags": [],
                "summaryMetrics": rows[-1] if rows else "{}", "logLineCount": 0, "historyLineCount": len(rows),
                "eventsLineCount": 0, "historyTail": json.dumps(rows[-1:]), "eventsTail": "[]"}  # fmt: skip

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _answer(self, values: dict[str, Any]) -> None:
        text = json.dumps(values).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up when it ends is no error."""


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, list[str]]]]:
    """The address of a server, and the histories that it is given."""
    histories: dict[str, list[str]] = {}
    with _Quiet(("127.0.0.1", 0), type("Server", (_Server,), {"histories": histories})) as found:
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}", histories
        found.shutdown()
        thread.join()


def environment(home: Path, key: str, **more: str) -> dict[str, str]:
    """That of a user with a key, in the two places where W&B looks for it."""
    home.mkdir(exist_ok=True)
    hosts = ("api.wandb.ai", "127.0.0.1")
    (home / ".netrc").write_text("".join(f"machine {host}\n  login user\n  password {key}\n" for host in hosts))
    (home / ".netrc").chmod(0o600)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    return {**kept, "HOME": str(home), "WANDB_API_KEY": key, **more}


def part(out: Path, after: int, last: int, surroundings: dict[str, str], *, killed: bool = False) -> None:
    out.mkdir(exist_ok=True)
    words = [str(out), "0123456789ab", str(after), str(last), str(int(killed))]
    command = [sys.executable, "-c", PART, *words]
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == (-9 if killed else 0), done.stderr


def test_online_a_restarted_training_goes_on_in_the_same_run(tmp_path, server):
    address, histories = server
    key = secrets.token_hex(20)
    surroundings = environment(tmp_path / "home", key, WANDB_BASE_URL=address)
    part(tmp_path / "run", 0, 6, surroundings, killed=True)
    part(tmp_path / "run", 4, 9, surroundings)
    rows = [json.loads(row) for row in histories[wandb_id("0123456789ab", tmp_path / "run")]]
    assert list(histories) == [wandb_id("0123456789ab", tmp_path / "run")]
    assert [(row["_step"], row["loss/label"]) for row in rows] == [(step, step) for step in range(1, 10)]
    assert leaks(tmp_path / "run", key) == []


def test_offline_a_restarted_training_has_one_whole_record(tmp_path, server):
    address, histories = server
    offline = environment(tmp_path / "home", secrets.token_hex(20), WANDB_MODE="offline", WANDB_BASE_URL=address)
    part(tmp_path / "run", 0, 6, offline, killed=True)
    part(tmp_path / "run", 4, 9, offline)
    (file,) = (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")
    assert file.name == f"run-{wandb_id('0123456789ab', tmp_path / 'run')}.wandb"
    assert [row["_step"] for row in history(file)] == list(range(1, 10))
    sync = [sys.executable, "-m", "wandb", "sync", "--yes", str(tmp_path / "run" / "wandb")]
    subprocess.run(sync, env={**offline, "WANDB_MODE": "online"}, capture_output=True, check=True, timeout=60,
                   cwd=tmp_path)  # fmt: skip
    assert [json.loads(row)["loss/label"] for row in histories[wandb_id("0123456789ab", tmp_path / "run")]] == list(
        range(1, 10)
    )


def test_online_without_a_key_is_refused_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "online")
    Events.write(Assigner().toy(20, 1), tmp_path / "toy")
    with pytest.raises(ConfigError, match=r"WANDB_MODE is online, and there is no API key[^$]*wandb login"):
        train(settings(tmp_path), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_server_out_of_reach_ends_no_training(tmp_path, monkeypatch):
    asked = []
    start, end = wandb.init, wandb.teardown

    def init(**how: Any) -> Any:
        asked.append((how["mode"], how.get("resume")))
        if how["mode"] == "online":
            raise wandb.errors.CommError("connection refused")
        return start(**how)

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(wandb, "teardown", lambda: (asked.append("begun anew"), end()))
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", secrets.token_hex(20))
    board = WandbBoard(settings(tmp_path), "0123456789ab", tmp_path)
    board.log({"loss/label": 1.0}, 1)
    board.close(done=True)
    assert asked == [("online", "allow"), "begun anew", ("offline", None), "begun anew"]
    (file,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    assert len(history(file)) == 1


def leaks(folder: Path, key: str) -> list[str]:
    """Files that hold a key, as it is or behind a compression."""
    found = []
    for file in folder.rglob("*"):
        if not file.is_file():
            continue
        texts = [file.read_bytes()]
        if texts[0][:2] == b"\x1f\x8b":
            texts.append(gzip.decompress(texts[0]))
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as inner:
                texts += [inner.read(name) for name in inner.namelist()]
        found += [str(file) for text in texts if key.encode() in text]
    return found


def test_no_file_of_a_run_holds_a_key(tmp_path, server):
    key = secrets.token_hex(20)
    job, out = tmp_path / "job.yaml", tmp_path / "run"
    Events.write(Assigner().toy(300, 1), tmp_path / "toy")
    job.write_text(json.dumps({"train": settings(tmp_path, tensorboard=True).values()}))
    command = [sys.executable, "-m", "jetscale.cli", "train", str(job), "--out", str(out), "--debug"]
    surroundings = environment(tmp_path / "home", key, WANDB_BASE_URL=server[0], WANDB_DEBUG="true")
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    files = {file.relative_to(out).parts[0] for file in out.rglob("*") if file.is_file()}
    assert {"run.yaml", "log.jsonl", "wandb", "tensorboard", "checkpoints"} <= files
    assert server[1], "the key was not used"
    assert leaks(out, key) == []
    assert key not in done.stdout + done.stderr


def test_a_leak_would_be_found(tmp_path):
    key = secrets.token_hex(20)
    (tmp_path / "plain").write_text(f"key: {key}")
    (tmp_path / "packed.gz").write_bytes(gzip.compress(key.encode()))
    with zipfile.ZipFile(tmp_path / "packed.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("inside", key)
    assert sorted(Path(file).name for file in leaks(tmp_path, key)) == ["packed.gz", "packed.zip", "plain"]


def events(folder: Path) -> list[Event]:
    """What TensorBoard would read, in its order of files: records of (length, check, event, check)."""
    found = []
    for file in sorted((folder / "tensorboard").iterdir()):
        data, place = file.read_bytes(), 0
        while place < len(data):
            (size,) = struct.unpack_from("<Q", data, place)
            found.append(Event.FromString(data[place + 12 : place + 12 + size]))
            place += 16 + size
    return found


def curve(found: list[Event], tag: str) -> list[tuple[int, float]]:
    """(step, value), as often and in the order in which they were said."""
    return [(event.step, value.simple_value) for event in found for value in event.summary.value if value.tag == tag]


def follow(out: Path, after: int, last: int, sign: float = 1.0) -> None:
    """A training that is tracked from step to step, with a validation at its end."""
    track = Tracker(settings(out, wandb=False, tensorboard=True), "0123456789ab", out, 9, after)
    for step in range(after, last):
        track.step(At(step, 0, 0.0), {"label": sign * (step + 1)}, 1e-3, 100.0, 0.0)
    track.validation(At(last, 0, 0.0), {"f10": 0.25, "mass_auc": float("nan")})
    track.close("failed")


def test_tensorboard_has_every_step_once(tmp_path):
    follow(tmp_path, 0, 6)
    follow(tmp_path, 4, 9, sign=-1.0)
    found = events(tmp_path)
    signs = [1, 1, 1, 1, -1, -1, -1, -1, -1]
    assert curve(found, "loss/label") == [(step, sign * step) for step, sign in enumerate(signs, 1)]
    assert curve(found, "validation/f10") == [(9, 0.25)]
    assert curve(found, "events_per_s")[0] == (1, 100.0)
    assert [event.step for event in found if event.session_log.status == SessionLog.START] == [0]
    follow(tmp_path, 0, 2)
    assert curve(events(tmp_path), "loss/label") == [(1, 1), (2, 2)], "a new training leaves nothing of the old one"
