"""Forward, backward, update: plain torch, or DeepSpeed with its ZeRO stages. The only file that knows DeepSpeed."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, final

import torch
from torch import Tensor, nn

from jetscale.data.feed import Step
from jetscale.errors import ConfigError, TrainError, nearest
from jetscale.keyed import mix
from jetscale.run import Optimiser, Run
from jetscale.train.loss import shares, weight_sums
from jetscale.train.moments import anew
from jetscale.train.optimiser import AVERAGE, MOMENTS, SLOW, optimiser_of, remembered
from jetscale.train.world import World

MASTER = "master"


class NotFiniteError(TrainError):
    """A loss, or the gradient of one, that is not finite."""


class Engine(ABC):
    """Holds the network and its optimiser, and makes steps."""

    net: nn.Module

    def __init__(self, run: Run, world: World) -> None:
        self.run, self.world = run, world
        self.dropped: dict[str, int] = {}  # steps in which a term had no weight at all
        self.moments: dict[str, Tensor] = {}  # `average/BUFFER`, once they are made, until the next update

    def step(self, step: Step) -> dict[str, float]:
        """One update from all micro-batches; the mean of every loss term over the whole step.

        Raises:
            NotFiniteError: a loss or a gradient that is not finite; the weights are then those of the step before.
        """
        self.moments = {}
        seeds = [_seed(self.run.seed, step.at.step, int(batch.lane_B[0])) for batch in step.micro]
        micro = [batch.to(self.world.device) for batch in step.micro]
        sums = weight_sums(self.run.task, micro, self.world)
        totals = torch.zeros(len(sums), dtype=torch.float64, device=self.world.device)
        for seed, batch in zip(seeds, micro, strict=True):
            _reseed(self.world.device, seed)
            terms = shares(self.run.task, self.net, batch, sums)
            self._backward(torch.stack(list(terms.values())).sum())
            totals += torch.stack([term.detach().double() for term in terms.values()])
        for term, weight in sums.items():
            self.dropped[term] = self.dropped.get(term, 0) + int(not weight)
        means = dict(zip(sums, self.world.sum(totals).tolist(), strict=True))
        if not all(math.isfinite(value) for value in means.values()):
            raise NotFiniteError(f"the loss of step {step.at.step} is not finite: {means}", where=self.run.system,
                                 cure="lower optimiser.rate, set optimiser.clip, or look for odd events")  # fmt: skip
        norm = self._update(rate_at(self.run.optimiser, step.at.fraction))
        if not math.isfinite(norm):
            raise NotFiniteError(f"the gradient of step {step.at.step} is not finite, though its loss is: {means}",
                                 where=self.run.system,
                                 cure="look for a root or a logarithm of 0 in the loss")  # fmt: skip
        return means

    @abstractmethod
    def _backward(self, share: Tensor) -> None:
        """Add the gradient of this worker's share of the loss."""

    @abstractmethod
    def _update(self, rate: float) -> float:
        """Change the weights by the gradient of the whole step, and forget it; its norm.

        A gradient that is not finite changes nothing.
        """

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """Parameters and buffers, whole, on the CPU. Collective: every worker must call it."""

    @abstractmethod
    def memory(self) -> Iterator[tuple[str, Tensor]]:
        """What the optimiser remembers of each parameter, whole, float32, on the CPU: (`exp_avg/NAME`, tensor).

        Collective: every worker must go through all of it. The names and shapes do not depend on the engine, its stage
        or the number of workers, so that any of them can go on from what another has saved.
        """

    @torch.no_grad()
    def agree(self) -> None:
        """Running statistics become their mean over the workers. Collective.

        Batch normalisation sees the rows of its own worker alone, and each has moments of its own. They move towards
        what is seen in steps that are linear, so that it does not matter how often workers agree. A buffer that is the
        same everywhere stays as it is: sums of so many equal float32 are exact in float64.
        """
        running = [buffer for buffer in self._module().buffers() if buffer.is_floating_point()]
        if self.world.size == 1 or not running:
            return
        sums = self.world.sum(torch.cat([buffer.double().flatten() for buffer in running]))
        means = (sums / self.world.size).split([buffer.numel() for buffer in running])
        for buffer, mean in zip(running, means, strict=True):
            buffer.copy_(mean.view_as(buffer))

    @contextmanager
    def averaged(self, steps: Iterable[Step] = ()) -> Iterator[None]:
        """Inside, the network has the averages of its weights, where the run keeps any. Collective.

        Its running moments are those that the averages have in some steps, which are not looked at if it has none; they
        stay in `moments`. Other buffers stay as they are, and so do parameters that no update has touched.
        """
        if not self.run.optimiser.ema:
            yield
            return
        averages = {name.removeprefix(f"{AVERAGE}/"): tensor for name, tensor in self._remembered((AVERAGE,))}
        own = self._exchange(averages)
        try:
            with anew(self._module()) as running:
                if running:
                    for step in steps:
                        self._see(step)
                    self.agree()
                self.moments = {f"{AVERAGE}/{name}": buffer.cpu().clone() for name, buffer in running.items()}
                yield
        finally:
            self._exchange(own)

    @torch.no_grad()
    def _see(self, step: Step) -> None:
        """Show the network a step as in training, with the same dropout, and learn nothing but moments."""
        for batch in step.micro:
            _reseed(self.world.device, _seed(self.run.seed, step.at.step, int(batch.lane_B[0])))
            self.run.task.loss(self.net, batch.to(self.world.device))

    @torch.no_grad()
    def _exchange(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Put whole parameters into the network; those that were there."""
        taken = {name: parameter for name, parameter in _trained(self._module()) if name in weights}
        own = {}
        with self._whole(list(taken.values())):
            for name, parameter in taken.items():
                own[name] = parameter.detach().clone()
                parameter.copy_(weights[name])
        return own

    @abstractmethod
    def _remembered(self, kinds: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        """Some kinds of what `memory` holds."""

    @abstractmethod
    def _module(self) -> nn.Module:
        """The network itself."""

    @abstractmethod
    def _whole(self, parameters: list[nn.Parameter]) -> AbstractContextManager[object]:
        """Inside, parameters are whole, and what is written to them stays."""

    @abstractmethod
    def remember(self, memory: Mapping[str, Tensor], steps: int) -> None:
        """Go on with what an optimiser remembered after so many steps; the weights are already in the network."""


@final
class TorchEngine(Engine):
    """Plain torch; several workers sum their gradients themselves."""

    def __init__(self, run: Run, net: nn.Module, world: World) -> None:
        super().__init__(run, world)
        self.net = net.to(world.device)
        self.optimiser = optimiser_of(net, run.optimiser)

    def _backward(self, share: Tensor) -> None:
        share.backward()

    def _update(self, rate: float) -> float:
        trained = [parameter for parameter in self.net.parameters() if parameter.grad is not None]
        if self.world.size > 1:
            summed = self.world.sum(torch.cat([parameter.grad.flatten() for parameter in trained]))  # type: ignore[union-attr]
            for parameter, part in zip(trained, summed.split([p.numel() for p in trained]), strict=True):
                parameter.grad = part.view_as(parameter)
        if self.run.optimiser.clip:
            norm = float(nn.utils.clip_grad_norm_(trained, self.run.optimiser.clip))
        else:
            norm = _norm(trained)
        if math.isfinite(norm):
            _set_rate(self.optimiser, rate)
            self.optimiser.step()
        self.optimiser.zero_grad()
        return norm

    def weights(self) -> dict[str, Tensor]:
        """Parameters and buffers."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self.net.state_dict().items()}

    def memory(self) -> Iterator[tuple[str, Tensor]]:
        """Both moments of every trained parameter; the same on every worker."""
        return self._remembered(remembered(self.run.optimiser))

    def _remembered(self, kinds: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        return _memory_of(self.optimiser, self.net, kinds)

    def _module(self) -> nn.Module:
        return self.net

    def _whole(self, parameters: list[nn.Parameter]) -> AbstractContextManager[object]:
        return nullcontext()

    def remember(self, memory: Mapping[str, Tensor], steps: int) -> None:
        """Both moments of every trained parameter."""
        _remind(self.optimiser, self.net, memory, steps)


@final
class DeepSpeedEngine(Engine):
    """DeepSpeed with ZeRO stage 0 to 3. Its accelerator says which device and backend there are."""

    def __init__(self, run: Run, net: nn.Module, world: World) -> None:
        super().__init__(run, world)
        import deepspeed

        self.deepspeed, self.optimiser, *_ = deepspeed.initialize(
            model=net,
            optimizer=optimiser_of(net, run.optimiser),
            config=deepspeed_settings(run),
            dist_init_required=False,
        )
        self.net = self.deepspeed
        if run.scale.stage:
            self._begin_memory()

    def _backward(self, share: Tensor) -> None:
        # DeepSpeed averages over the workers, our share belongs in a sum.
        self.deepspeed.backward(share * self.world.size, scale_wrt_gas=False)

    def _update(self, rate: float) -> float:
        _set_rate(self.optimiser, rate)
        if self.run.scale.stage == 0:
            # Nobody looks at these gradients; from stage 1 on DeepSpeed passes over the update without a word.
            own = torch.tensor(_norm(list(self.net.parameters())), device=self.world.device)
            norm = float(self.world.sum(own))
            if math.isfinite(norm):
                self.deepspeed.step()
            return norm
        self.deepspeed.step()
        norm = float(self.deepspeed.get_global_grad_norm())
        return norm if norm >= 0.0 else math.nan

    def weights(self) -> dict[str, Tensor]:
        """Parameters and buffers, gathered under ZeRO 3, float32."""
        import deepspeed

        module: nn.Module = self.deepspeed.module
        parameters = list(module.parameters())
        with deepspeed.zero.GatheredParameters(parameters, enabled=self.run.scale.stage == 3):
            state = {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}
        return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}

    def memory(self) -> Iterator[tuple[str, Tensor]]:
        """Both moments of every trained parameter, and its float32 master where training is in bf16."""
        masters = (MASTER,) if self.run.precision == "bf16" else ()
        return self._remembered((*remembered(self.run.optimiser), *masters))

    def _remembered(self, kinds: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        if self.run.scale.stage == 0:
            yield from _memory_of(self.optimiser, self._module(), kinds)
            return
        for name, parameter in _trained(self._module()):
            for kind in kinds:
                whole = (safe_get_full_fp32_param(parameter) if kind == MASTER
                         else safe_get_full_optimizer_state(parameter, kind))  # fmt: skip
                yield f"{kind}/{name}", whole.detach().cpu().clone()

    def _module(self) -> nn.Module:
        module: nn.Module = self.deepspeed.module
        return module

    def _whole(self, parameters: list[nn.Parameter]) -> AbstractContextManager[object]:
        import deepspeed

        gathered: AbstractContextManager[object] = deepspeed.zero.GatheredParameters(
            parameters, modifier_rank=0, enabled=self.run.scale.stage == 3
        )
        return gathered

    def remember(self, memory: Mapping[str, Tensor], steps: int) -> None:
        """Both moments and the masters: every worker takes the parts that it holds."""
        module: nn.Module = self.deepspeed.module
        if self.run.scale.stage == 0:
            _remind(self.optimiser, module, memory, steps)
            return
        for state in self.optimiser.optimizer.state.values():
            state["step"].fill_(steps)
        put = _put_sharded if self.run.scale.stage == 3 else _put_partitioned
        for name, parameter in _trained(module):
            # A parameter that no loss has touched has no moments with plain torch: zeros, as they are here already.
            for moment in remembered(self.run.optimiser) if f"{MOMENTS[0]}/{name}" in memory else ():
                put(parameter, memory[f"{moment}/{name}"].to(self.world.device), moment, self.world)
            if self.run.precision == "bf16":
                put(parameter, memory[f"{MASTER}/{name}"].to(self.world.device), None, self.world)

    def _begin_memory(self) -> None:
        """Make the moments that the first update would make, so that there is something to read and to fill.

        DeepSpeed 0.19 ties parameters to their moments within the first group's first update, when the other groups
        have none yet, and never again: with several groups nobody could get at them.
        """
        zero, sharded = self.optimiser, self.run.scale.stage == 3
        for flat in zero.fp32_partitioned_groups_flat if sharded else zero.single_partition_of_fp32_groups:
            empty = {moment: torch.zeros_like(flat) for moment in MOMENTS}
            like = {kind: flat.detach().clone() for kind in remembered(self.run.optimiser) if kind not in MOMENTS}
            zero.optimizer.state[flat] = {"step": torch.tensor(0.0), **empty, **like}
        if not sharded:
            zero._lazy_init_hp_params_optimizer_state()


def _trained(net: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in net.named_parameters() if parameter.requires_grad]


def _memory_of(optimiser: torch.optim.Optimizer, net: nn.Module, kinds: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
    """What a plain optimiser remembers; of a parameter that no loss has touched, nothing."""
    for name, parameter in _trained(net):
        for moment in kinds:
            if moment in optimiser.state.get(parameter, {}):
                yield f"{moment}/{name}", optimiser.state[parameter][moment].detach().cpu().clone()


def _remind(optimiser: torch.optim.Optimizer, net: nn.Module, memory: Mapping[str, Tensor], steps: int) -> None:
    for name, parameter in _trained(net):
        if f"{MOMENTS[0]}/{name}" in memory:
            moments = {moment: memory[f"{moment}/{name}"].to(parameter.device, copy=True)
                       for moment in (*MOMENTS, SLOW, AVERAGE) if f"{moment}/{name}" in memory}  # fmt: skip
            optimiser.state[parameter] = {"step": torch.tensor(float(steps)), **moments}


def _put_partitioned(parameter: nn.Parameter, whole: Tensor, moment: str | None, _: World) -> None:
    """ZeRO 1 and 2: this worker holds a stretch of the flattened parameters."""
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

    if moment:
        safe_set_full_optimizer_state(parameter, whole, moment)
    else:
        safe_set_full_fp32_param(parameter, whole)


def _put_sharded(parameter: nn.Parameter, whole: Tensor, moment: str | None, world: World) -> None:
    """ZeRO 3: this worker holds an equal part of every parameter, filled up with zeros at the end."""
    from deepspeed.utils import (
        safe_get_local_fp32_param,
        safe_get_local_optimizer_state,
        safe_set_local_fp32_param,
        safe_set_local_optimizer_state,
    )

    have = safe_get_local_optimizer_state(parameter, moment) if moment else safe_get_local_fp32_param(parameter)
    filled = torch.zeros(have.numel() * world.size, device=whole.device)
    filled[: whole.numel()] = whole.flatten()
    part = filled[world.rank * have.numel() :][: have.numel()]
    if moment:
        safe_set_local_optimizer_state(parameter, part, moment)
    else:
        safe_set_local_fp32_param(parameter, part)


def deepspeed_settings(run: Run) -> dict[str, Any]:
    """DeepSpeed's own configuration for a run.

    Everything that it would otherwise decide by itself is written out: it clips gradients at 1 unless told, and its
    counting of micro-batches cannot follow a short step.
    """
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": run.optimiser.clip,
        "zero_optimization": {"stage": run.scale.stage},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": run.precision == "bf16", "check_grad_overflow": True},
        "steps_per_print": 1 << 30,
    }


def start(run: Run, net: nn.Module, world: World) -> Engine:
    """The engine that the run asks for, around a network."""
    _freeze(net, run.freeze)
    if run.scale.engine == "torch":
        return TorchEngine(run, net, world)
    return DeepSpeedEngine(run, net, world)


def _freeze(net: nn.Module, prefixes: tuple[str, ...]) -> None:
    """Let only those parameters be trained whose names begin with none of the prefixes."""
    names = [name for name, _ in net.named_parameters()]
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            parts = {".".join(name.split(".")[:depth]) for name in names for depth in range(1, name.count(".") + 2)}
            raise ConfigError(f"no parameter begins with {prefix!r}", where="freeze", cure=nearest(prefix, parts))
    if prefixes and all(name.startswith(prefixes) for name in names):
        raise ConfigError(f"{list(prefixes)} leave nothing to train", where="freeze", cure="freeze less")
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(not (prefixes and name.startswith(prefixes)))


def ready_deepspeed() -> torch.device:
    """Prepare DeepSpeed in this process, on top of the process group there is; the device it will use."""
    os.environ.setdefault("LOCAL_SIZE", os.environ.get("LOCAL_WORLD_SIZE", "1"))
    import deepspeed
    import deepspeed.ops

    accelerator = deepspeed.accelerator.get_accelerator()
    on_cpu = accelerator.device_name() == "cpu"
    if on_cpu:
        # It would compile a shared-memory all-reduce that only its inference uses: minutes, and g++ needed.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    backend = "gloo" if on_cpu else accelerator.communication_backend_name()
    deepspeed.init_distributed(dist_backend=backend, auto_mpi_discovery=False)
    return torch.device("cpu") if on_cpu else torch.device(accelerator.current_device_name())


def rate_at(optimiser: Optimiser, fraction: float) -> float:
    """The learning rate when a share of the horizon is done: a function of the settings alone."""
    rise = optimiser.warm_up
    if optimiser.schedule == "constant":
        return optimiser.rate * min(1.0, fraction / rise if rise and fraction < rise else 1.0)
    if fraction < rise:
        low = 0.04 if optimiser.schedule == "one_cycle" else 0.0
        return optimiser.rate * (low + (1 - low) * (fraction / rise))
    return optimiser.rate * 0.5 * (1 + math.cos(math.pi * (fraction - rise) / (1 - rise)))


def _seed(seed: int, step: int, lane: int) -> int:
    """What torch's own generator starts a micro-batch from: dropout needs no memory of the steps before."""
    key = mix(mix(mix(torch.tensor([seed])) + step) + lane)
    return int(key.item()) & 0x7FFF_FFFF_FFFF


def _reseed(device: torch.device, seed: int) -> None:
    """Torch's generator of a device starts anew.

    `torch.manual_seed` does it for every kind of device, and notes the whole stack for those that are not in use: that
    alone took a twentieth of a small network's step.
    """
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _norm(parameters: Sequence[nn.Parameter]) -> float:
    return float(nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))


def _set_rate(optimiser: Any, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate


def load_weights(net: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Put saved weights into a network.

    Raises:
        TrainError: names or shapes that do not fit.
    """
    have = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    saved = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if have != saved:
        odd = sorted(name for name in have.keys() | saved.keys() if have.get(name) != saved.get(name))
        raise TrainError(f"the weights do not fit the network: {odd[0]} is {saved.get(odd[0], 'absent')}, "
                         f"not {have.get(odd[0], 'there')}", where=where,
                         cure="use the same network settings (width, layers, network)")  # fmt: skip
    net.load_state_dict(dict(weights))
