"""The one training loop: fetch, step, guard, log, save when due, leave when asked."""

import time
from pathlib import Path
from typing import Literal

from isoflop.checkpoint.marker import Progress
from isoflop.checkpoint.save import save
from isoflop.data.loader import Batches
from isoflop.optim.schedule import learning_rate_factor
from isoflop.train.budget import total_steps
from isoflop.train.contract import Engine
from isoflop.train.guard import check_finite
from isoflop.train.profile import profiler
from isoflop.train.recorder import Recorder
from isoflop.train.signals import StopRequest


def train(
    engine: Engine,
    batches: Batches,
    progress: Progress,
    recorder: Recorder,
    asked: StopRequest,
    folder: Path,
) -> tuple[Literal["finished", "preempted"], Progress]:
    """Train from `progress` to the end of the budget, or until a rank is `asked` to stop.

    Either way the last thing done is a checkpoint. Raises UserError where the loss is no number any more
    or the disk is full; the last complete checkpoint then stands.
    """
    config, last = engine.config, total_steps(engine.config)
    batch_tokens = config.train.global_batch_tokens
    with profiler(config.monitor.profile_steps, folder) as trace:
        while progress.step < last:
            started = time.perf_counter()
            batch = batches.step(progress.step, engine.data_rank, config.parallel.data)
            n_targets = batches.n_targets(progress.step)
            seen = (progress.step + 1) * batch_tokens
            lr = config.optimizer.lr * learning_rate_factor(config.schedule, seen, last * batch_tokens)
            result = engine.train_step(batch, n_targets, lr)
            seconds = time.perf_counter() - started
            progress = Progress(progress.step + 1, progress.tokens + n_targets, progress.flops + result.flops)
            check_finite(progress.step, result.loss, result.grad_norm)
            recorder.step(progress, result, lr, n_targets, seconds, done=progress.step == last)
            stop = engine.agree(bool(asked))
            if is_due(progress.step, last, config.checkpoint.every) or stop:
                recorder.sync()
                saved = save(engine.state(), progress, folder / "checkpoints", config.checkpoint.keep)
                recorder.event("checkpoint", progress.step, folder=saved.name)
            if trace is not None:
                trace.step()
            if stop and progress.step < last:
                return "preempted", progress
    return "finished", progress


def is_due(step: int, last: int, every: int | None) -> bool:
    """Whether a checkpoint is written after `step`: each `every` steps, and at the end."""
    return step == last or (every is not None and step % every == 0)
