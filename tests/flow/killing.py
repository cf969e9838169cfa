"""Killing a Ray worker by the name of its task."""

import os
import signal
import time
from pathlib import Path


def is_ours(pid):
    """Whether a process descends from this one: only such ones may be killed."""
    while pid > 1:
        if pid == os.getpid():
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return False


def kill_the_worker_of(name, killed, patience_s=60):
    """Kill the Ray worker whose task has a name that begins so, as soon as there is one."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until and not killed:
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if entry.read_bytes().startswith(f"ray::{name}".encode()) and is_ours(int(entry.parent.name)):
                    os.kill(int(entry.parent.name), signal.SIGKILL)
                    killed.append(name)
                    break
            except (OSError, ValueError):
                continue
        time.sleep(0.005)
