"""The enumerator: scores, losses and the draw of candidates by plain evaluations, its symmetries, odd events."""

from dataclasses import replace
from itertools import combinations
from math import exp, log
from pathlib import Path

import awkward as ak
import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from jetscale.data.batch import batch
from jetscale.evaluate import onnx as graphs
from jetscale.own import complete
from jetscale.physics.assignments import IMPOSSIBLE
from jetscale.physics.candidates import candidates
from jetscale.physics.groupings import reconstruct
from jetscale.physics.kinematics import mass
from jetscale.run import resolve
from jetscale.systems.enumerator import Enumerator, Scored, features
from jetscale.task import At, Batch

READOUTS = ("argmax", "map", "mbr")
SMALL = Enumerator(width=16, layers=1, heads=2, jets=7, leading=5, most_none=2, sampled=30)


def _batch(table: pa.Table, task: Enumerator = SMALL, step: int = 0, rows: slice = slice(None)) -> Batch:
    row_B = np.arange(table.num_rows)[rows]
    return batch([table.take(row_B)], task.columns, np.ones(len(row_B)), row_B % 3, row_B, At(step, 0, 0.0), seed=1)


def _lively(task: Enumerator, seed: int = 1) -> nn.Module:
    """A network whose weights are large enough for every part of it to matter."""
    net = task.build(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(2.0)
    return net.eval()


def _odd_events() -> pa.Table:
    """No jet to five jets, and fourteen; signal, background and unknown; labels that are not known."""
    counts = [0, 1, 2, 3, 4, 5, 14, 0, 2, 9, 9]
    dice = np.random.default_rng(3)
    draw = {name: ak.unflatten(dice.uniform(low, high, sum(counts)), counts) for name, low, high in
            (("jet_pt", 30, 900), ("jet_eta", -2, 2), ("jet_phi", -3, 3), ("jet_mass", 1, 50))}  # fmt: skip
    labels = dice.integers(0, 3, sum(counts))
    labels[-9:] = -1
    return complete(ak.Array({**draw, "jet_parent_ancestry": ak.unflatten(labels, counts),
                              "jet_parent_quark": ak.unflatten(labels, counts),
                              "true_mass": np.array([900.0] * 7 + [0.0, 0.0, 0.0, 0.0]),
                              "decay_mode": np.array([3] * 7 + [0, 0, 0, 0])}), where="odd")  # fmt: skip


def _columns(b: Batch, **changed: Tensor) -> Batch:
    return replace(b, columns={**b.columns, **changed})


def _moved(b: Batch, order_BJ: Tensor) -> Batch:
    """The same events with the jets, and what is padded among them, in another order."""
    jets = {name: one.gather(1, order_BJ) for name, one in b.columns.items() if name.startswith("jet_")}
    return replace(_columns(b, **jets), masks={"jet": b.mask("jet").gather(1, order_BJ)})


def _shuffled(b: Batch) -> Tensor:
    return torch.rand(b.mask("jet").shape, generator=torch.Generator().manual_seed(2)).argsort(1)


def _alike(task: Enumerator, net: nn.Module, one: Batch, other: Batch) -> None:
    """Both give the same losses and, where rounding decides nothing, the same masses."""
    with torch.no_grad():
        for term, value_B in task.loss(net, one).items():
            assert torch.allclose(task.loss(net, other)[term], value_B, rtol=1e-4, atol=1e-5)
        some, others = task.score(net, one), task.score(net, other)
    same_B = (some["reco_mass"] - others["reco_mass"]).abs() < 1e-3 * some["reco_mass"].clamp_min(1.0)
    assert same_B.float().mean() >= 0.98
    assert torch.allclose(some["reco_confidence"], others["reco_confidence"], atol=1e-4)


def _scored(task: Enumerator, net: nn.Module, b: Batch) -> Scored:
    with torch.no_grad():
        return Scored(*net(*task._seen(b).inputs))


def test_scores_are_sums_over_jets_and_pairs_and_what_the_groups_weigh() -> None:
    net, b = _lively(SMALL).requires_grad_(False), _batch(SMALL.toy(12, 5))
    scored, seen = _scored(SMALL, net, b), SMALL._seen(b)
    x = net.stack(*[one.float() for one in _features(seen)], seen.mask_BJ)
    shift = net.pooled((x * seen.mask_BJ[..., None]).sum(1) / seen.mask_BJ.sum(1, keepdim=True))
    vectors, labels = seen.p4(), candidates(5, 2)
    for n in range(12):
        for c in range(1, len(labels), 7):
            label, real = labels[c].tolist(), seen.mask_BJ[n].tolist()
            wanted = sum(float(scored.none_BJ[n, j]) for j in range(5) if label[j] == 0)
            wanted += sum(
                float(scored.pair_BJJ[n, i, j]) for i, j in combinations(range(5), 2) if label[i] == label[j] > 0
            )
            wanted += float(_worth(net, vectors[n], labels[c], shift[n]))
            if any(label[j] and not real[j] for j in range(5)):
                assert scored.score_BC[n, c] < 0.9 * IMPOSSIBLE
            else:
                assert float(scored.score_BC[n, c]) == pytest.approx(wanted, rel=1e-3, abs=2e-3)


def _features(seen) -> tuple[Tensor, Tensor]:
    jets = (column.double() for column in (seen.pt_BJ, seen.phi_BJ, seen.mass_BJ))
    return features(*jets, seen.p4(), seen.mask_BJ, "ht")


def _worth(net: nn.Module, p4_J4: Tensor, label_J: Tensor, shift_H: Tensor) -> Tensor:
    """The MLP of a candidate's nine features, from these as they are written down."""
    groups = reconstruct(p4_J4[None, :5], label_J[None])
    one, two = (p4_J4[:5][label_J == group].sum(0) for group in (1, 2))
    m_1, m_2, a, whole = float(mass(one)), float(mass(two)), float(groups.asymmetry_B), float(mass(p4_J4.sum(0)))
    pt_1, pt_2, pt_12 = (float(torch.hypot(p[1], p[2])) for p in (one, two, one + two))
    cosine = float(one[1] * two[1] + one[2] * two[2]) / max(pt_1 * pt_2, 1.0)
    least = min(int((label_J == 1).sum()), int((label_J == 2).sum()))
    x = torch.tensor([4 * a, exp(-a / 0.05), 2 * (m_1 + m_2) / whole - 1, cosine, 4 * pt_12 / whole,
                      3 * (pt_1 + pt_2) / whole - 1, 4 * min(m_1, m_2) / whole - 1, least / 2 - 1.5,
                      int((label_J == 0).sum()) / 2])  # fmt: skip
    return net.weighed.out @ torch.relu(net.weighed.into @ x + net.weighed.into_bias + shift_H) + net.weighed.out_bias


@pytest.mark.parametrize("readout", READOUTS)
def test_neither_order_nor_padding_nor_names_change_anything(readout: str) -> None:
    task = SMALL.model_copy(update={"readout": readout})
    net, b = _lively(task), _batch(task.toy(100, 5))
    order_BJ = _shuffled(b)
    _alike(task, net, b, _moved(b, order_BJ))
    kept = order_BJ[:, None].eq(torch.arange(order_BJ.shape[1])[:, None]).float().argmax(-1)
    none = [task.score(net, one)["jet_none_probability"] for one in (b, _moved(b, order_BJ))]
    assert torch.allclose(none[1].gather(1, kept), none[0], atol=1e-4)
    wider = {name: nn.functional.pad(one, (0, 5)) for name, one in b.columns.items() if name.startswith("jet_")}
    _alike(task, net, b, replace(_columns(b, **wider), masks={"jet": nn.functional.pad(b.mask("jet"), (0, 5))}))
    labels = b["jet_parent_ancestry"]
    _alike(task, net, b, _columns(b, jet_parent_ancestry=torch.where(labels > 0, 3 - labels, labels)))


def test_space_has_no_directions_and_masses_no_scale() -> None:
    net, b = _lively(SMALL), _batch(SMALL.toy(100, 5))
    b = _columns(b, jet_mass=torch.zeros_like(b["jet_mass"]))
    _alike(SMALL, net, b, _columns(b, jet_phi=b["jet_phi"] + 1.0))
    _alike(SMALL, net, b, _columns(b, jet_phi=-b["jet_phi"]))
    _alike(SMALL, net, b, _columns(b, jet_eta=-b["jet_eta"]))
    moving = {"jet_eta": b["jet_eta"] + 0.4}  # of massless jets, a boost along the beam
    assert torch.allclose(
        _scored(SMALL, net, b).score_BC, _scored(SMALL, net, _columns(b, **moving)).score_BC, atol=5e-3
    )
    larger = _columns(b, jet_pt=3 * b["jet_pt"])
    for task, known in ((SMALL, False), (SMALL.model_copy(update={"inputs": "absolute"}), True)):
        net = _lively(task)
        change = (_scored(task, net, larger).score_BC - _scored(task, net, b).score_BC).abs().max()
        assert change > 0.1 if known else change < 1e-2


def test_what_the_network_sees_is_of_order_one() -> None:
    task = Enumerator()
    seen = task._seen(_batch(task.toy(500, 5), task))
    jets, pairs = _features(seen)
    assert jets[~seen.mask_BJ].abs().sum() == 0 and pairs.diagonal(dim1=1, dim2=2).abs().sum() == 0
    assert torch.allclose(pairs, pairs.transpose(1, 2))
    assert (jets[seen.mask_BJ].mean(0).abs() < 4.5).all() and (jets[seen.mask_BJ].std(0) < 3).all()
    assert (jets[..., 4].sum(1) == 1).all(), "one jet leads"
    assert (pairs.abs() < 10).all()


def _plain_losses(task: Enumerator, net: nn.Module, b: Batch) -> dict[str, list[float]]:
    scored, seen = _scored(task, net, b), task._seen(b)
    labels, found = candidates(task.leading, task.most_none), {"label": [], "mass": [], "trailing": []}
    for n in range(len(b)):
        truth = task._labels(b, seen)[n]
        p = scored.score_BC[n].double().softmax(0)
        first = truth[: task.leading]
        same = [
            c for c, one in enumerate(labels) if torch.equal(one, first) or torch.equal(one, (3 - first) * (first > 0))
        ]
        found["label"].append(-log(p[same[0]]) if same and same[0] else float("nan"))
        signal = b["true_mass"][n] > 0
        target = 0.95 * float(b["true_mass"][n]) if signal else float(reconstruct(seen.p4()[[n]], truth[None]).mass_B)
        masses = reconstruct(seen.p4()[[n], : task.leading].expand(len(labels), -1, -1), labels).mass_B
        u = (masses - target) / max(target, 300.0) / 0.1
        found["mass"].append(4 * float((p * u**2 / (1 + u**2)).sum()))
        entropies = []
        for k in range(task.leading, int(seen.mask_BJ[n].sum())):
            to = [sum(float(scored.pair_BJJ[n, i, k]) for i in range(task.leading) if first[i] == g) for g in (1, 2)]
            logits = torch.tensor([float(scored.none_BJ[n, k]), *to])
            entropies.append(-float(logits.log_softmax(0)[truth[k]]))
        found["trailing"].append(0.3 * sum(entropies) / max(len(entropies), 1))
    return found


def test_losses_are_what_a_plain_evaluation_gives() -> None:
    net, b = _lively(SMALL), _batch(SMALL.toy(40, 6))
    losses, weights, plain = SMALL.loss(net, b), SMALL.weights(b), _plain_losses(SMALL, net, b)
    for term, wanted in plain.items():
        counted = weights[term] > 0
        assert counted.sum() > 20
        assert losses[term][counted].tolist() == pytest.approx(
            list(np.array(wanted)[counted.numpy()]), rel=2e-3, abs=1e-3
        )
    assert np.isnan(np.array(plain["label"])[(weights["label"] == 0).numpy()]).all()


def test_a_draw_stands_for_all_candidates() -> None:
    """Over many steps the drawn sum is the whole sum; every step's is a probability; all of them drawn is no draw."""
    net, table = SMALL.build(1), SMALL.toy(12, 6)
    b = _batch(table)
    truth_B = SMALL._truth(SMALL._labels(b, SMALL._seen(b)))
    known = truth_B > 0
    net.eval()
    whole_B = _scored(SMALL, net, b).score_BC.exp().sum(1)
    own_B = _scored(SMALL, net, b).score_BC.gather(1, truth_B.clamp_min(0)[:, None]).squeeze(1)
    net.train()
    with torch.no_grad():
        steps = [SMALL.loss(net, _batch(table, step=step))["label"] for step in range(150)]
    drawn_SB = torch.stack([(own_B + value_B).exp() for value_B in steps])[:, known]
    error_B = drawn_SB.std(0) / 150**0.5
    assert ((drawn_SB.mean(0) - whole_B[known]).abs() < 5 * error_B + 1e-4 * whole_B[known]).all()
    assert (drawn_SB.std(0) > 0).all()
    every = SMALL.model_copy(update={"sampled": SMALL.count})
    net.eval()
    exact = SMALL.loss(net, b)
    net.train()
    assert all(every.loss(net, b)[term].equal(value_B) for term, value_B in exact.items())


def test_the_draw_is_that_of_the_step_on_every_worker() -> None:
    net, table = SMALL.build(1).train(), SMALL.toy(30, 6)
    with torch.no_grad():
        whole = SMALL.loss(net, _batch(table, step=4))
        parts = [SMALL.loss(net, _batch(table, step=4, rows=rows)) for rows in (slice(0, 13), slice(13, 30))]
        other = SMALL.loss(net, _batch(table, step=5))
    for term, value_B in whole.items():
        assert torch.allclose(torch.cat([part[term] for part in parts]), value_B, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(other["label"], whole["label"])


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("training", [True, False])
def test_odd_events_are_finite(readout: str, training: bool) -> None:
    task = Enumerator(width=16, layers=1, readout=readout, beam=2)
    net, odd = task.build(1).train(training), _batch(_odd_events(), task)
    terms, weights = task.loss(net, odd), task.weights(odd)
    for term, value_B in terms.items():
        assert value_B.shape == weights[term].shape == (11,) and torch.isfinite(value_B).all()
    sum((value_B * weights[term]).sum() for term, value_B in terms.items()).backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)
    scores = task.score(net.eval(), odd)
    assert set(scores) == set(task.outputs.names)
    assert all(torch.isfinite(column).all() for column in scores.values())
    assigned, none, mask = scores["jet_assigned"], scores["jet_none_probability"], odd.mask("jet")
    assert (assigned[~mask] == 0).all() and (none[~mask] == 1).all()
    assert (assigned[6, 12:] == 0).all(), "jets beyond the twelfth belong to none"
    if readout != "argmax":
        assert (scores["reco_mass"][[0, 1, 2, 7, 8]] == 0).all(), "of two jets or fewer there is no candidate"
        assert (scores["reco_mass"][[3, 4, 5, 6, 9, 10]] > 0).all()


def test_unknown_truth_and_too_few_jets_have_no_weight() -> None:
    weights = Enumerator().weights(_batch(_odd_events(), Enumerator()))
    assert weights["mass"].tolist() == [0, 0, 0, 1, 1, 1, 1, 0, 0, 1, 0], "too few jets; background without labels"
    assert weights["trailing"].tolist() == [0, 0, 0, 1, 1, 1, 1, 0, 0, 1, 0]
    assert not (weights["label"] > weights["trailing"]).any()
    nothing = _batch(_odd_events(), Enumerator())
    none = _columns(nothing, jet_parent_ancestry=torch.zeros_like(nothing["jet_parent_ancestry"]))
    assert Enumerator().weights(none)["label"].sum() == 0, "no jet of a parent: the truth is no candidate"


def test_jets_behind_follow_the_groups_and_none_is_a_share() -> None:
    task = SMALL.model_copy(update={"readout": "map"})
    net, b = _lively(task).requires_grad_(False), _batch(task.toy(40, 6))
    scored, scores, seen = _scored(task, net, b), task.score(net, b), task._seen(b)
    labels = candidates(5, 2)
    for n in range(40):
        best = labels[scored.score_BC[n].argmax()].tolist()
        for k in range(5, int(seen.mask_BJ[n].sum())):
            to = [sum(float(scored.pair_BJJ[n, i, k]) for i in range(5) if best[i] == group) for group in (1, 2)]
            assert scores["jet_assigned"][n, k] == np.argmax([float(scored.none_BJ[n, k]), *to])
        p = scored.score_BC[n].softmax(0)
        for j in range(int(seen.mask_BJ[n, :5].sum())):
            assert float(scores["jet_none_probability"][n, j]) == pytest.approx(
                float(p[labels[:, j] == 0].sum()), abs=1e-5
            )
        assert float(scores["reco_confidence"][n]) == pytest.approx(float(p.max()), rel=1e-5)


def test_terms_are_settings() -> None:
    net, b = SMALL.build(1).eval(), _batch(SMALL.toy(20, 1))
    twice = SMALL.model_copy(update={"terms": SMALL.terms.model_copy(update={"label": 2.0, "mass": 0.0})})
    assert set(twice.loss(net, b)) == set(twice.weights(b)) == {"label", "trailing"}
    assert torch.allclose(twice.loss(net, b)["label"], 2 * SMALL.loss(net, b)["label"])
    assert "trailing" not in Enumerator(jets=8).weights(b), "there is nothing behind the leading jets"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"jets": 7}, "jets = 7 is less than leading = 8"),
        ({"most_none": 7}, "leaves fewer than two of 8 jets"),
        ({"width": 30}, "width = 30 is not divided by heads = 4"),
        ({"terms": {"label": 0, "mass": 0, "trailing": 0}}, "nothing would be learned"),
        ({"extra": ["jet_parent_quark"]}, "'jet_parent_quark' is seen already, or is the truth"),
        ({"extra": ["jet_width", "jet_width"]}, "'jet_width' twice"),
        ({"extra": ["ht"]}, "'ht' is no column of jets"),
    ],
)
def test_settings_that_cannot_be(settings: dict, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Enumerator.model_validate(settings)


def test_extra_columns_are_seen_in_units_of_their_spread() -> None:
    task = SMALL.model_copy(update={"extra": ("jet_n_constituent", "jet_mine")})
    table = task.toy(40, 1)
    b = _batch(table, task)
    moments = task.needs()["extra"]
    net = task.build(1, {"extra": moments.numbers(moments.sums(b))}).eval()
    assert net.get_buffer("mean_X").shape == (2,) and net.get_buffer("mean_X")[0] > 10
    other = _columns(b, jet_mine=b["jet_mine"].flip(0))
    assert not torch.allclose(_scored(task, net, other).none_BJ, _scored(task, net, b).none_BJ, atol=1e-4)
    _alike(task, net, b, _moved(b, _shuffled(b)))


@pytest.mark.reference
def test_network_and_readout_have_a_graph(tmp_path: Path) -> None:
    settings = {"leading": 4, "most_none": 1, "beam": 1, "extra": ["jet_mine"]}
    values = {"system": "enumerator", "task": {**SMALL.values(), **settings},
              "stream": {"samples": {"toy": {"events": "toy"}}}}  # fmt: skip
    run = resolve([("test", values)], "test").run
    agreement = graphs.write(run, run.task.build(1, run.task.neutral()), tmp_path / "model.onnx", "digest")
    assert agreement.events == sum(graphs.SIZES) + 1
    assert agreement.undecided <= 2 and agreement.worst < graphs.CLOSE
