"""The optimisers: AdamW and RAdam, and for either a look ahead and averages of the weights.

Each keeps all that it remembers per parameter, in tensors of its shape: DeepSpeed can shard it, a checkpoint hold it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from jetscale.run import Optimiser

MOMENTS = ("exp_avg", "exp_avg_sq")
SLOW, AVERAGE = "slow", "average"


def remembered(optimiser: Optimiser) -> tuple[str, ...]:
    """The names of what is kept of every parameter."""
    more = {SLOW: optimiser.lookahead, AVERAGE: optimiser.ema}
    return (*MOMENTS, *(name for name, wanted in more.items() if wanted))


def optimiser_of(net: nn.Module, optimiser: Optimiser) -> torch.optim.Optimizer:
    """AdamW (Loshchilov, Hutter, arXiv:1711.05101) or RAdam (Liu et al., arXiv:1908.03265) on a network's parameters.

    With `lookahead` the weights are pulled back, every so many steps, half of the way to where they were after the last
    such step (Zhang, Lucas, Hinton, Ba, arXiv:1907.08610). With `ema` their exponential average over the updates is
    kept beside them (Polyak, Juditsky, SIAM J. Control Optim. 30 (1992) 838); the updates know nothing of it.
    """
    more: dict[str, Any] = {"lr": optimiser.rate, "betas": optimiser.betas, "eps": optimiser.eps}
    parameters = groups(net, optimiser)
    if optimiser.kind == "adamw":
        return AdamW(parameters, optimiser.lookahead, optimiser.ema, **more)
    return RAdam(parameters, optimiser.lookahead, optimiser.ema, **more, decoupled_weight_decay=True)


def groups(net: nn.Module, optimiser: Optimiser) -> list[dict[str, Any]]:
    """Two groups of parameters: matrices, which decay, and biases and norms, which do not."""
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.ndim > 1]
    others = [parameter for parameter in trained if parameter.ndim <= 1]
    both = [{"params": matrices, "weight_decay": optimiser.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in both if group["params"]]


class AdamW(torch.optim.AdamW):
    """AdamW with slow weights and averages that are remembered beside its moments."""

    def __init__(self, params: list[dict[str, Any]], every: int, ema: float, **more: Any) -> None:
        self.every, self.ema = every, ema
        super().__init__(params, **more)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update."""
        before = fresh(self) if self.every else {}
        loss: float | None = super().step(closure)
        follow(self, self.every, before, self.ema)
        return loss


class RAdam(torch.optim.RAdam):
    """RAdam with slow weights and averages that are remembered beside its moments."""

    def __init__(self, params: list[dict[str, Any]], every: int, ema: float, **more: Any) -> None:
        self.every, self.ema = every, ema
        super().__init__(params, **more)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update."""
        before = fresh(self) if self.every else {}
        loss: float | None = super().step(closure)
        follow(self, self.every, before, self.ema)
        return loss


def follow(optimiser: torch.optim.Optimizer, every: int, before: dict[torch.Tensor, torch.Tensor], ema: float) -> None:
    """What comes after an update: the look back first, so that the weights that are averaged are those that stay."""
    if every:
        look_back(optimiser, every, before)
    if ema:
        average(optimiser, ema)


def fresh(optimiser: torch.optim.Optimizer) -> dict[torch.Tensor, torch.Tensor]:
    """Copies of the parameters that have no slow weights yet: optimisers make moments only where there is no state."""
    return {one: one.detach().clone() for group in optimiser.param_groups for one in group["params"]
            if one.grad is not None and SLOW not in optimiser.state.get(one, {})}  # fmt: skip


def look_back(optimiser: torch.optim.Optimizer, every: int, before: dict[torch.Tensor, torch.Tensor]) -> None:
    """Every so many of a parameter's own steps, both its weights and the slow ones go to the middle between them."""
    for group in optimiser.param_groups:
        for one in group["params"]:
            if not (state := optimiser.state.get(one)):
                continue
            slow = state.setdefault(SLOW, before.get(one))
            if int(state["step"]) % every == 0:
                slow.lerp_(one, 0.5)
                one.copy_(slow)


def average(optimiser: torch.optim.Optimizer, ema: float) -> None:
    """Every updated parameter's average takes its new weights in.

    After n updates to w_1 ... w_n it is sum_k ema^(n-k) w_k / sum_k ema^(n-k): what the weights were before the first
    update has no share in it.
    """
    for group in optimiser.param_groups:
        for one in group["params"]:
            if one.grad is None or not (state := optimiser.state.get(one)):
                continue
            if AVERAGE not in state:
                state[AVERAGE] = one.detach().clone()
            state[AVERAGE].lerp_(one, (1.0 - ema) / (1.0 - ema ** int(state["step"])))
