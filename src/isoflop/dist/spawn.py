"""Local ranks: start them, watch them, end them together. No torch here."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

from isoflop.dist.signals import ASKING

GRACE_SECONDS = 5.0  # for the other ranks, once one has failed

RankMain = Callable[..., int]
"""(rank, n_ranks, *arguments) → exit code. Importable by name: ranks are new processes."""


def spawn_ranks(
    main: RankMain, arguments: tuple[Any, ...], n_ranks: int, logs: Path, threads: int, preload: str
) -> dict[int, int]:
    """Run `main` in `n_ranks` processes here → exit code by rank, in the order in which they ended.

    The first rank has this process's terminal, the others write to `logs/rank-<k>.log`. SIGINT and
    SIGTERM here ask every rank to stop (SIGTERM there), a second SIGINT kills. When a rank fails the
    others are killed after `GRACE_SECONDS`. `preload` is the module that all ranks share: it is
    imported once, and they are forked from it. If this process dies, so do they.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["isoflop.dist.listen", preload])
    logs.mkdir(parents=True, exist_ok=True)
    ranks: list[BaseProcess] = [
        context.Process(target=_rank, args=(main, rank, n_ranks, logs, arguments), name=f"rank-{rank}")
        for rank in range(n_ranks)
    ]
    with _forwarding_signals(ranks) as asked:
        for process in ranks:
            process.start()
        if asked:  # before every rank was there to hear it
            _signal_all(ranks, signal.SIGTERM)
        return _watch(ranks)


def _watch(ranks: list[BaseProcess]) -> dict[int, int]:
    ended: dict[int, int] = {}
    deadline = float("inf")
    while len(ended) < len(ranks):
        wait([process.sentinel for process in ranks if process.is_alive()], timeout=0.5)
        codes = {rank: process.exitcode for rank, process in enumerate(ranks) if rank not in ended}
        new = [(rank, code) for rank, code in codes.items() if code is not None]
        ended |= dict(sorted(new, key=lambda end: end[1]))  # those killed (below 0) before their echoes
        failed = any(code not in (0, os.EX_TEMPFAIL) for code in ended.values())
        if failed and deadline == float("inf"):
            deadline = time.monotonic() + GRACE_SECONDS
        if time.monotonic() > deadline:
            for process in ranks:
                process.kill()
    return ended


@contextmanager
def _forwarding_signals(ranks: list[BaseProcess]) -> Iterator[list[int]]:
    """Pass signals on to `ranks` inside the context; the list fills with those that came."""
    seen: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        kill = number == signal.SIGINT and signal.SIGINT in seen
        seen.append(number)
        _signal_all(ranks, signal.SIGKILL if kill else signal.SIGTERM)

    before = {number: signal.signal(number, forward) for number in ASKING}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _signal_all(ranks: list[BaseProcess], number: int) -> None:
    for process in ranks:
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, number)


def _rank(main: RankMain, rank: int, n_ranks: int, logs: Path, arguments: tuple[Any, ...]) -> None:
    os.setsid()  # Ctrl-C at the terminal reaches the launcher alone, which passes it on
    threading.Thread(target=_die_with_launcher, daemon=True).start()
    if rank:
        log = os.open(logs / f"rank-{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
    code = main(rank, n_ranks, *arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # not through atexit: a collective library must not keep a rank that has said its word


def _die_with_launcher() -> None:
    launcher = multiprocessing.parent_process()
    assert launcher is not None
    launcher.join()
    os._exit(1)
