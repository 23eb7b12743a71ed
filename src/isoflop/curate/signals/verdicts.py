"""What was decided about a task's annotated documents: a small file, `<rank>.parquet`, beside the columns.

Its one column, `dropped_by`, has a reason for each row of the annotated file, null where it is kept.
"""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.pipeline.base import PipelineStep

from isoflop.curate.signals.columns import file_of

DUPLICATES = ("exact_duplicate", "near_duplicate")
"""The reasons of the step that compares documents; all others are names of rules."""

DROPPED_BY = "dropped_by"

Reasons = list[str | None]


def write_verdicts(folder: Path, rank: int, reasons: Reasons) -> None:
    """The file appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = file_of(folder, rank).with_suffix(".tmp")
    column = pa.array(reasons, pa.string()).dictionary_encode()
    pq.write_table(pa.table({DROPPED_BY: column}), partial, compression="zstd")
    partial.rename(file_of(folder, rank))


def read_verdicts(folder: Path, rank: int) -> Reasons:
    reasons: Reasons = pq.read_table(file_of(folder, rank), use_threads=False).column(DROPPED_BY).to_pylist()
    return reasons


def count(step: PipelineStep, reasons: Iterable[str | None]) -> None:
    """The step's statistics for the drop table: total, forwarded, dropped, dropped_<reason>."""
    for reason in reasons:
        step.stat_update("total")
        if reason is None:
            step.stat_update("forwarded")
        else:
            step.stat_update("dropped", f"dropped_{reason}")
