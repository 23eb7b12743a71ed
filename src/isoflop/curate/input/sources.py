"""A user's own files: found, told apart by their names, cut into pieces, and dealt out to tasks."""

import hashlib
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

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
COMPRESSED = (".gz", ".zst")
TASK_BYTES = 64_000_000
PIECE_BYTES = 256_000_000
LEAST_TASKS = 8
BUFFER_BYTES = 1 << 17
ZSTD_BYTES = 1 << 13


@dataclass(frozen=True)
class SourceFile:
    """One input file, or a piece of one. `modified_ns` is there to notice a change, not for the manifest.

    A piece of a JSONL file is the lines that begin in the bytes [start, stop); of a parquet file, the row
    groups [start, stop). `bytes` is the piece's own share, in the file.
    """

    path: str
    format: str
    bytes: int
    modified_ns: int
    start: int = 0
    stop: int | None = None


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


def pieces(files: Sequence[SourceFile], piece_bytes: int = PIECE_BYTES) -> list[SourceFile]:
    """`files`, the large ones that can be entered in the middle cut up, so that many tasks share one.

    Plain JSONL is cut by bytes and parquet by row groups: from the files alone, so the same everywhere.
    Compressed files are not cut; where one is large, it is one task's.
    """
    cut: list[SourceFile] = []
    for file in files:
        if file.bytes <= piece_bytes:
            cut.append(file)
        elif file.format == "jsonl" and not file.path.lower().endswith(COMPRESSED):
            n = -(-file.bytes // piece_bytes)
            edges = [file.bytes * i // n for i in range(n + 1)]
            cut += [
                replace(file, bytes=stop - start, start=start, stop=stop) for start, stop in pairwise(edges)
            ]
        elif file.format == "parquet":
            cut += _row_groups(file, piece_bytes)
        else:
            cut.append(file)
    return cut


def _row_groups(file: SourceFile, piece_bytes: int) -> list[SourceFile]:
    """Runs of row groups of about `piece_bytes` in the file; the file whole where its footer is broken."""
    try:
        with pq.ParquetFile(file.path) as parquet:
            metadata = parquet.metadata
            columns = range(metadata.num_columns)
            sizes = [
                sum(metadata.row_group(group).column(i).total_compressed_size for i in columns)
                for group in range(metadata.num_row_groups)
            ]
    except (OSError, ValueError):
        return [file]  # what is wrong with it is told where it is read
    runs, first, held = [], 0, 0
    for group, size in enumerate(sizes):
        held += size
        if held >= piece_bytes or group == len(sizes) - 1:
            runs.append(replace(file, bytes=held, start=first, stop=group + 1))
            first, held = group + 1, 0
    return runs or [file]


def n_tasks(files: Sequence[SourceFile]) -> int:
    """Tasks that the files are dealt out to: from them alone, so that workers do not change the result."""
    by_bytes = -(-sum(file.bytes for file in files) // TASK_BYTES)
    return min(len(files), max(LEAST_TASKS, by_bytes))


def fingerprint(files: Sequence[SourceFile]) -> str:
    """Changes when a file does: by its name, length or time."""
    return hashlib.sha256(json.dumps([asdict(file) for file in files]).encode()).hexdigest()


def opened(path: Path) -> BinaryIO:
    """The bytes of a file, decompressed, however many members or frames it has.

    Where it is cut short, what stands before the cut can be read; then EOFError is raised. What is not of
    the compression that the name says raises zlib.error or OSError.
    """
    name, file = path.name.lower(), path.open("rb")
    if name.endswith(COMPRESSED):
        chunks = _gunzipped(file) if name.endswith(".gz") else _unpacked(file)
        return io.BufferedReader(_Chunks(file, chunks), BUFFER_BYTES)
    return file


class _Chunks(io.RawIOBase):
    """A stream of what an iterator yields. An error of it comes after all that was yielded before."""

    def __init__(self, file: BinaryIO, chunks: Iterator[bytes]) -> None:
        self._file, self._chunks, self._rest = file, chunks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        size = min(len(into), len(self._rest))
        into[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size

    def close(self) -> None:
        self._file.close()
        super().close()


def _gunzipped(file: BinaryIO) -> Iterator[bytes]:
    """Python's own reader keeps back what stands before a cut."""
    data = file.read(BUFFER_BYTES)
    while data:
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            data = data or file.read(BUFFER_BYTES)
            if not data:
                raise EOFError("cut short within its compressed data")
            yield member.decompress(data, BUFFER_BYTES)
            data = member.unconsumed_tail
        data = member.unused_data.lstrip(b"\0")  # padding, as tapes have
        while not data and (more := file.read(BUFFER_BYTES)):
            data = more.lstrip(b"\0")


def _unpacked(file: BinaryIO) -> Iterator[bytes]:
    """By Arrow, which tells a cut frame from a whole one, and unpacks no more than it is asked for.

    A read that meets a cut loses what it had, so each asks for little.
    """
    with pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd") as stream:
        while chunk := stream.read(ZSTD_BYTES):
            yield chunk


def _format(path: Path) -> str:
    name = path.name.lower()
    return next((kind for suffix, kind in FORMATS.items() if name.endswith(suffix)), "")


def _known() -> str:
    return ", ".join(FORMATS)
