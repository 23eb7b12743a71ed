"""A checkpoint is complete or absent: the marker `COMPLETE` is written last and removed first."""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from isoflop.monitor.folder import write_json

MARKER = "COMPLETE"


@dataclass(frozen=True)
class Progress:
    """How far a run has come. `tokens` and `flops` since its start, those of skipped steps with them."""

    step: int = 0
    tokens: int = 0
    flops: float = 0.0
    window: tuple[float, ...] = ()  # losses of the last accepted steps, as far as the guard asks for them
    skips_in_row: int = 0  # steps skipped since the last accepted one


def step_folder(checkpoints: Path, step: int) -> Path:
    return checkpoints / f"step-{step:08d}"


def step_of(folder: Path) -> int:
    """The step of a checkpoint's folder."""
    return int(folder.name.removeprefix("step-"))


def on_disk(folder: Path) -> None:
    """Put every file of `folder` on disk, as must be before the marker says so."""
    for path in [*folder.iterdir(), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def mark_complete(folder: Path, content: dict[str, Any]) -> None:
    """Make the checkpoint in `folder` count; every byte of it must be on disk by now."""
    write_json(folder / MARKER, content)


def complete_checkpoints(checkpoints: Path) -> list[Path]:
    """Folders of complete checkpoints, the latest last. Others are not looked into."""
    if not checkpoints.is_dir():
        return []
    found = [folder for folder in checkpoints.glob("step-*") if (folder / MARKER).is_file()]
    return sorted(found, key=step_of)


def read_marker(folder: Path) -> dict[str, Any]:
    """What `mark_complete` wrote."""
    content = json.loads((folder / MARKER).read_text())
    assert isinstance(content, dict)
    return content


def read_progress(folder: Path) -> Progress:
    """How far the run had come at the checkpoint in `folder`."""
    known = read_marker(folder)["progress"]
    return Progress(**{**known, "window": tuple(known.get("window", ()))})


def progress_marker(progress: Progress, **more: Any) -> dict[str, Any]:
    return {"progress": asdict(progress), **more}


def remove_checkpoint(folder: Path) -> None:
    """Remove a checkpoint, marker first: at no moment is half of one taken for whole."""
    (folder / MARKER).unlink(missing_ok=True)
    shutil.rmtree(folder)


def remove_incomplete(checkpoints: Path) -> list[Path]:
    """Remove what interrupted saves and removals left behind."""
    left = [folder for folder in checkpoints.glob("step-*") if not (folder / MARKER).is_file()]
    for folder in left:
        shutil.rmtree(folder)
    return left
