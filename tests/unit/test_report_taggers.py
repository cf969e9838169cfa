"""The report on taggers says what counting says, of held-out jets of known class alone."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from jetscale import cli, labels
from jetscale.errors import DataError
from jetscale.evaluate.report import Scored, report
from jetscale.evaluate.tagging import filters, images, results
from jetscale.events import Events, Manifest, write_manifest, write_shard
from jetscale.metrics import auc
from jetscale.physics.filters import PowerLaw, power_law, sizes
from jetscale.run import resolve
from jetscale.schema import EVENT_ID, JET, JET_LABEL, WEIGHT, Column, Schema
from jetscale.systems.efn import EFN
from jetscale.systems.particlenet import ParticleNet
from jetscale.tagger import Filters, Pictures
from jetscale.train.launch import train

N = 3000
COLUMNS = Schema(columns=(EVENT_ID, WEIGHT, *JET.columns, JET_LABEL))
SPLIT = Column(name="split", dtype="int8", unit="", doc="part")


def sample(folder: Path, sharp: float, *, seed: int = 1, doc: str = "that the jet is ", n: int = N) -> Events:
    """Jets scored as by a tagger of QCD against W and Z together and top; a third of them held out."""
    dice = np.random.default_rng(seed)
    label = dice.choice(
        [labels.code(name) for name in ("qcd", "w", "z", "top", "gluon")], n, p=[0.4, 0.2, 0.2, 0.15, 0.05]
    )
    kind = np.select([label == labels.code("qcd"), label == labels.code("top")], [0, 2], 1)
    noise = np.random.default_rng(int(10 * sharp) + seed).normal(0, 1, (n, 3))
    logits = noise + sharp * np.eye(3)[kind]
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    classes = {"qcd": "qcd", "boson": "w or z", "top": "top"}
    outputs = [Column(name=f"probability_{name}", dtype="float32", unit="", doc=f"{doc}{held}", low=0, high=1)
               for name, held in classes.items()]  # fmt: skip
    schema = COLUMNS.plus(*outputs, SPLIT)
    values = {"event_id": np.arange(n), "weight": dice.uniform(0.5, 1.5, n), "jet_pt": dice.uniform(550, 650, n),
              "jet_eta": dice.normal(0, 1, n), "jet_phi": dice.uniform(-3, 3, n), "jet_mass": dice.uniform(0, 200, n),
              "jet_label": label, "split": np.arange(n) % 3}  # fmt: skip
    values |= {column.name: probability[:, number] for number, column in enumerate(outputs)}
    table = pa.table(
        [pa.array(values[column.name]).cast(column.arrow) for column in schema.each()], schema=schema.arrow
    )
    shard = write_shard(table, folder / "shard-00000.parquet", schema)
    write_manifest(Manifest(name="jets", columns=schema.columns, shards=(shard,)), folder)
    return Events.open(folder)


def test_the_numbers_are_those_of_counting(tmp_path: Path) -> None:
    scored = [Scored("sharp", sample(tmp_path / "a", 2.0)), Scored("blunt", sample(tmp_path / "b", 0.5))]
    page = report(scored, tmp_path / "out", command="jetscale report", wall={})
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    table = scored[0].events.read().to_pandas()
    held = table[(table.split == 2) & (table.jet_label != labels.code("gluon"))]
    assert found["jets"]["known"] == len(held)
    assert found["jets"]["unknown"] == ((table.split == 2) & (table.jet_label == labels.code("gluon"))).sum()
    assert found["jets"]["left_out"] == (table.split < 2).sum()
    kind = np.select([held.jet_label == labels.code("qcd"), held.jet_label == labels.code("top")], [0, 2], 1)
    probability = held[["probability_qcd", "probability_boson", "probability_top"]].to_numpy(float)
    right = np.mean([np.average((probability.argmax(1) == k)[kind == k], weights=held.weight[kind == k])
                     for k in np.unique(kind)])  # fmt: skip
    assert found["runs"]["sharp"]["figures"]["accuracy"]["value"] == pytest.approx(right, rel=1e-5)
    two = kind != 1
    score = probability[two, 2] / (probability[two, 2] + probability[two, 0])
    wanted = auc(score, kind[two] == 2, held.weight.to_numpy()[two])
    assert found["runs"]["sharp"]["figures"]["auc_top"]["value"] == pytest.approx(wanted, rel=1e-5)
    lead = found["differences"]["sharp"]["blunt"]["auc"]
    assert lead["value"] > 5 * lead["error"] > 0
    assert sum(one["n"] for one in found["runs"]["sharp"]["bins"]["jet_pt"]) == len(held)
    text = page.read_text()
    for words in ("held-out jets of 3 classes", "outside of all classes", "boson (w, z)", "sharp", "blunt"):
        assert words in text
    assert {file.name for file in (tmp_path / "out" / "figures").glob("*.png")} == {
        "roc.png", "bins.png", "confusion.png", "calibration.png"}  # fmt: skip


def test_the_same_jets_give_the_same_bytes(tmp_path: Path) -> None:
    scored = [Scored("run", sample(tmp_path / "a", 1.0, n=400))]
    texts = set()
    for name in ("one", "two"):
        report(scored, tmp_path / name, command=name, wall={})
        texts.add((tmp_path / name / "results.json").read_text())
    assert len(texts) == 1 and str(tmp_path) not in texts.pop()


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"seed": 2}, "has scored other jets"),
        ({"n": 300}, "has scored other jets"),
        ({"doc": "of "}, "does not say which"),
    ],
)
def test_what_does_not_belong_together_is_refused(tmp_path: Path, other: dict, said: str) -> None:
    scored = [Scored("run", sample(tmp_path / "a", 1.0, n=400)),
              Scored("other", sample(tmp_path / "b", 1.0, **{"n": 400, **other}))]  # fmt: skip
    with pytest.raises(DataError, match=said):
        results.jets(scored)


def test_without_held_out_jets_there_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no held-out jets of known class"):
        results.jets([Scored("run", sample(tmp_path / "a", 1.0, n=2))])


def test_a_sample_without_momenta_of_jets_has_no_bins(tmp_path: Path) -> None:
    whole = sample(tmp_path / "a", 1.0, n=400)
    kept = whole.schema.only(name for name in whole.schema.names if name not in {"jet_pt", "jet_mass"})
    shard = write_shard(whole.read(kept.names), tmp_path / "b" / "shard-00000.parquet", kept)
    write_manifest(Manifest(name="jets", columns=kept.columns, shards=(shard,)), tmp_path / "b")
    report([Scored("run", Events.open(tmp_path / "b"))], tmp_path / "out", command="", wall={})
    assert json.loads((tmp_path / "out" / "results.json").read_text())["runs"]["run"]["bins"] == {}
    assert not (tmp_path / "out" / "figures" / "bins.png").exists()


SYSTEMS = {"small": ("efn", {"phi": [8, 6], "f": [5]}), "plain": ("pfn", {"phi": [8, 6], "f": [5]}),
           "line": ("efp", {"edges": 2}),
           "camera": ("resnext", {"size": 8, "layers": 14, "classes": EFN().classes})}  # fmt: skip


def trained(room: Path, name: str) -> Path:
    """A run of a few steps."""
    system, task = SYSTEMS[name]
    values = {"system": system, "task": task, "horizon": {"steps": 3}, "track": {"wandb": False},
              "stream": {"samples": {"toy": {"events": str(room / "toy")}}},
              "scale": {"engine": "torch", "launch": "here", "events_per_step": 64}}  # fmt: skip
    train(resolve([("test", values)], "test").run, room / name)
    return room / name


def test_runs_of_several_systems_stand_in_one_table(tmp_path: Path) -> None:
    """Scored and reported as a user does it; an energy flow network has its filters drawn."""
    Events.write(ParticleNet(classes=EFN().classes).toy(400, 1), tmp_path / "toy")
    runs = [str(trained(tmp_path, name)) for name in SYSTEMS]
    assert cli.main(["report", *runs, "--events", str(tmp_path / "toy"), "--out", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "results.json").read_text())["runs"]
    weights = {"small": 2 * 8 + 8 + 8 * 6 + 6 + 6 * 5 + 5 + 5 * 2 + 2, "plain": 8 + 2 * 8 + 8 + 8 * 6 + 6 + 30 + 5 + 12,
               "line": 2 * 4 + 2, "camera": 468_578}  # fmt: skip
    assert {run: one["network"] for run, one in found.items()} == {
        run: {"system": system, "parameters": weights[run]} for run, (system, _) in SYSTEMS.items()
    }
    assert ["filters" in found[run] for run in SYSTEMS] == [True, False, False, False]
    assert ["images" in found[run] for run in SYSTEMS] == [False, False, False, True]
    outside = [one["outside"] for one in found["camera"]["images"].values()]
    assert len(outside) == 2 and 0 < min(outside) < max(outside) < 0.2
    assert sum(one["jets"] for one in found["camera"]["images"].values()) == 400
    twice = images.seen([Scored("camera", Events.open(tmp_path / "toy"), tmp_path / "camera")] * 2)["camera"]
    assert {name: one["jets"] for name, one in twice.numbers().items()} == {"gluon": 400, "quark": 400}
    assert found["small"]["filters"]["all"] == 6 and 0.4 < found["small"]["filters"]["radius"] <= 1.2
    text = (tmp_path / "out" / "index.html").read_text()
    rows = [text[text.index(f"</span>{run}</td>") :].split("</tr>")[0] for run in SYSTEMS]
    for row, (run, (system, _)) in zip(rows, SYSTEMS.items(), strict=True):
        assert f"<td>{system}</td><td>{weights[run]:,}</td>" in row
    assert (tmp_path / "out" / "figures" / "filters.png").stat().st_size > 10_000
    assert (tmp_path / "out" / "figures" / "images.png").stat().st_size > 10_000


def disks(power: float, radius: float = 0.8, pixels: int = 100) -> np.ndarray:
    """Filters that are disks whose area grows as a power of the distance, a dead one, and one that is on everywhere."""
    middle = radius * (2 * (np.arange(pixels) + 0.5) / pixels - 1)
    y, x = np.meshgrid(middle, middle, indexing="ij")
    made = []
    for number, distance in enumerate(np.geomspace(0.12, 0.5, 24)):
        size, angle = np.sqrt(0.12 * distance**power / np.pi), 2.4 * number
        away = np.hypot(y - distance * np.cos(angle), x - distance * np.sin(angle))
        made.append(np.clip(1.5 - away / size, 0, 1))
    return np.array([*made, np.zeros_like(x), np.ones_like(x)])


def test_the_figure_of_filters_shows_what_was_measured() -> None:
    made = disks(2.0)
    of = sizes(made, 0.8)
    one = filters.Measured(Filters(made, 0.8), of, power_law(of, 0.8))
    said = one.numbers()
    assert (said["all"], said["on"], said["measured"]) == (26, 25, 24)
    assert said["power_law"]["slope"] == pytest.approx(2, abs=0.1)
    few = filters.Measured(Filters(made[:2], 0.8), of[:2], None)
    none = filters.Measured(Filters(made[:0], 0.8), [], None)
    figure = filters.drawn({"disks": one, "few": few, "none": none})
    figure.draw_without_rendering()
    contours, areas, _, without, *_ = figure.axes
    assert len(contours.collections) == 25 and contours.get_title() == "disks"
    points = areas.collections[0].get_offsets()
    assert np.allclose(points, [(size.distance / 0.8, size.area) for size in of])
    line, even = (np.log(np.asarray(drawn.get_xydata())) for drawn in areas.lines)
    slopes = [float(np.diff(drawn[:, 1])[0] / np.diff(drawn[:, 0])[0]) for drawn in (line, even)]
    assert isinstance(one.law, PowerLaw) and slopes == pytest.approx([one.law.slope, 2.0])
    assert len(without.lines) == 0 and "2 of 2 filters" in without.get_title()
    # A disk to the right of the axis, in rapidity, is drawn there.
    assert contours.collections[0].get_paths()[0].vertices[:, 0].mean() > 0.05


def test_mean_images_are_those_of_the_classes_and_lie_where_jets_do() -> None:
    image = torch.zeros(4, 1, 8, 8)
    image[0, 0, 6, 4], image[1, 0, 6, 4], image[2, 0, 1, 1], image[3] = 1.0, 3.0, 5.0, torch.nan
    given = Pictures(image, torch.tensor([0.0, 0.4, 0.1, 1.0]), 0.8, ("pt",))
    weight = torch.tensor([3.0, 1.0, 2.0, 1.0])
    one = images.means(given, torch.tensor([0, 0, 1, -1]), weight, ["qcd", "top", "none"])
    assert one.numbers() == {"qcd": {"outside": pytest.approx(0.1), "jets": 2},
                             "top": {"outside": pytest.approx(0.1), "jets": 1}}  # fmt: skip
    assert one.classes["qcd"].image_CNN[0, 6, 4] == 1.5 and one.classes["qcd"].image_CNN.sum() == 1.5
    figure = images.drawn({"run": one})
    figure.draw_without_rendering()
    shown = figure.axes[0].images[0]
    row, column = np.unravel_index(np.argmax(shown.get_array()), (8, 8))
    # To the right of the axis in pseudorapidity, just above it in azimuth.
    assert (row, column) == (4, 6) and shown.origin == "lower" and shown.get_extent() == [-0.8, 0.8, -0.8, 0.8]
    assert figure.axes[0].get_title() == "run: qcd\n10 % outside"
