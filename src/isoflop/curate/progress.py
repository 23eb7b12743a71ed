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
def stage_display(console: Console, name: str, tasks: int, expected: int | None) -> Iterator[Display]:
    """Shows one stage while it runs: live on a terminal, elsewhere a line every ten seconds.

    `expected` documents, where the stage before has counted them, tell how far it is; else its tasks do.
    """
    started = time.monotonic()

    def so_far(done: int, documents: int) -> tuple[str, float]:
        seconds = max(time.monotonic() - started, 1e-3)
        share = min(1.0, documents / expected) if expected and documents else done / tasks
        left = f", {seconds * (1 - share) / share:.0f} s left" if share > 0.02 else ""
        return f"{documents:,} documents, {documents / seconds:,.0f}/s{left}", share

    if console.is_terminal:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[told]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console, transient=True) as progress:
            bar = progress.add_task(name, total=1.0, told="")

            def update(done: int, documents: int) -> None:
                told, share = so_far(done, documents)
                progress.update(bar, completed=share, told=told)

            yield update
        return
    last = started

    def line(done: int, documents: int) -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_SECONDS:
            last = time.monotonic()
            console.print(f"{name:<12} {done}/{tasks} tasks, {so_far(done, documents)[0]}")

    yield line
