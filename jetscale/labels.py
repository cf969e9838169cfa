"""What a jet comes from: one list of names for all samples, whatever their format calls them.

A sample of labelled jets holds the code of such a name in its column `jet_label`; -1 is not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from jetscale.errors import ConfigError, nearest

UNKNOWN = -1
# Codes are written into samples: names may be added at the end, never moved.
MEANING: Mapping[str, str] = MappingProxyType(
    {
        "qcd": "quark or gluon, which of them is not said",
        "quark": "light quark: u, d, s; in EnergyFlow's archives with b and c, any quark",
        "gluon": "gluon",
        "charm": "c quark",
        "bottom": "b quark",
        "w": "W to two quarks",
        "z": "Z to two quarks",
        "top": "top to b and two quarks",
        "top_lepton": "top to b, lepton and neutrino",
        "h_bb": "Higgs to b b",
        "h_cc": "Higgs to c c",
        "h_gg": "Higgs to two gluons",
        "h_4q": "Higgs to four quarks by way of W W",
        "h_lepton": "Higgs to lepton, neutrino and two quarks by way of W W",
        "resonance": "a particle of the sample's own",
    }
)
NAMES = tuple(MEANING)
CODES: Mapping[str, int] = MappingProxyType({name: code for code, name in enumerate(NAMES)})


def code(name: str) -> int:
    """The code of a name.

    Raises:
        ConfigError: no such name.
    """
    if name not in CODES:
        raise ConfigError(f"no label {name!r}", where="labels", cure=nearest(name, NAMES))
    return CODES[name]


def name_of(number: int) -> str:
    """The name of a code; `unknown` for those that are none."""
    return NAMES[number] if 0 <= number < len(NAMES) else "unknown"
