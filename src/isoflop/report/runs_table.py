"""The runs table: one row a run, raw counts, for fits and comparisons; CSV, JSONL or parquet."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from isoflop.config.errors import ConfigError, UserError
from isoflop.config.load import load_run
from isoflop.monitor.folder import write_bytes
from isoflop.monitor.metrics import EVAL_PREFIX
from isoflop.optim.schedule import schedule_spans
from isoflop.report.gather import Run
from isoflop.train.budget import total_tokens

REQUIRED = ("run_id", "n_params", "n_params_non_embed", "tokens", "loss")
FROM_CONFIG = {
    "lr": "optimizer.lr",
    "batch_tokens": "train.global_batch_tokens",
    "warmup_tokens": "schedule.warmup_tokens",
    "schedule": "schedule.kind",
    "decay_tokens": "schedule.decay_tokens",
    "optimizer": "optimizer.name",
    "seed": "seed",
    "group": "monitor.group",
    "width": "model.width",
    "n_layers": "model.n_layers",
    "seq_len": "train.seq_len",
    "vocab": "model.vocab_size",
}
Row = dict[str, Any]


def write_runs_table(runs: Sequence[Run], out: Path, warn: Callable[[str], None]) -> int:
    """Write the table, whole or not at all; returns its rows. UserError where no run has what it needs."""
    writers = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
    if out.suffix not in writers:
        raise UserError(f"{out}: ends in none of {', '.join(writers)}")
    rows = []
    for run in runs:
        row = table_row(run)
        missing = [name for name in REQUIRED if row.get(name) is None]
        if missing:
            warn(f"left out: {run.folder.path}: has no {', '.join(missing)}")
        else:
            rows.append(row)
    if not rows:
        raise UserError(f"{out}: not written: no run has {', '.join(REQUIRED)}")
    columns = [
        *REQUIRED,
        *(name for name in dict.fromkeys(n for row in rows for n in row) if name not in REQUIRED),
    ]
    write_bytes(out, writers[out.suffix](rows, columns))
    return len(rows)


def table_row(run: Run) -> Row:
    """One run's columns; those that it does not know are None."""
    row: Row = {
        "run_id": run.run_id,
        "n_params": run.n_params,
        "n_params_non_embed": run.summary.get("n_params_non_embed"),
        "tokens": run.tokens or None,
        "loss": run.final_loss,
        "unique_tokens": _unique_tokens(run),
        "flops": run.flops or None,
        **{column: _at(run.config, key) for column, key in FROM_CONFIG.items()},
        **_spans(run),
        "step": run.last("step", None),
        "status": run.status,
        "excluded_reason": None if run.status == "finished" else f"status is {run.status}",
    }
    for name in run.columns:  # eval/<task>/bpb → bpb/<task>
        task, _, metric = name.removeprefix(EVAL_PREFIX).rpartition("/")
        if name.startswith(EVAL_PREFIX) and metric in ("bpb", "acc"):
            known = [r[name] for r in run.rows if r.get(name) is not None]
            row[f"{metric}/{task}"] = known[-1]
    return row


def _unique_tokens(run: Run) -> int | None:
    """Tokens in the run's datasets, or those it was trained on where it did not come round."""
    totals = [(entry.get("manifest") or {}).get("total_tokens", 0) for entry in run.datasets]
    return min(run.tokens, sum(totals)) if totals and all(totals) and run.tokens else None


def _spans(run: Run) -> Row:
    """Tokens of warm-up and of decay as they were, where the config leaves them to the run's length."""
    try:
        config = load_run(run.config)
    except ConfigError:  # another version's: its own words stand
        return {}
    spans = schedule_spans(config.schedule, total_tokens(config), config.train.global_batch_tokens)
    return {"warmup_tokens": spans.warmup, "decay_tokens": spans.decay}


def _at(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _csv(rows: Sequence[Row], columns: Sequence[str]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _jsonl(rows: Sequence[Row], columns: Sequence[str]) -> bytes:
    return b"".join(json.dumps({c: row.get(c) for c in columns}).encode() + b"\n" for row in rows)


def _parquet(rows: Sequence[Row], columns: Sequence[str]) -> bytes:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UserError("pyarrow is not installed; `pip install pyarrow`, or give a .csv or .jsonl") from None
    sink = io.BytesIO()
    parquet.write_table(pyarrow.table({c: [row.get(c) for row in rows] for c in columns}), sink)
    return sink.getvalue()
