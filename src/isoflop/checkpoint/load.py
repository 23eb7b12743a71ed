"""Fill a distributed state from a complete checkpoint, whatever layout saved it."""

from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

from isoflop.checkpoint.marker import Progress, complete_checkpoints, read_progress
from isoflop.config.base import UserError


def latest(checkpoints: Path) -> Path | None:
    """The last complete checkpoint, None where there is none."""
    found = complete_checkpoints(checkpoints)
    return found[-1] if found else None


def load(state: dict[str, Any], folder: Path) -> Progress:
    """Fill the tensors of `state` in place from `folder`; how far the run had come. All ranks call it.

    Raises UserError naming the checkpoint where a file of it is missing, damaged or of another model.
    """
    try:
        dcp.load(state, checkpoint_id=folder)
        return read_progress(folder)
    except (CheckpointException, RuntimeError, ValueError, OSError, KeyError) as error:
        cause = next(iter(error.failures.values()))[0] if isinstance(error, CheckpointException) else error
        reason = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        raise UserError(
            f"{folder}: cannot be loaded: {reason}; "
            "remove this folder to resume from the checkpoint before it"
        ) from error
