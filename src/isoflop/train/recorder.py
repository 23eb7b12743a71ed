"""What a run says of itself while it trains: rows, events, and the summary. On the first rank only."""

import math
import time
from dataclasses import dataclass
from typing import Any

import torch

from isoflop.checkpoint.marker import Progress
from isoflop.config.schema import RunConfig
from isoflop.dist.collectives import max_over_ranks, sum_over_ranks
from isoflop.dist.env import Ranks
from isoflop.monitor.folder import RunFolder, RunSummary, Status
from isoflop.monitor.sinks import RunIntro, Sink
from isoflop.monitor.throughput import device_peak_flops, peak_memory_bytes
from isoflop.train.contract import StepResult

ENDS: dict[Status, str] = {"finished": "finish", "preempted": "preempt", "failed": "fail"}
"""The event with which an attempt ends, by its status."""


@dataclass
class Recorder:
    """Turns steps into rows. Every rank has one, for the sums over ranks; the first has sinks."""

    config: RunConfig
    folder: RunFolder
    device: torch.device
    sinks: list[Sink]
    ranks: Ranks
    peak_flops_per_second: float = math.nan  # of all devices together

    def open(self, intro: RunIntro) -> None:
        """Measure what a step is compared with, and open the sinks."""
        (self.peak_flops_per_second,) = sum_over_ranks([self._peak_here()], self.device)
        for sink in self.sinks:
            sink.open(intro)

    def step(
        self,
        progress: Progress,
        result: StepResult,
        lr: float,
        n_targets: int,
        seconds: float,
        done: bool,
    ) -> None:
        """Log the step that just ended, if it is due. Every rank must come here."""
        if progress.step % self.config.monitor.every and not done:
            return
        memory_bytes = max_over_ranks(peak_memory_bytes(self.device), self.device)
        row = {
            "step": progress.step,
            "tokens": progress.tokens,
            "flops": progress.flops,
            "loss": result.loss,
            "grad_norm": result.grad_norm,
            "lr": lr,
            "tokens_per_second": n_targets / seconds,
            "step_seconds": seconds,
            "mfu": result.flops / seconds / self.peak_flops_per_second,
            "memory_bytes": int(memory_bytes),
        }
        for sink in self.sinks:
            sink.log(row)

    def _peak_here(self) -> float:
        """This rank's part of the peak: its GPU's; on CPUs a whole machine's, counted by its first rank."""
        if self.device.type == "cpu" and self.ranks.local_rank:
            return 0.0
        given = self.config.monitor.peak_flops_per_second
        compute = getattr(torch, self.config.precision.compute)
        return given if given is not None else device_peak_flops(self.device, compute)

    def event(self, event: str, step: int, **more: Any) -> None:
        """One line in events.jsonl."""
        if self.ranks.rank == 0:
            self.folder.append_event(event, step, **more)

    def close(self, status: Status, summary: RunSummary, wall_seconds: float) -> None:
        """Write the end down, then let the sinks go. `wall_seconds` are this attempt's."""
        if self.ranks.rank == 0:
            self.folder.write_summary(summary)
        self.event(ENDS[status], summary["step"], wall_seconds=wall_seconds)
        for sink in self.sinks:
            sink.close(status, dict(summary))


def summarize(
    status: Status, intro: RunIntro, folder: RunFolder, progress: Progress, started: float
) -> RunSummary:
    """The summary of a run, over all its attempts; `started` is when this one began (time.time())."""
    rows = folder.read_metrics()
    losses = [row["loss"] for row in rows if math.isfinite(row["loss"])]
    before = [
        event.get("wall_seconds", 0.0) for event in folder.read_events() if event["event"] in ENDS.values()
    ]
    return RunSummary(
        run_id=intro.run_id,
        name=intro.config.name,
        status=status,
        final_loss=rows[-1]["loss"] if rows else None,
        best_loss=min(losses, default=None),
        step=progress.step,
        tokens=progress.tokens,
        flops=progress.flops,
        n_params=intro.n_params,
        n_params_non_embed=intro.n_params_non_embed,
        wall_seconds=sum(before) + time.time() - started,
        restarts=sum(event["event"] == "resume" for event in folder.read_events()),
    )
