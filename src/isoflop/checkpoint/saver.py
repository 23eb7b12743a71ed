"""The checkpoints of one run: written at once, or copied aside and written while training goes on."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist

from isoflop.checkpoint.marker import Progress
from isoflop.checkpoint.save import write
from isoflop.config.schema import CheckpointConfig


@dataclass(frozen=True)
class Saved:
    """A checkpoint that has just become complete."""

    folder: Path
    step: int
    loss: float | None  # what the best are chosen by
    seconds: float  # from when it was begun until it was complete
    blocked_seconds: float  # of those, the ones in which training stood still


class Saver:
    """Saves as `config` says, at most one checkpoint at a time; tells `done` of each once it is complete.

    When asynchronous, training waits for a copy to host memory only. The rest runs in a thread, whose
    collectives need a group of their own: gloo's, whatever the training uses. Every rank has a Saver and
    calls `save` and `wait` in the same order. As a context it waits at its end, also for what was under way
    when training failed: it was copied before that.
    """

    def __init__(
        self,
        config: CheckpointConfig,
        checkpoints: Path,
        done: Callable[[Saved], None],
        timeout_seconds: float = 600.0,
    ) -> None:
        self.config, self.checkpoints, self.done = config, checkpoints, done
        self.timeout_seconds = timeout_seconds
        self._group = (
            dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_seconds))
            if config.asynchronous
            else None
        )
        self._thread: _Thread | None = None

    def save(self, state: dict[str, Any], progress: Progress, loss: float | None = None) -> None:
        """Save `state`, or begin to, after the checkpoint that is still under way.

        Raises UserError where one of the two could not be written.
        """
        self.wait()
        begun = time.perf_counter()
        if self.config.asynchronous:
            copy = staged(state)
            self._thread = _Thread(lambda: self._write(copy, progress, loss), progress.step, loss, begun)
        else:
            folder = self._write(state, progress, loss)
            seconds = time.perf_counter() - begun
            self.done(Saved(folder, progress.step, loss, seconds, blocked_seconds=seconds))

    def poll(self) -> None:
        """Take note of the checkpoint that was under way, if it is complete by now. Never waits or raises."""
        if self._thread is not None and not self._thread.is_alive() and self._thread.error is None:
            self.wait()

    @property
    def failed(self) -> bool:
        """Whether the checkpoint that was under way could not be written; `wait` says why."""
        return self._thread is not None and self._thread.error is not None

    def wait(self) -> None:
        """Wait for the checkpoint that is under way, if there is one. Raises what went wrong with it."""
        if self._thread is None:
            return
        thread, self._thread = self._thread, None
        self.done(thread.saved())

    def __enter__(self) -> "Saver":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.wait()
        elif self._thread is not None and issubclass(kind, Exception):  # a second Ctrl-C does not wait
            self._thread.join(self.timeout_seconds)
            self.poll()

    def _write(self, state: dict[str, Any], progress: Progress, loss: float | None) -> Path:
        return write(state, progress, self.checkpoints, self.config, loss, self._group)


class _Thread(threading.Thread):
    """Writes one checkpoint. A daemon: a rank that has said its last word is not kept by it."""

    def __init__(self, write_: Callable[[], Path], step: int, loss: float | None, begun: float) -> None:
        super().__init__(name=f"checkpoint-{step}", daemon=True)
        self.error: BaseException | None = None
        self._write, self._step, self._loss, self._begun = write_, step, loss, begun
        self._folder, self._ended = Path(), begun
        self._staged = time.perf_counter()
        self.start()

    def run(self) -> None:
        try:
            self._folder = self._write()
        except BaseException as error:
            self.error = error
        self._ended = time.perf_counter()
        del self._write  # and the copy of the state with it

    def saved(self) -> Saved:
        """Wait for the end. Raises what went wrong."""
        since = time.perf_counter()
        self.join()
        blocked = self._staged - self._begun + max(0.0, self._ended - since)
        if self.error is not None:
            raise self.error
        return Saved(self._folder, self._step, self._loss, self._ended - self._begun, blocked)


@torch.no_grad()
def staged(state: dict[str, Any]) -> dict[str, Any]:
    """A copy of `state` in host memory, sharded as it was, that further training does not touch."""
    return {
        name: staged(value)
        if isinstance(value, dict)
        else value.detach().to("cpu", copy=True)
        if isinstance(value, torch.Tensor)
        else value
        for name, value in state.items()
    }
