"""Running moments: what batch normalisation remembers of its batches in training, and normalises with afterwards."""

from __future__ import annotations

from torch import nn


class Running(nn.Module):
    """A layer whose own buffers, all of them, are running moments.

    A batch moves them by the share `momentum` of the way to its own moments. With None they are the plain mean over the
    batches since `seen` was last 0, as in torch's own layers: each layer counts for itself, for there are batches in
    which it has nothing to see.
    """

    momentum: float | None

    def __init__(self, momentum: float) -> None:
        super().__init__()
        self.momentum, self.seen = momentum, 0

    def _way(self) -> float:
        """The share of the way to the moments of one more batch."""
        self.seen += 1
        return 1.0 / self.seen if self.momentum is None else self.momentum
