"""One program at a time trains in a run folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isoflop.config.base import UserError
from isoflop.monitor.folder import disk_error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder`; the lock goes when its process does.

    Raises UserError where another process holds it, and where the lock cannot be written.
    """
    path = folder / ".lock"
    try:
        file = path.open("a+b", buffering=0)
    except OSError as error:
        raise disk_error(path, error) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.truncate(0)
            file.write(f"process {os.getpid()} on {os.uname().nodename}".encode())
        except BlockingIOError:
            file.seek(0)
            holder = (file.read(100) or b"").decode().strip() or "another process"
            raise UserError(f"{folder}: {holder} is training here; wait for it, or stop it first") from None
        except OSError as error:
            raise disk_error(path, error) from None
        yield
