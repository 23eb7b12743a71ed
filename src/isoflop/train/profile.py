"""A trace of a few steps, to be opened in Perfetto or chrome://tracing."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule


@contextmanager
def profiler(n_steps: int, folder: Path) -> Iterator[profile | None]:
    """Traces `n_steps` after the first to `folder/profile/trace.json`; call its `step()` after each."""
    if not n_steps:
        yield None
        return
    target = folder / "profile" / "trace.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    with profile(
        activities=activities,
        schedule=schedule(wait=0, warmup=1, active=n_steps, repeat=1),
        on_trace_ready=lambda trace: trace.export_chrome_trace(str(target)),
        record_shapes=True,
    ) as trace:
        yield trace
