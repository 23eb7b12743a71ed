"""Being asked to stop: the handler sets a flag, the loop leaves at the next step with a checkpoint."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from isoflop.dist.signals import ASKING, asked_early


class StopRequest:
    """Set by the first signal; a second one of Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def cause(self) -> dict[str, str]:
        """For the event that says why the run was left."""
        return {"cause": f"asked by {self.signal.name}" if self.signal else "asked on another rank"}

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """A StopRequest that listens inside the context; the handlers before it come back after."""
    request = StopRequest()
    if early := asked_early():
        request.signal = signal.Signals(early)
    before = {number: signal.signal(number, request.handle) for number in ASKING}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
