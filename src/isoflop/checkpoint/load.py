"""Fill a distributed state from a complete checkpoint, whatever layout saved it."""

from pathlib import Path
from typing import Any, Literal

import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

from isoflop.checkpoint.checksums import verify
from isoflop.checkpoint.marker import Progress, complete_checkpoints, read_marker, read_progress
from isoflop.config.base import UserError


def latest(checkpoints: Path) -> Path | None:
    """The last complete checkpoint, None where there is none."""
    found = complete_checkpoints(checkpoints)
    return found[-1] if found else None


def load(
    state: dict[str, Any], folder: Path, check: Literal["hash", "size"] = "hash", otherwise: str = ""
) -> Progress:
    """Fill the tensors of `state` in place from `folder`; how far the run had come. All ranks call it.

    Every file is first compared with what the marker says of it, each on one rank (`check`: by its SHA-256,
    or by its size alone). Raises UserError naming the file that is missing or damaged, or the checkpoint
    where it is another model's, and what to do `otherwise`; nothing is loaded then.
    """
    otherwise = otherwise or f"remove {folder} to resume from the checkpoint before it"
    try:
        progress, marker = read_progress(folder), read_marker(folder)
        verify(folder, marker["files"], check == "hash", otherwise)
        dcp.load(state, checkpoint_id=folder)
        return progress
    except (CheckpointException, RuntimeError, ValueError, OSError, KeyError, TypeError) as error:
        cause = next(iter(error.failures.values()))[0] if isinstance(error, CheckpointException) else error
        reason = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        raise UserError(f"{folder}: cannot be loaded: {reason}; {otherwise}") from error
