"""A process beside the task's own, for C code that a page can crash, or keep busy for ever.

A page of 200 kB, its elements nested twenty thousand deep, costs a parser minutes; a megabyte of attributes
as much; no exception ends C code, and a fault in it ends the process. Here the page is lost, and counted,
and not the task.
"""

import ctypes
import faulthandler
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Self

from isoflop.config.base import UserError

CPU_SECONDS = 60.0
MEMORY_BYTES = 4 << 30
PR_SET_PDEATHSIG = 1
GRACE_SECONDS = 5.0


class CallError(Exception):
    """The function could not do it. `reason`: failed (it raised), crashed, or too_slow."""

    def __init__(self, reason: str, cause: str) -> None:
        super().__init__(cause)
        self.reason = reason


class Sandbox:
    """Calls `function` in a child process, one text after another, and starts a new one where it died.

    The limits are of the child's own CPU time for one call, so that a busy machine loses no page, and of
    the memory that it may take beyond what it began with. A slower processor loses a page more only where
    the page takes about a minute of CPU: ordinary ones take a thousandth of a second.
    """

    def __init__(
        self,
        function: Callable[[str], str | None],
        cpu_seconds: float = CPU_SECONDS,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self.function, self.cpu_seconds, self.memory_bytes = function, cpu_seconds, memory_bytes
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def __call__(self, text: str) -> str | None:
        """The function's answer. Raises CallError, or UserError where the system killed the child."""
        pipe = self._pipe or self._start()
        try:
            pipe.send(text)
            done, answer = pipe.recv()
        except (EOFError, OSError):
            code = self._end()
            if code == -signal.SIGPROF:
                raise CallError("too_slow", f"took {self.cpu_seconds:g} s of CPU time and more") from None
            if code == -signal.SIGKILL:  # not the page's doing: another time it may pass
                raise UserError(
                    "an extraction was killed; out of memory? fewer data.workers need less"
                ) from None
            raise CallError("crashed", f"ended the process with {code}") from None
        if not done:
            raise CallError("failed", answer)
        return str(answer) if answer is not None else None

    def _start(self) -> Connection:
        context = multiprocessing.get_context("fork")  # its CPU time is its parent's, and its code is loaded
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, self._pipe, self.function, self.cpu_seconds, self.memory_bytes)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        return self._pipe

    def _end(self) -> int:
        """End the child; how it had ended, where it had."""
        if self._process is None or self._pipe is None:
            return 0
        self._pipe.close()
        self._process.join(GRACE_SECONDS)
        if self._process.is_alive():  # in the middle of a call whose answer nobody waits for
            self._process.kill()
            self._process.join()
        code = self._process.exitcode or 0
        self._process = self._pipe = None
        return code


def _serve(
    pipe: Connection,
    parents: Connection,
    function: Callable[[str], str | None],
    cpu_seconds: float,
    memory_bytes: int,
) -> None:
    """In the child: answer until the parent closes its end."""
    parents.close()  # else it would not be noticed that the parent has
    faulthandler.disable()  # a crash is counted, and needs no traceback
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pages = Path("/proc/self/statm")
    if pages.is_file():
        in_use = int(pages.read_text().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        wanted = in_use + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (wanted if hard < 0 else min(wanted, hard), hard))
    while True:
        try:
            text = pipe.recv()
        except EOFError:
            os._exit(0)
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        answer: tuple[bool, str | None]
        try:
            answer = True, function(text)
        except Exception as error:
            answer = False, f"{type(error).__name__}: {error}"[:300]
        signal.setitimer(signal.ITIMER_PROF, 0)
        pipe.send(answer)
