"""Runs the stages of a recipe: datatrove's tasks, each in a process of its own.

datatrove's local executor leaves the work to a pool that waits for ever once the system has killed one
of its processes. Here a task's process is watched: its end, however it comes, is noticed and told.
"""

import fcntl
import multiprocessing
import os
import re
import signal
import threading
import time
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from pathlib import Path

from datatrove.executor.local import LocalPipelineExecutor

from isoflop.config.base import UserError
from isoflop.curate import progress
from isoflop.curate.stages import Stage
from isoflop.curate.usage import USAGE, write_usage

POLL_SECONDS = 0.2
WORKERS_LOCK = "workers.lock"
# What every task needs, imported once in the server that the tasks are forked from.
PRELOAD = ["isoflop.curate.blocks", "isoflop.config.compose"]
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class StageExecutor(LocalPipelineExecutor):
    """datatrove's executor for a stage's tasks; completed ones are marked in its folder and skipped."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(list(stage.steps), tasks=stage.tasks, logging_dir=str(stage.logs))
        self.usage = stage.logs / USAGE

    def run_task(self, rank: int) -> None:
        self._run_for_rank(rank, local_rank=1)  # not 0: that one also logs to the terminal

    def mark_rank_as_completed(self, rank: int) -> None:
        write_usage(self.usage, rank)
        super().mark_rank_as_completed(rank)


def start_workers() -> ForkServerContext:
    """The context that tasks are started from, in processes whose linear algebra keeps to one thread."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    ensure_running()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})
    return context


def run_stage(stage: Stage, workers: int, lock: Path, display: progress.Display) -> None:
    """Run what is left of `stage`, `workers` tasks at a time. Raises UserError when a task has failed."""
    executor = StageExecutor(stage)
    left = executor.get_incomplete_ranks()
    context = start_workers()
    counter = context.Value("q", 0)
    threads = stage.threads or workers
    running: dict[int, tuple[BaseProcess, Connection]] = {}
    process: BaseProcess
    (stage.logs / "logs").mkdir(parents=True, exist_ok=True)
    try:
        while left or running:
            while left and len(running) < workers:
                rank = left.pop(0)
                ours, theirs = context.Pipe(duplex=False)
                log = stage.logs / "logs" / f"task_{rank:05d}.err"
                process = context.Process(
                    target=_task, args=(executor, rank, theirs, counter, log, lock, threads)
                )
                process.start()
                theirs.close()
                running[rank] = process, ours
            wait([process.sentinel for process, _ in running.values()], POLL_SECONDS)
            for rank in [rank for rank, (process, _) in running.items() if not process.is_alive()]:
                process, answer = running.pop(rank)
                _check(stage, rank, process, answer)
            display(stage.tasks - len(left) - len(running), counter.value)
    finally:
        for process, _ in running.values():
            process.kill()
        for process, _ in running.values():
            process.join()


def _check(stage: Stage, rank: int, process: BaseProcess, answer: Connection) -> None:
    """Raises UserError where the task did not end well."""
    process.join()
    code = process.exitcode or 0
    if code == 0:
        return
    where = f"stage {stage.name}, task {rank}"
    try:
        cause = answer.recv()
    except EOFError:
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        hint = "; out of memory? fewer data.workers need less" if name == "SIGKILL" else ""
        cause = f"its process ended by {name}{hint}"
    raise UserError(
        f"{where}: {cause}; what is done is kept: the same command continues. Log: {stage.logs}/logs"
    )


def _task(
    executor: StageExecutor,
    rank: int,
    answer: Connection,
    counter: "progress.Synchronized[int]",
    log: Path,
    lock: Path,
    threads: int,
) -> None:
    """One task, in its own process; what it or its libraries print goes to `log`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    os.environ.update(RAYON_NUM_THREADS=str(threads), TOKENIZERS_PARALLELISM=str(threads > 1).lower())
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    held = lock.open("w")
    fcntl.flock(held, fcntl.LOCK_SH)  # held to the end: a new build waits for stragglers of a killed one
    progress.set_counter(counter)
    try:
        executor.run_task(rank)
    except UserError as error:
        answer.send(str(error))
        os._exit(1)
    except OSError as error:
        answer.send(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        os._exit(1)
    except Exception as error:
        in_rust = re.search(r"\(os error (\d+)\)", str(error))  # Rust's libraries raise a plain Exception
        cause = os.strerror(int(in_rust[1])) if in_rust else ""
        answer.send(cause or f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        os._exit(1)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def wait_for_stragglers(lock: Path, seconds: float = 30.0) -> None:
    """Wait until no task of an earlier, killed build writes any more. Raises UserError after `seconds`."""
    deadline = time.monotonic() + seconds
    with lock.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise UserError(
                        f"{lock.parent}: tasks of an earlier build still run; end them first"
                    ) from None
                time.sleep(POLL_SECONDS)
