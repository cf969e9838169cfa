"""Which reader a format has. Each is imported when it is first needed, as their libraries are extras."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jetscale.data.formats.reader import Reader

if TYPE_CHECKING:
    from jetscale.data.ingest.job import Map


def reader(file: str, how: Map) -> Reader:
    """A reader of a file, to be entered with `with`."""
    if how.format == "spanet":
        from jetscale.data.formats.spanet import SpanetReader

        return SpanetReader(file, how)
    if how.format == "cannonball":
        from jetscale.data.formats.cannonball import CannonballReader

        return CannonballReader(file, how)
    from jetscale.data.formats.root import RootReader

    return RootReader(file, how)
