"""Event ids of whole samples: do two events have the same one, and where do they stand?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jetscale.events import Events
from jetscale.schema import flat


def all_ids(samples: Sequence[Events]) -> np.ndarray:
    """The ids of all events, (B,) int64: eight bytes an event are all that is in memory."""
    ids, seen = np.empty(sum(map(len, samples)), dtype=np.int64), 0
    for events in samples:
        for shard in events.manifest.shards:
            table = events.read(["event_id"], shard)
            ids[seen : seen + shard.rows] = flat(table["event_id"])
            seen += shard.rows
    return ids


def repeats(ids: np.ndarray) -> np.ndarray:
    """Numbers that stand more than once, rising, each once; the array (B,) is sorted where it is, being long."""
    ids.sort()
    again: np.ndarray = np.unique(ids[1:][ids[1:] == ids[:-1]])
    return again


def places(samples: Sequence[Events], event_id: int) -> list[str]:
    """The samples that have an id, each as often as it has it."""
    found: list[str] = []
    for events in samples:
        for shard in events.manifest.shards:
            times = int((flat(events.read(["event_id"], shard)["event_id"]) == event_id).sum())
            found += [f"{events.path} ({shard.file})"] * times
    return found
