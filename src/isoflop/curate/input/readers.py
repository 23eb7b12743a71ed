"""The first step of a recipe: from input files to documents."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.logging import logger

from isoflop.config.base import UserError
from isoflop.curate.input.records import (
    DOCUMENT_FAILURES,
    FILE_FAILURES,
    MAX_DOCUMENT_BYTES,
    READ_ERRORS,
    Record,
    file_failure,
)
from isoflop.curate.input.rows import read_lines, read_rows
from isoflop.curate.input.sources import COMPRESSED, SourceFile, opened
from isoflop.curate.input.warc import decoded, read_pages
from isoflop.curate.progress import count_document

SNIPPET_BYTES = 4096


class ReadSources(PipelineStep):
    """Reads every `world_size`-th file or piece, from the `rank`-th on, whatever its format.

    A record without usable text is dropped with its reason, and so is, once, a file that cannot be read to
    its end (truncated_file, unreadable_file): what comes before the break is used. Where more files break
    than `max_failed_fraction` of all, the task ends with an error: with its default of 0, at the first.
    `exclusion_writer` is offered what holds no document, `failed_writer` what is broken. Documents have the
    metadata `kind` (html or text) and, where the source gives them, `url` and `date`.

    No more than about `max_document_bytes` of a record is held in memory; longer ones are too_long.
    """

    type = "📖 - READER"
    name = "read"
    exclusion_writer: Any = None
    failed_writer: Any = None

    def __init__(
        self,
        files: Sequence[SourceFile],
        text_key: str,
        max_document_bytes: int = MAX_DOCUMENT_BYTES,
        max_failed_fraction: float = 0.0,
    ) -> None:
        super().__init__()
        self.files = list(files)
        self.text_key = text_key
        self.max_document_bytes = max_document_bytes
        self._max_failed_files = int(max_failed_fraction * len({file.path for file in self.files}))
        self._failed_files = 0

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        with (
            self.exclusion_writer or contextlib.nullcontext(),
            self.failed_writer or contextlib.nullcontext(),
        ):
            for file in self.files[rank::world_size]:
                for record in self._to_its_end(file):
                    self.stat_update("total")
                    count_document()
                    if record.text is None or not record.text.strip():
                        self._drop(record, rank)
                        continue
                    self.stat_update("forwarded")
                    given = {"url": record.url, "date": record.date}
                    metadata = {"kind": record.kind, **{key: value for key, value in given.items() if value}}
                    yield Document(text=record.text, id=record.name, metadata=metadata)

    def _to_its_end(self, file: SourceFile) -> Iterator[Record]:
        """The records of a file, and one for its failure where it is broken."""
        count = 0
        try:
            for record in self._records(file):
                yield record
                count += 1
        except READ_ERRORS as error:
            reason, cause = file_failure(file.path, error)
            self._failed_files += 1
            told = f"{file.path}: {reason} after {count:,} documents: {cause}"
            logger.warning(told)
            if self._failed_files > self._max_failed_files:
                raise UserError(
                    f"{told}; mend it, leave it out, or let go of the rest of it: data.max_failed_fraction"
                ) from None
            yield Record(file.path, None, reason=reason, body=cause.encode())

    def _records(self, file: SourceFile) -> Iterator[Record]:
        path, most = Path(file.path), self.max_document_bytes
        if file.format in ("html", "text"):
            yield _whole_file(path, file.format, most)
        elif not path.stat().st_size and (file.format == "parquet" or file.path.lower().endswith(COMPRESSED)):
            raise EOFError("it has no byte")
        elif file.format == "parquet":
            yield from read_rows(file, self.text_key, most)
        else:
            with opened(path) as stream:
                if file.format == "warc":
                    yield from read_pages(stream, most)
                else:
                    yield from read_lines(stream, file, self.text_key, most)

    def _drop(self, record: Record, rank: int) -> None:
        reason = record.reason or "empty"
        self.stat_update("dropped", f"dropped_{reason}")
        if reason in FILE_FAILURES | DOCUMENT_FAILURES:
            if self.failed_writer:
                self.failed_writer.write_failed(record.name, reason, record.body, rank)
        elif self.exclusion_writer:
            about = {"filter_reason": reason, **({"url": record.url} if record.url else {})}
            text = record.body[:SNIPPET_BYTES].decode("utf-8", "backslashreplace")
            self.exclusion_writer.write(Document(text=text, id=record.name, metadata=about), rank)


def _whole_file(path: Path, kind: str, max_bytes: int) -> Record:
    """A file that is one document; HTML may be in any encoding, text must be UTF-8."""
    with path.open("rb") as file:
        body = file.read(max_bytes + 1)
    if len(body) > max_bytes:
        return Record(str(path), None, kind, "too_long", body=body[:SNIPPET_BYTES])
    try:
        text = decoded(body) if kind == "html" else body.decode("utf-8-sig")
    except UnicodeDecodeError:
        return Record(str(path), None, kind, "not_utf8", body=body[:SNIPPET_BYTES])
    return Record(str(path), text, kind)
