"""The one training loop: fetch, step, guard, log, save when due, leave when asked."""

import time
from pathlib import Path
from typing import Literal

from isoflop.checkpoint.marker import Progress
from isoflop.checkpoint.saver import Saver
from isoflop.config.ramp import tokens_before
from isoflop.data.loader import Batches
from isoflop.optim.schedule import learning_rate_factor
from isoflop.train.budget import total_steps, total_tokens
from isoflop.train.contract import Engine, StepResult
from isoflop.train.guard import Guard, MeanLoss
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

    Either way the last thing done is a checkpoint. Raises UserError where too many steps in a row had to be
    skipped or the disk is full; the last complete checkpoint then stands.
    """
    config, last, tokens = engine.config, total_steps(engine.config), total_tokens(engine.config)
    stages = config.train.stages
    guard, mean_loss, owed = Guard(config.train.guard, progress), MeanLoss(), False
    saver = Saver(
        config.checkpoint,
        folder / "checkpoints",
        recorder.saved,
        timeout_seconds=config.cluster.timeout_seconds,
    )
    with profiler(config.monitor.profile_steps, folder) as trace, saver:
        while progress.step < last:
            started = time.perf_counter()
            batch = batches.step(progress.step, engine.data_rank, config.parallel.data)
            n_targets = batches.n_targets(progress.step)
            seen = tokens_before(stages, progress.step + 1)
            lr = config.optimizer.lr * learning_rate_factor(
                config.schedule, seen, tokens, config.train.global_batch_tokens
            )
            result = engine.train_step(batch, n_targets, lr, guard.accept)
            seconds = time.perf_counter() - started
            progress = advance(progress, result, n_targets, guard)
            recorder.step(progress, result, lr, n_targets, seconds, done=progress.step == last)
            if guard.cause is None:
                mean_loss.add(result.loss)
            else:
                recorder.skip(progress, result, guard.cause)
                guard.check(progress.step)
            saver.poll()
            stop = engine.agree(bool(asked) or saver.failed)
            owed = owed or is_due(progress.step, last, config.checkpoint.every)
            if stop or progress.step == last or (owed and result.applied):
                recorder.sync()
                saver.save(engine.state(), progress, mean_loss.take())
                owed = False
            if trace is not None:
                trace.step()
            if stop and progress.step < last:
                saver.wait()
                return "preempted", progress
        saver.wait()
    return "finished", progress


def advance(progress: Progress, result: StepResult, n_targets: int, guard: Guard) -> Progress:
    """How far the run is after a step. A skipped one counts: its data is not seen again."""
    return Progress(
        step=progress.step + 1,
        tokens=progress.tokens + n_targets,
        flops=progress.flops + result.flops,
        window=guard.window,
        skips_in_row=guard.skips_in_row,
    )


def is_due(step: int, last: int, every: int | None) -> bool:
    """Whether a checkpoint is due after `step`: each `every` steps, and at the end."""
    return step == last or (every is not None and step % every == 0)
