"""WARC pages, in and out, by fastwarc.

datatrove's own reader needs the system library libmagic, which a bare machine lacks; this one needs none.
"""

import hashlib
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from fastwarc.stream_io import GzipWriter
from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType
from resiliparse.parse.encoding import bytes_to_str, detect_encoding

from isoflop.curate.sources import opened

HTML = ("text/html", "application/xhtml+xml")
HTTP_HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n"
EPOCH = "2000-01-01T00:00:00Z"  # of every page we write: the same pages are the same file


def read_pages(path: Path) -> Iterator[tuple[str, str, str | None]]:
    """(address, kind, text) of each response and conversion record; text is None where it is not HTML.

    `kind` is "html" or "text". Raises OSError or EOFError where the file is not WARC or is cut short.
    """
    wanted = WarcRecordType.response | WarcRecordType.conversion
    with opened(path) as file:  # Python's decompression: fastwarc's takes a cut-off file for a short one
        for record in ArchiveIterator(file, record_types=wanted, stream_detect=False, parse_http=False):
            content = record.reader.read()
            if "Content-Length" not in record.headers or len(content) < record.content_length:
                raise EOFError(f"record {record.record_id} is cut short")
            address = record.headers.get("WARC-Target-URI") or record.record_id or ""
            plain = record.record_type == WarcRecordType.conversion
            yield address, "text" if plain else "html", _text(record, content, plain)


def _text(record: WarcRecord, content: bytes, plain: bool) -> str | None:
    """The text of a record; None where it is not HTML, or its HTTP headers or encoding are broken."""
    page = WarcRecord()  # its own, so that a broken page does not break the walk over the file
    page.set_bytes_content(content)
    try:
        if record.is_http:
            page.is_http = True
            page.parse_http(auto_decode="all")
        body = page.reader.read()
    except (OSError, ValueError):
        return None
    declared = record.headers.get("WARC-Identified-Payload-Type") or page.http_content_type
    return _decode(body, page.http_charset) if plain or _is_html(declared, body) else None


def _is_html(declared: str | None, body: bytes) -> bool:
    if declared:
        return declared.partition(";")[0].strip().lower() in HTML
    return b"<html" in body[:1024].lower() or b"<!doctype html" in body[:1024].lower()


def _decode(body: bytes, charset: str | None) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return bytes_to_str(body, charset or detect_encoding(body) or "utf-8", errors="replace")


def write_pages(path: Path, pages: Iterable[tuple[str, str]]) -> int:
    """Write (address, HTML) as a gzipped WARC file, and count them. Same in, same bytes out."""
    count = 0
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file, GzipWriter(file, compression_level=6) as stream:
        for address, html in pages:
            body = html.encode()
            head = f"{HTTP_HEAD}Content-Length: {len(body)}\r\n\r\n"
            record = WarcRecord()
            name = uuid.UUID(bytes=hashlib.sha256(address.encode()).digest()[:16])
            record.init_headers(WarcRecordType.response, f"uuid:{name}".encode())
            record.headers["WARC-Date"] = EPOCH
            record.headers["WARC-Target-URI"] = address
            record.headers["Content-Type"] = "application/http; msgtype=response"
            record.set_bytes_content(head.encode() + body)
            record.write(stream)
            stream.finish()  # a gzip member for each record, so that one can be sought
            count += 1
    partial.replace(path)
    return count
