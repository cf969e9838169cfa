"""Normalisation of lists sees real entries alone."""

import pytest
import torch
from torch import nn

from jetscale.nn.listed import ListNorm


def lists() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(2)) * 4 + 1
    mask = torch.arange(7) < torch.tensor([7, 0, 1, 3, 5])[:, None]
    return x, mask


def test_real_entries_are_normalised_as_torch_does_it() -> None:
    x, mask = lists()
    ours, theirs = ListNorm(3), nn.BatchNorm1d(3)
    found = ours(torch.where(mask[..., None], x, 1e6), mask)
    assert torch.allclose(found[mask], theirs(x[mask]), atol=1e-5)
    assert (found[~mask] == 0).all()
    assert torch.allclose(ours.mean_C, theirs.running_mean) and torch.allclose(ours.variance_C, theirs.running_var)
    ours.eval(), theirs.eval()
    assert torch.allclose(ours(x, mask)[mask], theirs(x[mask]), atol=1e-5)


@pytest.mark.parametrize("shape", [(12, 3), (4, 5, 3), (0, 3), (1, 3)])
def test_a_list_without_a_mask_is_one_of_which_all_is_real(shape: tuple[int, ...]) -> None:
    x = (torch.randn(shape, generator=torch.Generator().manual_seed(3)) * 4 + 1).double()
    plain, masked = ListNorm(3).double(), ListNorm(3).double()
    for _ in range(2):
        found, wanted = plain(x), masked(x, torch.ones(shape[:-1], dtype=torch.bool))
        assert found.shape == x.shape and torch.allclose(found, wanted, atol=1e-9)
        for one, other in zip(plain.buffers(), masked.buffers(), strict=True):
            assert torch.allclose(one, other, atol=1e-9)
        plain.eval(), masked.eval()


def test_gradients_are_those_of_differences() -> None:
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(ListNorm(3).double(), (x,))


def test_one_entry_is_normalised_by_what_was_seen_before() -> None:
    x, mask = lists()
    norm = ListNorm(3)
    norm(x, mask)
    before = norm.mean_C.clone()
    alone = torch.zeros_like(mask)
    alone[0, 0] = True
    found = norm(x, alone)
    assert torch.isfinite(found).all() and torch.equal(before, norm.mean_C)


def test_half_precision_keeps_its_moments_in_float32() -> None:
    x, mask = lists()
    norm = ListNorm(3).to(torch.bfloat16)
    norm.mean_C, norm.variance_C = norm.mean_C.float(), norm.variance_C.float()
    assert norm(x.bfloat16(), mask).dtype == torch.bfloat16
    assert norm.mean_C.dtype == torch.float32 and (norm.mean_C != 0).all()
