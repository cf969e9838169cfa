"""The assigner's losses by hand, its symmetries, and sense in odd events."""

from dataclasses import replace

import awkward as ak
import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from jetscale.data.batch import batch
from jetscale.metrics import scored
from jetscale.nn.equivariant import EquivariantStack, masked_max, masked_mean
from jetscale.own import complete
from jetscale.physics import toys
from jetscale.physics.kinematics import p4
from jetscale.schema import JET_EVENTS
from jetscale.systems.assigner import (
    Assigner,
    group_masses,
    gumbel_softmax,
    label_loss,
    mass_loss,
)
from jetscale.task import At, Batch

KINDS = ("equivariant", "dense")
SETTINGS = [{"loss_on": "label"}, {"loss_on": "mass"}, {"loss_on": "mass", "gumbel": "soft"},
            {"loss_on": "mass", "background_target": "minimum"}, {"label": "quark", "inputs": "absolute"}]  # fmt: skip


def _batch(table: pa.Table, at: At = At(0, 0, 0.0)) -> Batch:
    rows = table.num_rows
    return batch([table], JET_EVENTS, np.ones(rows), np.zeros(rows, dtype=np.int64), np.arange(rows), at, seed=1)


def _jets(b: Batch, jets: int = 12) -> list[Tensor]:
    wide = [torch.nn.functional.pad(b[name], (0, jets - b[name].shape[1]))
            for name in ("jet_pt", "jet_eta", "jet_phi", "jet_mass")]  # fmt: skip
    mask = torch.nn.functional.pad(b.mask("jet"), (0, jets - b.mask("jet").shape[1]))
    return [*wide, mask]


def _odd_events() -> pa.Table:
    """No jet, one jet, two to five jets, fourteen jets; signal, background and unknown."""
    counts = [0, 1, 2, 3, 4, 5, 14, 0, 1, 6]
    dice = np.random.default_rng(3)
    draw = {name: ak.unflatten(dice.uniform(low, high, sum(counts)), counts) for name, low, high in
            (("jet_pt", 30, 900), ("jet_eta", -2, 2), ("jet_phi", -3, 3), ("jet_mass", 1, 50))}  # fmt: skip
    labels = ak.unflatten(dice.integers(0, 3, sum(counts)), counts)
    return complete(ak.Array({**draw, "jet_parent_ancestry": labels, "jet_parent_quark": labels,
                              "true_mass": np.array([900.0] * 7 + [0.0, 0.0, -1.0]),
                              "decay_mode": np.array([3] * 7 + [0, 0, -1])}), where="odd")  # fmt: skip


@pytest.mark.parametrize("network", KINDS)
@pytest.mark.parametrize("settings", SETTINGS)
def test_odd_events_are_finite(network: str, settings: dict[str, str]) -> None:
    task = Assigner.model_validate({"network": network, **settings})
    net, odd = task.build(1), _batch(_odd_events())
    terms, weights = task.loss(net, odd), task.weights(odd)
    for term, value_B in terms.items():
        assert value_B.shape == weights[term].shape == (10,)
        assert torch.isfinite(value_B).all()
        (value_B * weights[term]).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)
    scores = task.score(net, odd)
    assert all(torch.isfinite(column).all() for column in scores.values())
    assert set(scores) == set(task.outputs.names)
    assert (scores["jet_assigned"][6, 12:] == 0).all(), "jets beyond the twelfth belong to none"
    assert (scores["reco_mass"][[0, 7]] == 0).all(), "no jets, no mass"


def test_unknown_truth_has_no_weight() -> None:
    odd = _batch(_odd_events())
    mass = Assigner(loss_on="mass").weights(odd)["mass"]
    label = Assigner().weights(odd)["label"]
    assert mass.tolist() == [1] * 7 + [0, 0, 0], "background with fewer than two jets and unknown events have no target"
    assert label.tolist() == [0, 1, 1, 1, 1, 1, 1, 0, 1, 1], "events without a labelled jet teach nothing"


@pytest.mark.parametrize("network", KINDS)
def test_equivariance(network: str) -> None:
    """The equivariant network commutes with every permutation of the jets; the dense one does not."""
    task = Assigner.model_validate({"network": network})
    net = task.build(1).eval()
    b = _batch(task.toy(64, 5))
    pt, eta, phi, mass, mask = _jets(b)
    out = net(pt, eta, phi, mass, mask)
    worst = 0.0
    for n in range(20):
        order = torch.randperm(12, generator=torch.Generator().manual_seed(n))
        swapped = net(pt[:, order], eta[:, order], phi[:, order], mass[:, order], mask[:, order])
        worst = max(worst, (swapped - out[:, order])[mask[:, order]].abs().max().item())
    assert worst < 1e-5 if network == "equivariant" else worst > 1e-2


@pytest.mark.parametrize("readout", ["argmax", "map", "mbr"])
def test_no_readout_knows_where_a_jet_stands(readout: str) -> None:
    """Ten jets or so, of which eight are enumerated: those of highest pt, in whatever order they come."""
    task = Assigner.model_validate({"readout": readout})
    net, sorted_ = task.build(1).eval().double(), _batch(toys_with_many_jets(200))
    place = torch.randperm(sorted_["jet_pt"].shape[1], generator=torch.Generator().manual_seed(5))
    columns = {name: one[:, place] if one.dim() == 2 else one for name, one in sorted_.columns.items()}
    mixed = replace(sorted_, columns=columns, masks={"jet": sorted_.mask("jet")[:, place]})
    first, other = task.score(net, sorted_), task.score(net, mixed)
    same_B = ((first["jet_assigned"][:, place] > 0) == (other["jet_assigned"] > 0)).all(1)
    near_B = (first["reco_mass"] - other["reco_mass"]).abs() < 1e-3
    assert min(same_B.float().mean(), near_B.float().mean()) > 0.97  # rounding decides a few that are nearly alike


def toys_with_many_jets(rows: int) -> pa.Table:
    return complete(toys.pairs(rows, np.random.default_rng(4), extra=5), where="toy")


@pytest.mark.parametrize("network", KINDS)
def test_padding_changes_nothing(network: str) -> None:
    net = Assigner.model_validate({"network": network}).build(1).eval()
    b = _batch(Assigner().toy(64, 5))
    near, far = net(*_jets(b, 8)), net(*_jets(b, 17))
    assert (near - far[:, :8]).abs().max() < 1e-5


def test_a_rotation_about_the_beam_changes_nothing() -> None:
    net = Assigner().build(1).eval()
    pt, eta, phi, mass, mask = _jets(_batch(Assigner().toy(64, 5)))
    assert (net(pt, eta, phi + 1.0, mass, mask) - net(pt, eta, phi, mass, mask)).abs().max() < 1e-4


@pytest.mark.parametrize("inputs", ["ht", "absolute"])
def test_only_absolute_inputs_know_the_scale(inputs: str) -> None:
    net = Assigner.model_validate({"inputs": inputs}).build(1).eval()
    pt, eta, phi, mass, mask = _jets(_batch(Assigner().toy(64, 5)))
    change = (net(3 * pt, eta, phi, 3 * mass, mask) - net(pt, eta, phi, mass, mask)).abs().max()
    assert change < 1e-4 if inputs == "ht" else change > 1e-2


def _swapped(b: Batch) -> Batch:
    table = dict(b.columns)
    for name in ("jet_parent_ancestry", "jet_parent_quark"):
        labels = table[name]
        table[name] = torch.where(labels > 0, 3 - labels, labels)
    return Batch(table, b.masks, b.weight_B, b.lane_B, b.row_B, b.at, b.seed)


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_parents_have_no_names(settings: dict[str, str]) -> None:
    task = Assigner.model_validate(settings)
    net, b = task.build(1).eval(), _batch(task.toy(64, 5))
    for term, value_B in task.loss(net, b).items():
        assert (value_B - task.loss(net, _swapped(b))[term]).abs().max() < 1e-6


def test_label_loss_by_hand() -> None:
    logits = torch.log(torch.tensor([[[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.2, 0.2, 0.6]]]))
    labels, known = torch.tensor([[0, 1, -1]]), torch.tensor([[True, True, False]])
    assert label_loss(logits, labels, known).item() == pytest.approx(-0.5 * np.log(0.7 * 0.6), rel=1e-6)


def test_mass_loss_by_hand() -> None:
    masses, target = torch.tensor([[900.0, 1200.0]]), torch.tensor([[1000.0, 1000.0]])
    # Huber with delta 0.1: 0.1^2 / 2 for the first, 0.1 (0.2 - 0.05) for the second.
    assert mass_loss(masses, target).item() == pytest.approx(0.5 * (0.005 + 0.015), rel=1e-5)
    uneven = torch.tensor([[600.0, 1400.0]])
    assert mass_loss(torch.tensor([[1400.0, 600.0]]), uneven).item() == 0.0


def test_gumbel_softmax_draws_with_the_networks_probabilities() -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.2])).expand(20_000, 1, 3)
    noise = torch.rand(20_000, 1, 3, generator=torch.Generator().manual_seed(2))
    hard = gumbel_softmax(logits, noise, 0.5, hard=True)
    assert set(hard.unique().tolist()) <= {0.0, 1.0} or torch.allclose(hard, hard.round(), atol=1e-6)
    assert hard.mean((0, 1)).tolist() == pytest.approx([0.5, 0.3, 0.2], abs=0.01)
    soft = gumbel_softmax(logits, noise, 0.5, hard=False)
    assert torch.allclose(soft.sum(-1), torch.ones(20_000, 1))


def test_hard_assignments_have_a_gradient_and_masses_of_groups_are_right() -> None:
    b = _batch(Assigner().toy(32, 5))
    labels, mask = b["jet_parent_ancestry"].long(), b.mask("jet")
    vectors = p4(b["jet_pt"], b["jet_eta"], b["jet_phi"], b["jet_mass"])
    shares = torch.nn.functional.one_hot(labels.clamp_min(0), 3).float()
    masses = group_masses(shares, vectors, mask)
    for group in (1, 2):
        total = (vectors.double() * ((labels == group) & mask)[..., None]).sum(1)
        wanted = (total[:, 0] ** 2 - (total[:, 1:] ** 2).sum(1)).clamp_min(1.0).sqrt()
        assert torch.allclose(masses[:, group - 1].double(), wanted, atol=1.0)
    logits = torch.zeros(32, mask.shape[1], 3, requires_grad=True)
    drawn = gumbel_softmax(logits, b.noise(mask.shape[1], 3), 0.5, hard=True)
    mass_loss(group_masses(drawn, vectors, mask), torch.full((32, 2), 800.0)).sum().backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all() and logits.grad.abs().sum() > 0


def test_temperature_follows_the_horizon() -> None:
    task = Assigner(loss_on="mass", gumbel="soft")
    net, table = task.build(1), task.toy(64, 5)
    start, end = (task.loss(net, _batch(table, At(0, 0, fraction)))["mass"] for fraction in (0.0, 1.0))
    constant = Assigner(loss_on="mass", gumbel="soft", temperature=(0.3, 0.3))
    assert not torch.allclose(start, end)
    assert torch.equal(end, constant.loss(net, _batch(table))["mass"])


def test_background_targets_are_the_masses_of_its_groups() -> None:
    task = Assigner(loss_on="mass")
    b = _batch(task.toy(200, 5))
    targets = task._targets(b)
    signal = b["true_mass"] > 0
    assert torch.equal(targets[signal], b["true_mass"][signal][:, None].expand(-1, 2))
    labels = torch.where(b.mask("jet"), b["jet_parent_ancestry"].long(), 0)
    vectors = p4(b["jet_pt"], b["jet_eta"], b["jet_phi"], b["jet_mass"]).double()
    first = (vectors * (labels == 1)[..., None]).sum(1)
    mass = (first[:, 0] ** 2 - (first[:, 1:] ** 2).sum(1)).clamp_min(0).sqrt()
    both = ~signal & (targets[:, 0] > 0) & (mass > 0)
    assert both.sum() > 20
    near = torch.isclose(targets[both, 0].double(), mass[both], rtol=1e-4, atol=0.5)
    assert near.float().mean() > 0.9


def test_figures_of_perfect_scores() -> None:
    toy = Assigner().toy(300, 7)
    perfect = toy.append_column("jet_assigned", toy["jet_parent_ancestry"])
    perfect = perfect.append_column("reco_mass", toy["true_mass"])
    table = scored(perfect, "jet_parent_ancestry")
    assert (table.jets_right_B == table.jets_known_B).all()
    figures = Assigner().figures(perfect)
    assert figures["f10"] == figures["jet_accuracy"] == figures["mass_auc"] == 1.0


def test_pooling_ignores_what_is_masked_and_gives_zero_for_nothing() -> None:
    x = torch.tensor([[[1.0], [3.0], [99.0]], [[5.0], [5.0], [5.0]]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert masked_mean(x, mask).tolist() == [[2.0], [0.0]]
    assert masked_max(x, mask).tolist() == [[3.0], [0.0]]
    assert EquivariantStack(1, 4, 3, 2)(x, mask).isfinite().all()
