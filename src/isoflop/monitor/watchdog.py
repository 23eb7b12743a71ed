"""A hang is not silent: where a rank makes no progress, all say what they are doing, and the run ends.

A thread in every rank counts the time since the rank's last sign of life. Past the limit the rank writes
`logs/flight-rank-<k>.json`; the first rank of those that answer compares them, leaves the cause as a failure
of the run, and ends. The ranks talk through the run folder, which they share anyway: a store's connection
may be held by the very thread that hangs.
"""

import json
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isoflop.dist.env import Ranks
from isoflop.monitor.failures import first_failure, record_failure, write_failure
from isoflop.monitor.flight import State, state
from isoflop.monitor.folder import RunFolder, write_json
from isoflop.monitor.hang import Diagnosis, diagnose

PATIENCE = 3.0  # times the limit: for the first step, which compiles, and for checkpoints
ANSWER_SECONDS = 10.0  # that a rank waits for the others' answers


class Watchdog(threading.Thread):
    """Ends this process where `alive` is not called for `limit_seconds`."""

    def __init__(self, folder: RunFolder, ranks: Ranks, limit_seconds: float) -> None:
        super().__init__(name="watchdog", daemon=True)
        self.folder, self.ranks, self.limit_seconds = folder, ranks, limit_seconds
        self._tick_seconds = min(1.0, limit_seconds / 10)
        self._answer_seconds = min(ANSWER_SECONDS, limit_seconds)
        self._stopped = threading.Event()
        self._doing, self._allowed = "", limit_seconds
        self._seconds = 0.0  # since the last sign of life
        self._signs = 0
        self.alive("meeting the other ranks")

    def alive(self, doing: str, patience: float = 1.0) -> None:
        """A sign of life: what begins now may take `patience` times the limit."""
        self._doing, self._allowed = doing, patience * self.limit_seconds
        self._signs += 1
        self._seconds = 0.0

    def stop(self) -> None:
        """There is nothing to watch any more."""
        self._stopped.set()

    def run(self) -> None:
        before = time.monotonic()
        while not self._stopped.wait(self._tick_seconds):
            now = time.monotonic()
            # A process that was itself stopped (Ctrl-Z, a suspended job) has not hung for that time
            self._seconds += min(now - before, 2 * self._tick_seconds)
            before = now
            if self._seconds > self._allowed:
                self._accuse()
                before = time.monotonic()

    def _accuse(self) -> None:
        """Say what this rank is doing, hear the others, end; take it back where the rank has moved on."""
        signs, file = self._signs, flight_file(self.folder, self.ranks.rank)
        self.folder.logs.mkdir(parents=True, exist_ok=True)
        write_json(file, state(self.ranks.rank, self._doing, self._seconds))
        answers = self._hear()
        if min(answers, default=0) != self.ranks.rank:
            time.sleep(self._answer_seconds)  # the first of them speaks, the others only where it cannot
        if self._stopped.is_set() or self._signs != signs:
            file.unlink(missing_ok=True)
            return
        found = diagnose(read_states(answers), self.ranks.world_size)
        end(self.folder, self.ranks, f"no progress for {self._seconds:.0f} s: {found.cause}", found)

    def _hear(self) -> dict[int, Path]:
        """The files of the ranks that answer in time."""
        deadline = time.monotonic() + self._answer_seconds
        while True:
            files = flight_files(self.folder)
            if len(files) == self.ranks.world_size or time.monotonic() > deadline:
                return files
            time.sleep(self._tick_seconds)


@contextmanager
def watchdog(folder: RunFolder, ranks: Ranks, limit_seconds: float) -> Iterator[Watchdog]:
    """A watchdog that watches inside the context."""
    thread = Watchdog(folder, ranks, limit_seconds)
    thread.start()
    try:
        yield thread
    finally:
        thread.stop()


def end(folder: RunFolder, ranks: Ranks, cause: str, found: Diagnosis) -> None:
    """Write the cause down as whoever started this rank reads it, and leave: nothing can be unwound."""
    write_failure(folder, ranks.rank, cause, began_on=found.rank)
    if multiprocessing.parent_process() is None:  # nobody of ours waits for this process
        failure = first_failure(folder, {ranks.rank: 1})
        record_failure(folder, failure)
        where = f"rank {failure['rank']}: " if ranks.world_size > 1 else ""
        print(f"{where}{failure['cause']}\nrun folder: {folder.path}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(1)


def flight_file(folder: RunFolder, rank: int) -> Path:
    return folder.logs / f"flight-rank-{rank}.json"


def flight_files(folder: RunFolder) -> dict[int, Path]:
    """What ranks have said in this attempt, by rank."""
    return {int(file.stem.rpartition("-")[2]): file for file in folder.logs.glob("flight-rank-*.json")}


def read_states(files: dict[int, Path]) -> dict[int, State]:
    """What the ranks say; a file that is gone is of a rank that has moved on."""
    states: dict[int, State] = {}
    for rank, file in files.items():
        try:
            states[rank] = json.loads(file.read_text())
        except FileNotFoundError:
            continue
    return states
