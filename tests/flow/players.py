"""What spawned processes do while they are measured; they find this file by its name."""

import subprocess
import sys
from collections.abc import Iterator

BUSY_S = 0.3
HELD = 60_000_000  # bytes
CODE = f"import time\nend = time.process_time() + {BUSY_S}\nwhile time.process_time() < end: pass"


def spinning(times: int) -> Iterator[int]:
    """Processes that end: each uses the CPU for a while and is gone before the round is over."""
    yield 0
    for _ in range(times):
        subprocess.run([sys.executable, "-c", CODE], check=True)
    yield times


def failing() -> Iterator[int]:
    yield 1
    raise ValueError("of its own")


def holding() -> Iterator[int]:
    """Memory here, and as much in a child that is gone before the round is over."""
    yield 0
    held = b"x" * HELD
    subprocess.run([sys.executable, "-c", f"import time; held = b'x' * {HELD}; time.sleep(0.5)"], check=True)
    yield len(held)
