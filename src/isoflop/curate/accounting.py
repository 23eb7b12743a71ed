"""Documents in and out of every step, from the statistics that datatrove itself kept for each task."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.table import Table

from isoflop.data.manifest import StageRecord

# The kinds of step that documents pass or are dropped by; others read back, write, or work on signatures.
COUNTED = ("📖 - READER", "🛢 - EXTRAC", "🔻 - FILTER", "✂️ - FORMAT", "🫂 - DEDUP: 🎯 MinHash stage 4")
TOKENIZE = "🔢 - TOKENIZER: tokenize"


def step_records(logs: Path, tasks: int) -> list[StageRecord]:
    """One record for each counted step of a stage, summed over its tasks, `seconds` too."""
    per_task = [json.loads((logs / "stats" / f"{rank:05d}.json").read_text()) for rank in range(tasks)]
    return [_record(steps) for steps in zip(*per_task, strict=True) if _is_counted(steps[0]["name"])]


def stat_total(logs: Path, tasks: int, step: str, stat: str) -> int:
    """The sum over tasks of one of a step's statistics."""
    total = 0
    for rank in range(tasks):
        for entry in json.loads((logs / "stats" / f"{rank:05d}.json").read_text()):
            if entry["name"] == step:
                total += _total(entry["stats"].get(stat, 0))
    return total


def broken_link(records: list[StageRecord]) -> str | None:
    """Where documents were lost or won, between two steps or in one; None where all are accounted for."""
    for before, after in pairwise(records):
        if before.documents_out != after.documents_in:
            return f"{before.name} let out {before.documents_out}, {after.name} took in {after.documents_in}"
    for record in records:
        if record.documents_in - sum(record.dropped.values()) != record.documents_out:
            return f"{record.name} does not say why it dropped all that it dropped"
    return None


def drop_table(records: list[StageRecord]) -> Table:
    """The funnel, for the terminal."""
    table = Table(title="documents", title_justify="left", box=None, pad_edge=False)
    table.add_column("step")
    for name in ("in", "out", "dropped"):
        table.add_column(name, justify="right")
    table.add_column("reasons", overflow="fold")
    for record in records:
        reasons = sorted(record.dropped.items(), key=lambda item: (-item[1], item[0]))
        dropped = record.documents_in - record.documents_out
        share = f"{dropped / record.documents_in:.1%}" if dropped else ""
        told = ", ".join(f"{name} {count:,}" for name, count in reasons) if len(reasons) else ""
        table.add_row(
            record.name,
            f"{record.documents_in:,}",
            f"{record.documents_out:,}",
            f"{share:>6} {dropped:>7,}",
            told,
        )
    return table


def _is_counted(name: str) -> bool:
    return name.startswith(COUNTED) or name == TOKENIZE


def _record(steps: tuple[dict[str, Any], ...]) -> StageRecord:
    name = step_name(steps[0]["name"])
    totals: dict[str, int] = {}
    for step in steps:
        for key, value in step["stats"].items():
            totals[key] = totals.get(key, 0) + _total(value)
    entered, dropped = totals.get("total", 0), totals.get("dropped", 0)
    reasons = {
        key.removeprefix("dropped_"): n
        for key, n in sorted(totals.items())
        if key.startswith("dropped_") and n
    }
    if dropped > sum(reasons.values()):
        reasons[name] = dropped - sum(reasons.values())
    return StageRecord(
        name=name,
        documents_in=entered,
        documents_out=entered - dropped,
        dropped=reasons,
        characters_out=totals.get("doc_len"),
        seconds=round(sum(_total(step["time_stats"], exact=True) for step in steps), 3),
    )


def step_name(name: str) -> str:
    """The manifest's name of a step: "🔻 - FILTER: 🥇 Gopher Quality" → "gopher quality"."""
    words = re.sub(r"[^A-Za-z0-9 ]", "", name.partition(": ")[2]).strip().lower()
    return "minhash" if words == "minhash stage 4" else words


def _total(value: Any, exact: bool = False) -> Any:
    total = value["total"] if isinstance(value, dict) else value
    return float(total) if exact else int(total)
