"""CMS NanoAOD with particle-flow candidates, as PFNano and version 15 write it: rows are jets with their particles.

Jets and candidates are lists of each event, and two lists more say which belong together: `FatJetPFCands_jetIdx`, the
place of the jet, and `FatJetPFCands_pFCandsIdx`, that of the candidate. A map names them under `columns.link` as `jet`
and `particle`, and the branches of both under `columns.jet` and `columns.particle`; the generator's record, if jets are
to have their labels of it, under `columns.gen`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

import awkward as ak
import numpy as np

from jetscale.data.formats.baskets import chunks_of
from jetscale.data.formats.genparts import Record, labels
from jetscale.data.formats.jets import CONTRADICTION, LABEL, PDG, Jets, any_of, records
from jetscale.data.formats.reader import Look
from jetscale.data.formats.root import RootReader
from jetscale.data.ingest.chunk import Chunk, chunk_of
from jetscale.data.ingest.job import Map
from jetscale.errors import ConfigError, DataError, nearest
from jetscale.labels import CODES, UNKNOWN
from jetscale.schema import IMPACT, JET, JET_LABEL, PARTICLE_IDS, PARTICLES, WEIGHT, Column, Schema

OURS = JET.plus(JET_LABEL, *PARTICLES.columns, *PARTICLE_IDS.columns, *IMPACT.columns)
NEEDED = (*PARTICLES.names, "link_jet", "link_particle")
RECORD = ("gen_eta", "gen_phi", "gen_pdg", "gen_mother")
ASTRAY = "its list names particles that are not there"
# CMS's ids of candidates: beside PDG's own, those of the forward calorimeter, and the sign of a positive one.
KINDS = {211: (211, 1), 130: (130, 0), 22: (22, 0), 11: (11, -1), 13: (13, -1), 1: (130, 0), 2: (22, 0)}
FLAVOURS = {1: "quark", 2: "quark", 3: "quark", 21: "gluon"}  # of partons, where there is no heavy hadron
HEAVY = {4: "charm", 5: "bottom"}
MM = {"": 1.0, "mm": 1.0, "cm": 10.0, "m": 1e3}
ROUNDING = 1e-3  # a mass so much below zero, in units of the momentum, is one of zero that was rounded


class PfnanoReader(RootReader):
    """One file; entries are its jets, in the order of the events."""

    def __init__(self, file: str, how: Map) -> None:
        if absent := {"jet", "particle", "link"} - how.columns.keys():
            raise ConfigError(f"columns has no {min(absent)!r}", where="format: pfnano",
                              cure="see the map pfnano: {like: pfnano, ...} has all three")  # fmt: skip
        for name in ("d0", "d0_error", "dz", "dz_error"):
            one = how.columns["particle"].get(name)
            if one is not None and one.unit not in MM:
                raise ConfigError(f"columns.particle.{name} is in {one.unit!r}", where="format: pfnano",
                                  cure=nearest(one.unit, MM))  # fmt: skip
        super().__init__(file, Map.model_validate({**how.values(), "format": "root"}))

    def look(self) -> Look:
        """What the file holds.

        Raises:
            DataError: branches that are needed are not there, all of them by name; no jets.
        """
        look, have = super().look(), self._plan.columns
        if lacking := [name for name in NEEDED if name not in have]:
            said = ", ".join(repr(self._branch_of(name)) for name in lacking)
            raise DataError(f"has no branch {said}", where=self.file,
                            cure=f"{nearest(self._branch_of(lacking[0]), self._branches)}; NanoAOD before version 15 "
                            "has no particles but as PFNano: convert it to events, with the map nanoaod")  # fmt: skip
        if not self._jets[-1] and self._account is None:
            raise DataError("holds no jets", where=self.file, cure="convert the other files without it")
        return look.but(entries=int(self._jets[-1]), columns=self._columns.values())

    def read(self, start: int, stop: int, columns: Schema) -> Iterator[ak.Array]:
        """See `Reader.read`; `start` and `stop` count jets."""
        stop = min(stop, int(self._jets[-1]))
        if start >= stop:
            return
        event = int(np.searchsorted(self._jets, start, side="right")) - 1
        last = int(np.searchsorted(self._jets, stop, side="left"))
        inner = self._plan.columns
        weights = [WEIGHT.but(name=name) for name in self._plan.weights]
        for array in super().read(event, last, inner):
            chunk = chunk_of(array, Schema(columns=(*weights, *inner.columns)))
            first = int(self._jets[event])
            jets = self._rows(chunk, event)
            rows = records(self._filled(jets, columns), columns)
            for weight in weights:
                rows = ak.with_field(rows, ak.Array(jets.numbers[weight.name]), weight.name)
            event += chunk.rows
            if len(rows := rows[max(start - first, 0) : stop - first]):
                yield rows

    @cached_property
    def _jets(self) -> np.ndarray:
        """How many jets there are before each event, and in all (E + 1,)."""
        name = self._plan.leads["jet"].branches[0]
        length = []
        for first, _, arrays in chunks_of(self._branches, (name,), 0, self._branches.tree.num_entries, self.file):
            bounds = self._branches.numbers(name, arrays, first, self.file).bounds
            if bounds is None:
                raise DataError(f"branch {name!r} is no list", where=self.file, cure="name lists of jets in your map")
            length.append(np.diff(bounds))
        return np.concatenate([[0], np.cumsum(np.concatenate([np.zeros(0, dtype=np.int64), *length]))])

    @cached_property
    def _columns(self) -> Schema:
        """What becomes of the columns of events, jets and particles where rows are jets."""
        found: list[Column] = [JET_LABEL]
        for one in self._plan.columns.each():
            if one.name in OURS:
                found.append(OURS[one.name])
            elif one.of not in ("link", "gen"):
                found.append(one.but(of=None) if one.of == "jet" else one)
        if "particle_pdg" in self._plan.columns:
            found.append(PARTICLE_IDS["particle_charge"])
        return Schema(columns=()).plus(*found)

    def _branch_of(self, name: str) -> str:
        collection, _, member = name.partition("_")
        one = self.how.columns[collection].get(member)
        return one.branch[0] if one else name

    def _filled(self, jets: Jets, columns: Schema) -> Jets:
        """With the columns that this file lacks and others have."""
        numbers, members = dict(jets.numbers), dict(jets.members)
        for column in columns.each():
            of, size = (members, int(jets.bounds[-1])) if column.of else (numbers, len(jets.bounds) - 1)
            if column.name not in of:
                if column.missing is None:
                    raise DataError(f"column {column.name!r} has no branch here, and nothing to stand for it",
                                    where=self.file, cure="give it `missing` in your map, or leave it out")  # fmt: skip
                of[column.name] = np.full(size, column.missing)
        return jets._replace(numbers=numbers, members=members)

    def _rows(self, chunk: Chunk, event: int) -> Jets:
        """The jets of a chunk that begins with an event, each with its particles."""
        count_B, link_B = np.diff(chunk.bounds["jet"]), np.diff(chunk.bounds["link"])
        of_J, of_L = np.repeat(np.arange(chunk.rows), count_B), np.repeat(np.arange(chunk.rows), link_B)
        jet_L, particle_L = (chunk.members[f"link_{name}"].astype(np.int64) for name in ("jet", "particle"))
        if (astray := jet_L >= count_B[of_L]).any():
            place = int(np.flatnonzero(astray)[0])
            raise DataError(f"event {event + of_L[place]}: {self._branch_of('link_jet')!r} names jet {jet_L[place]} of "
                            f"{count_B[of_L[place]]}", where=self.file,
                            cure="name the list that belongs to these jets in your map")  # fmt: skip
        real_L = jet_L >= 0  # others are of jets that were not written
        there_L = (particle_L >= 0) & (particle_L < np.diff(chunk.bounds["particle"])[of_L])
        row_L = chunk.bounds["jet"][of_L] + jet_L
        astray_J = np.bincount(row_L[real_L & ~there_L], minlength=len(of_J)) > 0
        order = np.flatnonzero(real_L & there_L)
        order = order[np.argsort(row_L[order], kind="stable")]
        bounds = np.concatenate([[0], np.cumsum(np.bincount(row_L[order], minlength=len(of_J)))])
        taken = (chunk.bounds["particle"][of_L] + particle_L)[order]
        numbers = {name: values[of_J] for name, values in chunk.numbers.items()}
        numbers |= {name: chunk.members[name] for name in chunk.collection("jet")}
        if "jet_label" not in numbers and chunk.members.keys() >= set(RECORD):
            numbers["jet_label"] = labels(self._record(chunk, event), numbers["jet_eta"], numbers["jet_phi"], of_J)
        members = {name: chunk.members[name][taken] for name in chunk.collection("particle")}
        return self._ours(Jets(numbers, members, bounds, {ASTRAY: astray_J}))

    def _record(self, chunk: Chunk, event: int) -> Record:
        """The generator's record of a chunk that begins with an event."""
        eta, phi, pdg, mother = (chunk.members[name] for name in RECORD)
        count_B = np.diff(chunk.bounds["gen"])
        if (astray := mother >= np.repeat(count_B, count_B)).any():
            place = int(np.flatnonzero(astray)[0])
            inside = int(np.searchsorted(chunk.bounds["gen"], place, side="right")) - 1
            raise DataError(f"event {event + inside}: {self._branch_of('gen_mother')!r} names particle {mother[place]} "
                            f"of {count_B[inside]}", where=self.file, cure="leave gen out of your map")  # fmt: skip
        return Record(eta, phi, pdg.astype(np.int64), mother.astype(np.int64), chunk.bounds["gen"])

    def _ours(self, jets: Jets) -> Jets:
        """With our labels, kinds and units."""
        numbers, members, bad = dict(jets.numbers), dict(jets.members), dict(jets.bad)
        with np.errstate(all="ignore"):  # odd numbers are for the checks behind
            below = ROUNDING * numbers["jet_pt"] * np.cosh(numbers["jet_eta"])
            mass_B = numbers["jet_mass"]
            numbers["jet_mass"] = np.where((mass_B < 0) & (mass_B >= -below), 0, mass_B)
        numbers["jet_label"] = _label(numbers, len(mass_B))
        bad[LABEL] = ~np.isin(numbers["jet_label"], (UNKNOWN, *CODES.values()))
        if "particle_pdg" in members:
            pdg, charge, unknown = _kinds(members["particle_pdg"])
            given = members.get("particle_charge", charge)
            bad |= {PDG: any_of(unknown, jets.bounds), CONTRADICTION: any_of(~unknown & (given != charge), jets.bounds)}
            members |= {"particle_pdg": pdg, "particle_charge": charge}
        for name in ("d0", "dz"):
            error = members.get(f"particle_{name}_error")
            track = True if error is None else ~(error < 0)  # CMS has -1 where there is none
            for one in (name, f"{name}_error"):
                if f"particle_{one}" in members:
                    factor = MM[self.how.columns["particle"][one].unit]
                    members[f"particle_{one}"] = np.where(track, members[f"particle_{one}"] * factor, 0.0)
        return Jets(numbers, members, jets.bounds, bad)


def _label(numbers: Mapping[str, np.ndarray], rows: int) -> np.ndarray:
    """The label of a branch or the generator's record, or of the flavours of hadrons and partons; else not known."""
    if "jet_label" in numbers:
        return numbers["jet_label"]
    label_B = np.full(rows, UNKNOWN)
    if {"jet_hadron_flavour", "jet_parton_flavour"} <= numbers.keys():
        hadron_B, parton_B = numbers["jet_hadron_flavour"], np.abs(numbers["jet_parton_flavour"].astype(np.int64))
        for number, name in FLAVOURS.items():
            label_B[(hadron_B == 0) & (parton_B == number)] = CODES[name]
        for number, name in HEAVY.items():
            label_B[hadron_B == number] = CODES[name]
    return label_B


def _kinds(given: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """PDG ids and charges of CMS's ids, and which of these are unknown; flat."""
    pdg, charge, known = (np.zeros(len(given), dtype=np.int64) for _ in range(3))
    for number, (ours, sign) in KINDS.items():
        for way in (1, -1) if sign else (1,):
            here = given == way * number
            pdg[here], charge[here], known[here] = way * ours, way * sign, 1
    return pdg, charge, known == 0
