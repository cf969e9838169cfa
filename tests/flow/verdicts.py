"""Made-up tables of a study, for judging claims and drawing pictures."""

import math
from collections.abc import Callable

from jetscale.conduct.claims import Evidence
from jetscale.conduct.table import FIGURES, Ranked, Row
from jetscale.metrics import Estimate
from jetscale.study import LOSSES, Setting

SAMPLES = {"g1100": ("inside", 1100.0, 3), "g1300": ("trained", 1300.0, 3), "g1500": ("outside", 1500.0, 3),
           "g1700": ("outside", 1700.0, 3), "c1500": ("decay", 1500.0, 5)}  # fmt: skip
WEIGHTS = (0.0, 0.3, 3.0)
USUAL = {"f10": 0.4, "median": 1.0, "mass_auc": 0.9, "relative_signal_position": 0.9, "jet_accuracy": 0.6}
Change = Callable[[str, str, str, float, float], float]  # (figure, loss, masses, weight, true mass) -> what to add


def row(values: dict[str, Estimate], name: str = "g1500", **keys) -> Row:
    place, mass, mode = SAMPLES[name]
    figures = {figure: values.get(figure, Estimate(math.nan, math.nan)) for figure in FIGURES}
    known = {"method": "m", "loss": "label", "masses": "mixed", "weight": 0.0, "network": "equivariant",
             "readout": "argmax", "seed": 1, "sample": name, "place": place, "true_mass": mass, "decay_mode": mode,
             "n": 100, "figures": figures}  # fmt: skip
    return Row(**{**known, **keys})


def rows(change: Change, error: float = 0.005, seeds: tuple[int, ...] = (1,)) -> list[Row]:
    settings = [Setting("single"), *(Setting("mixed", weight) for weight in WEIGHTS)]
    found = [
        row({figure: Estimate(usual + change(figure, loss, *setting, mass), error) for figure, usual in USUAL.items()},
            name, method=setting.named(loss), loss=loss, **setting._asdict(), seed=seed)
        for name, (_, mass, _) in SAMPLES.items() for loss in LOSSES for setting in settings for seed in seeds
    ]  # fmt: skip
    worse = {"f10": Estimate(0.2, error), "mass_auc": Estimate(0.8, error)}
    classical = {"loss": "", "masses": "", "network": "", "readout": "", "seed": 0}
    return found + [row(worse, name, method="asymmetry_6", **classical) for name in SAMPLES]


def evidence(change: Change = lambda *_: 0.0, error: float = 0.005, **keys) -> Evidence:
    known = {"rows": rows(change, error), "ranks": [], "curves": {}, "readout": "argmax", "network": "equivariant",
             "background_weight": 0.3, "spread": {}, "top": 1300.0}  # fmt: skip
    return Evidence(**{**known, **keys})


def ranked(network: str, slope: float, error: float = 0.005, mode: int = 5) -> list[Ranked]:
    return [Ranked(network, "label-mixed", 1, "c1500", mode, rank, 0.1 + slope * rank, error, 50)
            for rank in range(1, 13)]  # fmt: skip


def best(figure, loss, masses, weight, mass):
    """As the talk has it."""
    mixed, background = masses == "mixed", weight > 0
    if figure == "f10":
        return 0.05 * mixed + 0.05 * (loss == "mass")
    return 0.03 * background if figure == "mass_auc" else 0.0
