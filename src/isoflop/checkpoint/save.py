"""Write a distributed state, complete or not at all."""

import gc
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

from isoflop.checkpoint.checksums import Checksum, checksums
from isoflop.checkpoint.marker import Progress, mark_complete, on_disk, progress_marker, step_folder
from isoflop.checkpoint.retention import drop_the_rest
from isoflop.config.base import UserError
from isoflop.config.schema import CheckpointConfig


def save(state: dict[str, Any], progress: Progress, checkpoints: Path, keep: int) -> Path:
    """Save `state` of all ranks under `checkpoints`; then drop all but the last `keep`. See `write`."""
    return write(state, progress, checkpoints, CheckpointConfig(keep=keep))


def write(
    state: dict[str, Any],
    progress: Progress,
    checkpoints: Path,
    config: CheckpointConfig,
    loss: float | None = None,
    group: dist.ProcessGroup | None = None,
) -> Path:
    """Write `state` of all ranks under `checkpoints`, then drop what `config` does not keep.

    Every rank of `group` (None: all) calls it, from whichever thread. `loss` is what the best are chosen by.
    Raises UserError, on every rank, where a rank could not write; what was written is removed.
    """
    folder = step_folder(checkpoints, progress.step)
    first = dist.get_rank() == 0
    if first:
        shutil.rmtree(folder, ignore_errors=True)
    dist.barrier(group)
    files: dict[str, Checksum] = {}
    with _quiet_streams():
        wrong = _write(state, folder, group)
        if wrong is None:
            files, wrong = _hash(folder, group)
        else:
            gc.collect()
    if wrong is not None:
        if first:
            shutil.rmtree(folder, ignore_errors=True)
        raise UserError(f"{folder}: {wrong}; make room, then run the same command again to resume")
    marker = progress_marker(progress, loss=loss, ranks=dist.get_world_size(), files=files)
    _agree(_complete(folder, marker, config) if first else None, group)
    return folder


def _write(state: dict[str, Any], folder: Path, group: dist.ProcessGroup | None) -> str | None:
    """Write this rank's part; the first rank that could not and why, None where all could."""
    try:
        dcp.save(state, checkpoint_id=folder, process_group=group)
    except CheckpointException as error:
        rank, cause = next(iter(error.failures.items()))
        return f"rank {rank} could not save: {cause[0]}"
    return None


def _hash(folder: Path, group: dist.ProcessGroup | None) -> tuple[dict[str, Checksum], str | None]:
    """Checksums of the whole checkpoint, each rank reading what it wrote; and what went wrong, if it did."""
    rank = dist.get_rank()
    try:
        mine = [path.name for path in folder.glob(f"__{rank}_*")] + [".metadata"] * (rank == 0)
        found: dict[str, Checksum] | str = checksums(folder, mine)
    except OSError as error:
        found = f"rank {rank} could not read back what it saved: {error.strerror or error}"
    parts: list[dict[str, Checksum] | str] = [found] * dist.get_world_size()
    dist.all_gather_object(parts, found, group=group)
    wrong = next((part for part in parts if isinstance(part, str)), None)
    return {name: of for part in parts if isinstance(part, dict) for name, of in part.items()}, wrong


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


def _complete(folder: Path, marker: dict[str, Any], config: CheckpointConfig) -> str | None:
    """Mark the checkpoint and drop old ones; what went wrong, None if nothing did."""
    try:
        on_disk(folder)
        mark_complete(folder, marker)
        drop_the_rest(folder.parent, config)
    except (OSError, UserError) as error:
        return str(error)
    return None


def _agree(wrong: str | None, group: dist.ProcessGroup | None) -> None:
    """Raises UserError on every rank where something went `wrong` on the first."""
    outcome = [wrong]
    dist.broadcast_object_list(outcome, src=0, group=group)
    if outcome[0] is not None:
        raise UserError(outcome[0])
