"""A study in miniature, from its samples to its page, ended and gone on with on its way."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from jetscale.conduct import table
from jetscale.conduct.stages import Work, conducting, left
from jetscale.errors import ConfigError, TrainError
from jetscale.events import SHIPPED, Events
from jetscale.study import Study
from jetscale.train import checkpoint

pytestmark = pytest.mark.ray
SAMPLES = ("gluino-900", "gluino-1100", "gluino-1300", "gluino-1500", "gluino-1500-750", "qcd")
ROWS = 160


def _study(folder: Path, **changes) -> Study:
    size = {"weights": [0, 0.3], "classical": ["asymmetry_6"], "replicas": 10}
    return Study(**{
        "samples": {name: {"events": str(folder / name)} for name in SAMPLES},
        "train_on": {"single": ["gluino-1300"], "mixed": ["gluino-900", "gluino-1300"]},
        "background": "qcd", "background_weight": 0.3,
        "holdouts": ["gluino-1100", "gluino-1500", "gluino-1500-750"],
        "training": {"system": "assigner", "task": {"width": 8, "layers": 2}, "track": {"wandb": False},
                     "scale": {"events_per_step": 48, "engine": "torch", "launch": "here", "source": "pyarrow"}},
        "label": {"horizon": {"steps": 6}}, "mass": {"horizon": {"steps": 3}},
        "seed_spread": {"f10": 0.03}, "sizes": {"tiny": {**size, **changes}},
    })  # fmt: skip


def _work(folder: Path, out: str = "study", **changes) -> Work:
    study = _study(folder, **changes)
    return Work(study, study.size("tiny"), "tiny", folder / out)


def _logs(work: Work) -> dict[str, int]:
    """When every training was last at work."""
    return {log.parent.name: log.stat().st_mtime_ns for log in work.out.glob("runs/*/log.jsonl")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("study")
    for name in SAMPLES:
        Events.write(Events.open(SHIPPED + name).read().slice(0, ROWS), place / name)
    return place


@pytest.fixture(scope="module")
def done(folder: Path, ray_here: None) -> Work:
    """Cut off after the trainings with the label loss, then in the middle of scoring, then gone on with."""
    work = _work(folder)
    assert list(conducting(work, most_s=0)) == [], "nothing is begun"
    assert left(work) == ["3 label trainings", "3 mass trainings", "13 scorings", "the page"]
    stages = [progress.stage for progress in conducting(work, until="label")]
    assert set(stages) == {"label"}
    assert left(work) == ["3 mass trainings", "13 scorings", "the page"]
    before = _logs(work)
    steps = conducting(work, most_s=3600)  # in pieces, between which nothing is at work
    for progress in steps:
        if progress.stage == "score" and progress.done == (os.cpu_count() or 1):
            break
    steps.close()
    assert 0 < len(list(work.out.glob("judged/*.json"))) < 13
    assert before.items() <= _logs(work).items(), "no label run was trained again"
    before = _logs(work)
    assert list(conducting(work))[-1].stage == "report"
    assert _logs(work) == before
    return work


def test_nothing_is_left_and_everything_is_there(done: Work) -> None:
    assert left(done) == []
    rows = table.read(done.out / "study.parquet")
    assert len(rows) == (6 * 2 + 1) * 5  # trainings with two read-outs each, a classical method; signals
    assert {row.place for row in rows} == {"trained", "inside", "outside", "decay"}
    assert {row.readout for row in rows} == {"argmax", "mbr", ""}
    assert all(np.isfinite(row.figures[name]).all() for row in rows for name in ("f10", "mass_auc", "jet_accuracy"))
    ranks = pq.read_table(done.out / "ranks.parquet").to_pylist()
    assert {one["network"] for one in ranks} == {"equivariant"} and all(0 < one["mean"] < 1 for one in ranks)
    assert {file.name for file in (done.out / "figures").iterdir()} == {
        f"{name}.{kind}" for name in ("plane", "masses", "position", "ranks", "learning") for kind in ("png", "pdf")
    }


def test_the_page_says_every_claim_with_its_verdict_first(done: Work) -> None:
    page = (done.out / "index.html").read_text()
    judged = json.loads((done.out / "claims.json").read_text())
    assert list(judged) == ["argmax", "mbr"]
    for claim in judged["argmax"]:
        assert claim["verdict"] in ("holds", "does not hold", "undecided")
        assert page.index(f"{claim['name']} · ") < page.index("The pictures")
    assert "One seed was trained" in page and "f10 0.03" in page


def test_events_that_were_trained_on_are_not_judged(done: Work) -> None:
    for row in table.read(done.out / "study.parquet"):
        assert row.n == (ROWS if row.place != "trained" else len(Events.open(done.out / "parts" / row.sample / "test")))
        assert row.n < ROWS or row.sample in done.study.holdouts


def test_read_outs_share_their_weights_and_differ_in_what_they_say(done: Work) -> None:
    name = "label-mixed-equivariant-s1"
    argmax, mbr = (Events.open(done.out / "scored" / f"{name}-{one}" / "gluino-1500") for one in ("argmax", "mbr"))
    assert argmax.manifest.made_by["weights"] == mbr.manifest.made_by["weights"]
    assert argmax.manifest.made_by["scored_by"] != mbr.manifest.made_by["scored_by"]
    assert argmax.read(["reco_mass"]) != mbr.read(["reco_mass"])
    assert argmax.read(["event_id"]) == mbr.read(["event_id"])


def test_mass_runs_go_on_from_the_label_run_alike(done: Work) -> None:
    for folder in done.out.glob("runs/mass-*"):
        run, _ = checkpoint.load(folder)
        assert run.start == str((folder.parent / folder.name.replace("mass", "label")).absolute())


def test_what_was_lost_is_made_again_and_comes_out_alike(done: Work) -> None:
    before = (done.out / "claims.json").read_text(), (done.out / "study.parquet").read_bytes()
    (done.out / "judged" / "mass-mixed-equivariant-s1-mbr.json").unlink()
    (done.out / "scored" / "mass-mixed-equivariant-s1-mbr" / "gluino-1100" / "shard-00000.parquet").unlink()
    (done.out / "scored" / "mass-mixed-equivariant-s1-mbr" / "gluino-1100" / "_manifest.json").unlink()
    logs = _logs(done)
    assert left(done) == ["1 scorings", "the page"]
    for _ in conducting(done):
        pass
    assert (done.out / "claims.json").read_text() == before[0]
    assert (done.out / "study.parquet").read_bytes() == before[1]
    assert _logs(done) == logs


def test_a_longer_axis_trains_only_what_is_new(done: Work, folder: Path) -> None:
    logs = _logs(done)
    longer = _work(folder, weights=[0, 0.3, 3])
    for _ in conducting(longer, until="label"):
        pass
    assert logs.items() <= _logs(longer).items()
    assert set(_logs(longer)) - set(logs) == {"label-mixed-w3-equivariant-s1"}
    with pytest.raises(ConfigError, match=r"holds another study:\n  sizes.tiny.weights"):
        next(conducting(done))


def test_trainings_that_fail_are_named_and_the_others_kept(folder: Path, ray_here: None) -> None:
    work = _work(folder, "broken", training={"optimiser": {"rate": 1e30, "clip": 0.0}})
    with pytest.raises(TrainError, match=r"(?s)trainings failed\n  label-\w+.*the others are kept"):
        for _ in conducting(work):
            pass
