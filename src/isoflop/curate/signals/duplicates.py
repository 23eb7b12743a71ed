"""Duplicates among annotated documents, found by their hashes and signatures: the text is not read."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from numpy.typing import NDArray

from isoflop.config.base import UserError
from isoflop.config.curation.signals import DuplicatesConfig
from isoflop.curate.signals.columns import file_of, signature_column
from isoflop.curate.signals.verdicts import DUPLICATES, count, read_verdicts, write_verdicts

Labels = NDArray[np.int64]
Mask = NDArray[np.bool_]
Rows = NDArray[np.uint8]
REASONS = (None, *DUPLICATES)


def same_as(rows: Rows) -> Labels:
    """For each row of bytes the first row that equals it (itself where it is the first)."""
    whole = np.ascontiguousarray(rows).view(f"V{rows.shape[1]}").ravel()
    _, firsts, numbers = np.unique(whole, return_index=True, return_inverse=True)
    return firsts[numbers]


class Clusters:
    """Disjoint sets, each named by its least member; one that was never joined is alone and costs nothing."""

    def __init__(self) -> None:
        self.parents: dict[int, int] = {}

    def find(self, member: int) -> int:
        parents = self.parents
        while (parent := parents.get(member, member)) != member:
            parents[member] = member = parents.get(parent, parent)
        return member

    def join(self, one: int, other: int) -> None:
        """The lesser name stands for both."""
        one, other = sorted((self.find(one), self.find(other)))
        self.parents[other] = one


def clusters(bands: Sequence[Rows]) -> Labels:
    """For each document the first of its cluster: those cluster that have a band in common.

    `bands[b]` has band b of each document's signature, a row of bytes each.
    """
    found = Clusters()
    names = np.arange(len(bands[0]))
    for rows in bands:
        first = same_as(rows)
        for later in np.flatnonzero(first != np.arange(len(first))).tolist():
            found.join(int(first[later]), later)
    for member in list(found.parents):
        names[member] = found.find(member)
    return names


class DropDuplicates(PipelineStep):
    """Marks duplicates among what the rules kept in all `tasks` tasks; it runs as a lone task.

    The first document stays, in the order of tasks and of documents in them: first of equal texts, then of
    those left whose signatures have a band in common, directly or through others.
    Memory: the signatures of the documents judged, half a kilobyte each and as much again to sort one band.
    Statistics: total, forwarded, dropped, dropped_exact_duplicate, dropped_near_duplicate.
    """

    type = "🔻 - FILTER"
    name = "duplicates"

    def __init__(
        self, annotated: Path, judged: Path, verdicts: Path, tasks: int, config: DuplicatesConfig
    ) -> None:
        super().__init__()
        self.annotated, self.judged, self.verdicts = annotated, judged, verdicts
        self.tasks = tasks
        self.config = config

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        with self.track_time():
            tasks = [read_verdicts(self.judged, task) for task in range(self.tasks)]
            kept = [np.array([reason is None for reason in reasons], dtype=bool) for reasons in tasks]
            marks = np.zeros(sum(int(mask.sum()) for mask in kept), dtype=np.int8)
            if self.config.exact:
                self._mark_exact(marks, kept)
            if self.config.similarity is not None:
                self._mark_near(marks, kept, self.config.similarity)
            found = iter(marks.tolist())
            for task, reasons in enumerate(tasks):
                told = [reason if reason is not None else REASONS[next(found)] for reason in reasons]
                write_verdicts(self.verdicts, task, told)
        count(self, [REASONS[mark] for mark in marks.tolist()])
        yield from ()

    def _mark_exact(self, marks: NDArray[np.int8], kept: list[Mask]) -> None:
        hashes = [_rows(chunk) for chunk in self._chunks("sha256", kept)]
        if hashes:
            marks[same_as(np.concatenate(hashes)) != np.arange(len(marks))] = 1

    def _mark_near(self, marks: NDArray[np.int8], kept: list[Mask], similarity: float) -> None:
        """A document too short for a signature has no near-duplicates."""
        signed: list[Labels] = []
        signatures: list[Rows] = []
        begin = 0
        for chunk in self._chunks(signature_column(similarity), kept):
            here = chunk.is_valid().to_numpy(zero_copy_only=False) & (marks[begin : begin + len(chunk)] == 0)
            signed.append(begin + np.flatnonzero(here))
            begin += len(chunk)
            if here.any():
                lists = chunk.filter(pa.array(here))
                signatures.append(_rows(lists.flatten()).reshape(len(lists), len(lists[0]), -1))
        if signatures:
            documents, bands = np.concatenate(signed), np.concatenate(signatures)
            first = clusters([bands[:, band] for band in range(bands.shape[1])])
            marks[documents[first != np.arange(len(first))]] = 2

    def _chunks(self, name: str, kept: list[Mask]) -> Iterator[pa.Array]:
        """A column's values for the documents that `kept` marks, in order. Raises UserError without it."""
        for task, mask in enumerate(kept):
            path = file_of(self.annotated, task)
            with pq.ParquetFile(path) as file:
                if name not in file.schema_arrow.names:
                    raise UserError(f"{path}: has no column {name}; annotate for this similarity")
                begin = 0
                for batch in file.iter_batches(columns=[name], use_threads=False):
                    yield batch.column(0).filter(pa.array(mask[begin : begin + batch.num_rows]))
                    begin += batch.num_rows


def _rows(values: pa.Array) -> Rows:
    """Byte strings of one length as rows of bytes."""
    if not pa.types.is_fixed_size_binary(values.type):
        values = values.cast(pa.binary(len(values[0].as_py())))
    width = values.type.byte_width
    if not len(values):
        return np.zeros((0, width), dtype=np.uint8)
    data = np.frombuffer(values.buffers()[1], dtype=np.uint8)
    return data[values.offset * width : (values.offset + len(values)) * width].reshape(len(values), width)
