"""Edge convolution on clouds of particles (Wang et al., arXiv:1801.07829; Qu, Gouskos, arXiv:1902.08570).

Every particle looks at its nearest neighbours: layers on (x_i, x_j - x_i), with batch normalisation and ReLU, the mean
over the neighbours j, and a shortcut. Less is computed than is written there, and the same comes out:

- The first layer is linear in both: W (x_i, x_j - x_i) = (W1 - W2) x_i + W2 x_j, so it acts on particles, not on edges.
- Only particles that are there are worked on: those of all jets stand behind one another in one flat array (N, C).
- Between two matrices the edges are passed over once in each direction, in blocks that fit into a core's cache.

A jet of fewer particles than neighbours has edges to nothing, to a particle whose features are 0, as the reference
implementation has them. They count in the mean over the neighbours, unless they are dropped, but never in the moments
of the batch normalisation: these are of real particles and of real edges alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from jetscale.nn.listed import ListNorm
from jetscale.nn.running import Running

BLOCK = 1 << 20  # bytes of a block of edges: what a core's cache holds
FAR = 1e9  # where there is no particle
MOMENTUM, EPS = 0.1, 1e-5


class Flat(NamedTuple):
    """Where the real particles of padded jets stand: in the flat array of (B * P), which jet each is of, and, for
    groups of jets of like length, which slots (G, P') hold which particle (N where there is none)."""

    place_N: Tensor
    jet_N: Tensor
    jets: int
    groups: tuple[Tensor, ...]


def flat_of(mask_BP: Tensor, groups: int = 4) -> Flat:
    """Take padding out of jets: `groups` of them are compared within one padded array each."""
    count_B = mask_BP.sum(1)
    place_N = mask_BP.flatten().nonzero().squeeze(1)
    number_BP = torch.full(mask_BP.shape, len(place_N), device=mask_BP.device).flatten()
    number_BP[place_N] = torch.arange(len(place_N), device=mask_BP.device)
    number_BP = number_BP.view(mask_BP.shape)
    # Real particles need not be the first of their jet.
    front_BP = number_BP.sort(dim=1).values
    parts = [rows for rows in count_B.argsort().tensor_split(groups) if len(rows)]
    slots = tuple(front_BP[rows, : int(count_B[rows].max())] for rows in parts)
    return Flat(place_N, place_N // mask_BP.shape[1], len(mask_BP), tuple(one for one in slots if one.shape[1]))


@torch.no_grad()
def neighbours(x_NC: Tensor, flat: Flat, k: int) -> Tensor:
    """The k nearest other particles of the same jet, (N, k) int64, in at least single precision; N where there are not
    so many."""
    x_NC = x_NC if x_NC.dtype == torch.float64 else x_NC.float()
    found_NK = torch.full((len(x_NC), k), len(x_NC), device=x_NC.device)
    padded_MC = torch.cat([x_NC, torch.full_like(x_NC[:1], FAR)])
    for slot_GP in flat.groups:
        there_GP = slot_GP < len(x_NC)
        # Distances do not depend on the origin, and cancel less near it.
        x_GPC = padded_MC[slot_GP]
        first_G1C = x_GPC[:, :1]
        x_GPC = torch.where(there_GP[..., None], x_GPC - first_G1C, 0.0)
        near_GPK = nearest(x_GPC, there_GP, min(k, slot_GP.shape[1]))
        neighbour_GPK = slot_GP.gather(1, near_GPK.flatten(1)).view(near_GPK.shape)
        oneself_GPK = neighbour_GPK == slot_GP[..., None]
        neighbour_GPK = neighbour_GPK.masked_fill(oneself_GPK, len(x_NC))
        found_NK[slot_GP[there_GP], : near_GPK.shape[-1]] = neighbour_GPK[there_GP]
    return found_NK


def nearest(x_BPC: Tensor, mask_BP: Tensor, k: int) -> Tensor:
    """The slots of the k nearest others, (B, P, k): of those that are not there, or oneself, after all others."""
    square_BP = x_BPC.square().sum(-1)
    near_BPP = 2 * x_BPC @ x_BPC.mT - square_BP[:, None, :]  # less what all have in common
    not_BPP = ~mask_BP[:, None, :] | torch.eye(mask_BP.shape[1], dtype=torch.bool, device=mask_BP.device)
    near_BPP = near_BPP.masked_fill(~mask_BP[:, None, :], -FAR).masked_fill(not_BPP & mask_BP[:, None, :], -2 * FAR)
    found: Tensor = near_BPP.topk(k, dim=-1).indices
    return found


class Edges(NamedTuple):
    """The neighbours (N, K) of every particle, N of nothing; which edges are to a particle, (N, K), None if all are;
    and the share of each in the mean over the neighbours, (N, K), None if all are alike. `reals` of them are to
    particles."""

    index_NK: Tensor
    real_NK: Tensor | None
    share_NK: Tensor | None
    reals: int

    @classmethod
    def of(cls, index_NK: Tensor, particles: int, drop: bool) -> Edges:
        """Edges to nothing have a share in the mean, or, dropped, none."""
        real_NK = index_NK < particles
        if bool(real_NK.all()):
            return cls(index_NK, None, None, index_NK.numel())
        share_NK = real_NK.double() / real_NK.sum(1, keepdim=True).clamp_min(1) if drop else None
        return cls(index_NK, real_NK, share_NK, int(real_NK.sum()))

    def blocks(self, like_EC: Tensor) -> list[tuple[slice, slice]]:
        """Particles, and their edges, block by block of numbers for every edge."""
        particles, each = self.index_NK.shape
        step = max(1, BLOCK // (like_EC.shape[1] * like_EC.element_size() * each))
        low = range(0, particles, step)
        return [(slice(one, min(one + step, particles)), slice(one * each, min(one + step, particles) * each))
                for one in low]  # fmt: skip

    def real(self, of: slice) -> Tensor | None:
        """Which edges of some particles are to particles, (E); None if all are."""
        return None if self.real_NK is None or bool(self.real_NK[of].all()) else self.real_NK[of].flatten()


class Plain(NamedTuple):
    """What comes out of a matrix, (E, C), and its mean and variance over real edges in training."""

    value_EC: Tensor
    mean_C: Tensor
    variance_C: Tensor


class Line(NamedTuple):
    """What batch normalisation does to every channel, in at least single precision whatever the channels are in."""

    mean_C: Tensor
    variance_C: Tensor
    scale_C: Tensor
    shift_C: Tensor

    def __call__(self, plain_EC: Tensor) -> Tensor:
        """What is normalised, and ReLU of it."""
        return normalised(plain_EC, *self).relu_()

    def let_through(self, rising_EC: Tensor, plain_EC: Tensor, hidden_EC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The gradient in front of the line, but for what mean and variance pull, (E, C), and what it adds to the
        gradients of scale and shift, (C) each; `hidden_EC` is what ReLU has let through, `rising_EC` is used up."""
        open_EC = torch.ops.aten.threshold_backward.grad_input(rising_EC, hidden_EC, 0, grad_input=rising_EC)
        found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_batch_norm_backward(
            open_EC, plain_EC, self.scale_C, self.mean_C, self.variance_C, None, None, False, EPS, [True] * 3
        )
        return found


def normalised(plain_EC: Tensor, mean_C: Tensor, variance_C: Tensor, scale_C: Tensor, shift_C: Tensor) -> Tensor:
    """Batch normalisation by given moments, in the precision of its input."""
    if plain_EC.dtype == mean_C.dtype:  # with nothing to convert a line is the quicker form
        slope_C = scale_C * torch.rsqrt(variance_C + EPS)
        return torch.addcmul(shift_C - mean_C * slope_C, plain_EC, slope_C)
    return functional.batch_norm(plain_EC, mean_C, variance_C, scale_C, shift_C, False, 0.0, EPS)


class Pull:
    """Gradients of scale and shift, sums over blocks in double precision: how mean and variance of a batch pull all
    real edges together."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.times_C, self.plain_C = (torch.zeros_like(line.mean_C, dtype=torch.float64) for _ in range(2))

    def add(self, rising_EC: Tensor, plain_EC: Tensor, hidden_EC: Tensor) -> Tensor:
        """One block; the gradient in front of the line, but for the pull, (E, C)."""
        below_EC, times_C, plain_C = self.line.let_through(rising_EC, plain_EC, hidden_EC)
        self.times_C += times_C
        self.plain_C += plain_C
        return below_EC

    def off(self, rising_EC: Tensor, plain_EC: Tensor, edges: Edges, of: slice) -> Tensor:
        """The gradient in front of the line, from what it is without the pull: that is less by
        slope (sum + unit * sum of times) / n."""
        mean_C, variance_C, scale_C, _ = self.line
        share_C = scale_C / (variance_C + EPS).sqrt() / max(edges.reals, 1)
        times_C, plain_C = (one.to(share_C.dtype) * share_C for one in (self.times_C, self.plain_C))
        pull_EC = normalised(plain_EC, mean_C, variance_C, times_C, plain_C)
        if (real_E := edges.real(of)) is not None:
            pull_EC.mul_(real_E[:, None])
        return torch.sub(rising_EC, pull_EC, out=pull_EC)


class Moments:
    """Mean and variance over blocks of real edges, put together in double precision."""

    def __init__(self, like_EC: Tensor) -> None:
        self.count = 0
        self.mean_C, self.square_C = torch.zeros(2, like_EC.shape[1], dtype=torch.float64, device=like_EC.device)

    def add(self, block_EC: Tensor, real_E: Tensor | None) -> None:
        """One block; the squares are about its own mean, so that nothing cancels."""
        block_EC = block_EC if real_E is None else block_EC[real_E]
        if not (count := len(block_EC)):
            return
        mean_C, variance_C = torch.batch_norm_update_stats(block_EC, None, None, 0.0)
        step_C = mean_C - self.mean_C
        self.count, before = self.count + count, self.count
        self.mean_C += step_C * count / self.count
        self.square_C += variance_C.double() * count + step_C.square() * before * count / self.count

    def of(self, value_EC: Tensor) -> Plain:
        """With the numbers that they are the moments of."""
        dtype = wide(value_EC.dtype)
        return Plain(value_EC, self.mean_C.to(dtype), (self.square_C / max(self.count, 1)).to(dtype))


def wide(dtype: torch.dtype) -> torch.dtype:
    """The precision of moments and normalised numbers."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def gathered(u_NC: Tensor, v_MC: Tensor, edges: Edges, training: bool) -> Plain:
    """The first layer: u of every particle and v of its neighbours, (E, C)."""
    channels, each = u_NC.shape[1], edges.index_NK.shape[1]
    value_EC = u_NC.new_empty(len(u_NC) * each, channels)
    moments = Moments(value_EC)
    for of, at in edges.blocks(value_EC):
        block_EC = value_EC[at]
        torch.index_select(v_MC, 0, edges.index_NK[of].flatten(), out=block_EC)
        block_EC.view(-1, each, channels).add_(u_NC[of, None])
        if training:
            moments.add(block_EC, edges.real(of))
    return moments.of(value_EC)


def multiplied(before: Plain, line: Line, weight_DC: Tensor, edges: Edges, training: bool) -> Plain:
    """The next layer: its matrix on what normalisation and ReLU make of the one before, (E, D)."""
    value_ED = before.value_EC.new_empty(len(before.value_EC), len(weight_DC))
    moments = Moments(value_ED)
    for of, at in edges.blocks(value_ED):
        torch.mm(line(before.value_EC[at]), weight_DC.t(), out=value_ED[at])
        if training:
            moments.add(value_ED[at], edges.real(of))
    return moments.of(value_ED)


def averaged(last: Plain, line: Line, edges: Edges) -> Tensor:
    """The mean over the neighbours, (N, C)."""
    particles, each = edges.index_NK.shape
    channels = last.value_EC.shape[1]
    out_NC = last.value_EC.new_empty(particles, channels)
    for of, at in edges.blocks(last.value_EC):
        hidden_NKC = line(last.value_EC[at]).view(-1, each, channels)
        if edges.share_NK is None:
            out_NC[of] = hidden_NKC.mean(1)
        else:
            out_NC[of] = hidden_NKC.mul_(edges.share_NK[of, :, None]).sum(1)
    return out_NC


class EdgeLayers(torch.autograd.Function):
    """From u (N, C) of the particles and v (N + 1, C) of the neighbours to the mean over the neighbours, (N, D), of
    layers with batch normalisation and ReLU; and the moments of each, (2, C).

    `moments` are those to normalise with, (2, C) a layer; None takes those of the batch. Weights are (D, C), scales and
    shifts (C).
    """

    @staticmethod
    def forward(ctx: Any, u_NC: Tensor, v_MC: Tensor, edges: Edges, moments: Sequence[Tensor] | None, layers: int,
                *parameters: Tensor) -> tuple[Tensor, ...]:  # fmt: skip
        """The mean over the neighbours, and the moments of every layer."""
        weights, scales, shifts = _parts(parameters, layers)
        plain, lines = [gathered(u_NC, v_MC, edges, moments is None)], list[Line]()
        for layer in range(layers):
            mean_C, variance_C = plain[layer][1:] if moments is None else moments[layer]
            scale_C, shift_C = (one[layer].to(mean_C.dtype) for one in (scales, shifts))
            lines.append(Line(mean_C, variance_C, scale_C, shift_C))
            if layer < layers - 1:
                plain.append(multiplied(plain[layer], lines[layer], weights[layer], edges, moments is None))
        ctx.save_for_backward(*parameters)
        ctx.kept = edges, plain, lines, moments is None
        seen = [torch.stack([one.mean_C, one.variance_C]) for one in plain]
        ctx.mark_non_differentiable(*seen)
        return averaged(plain[-1], lines[-1], edges), *seen

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, out_NC: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """Of u, v and the parameters."""
        edges, plain, lines, training = ctx.kept
        weights = ctx.saved_tensors[: len(lines) - 1]
        rising_EC, pull = spread(out_NC, plain[-1], lines[-1], edges)
        pulls, of_weights = [pull], list[Tensor]()
        for layer in range(len(lines) - 1, 0, -1):
            rising_EC, of_weight_DC, pull = passed_back(
                rising_EC, plain[layer], pull, edges, weights[layer - 1], plain[layer - 1], lines[layer - 1], training
            )
            of_weights.insert(0, of_weight_DC)
            pulls.insert(0, pull)
        of_u_NC, of_v_MC = split(rising_EC, plain[0], pull, edges, training)
        found = [*of_weights, *(one.times_C for one in pulls), *(one.plain_C for one in pulls)]
        cast = [one.to(old.dtype) for one, old in zip(found, ctx.saved_tensors, strict=True)]
        return of_u_NC, of_v_MC, None, None, None, *cast


edge_layers: Callable[..., tuple[Tensor, ...]] = EdgeLayers.apply


def _parts(parameters: Sequence[Tensor], layers: int) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
    """Weights, of one layer fewer, scales and shifts."""
    return parameters[: layers - 1], parameters[layers - 1 : 2 * layers - 1], parameters[2 * layers - 1 :]


def spread(out_NC: Tensor, last: Plain, line: Line, edges: Edges) -> tuple[Tensor, Pull]:
    """The gradient in front of the last line, (E, C), from that of the mean: a share of it each."""
    each = edges.index_NK.shape[1]
    rising_EC, pull = torch.empty_like(last.value_EC), Pull(line)
    for of, at in edges.blocks(rising_EC):
        share_EC = out_NC[of].repeat_interleave(each, 0)
        share_EC *= 1 / each if edges.share_NK is None else edges.share_NK[of].reshape(-1, 1)
        plain_EC = last.value_EC[at]
        rising_EC[at] = pull.add(share_EC, plain_EC, line(plain_EC))
    return rising_EC, pull


def passed_back(rising_ED: Tensor, plain: Plain, pull: Pull, edges: Edges, weight_DC: Tensor, before: Plain,
                line: Line, training: bool) -> tuple[Tensor, Tensor, Pull]:  # fmt: skip
    """From the gradient in front of a line to that in front of the line before, (E, C), and that of the matrix
    between, (D, C)."""
    # A block is read before it is written, so that the gradient needs room only once.
    same = rising_ED.shape == before.value_EC.shape
    below_EC, pull_before = rising_ED if same else torch.empty_like(before.value_EC), Pull(line)
    of_weight_DC = torch.zeros(weight_DC.shape, dtype=wide(weight_DC.dtype), device=weight_DC.device)
    for of, at in edges.blocks(max(below_EC, rising_ED, key=lambda one: one.shape[1])):
        through_ED = pull.off(rising_ED[at], plain.value_EC[at], edges, of) if training else rising_ED[at]
        plain_EC = before.value_EC[at]
        hidden_EC = line(plain_EC)
        of_weight_DC += through_ED.t() @ hidden_EC
        below_EC[at] = pull_before.add(through_ED @ weight_DC, plain_EC, hidden_EC)
    return below_EC, of_weight_DC, pull_before


def split(rising_EC: Tensor, first: Plain, pull: Pull, edges: Edges, training: bool) -> tuple[Tensor, Tensor]:
    """The gradients of u (N, C) and v (N + 1, C)."""
    (particles, each), channels = edges.index_NK.shape, rising_EC.shape[1]
    of_u_NC = first.value_EC.new_empty(particles, channels)
    of_v_MC = torch.zeros(particles + 1, channels, dtype=wide(rising_EC.dtype), device=rising_EC.device)
    for of, at in edges.blocks(rising_EC):
        block_EC = pull.off(rising_EC[at], first.value_EC[at], edges, of) if training else rising_EC[at]
        of_u_NC[of] = block_EC.view(-1, each, channels).sum(1)
        index_E1 = edges.index_NK[of].reshape(-1, 1)
        of_v_MC.scatter_add_(0, index_E1.expand(-1, channels), block_EC.to(of_v_MC.dtype))
    return of_u_NC, of_v_MC.to(of_u_NC.dtype)


@final
class EdgeConv(Running):
    """A block of edge convolution: from the features (N, C) of particles to new ones (N, D)."""

    def __init__(self, features: int, channels: Sequence[int], k: int, drop: bool = False) -> None:
        super().__init__(MOMENTUM)
        self.k, self.drop, self.layers, out = k, drop, len(channels), channels[-1]
        # All are parameters of this module itself: sharded ones are gathered for the module that is called.
        for number, (into, width) in enumerate(pairwise((2 * features, *channels))):
            weight_DC = nn.Parameter(torch.empty(width, into))
            nn.init.kaiming_uniform_(weight_DC, a=5**0.5)
            self.register_parameter(f"weight_{number}", weight_DC)
            self.register_parameter(f"scale_{number}", nn.Parameter(torch.ones(width)))
            self.register_parameter(f"shift_{number}", nn.Parameter(torch.zeros(width)))
            self.register_buffer(f"moments_{number}", torch.stack([torch.zeros(width), torch.ones(width)]))
        self.shortcut = None if features == out else nn.Linear(features, out, bias=False)
        self.norm = None if features == out else ListNorm(out)

    def forward(self, points_NC: Tensor, x_NC: Tensor, flat: Flat) -> Tensor:
        """Particles are near each other in `points_NC`, in single precision or better."""
        edges = Edges.of(neighbours(points_NC, flat, self.k), len(x_NC), self.drop)
        u_NC, v_NC = self._first(x_NC)
        v_MC = torch.cat([v_NC, torch.zeros_like(v_NC[:1]) if len(v_NC) else v_NC.new_zeros(1, v_NC.shape[1])])
        dtype = wide(x_NC.dtype)
        moments = None if self.training and edges.reals > 1 else [one.to(dtype) for one in self._all("moments")]
        parameters = (*self._all("weight")[1:], *self._all("scale"), *self._all("shift"))
        out_ND, *seen = edge_layers(u_NC, v_MC, edges, moments, self.layers, *parameters)
        if moments is None:
            self._remember(seen, edges.reals)
        return self._with_shortcut(out_ND, x_NC, None)

    def padded(self, points_BPC: Tensor, x_BPC: Tensor, mask_BP: Tensor) -> Tensor:
        """The same function of padded jets, with the moments that were seen in training; for tracing.

        There must be more slots than neighbours, and x must be 0 where padded.
        """
        near_BPK = nearest(points_BPC.to(wide(points_BPC.dtype)), mask_BP, self.k)
        u_BPC, v_BPC = self._first(x_BPC)
        flat_BXC = near_BPK.flatten(1)[..., None].expand(-1, -1, v_BPC.shape[-1])
        z_BPKC = u_BPC[:, :, None] + v_BPC.gather(1, flat_BXC).unflatten(1, near_BPK.shape[1:])
        for number in range(self.layers):
            if number:
                z_BPKC = z_BPKC @ self._all("weight")[number].t()
            mean_C, variance_C = self._all("moments")[number].to(z_BPKC.dtype)
            slope_C = self._all("scale")[number] * torch.rsqrt(variance_C + EPS)
            z_BPKC = torch.addcmul(self._all("shift")[number] - mean_C * slope_C, z_BPKC, slope_C).relu()
        real_BPK = mask_BP[:, None, :].expand(-1, mask_BP.shape[1], -1).gather(2, near_BPK).to(z_BPKC.dtype)
        share_BPK = real_BPK / real_BPK.sum(-1, keepdim=True).clamp_min(1) if self.drop else 1 / self.k
        out_BPD = (z_BPKC * share_BPK[..., None]).sum(2) if isinstance(share_BPK, Tensor) else z_BPKC.mean(2)
        return torch.where(mask_BP[..., None], self._with_shortcut(out_BPD, x_BPC, mask_BP), 0.0)

    def _first(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the first layer makes of a particle, and of a neighbour."""
        here, difference = self._all("weight")[0].chunk(2, 1)
        return x @ (here - difference).t(), x @ difference.t()

    def _with_shortcut(self, out: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
        if self.shortcut is not None and self.norm is not None:
            x = self.norm(self.shortcut(x), mask)
        return (out + x).relu()

    def _all(self, what: str) -> list[Tensor]:
        return [getattr(self, f"{what}_{number}") for number in range(self.layers)]

    @torch.no_grad()
    def _remember(self, seen: Sequence[Tensor], count: int) -> None:
        way = self._way()
        for old, new in zip(self._all("moments"), seen, strict=True):
            unbiased = torch.stack([new[0], new[1] * count / (count - 1)])
            old.lerp_(unbiased.to(old.dtype), way)
