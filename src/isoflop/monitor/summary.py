"""The summary of a run over all its attempts, from its rows and events."""

import json
import math
from datetime import UTC, datetime
from typing import Any

from isoflop.monitor.folder import RunFolder, RunSummary, Status

STARTS = ("start", "resume")
ENDS: dict[Status, str] = {"finished": "finish", "preempted": "preempt", "failed": "fail"}
"""The event with which an attempt ends, by its status."""


def summarize(folder: RunFolder, status: Status, known: RunSummary) -> RunSummary:
    """`known` (who the run is, and how far it has come) completed by what is written in `folder`."""
    rows, events = folder.read_metrics(), folder.read_events()
    losses = [row["loss"] for row in rows if math.isfinite(row["loss"])]
    last = {name: rows[-1][name] for name in ("step", "tokens", "flops")} if rows else {"step": 0}
    summary = RunSummary(
        status=status,
        final_loss=losses[-1] if losses else None,
        best_loss=min(losses, default=None),
        wall_seconds=wall_seconds(events, now=status == "running"),
        restarts=max(0, sum(event["event"] in STARTS for event in events) - 1),
    )
    return {**last, **known, **summary}  # type: ignore[typeddict-item]


def wall_seconds(events: list[dict[str, Any]], now: bool) -> float:
    """Seconds of all attempts together, each from start to last event (`now`: to this moment)."""
    total, begun, latest = 0.0, None, None
    for event in events:
        time = datetime.fromisoformat(event["time"])
        if event["event"] in STARTS:
            total += _seconds(begun, latest)
            begun = time
        latest = time
    return total + _seconds(begun, datetime.now(UTC) if now else latest)


def _seconds(begun: datetime | None, ended: datetime | None) -> float:
    return (ended - begun).total_seconds() if begun is not None and ended is not None else 0.0


def read_summary(folder: RunFolder) -> RunSummary:
    """What summary.json says; empty where there is none that can be read."""
    try:
        summary: RunSummary = json.loads(folder.summary.read_text())
    except (FileNotFoundError, ValueError):
        summary = RunSummary()
    return summary
