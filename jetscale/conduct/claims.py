"""What the talk says, judged by rules that were written down before anything was run.

A claim is a list of parts. Each part is a number with its error, formed so that the talk says it is above 0. It holds
where the number is above 0 by more than two errors, does not hold where it is below by as much, and is undecided
between; a part that only says "does not fall" holds unless it falls by more than two errors. A claim holds if all its
parts do, does not hold if one of them does not, and is undecided otherwise, or where nothing was run that it speaks of.
Errors are those of `table.combined`: resampled events and the deviation between seeds.

Sano, Montejo Berlingen, Nagano, Machine Learning at HEP, 10 January 2024; the slides are named with each claim.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from jetscale.conduct.table import Ranked, Row, combined, less, mean, over
from jetscale.evaluate.logs import Curves
from jetscale.metrics import Estimate
from jetscale.study import LOSSES, Setting

Verdict = Literal["holds", "does not hold", "undecided"]

DECIDED = 2.0  # errors
WINDOW = 0.9  # a median below this share of what it should be has left the window of f10
SATURATED = 0.995  # of the background lies below the signal: there is no further right to go
HELD_OUT = ("inside", "outside")  # places of masses that were not trained on, of the trained decay
WINDOWS = 5  # that a training is cut into, to see whether its end is its best


class Part(NamedTuple):
    """A number that the talk says is above 0; with `rises` False it must only not be below."""

    said: str
    estimate: Estimate
    rises: bool = True

    @property
    def verdict(self) -> Verdict:
        value, error = self.estimate
        if not (math.isfinite(value) and math.isfinite(error)):
            return "undecided"
        if value < -DECIDED * error:
            return "does not hold"
        return "holds" if value > DECIDED * error or not self.rises else "undecided"


class Claim(NamedTuple):
    """What the talk says, how it is judged, and what came out; `missing` says what was not run."""

    name: str
    said: str
    slide: int
    rule: str
    parts: tuple[Part, ...]
    missing: str = ""

    @property
    def verdict(self) -> Verdict:
        found = [part.verdict for part in self.parts]
        if "does not hold" in found:
            return "does not hold"
        return "holds" if found and not self.missing and all(one == "holds" for one in found) else "undecided"

    def values(self) -> dict[str, Any]:
        """Plain names and numbers, ready for JSON."""
        parts = [{"said": part.said, "verdict": part.verdict, "value": _plain(part.estimate.value),
                  "error": _plain(part.estimate.error)} for part in self.parts]  # fmt: skip
        return {"name": self.name, "said": self.said, "slide": self.slide, "rule": self.rule, "verdict": self.verdict,
                "missing": self.missing, "parts": parts}  # fmt: skip


def _plain(number: float) -> float | None:
    return float(f"{number:.6g}") if math.isfinite(number) else None


class Evidence(NamedTuple):
    """Everything that the claims are judged by, for one read-out and one kind of network.

    `top` is the heaviest mass that is trained on, and the one of "single"; `curves` are those of the label runs by
    setting and seed.
    """

    rows: Sequence[Row]
    ranks: Sequence[Ranked]
    curves: Mapping[tuple[str, int], Curves]
    readout: str
    network: str
    background_weight: float
    spread: Mapping[str, float]
    top: float

    def of(self, figure: str, **keys: Any) -> Estimate:
        """A figure of the rows with these keys (of several values, one of them), over seeds and samples."""
        wanted = {"readout": self.readout, "network": self.network, **keys}
        several = {key: value if isinstance(value, tuple) else (value,) for key, value in wanted.items()}
        found = [row for row in self.rows if all(getattr(row, key) in values for key, values in several.items())]
        return combined(found, figure, self.spread)

    def by_loss(self, figure: str, setting: Setting) -> Estimate:
        """A figure on the held-out masses, as the mean over both losses."""
        return mean([self.of(figure, place=HELD_OUT, loss=loss, **setting._asdict()) for loss in LOSSES])

    def by_setting(self, figure: str, loss: str) -> Estimate:
        """A figure on the held-out masses, as the mean over the three compositions."""
        return mean([self.of(figure, place=HELD_OUT, loss=loss, **one._asdict()) for one in self.settings])

    @property
    def above(self) -> tuple[str, ...]:
        """The hold-outs of the trained decay that are heavier than all that is trained on."""
        return tuple({row.sample: 0 for row in self.rows if row.place == "outside" and row.true_mass > self.top})

    @property
    def held_out(self) -> list[str]:
        """The hold-outs of the trained decay, by mass."""
        found = {row.sample: row.true_mass for row in self.rows if row.place in HELD_OUT}
        return sorted(found, key=lambda name: found[name])

    @property
    def weights(self) -> list[float]:
        """Background weights that mixed masses were trained with."""
        return sorted({row.weight for row in self.rows if row.masses == "mixed" and row.network == self.network})

    @property
    def settings(self) -> list[Setting]:
        """The three compositions of the six settings."""
        return [Setting("single"), Setting("mixed"), Setting("mixed", self.background_weight)]


def judge(evidence: Evidence) -> list[Claim]:
    """All six claims."""
    return [masses(evidence), background(evidence), order(evidence), losses(evidence), optimum(evidence),
            best_of_all(evidence)]  # fmt: skip


def masses(evidence: Evidence) -> Claim:
    """C1: one mass cannot reconstruct masses above it, several can."""
    parts = []
    for loss in LOSSES:
        for which, sign in (("single", -1), ("mixed", 1)):
            keys = {"loss": loss, "masses": which, "weight": 0.0}
            scale = over(evidence.of("median", sample=evidence.above, **keys),
                         evidence.of("median", place="trained", true_mass=evidence.top, **keys))  # fmt: skip
            where = f"below {WINDOW:g}" if sign < 0 else f"above {WINDOW:g}"
            parts.append(Part(f"{loss} loss, {which}: scale above the trained masses {_shown(scale)}, {where}",
                              Estimate(sign * (scale.value - WINDOW), scale.error)))  # fmt: skip
    return Claim("C1", "Trained on one mass, a network cannot reconstruct masses above it; trained on several, it can.",
                 5, "Scale: the median of reconstructed over true mass at hold-outs above all trained masses, over "
                 f"that at the heaviest trained mass. Single lies below {WINDOW:g} and mixed above, with both losses.",
                 tuple(parts) if evidence.above else (),
                 "" if evidence.above else "no hold-out lies above the trained masses")  # fmt: skip


def background(evidence: Evidence) -> Claim:
    """C2: background in the training moves it to the left of the signal, the more the larger its weight."""
    parts, figure = [], "relative_signal_position"
    for loss in LOSSES:
        at = {weight: evidence.of(figure, place=HELD_OUT, loss=loss, masses="mixed", weight=weight)
              for weight in evidence.weights}  # fmt: skip
        if len(at) < 2:
            continue
        low, high = min(at), max(at)
        parts.append(Part(f"{loss} loss: position rises from {_shown(at[low])} at weight {low:g} to {_shown(at[high])} "
                          f"at {high:g}", less(at[high], at[low])))  # fmt: skip
        parts += [Part(f"{loss} loss: it does not fall from weight {one:g} to {two:g}", less(at[two], at[one]), False)
                  for one, two in zip(evidence.weights, evidence.weights[1:], strict=False)
                  if at[one].value < SATURATED]  # fmt: skip
    return Claim("C2", "The relative signal position moves right as the weight of the background in training grows.", 6,
                 "Mean over the held-out masses: it rises from the smallest to the largest weight, and falls at no "
                 "weight between by more than two errors, until it is saturated.", tuple(parts),
                 "" if parts else "fewer than two weights were run")  # fmt: skip


def order(evidence: Evidence) -> Claim:
    """C3: a dense network gives trailing jets to no parent, an equivariant one does not know the order."""
    slopes = {network: _slope(evidence, network) for network in ("dense", "equivariant")}
    missing = [network for network, slope in slopes.items() if not math.isfinite(slope.value)]
    dense, alike = slopes["dense"], slopes["equivariant"]
    parts = () if missing else (
        Part(f"dense: probability of no parent rises by {_shown(dense)} per place in pt", dense),
        Part(f"more than twice as steeply as equivariant, {_shown(alike)}",
             Estimate(dense.value - 2 * alike.value, math.hypot(dense.error, 2 * alike.error))),
    )  # fmt: skip
    return Claim("C3", "A dense network learns not to use trailing jets; an equivariant one cannot.", 7,
                 "Slope of the mean probability of no parent against the place in pt, 1 to 12, of jets that do come "
                 "from a parent, in the decay with most quarks that was not trained on; label loss, mixed masses.",
                 parts, f"not run: {' and '.join(missing)}" if missing else "")  # fmt: skip


def _slope(evidence: Evidence, network: str) -> Estimate:
    """A line through the ranks, weighted by their errors, for every seed."""
    most = max((one.decay_mode for one in evidence.ranks), default=0)
    trained = {row.decay_mode for row in evidence.rows if row.place == "trained"}
    found = [one for one in evidence.ranks if one.network == network and one.setting == "label-mixed"
             and one.decay_mode == most and most not in trained]  # fmt: skip
    by_seed = {seed: [one for one in found if one.seed == seed] for seed in sorted({one.seed for one in found})}
    fits = [_line(some) for some in by_seed.values() if len(some) > 2]
    if not fits:
        return Estimate(math.nan, math.nan)
    values = [fit.value for fit in fits]
    between = float(np.std(values, ddof=1)) if len(values) > 1 else evidence.spread.get("slope", 0.0)
    return Estimate(float(np.mean(values)), math.hypot(mean(fits).error, between / math.sqrt(len(values))))


def _line(points: Sequence[Ranked]) -> Estimate:
    rank, value = np.array([one.rank for one in points], float), np.array([one.mean for one in points])
    weight = 1 / np.maximum([one.error for one in points], 1e-4) ** 2
    away = rank - np.average(rank, weights=weight)
    square = float(np.sum(weight * away**2))
    return Estimate(float(np.sum(weight * away * value)) / square, 1 / math.sqrt(square))


def losses(evidence: Evidence) -> Claim:
    """C4: the label loss puts more jets where they belong, the mass loss gives the better mass."""
    jets, peaks = ([evidence.by_setting(figure, loss) for loss in LOSSES] for figure in ("jet_accuracy", "f10"))
    parts = (Part(f"jets in the right group: label {_shown(jets[0])}, mass {_shown(jets[1])}", less(*jets)),
             Part(f"f10: mass {_shown(peaks[1])}, label {_shown(peaks[0])}", less(peaks[1], peaks[0])))  # fmt: skip
    return Claim("C4", "The label loss labels better, the mass loss reconstructs the mass better.", 8,
                 "Mean over the held-out masses and the three compositions: jet accuracy of label less mass, f10 of "
                 "mass less label.", parts)  # fmt: skip


def optimum(evidence: Evidence) -> Claim:
    """C5: while the label loss falls, the mass passes an optimum and gets worse."""
    falls = [fall for curves in evidence.curves.values() if (fall := _fall(curves)) is not None]
    if not falls:
        return Claim("C5", OPTIMUM, 8, OPTIMUM_RULE, (), "no label run was validated often enough")
    values = [fall.value for fall in falls]
    error = math.hypot(mean(falls).error, float(np.std(values, ddof=1)) if len(values) > 1 else 0.0)
    fall = Estimate(float(np.mean(values)), error / math.sqrt(len(values)))
    said = f"f10 of validation, best before the end less at the end, over {len(falls)} label runs"
    return Claim("C5", OPTIMUM, 8, OPTIMUM_RULE, (Part(said, fall),))


OPTIMUM = "In training with the label loss, the mass gets worse again as the loss goes on falling."
OPTIMUM_RULE = (
    f"f10 of the validations after the first tenth of a training, in {WINDOWS} windows: the best of all but the last "
    "less the last; over all label runs, with the deviation between them."
)


def _fall(curves: Curves) -> Estimate | None:
    """How much better the best window before the end is than the last one; None where there is too little to see."""
    step, value = curves.figures.get("f10", (np.zeros(0), np.zeros(0)))
    late = step > 0.1 * step.max(initial=0.0)
    if late.sum() < 2 * WINDOWS:
        return None
    parts = np.array_split(value[late], WINDOWS)
    seen = [Estimate(float(one.mean()), float(one.std(ddof=1) / math.sqrt(len(one)))) for one in parts]
    return less(max(seen[:-1]), seen[-1])


def best_of_all(evidence: Evidence) -> Claim:
    """C6: mixing sharpens the peak, background lowers the sculpting, mass loss with both is best of all."""
    single, mixed, both = evidence.settings
    f10 = [evidence.by_loss("f10", one) for one in (single, mixed)]
    area = [evidence.by_loss("mass_auc", one) for one in (mixed, both)]
    parts = [Part(f"mixed {_shown(f10[1])} against single {_shown(f10[0])} in f10", less(f10[1], f10[0])),
             Part(f"with background {_shown(area[1])} against {_shown(area[0])} in mass AUC", less(area[1], area[0])),
             *(_front(evidence, sample) for sample in evidence.held_out)]  # fmt: skip
    return Claim("C6", "Mixing sharpens the peak, background in the training sculpts less, and the mass loss with both "
                 "is best of all, methods without a network included.", 9,
                 "Mean over losses and held-out masses for the first two. Then, at every held-out mass: no other of "
                 "the six settings and no classical method is better in both f10 and mass AUC. The number is by how "
                 "many errors it is ahead, in the better of the two, of the method that it is least ahead of.",
                 tuple(parts))  # fmt: skip


def _front(evidence: Evidence, sample: str) -> Part:
    """Whether mass loss with signal and background is on the front of (mass AUC, f10) at one mass, in errors."""

    def at(**keys: Any) -> tuple[Estimate, Estimate]:
        return evidence.of("f10", sample=sample, **keys), evidence.of("mass_auc", sample=sample, **keys)

    *others, own = [(loss, setting) for loss in LOSSES for setting in evidence.settings]
    rivals = {f"{loss} loss, {one.kind}": at(loss=loss, **one._asdict()) for loss, one in others}
    rivals |= {row.method: at(method=row.method, readout="", network="") for row in evidence.rows if row.classical}
    ours = at(loss=own[0], **own[1]._asdict())
    ahead = {name: float(np.max([_sigmas(less(a, b)) for a, b in zip(ours, theirs, strict=True)]))
             for name, theirs in rivals.items()}  # fmt: skip
    # numpy lets NaN win: where one rival was not run, nothing is said.
    nearest = list(ahead)[int(np.argmin(list(ahead.values())))]
    return Part(f"{sample}: f10 {_shown(ours[0])} and mass AUC {_shown(ours[1])}, least ahead of {nearest} with "
                f"{_shown(rivals[nearest][0])} and {_shown(rivals[nearest][1])}; in errors",
                Estimate(ahead[nearest], 1.0))  # fmt: skip


def _sigmas(difference: Estimate) -> float:
    return difference.value / difference.error if difference.error > 0 else math.nan


def _shown(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ± {estimate.error:.3f}"
