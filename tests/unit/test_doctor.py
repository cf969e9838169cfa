"""The doctor: what is missing is said with a cure, and only what the quickstart needs is called broken."""

import importlib.metadata
import io
import sys

import pytest
from rich.console import Console

from jetscale import doctor
from jetscale.doctor import Finding
from jetscale.errors import DataError
from jetscale.terminal import Terminal


@pytest.fixture
def quiet() -> Terminal:
    return Terminal(console=Console(file=io.StringIO()))


def versions(monkeypatch, **have: str) -> list[Finding]:
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: ["ray[data]>=2.60,<2.61", "numpy>=2.2,<3",
                                                                   "pytest>=9; extra == 'test'"])  # fmt: skip

    def version(name: str) -> str:
        if name not in have:
            raise importlib.metadata.PackageNotFoundError(name)
        return have[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    return list(doctor._versions())


def test_the_tested_set_is_good(monkeypatch):
    (finding,) = versions(monkeypatch, ray="2.60.0", numpy="2.4.6")
    assert finding == Finding("versions", "good", "the tested set of 2 libraries")


def test_another_version_in_the_range_is_a_note(monkeypatch):
    (finding,) = versions(monkeypatch, ray="2.60.0", numpy="2.3.0")
    assert finding.verdict == "note"
    assert "numpy 2.3.0 (tested 2.4.6)" in finding.found


@pytest.mark.parametrize("have", [{"numpy": "2.4.6"}, {"numpy": "2.4.6", "ray": "2.59.0"}])
def test_an_absent_or_wrong_library_is_broken_and_the_cure_is_a_command(monkeypatch, have):
    (finding,) = versions(monkeypatch, **have)
    assert finding.verdict == "broken"
    assert finding.cure == "pip install 'ray[data]<2.61,>=2.60'"


def test_a_build_of_a_tested_version_is_the_tested_version(monkeypatch):
    (finding,) = versions(monkeypatch, ray="2.60.0", numpy="2.4.6+cpu")
    assert finding.verdict == "good"


@pytest.fixture
def no_key(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_key")
def test_a_key_is_seen_and_never_told(monkeypatch):
    assert doctor._wandb().verdict == "note"
    assert "offline" in doctor._wandb().found
    monkeypatch.setenv("WANDB_API_KEY", "very-secret")
    assert doctor._wandb() == Finding("W&B", "good", "a key is set: runs are sent online")


@pytest.mark.usefixtures("no_key")
def test_a_key_in_netrc_counts(tmp_path):
    file = tmp_path / ".netrc"
    file.write_text("machine api.wandb.ai login user password very-secret\n")
    file.chmod(0o600)
    assert doctor._wandb() == Finding("W&B", "good", "a key is set: runs are sent online")


@pytest.mark.usefixtures("no_key")
def test_the_mode_wins_over_the_key(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    assert doctor._wandb().verdict == "note"
    monkeypatch.setenv("WANDB_API_KEY", "very-secret")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert doctor._wandb() == Finding("W&B", "good", "WANDB_MODE is offline, which wins over any key")


def test_protocols_that_nothing_reads_are_a_note_with_a_command(monkeypatch):
    have = {"s3fs", "aiohttp", "fsspec_xrootd"}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if name in have else None)
    assert doctor._remote() == Finding("remote files", "good", "root://, s3://, http://, https://")
    have -= {"s3fs", "fsspec_xrootd"}
    assert doctor._remote().verdict == "note"
    assert doctor._remote().found == "nothing reads root://, s3://"
    assert "'.[remote]'" in doctor._remote().cure


@pytest.mark.parametrize(
    "problem", [ImportError("no libcuda.so.1\nand more"), RuntimeError(), OSError(2, "x"), DataError("no Ray")]
)
def test_what_it_diagnoses_does_not_end_it(quiet, monkeypatch, problem):
    def fail(*_: object) -> None:
        raise problem

    monkeypatch.setattr(doctor, "_accelerator", fail)
    monkeypatch.setattr("jetscale.data.cluster.cluster", fail)
    found = {finding.subject: finding for finding in doctor.examine(quiet, quick=False)}
    for subject in ("accelerator", "Ray"):
        assert found[subject].verdict == "broken"
        assert found[subject].found and "\n" not in found[subject].found
        assert found[subject].cure


def test_a_library_that_cannot_be_loaded_is_a_finding(quiet, monkeypatch):
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    monkeypatch.setitem(sys.modules, "deepspeed.accelerator", None)
    monkeypatch.setitem(sys.modules, "ray", None)
    found = {finding.subject: finding for finding in doctor.examine(quiet, quick=False)}
    assert [found[subject].verdict for subject in ("accelerator", "Ray")] == ["broken", "broken"]


def test_everything_is_looked_at(quiet):
    findings = doctor.examine(quiet, quick=True)
    assert {finding.subject for finding in findings} >= {
        "Python", "versions", "cores", "memory", "disk here", "folder", "Monte Carlo", "remote files", "W&B",
        "accelerator",
    }  # fmt: skip
    assert all(finding.cure for finding in findings if finding.verdict != "good")


def test_little_memory_is_a_note_with_a_cure():
    assert doctor._enough("memory", 1, 2, "buy some") == Finding("memory", "note", "0.0 GiB", "buy some")
