"""How ranks fail: each leaves a note of its cause and of the time, which tells the first from its echoes."""

import json
import os
import sys
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TypedDict

from isoflop.config.base import UserError
from isoflop.monitor.folder import RunFolder, write_json
from isoflop.monitor.summary import ENDS, read_summary, summarize


class Failure(TypedDict):
    """One rank's end."""

    rank: int
    time: float  # seconds since the epoch
    cause: str  # one line


def write_failure(folder: RunFolder, rank: int, cause: str, began_on: int | None = None) -> None:
    """Leave the note of `rank`; where it cannot be written, perhaps for the very cause, say it.

    `began_on` is the rank to blame, where that is another one.
    """
    note = Failure(rank=rank if began_on is None else began_on, time=time.time(), cause=cause)
    try:
        folder.logs.mkdir(parents=True, exist_ok=True)
        write_json(_note(folder.logs, rank), note)
    except (UserError, OSError):
        print(f"rank {rank}: {cause}", file=sys.stderr)


def clear_failures(folder: RunFolder) -> None:
    """Forget the notes of earlier attempts."""
    for pattern in ("rank-*.failure.json", "flight-rank-*.json"):
        for note in folder.logs.glob(pattern):
            note.unlink()


def first_failure(folder: RunFolder, ended: dict[int, int]) -> Failure:
    """Which rank failed first, of those that `ended` (rank → exit code, in the order of their ends).

    At least one has failed: ended with neither 0 nor 75, which says that it was asked to stop. A rank that a
    signal killed leaves no note; it is the first where no other had failed before it ended.
    """
    notes: list[Failure] = [json.loads(note.read_text()) for note in folder.logs.glob("rank-*.failure.json")]
    first = next(rank for rank, code in ended.items() if code not in (os.EX_OK, os.EX_TEMPFAIL))
    if ended[first] < 0 and first not in {note["rank"] for note in notes}:
        hint = "; was there not enough memory?" if ended[first] == -9 else ""
        return Failure(rank=first, time=time.time(), cause=f"killed by signal {-ended[first]}{hint}")
    if not notes:
        return Failure(rank=first, time=time.time(), cause=f"ended with exit code {ended[first]}")
    return min(notes, key=lambda note: note["time"])


def record_failure(folder: RunFolder, failure: Failure) -> None:
    """Write the end down in events.jsonl and summary.json; a disk that refuses must not hide the cause.

    Of several ranks that record how the same attempt ended, the first one is heard.
    """
    with suppress(UserError, OSError):
        if _is_recorded(folder, failure):
            return
        known = read_summary(folder)
        for reached in ("step", "tokens", "flops"):  # the rows know better
            known.pop(reached, None)  # type: ignore[misc]
        rows = folder.read_metrics()
        step = int(rows[-1]["step"]) if rows else 0
        folder.append_event(ENDS["failed"], step, rank=failure["rank"], cause=failure["cause"])
        folder.write_summary(summarize(folder, "failed", known))


def _is_recorded(folder: RunFolder, failure: Failure) -> bool:
    """Whether another rank has put this very end into events.jsonl: since the failure, not before it."""
    last = (folder.read_events() or [{}])[-1]
    if last.get("event") != ENDS["failed"]:
        return False
    return bool(datetime.fromisoformat(last["time"]).timestamp() > failure["time"] - 0.001)


def _note(logs: Path, rank: int) -> Path:
    return logs / f"rank-{rank}.failure.json"
