"""A run's folder: where everything stands, and how it is written so that a kill leaves nothing half-true."""

import json
import math
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypedDict

from isoflop.config.base import UserError
from isoflop.monitor.metrics import Row, ordered

Status = Literal["finished", "failed", "preempted", "running"]


class RunSummary(TypedDict, total=False):
    """`summary.json`: `final_loss` is the last logged step's, `best_loss` the lowest, in nats/token."""

    run_id: str
    name: str
    status: Status
    final_loss: float | None
    best_loss: float | None
    best_checkpoint: str  # of those that stand, the one whose steps since the one before it had the lowest
    best_checkpoint_loss: float  # mean loss: this
    step: int
    tokens: int
    flops: float
    n_params: int
    n_params_non_embed: int
    wall_seconds: float  # training time of all attempts together
    restarts: int


class RunFolder:
    """Paths inside one run's folder, and its small files."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.overrides = self.path / "overrides.txt"
        self.provenance = self.path / "provenance.json"
        self.metrics = self.path / "metrics.jsonl"
        self.events = self.path / "events.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.summary = self.path / "summary.json"
        self.logs = self.path / "logs"
        self.wandb = self.path / "wandb"
        self.report = self.path / "report.html"

    def __fspath__(self) -> str:
        return str(self.path)

    def create(self) -> "RunFolder":
        """Make the folder; what is in it stays. Raises UserError where it cannot be made."""
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{self.path}: {error.strerror}; give another runs_dir") from None
        return self

    def log_of_rank(self, rank: int) -> Path:
        return self.logs / f"rank-{rank}.log"

    def read_metrics(self) -> list[dict[str, float | int]]:
        """The rows of `metrics.jsonl`; a number that was not finite is read as nan. Empty without a file.

        A torn last line (killed while writing) is left out; a broken line before it is a UserError.
        """
        return [
            {name: math.nan if value is None else value for name, value in json.loads(line).items()}
            for line in self._metric_lines()
        ]

    def truncate_metrics(self, step: int) -> None:
        """Drop the rows after `step` and a torn last line, atomically. The rows kept stay the same bytes."""
        if not self.metrics.exists():
            return
        kept = [line for line in self._metric_lines() if json.loads(line)["step"] <= step]
        write_bytes(self.metrics, b"".join(kept))

    def append_event(self, event: str, step: int, **more: Any) -> None:
        """One line in `events.jsonl`, on disk when this returns: when (ISO 8601, UTC), what and where.

        A number that is not finite is written as null.
        """
        record = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "event": event,
            "step": step,
            **more,
        }
        with self.events.open("a+b") as file:
            if file.tell() and not _ends_line(file):  # an earlier process was killed while writing
                file.write(b"\n")
            file.write(json.dumps(_finite(record), allow_nan=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def read_events(self) -> list[dict[str, Any]]:
        """The events in order, without the torn lines that kills leave."""
        lines = self.events.read_bytes().splitlines() if self.events.exists() else []
        records = (_parsed(line) for line in lines)
        return [record for record in records if record is not None]

    def write_summary(self, summary: RunSummary) -> None:
        write_json(self.summary, summary)

    def _metric_lines(self) -> list[bytes]:
        """The whole lines, newline included. Raises UserError naming the first that is not a row."""
        lines = self.metrics.read_bytes().splitlines(keepends=True) if self.metrics.exists() else []
        whole = [line for line in lines if line.endswith(b"\n")]
        for number, line in enumerate(whole, start=1):
            row = _parsed(line)
            if row is None or not isinstance(row.get("step"), int):
                raise UserError(
                    f"{self.metrics}: line {number} is not a row of metrics; mend or delete the file"
                )
        return whole


def metrics_line(row: Row) -> bytes:
    """One row as it stands in `metrics.jsonl`: floats as their repr (bitwise back), null where not finite."""
    return json.dumps(_finite(ordered(row)), allow_nan=False).encode() + b"\n"


def write_json(path: Path, tree: Any) -> None:
    """Write `tree` as JSON, whole or not at all; null where a number is not finite."""
    write_bytes(path, json.dumps(_finite(tree), indent=2, allow_nan=False).encode() + b"\n")


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content`, whole or not at all. Raises UserError on a full disk."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise disk_error(path, error) from None
    _sync_folder(path.parent)


def disk_error(path: Path, error: OSError) -> UserError:
    """`error` in the user's words."""
    reason = (error.strerror or str(error)).lower()
    return UserError(
        f"{path}: cannot be written: {reason}; make room, then run the same command again to resume"
    )


def _finite(tree: Any) -> Any:
    """JSON has no nan and no infinity, and tools outside the project read these files."""
    if isinstance(tree, Mapping):
        return {name: _finite(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` last; where the file system cannot, the rename is still atomic."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _ends_line(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) == b"\n")
