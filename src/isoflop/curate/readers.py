"""The first step of a stage: from the input files, or from what the stage before it wrote for this task."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
from datatrove.data import Document, DocumentsPipeline
from datatrove.io import get_datafolder
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.writers import JsonlWriter

from isoflop.config.base import UserError
from isoflop.curate.progress import count_document
from isoflop.curate.sources import SourceFile, opened
from isoflop.curate.warc import read_pages

Record = tuple[str, str, str | None, str]
"""Name, kind (html or text), text or None, and why there is none."""


class ReadSources(PipelineStep):
    """Reads every `world_size`-th file, from the `rank`-th on, whatever its format.

    A record without usable text is counted with its reason. A file that cannot be read ends the stage:
    to go on would lose documents unseen.
    """

    type = "📖 - READER"
    name = "read"

    def __init__(self, files: Sequence[SourceFile], text_key: str) -> None:
        super().__init__()
        self.files = list(files)
        self.text_key = text_key

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        for file in self.files[rank::world_size]:
            try:
                for name, kind, text, reason in self._records(file):
                    self.stat_update("total")
                    count_document()
                    if text is None or not text.strip():
                        self.stat_update("dropped", f"dropped_{reason or 'empty'}")
                        continue
                    self.stat_update("forwarded")
                    yield Document(text=text, id=name, metadata={"kind": kind})
            except (OSError, EOFError, ValueError) as error:
                cause = " ".join(str(error).split())
                raise UserError(
                    f"{file.path}: cannot be read to its end: {cause}; mend it or leave it out"
                ) from None

    def _records(self, file: SourceFile) -> Iterator[Record]:
        path = Path(file.path)
        if file.format == "warc":
            for address, kind, text in read_pages(path):
                yield address, kind, text, "not_html"
        elif file.format == "jsonl":
            yield from self._json_lines(path)
        elif file.format == "parquet":
            yield from self._parquet(path)
        else:
            yield str(path), file.format, *_decoded(path.read_bytes())

    def _json_lines(self, path: Path) -> Iterator[Record]:
        with opened(path) as lines:
            for number, line in enumerate(lines):
                name = f"{path}:{number + 1}"
                if not line.strip():
                    continue
                try:
                    value = orjson.loads(line)
                except orjson.JSONDecodeError:
                    yield name, "text", None, "bad_json"
                    continue
                yield self._field(name, value)

    def _parquet(self, path: Path) -> Iterator[Record]:
        with pq.ParquetFile(path) as file:
            if self.text_key not in file.schema_arrow.names:
                columns = ", ".join(file.schema_arrow.names)
                raise ValueError(f"it has no column data.text_key={self.text_key}, but {columns}")
            names = [key for key in ("id", self.text_key) if key in file.schema_arrow.names]
            number = 0
            for batch in file.iter_batches(batch_size=1000, columns=names):
                for row in batch.to_pylist():
                    number += 1
                    yield self._field(f"{path}:{number}", row)

    def _field(self, name: str, value: Any) -> Record:
        text = value.get(self.text_key) if isinstance(value, dict) else None
        if not isinstance(text, str):
            return name, "text", None, "no_text_key"
        return str(value.get("id") or name), "text", text, ""


def _decoded(body: bytes) -> tuple[str | None, str]:
    try:
        return body.decode("utf-8-sig"), ""
    except UnicodeDecodeError:
        return None, "not_utf8"


FILE_OF_RANK = "${rank}.jsonl.zst"


def write_documents(folder: Path) -> JsonlWriter:
    """Keeps the documents of each task in a file of its own, and passes them on."""
    return JsonlWriter(str(folder), output_filename=FILE_OF_RANK, compression="zstd")


class ReadTask(PipelineStep):
    """Reads back what `write_documents` kept for this very task.

    datatrove's reader deals out the files that are there; a task that kept nothing writes none, and all
    later tasks would read another's documents, which MinHash's lists of duplicates then do not fit.
    """

    type = "📖 - REREAD"
    name = "reread"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = get_datafolder(str(folder))

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        for document in read_documents(self.folder, rank):
            count_document()
            yield document


def read_documents(folder: Any, rank: int) -> Iterator[Document]:
    """The documents that task `rank` kept in `folder`, in their order."""
    name = f"{rank:05d}.jsonl.zst"
    if folder.exists(name):
        with folder.open(name, "rb", compression="zstd") as lines:
            for line in io.BufferedReader(lines):
                yield Document(**orjson.loads(line))
