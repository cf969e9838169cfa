"""Event displays: the jets of one event in eta and phi, coloured by group, by truth, network and classical method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jetscale.evaluate.compare import TRUTH, Sample
from jetscale.evaluate.figures import FAINT, INK, Picture, panels, picture, styled
from jetscale.evaluate.results import Results, label
from jetscale.metrics import Bools
from jetscale.physics import kinematics

GROUPS = {0: "#d1d5db", 1: "#7b3fa0", 2: "#e69f00"}
WRONG = "#dc2626"


def displays(results: Results, out: Path) -> list[Picture]:
    """Three events, the first by event id of each kind: the first run right, the first run wrong, background."""
    run = results.runs[0]
    signals, background = results.of_kind("signal"), results.of_kind("background")
    wanted = [
        ("right", f"An event that {run} has right", [(one, _right(one, run)) for one in signals]),
        ("wrong", f"An event that {run} has wrong", [(one, _wrong(one, run)) for one in signals]),
        ("background", "A background event", [(one, np.ones(len(one), dtype=bool)) for one in background]),
    ]
    pictures = []
    for name, title, candidates in wanted:
        found = next(((sample, int(np.flatnonzero(rows_B)[0])) for sample, rows_B in candidates if rows_B.any()), None)
        if found is None:
            continue
        sample, row = found
        with styled():
            figure = display(sample, row, [run, *results.classical[:1]])
            pictures.append(picture(f"display-{name}", title, _caption(sample, row), figure, out))
    return pictures


def _right(sample: Sample, run: str) -> Bools:
    """All jets known, both groups there and all right."""
    known_BJ = sample.known
    every_B = (known_BJ == sample.mask_BJ).all(-1) & (sample.label_BJ == 1).any(-1) & (sample.label_BJ == 2).any(-1)
    return np.asarray((every_B & (sample.right(run) == known_BJ).all(-1)).numpy())


def _wrong(sample: Sample, run: str) -> Bools:
    """Some jet wrong, and the mass off by more than 10 %."""
    some_B = (sample.known & ~sample.right(run)).any(-1).numpy()
    off_B = np.abs(sample.methods[run].mass_B / sample.true_mass_B - 1) > 0.1
    return np.asarray(some_B & off_B)


def _caption(sample: Sample, row: int) -> str:
    true = f"true mass {sample.true_mass_B[row]:.0f} GeV" if sample.true_mass_B[row] > 0 else "no true mass"
    return f"Event {sample.event_id_B[row]} of {sample.name}, {true}."


def display(sample: Sample, row: int, methods: Sequence[str]) -> Figure:
    """One event as the truth and some methods group it, side by side."""
    shown = [method for method in (TRUTH, *methods) if method in sample.methods]
    figure, axes = panels(len(shown), width=3.5, height=3.3)
    for method, ax in zip(shown, axes, strict=True):
        _panel(ax, sample, row, method)
        ax.set(title=f"{label(method)}: {sample.methods[method].mass_B[row]:.0f} GeV", xlabel="eta")
    axes[0].set_ylabel("phi")
    names = {1: "group 1", 2: "group 2", 0: "in no group"}
    handles = [Line2D([], [], marker="o", ls="", ms=8, mfc=GROUPS[group], mec=INK, mew=0.6, label=name)
               for group, name in names.items()]  # fmt: skip
    handles.append(Line2D([], [], marker="o", ls="", ms=9, mfc="none", mec=WRONG, mew=1.8, label="not as in truth"))
    figure.legend(handles=handles, loc="outside upper left", ncols=4)
    return figure


def _panel(ax: Axes, sample: Sample, row: int, method: str) -> None:
    real_J = sample.mask_BJ[row]
    p4_J4 = sample.p4_BJ4[row][real_J]
    eta, phi = kinematics.eta(p4_J4).numpy(), kinematics.phi(p4_J4).numpy()
    area = kinematics.pt(p4_J4).numpy() * 0.9
    groups = sample.methods[method].assigned_BJ[row][real_J].tolist()
    wrong = (sample.known & ~sample.right(method))[row][real_J].numpy()
    ax.scatter(eta, phi, s=area, c=[GROUPS[group] for group in groups], edgecolors=INK, linewidths=0.6, alpha=0.9)
    ax.scatter(eta[wrong], phi[wrong], s=area[wrong] + 90, facecolors="none", edgecolors=WRONG, linewidths=1.8)
    ax.set(xlim=(-3.2, 3.2), ylim=(-1.12 * math.pi, 1.12 * math.pi))
    ax.set_yticks([-math.pi, 0, math.pi], ["-π", "0", "π"])
    ax.axhline(math.pi, color=FAINT, lw=0.6, ls=":")
    ax.axhline(-math.pi, color=FAINT, lw=0.6, ls=":")
