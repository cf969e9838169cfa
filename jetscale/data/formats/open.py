"""Which reader a format has. Each is imported when it is first needed, as their libraries are extras."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from jetscale.data.formats.reader import Reader

if TYPE_CHECKING:
    from jetscale.data.ingest.job import Map


# Of this process; with a thousand branches, opening a file takes as long as reading fifty thousand of its events.
_last: dict[tuple[str, str, str], tuple[Reader, ExitStack]] = {}


@contextmanager
def entered(file: str, how: Map, mark: str) -> Iterator[Reader]:
    """A reader that is entered. It stays so for whoever is next to ask for this file, until `close` or another file.

    `mark` is another one where the file has changed.
    """
    key = (file, mark, how.digest())
    if key not in _last:
        close()
        with ExitStack() as stack:
            source = stack.enter_context(reader(file, how))
            _last[key] = source, stack.pop_all()
    try:
        yield _last[key][0]
    except BaseException:
        close()
        raise


def close() -> None:
    """Leave the reader that was last entered."""
    while _last:
        _last.popitem()[1][1].close()


def reader(file: str, how: Map) -> Reader:
    """A reader of a file, to be entered with `with`."""
    if how.format == "spanet":
        from jetscale.data.formats.spanet import SpanetReader

        return SpanetReader(file, how)
    if how.format == "cannonball":
        from jetscale.data.formats.cannonball import CannonballReader

        return CannonballReader(file, how)
    if how.format == "jetclass":
        from jetscale.data.formats.jetclass import JetclassReader

        return JetclassReader(file, how)
    if how.format == "energyflow":
        from jetscale.data.formats.energyflow import EnergyflowReader

        return EnergyflowReader(file, how)
    if how.format == "top_tagging":
        from jetscale.data.formats.toptagging import TopTaggingReader

        return TopTaggingReader(file, how)
    if how.format == "lhco":
        from jetscale.data.formats.lhco import LhcoReader

        return LhcoReader(file, how)
    if how.format == "pfnano":
        from jetscale.data.formats.pfnano import PfnanoReader

        return PfnanoReader(file, how)
    from jetscale.data.formats.root import RootReader

    return RootReader(file, how)
