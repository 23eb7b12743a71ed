"""Writes each document with its signals, once; filters then read columns and never the text."""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from isoflop.config.curation.signals import (
    BLOCK_WORDS,
    BLOCKED_DOMAINS,
    LANGUAGE,
    LANGUAGE_SCORE,
    LINE_LENGTH,
    SignalsConfig,
)
from isoflop.curate.signals.columns import file_of, schema, signature_column
from isoflop.curate.signals.document import Parts, lengths
from isoflop.curate.signals.lines import line_signals
from isoflop.curate.signals.minhash import MinHasher, bands
from isoflop.curate.signals.natural_language import natural_language
from isoflop.curate.signals.repetition import repetition
from isoflop.curate.signals.stopwords import read_stop_words, stop_words
from isoflop.curate.signals.toxicity import BlockedDomains, BlockWords
from isoflop.data.manifest import file_sha256

ROWS, CHARS = 1000, 1 << 25
"""Documents of a row group, or fewer where they are long."""


class Annotator:
    """From a document to its row. The lists are read here: UserError where one cannot be."""

    def __init__(self, config: SignalsConfig) -> None:
        self.config = config
        self.stop_words = read_stop_words(Path(config.stop_words)) if config.stop_words is not None else None
        self.block_words = BlockWords(Path(config.ldnoobw)) if config.ldnoobw is not None else None
        self.domains = BlockedDomains(Path(config.ut1)) if config.ut1 is not None else None

    @cached_property
    def hasher(self) -> MinHasher | None:
        shape = self.config.signatures
        return MinHasher(shape.n_gram, shape.n_permutations, shape.seed) if shape is not None else None

    def row(self, document: Document) -> dict[str, Any]:
        """Every column of `document`."""
        metadata = dict(document.metadata)
        language, score = metadata.pop("language", None), metadata.pop("language_score", None)
        signals = self.signals(document.text, language)
        if self.domains is not None:
            signals[BLOCKED_DOMAINS] = self.domains.category(metadata)
        return {
            "id": document.id,
            "text": document.text,
            "url": metadata.pop("url", None),
            LANGUAGE: language,
            LANGUAGE_SCORE: score,
            "metadata": orjson.dumps(metadata, default=str).decode(),
            **signals,
            "sha256": hashlib.sha256(document.text.encode()).digest(),
        }

    def signals(self, text: str, language: str | None = None) -> dict[str, Any]:
        """The columns that come from the text alone."""
        parts = Parts(text)
        columns: dict[str, Any] = {
            **natural_language(parts, stop_words(language or self.config.default_language, self.stop_words)),
            **repetition(parts.word_ids, parts.word_lengths),
            LINE_LENGTH: lengths(parts.line_ends).tolist(),
            **line_signals(parts),
        }
        if self.block_words is not None:
            columns[BLOCK_WORDS] = self.block_words.count(parts.words)
        if self.config.signatures is not None and self.hasher is not None:
            minima = self.hasher.minima(parts.words)
            for similarity in self.config.signatures.similarities:
                signature = None if minima is None else bands(minima, similarity)
                columns[signature_column(similarity)] = signature
        return columns


class Annotate(PipelineStep):
    """Writes the documents of a task with their signals to `<folder>/<rank>.parquet`, and passes them on.

    The file appears under its name when the task has come to its end: it is whole or not there.
    """

    type = "🧮 - SIGNALS"
    name = "annotate"

    def __init__(self, folder: Path, config: SignalsConfig) -> None:
        super().__init__()
        self.folder = folder
        self.config = config
        given = (config.stop_words, config.ldnoobw, config.ut1)
        lists = [Path(path) for path in given if path is not None]
        Annotator(config)  # a list that cannot be used is told before anything runs
        self.lists_sha256 = [file_sha256(path) for path in lists]  # which the stage depends on

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        annotator, columns = Annotator(self.config), schema(self.config)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = file_of(self.folder, rank)
        partial = path.with_suffix(".tmp")
        rows: list[dict[str, Any]] = []
        chars = 0
        with pq.ParquetWriter(partial, columns, compression="zstd") as writer:
            for document in data:
                self.stat_update("total")
                with self.track_time():
                    rows.append(annotator.row(document))
                    chars += len(document.text)
                    if len(rows) == ROWS or chars > CHARS:
                        writer.write_table(pa.Table.from_pylist(rows, columns))
                        rows, chars = [], 0
                yield document
            writer.write_table(pa.Table.from_pylist(rows, columns))
        partial.rename(path)
