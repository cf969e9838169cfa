"""The study's tables, claims, pictures and page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jetscale.conduct import claims, table
from jetscale.conduct.claims import Evidence
from jetscale.conduct.figures import Drawn, draw
from jetscale.conduct.page import render
from jetscale.conduct.scores import Method, scored_place
from jetscale.conduct.table import Ranked, Row
from jetscale.evaluate.logs import Curves, curves
from jetscale.events import Events, write_text
from jetscale.metrics import Floats
from jetscale.study import LOSSES, Found, Size, Study, Training

TABLE, RANKS, CLAIMS, PAGE = "study.parquet", "ranks.parquet", "claims.json", "index.html"


def write(study: Study, size: Size, out: Path, found: Mapping[str, Found], rows: Sequence[Row],
          ranks: Sequence[Ranked], folders: Mapping[Training, Path]) -> Path:  # fmt: skip
    """Write everything that the rows amount to; the page's path."""
    table.write(rows, out / TABLE)
    pq.write_table(pa.Table.from_pylist([one._asdict() for one in ranks]), out / RANKS)
    learning = {point: curves(folder) for point, folder in folders.items()}
    seen = {readout: _evidence(study, size, found, rows, ranks, learning, readout) for readout in study.readouts}
    judged = {readout: claims.judge(one) for readout, one in seen.items()}
    write_text(out / CLAIMS, json.dumps({readout: [claim.values() for claim in some]
                                         for readout, some in judged.items()}, indent=1) + "\n")  # fmt: skip
    first = seen[study.readouts[0]]
    drawn = Drawn(first, study.readouts, _masses(out, study, first), _trained(study, found), learning,
                  study.mass_starts == "label")  # fmt: skip
    write_text(out / PAGE, render(study, size, found, first, judged, draw(drawn, out / "figures")))
    return out / PAGE


def _evidence(study: Study, size: Size, found: Mapping[str, Found], rows: Sequence[Row], ranks: Sequence[Ranked],
              learning: Mapping[Training, Curves], readout: str) -> Evidence:  # fmt: skip
    network = size.networks[0]
    labels = {(point.setting, point.seed): one for point, one in learning.items()
              if point.loss == "label" and point.network == network}  # fmt: skip
    top = max(found[name].true_mass for name in study.signals("single"))
    return Evidence(rows, ranks, labels, readout, network, study.background_weight, study.seed_spread, top)


def _trained(study: Study, found: Mapping[str, Found]) -> dict[str, list[float]]:
    return {masses: [found[name].true_mass for name in study.signals(masses)] for masses in ("single", "mixed")}


def _masses(out: Path, study: Study, evidence: Evidence) -> dict[tuple[str, str], tuple[Floats, Floats]]:
    """Masses and weights of the six settings on the signals of trained decays, of the first seed."""
    signals = {row.sample for row in evidence.rows if row.place != "decay"}
    seed = min(row.seed for row in evidence.rows if not row.classical)
    wanted = [(loss, setting, sample) for loss in LOSSES for setting in evidence.settings for sample in signals]
    return {(setting.named(loss), sample): _mass(out, Training(loss, *setting, evidence.network, seed), study, sample)
            for loss, setting, sample in wanted}  # fmt: skip


def _mass(out: Path, point: Training, study: Study, sample: str) -> tuple[Floats, Floats]:
    place = scored_place(out, Method(point.name, point, study.readouts[0]), sample)
    scored = Events.open(place).read(["reco_mass", "weight"])
    return scored["reco_mass"].to_numpy().astype(np.float64), scored["weight"].to_numpy()
