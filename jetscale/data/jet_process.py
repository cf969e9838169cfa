"""Labelled jets: the job that asks for jets of one kind, and the processes that make them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import cosh
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from jetscale import labels
from jetscale.config import Config, Values, digest

Kind = Literal["top", "w", "z", "qcd", "quark", "gluon", "bottom", "charm", "light"]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(gt=0)]

LOOSER = 0.8  # of the smallest pt of a jet: the hard scattering starts there, as jets gain and lose pt
FAT, SLIM = 0.8, 0.4  # radii of anti-kT
LIGHT, QUARKS, GLUON = (1, 2, 3), (1, 2, 3, 4, 5), 21  # PDG ids
LIGHT_QCD = tuple(f"HardQCD:{process} = on" for process in ("qg2qg", "qq2qq", "gg2qqbar", "qqbar2qqbarNew"))
HADRONIC_W = ("24:onMode = off", "24:onIfAny = 1 2 3 4 5")
ONLY_Z = "WeakZ0:gmZmode = 2"
UNSEEN_Z = (ONLY_Z, "23:onMode = off", "23:onIfAny = 12 14 16")
SEEN_Z = (ONLY_Z, "23:onMode = off", "23:onIfAny = 1 2 3 4 5")


@dataclass(frozen=True)
class Origin:
    """How jets of one kind are made and known.

    All that is given must hold within the radius of a jet's axis: so many `quarks` of one decay lie there, which are
    all of them; the hardest parton of the hard process there has one of the PDG ids `partons` (without sign); and the
    heaviest `flavour` of the hadrons there is this one, 0 for neither b nor c.
    """

    radius: float
    pythia: tuple[str, ...]
    quarks: int = 0
    partons: tuple[int, ...] = ()
    flavour: int | None = None
    label: str = ""  # of jetscale.labels, where the kind is none


ORIGINS: Mapping[Kind, Origin] = MappingProxyType(
    {
        "top": Origin(FAT, ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on", *HADRONIC_W), quarks=3),
        "w": Origin(FAT, ("WeakDoubleBoson:ffbar2WW = on", *HADRONIC_W), quarks=2),
        "z": Origin(FAT, ("WeakDoubleBoson:ffbar2gmZgmZ = on", *SEEN_Z), quarks=2),
        "qcd": Origin(FAT, ("HardQCD:all = on",), partons=(*QUARKS, GLUON)),
        "quark": Origin(SLIM, ("WeakBosonAndParton:qg2gmZq = on", *UNSEEN_Z), partons=LIGHT),
        "gluon": Origin(SLIM, ("WeakBosonAndParton:qqbar2gmZg = on", *UNSEEN_Z), partons=(GLUON,)),
        "bottom": Origin(SLIM, ("HardQCD:hardbbbar = on",), flavour=5),
        "charm": Origin(SLIM, ("HardQCD:hardccbar = on",), flavour=4),
        "light": Origin(SLIM, LIGHT_QCD, partons=LIGHT, flavour=0, label="quark"),
    }
)


class JetJob(Config):
    """A sample of labelled jets: what stands under `generate:` where it has `jets_of`. One row is one jet.

    Jets are anti-kT, of radius 0.8 for top, w, z and qcd and of 0.4 for the others; `pt` (GeV) and `abs_eta` are the
    windows that they lie in. `light` are light quarks among other jets of QCD, to tell b and c from; `quark` are those
    beside a Z that is not seen.
    """

    rows_are: ClassVar[str] = "jets"

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    jets_of: Kind
    pt: tuple[Positive, Positive]  # GeV
    abs_eta: tuple[NotNegative, Positive] = (0.0, 2.0)  # pseudorapidity without its sign
    pthat_min: Positive | None = None  # GeV, the smallest pt of the hard 2 -> 2 scattering; 0.8 of the smallest pt
    events: Count  # jets
    events_per_shard: Count = 500
    seed: Annotated[int, Field(ge=0)]
    energy: Positive = 13_000.0  # GeV, of the two proton beams together
    tracks: bool = True  # whether columns say where tracks and the decays of heavy hadrons lie
    field: NotNegative = 3.8  # T, along the beam, in which tracks bend; it changes nothing but impact parameters
    mpi: bool = True  # further interactions of the same two protons: 2.5 times slower, and more real
    min_acceptance: Annotated[float, Field(gt=0, lt=1)] = 0.0005  # fewer jets than this per event: an error
    pythia: dict[str, bool | int | float | str] = {}  # any other setting of Pythia's

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if problem := self._problem():
            raise ValueError(problem)
        return self

    def _problem(self) -> str:
        for key, (low, high) in (("pt", self.pt), ("abs_eta", self.abs_eta)):
            if low >= high:
                return f"the window {key} is empty: {low:g} is not below {high:g}"
        if self.hardest_gev >= self.energy / 2:
            return (
                f"jets of {self.pt[0]:g} GeV at |eta| {self.abs_eta[0]:g} have {self.hardest_gev:g} GeV, more than one "
                f"of the beams of {self.energy / 2:g} GeV"
            )
        if 2 * self.pthat >= self.energy:
            return f"pthat_min {self.pthat:g} GeV is more than half of the beam energy {self.energy:g} GeV"
        if self.pthat > self.pt[1]:
            return f"pthat_min {self.pthat:g} GeV lies above the largest pt of a jet, {self.pt[1]:g} GeV"
        return ""

    def digest(self) -> str:
        """Twelve hex digits that name the jets; defaults are left out, so that a new key renames no old sample.

        The field is left out where no tracks feel it, and else never: jets of old, with straight tracks, have others.
        """
        given = self.model_dump(mode="json", exclude_defaults=True, exclude={"field"})
        return digest(given | ({"field": self.field} if self.tracks else {}))

    @property
    def hardest_gev(self) -> float:
        """The least energy in GeV that a jet in the windows has."""
        return self.pt[0] * cosh(self.abs_eta[0])

    @property
    def origin(self) -> Origin:
        return ORIGINS[self.jets_of]

    @property
    def label(self) -> int:
        """The code of the jets' label."""
        return labels.code(self.origin.label or self.jets_of)

    @property
    def pthat(self) -> float:
        """The smallest pt of the hard scattering in GeV."""
        return LOOSER * self.pt[0] if self.pthat_min is None else self.pthat_min

    @property
    def cuts(self) -> Values:
        """What is asked of a jet, for the manifest."""
        return {"radius": self.origin.radius, "pt": list(self.pt), "abs_eta": list(self.abs_eta)}

    @property
    def process_settings(self) -> list[str]:
        """The process in Pythia's words, one setting a line."""
        return [*self.origin.pythia, f"PhaseSpace:pTHatMin = {self.pthat}"]

    @property
    def shards(self) -> int:
        return -(-self.events // self.events_per_shard)

    def rows(self, number: int) -> int:
        """Jets in shard `number`: the last may be short."""
        return min(self.events_per_shard, self.events - number * self.events_per_shard)
