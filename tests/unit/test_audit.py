"""An audit flags what remembers masses or the order of jets, clears what does not, and says so in a page and a code."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from jetscale import cli
from jetscale.audit.audit import TOYS, Report, audit, check
from jetscale.audit.bank import bank
from jetscale.audit.coefficient import nearest
from jetscale.audit.functions import Subject, find, of_classical, training_masses
from jetscale.audit.jets import ht
from jetscale.audit.page import write
from jetscale.audit.results import to_json
from jetscale.audit.verdicts import Thresholds, failed
from jetscale.errors import ConfigError, DataError
from jetscale.events import Events
from jetscale.metrics import Floats
from jetscale.run import resolve
from jetscale.train.launch import train

TRAINED = (900.0, 1300.0, 1700.0)
SAMPLES = ("gluino-900", "gluino-1100", "gluino-1300", "gluino-1500", "gluino-1700", "qcd")


def memory(table: pa.Table) -> Floats:
    """Guesses a mass from HT, and gives the nearest one of the training."""
    return nearest(0.6 * ht(table), TRAINED)


def first_jet(table: pa.Table) -> Floats:
    return np.array([3 * jets[0] if jets else 0 for jets in table["jet_pt"].to_pylist()])


def invariant(table: pa.Table) -> Floats:
    """A score that no symmetry changes."""
    return np.array(
        [jets[0] / sum(jets) for jets in (sorted(one, reverse=True) for one in table["jet_pt"].to_pylist())]
    )


def _states(report: Report) -> dict[str, str]:
    return {verdict.name: verdict.state for verdict in report.verdicts}


def test_a_function_that_remembers_masses_is_flagged() -> None:
    report = audit(memory, trained_on=TRAINED)
    assert failed(report.verdicts) == ["scale", "nearest_mass"]
    assert report.symmetry["scale"].value > 0.5
    assert report.coefficient is not None
    assert report.coefficient.value > 0.2


def test_the_minimum_mass_asymmetry_is_cleared_on_made_up_and_on_shipped_events() -> None:
    everything = Thresholds(boost=1e-4, eta_reflection=1e-4, phi_reflection=1e-4, scale=1e-4, rotation=1e-4,
                            permutation=1e-4, nearest_mass=0.05)  # fmt: skip
    exact = find("classical:asymmetry_6", trained_on=TRAINED)
    made_up = audit(exact, thresholds=everything)
    tables = {name: Events.open(f"shipped:{name}").read() for name in SAMPLES}
    shipped = audit(exact, tables, thresholds=everything, events=1000)
    for report in (made_up, shipped):
        assert set(_states(report).values()) == {"pass"}
    assert shipped.coefficient is not None
    assert (made_up.coefficient is not None, shipped.coefficient.masses) == (True, 5)
    assert (set(made_up.data), set(shipped.data)) == ({TOYS}, set(SAMPLES))


def test_the_coefficient_of_few_masses_comes_from_made_up_events() -> None:
    report = audit(
        of_classical("asymmetry_6"), {"qcd": Events.open("shipped:qcd").read()}, trained_on=TRAINED, events=500
    )
    assert set(report.data) == {"qcd", TOYS}
    assert report.coefficient is not None
    assert report.coefficient.masses == 25


def test_a_function_of_the_order_is_flagged_for_it_alone() -> None:
    assert failed(audit(first_jet, events=500).verdicts) == ["permutation"]


def test_a_score_must_not_follow_the_energies() -> None:
    report = audit(Subject("share", invariant, "score"), events=500)
    assert failed(report.verdicts) == []
    assert _states(report)["nearest_mass"] == "not formed"
    assert "scale" in failed(audit(Subject("share", invariant, "mass"), events=500).verdicts)
    assert "scale" in failed(audit(Subject("ht", ht, "score"), events=500).verdicts)


def test_equal_audits_are_equal() -> None:
    one, two = (to_json(audit(memory, trained_on=TRAINED, events=300)) for _ in range(2))
    assert one == two
    assert one != to_json(audit(memory, trained_on=TRAINED, events=300, seed=2))


@pytest.mark.parametrize(
    ("function", "hint"),
    [
        (lambda table: np.zeros(3), r"shape \(3,\) for 400 events"),
        (lambda table: np.where(np.arange(table.num_rows) < 7, np.nan, 1.0), "7 values of 400"),
        (lambda table: np.full(table.num_rows, "x"), "<U1"),
        (lambda table: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_what_is_no_function_of_events_is_refused(function: Callable[[pa.Table], Floats], hint: str) -> None:
    with pytest.raises(DataError, match=hint):
        audit(function, events=400)


def test_nothing_judged_is_no_verdict() -> None:
    nothing = Thresholds(**dict.fromkeys(Thresholds.model_fields))
    with pytest.raises(DataError, match="no threshold is left"):
        check(audit(memory, thresholds=nothing, events=100))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A few steps of the equivariant network in units of HT, and of the dense one with absolute inputs."""
    folder = tmp_path_factory.mktemp("runs")
    toys = [Events.write(bank([mass], 300, 1), folder / f"m{mass:g}") for mass in (800.0, 1200.0)]
    found = {}
    for network, inputs in (("equivariant", "ht"), ("dense", "absolute")):
        values = {"system": "assigner", "task": {"network": network, "inputs": inputs, "readout": "argmax", "width": 32,
                                                 "layers": 3, "jets": 13},
                  "stream": {"samples": {one.name: {"events": str(one.path)} for one in toys}},
                  "horizon": {"steps": 20}, "track": {"wandb": False},
                  "scale": {"engine": "torch", "launch": "here", "events_per_step": 48}}  # fmt: skip
        found[network] = train(resolve([("test", values)], "test").run, folder / network)
    return found


def test_networks_are_told_apart(runs: dict[str, Path]) -> None:
    equivariant, dense = (find(str(runs[name])) for name in ("equivariant", "dense"))
    assert (equivariant.trained_on, equivariant.kind) == ((800.0, 1200.0), "mass")
    sharp = Thresholds(permutation=1e-3, scale=1e-3, rotation=1e-3, nearest_mass=None)
    assert failed(audit(equivariant, thresholds=sharp, events=600).verdicts) == []
    found = audit(dense, thresholds=sharp, events=600)
    assert failed(found.verdicts) == ["permutation", "scale"]


def test_other_columns_of_a_run(runs: dict[str, Path]) -> None:
    assert find(str(runs["dense"]), column="reco_asymmetry").kind == "score"
    assert find(str(runs["dense"]), trained_on=(500.0,)).trained_on == (500.0,)
    for column in ("reco_mas", "jet_assigned"):
        with pytest.raises(ConfigError, match=f"no number '{column}'"):
            find(str(runs["dense"]), column=column)


def test_masses_that_a_run_has_not_looked_at_do_not_count(runs: dict[str, Path]) -> None:
    from jetscale.run import read

    run = read(runs["dense"])
    selected = run.model_copy(update={"stream": run.stream.model_copy(update={"select": {"true_mass": (1000, None)}})})
    assert training_masses(selected) == (1200.0,)


def test_the_page_and_the_numbers(tmp_path: Path) -> None:
    page = write(audit(Subject("mine", memory), trained_on=TRAINED, events=500), tmp_path, command="jetscale audit x")
    text, values = page.read_text(), json.loads((tmp_path / "audit.json").read_text())
    assert "mine fails 2 of 4 thresholds: scale, nearest_mass." in text
    assert text.count("data:image/png") == 2
    assert values["failed"] == ["scale", "nearest_mass"]
    assert set(values["symmetry"]) == {"permutation", "rotation", "phi_reflection", "eta_reflection", "boost", "scale"}
    assert values["nearest_mass_coef"]["value"] > 0.2
    assert values["transfer_matrix"] is None
    assert {file.name for file in (tmp_path / "figures").iterdir()} == {
        f"{name}.{kind}" for name in ("symmetry", "response") for kind in ("png", "pdf")
    }


OWN = """import numpy as np
def whole(table):
    return np.array([sum(jets) for jets in table["jet_pt"].to_pylist()])
def odd(table):
    return whole(table) * np.nan
"""


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (["own.py:whole", "--kind", "score"], 1, "fails 1 of 3 thresholds: scale"),
        (["own.py:whole", "--kind", "score", "--threshold", "scale=off"], 0, "the audit is"),
        (["own.py:odd"], 1, "4000 values of 4000 that are not finite"),
        (["own.py:hole"], 2, "did you mean 'whole'"),
        (["own.py:whole", "--threshold", "scal=1"], 2, "did you mean 'scale'"),
        (["own.py:whole", "--trained-on", "a"], 2, "not masses in GeV"),
        (["own.py:whole", "--set", "seed=1"], 2, "no job to set"),
        (["own.py:whole", "--events", "shipped:qcd", "shipped:qcd"], 2, "two samples are called 'qcd'"),
        (["classical:asymmetry"], 2, "asymmetry_6"),
        (["no-run"], 2, "not the folder of a run"),
        (["no-job.yaml"], 2, "no such file"),
    ],
)
def test_the_exit_code_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
                               words: list[str], code: int, hint: str) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    assert cli.main(["audit", *words, "--out", "audit"]) == code
    assert hint in " ".join("".join(capfd.readouterr()).split())
    if code == 2:
        assert not (tmp_path / "audit").exists()
