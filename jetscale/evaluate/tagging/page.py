"""The page of the report on taggers: one HTML file that needs nothing beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from jetscale.evaluate.figures import Picture
from jetscale.evaluate.page import Foot, template, versions
from jetscale.evaluate.tagging.figures import colour
from jetscale.evaluate.tagging.results import Jets, Network, rejections
from jetscale.metrics import Bootstrap, Estimate
from jetscale.tagging import Rejection

HERE = Path(__file__).parent


def render(found: Jets, boot: Bootstrap, known: Mapping[str, Network], pictures: Sequence[Picture], foot: Foot) -> str:
    """The whole page as text."""
    plain = [name for name in next(iter(boot.values.values())) if "rejection" not in name]
    cuts = {run: rejections(found, run) for run in found.runs}
    rows = [(run, colour(found, run), known.get(run), [_share(boot.estimate(run, name)) for name in plain]
             + [_rejection(one) for one in cuts[run].values()]) for run in found.runs]  # fmt: skip
    first, *others = found.runs
    against = [(run, [_share(boot.difference(run, first, name), "+") for name in plain]) for run in others]
    return template("tagging.html.j2", HERE).render(
        runs=found.runs, classes=found.classes, background=next(iter(found.classes)), plain=plain,
        cuts=list(cuts[first]), rows=rows, first=first, against=against, jets=len(found), unknown=found.unknown,
        left_out=found.left_out, pictures=pictures, foot=foot, versions=versions(),
        longest=max([*foot.wall.values(), 1e-9]),
    )  # fmt: skip


def _share(one: Estimate, sign: str = "") -> tuple[str, str]:
    if not math.isfinite(one.value):
        return "-", ""
    return f"{one.value:{sign}.4f}", f"± {max(one.error, 1e-4):.4f}" if math.isfinite(one.error) else ""


def _rejection(one: Rejection) -> tuple[str, str]:
    if not math.isfinite(one.value):
        return "-", ""
    return (f"> {one.value:.3g}", "lower bound") if one.bound else (f"{one.value:.4g}", f"± {one.error:.2g}")
