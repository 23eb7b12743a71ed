"""The documents of JSONL lines and parquet rows, however long, however broken."""

import json
from collections.abc import Iterator
from typing import Any, BinaryIO, TypeVar

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from isoflop.config.base import UserError
from isoflop.curate.input.records import MAX_DOCUMENT_BYTES, Record
from isoflop.curate.input.sources import SourceFile

T = TypeVar("T", str, str | None)

CHUNK_BYTES = 1 << 20
BATCH_BYTES = 8_000_000
BATCH_ROWS = 1000
BODY_BYTES = 4096
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_lines(
    file: BinaryIO, source: SourceFile, text_key: str, max_bytes: int = MAX_DOCUMENT_BYTES
) -> Iterator[Record]:
    """A record for each line of JSON that begins in the piece; blank lines are none.

    Reasons: bad_json, not_utf8, no_text_key, too_long (a line of more than `max_bytes`, of which no more
    is held in memory). Raises EOFError where the file ends within a line that is no whole JSON.
    """
    place, number = source.start, 0
    if source.start:
        file.seek(source.start - 1)
        place += _skip_line(file) - 1
    while source.stop is None or place < source.stop:
        line = file.readline(max_bytes + 1)
        if not line:
            return
        begin, number = place, number + 1
        place += len(line)
        too_long = len(line) > max_bytes
        if too_long and not line.endswith(b"\n"):
            place += _skip_line(file)
        if not begin:
            line = line.removeprefix(BYTE_ORDER_MARK)
        if not line.strip():
            continue
        name = f"{source.path}:{number}" if source.stop is None else f"{source.path}@{begin}"
        if too_long:
            yield Record(name, None, reason="too_long", body=line[:BODY_BYTES])
            continue
        record = _line(name, line, text_key)
        if record.reason in ("bad_json", "not_utf8") and not line.endswith(b"\n"):
            raise EOFError("cut short within a line")
        yield record


def _skip_line(file: BinaryIO) -> int:
    """Pass to the beginning of the next line; how many bytes that were."""
    passed = 0
    while chunk := file.readline(CHUNK_BYTES):
        passed += len(chunk)
        if chunk.endswith(b"\n"):
            break
    return passed


def _line(name: str, line: bytes, text_key: str) -> Record:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            value = json.loads(line.decode())  # orjson refuses NaN and half a surrogate pair
        except UnicodeDecodeError:
            return Record(name, None, reason="not_utf8", body=line[:BODY_BYTES])
        except (ValueError, RecursionError):
            return Record(name, None, reason="bad_json", body=line[:BODY_BYTES])
    if not isinstance(value, dict) or text_key not in value:
        return Record(name, None, reason="no_text_key", body=line[:BODY_BYTES])
    return _document(name, value, value[text_key])


def _document(name: str, value: dict[str, Any], text: Any) -> Record:
    """A row's document, with the address and the date that it or its `metadata` gives."""
    if text is None:
        return Record(name, None, reason="empty")
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError:
            return Record(name, None, reason="not_utf8", body=text[:BODY_BYTES])
    if not isinstance(text, str):
        return Record(name, None, reason="no_text_key", body=str(text)[:BODY_BYTES].encode())
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()  # half a surrogate pair is no text
    inner = value.get("metadata")
    url, date = (
        next((str(held[key]) for held in (value, inner) if isinstance(held, dict) and held.get(key)), None)
        for key in ("url", "date")
    )
    return Record(_whole(str(value.get("id") or name)), text, url=_whole(url), date=_whole(date))


def _whole(text: T) -> T:
    """Without half surrogate pairs, which JSON can say and UTF-8 cannot."""
    return text if text is None else text.encode("utf-8", "replace").decode()


def read_rows(source: SourceFile, text_key: str, max_bytes: int = MAX_DOCUMENT_BYTES) -> Iterator[Record]:
    """A record for each row of the piece's row groups. Reasons: not_utf8, no_text_key, empty, too_long.

    Rows are read in batches of about 8 MB by the row group's mean; a longer text than `max_bytes` is in
    memory once, as parquet has it. Raises UserError where there is no such column, OSError or ValueError
    where the file is broken.
    """
    with pq.ParquetFile(source.path) as file:
        schema = file.schema_arrow
        if text_key not in schema.names:
            columns = ", ".join(schema.names)
            raise UserError(f"{source.path}: has no column data.text_key={text_key}, but {columns}")
        names = [key for key in ("id", "url", "date") if key in schema.names]
        if "metadata" in schema.names and pa.types.is_struct(schema.field("metadata").type):
            inner = [field.name for field in schema.field("metadata").type]
            names += [f"metadata.{key}" for key in ("url", "date") if key in inner]
        column = file.schema.names.index(text_key) if text_key in file.schema.names else None
        stop = file.num_row_groups if source.stop is None else source.stop
        number = sum(file.metadata.row_group(group).num_rows for group in range(source.start))
        for group in range(source.start, stop):
            about = file.metadata.row_group(group)
            bytes_of_text = about.column(column).total_uncompressed_size if column is not None else 0
            mean = bytes_of_text / max(about.num_rows, 1)
            rows = max(1, min(BATCH_ROWS, int(BATCH_BYTES / max(mean, 1))))
            for batch in file.iter_batches(rows, row_groups=[group], columns=[text_key, *names]):
                for value, text, size in _cells(batch, text_key):
                    number += 1
                    name = f"{source.path}:{number}"
                    if size > max_bytes:
                        yield Record(name, None, reason="too_long")
                    else:
                        yield _document(name, value, text.as_py())


def _cells(batch: pa.RecordBatch, text_key: str) -> Iterator[tuple[dict[str, Any], Any, int]]:
    """Each row's other fields, its text, as bytes where it is a string, and how many bytes the text has."""
    column = batch.column(text_key)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.view(pa.binary() if pa.types.is_string(column.type) else pa.large_binary())
    is_bytes = pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)
    sizes = pc.fill_null(pc.binary_length(column), 0).to_pylist() if is_bytes else [0] * len(column)
    for row, size in enumerate(sizes):
        others = {name: batch.column(name)[row].as_py() for name in batch.schema.names if name != text_key}
        yield others, column[row], size
