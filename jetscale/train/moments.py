"""The running moments of averaged weights, which are not those of the weights that were trained.

Batch normalisation after other weights sees other numbers: averaged weights need moments of their own, made with them
(Izmailov et al., arXiv:1803.05407). An average of the moments would not do: it is of numbers that many networks saw.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from jetscale.nn.running import Running

STEPS = 40  # the last ones of the training, in which they are made: of 256 jets each they are 10 000 jets


@contextmanager
def anew(net: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Inside, a network's running moments are the plain mean of what is seen there in training mode.

    They are given by their names in the network; a layer that sees nothing keeps its own. Afterwards all are what they
    were, bit for bit. Layers are those of `Running` and torch's own.

    The layers form the mean themselves: it could also be had from the moments before and after each batch, but only to
    within the rounding of a difference, and nothing would tell a batch that a layer has passed over.
    """
    layers = {name: layer for name, layer in net.named_modules() if isinstance(layer, Running | _BatchNorm)}
    buffers = {name: buffer for place, layer in layers.items() for name, buffer in layer.named_buffers(place, False)}
    own = [buffer.clone() for buffer in buffers.values()]
    momenta = [layer.momentum for layer in layers.values()]
    for layer in layers.values():
        layer.momentum = None
        if isinstance(layer, Running):
            layer.seen = 0
        elif layer.num_batches_tracked is not None:
            layer.num_batches_tracked.zero_()
    try:
        yield {name: buffer for name, buffer in buffers.items() if buffer.is_floating_point()}
    finally:
        for layer, momentum in zip(layers.values(), momenta, strict=True):
            layer.momentum = momentum
        for buffer, before in zip(buffers.values(), own, strict=True):
            buffer.copy_(before)
