"""A user's own files: found, told apart by their names, and cut into tasks."""

import gzip
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from isoflop.config.base import UserError

FORMATS = {
    ".warc": "warc",
    ".warc.gz": "warc",
    ".warc.zst": "warc",
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl",
    ".jsonl.zst": "jsonl",
    ".parquet": "parquet",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".txt": "text",
    ".md": "text",
    ".rst": "text",
}
TASK_BYTES = 64_000_000
LEAST_TASKS = 8


@dataclass(frozen=True)
class SourceFile:
    """One input file. `modified_ns` is there to notice a change, not for the manifest."""

    path: str
    format: str
    bytes: int
    modified_ns: int


def find_sources(sources: Sequence[str]) -> list[SourceFile]:
    """Every file under `sources`, in the order given, folders in sorted order.

    Raises UserError where one does not exist, is of no known kind, or has no such file in it.
    """
    found: dict[str, SourceFile] = {}
    for source in sources:
        path = Path(source).expanduser()
        if path.is_dir():
            files = [file for file in sorted(path.rglob("*")) if file.is_file() and _format(file)]
            if not files:
                raise UserError(f"data.sources: {source} has no documents; {_known()} would do")
        elif not path.is_file():
            raise UserError(f"data.sources: {source} does not exist; give a file or a folder")
        elif not _format(path):
            raise UserError(f"data.sources: {source} is of no known kind; {_known()} would do")
        else:
            files = [path]
        for file in files:
            stat = file.stat()
            absolute = str(file.absolute())
            found[absolute] = SourceFile(absolute, _format(file), stat.st_size, stat.st_mtime_ns)
    return list(found.values())


def n_tasks(files: Sequence[SourceFile]) -> int:
    """Pieces that the files are cut into: from them alone, so that the workers do not change the result."""
    by_bytes = -(-sum(file.bytes for file in files) // TASK_BYTES)
    return min(len(files), max(LEAST_TASKS, by_bytes))


def fingerprint(files: Sequence[SourceFile]) -> str:
    """Changes when a file does: by its name, length or time."""
    return hashlib.sha256(json.dumps([asdict(file) for file in files]).encode()).hexdigest()


def opened(path: Path) -> BinaryIO:
    """The bytes of a file, decompressed. Raises EOFError or OSError, when read, where it is cut short."""
    name = path.name.lower()
    if name.endswith(".gz"):
        return cast(BinaryIO, gzip.open(path, "rb"))
    if name.endswith(".zst"):
        return cast(BinaryIO, io.BufferedReader(pa.input_stream(str(path), compression="zstd")))
    return path.open("rb")


def _format(path: Path) -> str:
    name = path.name.lower()
    return next((kind for suffix, kind in FORMATS.items() if name.endswith(suffix)), "")


def _known() -> str:
    return ", ".join(FORMATS)
