"""What a network on images sees: the mean image of every class, and how much of the jets is in none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor

from jetscale.evaluate.compare import Scored
from jetscale.evaluate.figures import panels
from jetscale.evaluate.score import looked_at
from jetscale.metrics import Floats
from jetscale.tagger import Pictures, Tagger

JETS = 1000  # of each sample that are looked at
DECADES = 4  # of brightness that are told apart
IMAGES = (
    f"Mean images of the first {JETS:,} jets of every sample at most, a row for each run and each part of its images. "
    f"The panels of a row have one logarithmic scale over {DECADES} decades, and what is darker is black. Said above "
    "is which share of the jets' pt lies outside of the image, where the network does not see it."
)


class Mean(NamedTuple):
    """The mean image of a class, (C, N, N), the mean share of pt outside, and of how many jets."""

    image_CNN: Floats
    outside: float
    jets: int


class Seen(NamedTuple):
    """What a run's network sees of every class that has jets; `reach` and `parts` are those of `Pictures`."""

    classes: Mapping[str, Mean]
    reach: float
    parts: Sequence[str]

    def numbers(self) -> dict[str, Any]:
        """As JSON."""
        return {name: {"outside": one.outside, "jets": one.jets} for name, one in self.classes.items()}


def seen(scored: Sequence[Scored]) -> dict[str, Seen]:
    """The mean images of every run whose network looks at some, by run; of one run alone, not of folds."""
    found = {}
    for run in dict.fromkeys(one.run_name for one in scored):
        if (one := _of_run([one for one in scored if one.run_name == run])) is not None:
            found[run] = one
    return found


def _of_run(samples: Sequence[Scored]) -> Seen | None:
    """All samples together: a class may have one of its own."""
    parts: list[tuple[Pictures, Tensor, Tensor]] = []
    for one in samples:
        if one.run_dir is None:
            return None
        run, _, batch = looked_at(one.run_dir, one.events, JETS)
        pictures = run.task.pictures(batch) if isinstance(run.task, Tagger) else None
        if not isinstance(run.task, Tagger) or pictures is None:
            return None
        parts.append((pictures, run.task.class_of(batch), batch["weight"]))
        names = list(run.task.classes)
    every, class_B, weight_B = zip(*parts, strict=True)
    whole = every[0]._replace(image_BCNN=torch.cat([one.image_BCNN for one in every]),
                              outside_B=torch.cat([one.outside_B for one in every]))  # fmt: skip
    return means(whole, torch.cat(class_B), torch.cat(weight_B), names)


def means(pictures: Pictures, class_B: Tensor, weight_B: Tensor, names: Sequence[str]) -> Seen:
    """Weighted means over the jets of every class (B); a class whose weights add up to nothing has none."""
    classes = {}
    for number, name in enumerate(names):
        rows_X = (class_B == number).nonzero()[:, 0]
        weight_X = weight_B[rows_X].double()
        if (total := float(weight_X.sum())) > 0:
            image_XCNN = pictures.image_BCNN[rows_X].double()
            image_CNN = torch.tensordot(weight_X / total, image_XCNN, 1).numpy()
            outside = float(weight_X @ pictures.outside_B[rows_X].double()) / total
            classes[name] = Mean(image_CNN, outside, len(rows_X))
    return Seen(classes, pictures.reach, pictures.parts)


def drawn(found: Mapping[str, Seen]) -> Figure:
    """A panel for each class, in a row for each run and part."""
    across = max(1, *(len(one.classes) for one in found.values()))
    rows = [(run, one, part) for run, one in found.items() for part in range(len(one.parts))]
    figure, axes = panels(across * len(rows), width=3.6, height=3.5, columns=across)
    for number, (run, one, part) in enumerate(rows):
        top = max([float(mean.image_CNN[part].max()) for mean in one.classes.values()] or [0.0]) or 1.0
        row = axes[number * across : (number + 1) * across]
        for ax, (name, mean) in zip(row, one.classes.items(), strict=False):
            said = f"{run}: {name}" if len(one.parts) == 1 else f"{run}: {name}, {one.parts[part]}"
            _image(ax, mean.image_CNN[part], one.reach, top)
            ax.set_title(f"{said}\n{100 * mean.outside:.2g} % outside")
        for ax in row[len(one.classes) :]:
            ax.set_axis_off()
    return figure


def _image(ax: Axes, image_NN: Floats, reach: float, top: float) -> None:
    least = top / 10**DECADES
    # The first axis of an image is pseudorapidity, which goes to the right.
    ax.imshow(np.maximum(image_NN.T, least), origin="lower", extent=(-reach, reach, -reach, reach), cmap="magma",
              norm=LogNorm(least, top))  # fmt: skip
    ax.set(xlabel="(pseudo)rapidity", ylabel="azimuth [rad]")
    ax.grid(False)
