"""Thresholds, and what they say of the numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import Field

from jetscale.config import Config, Values, build
from jetscale.errors import ConfigError, nearest

DECIDED = 2.0  # standard errors
LIKELY = 0.05  # a p-value above this decides nothing

State = Literal["pass", "fail", "undecided", "not formed", "off"]

# What each threshold is about, as it stands on the page.
WORDS = {
    "permutation": "order of the jets",
    "rotation": "rotation round the beam",
    "phi_reflection": "mirror that contains the beam",
    "eta_reflection": "exchange of the beams",
    "boost": "boost along the beam",
    "scale": "all energies times a number",
    "nearest_mass": "pull towards the nearest training mass",
    "interpolation": "loss at what is left out, inside the trained grid",
    "extrapolation": "loss at what is left out, outside the trained grid",
    "worst_transfer": "largest loss at anything that is left out",
    "spread": "spread between compositions over that between seeds",
    "one_class": "distance of a composition from the seeds of all",
    "influence": "change of the mean mass with the background weight",
}


class Thresholds(Config):
    """The largest values that pass; null switches one off.

    The mirrors and the boost are off by default: they are symmetries of the events, but a function that breaks them
    has not thereby learned its training mass.
    """

    permutation: float | None = Field(0.05, gt=0)
    rotation: float | None = Field(0.05, gt=0)
    phi_reflection: float | None = Field(None, gt=0)
    eta_reflection: float | None = Field(None, gt=0)
    boost: float | None = Field(None, gt=0)
    scale: float | None = Field(0.05, gt=0)
    nearest_mass: float | None = Field(0.05, gt=0, description="of the coefficient's size")
    interpolation: float | None = Field(0.1, gt=0)
    extrapolation: float | None = Field(0.2, gt=0)
    worst_transfer: float | None = Field(0.2, gt=0)
    spread: float | None = Field(2.0, gt=0, description="of F; 1 is no dependence on the composition")
    one_class: float | None = Field(None, gt=0, description="of the distance in its expected spread")
    influence: float | None = Field(0.1, gt=0)


class Verdict(NamedTuple):
    """What a threshold says of a number; `note` is what a reader should know beside it."""

    name: str
    state: State
    value: float = math.nan
    error: float = math.nan
    threshold: float | None = None
    note: str = ""


def judge(name: str, value: float, error: float, thresholds: Thresholds, *, p: float | None = None,
          note: str = "") -> Verdict:  # fmt: skip
    """A number fails that is larger in size than its threshold, and not so by chance.

    By chance is what lies within two standard errors of 0 or, where there is a p-value instead, at one above 0.05: that
    is undecided, and so is what has no error.
    """
    threshold: float | None = getattr(thresholds, name)
    state: State = "pass"
    if threshold is None:
        state = "off"
    elif abs(value) > threshold:
        certain = p < LIKELY if p is not None else abs(value) > DECIDED * error
        state = "fail" if certain else "undecided"
    return Verdict(name, state, value, error, threshold, note)


def not_formed(name: str, thresholds: Thresholds, note: str) -> Verdict:
    """A number that there is none of, with the reason."""
    threshold: float | None = getattr(thresholds, name)
    return Verdict(name, "off" if threshold is None else "not formed", threshold=threshold, note=note)


def changed(thresholds: Thresholds, said: Sequence[str]) -> Thresholds:
    """The thresholds with some of them set by `NAME=VALUE`, or switched off by `NAME=off`.

    Raises:
        ConfigError: no such threshold, or a value that is no positive number.
    """
    changes: Values = {}
    for one in said:
        name, _, value = (part.strip() for part in one.partition("="))
        if name not in Thresholds.model_fields:
            raise ConfigError(f"no threshold {name!r}", where="--threshold",
                              cure=nearest(name, Thresholds.model_fields))  # fmt: skip
        try:
            changes[name] = None if value == "off" else float(value)
        except ValueError:
            raise ConfigError(f"{one!r} is not NAME=NUMBER", where="--threshold",
                              cure=f"write --threshold {name}=0.1, or {name}=off") from None  # fmt: skip
    return build(Thresholds, {**thresholds.values(), **changes}, "--threshold")


def failed(verdicts: Sequence[Verdict]) -> list[str]:
    """The names of those that fail."""
    return [verdict.name for verdict in verdicts if verdict.state == "fail"]
