"""The recurrent tagger reads from hard to soft, and nothing after that."""

import numpy as np
import pytest
import torch

from jetscale.data.batch import batch
from jetscale.systems.rnn import RNN
from jetscale.task import At


def tensors(task: RNN, n: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    rows = batch(
        [task.toy(n, 1)], task.columns, np.ones(n), np.zeros(n, dtype=np.int64), np.arange(n), At(0, 0, 0.0), 1
    )
    particle, mask = task.tensors(rows)
    return particle, mask


def test_padding_and_the_order_in_the_file_do_not_matter() -> None:
    task = RNN()
    net, (particle, mask) = task.build(1).eval(), tensors(task)
    wanted = net(particle, mask)
    pad = torch.nn.functional.pad
    assert torch.allclose(net(pad(particle, (0, 0, 0, 7), value=1.0), pad(mask, (0, 7))), wanted, atol=1e-6)
    turned = torch.randperm(particle.shape[1], generator=torch.Generator().manual_seed(1))
    assert torch.allclose(net(particle[:, turned], mask[:, turned]), wanted, atol=1e-5)


def test_only_the_hardest_are_read() -> None:
    task = RNN(particles=3)
    net, (particle, mask) = task.build(1).eval(), tensors(task)
    three = mask & (torch.arange(mask.shape[1]) < 3)
    assert torch.allclose(net(particle, mask), net(particle, three), atol=1e-6)
    assert not torch.allclose(net(particle, mask), net(particle, three & (torch.arange(mask.shape[1]) < 2)), atol=1e-4)


def test_what_a_particle_is_matters() -> None:
    task = RNN()
    net, (particle, mask) = task.build(1).eval(), tensors(task)
    other = particle.clone()
    other[..., 4] = torch.where(mask, 22.0, 0.0)
    assert not torch.allclose(net(particle, mask), net(other, mask), atol=1e-4)


def test_jets_of_one_particle_and_of_none_are_finite() -> None:
    task = RNN()
    net, (particle, mask) = task.build(1), tensors(task, 2)
    one = mask & (torch.arange(mask.shape[1]) == 0)
    assert torch.isfinite(net(particle, one)).all() and torch.isfinite(net(particle, mask & False)).all()


def test_without_ids_no_ids_are_asked_for() -> None:
    task = RNN(ids="none")
    assert "particle_pdg" not in task.inputs.names and "particle_pdg" in RNN().inputs.names
    assert torch.isfinite(task.build(1)(*tensors(task, 4))).all()
    with pytest.raises(ValueError, match="unknown: zero says nothing where ids are none"):
        RNN(ids="none", unknown="zero")
