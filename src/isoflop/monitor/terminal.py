"""A run on the terminal: a live bar where there is one, about twenty plain lines where there is none."""

import math
import time
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from isoflop.monitor import units
from isoflop.monitor.intro import RunIntro
from isoflop.monitor.metrics import EVAL_PREFIX, Row

PLAIN_LINES = 20  # in a whole run, besides the first and the last step


class TerminalSink:
    """`rich`: a bar that stays in place; `plain`: lines; `auto`: rich on a terminal; `off`: nothing."""

    def __init__(
        self,
        mode: Literal["auto", "rich", "plain", "off"],
        resumed_step: int,
        total_steps: int,
        console: Console | None = None,
    ) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.mode = mode if mode != "auto" else "rich" if self.console.is_terminal else "plain"
        self.first_step, self.total_steps = resumed_step + 1, total_steps
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._next_plain_step = 0.0
        self._last: Row = {}
        self._printed_step = 0.0
        self._started: tuple[float, float] | None = None  # (clock, step) of the first row

    def open(self, intro: RunIntro) -> None:
        if self.mode != "off":
            width = self.console.width if self.console.is_terminal else 120
            self.console.print(intro.render(width), markup=False)

    def log(self, row: Row) -> None:
        self._last = row
        self._started = self._started or (time.monotonic(), row["step"])
        if self.mode == "rich":
            self._update_bar(row)
        elif self.mode == "plain" and self._is_due(row["step"]):
            self._print_line(row)

    def close(self, status: str, summary: dict[str, Any]) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self.mode == "plain" and self._last and self._last["step"] != self._printed_step:
            self._print_line(self._last)
        if self.mode != "off":
            self.console.print(closing_line(status, summary), markup=False)

    def _is_due(self, step: float) -> bool:
        if step < self._next_plain_step and step < self.total_steps:
            return False
        stride = max(1, math.ceil((self.total_steps - self.first_step + 1) / PLAIN_LINES))
        self._next_plain_step = (step // stride + 1) * stride
        return True

    def _print_line(self, row: Row) -> None:
        self._printed_step = row["step"]
        width = len(f"{self.total_steps:,}")
        self.console.print(
            f"step {row['step']:>{width},}/{self.total_steps:,}  {self._numbers(row)}", markup=False
        )

    def _update_bar(self, row: Row) -> None:
        if self._bar is None:
            self._bar = Progress(
                BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.description}", markup=False),
                console=self.console, refresh_per_second=4,
            )  # fmt: skip
            self._task = self._bar.add_task("", total=self.total_steps)
            self._bar.start()
        self._bar.update(self._task, completed=row["step"], description=self._numbers(row))

    def _numbers(self, row: Row) -> str:
        """`loss 3.214  lr 2.9e-04  41.2 k tok/s  MFU 38.2 %  12 min left`, and evaluations when there are."""
        parts = [f"loss {row['loss']:.4f}" if "loss" in row else ""]
        parts += [
            f"{name.removeprefix(EVAL_PREFIX)} {row[name]:.4f}"
            for name in row
            if name.startswith(EVAL_PREFIX)
        ]
        parts += [f"lr {row['lr']:.2e}" if "lr" in row else ""]
        if math.isfinite(row.get("tokens_per_second", math.nan)):
            parts.append(f"{units.count(row['tokens_per_second'])} tok/s")
        if math.isfinite(row.get("mfu", math.nan)):
            parts.append(f"MFU {units.percent(row['mfu'])}")
        parts.append(self._time_left(row["step"]))
        return "  ".join(part for part in parts if part)

    def _time_left(self, step: float) -> str:
        """From the pace since the first row: the first step, which compiles and warms up, does not count."""
        if self._started is None or step <= self._started[1] or step >= self.total_steps:
            return ""
        pace = (time.monotonic() - self._started[0]) / (step - self._started[1])
        return f"{units.duration(pace * (self.total_steps - step))} left"


def closing_line(status: str, summary: dict[str, Any]) -> str:
    """`finished · 1,450 steps · loss 2.9134 (best 2.9011) · 3.04 B tokens · 12 min 5 s`."""
    parts = [status]
    if summary.get("step") is not None:
        parts.append(f"{summary['step']:,} steps")
    if summary.get("final_loss") is not None:
        best = f" (best {summary['best_loss']:.4f})" if summary.get("best_loss") is not None else ""
        parts.append(f"loss {summary['final_loss']:.4f}{best}")
    if summary.get("tokens") is not None:
        parts.append(f"{units.count(summary['tokens'])} tokens")
    if summary.get("wall_seconds") is not None:
        parts.append(units.duration(summary["wall_seconds"]))
    return " · ".join(parts)
