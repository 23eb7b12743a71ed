"""What a stage hands to the next: each task's documents in a file of its own, whole or not there."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import zstandard
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from isoflop.config.base import UserError
from isoflop.curate.progress import count_document


def file_of(folder: Path, rank: int) -> Path:
    return folder / f"{rank:05d}.jsonl.zst"


class WriteTask(PipelineStep):
    """Keeps the documents of its task, and passes them on. A task without documents writes an empty file."""

    type = "💽 - WRITER"
    name = "keep"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = file_of(self.folder, rank)
        partial = path.with_name(path.name + ".partial")
        with partial.open("wb") as file, zstandard.ZstdCompressor().stream_writer(file) as lines:
            for document in data:
                with self.track_time():
                    record = {"text": document.text, "id": document.id, "metadata": document.metadata}
                    lines.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
                self.stat_update("total")
                yield document
        partial.replace(path)


class ReadTask(PipelineStep):
    """Reads back what `WriteTask` kept for this very task.

    datatrove's reader deals out the files that are there, and would give a task another's documents where
    one is missing; MinHash's lists of duplicates would then name the wrong ones.
    """

    type = "📖 - REREAD"
    name = "reread"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        for document in read_documents(self.folder, rank):
            count_document()
            yield document


def read_documents(folder: Path, rank: int) -> Iterator[Document]:
    """The documents that task `rank` kept in `folder`, in their order. Raises UserError without its file."""
    path = file_of(folder, rank)
    if not path.is_file():
        raise UserError(f"{path}: is missing, though its task is done; remove {folder.parent} and run again")
    with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
        left = b""
        while block := stream.read(1 << 20):
            *lines, left = (left + block).split(b"\n")
            for line in lines:
                yield Document(**orjson.loads(line))
