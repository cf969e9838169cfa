"""Edge convolution in blocks, on particles alone, is edge convolution as it is written down."""

import pytest
import torch
from torch import Tensor

from jetscale.nn import edgeconv
from jetscale.nn.edgeconv import EPS, EdgeConv, Edges, edge_layers, flat_of, neighbours

COUNTS = (12, 9, 3, 0, 1, 8, 2)
K = 5


@pytest.fixture(params=[1 << 8, 1 << 20], ids=["many blocks", "one block"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edgeconv, "BLOCK", request.param)


def cloud(features: int = 4, seed: int = 1) -> tuple[Tensor, Tensor]:
    dice = torch.Generator().manual_seed(seed)
    mask = torch.arange(14) < torch.tensor(COUNTS)[:, None]
    # Real particles stand anywhere in their jet.
    mask = mask.gather(1, torch.rand(mask.shape, generator=dice).argsort(1))
    return torch.randn(*mask.shape, features, generator=dice, dtype=torch.float64) * mask[..., None], mask


def by_hand(x: Tensor, jet: Tensor) -> list[list[int]]:
    found = []
    for i in range(len(x)):
        others = [j for j in range(len(x)) if jet[j] == jet[i] and j != i]
        others.sort(key=lambda j: float((x[i] - x[j]).square().sum()))
        found.append((others + [len(x)] * K)[:K])
    return found


@pytest.mark.parametrize("groups", [1, 3])
def test_neighbours_are_the_nearest_others_of_the_same_jet(groups: int) -> None:
    x, mask = cloud()
    flat = flat_of(mask, groups)
    real = x.flatten(0, 1)[flat.place_N]
    assert torch.equal(real, x[mask])
    assert neighbours(real, flat, K).tolist() == by_hand(real, flat.jet_N)
    assert torch.equal(neighbours(real + 1e3, flat, K), neighbours(real, flat, K))


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_values_and_gradients_are_those_of_the_plain_form(drop: bool, training: bool) -> None:
    x, mask = cloud()
    flat = flat_of(mask)
    n, widths = len(flat.place_N), (6, 7, 5)
    edges = Edges.of(neighbours(x[mask], flat, K), n, drop)
    dice = torch.Generator().manual_seed(2)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=dice, dtype=torch.float64)

    u, v, weights = draw(n, 6), torch.cat([draw(n, 6), torch.zeros(1, 6)]), [draw(7, 6), draw(5, 7)]
    scales, shifts = [draw(width) for width in widths], [draw(width) for width in widths]
    moments = None if training else [torch.stack([draw(width), draw(width).exp()]) for width in widths]
    given = [one.requires_grad_() for one in (u, v, *weights, *scales, *shifts)]

    def plain(u: Tensor, v: Tensor, *parameters: Tensor) -> Tensor:
        z, real = (u[:, None] + v[edges.index_NK]).flatten(0, 1), (edges.index_NK < n).flatten()
        for layer in range(3):
            mean, variance = (z[real].mean(0), z[real].var(0, correction=0)) if moments is None else moments[layer]
            z = ((z - mean) / (variance + EPS).sqrt() * parameters[2 + layer] + parameters[5 + layer]).relu()
            z = z @ parameters[layer].t() if layer < 2 else z
        z = z.view(n, K, -1)
        if not drop:
            return z.mean(1)
        kept = real.view(n, K, 1)
        return (z * kept).sum(1) / kept.sum(1).clamp_min(1)

    ours, *seen = edge_layers(u, v, edges, moments, 3, *given[2:])
    wanted = plain(*given)
    assert torch.allclose(ours, wanted, atol=1e-12)
    slope = draw(*ours.shape)
    for a, b in zip(torch.autograd.grad(ours, given, slope), torch.autograd.grad(wanted, given, slope), strict=True):
        assert torch.allclose(a, b, atol=1e-10)
    real = (edges.index_NK < n).flatten()
    first = (u[:, None] + v[edges.index_NK]).flatten(0, 1)[real]
    if training:
        assert torch.allclose(seen[0], torch.stack([first.mean(0), first.var(0, correction=0)]), atol=1e-10)


@pytest.mark.parametrize("drop", [False, True])
def test_padded_and_flat_are_one_function(drop: bool) -> None:
    x, mask = cloud(6)
    torch.manual_seed(3)
    block, flat = EdgeConv(6, (8, 9), K, drop).double(), flat_of(mask)
    block(x[mask], x[mask], flat)  # moments that are not 0 and 1
    block.eval()
    ours = block(x[mask], x[mask], flat)
    assert torch.allclose(block.padded(x, x, mask)[mask], ours, atol=1e-10)
    padded = block.padded(x, x, mask)
    assert (padded[~mask] == 0).all()


def test_edges_to_nothing_count_as_often_as_neighbours_lack() -> None:
    """Of a jet of three particles every one has two neighbours; the other edges are all alike."""
    torch.manual_seed(3)
    x, mask = torch.randn(1, 3, 4, dtype=torch.float64), torch.ones(1, 3, dtype=torch.bool)
    blocks = {drop: EdgeConv(4, (4,), K, drop).double().eval() for drop in (False, True)}
    blocks[True].load_state_dict(blocks[False].state_dict())
    weight = blocks[False].weight_0
    here, there = weight.chunk(2, 1)
    out = {drop: block(x[0], x[0], flat_of(mask)) for drop, block in blocks.items()}
    for i in range(3):
        edges = [(x[0, i] @ here.t() + (x[0, j] - x[0, i]) @ there.t()).relu() for j in range(3) if j != i]
        nothing = (x[0, i] @ here.t() - x[0, i] @ there.t()).relu()
        kept, dropped = (sum(edges) + 3 * nothing) / K, sum(edges) / 2
        rate = (1 + EPS) ** -0.5
        assert torch.allclose(out[False][i], (x[0, i] + rate * kept).relu(), atol=1e-6)
        assert torch.allclose(out[True][i], (x[0, i] + rate * dropped).relu(), atol=1e-6)


def test_half_precision_is_near_single() -> None:
    x, mask = cloud(6)
    torch.manual_seed(3)
    block, flat = EdgeConv(6, (16, 16), K), flat_of(mask)
    half = EdgeConv(6, (16, 16), K)
    half.load_state_dict(block.state_dict())
    half = half.bfloat16()
    real = x[mask].float()
    near = half(real, real.bfloat16(), flat)
    assert near.dtype == torch.bfloat16 and torch.allclose(near.float(), block(real, real, flat), atol=0.15)
    near.sum().backward()
    assert torch.isfinite(half.weight_0.grad).all()


def test_no_particles_at_all_are_no_trouble() -> None:
    block = EdgeConv(4, (8, 8), K)
    nothing = flat_of(torch.zeros(3, 4, dtype=torch.bool))
    out = block(torch.zeros(0, 4), torch.zeros(0, 4, requires_grad=True), nothing)
    out.sum().backward()
    assert out.shape == (0, 8) and torch.equal(block.moments_0, torch.stack([torch.zeros(8), torch.ones(8)]))
