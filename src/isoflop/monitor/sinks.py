"""Where a run's numbers go: `metrics.jsonl` always, the terminal, W&B. A sink is a class with three verbs.

`metrics.jsonl` is the truth, so a failure there ends the run; any other sink that fails says so once and
is left out from then on.
"""

import contextlib
import os
import sys
from io import FileIO
from pathlib import Path
from typing import Any, Protocol

from isoflop.config.schema import MonitorConfig, RunConfig
from isoflop.monitor.folder import RunFolder, disk_error, metrics_line
from isoflop.monitor.intro import RunIntro
from isoflop.monitor.metrics import Row, ordered
from isoflop.monitor.terminal import TerminalSink

__all__ = ["Degrading", "JsonlSink", "RunIntro", "Sink", "TerminalSink", "WandbSink", "build_sinks"]


class Sink(Protocol):
    """Takes a run's numbers. Called on the first rank only, in this order: open, log…, close."""

    def open(self, intro: RunIntro) -> None:
        """Once, before the first row."""

    def log(self, row: Row) -> None:
        """One row, its names those of `monitor/metrics.py`; steps ascend."""

    def close(self, status: str, summary: dict[str, Any]) -> None:
        """Once, also after a failure; `status` and `summary` as in `summary.json`."""


def build_sinks(
    config: RunConfig, folder: RunFolder, run_id: str, resumed_step: int, total_steps: int
) -> list[Sink]:
    """The sinks that `config.monitor` asks for. Opening them drops the rows after `resumed_step`."""
    monitor = config.monitor
    terminal = TerminalSink(monitor.terminal, resumed_step, total_steps)
    sinks: list[Sink] = [JsonlSink(folder, resumed_step), Degrading("terminal", terminal)]
    if monitor.wandb != "off":
        sinks.append(Degrading("wandb", WandbSink(monitor, folder, run_id, quiet=terminal.mode == "off")))
    return sinks


class JsonlSink:
    """`metrics.jsonl`: each row is one write, so that a kill loses at most the row in flight."""

    def __init__(self, folder: RunFolder, resumed_step: int) -> None:
        self.folder, self.resumed_step = folder, resumed_step
        self._file: FileIO | None = None

    def open(self, intro: RunIntro) -> None:
        self.folder.truncate_metrics(self.resumed_step)
        try:
            self._file = self.folder.metrics.open("ab", buffering=0)
        except OSError as error:
            raise disk_error(self.folder.metrics, error) from None

    def log(self, row: Row) -> None:
        """Raises UserError naming the file where the disk is full."""
        assert self._file is not None
        rest = memoryview(metrics_line(row))
        try:
            while rest:  # a nearly full disk takes a part and refuses the next
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise disk_error(self.folder.metrics, error) from None

    def close(self, status: str, summary: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.close()


class Degrading:
    """A sink that may fail: one warning, and the run goes on without it."""

    def __init__(self, name: str, sink: Sink) -> None:
        self.name, self.sink, self.failed = name, sink, False

    def open(self, intro: RunIntro) -> None:
        self._try("open", intro)

    def log(self, row: Row) -> None:
        self._try("log", row)

    def close(self, status: str, summary: dict[str, Any]) -> None:
        self._try("close", status, summary)

    def _try(self, verb: str, *arguments: Any) -> None:
        if self.failed:
            return
        try:
            getattr(self.sink, verb)(*arguments)
        except Exception as error:
            self.failed = True
            warn(
                f"{self.name}: {first_line(error)}; the run goes on without it, metrics.jsonl has everything"
            )


class WandbSink:
    """Weights & Biases: one W&B run for one experiment, through any number of restarts: its id is the run's.

    Online where there is a key, else offline in `<run folder>/wandb`; it never asks, and
    where the server cannot be reached it goes on offline. `tokens` is the axis of every chart, `flops` and
    `step` are there to choose.
    """

    init_seconds = 10.0  # how long the start waits for the server
    finish_seconds = 5.0  # how long the end waits for what is not uploaded yet

    def __init__(self, monitor: MonitorConfig, folder: RunFolder, run_id: str, quiet: bool = False) -> None:
        self.monitor, self.folder, self.run_id, self.quiet = monitor, folder, run_id, quiet
        self._run: Any = None

    def open(self, intro: RunIntro) -> None:
        import wandb

        wandb.setup(wandb.Settings(silent=True))
        mode = self._mode(wandb)
        try:
            self._run = self._init(wandb, intro, mode)
        except Exception as error:  # no server, a refused key, a proxy's page instead of an answer
            if mode != "online":
                raise
            warn(f"wandb: {first_line(error)}; logging offline")
            wandb.teardown()  # the failed attempt holds the run id
            mode = "offline"
            self._run = self._init(wandb, intro, mode)
        for axis in ("step", "tokens", "flops"):
            self._run.define_metric(axis)
        self._run.define_metric("*", step_metric="tokens")
        if not self.quiet:
            files = Path(self._run.dir).parent
            where = self._run.url if mode == "online" else f"{mode}; `wandb sync {files}` sends it"
            print(f"{'wandb':<8} {where}", flush=True)

    def log(self, row: Row) -> None:
        if row["step"] >= self._run.step:  # else W&B has it from before the restart
            self._run.log(ordered(row), step=int(row["step"]))

    def close(self, status: str, summary: dict[str, Any]) -> None:
        self._run.summary.update({**summary, "status": status})
        if status == "preempted":
            self._run.mark_preempting()
        self._run.finish(exit_code=0 if status == "finished" else 1)

    def _mode(self, wandb: Any) -> str:
        """`auto`: online with WANDB_API_KEY. `online` without any key would ask for one, so it is offline."""
        wanted: str = self.monitor.wandb
        if wanted == "auto":
            return "online" if os.environ.get("WANDB_API_KEY") else "offline"
        if wanted == "online" and not wandb.login(prompt=False, verify=False):
            warn("wandb: no API key, so it logs offline; set WANDB_API_KEY or run `wandb login`")
            return "offline"
        return wanted

    def _init(self, wandb: Any, intro: RunIntro, mode: str) -> Any:
        return wandb.init(
            id=self.run_id,
            resume="allow",
            reinit="finish_previous",  # a sweep's points share a process
            name=intro.config.name,
            project=self.monitor.wandb_project,
            entity=self.monitor.wandb_entity,
            group=self.monitor.group,
            tags=list(self.monitor.tags),
            job_type="train",
            config=intro.config.model_dump(mode="json"),
            dir=str(self.folder.path),
            mode=mode,
            settings=wandb.Settings(
                silent=True,
                console="off",  # what the run prints stays here
                init_timeout=self.init_seconds,
                finish_timeout=self.finish_seconds,
            ),
        )


def warn(message: str) -> None:
    """One line for the person at the terminal; never a reason to fail itself."""
    with contextlib.suppress(OSError):  # there is nobody to tell
        print(message, file=sys.stderr, flush=True)


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
