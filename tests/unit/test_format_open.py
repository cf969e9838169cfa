"""A file's reader is kept for whoever is next to ask for it, and for nobody else."""

from collections.abc import Iterator
from pathlib import Path

import awkward as ak
import pytest
import uproot

from jetscale.data.formats.open import close, entered
from jetscale.data.ingest.job import Map

HOW = Map(columns={"jet": {"pt": "pt", "eta": "eta", "phi": "phi", "mass": "mass"}})


@pytest.fixture(autouse=True)
def left() -> Iterator[None]:
    yield
    close()


def written(file: Path, events: int) -> str:
    jets = ak.Array([[1.0]] * events)
    with uproot.recreate(file) as out:
        out.mktree("jets", {name: "var * float64" for name in ("pt", "eta", "phi", "mass")})
        out["jets"].extend(dict.fromkeys(("pt", "eta", "phi", "mass"), jets))
    return str(file)


def test_the_same_file_is_opened_once(tmp_path: Path) -> None:
    file = written(tmp_path / "a.root", 3)
    with entered(file, HOW, "1") as first:
        assert first.look().entries == 3
    with entered(file, HOW, "1") as second:
        assert second is first and second.look().entries == 3


def test_another_file_map_or_content_is_opened_anew(tmp_path: Path) -> None:
    one, two = written(tmp_path / "a.root", 3), written(tmp_path / "b.root", 4)
    wanted = [(one, HOW, "1", 3), (two, HOW, "1", 4), (two, HOW.but(energy="MeV"), "1", 4), (two, HOW, "1", 4)]
    seen = []
    for file, how, mark, entries in wanted:
        with entered(file, how, mark) as source:
            assert source.look().entries == entries and source.how == how
            seen.append(source)
    written(tmp_path / "b.root", 5)
    with entered(two, HOW, "2") as changed:
        assert changed.look().entries == 5
    assert len({id(one) for one in [*seen, changed]}) == 5


def test_a_reader_that_failed_is_not_kept(tmp_path: Path) -> None:
    file = written(tmp_path / "a.root", 3)
    with pytest.raises(ZeroDivisionError), entered(file, HOW, "1") as first:
        raise ZeroDivisionError
    with entered(file, HOW, "1") as second:
        assert second is not first and second.look().entries == 3
