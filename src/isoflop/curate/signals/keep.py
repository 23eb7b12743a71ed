"""The steps that apply rules to an annotation, and the one that then reads the text of what is left."""

import contextlib
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from isoflop.config.base import UserError
from isoflop.config.curation.signals import LANGUAGE, LANGUAGE_SCORE, Rule
from isoflop.curate.progress import count_document
from isoflop.curate.signals.columns import file_of
from isoflop.curate.signals.thresholds import KEPT, judge_file
from isoflop.curate.signals.verdicts import DUPLICATES, Reasons, count, read_verdicts, write_verdicts

READ_COLUMNS = ["id", "text", "url", LANGUAGE, LANGUAGE_SCORE, "metadata"]
READ_ROWS = 256


class ApplyRules(PipelineStep):
    """Judges the documents of a task by their columns, and writes the verdicts. Yields none.

    Statistics: total, forwarded, dropped, and dropped_<name of the rule> for the first rule that drops.
    """

    type = "🔻 - FILTER"
    name = "rules"

    def __init__(self, annotated: Path, verdicts: Path, rules: Mapping[str, Rule | None]) -> None:
        super().__init__()
        self.annotated, self.verdicts = annotated, verdicts
        self.rules = dict(rules)

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        with self.track_time():
            reasons = _reasons(file_of(self.annotated, rank), self.rules)
            write_verdicts(self.verdicts, rank, reasons)
        count(self, reasons)
        yield from ()


class ReadKept(PipelineStep):
    """Reads back the documents of a task that the verdicts keep.

    An `exclusion_writer`, where there is one, is offered the others: then the text of all of them is read.
    """

    type = "📖 - REREAD"
    name = "kept"
    exclusion_writer: Any = None

    def __init__(self, annotated: Path, verdicts: Path) -> None:
        super().__init__()
        self.annotated, self.verdicts = annotated, verdicts

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        path, reasons = file_of(self.annotated, rank), read_verdicts(self.verdicts, rank)
        yield from read_kept(path, reasons, rank, self.exclusion_writer)


def _reasons(path: Path, rules: Mapping[str, Rule | None]) -> Reasons:
    names = list(rules)
    judged = [verdict for batch in judge_file(path, rules) for verdict in batch.tolist()]
    return [None if verdict == KEPT else names[verdict] for verdict in judged]


def read_kept(path: Path, reasons: Reasons, rank: int, excluded: Any) -> Iterator[Document]:
    """The documents of the rows without a reason; the others, where `excluded` is a writer, go there."""
    with excluded or contextlib.nullcontext():
        for document, reason in _rows(path, reasons, dropped_too=excluded is not None):
            if reason is None:
                count_document()
                yield document
            else:
                step = "duplicates" if reason in DUPLICATES else "rules"  # which decided, not which reads
                document.metadata.update(filter_reason=reason, filter_step=step)
                excluded.write(document, rank)


def _rows(path: Path, reasons: Reasons, dropped_too: bool) -> Iterator[tuple[Document, str | None]]:
    """Documents with their verdicts; row groups of which none is asked for are passed over.

    Raises UserError where the verdicts are of another file.
    """
    begin = 0
    with pq.ParquetFile(path) as file:
        n_rows = file.metadata.num_rows
        if n_rows != len(reasons):
            raise UserError(f"{path}: has {n_rows} documents, its verdicts {len(reasons)}; annotate anew")
        for group in range(file.num_row_groups):
            told = reasons[begin : begin + file.metadata.row_group(group).num_rows]
            begin += len(told)
            if not dropped_too and None not in told:
                continue
            asked = iter(told)
            for batch in file.iter_batches(READ_ROWS, [group], READ_COLUMNS, use_threads=False):
                here = list(islice(asked, batch.num_rows))
                mask = [dropped_too or reason is None for reason in here]
                rows = batch.filter(pa.array(mask)).to_pylist()
                wanted = [reason for reason, yes in zip(here, mask, strict=True) if yes]
                yield from zip(map(_document, rows), wanted, strict=True)


def _document(row: Mapping[str, Any]) -> Document:
    """As it was annotated."""
    metadata = orjson.loads(row["metadata"])
    known = {"url": row["url"], "language": row[LANGUAGE], "language_score": row[LANGUAGE_SCORE]}
    metadata |= {key: value for key, value in known.items() if value is not None}
    return Document(text=row["text"], id=row["id"], metadata=metadata)
