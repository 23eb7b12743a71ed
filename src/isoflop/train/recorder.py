"""What a run says of itself while it trains: rows, events, and the summary. On the first rank only."""

import math
import os
from dataclasses import dataclass
from typing import Any

import torch

from isoflop.checkpoint.marker import Progress
from isoflop.checkpoint.retention import best
from isoflop.checkpoint.saver import Saved
from isoflop.config.schema import RunConfig
from isoflop.dist.collectives import max_over_ranks, sum_over_ranks
from isoflop.dist.env import Ranks
from isoflop.monitor.folder import RunFolder, RunSummary, Status
from isoflop.monitor.sinks import RunIntro, Sink
from isoflop.monitor.summary import ENDS, read_summary, summarize
from isoflop.monitor.throughput import device_peak_flops, peak_memory_bytes
from isoflop.train.contract import StepResult


@dataclass
class Recorder:
    """Turns steps into rows. Every rank has one, for the sums over ranks; the first has sinks."""

    config: RunConfig
    folder: RunFolder
    device: torch.device
    sinks: list[Sink]
    ranks: Ranks
    peak_flops_per_second: float = math.nan  # of all devices together
    intro: RunIntro | None = None  # once open

    def open(self, intro: RunIntro, progress: Progress) -> None:
        """Measure what a step is compared with, open the sinks, and say that the run is under way."""
        (self.peak_flops_per_second,) = sum_over_ranks([self._peak_here()], self.device)
        self.intro = intro
        for sink in self.sinks:
            sink.open(intro)
        self.event("resume" if progress.step else "start", progress.step, ranks=self.ranks.world_size)
        if self.ranks.rank == 0:
            self.folder.write_summary(self._summary("running", progress))

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
            **({} if result.applied else {"skipped": 1}),
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

    def sync(self) -> None:
        """Put the rows so far on disk: a checkpoint must not outlive the rows that led to it."""
        if self.ranks.rank == 0:
            with self.folder.metrics.open("rb") as file:
                os.fsync(file.fileno())

    def event(self, event: str, step: int, **more: Any) -> None:
        """One line in events.jsonl."""
        if self.ranks.rank == 0:
            self.folder.append_event(event, step, **more)

    def skip(self, progress: Progress, result: StepResult, cause: str) -> None:
        """Write down that the guard kept a step from the weights."""
        numbers = {"loss": result.loss, "grad_norm": result.grad_norm}
        self.event("skip", progress.step, cause=cause, in_row=progress.skips_in_row, **numbers)

    def saved(self, saved: Saved) -> None:
        """Write down that a checkpoint is complete, and what it cost."""
        self.event(
            "checkpoint",
            saved.step,
            folder=saved.folder.name,
            loss=saved.loss,
            asynchronous=self.config.checkpoint.asynchronous,
            seconds=round(saved.seconds, 6),
            blocked_seconds=round(saved.blocked_seconds, 6),
        )

    def close(self, status: Status, progress: Progress, **why: Any) -> None:
        """Write the end down, then let the sinks go; `why` goes into the event."""
        if self.ranks.rank == 0 and self.intro is not None:
            self.event(ENDS[status], progress.step, **why)
            self.folder.write_summary(self._summary(status, progress))
            summary = read_summary(self.folder)
            for sink in self.sinks:
                sink.close(status, dict(summary))

    def abandon(self) -> None:
        """Let the sinks go after a failure, which is written down by who started the ranks."""
        for sink in self.sinks if self.intro is not None else []:
            sink.close("failed", dict(read_summary(self.folder)))

    def _summary(self, status: Status, progress: Progress) -> RunSummary:
        assert self.intro is not None
        known = RunSummary(
            run_id=self.intro.run_id,
            name=self.intro.config.name,
            n_params=self.intro.n_params,
            n_params_non_embed=self.intro.n_params_non_embed,
            step=progress.step,
            tokens=progress.tokens,
            flops=progress.flops,
        )
        if (found := best(self.folder.checkpoints)) is not None:
            known["best_checkpoint"], known["best_checkpoint_loss"] = found
        return summarize(self.folder, status, known)
