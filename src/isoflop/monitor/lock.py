"""One program at a time trains in a run folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isoflop.config.base import UserError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder`. Raises UserError where another process does; the lock goes when its process does."""
    path = folder / ".lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(descriptor, 100).decode().strip() or "another process"
            raise UserError(f"{folder}: {holder} is training here; wait for it, or stop it first") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {os.uname().nodename}".encode(), 0)
        yield
    finally:
        os.close(descriptor)
