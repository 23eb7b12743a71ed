"""WARC pages, in and out.

The walk over a file is our own: datatrove's reader needs the system library libmagic, and fastwarc takes a
file that ends within a record's header for a whole one. HTTP is fastwarc's, the encodings are resiliparse's.
"""

import hashlib
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from fastwarc.stream_io import GzipWriter
from fastwarc.warc import WarcRecord, WarcRecordType
from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5

from isoflop.curate.input.records import MAX_DOCUMENT_BYTES, Record

HTML = ("text/html", "application/xhtml+xml")
DOCUMENTS = ("response", "resource", "conversion")  # the types of record that hold one
NOT_TEXT = (
    b"%PDF-",
    b"\x89PNG",
    b"GIF8",
    b"\xff\xd8\xff",
    b"PK\x03\x04",
    b"\x1f\x8b",
)  # whatever is declared
HTTP_HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/html{charset}\r\nContent-Length: {length}\r\n\r\n"
HTTP_HEAD_BYTES = 1 << 16
LINE_BYTES = 1 << 16
CHUNK_BYTES = 1 << 20
EPOCH = "2000-01-01T00:00:00Z"  # of every page we write: the same pages are the same file
Headers = dict[str, str]


def read_pages(file: BinaryIO, max_bytes: int = MAX_DOCUMENT_BYTES) -> Iterator[Record]:
    """A record for each page, in order; one that is no usable page has its reason instead of a text.

    Reasons: not_html, http_error (a status of 300 or more), broken_page (its HTTP headers or its encoding),
    too_long (more than `max_bytes`, decoded; no more is ever held in memory).
    Raises EOFError where the file is cut short within a record, ValueError where it is no WARC. A file that
    was cut between two records is a whole one: nothing in it says how many there were.
    """
    for headers, content in read_records(file, max_bytes + HTTP_HEAD_BYTES):
        name = headers.get("warc-record-id", "")
        url = headers.get("warc-target-uri", "").strip("<>") or None
        plain = headers["warc-type"] == "conversion"
        text, reason = _text(headers, content, max_bytes) if content is not None else (None, "too_long")
        yield Record(
            name or url or "",
            text,
            "text" if plain else "html",
            reason,
            url,
            headers.get("warc-date"),
            (content or b"")[:LINE_BYTES] if reason else b"",
        )


def read_records(file: BinaryIO, max_bytes: int) -> Iterator[tuple[Headers, bytes | None]]:
    """Each document's headers, their names in lower case, and its content, None where it is too long."""
    while first := _record_line(file):
        if not first.startswith(b"WARC/"):
            raise ValueError("no WARC record where one should begin")
        headers = _headers(file)
        length = headers.get("content-length", "")
        if not length.isdecimal():
            raise ValueError(f"a record's Content-Length is {length or 'missing'}")
        is_document = headers.get("warc-type") in DOCUMENTS
        if is_document and int(length) <= max_bytes:
            content = file.read(int(length))
            if len(content) < int(length):
                raise EOFError("cut short within a record")
            yield headers, content
            continue
        _skip(file, int(length))
        if is_document:
            yield headers, None


def _record_line(file: BinaryIO) -> bytes:
    """The line that a record begins with; empty at the end of the file."""
    while line := file.readline(LINE_BYTES):
        if line.strip(b"\r\n"):
            if not line.endswith(b"\n") and b"WARC/".startswith(line[:5]):
                raise EOFError("cut short within a record's header")
            return line
    return b""


def _headers(file: BinaryIO) -> Headers:
    headers: Headers = {}
    name = ""
    while (line := file.readline(LINE_BYTES)) not in (b"\r\n", b"\n"):
        if not line.endswith(b"\n"):
            if len(line) < LINE_BYTES:
                raise EOFError("cut short within a record's header")
            raise ValueError("a line of a record's header has no end")
        text = line.decode("utf-8", "replace")
        if text[0] in " \t" and name:  # the line before goes on
            headers[name] += f" {text.strip()}"
            continue
        name, _, value = text.partition(":")
        name = name.strip().lower()
        headers.setdefault(name, value.strip())
    return headers


def _skip(file: BinaryIO, length: int) -> None:
    while length:
        passed = len(file.read(min(length, CHUNK_BYTES)))
        if not passed:
            raise EOFError("cut short within a record")
        length -= passed


def _text(headers: Headers, content: bytes, max_bytes: int) -> tuple[str | None, str]:
    """The text of a record, or the reason why there is none."""
    page = WarcRecord()
    page.set_bytes_content(content)
    status = None
    try:
        if headers.get("content-type", "").lower().startswith("application/http"):
            page.is_http = True
            page.parse_http(auto_decode="all")
            status = page.http_headers.status_code
            declared = page.http_content_type
        else:
            declared = headers.get("content-type")
        body = page.reader.read(max_bytes + 1)  # an archive bomb ends here
    except (OSError, ValueError):
        return None, "broken_page"
    if status is not None and status >= 300:
        return None, "http_error"
    declared = headers.get("warc-identified-payload-type") or declared
    if headers["warc-type"] != "conversion" and not _is_html(declared, body):
        return None, "not_html"
    if len(body) > max_bytes:
        return None, "too_long"
    return decoded(body, page.http_charset if page.is_http else None), ""


def _is_html(declared: str | None, body: bytes) -> bool:
    if body.startswith(NOT_TEXT):
        return False
    if declared:
        return declared.partition(";")[0].strip().lower() in HTML
    return b"<html" in body[:1024].lower() or b"<!doctype html" in body[:1024].lower()


def decoded(body: bytes, charset: str | None = None) -> str:
    """A page's text: UTF-8 where it is that, else as declared by HTTP or in the page, else as it looks."""
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    for encoding in (charset, detect_encoding(body, html5_compatible=True, from_html_meta=True)):
        encoding = map_encoding_to_html5(encoding, fallback_utf8=False) if encoding else None
        if encoding == "utf-8":  # a stray byte must not turn the whole page into Windows-1252
            return body.decode("utf-8", "replace")
        if encoding:
            return str(bytes_to_str(body, encoding, errors="replace"))
    return body.decode("utf-8", "replace")


def write_pages(path: Path, pages: Iterable[tuple[str, str | bytes]]) -> int:
    """Write (address, HTML) as a gzipped WARC file, and count them. Same in, same bytes out.

    HTML given as bytes is in an encoding that the page itself declares, or that its reader must guess.
    """
    count = 0
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file, GzipWriter(file, compression_level=6) as stream:
        for address, html in pages:
            body, charset = (html, "") if isinstance(html, bytes) else (html.encode(), "; charset=utf-8")
            head = HTTP_HEAD.format(charset=charset, length=len(body))
            record = WarcRecord()
            name = uuid.UUID(bytes=hashlib.sha256(address.encode()).digest()[:16])
            record.init_headers(WarcRecordType.response, f"uuid:{name}".encode())
            record.headers["WARC-Date"] = EPOCH
            record.headers["WARC-Target-URI"] = address
            record.headers["WARC-Identified-Payload-Type"] = HTML[0]  # as Common Crawl's files have it
            record.headers["Content-Type"] = "application/http; msgtype=response"
            record.set_bytes_content(head.encode() + body)
            record.write(stream)
            stream.finish()  # a gzip member for each record, so that one can be sought
            count += 1
    partial.replace(path)
    return count
