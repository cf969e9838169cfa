"""Where the particles of jets of many sizes stand: behind one another for layers, jet by jet for attention.

All layers act on one flat array (N, C) of the real particles of all jets. For attention alone, jets of like size are
padded to one another. For tracing, where sizes must not depend on a mask, the flat array has the padding in it, and
all jets are one group.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

MASKED = -1e4


class Pairs(NamedTuple):
    """Two particles of one jet, (E,), as numbers into the flat array."""

    one_E: Tensor
    other_E: Tensor


class Places(ABC):
    """From padded jets to the flat array and back, jets in an order of their own."""

    @abstractmethod
    def split(self, x_BX: Tensor) -> Sequence[Tensor]:
        """What is known of jets in their own order, by groups: (G, ...) each."""

    @abstractmethod
    def flat(self, x_BPC: Tensor) -> Tensor:
        """The flat array, (N, C)."""

    @abstractmethod
    def grouped(self, x_NC: Tensor) -> list[Tensor]:
        """Every group, (G, P, C); 0 without a particle."""

    @abstractmethod
    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """The flat array of what groups hold, (N, C)."""

    @abstractmethod
    def hidden(self) -> list[Tensor]:
        """Where a group has no particle, (G, P)."""

    @abstractmethod
    def pairs(self) -> Pairs:
        """All pairs that something is to be known of, a particle with itself among them."""

    @abstractmethod
    def biases(self, x_EH: Tensor) -> list[Tensor]:
        """Numbers of pairs as what is added to the logits of attention in every group, (G, H, P, P): MASKED for what
        is not there."""

    @abstractmethod
    def in_order(self, x_BC: Tensor) -> Tensor:
        """What is known of jets, in the order of the batch."""


@final
class Ragged(Places):
    """Without padding, and in order of size.

    `order_B` has the jets in that order. Of every real particle, `place_N` tells where it is in the batch, (B * P,),
    and `slot_N` where among the slots (M,) of all groups of jets of like size; a group of shape (G, P) has G * P slots.
    A pair is there once, the first not before the second; `there_E` and `back_E` tell where it stands, either way
    round, in all groups' (G, P, P).
    """

    def __init__(self, mask_BP: Tensor, groups: int = 4) -> None:
        """Jets, (B, P) bool, need not have their particles first."""
        count_B, self.order_B = mask_BP.sum(1).sort()
        ordered_BP = mask_BP[self.order_B]
        jet_N, particle_N = ordered_BP.nonzero(as_tuple=True)
        self.place_N = self.order_B[jet_N] * mask_BP.shape[1] + particle_N
        parts = [part for part in count_B.tensor_split(groups) if len(part)]
        self.shapes = [(len(part), max(1, int(part[-1]))) for part in parts]
        self.areas = [jets * size * size for jets, size in self.shapes]
        width_B = torch.cat(
            [part.new_full((len(part),), size) for part, (_, size) in zip(parts, self.shapes, strict=True)]
        )
        self.slot_N = (width_B.cumsum(0) - width_B)[jet_N] + ordered_BP.cumsum(1)[jet_N, particle_N] - 1
        number_M = self.slot_N.new_full((sum(jets * size for jets, size in self.shapes),), -1)
        number_M[self.slot_N] = torch.arange(len(self.slot_N), device=mask_BP.device)
        self.numbers = [one[..., 0] for one in self._parts(number_M[:, None])]
        self._pairs, self.there_E, self.back_E = self._pair_up()

    def split(self, x_BX: Tensor) -> Sequence[Tensor]:
        """In order of size."""
        parts: Sequence[Tensor] = x_BX.split([jets for jets, _ in self.shapes])
        return parts

    def flat(self, x_BPC: Tensor) -> Tensor:
        """Real particles."""
        return x_BPC.flatten(0, 1).index_select(0, self.place_N)

    def grouped(self, x_NC: Tensor) -> list[Tensor]:
        """Jets of like size padded to one another."""
        slots = sum(jets * size for jets, size in self.shapes)
        return self._parts(x_NC.new_zeros(slots, x_NC.shape[1]).index_put((self.slot_N,), x_NC))

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """Their real particles."""
        return taken(torch.cat([part.flatten(0, 1) for part in parts]), self.slot_N)

    def hidden(self) -> list[Tensor]:
        """Where a jet is smaller than the largest of its group."""
        return [number_GP < 0 for number_GP in self.numbers]

    def pairs(self) -> Pairs:
        """Every pair once."""
        return self._pairs

    def biases(self, x_EH: Tensor) -> list[Tensor]:
        """The same for a pair either way round."""
        out_QH = spread(x_EH, self.there_E, self.back_E, sum(self.areas))
        return [part.view(jets, size, size, -1).permute(0, 3, 1, 2).contiguous()
                for part, (jets, size) in zip(out_QH.split(self.areas), self.shapes, strict=True)]  # fmt: skip

    def in_order(self, x_BC: Tensor) -> Tensor:
        """Undo the order of size."""
        return x_BC.index_select(0, self.order_B.argsort())

    def _parts(self, x_MC: Tensor) -> list[Tensor]:
        parts = x_MC.split([jets * size for jets, size in self.shapes])
        return [part.view(*shape, -1) for part, shape in zip(parts, self.shapes, strict=True)]

    def _pair_up(self) -> tuple[Pairs, Tensor, Tensor]:
        found = []
        for number_GP, start in zip(self.numbers, accumulate(self.areas, initial=0), strict=False):
            real_GP, size = number_GP >= 0, number_GP.shape[1]
            jet_E, one_E, other_E = (real_GP[:, :, None] & real_GP[:, None, :]).tril().nonzero(as_tuple=True)
            row_E = start + jet_E * size * size
            found.append((number_GP[jet_E, one_E], number_GP[jet_E, other_E], row_E + one_E * size + other_E,
                          row_E + other_E * size + one_E))  # fmt: skip
        one_E, other_E, there_E, back_E = (torch.cat(one) for one in zip(*found, strict=True))
        return Pairs(one_E, other_E), there_E, back_E


@final
class Padded(Places):
    """With all padding, (B, P), in the order of the batch: no size depends on the mask."""

    def __init__(self, mask_BP: Tensor) -> None:
        self.mask_BP = mask_BP

    def split(self, x_BX: Tensor) -> Sequence[Tensor]:
        """All in one group."""
        return [x_BX]

    def flat(self, x_BPC: Tensor) -> Tensor:
        """Particles and padding."""
        return x_BPC.flatten(0, 1)

    def grouped(self, x_NC: Tensor) -> list[Tensor]:
        """The batch; what was made of padding is still there."""
        return [x_NC.unflatten(0, self.mask_BP.shape)]

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """Particles and padding."""
        return parts[0].flatten(0, 1)

    def hidden(self) -> list[Tensor]:
        """Where there is padding."""
        return [~self.mask_BP]

    def pairs(self) -> Pairs:
        """Either way round, and padding too."""
        jets, size = self.mask_BP.shape
        number_BP = torch.arange(jets * size, device=self.mask_BP.device).view(jets, size)
        return Pairs(
            *(one.expand(jets, size, size).flatten() for one in (number_BP[:, :, None], number_BP[:, None, :]))
        )

    def biases(self, x_EH: Tensor) -> list[Tensor]:
        """MASKED where either is padding."""
        jets, size = self.mask_BP.shape
        both_B1PP = (self.mask_BP[:, :, None] & self.mask_BP[:, None, :])[:, None]
        return [torch.where(both_B1PP, x_EH.unflatten(0, (jets, size, size)).permute(0, 3, 1, 2), MASKED)]

    def in_order(self, x_BC: Tensor) -> Tensor:
        """As it is."""
        return x_BC


@final
class Spread(torch.autograd.Function):
    """Numbers of pairs (E, H) to both their places of (Q, H), elsewhere MASKED: no sum over equal indices."""

    @staticmethod
    def forward(ctx: Any, x_EH: Tensor, there_E: Tensor, back_E: Tensor, places: int) -> Tensor:
        """(Q, H)."""
        ctx.save_for_backward(there_E, back_E)
        out_QH = x_EH.new_full((places, x_EH.shape[1]), MASKED)
        out_QH[there_E] = x_EH
        out_QH[back_E] = x_EH
        return out_QH

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope_QH: Tensor) -> tuple[Tensor, None, None, None]:
        """A pair's slope is the sum of those at both places, and a particle's with itself that of its one."""
        there_E, back_E = ctx.saved_tensors
        back_EH = slope_QH.index_select(0, back_E) * (there_E != back_E)[:, None]
        return back_EH + slope_QH.index_select(0, there_E), None, None, None


spread: Callable[[Tensor, Tensor, Tensor, int], Tensor] = Spread.apply


@final
class Taken(torch.autograd.Function):
    """Rows (N, C) of (M, C), none twice: so that the gradient needs no sum."""

    @staticmethod
    def forward(ctx: Any, x_MC: Tensor, index_N: Tensor) -> Tensor:
        """(N, C)."""
        ctx.save_for_backward(index_N)
        ctx.rows = len(x_MC)
        return x_MC.index_select(0, index_N)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope_NC: Tensor) -> tuple[Tensor, None]:
        """0 in rows that were not taken."""
        (index_N,) = ctx.saved_tensors
        slope_MC = slope_NC.new_zeros(ctx.rows, slope_NC.shape[1])
        slope_MC[index_N] = slope_NC
        return slope_MC, None


taken: Callable[[Tensor, Tensor], Tensor] = Taken.apply
