"""Signals that ask a run to stop, remembered from the first moment of a rank: it may still be importing."""

import signal
from types import FrameType

ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)  # Ctrl-C; scancel and preemption; Slurm's warning

_early: list[int] = []


def remember() -> None:
    """From now on the signals of `ASKING` are remembered instead of ending the process."""
    for number in ASKING:
        signal.signal(number, _note)


def asked_early() -> int | None:
    """The first signal that came since `remember`, if any."""
    return _early[0] if _early else None


def _note(number: int, frame: FrameType | None) -> None:
    _early.append(number)
