"""Documents counted across processes, and the display that shows them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.sharedctypes import Synchronized
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

PLAIN_SECONDS = 10.0  # between lines where there is no terminal

_counter: "Synchronized[int] | None" = None


def set_counter(counter: "Synchronized[int]") -> None:
    """In a worker: count into what the parent reads."""
    global _counter
    _counter = counter


def count_document() -> None:
    """One more document has been read."""
    if _counter is not None:
        with _counter.get_lock():
            _counter.value += 1


class Display(Protocol):
    """Tells how far a stage is: `update(tasks done, documents read)`."""

    def __call__(self, done: int, documents: int) -> None: ...


@contextmanager
def stage_display(console: Console, name: str, tasks: int) -> Iterator[Display]:
    """Shows one stage while it runs: live on a terminal, elsewhere a line every ten seconds."""
    if console.is_terminal:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description:<24}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[documents]:>10,} documents"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task(name, total=tasks, documents=0)
            yield lambda done, documents: progress.update(task, completed=done, documents=documents)
        return
    last = started = time.monotonic()

    def line(done: int, documents: int) -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_SECONDS:
            last = time.monotonic()
            console.print(f"{name:<24} {done}/{tasks} tasks, {documents:,} documents, {last - started:.0f} s")

    yield line
