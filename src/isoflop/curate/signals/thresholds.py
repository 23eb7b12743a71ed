"""Rules over columns: which documents a set of thresholds keeps, and which rule dropped each of the others.

Only the columns that the rules name are read; the text is not among them.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from isoflop.config.base import UserError, did_you_mean
from isoflop.config.curation.signals import Rule

BATCH = 4096
Values = NDArray[np.float64]
Mask = NDArray[np.bool_]
KEPT = -1


def columns_of(rules: Mapping[str, Rule | None]) -> list[str]:
    """The columns that the rules read, each once."""
    used = [name for rule in rules.values() if rule is not None for name in (rule.column, rule.per) if name]
    return list(dict.fromkeys(used))


def judge_file(path: Path, rules: Mapping[str, Rule | None]) -> Iterator[NDArray[np.int16]]:
    """For batches of rows, in order, the position in `rules` of the first that drops each, or KEPT.

    Raises UserError where the file lacks a column.
    """
    columns = columns_of(rules)
    with pq.ParquetFile(path) as file:
        known = file.schema_arrow.names
        for name in columns:
            if name not in known:
                raise UserError(f"{path}: has no column {name}{did_you_mean(name, known)}")
        if not columns:
            yield np.full(file.metadata.num_rows, KEPT, dtype=np.int16)
            return
        for batch in file.iter_batches(BATCH, columns=columns, use_threads=False):
            yield judge(batch, rules)


def judge(batch: pa.RecordBatch, rules: Mapping[str, Rule | None]) -> NDArray[np.int16]:
    """The position in `rules` of the first that drops each row of `batch`, or KEPT."""
    verdict = np.full(batch.num_rows, KEPT, dtype=np.int16)
    for position, rule in enumerate(rules.values()):
        if rule is not None:
            verdict[(verdict == KEPT) & ~passes(batch, rule)] = position
    return verdict


def passes(batch: pa.RecordBatch, rule: Rule) -> Mask:
    """Which rows `rule` lets through."""
    column = batch.column(rule.column)
    if rule.one_of is not None:
        inside = pc.is_in(column, pa.array(rule.one_of, column.type)).to_numpy(zero_copy_only=False)
        known = column.is_valid().to_numpy(zero_copy_only=False)
    else:
        values = _numbers(column) if rule.aggregate is None else aggregate(column, rule)
        if rule.per is not None:
            below = _numbers(batch.column(rule.per))
            values = np.divide(values, below, out=np.full_like(values, np.nan), where=below != 0)
        known = ~np.isnan(values)
        inside = _within(values, rule.at_least, rule.at_most)
    return np.where(known, inside, rule.if_null == "keep")


def aggregate(column: pa.Array, rule: Rule) -> Values:
    """One number a row from its lines'; of no lines the sum is 0 and everything else is NaN."""
    ends = column.offsets.to_numpy().astype(np.int64)
    first, n_lines = ends[:-1], np.diff(ends)
    values = _numbers(column.values)
    if rule.aggregate == "fraction":
        values = _within(values, rule.line_at_least, rule.line_at_most).astype(np.float64)
    result = np.full(len(first), 0.0 if rule.aggregate == "sum" else np.nan)
    some = n_lines > 0
    if some.any():
        least, most = np.minimum.reduceat, np.maximum.reduceat
        reduce = {"min": least, "max": most}.get(str(rule.aggregate), np.add.reduceat)
        result[some] = reduce(values[: ends[-1]], first[some])
    if rule.aggregate in ("mean", "fraction"):
        result[some] /= n_lines[some]
    return result


def _numbers(column: pa.Array) -> Values:
    """As float64, NaN for null."""
    return pc.cast(column, pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)


def _within(values: Values, at_least: float | None, at_most: float | None) -> Mask:
    inside = np.ones(len(values), dtype=bool)
    if at_least is not None:
        inside &= values >= at_least
    if at_most is not None:
        inside &= values <= at_most
    return inside
