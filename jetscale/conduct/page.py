"""The study's page: claims with their verdicts first, then the pictures, then the numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from jetscale.conduct.claims import Claim, Evidence
from jetscale.evaluate.figures import Picture
from jetscale.evaluate.page import HEADINGS, PERCENT, Cell, template, versions
from jetscale.metrics import Estimate
from jetscale.study import Found, Size, Study

COLOURS = {"holds": "holds", "does not hold": "not", "undecided": "open"}
USED = {"trained": "trained on", "inside": "hold-out, inside", "outside": "hold-out, outside",
        "decay": "hold-out, decay"}  # fmt: skip


def render(study: Study, size: Size, found: Mapping[str, Found], evidence: Evidence,
           judged: Mapping[str, Sequence[Claim]], pictures: Sequence[Picture]) -> str:  # fmt: skip
    """The whole page as text."""
    places = {row.sample: row.place for row in evidence.rows}
    held = {row.sample: row.n for row in evidence.rows}
    text = template("study.html.j2", Path(__file__).parent).render(
        name=" ".join(study.sizes), sentence=sentence(judged), judged=_together(judged), colours=COLOURS,
        number=_number, pictures=pictures, trainings=len(study.trainings(size)), events=sum(held.values()),
        seeds=_seeds(study, size), headings=list(HEADINGS.values()), tables=_tables(evidence, study.readouts),
        samples=[(name, one, USED.get(places.get(name, ""), "background")) for name, one in found.items()],
        settings=study.to_yaml(), versions=versions(),
    )  # fmt: skip
    return text


def sentence(judged: Mapping[str, Sequence[Claim]]) -> str:
    """What has come out, in one or two sentences."""
    said = []
    for readout, claims in judged.items():
        names = {word: [claim.name for claim in claims if claim.verdict == word] for word in COLOURS}
        parts = [f"{_listed(some)} {_verb(word, len(some))}" for word, some in names.items() if some]
        said.append(f"With the read-out {readout}, {'; '.join(parts)}.")
    return " ".join(said)


def _listed(names: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def _verb(word: str, number: int) -> str:
    if word == "undecided":
        return "are undecided" if number > 1 else "is undecided"
    return word if number == 1 else {"holds": "hold", "does not hold": "do not hold"}[word]


def _together(judged: Mapping[str, Sequence[Claim]]) -> list[list[tuple[str, Claim]]]:
    """Every claim with its read-outs; one that no read-out changes stands once."""
    found = []
    for claims in zip(*judged.values(), strict=True):
        named = list(zip((f"read-out {one}" for one in judged), claims, strict=True))
        alike = all(claim.values() == claims[0].values() for claim in claims)
        found.append([("", claims[0])] if alike else named)
    return found


def _number(one: Estimate) -> str:
    return f"{one.value:+.3f} ± {one.error:.3f}" if math.isfinite(one.value) else "-"


def _seeds(study: Study, size: Size) -> str:
    if len(size.seeds) > 1:
        return f"Errors are those of resampled events and of the deviation between {len(size.seeds)} seeds."
    taken = ", ".join(f"{name} {value:g}" for name, value in study.seed_spread.items())
    if not taken:
        return "One seed was trained: errors are those of resampled events alone."
    return (f"One seed was trained: to the errors of resampled events comes a deviation between seeds that was "
            f"measured before ({taken}).")  # fmt: skip


def _tables(evidence: Evidence, readouts: Sequence[str]) -> list[tuple[str, list[tuple[str, list[Cell]]]]]:
    """Every hold-out with a row for each method and read-out."""
    tables = []
    order = sorted({row.sample: row for row in evidence.rows if row.place != "trained"}.values(),
                   key=lambda row: (row.place == "decay", row.true_mass))  # fmt: skip
    for sample in order:
        rows = []
        for name, keys in _methods(evidence, readouts):
            figures = {figure: evidence.of(figure, sample=sample.sample, **keys) for figure in HEADINGS}
            rows.append((name, [_cell(figure, one) for figure, one in figures.items()]))
        tables.append((f"{sample.sample}: {USED[sample.place]}, {sample.n:,} events", rows))
    return tables


def _methods(evidence: Evidence, readouts: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """Names, and the keys of their rows."""
    networks = dict.fromkeys((row.method, row.network) for row in evidence.rows if not row.classical)
    found: list[tuple[str, dict[str, str]]] = [
        (f"{method}, {network}, {readout}", {"method": method, "network": network, "readout": readout})
        for method, network in networks for readout in readouts
    ]  # fmt: skip
    classical = dict.fromkeys(row.method for row in evidence.rows if row.classical)
    return [*found, *((name, {"method": name, "network": "", "readout": ""}) for name in classical)]


def _cell(name: str, one: Estimate) -> Cell:
    if not math.isfinite(one.value):
        return Cell("-", "")
    factor, digits, unit = (100, 1, " %") if name in PERCENT else (1, 3, "")
    error = f"± {factor * one.error:.{digits}f}" if math.isfinite(one.error) else ""
    return Cell(f"{factor * one.value:.{digits}f}{unit}", error)
