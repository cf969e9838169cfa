"""The report on small made-up events: two decays into three massless quarks each, and a falling background."""

import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from jetscale.errors import DataError
from jetscale.evaluate import compare, results
from jetscale.evaluate.compare import LABELS
from jetscale.evaluate.figures import masses, picture, styled
from jetscale.evaluate.logs import curves
from jetscale.evaluate.report import Scored, report
from jetscale.evaluate.results import Results
from jetscale.events import Events, Manifest, write_manifest, write_shard
from jetscale.schema import JET_EVENTS, Column

OUTPUTS = (
    Column(name="jet_assigned", of="jet", dtype="int8", unit="", doc="group"),
    Column(name="reco_mass_1", dtype="float32", unit="GeV", doc="mass of group 1"),
    Column(name="reco_mass_2", dtype="float32", unit="GeV", doc="mass of group 2"),
    Column(name="reco_mass", dtype="float32", unit="GeV", doc="mean mass"),
    Column(name="reco_asymmetry", dtype="float32", unit="", doc="asymmetry"),
    Column(name="split", dtype="int8", unit="", doc="part"),
)
SCHEMA = JET_EVENTS.plus(*OUTPUTS)


def boosted(p4: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Four-vectors (B, N, 4) moved by velocities (B, 3)."""
    square = (beta**2).sum(-1)
    gamma = 1 / np.sqrt(1 - square)
    along = (p4[..., 1:] * beta[:, None]).sum(-1)
    factor = ((gamma - 1) / square)[:, None] * along + gamma[:, None] * p4[..., 0]
    return np.concatenate(
        ((gamma[:, None] * (p4[..., 0] + along))[..., None], p4[..., 1:] + factor[..., None] * beta[:, None]), -1
    )


def decays(dice: np.random.Generator, n: int, mass: float, bodies: int = 3) -> np.ndarray:
    """Flat phase space of massless quarks (B, bodies, 4) at rest (Kleiss, Stirling, Ellis 1986)."""
    energy = -np.log(dice.random((n, bodies)) * dice.random((n, bodies)))
    cosine, phi = dice.uniform(-1, 1, (n, bodies)), dice.uniform(-np.pi, np.pi, (n, bodies))
    sine = np.sqrt(1 - cosine**2)
    loose = energy[..., None] * np.stack((np.ones_like(phi), sine * np.cos(phi), sine * np.sin(phi), cosine), -1)
    total = loose.sum(1)
    own = np.sqrt(total[:, 0] ** 2 - (total[:, 1:] ** 2).sum(-1))
    return boosted(loose, -total[:, 1:] / total[:, :1]) * (mass / own)[:, None, None]


def jets(p4: np.ndarray, label: np.ndarray) -> dict[str, np.ndarray]:
    """Columns (B, J) of massless jets in falling pt; those below 20 GeV stay, so that all events are equally long."""
    pt = np.hypot(p4[..., 1], p4[..., 2])
    order = np.argsort(-pt, axis=1)
    p4, label = np.take_along_axis(p4, order[..., None], 1), np.take_along_axis(label, order, 1)
    pt = np.maximum(np.take_along_axis(pt, order, 1), 1e-3)
    eta = np.clip(np.arcsinh(p4[..., 3] / pt), -2.8, 2.8)
    return {"jet_pt": pt, "jet_eta": eta, "jet_phi": np.arctan2(p4[..., 2], p4[..., 1]), "jet_mass": 0 * pt + 5,
            "jet_parent_ancestry": label}  # fmt: skip


def soft(dice: np.random.Generator, n: int, number: int) -> np.ndarray:
    pt, eta = 30 + dice.exponential(40, (n, number)), dice.uniform(-2.5, 2.5, (n, number))
    phi = dice.uniform(-np.pi, np.pi, (n, number))
    return np.stack((pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)), -1)


def signal(seed: int, n: int, mass: float) -> dict[str, np.ndarray]:
    dice = np.random.default_rng(seed)
    direction = dice.normal(size=(n, 3)) * (1, 1, 0.6)
    beta = direction / np.linalg.norm(direction, axis=1)[:, None] * dice.uniform(0.1, 0.7, n)[:, None]
    pair = [boosted(decays(dice, n, mass), beta), boosted(decays(dice, n, mass), -beta)]
    smeared = np.concatenate(pair, 1) * dice.normal(1, 0.05, (n, 6, 1))
    p4 = np.concatenate((smeared, soft(dice, n, 2)), 1)
    return jets(p4, np.tile([1, 1, 1, 2, 2, 2, 0, 0], (n, 1)))


def background(seed: int, n: int) -> dict[str, np.ndarray]:
    dice = np.random.default_rng(seed)
    scale = 300 + dice.exponential(250, (n, 1, 1))
    beta = dice.normal(size=(n, 3)) * (0.2, 0.2, 0.3)
    beta /= np.maximum(1, 1.3 * np.linalg.norm(beta, axis=1))[:, None]
    hard = boosted(decays(dice, n, 3.0, bodies=6) * scale, beta)
    label = np.tile([1, 1, 1, 2, 2, 2, 0, 0], (n, 1))
    return jets(np.concatenate((hard, soft(dice, n, 2)), 1), label)


def wire(events: dict[str, np.ndarray], seed: int, wrong: float) -> np.ndarray:
    """Groups of a made-up network: the truth, with two jets swapped in a share of the events."""
    dice = np.random.default_rng(seed)
    assigned = events["jet_parent_ancestry"].copy()
    for row in np.flatnonzero(dice.random(len(assigned)) < wrong):
        one, two = dice.choice(assigned.shape[1], 2, replace=False)
        assigned[row, [one, two]] = assigned[row, [two, one]]
    return assigned


def scored(directory: Path, name: str, events: dict[str, np.ndarray], true_mass: float, *,
           wrong: float = 0.4, mode: int = 3, split: int | None = None, known: Sequence[str] = LABELS,
           seed: int = 0) -> Events:  # fmt: skip
    """A scored sample on disk, a quarter of it training rows."""
    n, assigned = len(events["jet_pt"]), wire(events, seed, wrong)
    mass = group_masses(events, assigned)
    columns = {
        "event_id": np.arange(n) * 7 + 11,
        "weight": np.random.default_rng(3).exponential(1, n),
        "true_mass": np.full(n, true_mass),
        "decay_mode": np.full(n, mode),
        **events,
        "jet_parent_quark": events["jet_parent_ancestry"],
        "jet_assigned": assigned,
        "reco_mass_1": mass[0],
        "reco_mass_2": mass[1],
        "reco_mass": mass.mean(0),
        "reco_asymmetry": abs(mass[0] - mass[1]) / np.maximum(mass.sum(0), 1),
        "split": np.where(np.arange(n) % 4 == 0, 0, 2) if split is None else np.full(n, split),
    }
    for label in LABELS:
        if label not in known:
            columns[label] = np.full_like(assigned, -1)
    table = pa.table({column.name: arrow(columns[column.name], column) for column in SCHEMA.each()})
    shard = write_shard(table, directory / "shard-00000.parquet", SCHEMA)
    write_manifest(Manifest(name=name, columns=SCHEMA.columns, shards=(shard,)), directory)
    return Events.open(directory)


def arrow(values: np.ndarray, column: Column) -> pa.Array:
    number = column.arrow.value_type if column.of else column.arrow
    flat = pa.array(values.reshape(-1)).cast(number, safe=False)
    if not column.of:
        return flat
    return pa.ListArray.from_arrays(pa.array(np.arange(len(values) + 1) * values.shape[1], pa.int32()), flat)


def group_masses(events: dict[str, np.ndarray], assigned: np.ndarray) -> np.ndarray:
    pt, eta, phi = events["jet_pt"], events["jet_eta"], events["jet_phi"]
    energy = np.sqrt((pt * np.cosh(eta)) ** 2 + events["jet_mass"] ** 2)
    p4 = np.stack((energy, pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)), -1)
    sums = [(p4 * (assigned == group)[..., None]).sum(1) for group in (1, 2)]
    return np.array([np.sqrt(np.maximum(one[:, 0] ** 2 - (one[:, 1:] ** 2).sum(-1), 0)) for one in sums])


def library(directory: Path, run: str = "net", wrong: float = 0.4, n: int = 240) -> list[Scored]:
    made = [
        scored(directory / run / "a", "gluino_1000", signal(1, n, 1000.0), 1000.0, wrong=wrong, seed=5),
        scored(directory / run / "b", "gluino_1500", signal(2, n, 1500.0), 1500.0, wrong=wrong, seed=6),
        scored(directory / run / "q", "qcd", background(3, n), 0.0, mode=0, wrong=wrong, seed=7),
    ]
    return [Scored(run, events) for events in made]


def compared(samples: list[Scored]) -> Results:
    return results.compare(compare.samples(samples), list(dict.fromkeys(one.run_name for one in samples)))


def log(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "data.json").write_text(json.dumps({"run": "0123456789ab"}))
    lines: list[dict] = [{"kind": "start", "steps": 50, "run": "what a torn log says"}]
    lines += [
        {"kind": "step", "step": step, "loss": {"label": 2 / (1 + step), "mass": 1.0}} for step in range(0, 50, 5)
    ]
    lines += [{"kind": "validation", "step": 49, "metrics": {"f10": 0.4, "loss_label": 0.1}}, {"kind": "end"}]
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"kind": "st')
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    room = tmp_path_factory.mktemp("report")
    samples = [one._replace(run_dir=room / "run") for one in library(room)]
    log(room / "run")
    return report(samples, room / "out", command="jetscale report net --secret", wall={"train": 61.25}).parent


def numbers(out: Path) -> dict:
    return json.loads((out / "results.json").read_text())


def test_the_same_rows_give_the_same_bytes(made, tmp_path):
    again = compared(library(tmp_path))
    assert results.to_json(again) == (made / "results.json").read_text()
    with styled():
        picture("mass", "", "", masses(again, again.of_kind("signal")), tmp_path)
    for kind in ("png", "pdf"):
        assert (tmp_path / f"mass.{kind}").read_bytes() == (made / "figures" / f"mass.{kind}").read_bytes()


def test_results_hold_every_figure_for_every_method_and_no_times_or_paths(made):
    text = (made / "results.json").read_text()
    assert str(made) not in text and "61.25" not in text and "secret" not in text and "/" not in text
    found = numbers(made)
    methods = found["samples"]["gluino_1000"]["methods"]
    assert set(methods) == {"net", "asymmetry_6", "random_grouping", "true_labels"}
    assert set(methods["net"]) == {"f10", "width", "half_width", "median", "peak_fraction", "jet_accuracy",
                                   "event_accuracy", "mass_auc", "relative_signal_position"}  # fmt: skip
    for figure in methods["net"].values():
        assert set(figure) == {"value", "error"} and figure["error"] > 0
    assert set(found["background"]["methods"]["net"]) == {"background_median"}
    assert json.dumps(found, indent=1, sort_keys=True) + "\n" == text


def test_held_out_rows_only(made):
    sample = numbers(made)["samples"]["gluino_1000"]
    assert (sample["n"], sample["left_out"]) == (180, 60)
    assert 60 < sample["n_eff"] < 180
    assert "180 others were left out" in (made / "index.html").read_text()


def test_a_made_up_network_is_as_good_as_it_was_made(made):
    methods = numbers(made)["mean"]["methods"]
    # two of eight jets swapped in 40 % of the events; a swap inside a group changes nothing
    assert methods["net"]["event_accuracy"]["value"] == pytest.approx(1 - 0.4 * 21 / 28, abs=0.06)
    assert methods["true_labels"]["f10"]["value"] > methods["net"]["f10"]["value"]
    assert methods["net"]["f10"]["value"] > methods["random_grouping"]["f10"]["value"] + 0.2


def test_training_rows_alone_are_no_report(tmp_path):
    only = scored(tmp_path / "s", "s", signal(1, 20, 1000.0), 1000.0, split=0)
    with pytest.raises(DataError, match="held-out"):
        compared([Scored("net", only)])


@pytest.mark.parametrize(("wrong", "word"), [(0.02, "is sharper than"), (1.0, "is less sharp than")])
def test_the_verdict_is_honest(tmp_path, wrong, word):
    events = scored(tmp_path / "s", "s", signal(1, 300, 1000.0), 1000.0, wrong=wrong)
    if wrong == 1.0:
        events = without_masses(events, tmp_path / "worse")
    found = compared([Scored("net", events)])
    assert word in results.verdict(found, "net")
    assert "sculpting is not judged" in results.verdict(found, "net")


def test_a_mean_that_one_signal_makes_is_taken_apart(tmp_path):
    good = scored(tmp_path / "good", "good", signal(1, 300, 1000.0), 1000.0, wrong=0.02)
    bad = without_masses(scored(tmp_path / "s", "bad", signal(2, 300, 1400.0), 1400.0), tmp_path / "bad")
    found = compared([Scored("net", good), Scored("net", bad)])
    assert "one by one: sharper in 1, less sharp in 1, undecided in 0" in results.verdict(found, "net")
    assert "one by one" not in results.verdict(compared([Scored("net", good)]), "net")


def test_a_run_is_compared_with_the_best_of_the_classical_methods(tmp_path):
    made = library(tmp_path, n=120)
    found = results.compare(compare.samples(made, ("hemispheres", "asymmetry_6")), ["net"])
    assert found.methods == ["net", "hemispheres", "asymmetry_6", "random_grouping", "true_labels"]
    f10 = {method: figures["f10"] for method, figures in found.mean.values.items()}
    assert f10["hemispheres"] < f10["asymmetry_6"] - 0.2
    said = results.verdict(found, "net")
    assert "the best of 2 classical methods (minimum mass asymmetry)" in said
    assert f"against {100 * f10['asymmetry_6']:.1f} %" in said
    alone = results.compare(compare.samples(made, ("hemispheres",)), ["net"])
    assert "sharper than the hemispheres" in results.verdict(alone, "net")


def test_a_run_may_not_be_called_like_a_method_beside_it(tmp_path):
    made = [one._replace(run_name="hemispheres") for one in library(tmp_path, n=12)]
    assert compare.samples(made)
    with pytest.raises(DataError, match="two sets of scores are called 'hemispheres'"):
        compare.samples(made, ("hemispheres",))


def without_masses(events: Events, directory: Path) -> Events:
    """The same scores with every reconstructed mass far off."""
    table = events.read()
    place = table.column_names.index("reco_mass")
    table = table.set_column(place, table.schema.field(place), pa.array(np.full(len(events), 100.0), pa.float32()))
    shard = write_shard(table, directory / "shard-00000.parquet", SCHEMA)
    write_manifest(Manifest(name=events.name, columns=SCHEMA.columns, shards=(shard,)), directory)
    return Events.open(directory)


def test_a_difference_within_its_error_is_called_undecided():
    assert results._word(results.Estimate(0.019, 0.01), "more", "less", "undecided") == "undecided"
    assert results._word(results.Estimate(0.021, 0.01), "more", "less", "undecided") == "more"
    assert results._word(results.Estimate(-0.021, 0.01), "more", "less", "undecided") == "less"
    assert results._word(results.Estimate(float("nan"), float("nan")), "more", "less", "undecided") == "undecided"


def test_events_without_truth_have_a_spectrum_and_no_more(tmp_path):
    data = scored(tmp_path / "d", "data", signal(1, 40, 900.0), -1.0, mode=-1, known=(), split=3)
    out = report([Scored("net", data)], tmp_path / "out", command="", wall={}).parent
    assert (out / "figures" / "mass-data.png").is_file()
    assert sorted(path.stem for path in (out / "figures").glob("*.png")) == ["mass-data"]
    assert "methods" not in numbers(out)["samples"]["data"]
    assert "nothing to compare" in (out / "index.html").read_text()


def test_where_only_matched_quarks_are_known_they_are_the_truth(tmp_path):
    whole = scored(tmp_path / "w", "s", signal(1, 60, 1000.0), 1000.0)
    matched = scored(tmp_path / "m", "s", signal(1, 60, 1000.0), 1000.0, known=("jet_parent_quark",))
    first, second = (json.loads(results.to_json(compared([Scored("net", one)]))) for one in (whole, matched))
    assert second["samples"] == first["samples"] and "true_labels" in second["samples"]["s"]["methods"]


def test_background_alone_and_background_without_labels(tmp_path):
    qcd = scored(tmp_path / "q", "qcd", background(3, 60), 0.0, mode=0, known=())
    alone = json.loads(results.to_json(compared([Scored("net", qcd)])))
    assert set(alone["background"]["methods"]) == {"net", "asymmetry_6", "random_grouping"}
    both = [Scored("net", qcd), Scored("net", scored(tmp_path / "s", "s", signal(1, 60, 1000.0), 1000.0))]
    methods = json.loads(results.to_json(compared(both)))["samples"]["s"]["methods"]
    assert "mass_auc" in methods["net"] and "mass_auc" not in methods["true_labels"]
    assert methods["true_labels"]["f10"]["value"] > 0.5


def test_one_directory_may_hold_several_masses_and_background(tmp_path):
    parts = [scored(tmp_path / f"{mass:g}", "all", signal(1, 40, mass), mass).read() for mass in (800.0, 1200.0)]
    parts.append(scored(tmp_path / "q", "all", background(2, 40), 0.0, mode=0).read())
    table = pa.concat_tables(parts)
    table = table.set_column(0, table.schema.field(0), pa.array(np.arange(120)))
    shard = write_shard(table, tmp_path / "all" / "shard-00000.parquet", SCHEMA)
    write_manifest(Manifest(name="all", columns=SCHEMA.columns, shards=(shard,)), tmp_path / "all")
    found = compare.samples([Scored("net", Events.open(tmp_path / "all"))])
    assert [(one.name, one.kind) for one in found] == [
        ("all, 800 GeV", "signal"), ("all, 1200 GeV", "signal"), ("all, background", "background")]  # fmt: skip


def test_two_runs_are_compared_on_the_events_that_neither_has_seen(tmp_path):
    one, two = library(tmp_path, "one", n=60), library(tmp_path, "two", wrong=0.9, n=60)
    found = json.loads(results.to_json(compared([*one, *two])))
    assert set(found["verdict"]) == {"one", "two"}
    assert found["mean"]["differences"]["one"]["two"]["event_accuracy"]["value"] > 0
    with pytest.raises(DataError, match="has not scored"):
        compared([*one, *two[1:]])


def test_events_with_few_jets_or_none(tmp_path):
    events = signal(1, 12, 1000.0)
    few = scored(tmp_path / "s", "s", events, 1000.0)
    table = few.read()
    ragged = {
        column.name: pa.array([list(jets)[: row % 9] for row, jets in enumerate(table[column.name].to_pylist())],
                              column.arrow) if column.of else table[column.name]
        for column in SCHEMA.each()
    }  # fmt: skip
    shard = write_shard(pa.table(ragged), tmp_path / "few" / "shard-00000.parquet", SCHEMA)
    write_manifest(Manifest(name="few", columns=SCHEMA.columns, shards=(shard,)), tmp_path / "few")
    found = compared([Scored("net", Events.open(tmp_path / "few"))])
    assert json.loads(results.to_json(found))["samples"]["few"]["n"] == 9


class References(HTMLParser):
    """Every address that a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.found += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "data"}]


def test_the_page_stands_alone(made):
    text = (made / "index.html").read_text()
    page = References()
    page.feed(text)
    assert len(page.found) >= 7
    assert all(address.startswith("data:image/png;base64,") for address in page.found)
    assert not page.tags & {"script", "link", "iframe"}
    assert not re.search(r"url\(|@import|https?://", text)
    assert "jetscale report net --secret" in text and "0123456789ab" in text and "61.2 s" in text


def test_every_figure_is_there_as_png_and_pdf(made):
    expected = {"mass", "peak", "background", "roc", "learning", "display-right", "display-wrong", "display-background"}
    for kind in ("png", "pdf"):
        assert {path.stem for path in (made / "figures").glob(f"*.{kind}")} == expected


def test_a_torn_log_still_has_its_curves(tmp_path):
    found = curves(log(tmp_path / "run"))
    assert found.terms["label"][0].tolist() == list(range(0, 50, 5))
    assert found.figures["f10"][1].tolist() == [0.4]
    assert found.validation_terms["label"][1].tolist() == [0.1]
    assert curves(None) == ({}, {}, {})
