"""A folder that one process at a time works in; whoever is killed lets go of it."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jetscale.errors import JetscaleError

LOOK_S = 0.2


@contextmanager
def held(file: Path, busy: JetscaleError, patience_s: float = 0.0) -> Iterator[None]:
    """Hold a lock file; let go of it at the end, however that comes.

    Raises:
        JetscaleError: `busy`, as somebody else holds it and does not let go.
    """
    end = time.monotonic() + patience_s
    with file.open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise busy from None
            time.sleep(LOOK_S)
        yield
