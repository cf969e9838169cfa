"""Pythia 8: the settings and the spectrum of a job, and the loop that makes its events."""

from __future__ import annotations

import ctypes
import difflib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import awkward as ak
import numpy as np

from jetscale.data.heavy import Produced
from jetscale.data.jet_process import JetJob
from jetscale.data.process import GLUINO, NEUTRALINO, GenerateJob, Signal
from jetscale.data.truth import Ints, Particles, together
from jetscale.errors import GenerateError, nearest

PB = 1e9  # Pythia counts in millibarn
HEAVY = 1e4  # GeV: everything that a job does not speak of is out of reach
WIDTH = 0.01  # GeV
SPARTICLES = (
    *range(1000001, 1000007), *range(2000001, 2000007), *range(1000011, 1000017), 2000011, 2000013, 2000015,
    1000021, 1000022, 1000023, 1000025, 1000035, 1000024, 1000037, 35, 36, 37,
)  # fmt: skip
SIGNAL_BATCH, QCD_BATCH, JET_BATCH = 100, 40, 100  # events handed on together
QCD_TRIES = 4000

# Few QCD events have six hard jets, and hadronisation is the slow half of making one. The partons tell: these looser
# cuts on their jets come first, and only what passes is hadronised. It loses 0.3 % of what the selection would keep.
LOOSER_PT, LOOSER_HT, WIDER_ETA = 0.8, 0.875, 2.1


@dataclass(frozen=True)
class Tried:
    """A batch of events that may pass the selection, and the number of tries since the batch before."""

    tries: int
    particles: Particles


@dataclass(frozen=True)
class Whole(Tried):
    """A batch whose particles also say where they were made."""

    particles: Produced


def start(job: GenerateJob | JetJob, seed: int) -> Any:
    """An initialised Pythia for the job, which prints nothing.

    Raises:
        GenerateError: Pythia 8 is not installed, a setting is unknown, or Pythia cannot initialise.
    """
    pythia, ready, _ = _initialise(job, [*settings(job, seed), "Print:quiet = on"])
    if not ready:
        _, _, said = _initialise(job, settings(job, seed))
        lines = [line.strip() for line in said.splitlines() if "PYTHIA Error" in line or "PYTHIA Abort" in line]
        cause = "; ".join(lines)
        raise GenerateError(f"Pythia cannot initialise: {cause or 'it does not say why'}", where=job.name,
                            cure="check the masses, the quarks and the settings under pythia:")  # fmt: skip
    return pythia


def version(pythia: Any) -> str:
    """The version of Pythia, as it knows it itself."""
    return f"{pythia.parm('Pythia:versionNumber'):.3f}"


def _initialise(job: GenerateJob | JetJob, lines: list[str]) -> tuple[Any, bool, str]:
    pythia = _new(job.name)
    with tempfile.TemporaryDirectory() as folder:
        spectrum = Path(folder) / "spectrum.slha"
        if isinstance(job, GenerateJob) and job.signal:
            spectrum.write_text(slha(job, job.signal))
            lines = [*lines, f"SLHA:file = {spectrum}"]
        with _heard() as heard:
            refused = [line for line in lines if not pythia.readString(line)]
            ready = not refused and bool(pythia.init())
            said = _text(heard)
    if refused:
        raise _refusal(pythia, refused[0], job.name)
    return pythia, ready, said


def _new(where: str) -> Any:
    try:
        import pythia8mc
    except ImportError:
        raise GenerateError("Pythia 8 is not installed", where=where, cure='pip install "jetscale[mc]"') from None
    return pythia8mc.Pythia("", False)


def _refusal(pythia: Any, line: str, where: str) -> GenerateError:
    key = line.partition("=")[0].strip()
    kinds = ("Flag", "Mode", "Parm", "Word", "FVec", "MVec", "PVec", "WVec")
    known = {entry.name for kind in kinds for entry in getattr(pythia.settings, f"get{kind}Map")(":").values()}
    if key.lower() in {name.lower() for name in known}:
        return GenerateError(f"Pythia refuses {line!r}", where=where, cure=f"see {key} in Pythia's manual")
    near = difflib.get_close_matches(key, sorted(known), n=5)
    cure = nearest(key, near) if near else "see the settings in Pythia's manual"
    return GenerateError(f"Pythia has no setting {key!r}", where=where, cure=cure)


def settings(job: GenerateJob | JetJob, seed: int) -> list[str]:
    """The job in Pythia's words, one setting a line."""
    common = [f"Beams:eCM = {job.energy}", "Random:setSeed = on", f"Random:seed = {seed}",
              f"PartonLevel:MPI = {_word(job.mpi)}"]  # fmt: skip
    if isinstance(job, JetJob):
        process = job.process_settings
    else:
        process = _signal_settings(job.signal) if job.signal else _qcd_settings(job)
    return [*common, *process, *(f"{key} = {_word(value)}" for key, value in job.pythia.items())]


def _signal_settings(signal: Signal) -> list[str]:
    flavour = [] if signal.parent == GLUINO else [f"SUSY:{which} = {signal.parent}" for which in ("idA", "idB")]
    return [*(f"{switch} = on" for switch in signal.production), *flavour, "SLHA:verbose = 0"]


def _qcd_settings(job: GenerateJob) -> list[str]:
    lines = ["HardQCD:all = on", f"PhaseSpace:pTHatMin = {job.pthat_min}", "HadronLevel:all = off"]
    if job.bias_power:
        lines += ["PhaseSpace:bias2Selection = on", f"PhaseSpace:bias2SelectionPow = {job.bias_power}",
                  f"PhaseSpace:bias2SelectionRef = {job.pthat_min}"]  # fmt: skip
    return lines


def _word(value: object) -> str:
    return ("off", "on")[value] if isinstance(value, bool) else str(value)


def slha(job: GenerateJob, signal: Signal) -> str:
    """The spectrum and the decays as an SLHA file (arXiv:hep-ph/0311123).

    Pythia switches supersymmetry off without a whole spectrum, so every block it asks for is there. The decays that
    break R-parity stand in DECAY tables alone: the flag for it in MODSEL would ask for still more blocks.
    """
    masses = dict.fromkeys(SPARTICLES, HEAVY) | {25: 125.0, signal.parent: job.true_mass}
    if job.neutralino_mass is not None:
        masses[NEUTRALINO] = job.neutralino_mass
    blocks = [
        _block("MODSEL", {1: 0}),
        _block("MINPAR", {3: 10}),
        _block("SMINPUTS", {1: 127.9, 2: 1.16637e-5, 3: 0.118, 4: 91.1876, 5: 4.2, 6: 172.5}),
        "BLOCK ALPHA\n -0.1\n",
        _block("HMIX", {1: 1000, 2: 10, 3: 246, 4: 1e6}),
        _block("GAUGE", {1: 0.36, 2: 0.65, 3: 1.05}),
        _unit("NMIX", 4),
        *(_unit(name, 2) for name in ("UMIX", "VMIX", "STOPMIX", "SBOTMIX", "STAUMIX")),
        _block("MASS", masses),
    ]
    return "".join(blocks) + "".join(_decay(parent, lines) for parent, lines in decays(job, signal).items())


def decays(job: GenerateJob, signal: Signal) -> dict[int, list[tuple[float, tuple[int, ...]]]]:
    """Branching fraction and daughters (PDG ids) of every particle that decays."""
    quarks = job.decay_quarks
    last = NEUTRALINO if signal.cascade else signal.parent
    own_antiparticle = last in (GLUINO, NEUTRALINO)
    tables = {last: [(0.5, quarks), (0.5, tuple(-q for q in quarks))] if own_antiparticle else [(1.0, quarks)]}
    if signal.cascade and signal.parent == GLUINO:
        tables[signal.parent] = [(0.25, (NEUTRALINO, q, -q)) for q in (1, 2, 3, 4)]
    elif signal.cascade:
        tables[signal.parent] = [(1.0, (NEUTRALINO, 2))]
    return tables


def _block(name: str, entries: dict[int, float]) -> str:
    return f"BLOCK {name}\n" + "".join(f" {key} {value}\n" for key, value in entries.items())


def _unit(name: str, size: int) -> str:
    places = range(1, size + 1)
    return f"BLOCK {name}\n" + "".join(f" {i} {j} {float(i == j)}\n" for i in places for j in places)


def _decay(parent: int, lines: list[tuple[float, tuple[int, ...]]]) -> str:
    body = (f" {fraction} {len(ids)} {' '.join(map(str, ids))}\n" for fraction, ids in lines)
    return f"DECAY {parent} {WIDTH}\n" + "".join(body)


def batches(pythia: Any, job: GenerateJob) -> Iterator[Tried]:
    """Events without end, in batches; a signal's all of them, QCD's those whose partons look like enough jets."""
    while True:
        yield _signal_batch(pythia) if job.signal else _qcd_batch(pythia, job)


def whole_batches(pythia: Any) -> Iterator[Whole]:
    """Events without end, all of them, with the places where particles were made."""
    while True:
        batch = pythia.nextBatch(JET_BATCH)
        if not len(batch):
            yield Whole(JET_BATCH, Produced.none())
            continue
        # Pythia leaves the place of what was made where the protons collided open.
        place = ak.flatten(batch.prt.vProd)
        made_N3 = np.stack([ak.to_numpy(ak.fill_none(place[name], 0.0)) for name in ("px", "py", "pz")], axis=1)
        mass_N = ak.to_numpy(ak.flatten(batch.prt.m))
        yield Whole(JET_BATCH, Produced(**_columns(batch), mass_N=mass_N, made_N3=made_N3))


def _signal_batch(pythia: Any) -> Tried:
    batch = pythia.nextBatch(SIGNAL_BATCH)
    return Tried(SIGNAL_BATCH, Particles(**_columns(batch)) if len(batch) else nothing())


def _columns(batch: ak.Array) -> dict[str, Any]:
    """What `Particles` holds, of a batch of Pythia's."""
    record = batch.prt
    p4 = ak.flatten(record.p)
    return {
        "count_B": _flat(ak.num(record.id, axis=1)),
        "id_N": _flat(ak.flatten(record.id)),
        "status_N": _flat(ak.flatten(record.status)),
        "mother_N": _flat(ak.flatten(record.mother1)),
        "daughter_N": _flat(ak.flatten(record.daughter1)),
        "p4_N4": np.stack([ak.to_numpy(p4[name]) for name in ("px", "py", "pz", "e")], axis=1),
        "weight_B": ak.to_numpy(batch.info.weights[:, 0]),
    }


def _flat(array: ak.Array) -> Ints:
    whole: Ints = ak.to_numpy(array).astype(np.int64)
    return whole


def _qcd_batch(pythia: Any, job: GenerateJob) -> Tried:
    import pythia8mc

    select = job.select
    pt, eta = LOOSER_PT * select.pt, job.jets.max_eta + WIDER_ETA
    # The last argument leaves out Pythia's copy of fastjet, which prints a banner.
    finder = pythia8mc.SlowJet(-1, job.jets.radius, pt, eta, 2, 2, None, False)
    found: list[Particles] = []
    tries = 0
    while tries < QCD_TRIES and len(found) < QCD_BATCH:
        tries += 1
        if not pythia.next():
            continue
        finder.analyze(pythia.event)
        if finder.sizeJet() < select.jets:
            continue
        if sum(finder.pT(jet) for jet in range(finder.sizeJet())) < LOOSER_HT * select.ht:
            continue
        if pythia.forceHadronLevel():
            found.append(_record(pythia))
    return Tried(tries, together(found or [nothing()]))


def _record(pythia: Any) -> Particles:
    """The event that Pythia has just made."""
    rows = [(p.id(), p.status(), p.mother1(), p.daughter1(), p.px(), p.py(), p.pz(), p.e()) for p in pythia.event]
    table = np.array(rows)
    id_N, status_N, mother_N, daughter_N = table[:, :4].T.astype(np.int64)
    weight_B = np.array([pythia.infoPython().weight()])
    return Particles(np.array([len(rows)]), id_N, status_N, mother_N, daughter_N, table[:, 4:], weight_B)


def nothing() -> Particles:
    """A record of no events."""
    none = np.zeros(0, dtype=np.int64)
    return Particles(none, none, none, none, none, np.zeros((0, 4)), np.zeros(0))


@contextmanager
def _heard() -> Iterator[BinaryIO]:
    """Keep what C++ writes to the standard output, so that it can be quoted instead of shown."""
    flush = ctypes.CDLL(None).fflush
    sys.stdout.flush()
    flush(None)
    shown = os.dup(1)
    with tempfile.TemporaryFile() as heard:
        os.dup2(heard.fileno(), 1)
        try:
            yield heard
        finally:
            flush(None)
            os.dup2(shown, 1)
            os.close(shown)


def _text(heard: BinaryIO) -> str:
    ctypes.CDLL(None).fflush(None)
    heard.seek(0)
    return heard.read().decode(errors="replace")
