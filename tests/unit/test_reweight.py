"""Weights that balance classes: equal sums, equal spectra, nothing lost in silence."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jetscale import cli
from jetscale.config import Values, dump_yaml
from jetscale.data.chunks import needed
from jetscale.data.fit import TrainingPart, fit_stream
from jetscale.derive import Fitted
from jetscale.errors import ConfigError, DataError
from jetscale.events import Events
from jetscale.kinds import derived
from jetscale.labels import code
from jetscale.reweight import Balanced
from jetscale.run import Run, resolve
from jetscale.systems.pfn import PFN
from jetscale.train.launch import prepare

QCD, TOP, W = (code(name) for name in ("qcd", "top", "w"))
PT, MASS = [400.0, 500.0, 600.0, 800.0], [0.0, 80.0, 160.0]
BINS = {"jet_pt": PT, "jet_mass": MASS}


def balanced(table: pa.Table, weight_B: np.ndarray | None = None, **settings: Any) -> Balanced:
    how = derived({"by": "Balanced", **settings}, "test")
    assert isinstance(how, Balanced)
    return how.but(fitted=how.fit(how.tally(table, np.ones(table.num_rows) if weight_B is None else weight_B)))


def made(how: Fitted, table: pa.Table) -> np.ndarray:
    return np.asarray(how.make(table, torch.zeros(table.num_rows, dtype=torch.int64)))


def jets(n: int = 4000, seed: int = 1) -> pa.Table:
    """Four times as much QCD as tops, of other spectra; some lie above the bins, some have no label."""
    dice = np.random.default_rng(seed)
    label = dice.choice([QCD, QCD, QCD, QCD, TOP, -1], n).astype(np.int8)
    pt = 400.0 + dice.exponential(np.where(label == TOP, 180.0, 90.0))
    mass = np.where(label == TOP, dice.uniform(20, 160, n), 160 * dice.beta(1, 3, n))
    return pa.table({"jet_label": label, "jet_pt": pt.astype(np.float32), "jet_mass": mass.astype(np.float32)})


def contents(table: pa.Table, weight_B: np.ndarray, label: int) -> np.ndarray:
    of = table["jet_label"].to_numpy() == label
    return np.histogram2d(table["jet_pt"].to_numpy()[of], table["jet_mass"].to_numpy()[of], (PT, MASS),
                          weights=weight_B[of])[0]  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from([QCD, TOP, W]), st.floats(0.01, 50)), min_size=1, max_size=40))
def test_classes_have_equal_sums_and_the_mean_weight_is_1(rows: list[tuple[int, float]]) -> None:
    label, weight = (np.array(one) for one in zip(*rows, strict=True))
    table = pa.table({"jet_label": label.astype(np.int8)})
    weights = made(balanced(table, weight), table) * weight
    sums = [weights[label == one].sum() for one in np.unique(label)]
    assert sums == pytest.approx([weight.sum() / len(sums)] * len(sums))


def test_labels_may_share_a_class_and_classes_have_factors() -> None:
    table = pa.table({"jet_label": np.array([QCD] * 6 + [TOP] * 3 + [W] + [-1], dtype=np.int8)})
    how = balanced(table, classes={"one": ["qcd"], "more": ["top", W]}, factors={"more": 3})
    weights = made(how, table)
    assert weights[:6] == pytest.approx(2.5 / 6) and weights[6:10] == pytest.approx(7.5 / 4)
    assert weights[10] == 1.0  # of no class
    assert how.notes() == ["one: 6 rows are worth 6 of equal weight", "more: 4 rows are worth 4 of equal weight"]
    of_regions = pa.table({"region": [0, 0, 0, 7]})
    assert made(balanced(of_regions, of="region", classes={"a": [0], "b": [7]}), of_regions)[3] == pytest.approx(2.0)


def test_a_label_that_no_training_row_has_counts_for_nothing() -> None:
    table = pa.table({"jet_label": np.array([QCD, TOP], dtype=np.int8)})
    later = pa.table({"jet_label": np.array([W, TOP], dtype=np.int8)})
    assert made(balanced(table), later).tolist() == [0.0, 1.0]


def test_spectra_are_flat_in_every_class() -> None:
    table, weight = jets(), np.random.default_rng(5).uniform(0.5, 2.0, 4000)
    weights = made(balanced(table, weight, bins=BINS, most=1e6), table) * weight
    found = [contents(table, weights, label) for label in (QCD, TOP)]
    for one in found:
        assert one == pytest.approx(np.full((3, 2), found[0].mean()))
    outside = table["jet_pt"].to_numpy() >= PT[-1]
    known = table["jet_label"].to_numpy() >= 0
    assert outside.any() and (weights[outside & known] == 0).all()
    assert weights[known & ~outside].sum() == pytest.approx(weight[known & ~outside].sum())


def test_spectra_are_those_of_one_class() -> None:
    table = jets()
    weights = made(balanced(table, bins=BINS, shape="top", most=1e6), table)
    before = contents(table, np.ones(4000), TOP)
    for label in (QCD, TOP):
        after = contents(table, weights, label)
        assert after / after.sum() == pytest.approx(before / before.sum())
    assert contents(table, weights, QCD).sum() == pytest.approx(contents(table, weights, TOP).sum())


def test_rare_bins_are_cut_and_classes_equal_all_the_same() -> None:
    label = np.array([QCD] * 100 + [TOP] * 10, dtype=np.int8)
    table = pa.table({"jet_label": label, "jet_pt": np.array([450.0] * 99 + [550.0] + [450.0] * 5 + [550.0] * 5)})
    how = balanced(table, bins={"jet_pt": PT}, most=2)
    weights = made(how, table)
    assert weights[99] / weights[:100].mean() == pytest.approx(2)
    assert weights[:100].sum() == pytest.approx(55) and weights[100:] == pytest.approx(5.5)
    assert how.fitted["cut"] == (1.0, 0.0)
    worth = weights[:100].sum() ** 2 / (weights[:100] ** 2).sum()
    of_qcd, of_top = how.notes()
    assert of_qcd == f"qcd: 1 of 3 bins empty, 1 cut at 2, 0.0% lost; 100 rows are worth {worth:.0f} of equal weight"
    assert of_top == "top: 1 of 3 bins empty, 0 cut at 2, 0.0% lost; 10 rows are worth 10 of equal weight"


@pytest.mark.parametrize(("most", "shape"), [(20.0, "flat"), (2.0, "flat"), (1.0, "flat"), (3.0, "top")])
def test_no_weight_is_above_the_most_of_its_class_however_steep_the_spectrum(most: float, shape: str) -> None:
    of_bin = {QCD: (1e5 * 0.5 ** np.arange(20.0)).astype(int).clip(1), TOP: np.full(20, 30)}
    label = np.repeat([QCD, TOP], [counts.sum() for counts in of_bin.values()]).astype(np.int8)
    pt = np.concatenate([np.repeat(500.5 + np.arange(20.0), counts) for counts in of_bin.values()])
    table = pa.table({"jet_label": label, "jet_pt": pt})
    how = balanced(table, bins={"jet_pt": [*np.arange(500.0, 521.0)]}, most=most, shape=shape)
    weight_B = made(how, table)[label == QCD]
    assert weight_B.max() / weight_B.mean() == pytest.approx(most)
    held = np.bincount((pt[label == QCD] - 500).astype(int), weight_B)
    uncut = weight_B.max() - [weight_B[pt[label == QCD] == 500.5 + bin][0] for bin in range(20)] > 1e-9
    assert held[uncut] == pytest.approx(held[uncut].mean() if uncut.any() else 0.0)
    # With most = 1 a single bin is not cut, and its weight is as high.
    assert how.fitted["cut"][0] == (19 if most == 1 else 20 - uncut.sum())


def test_empty_bins_and_lost_rows_are_counted() -> None:
    label = np.array([QCD] * 4 + [TOP] * 4, dtype=np.int8)
    pt = np.array([450.0, 450.0, 550.0, 900.0, 450.0, 450.0, 700.0, 700.0])
    table = pa.table({"jet_label": label, "jet_pt": pt})
    like_qcd = balanced(table, bins={"jet_pt": PT}, shape="qcd")
    assert like_qcd.fitted["empty"] == (0.0, 1.0)  # QCD has jets at 500 to 600 GeV, tops have none
    assert like_qcd.fitted["lost"] == pytest.approx((0.25, 0.5))
    assert made(like_qcd, table)[[3, 6, 7]].tolist() == [0.0, 0.0, 0.0]
    at_the_edge = balanced(table, bins={"jet_pt": PT}, outside="edge")
    assert at_the_edge.fitted["lost"] == (0.0, 0.0) and made(at_the_edge, table)[3] == made(at_the_edge, table)[2]
    nowhere = pa.table({"jet_label": label[:1], "jet_pt": [np.nan]})
    assert made(at_the_edge, nowhere).tolist() == [0.0]


@given(st.integers(1, 3999))
def test_the_fit_does_not_depend_on_how_rows_are_cut(cut: int) -> None:
    table = jets()
    how = derived({"by": "Balanced", "bins": BINS}, "test")
    assert isinstance(how, Balanced)
    parts = [how.tally(part, np.ones(part.num_rows)) for part in (table.slice(0, cut), table.slice(cut))]
    whole = how.fit(how.tally(table, np.ones(4000)))
    for key, numbers in how.fit(parts[0].plus(parts[1])).items():
        assert numbers == pytest.approx(whole[key])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"of": "region"}, r"stream.derive.w: give classes: \{NAME: \[NUMBER"),
        ({"of": "region", "classes": {"a": ["qcd"]}}, r"'qcd' is a label, and 'region' holds numbers"),
        ({"classes": {"a": ["topp"]}}, r"no label 'topp'; did you mean 'top'"),
        ({"classes": {"a": []}}, r"classes.a holds nothing"),
        ({"classes": {"a": ["top"], "b": ["qcd", "top"]}}, r"7 is in the classes 'a' and 'b'"),
        ({"bins": {"jet_pt": [3, 2]}}, r"bins.jet_pt do not rise"),
        ({"bins": {"jet_pt": [3]}}, r"bins.jet_pt needs two edges"),
        ({"factors": {"topp": 2}}, r"factors: no class 'topp'; did you mean 'top'"),
        ({"factors": {"top": 0}}, r"each must be above 0"),
        ({"shape": "topp", "bins": {"jet_pt": [1, 2]}}, r"shape: no class 'topp'"),
        ({"shape": "top"}, r"says nothing without bins"),
        ({"most": 0.5}, r"stream.derive.w.most = 0.5"),
    ],
)
def test_settings_that_cannot_be_are_named(settings: Values, said: str) -> None:
    stream = {"samples": {"a": {"events": "a"}}, "derive": {"w": {"by": "Balanced", **settings}}, "reweight": "w"}
    with pytest.raises(ConfigError, match=said):
        resolve([("job", {"system": "pfn", "stream": stream})], "job")


@pytest.mark.parametrize(
    ("settings", "weight", "said"),
    [
        ({"classes": {"a": ["qcd"], "b": ["w"]}}, 1.0, r"class 'b' has no training row with a weight"),
        ({"factors": {"w": 2.0}}, 1.0, r"class 'w' has no training row with a weight"),
        (
            {"bins": {"jet_pt": [5000, 6000]}, "factors": {"top": 2}},
            1.0,
            r"class 'top' has no .* in the bins",
        ),
        ({"bins": {"jet_pt": [5000, 6000]}}, 1.0, r"no training row is of any class"),
        ({}, -1.0, r"bin 0 of class 'qcd' sum to -(.|\n)*negative_weights"),
    ],
)
def test_what_cannot_be_balanced_is_refused(settings: Values, weight: float, said: str) -> None:
    with pytest.raises(DataError, match=said):
        balanced(jets(), np.full(4000, weight), **settings)


def test_a_class_where_the_other_has_none_is_refused() -> None:
    table = pa.table({"jet_label": np.array([QCD, TOP], dtype=np.int8), "jet_pt": [450.0, 700.0]})
    with pytest.raises(DataError, match=r"class 'qcd' has no training row where 'top' has any(.|\n)*widen the bins"):
        balanced(table, bins={"jet_pt": PT}, shape="top")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    Events.write(PFN(classes={"qcd": ("qcd",), "top": ("top",)}).toy(500, 1), folder / "a", rows_per_shard=170)
    Events.write(PFN(classes={"qcd": ("qcd",), "w": ("w",)}).toy(300, 2), folder / "b", rows_per_shard=90)
    return folder


def job(folder: Path, **derive: Any) -> Values:
    paths = {name: {"events": str(folder / name), "share": share} for name, share in (("a", 0.2), ("b", 0.8))}
    return {"system": "pfn", "task": {"classes": {"qcd": ["qcd"], "top": ["top"], "w": ["w"]}},
            "stream": {"samples": paths, "reweight": "w",
                       "derive": {"ht": {"by": "Sum", "of": "particle_pt"}, "w": {"by": "Balanced", **derive}}},
            "horizon": {"steps": 2}, "scale": {"launch": "here", "engine": "torch", "events_per_step": 24},
            "track": {"wandb": False}}  # fmt: skip


def fitted(run: Run) -> tuple[Run, dict[int, float]]:
    """The run with what it has fitted, and the sum of the training weights of every label."""
    opened = run.stream.open()
    counted = prepare(run, opened)
    run = fit_stream(run, opened, counted.chunks, counted.means)
    part = TrainingPart.of(run.stream, opened, needed(run.task.columns), counted.chunks, counted.means, run.seed)
    sums = dict.fromkeys((QCD, TOP, W), 0.0)
    for table, weight_B in map(part.read, part.items()):
        for label in sums:
            sums[label] += float(weight_B[table["jet_label"].to_numpy() == label].sum())
    return run, sums


def test_classes_are_balanced_in_the_mixture_that_is_trained_on(samples: Path) -> None:
    run = resolve([("job", job(samples))], "job").run
    _, sums = fitted(run)
    assert sums[QCD] == pytest.approx(sums[TOP]) and sums[QCD] == pytest.approx(sums[W])
    plain = run.model_copy(update={"stream": run.stream.model_copy(update={"reweight": None})})
    assert fitted(plain)[1][W] > 2 * fitted(plain)[1][TOP]


def test_a_training_says_what_its_weights_are_worth(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(dump_yaml({"train": job(samples, bins={"ht": [0.0, 1.0, 1e5]})}))
    assert cli.main(["train", str(file), "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "stream.derive.w: top: 1 of 2 bins empty, 0 cut at 20, 0.0% lost; " in said
