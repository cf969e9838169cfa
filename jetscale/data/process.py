"""What is generated: the processes that jetscale knows, and the job that asks for one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from jetscale.config import Config, Values, digest
from jetscale.data.truth import Jets

Name = Literal["gluino_direct", "gluino_cascade", "squark_cascade", "stop_direct", "qcd"]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
Quark = Annotated[int, Field(ge=-5, le=5)]

GLUINO, NEUTRALINO, SUP, STOP = 1000021, 1000022, 1000002, 1000006


@dataclass(frozen=True)
class Signal:
    """Pair production of one parent, which decays to quarks, directly or by way of a neutralino.

    `quarks` are the PDG ids of the decay that breaks R-parity, `quarks_before` counts those of the step before it.
    """

    parent: int
    name: str
    charge_3: int  # in units of a third of the positron's
    production: tuple[str, ...]
    quarks: tuple[int, ...]
    quarks_before: int = 0

    @property
    def cascade(self) -> bool:
        return self.quarks_before > 0


_GLUINOS = ("SUSY:gg2gluinogluino", "SUSY:qqbar2gluinogluino")
_SQUARKS = ("SUSY:gg2squarkantisquark", "SUSY:qqbar2squarkantisquark")

SIGNALS: Mapping[str, Signal] = MappingProxyType(
    {
        "gluino_direct": Signal(GLUINO, "gluino", 0, _GLUINOS, quarks=(2, 1, 3)),
        "gluino_cascade": Signal(GLUINO, "gluino", 0, _GLUINOS, quarks=(2, 1, 3), quarks_before=2),
        "squark_cascade": Signal(SUP, "squark", 2, _SQUARKS, quarks=(2, 1, 3), quarks_before=1),
        "stop_direct": Signal(STOP, "stop", 2, _SQUARKS, quarks=(-1, -3)),
    }
)


class Selection(Config):
    """Which events are kept, by their jets: `jets` of them above `pt`, and a scalar sum of pt above `ht`."""

    jets: Count = 6
    pt: Positive = 50.0  # GeV
    ht: Positive = 1200.0  # GeV


class GenerateJob(Config):
    """A sample to be made: what stands under `generate:` in its YAML file. Masses and energies in GeV."""

    rows_are: ClassVar[str] = "events"

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    process: Name
    mass: Positive | None = None  # of the pair-produced parents
    neutralino_mass: Positive | None = None  # in cascades
    quarks: Annotated[tuple[Quark, ...], Field(min_length=1)] | None = (
        None  # of the R-parity breaking decay, other than the process's own
    )
    pthat_min: Positive | None = None  # qcd: the smallest pt of the hard 2 -> 2 scattering
    bias_power: Annotated[float, Field(ge=0)] | None = None  # qcd: choose events like (pthat / pthat_min) ** power
    events: Count
    events_per_shard: Count = 500
    seed: Annotated[int, Field(ge=0)]
    energy: Positive = 13_000.0  # of the two proton beams together
    mpi: bool = True  # further interactions of the same two protons: 2.5 times slower, and more real
    jets: Jets = Jets()
    select: Selection = Selection()
    min_acceptance: Annotated[float, Field(gt=0, lt=1)] = 0.0005  # fewer events than this pass: an error
    pythia: dict[str, bool | int | float | str] = {}  # any other setting of Pythia's

    @model_validator(mode="before")
    @classmethod
    def _selection_of_its_own(cls, values: Any) -> Any:
        """Pairs that decay to two quarks each rarely make six jets."""
        if isinstance(values, dict) and values.get("process") == "stop_direct" and "select" not in values:
            return {**values, "select": {"jets": 4, "pt": 100.0, "ht": 800.0}}
        return values

    @model_validator(mode="after")
    def _possible(self) -> Self:
        problem = self._qcd_problem() if self.signal is None else self._mass_problem(self.signal)
        if self.select.pt < self.jets.min_pt or self.select.jets > self.jets.keep:
            problem = "select asks for jets that jets: does not keep"
        if problem:
            raise ValueError(problem)
        return self

    def _qcd_problem(self) -> str:
        odd = [key for key in ("mass", "neutralino_mass", "quarks") if getattr(self, key) is not None]
        if odd:
            return f"qcd has no {odd[0]}: remove the key"
        if self.pthat_min is None:
            return "qcd needs pthat_min (GeV), for example 350"
        if 2 * self.pthat_min >= self.energy:
            return f"pthat_min {self.pthat_min:g} GeV is more than half of the beam energy {self.energy:g} GeV"
        return ""

    def _mass_problem(self, signal: Signal) -> str:
        odd = [key for key in ("pthat_min", "bias_power") if getattr(self, key) is not None]
        if odd:
            return f"{odd[0]} is for qcd alone: remove the key"
        if self.mass is None:
            return f"{self.process} needs the mass of the {signal.name} (GeV)"
        if 2 * self.mass >= self.energy:
            return f"two {signal.name}s of {self.mass:g} GeV are beyond the beam energy of {self.energy:g} GeV"
        if not signal.cascade:
            return "" if self.neutralino_mass is None else f"{self.process} has no neutralino: remove neutralino_mass"
        if self.neutralino_mass is None:
            return f"{self.process} needs neutralino_mass (GeV), below {self.mass:g}"
        if self.neutralino_mass >= self.mass:
            return (
                f"the daughter is heavier than its parent: neutralino {self.neutralino_mass:g} GeV, "
                f"{signal.name} {self.mass:g} GeV"
            )
        return ""

    def digest(self) -> str:
        """Twelve hex digits that name the events; defaults are left out, so that a new key renames no old sample."""
        return digest(self.model_dump(mode="json", exclude_defaults=True))

    @property
    def signal(self) -> Signal | None:
        """The pair-produced parent; None for QCD."""
        return SIGNALS.get(self.process)

    @property
    def decay_mode(self) -> int:
        """Quarks per parent; 0 for QCD."""
        return self.signal.quarks_before + len(self.decay_quarks) if self.signal else 0

    @property
    def decay_quarks(self) -> tuple[int, ...]:
        return self.quarks or (self.signal.quarks if self.signal else ())

    @property
    def true_mass(self) -> float:
        """Mass of the parents in GeV; 0 for QCD."""
        return self.mass or 0.0

    @property
    def cuts(self) -> Values:
        """What is asked of jets and events, for the manifest."""
        return {"jets": self.jets.values(), "select": self.select.values()}

    @property
    def shards(self) -> int:
        return -(-self.events // self.events_per_shard)

    def rows(self, number: int) -> int:
        """Events in shard `number`: the last may be short."""
        return min(self.events_per_shard, self.events - number * self.events_per_shard)
