"""Save a distributed state, complete or not at all."""

import gc
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

from isoflop.checkpoint.marker import (
    Progress,
    mark_complete,
    progress_marker,
    remove_all_but,
    step_folder,
)
from isoflop.config.base import UserError


def save(state: dict[str, Any], progress: Progress, checkpoints: Path, keep: int) -> Path:
    """Save `state` of all ranks under `checkpoints`; then drop all but the last `keep`. All ranks call it.

    Raises UserError, on every rank, where a rank could not write; what was written is removed.
    """
    folder = step_folder(checkpoints, progress.step)
    first = dist.get_rank() == 0
    if first:
        shutil.rmtree(folder, ignore_errors=True)
    dist.barrier()
    with _quiet_streams():
        wrong = _write(state, folder)
        if wrong is not None:
            gc.collect()
    if wrong is not None:
        if first:
            shutil.rmtree(folder, ignore_errors=True)
        raise UserError(f"{folder}: {wrong}; make room, then run the same command again to resume")
    _agree(_complete(folder, progress, keep) if first else None)
    return folder


def _write(state: dict[str, Any], folder: Path) -> str | None:
    """Write this rank's part; the first rank that could not and why, None where all could."""
    try:
        dcp.save(state, checkpoint_id=folder)
    except CheckpointException as error:
        rank, cause = next(iter(error.failures.items()))
        return f"rank {rank} could not save: {cause[0]}"
    return None


@contextmanager
def _quiet_streams() -> Iterator[None]:
    """Nothing is printed of streams that torch leaves behind where the disk is full.

    From Python 3.13 on, one that goes without having been written says so with a traceback.
    """
    before = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if not isinstance(unraisable.exc_value, ValueError | OSError):
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def _complete(folder: Path, progress: Progress, keep: int) -> str | None:
    """Mark the checkpoint and drop old ones; what went wrong, None if nothing did."""
    try:
        _sync(folder)
        mark_complete(folder, progress_marker(progress, ranks=dist.get_world_size()))
        remove_all_but(folder.parent, keep)
    except (OSError, UserError) as error:
        return str(error)
    return None


def _agree(wrong: str | None) -> None:
    """Raises UserError on every rank where something went `wrong` on the first."""
    outcome = [wrong]
    dist.broadcast_object_list(outcome, src=0)
    if outcome[0] is not None:
        raise UserError(outcome[0])


def _sync(folder: Path) -> None:
    """Every file of `folder` on disk, before the marker says so."""
    for path in [*folder.iterdir(), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
