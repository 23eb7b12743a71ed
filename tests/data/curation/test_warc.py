"""Every page of a WARC is read or counted, in whatever state the file is."""

import gzip
import io
import tracemalloc
from pathlib import Path

import pytest
from curation import prose
from fastwarc.warc import ArchiveIterator, WarcRecordType

from isoflop.curate.input.records import Record
from isoflop.curate.input.sources import opened
from isoflop.curate.input.warc import decoded, read_pages, write_pages

HTML = "<!doctype html><html><body><p>{}</p></body></html>"


def pages_of(content: bytes, max_bytes: int = 1_000_000) -> list[Record]:
    return list(read_pages(io.BytesIO(content), max_bytes))


def record(
    body: bytes, kind: str = "response", content_type: str = "application/http; msgtype=response"
) -> bytes:
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:1>\r\nWARC-Date: 2020-01-01\r\n"
        f"WARC-Target-URI: https://x.example/a\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body + b"\r\n\r\n"


def http(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    return record("\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode() + body)


def test_pages_are_those_that_fastwarc_reads(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz"
    assert write_pages(path, ((f"https://x.example/{n}", HTML.format(prose(n))) for n in range(20))) == 20
    with path.open("rb") as file:
        theirs = [
            (page.headers["WARC-Record-ID"], page.headers["WARC-Target-URI"], page.reader.read().decode())
            for page in ArchiveIterator(file, record_types=WarcRecordType.response)
        ]
    with gzip.open(path) as file:
        ours = list(read_pages(file))
    assert [(page.name, page.url, page.text) for page in ours] == theirs
    assert len({page.name for page in ours}) == 20
    assert {(page.kind, page.reason, page.date) for page in ours} == {("html", "", "2000-01-01T00:00:00Z")}


def test_pages_are_those_that_datatrove_reads(tmp_path: Path) -> None:
    pytest.importorskip("magic", reason="datatrove's reader needs libmagic", exc_type=ImportError)
    from datatrove.pipeline.readers import WarcReader

    path = tmp_path / "a.warc.gz"
    write_pages(path, ((f"https://x.example/{n}", HTML.format(prose(n))) for n in range(20)))
    theirs = [
        (page.id, page.metadata["url"], page.metadata["date"], page.text)
        for page in WarcReader(str(tmp_path))()
    ]
    with opened(path) as file:
        assert [(page.name, page.url, page.date, page.text) for page in read_pages(file)] == theirs
    assert len(theirs) == 20


def test_no_cut_goes_unnoticed() -> None:
    """A file cut at any byte raises, or all of its records are whole: there, a shorter file was as good."""
    whole = [http(HTML.format(word).encode(), "Content-Type: text/html") for word in ("one", "two", "three")]
    content = b"".join(whole)
    ends = [sum(map(len, whole[: n + 1])) for n in range(3)]
    for cut in range(len(content) + 1):
        complete = sum(end - 4 <= cut for end in ends)  # but for the blank lines after it
        within = cut not in {0, *(end - blank for end in ends for blank in range(5))}
        seen: list[Record] = []
        try:
            for page in read_pages(io.BytesIO(content[:cut])):
                seen.append(page)
        except EOFError:
            assert within, cut
        else:
            assert not within, cut
        assert len(seen) == complete, cut


def test_no_cut_of_a_compressed_file_goes_unnoticed(tmp_path: Path) -> None:
    members = [gzip.compress(http(HTML.format(word).encode(), "Content-Type: text/html")) for word in "ab"]
    content = b"".join(members)
    for cut in range(1, len(content)):
        if cut != len(members[0]):
            (tmp_path / "a.warc.gz").write_bytes(content[:cut])
            with pytest.raises(EOFError), opened(tmp_path / "a.warc.gz") as file:
                list(read_pages(file))


def test_what_is_no_page_has_its_reason() -> None:
    page = HTML.format("text").encode()
    html = "Content-Type: text/html"
    for given, reason in (
        (http(b"%PDF-1.7 ...", "Content-Type: application/pdf"), "not_html"),
        (http(b"%PDF-1.7 ...", html), "not_html"),
        (http(b"\x89PNG\r\n", "Content-Type: image/png"), "not_html"),
        (http(b"User-agent: *\nDisallow: /", "Content-Type: text/plain"), "not_html"),
        (http(b"just words"), "not_html"),
        (http(page, html, status="404 Not Found"), "http_error"),
        (http(page, html, status="301 Moved"), "http_error"),
        (http(b"no gzip", html, "Content-Encoding: gzip"), "broken_page"),
        (http(page * 10, html), "too_long"),
        (http(gzip.compress(b"<html>" + bytes(10_000_000)), html, "Content-Encoding: gzip"), "too_long"),
        (record(b"<html>" + bytes(100_000), "resource", "text/html"), "too_long"),
    ):
        first, second = pages_of(given + http(page, html), max_bytes=400)
        assert (first.reason, first.text, first.url) == (reason, None, "https://x.example/a"), given[-80:]
        assert second.text == page.decode(), "the next page was lost with it"


def test_pages_in_every_dress_are_read() -> None:
    page = HTML.format("Käse für alle").encode()
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(page), page)
    latin = page.decode().encode("latin-1")
    declared = latin.replace(b"<body>", b'<head><meta charset="iso-8859-1"></head><body>')
    japanese = HTML.format("日本語の文章です。" * 20).encode("euc-jp")
    japanese_meta = japanese.replace(b"<body>", b'<head><meta charset="euc-jp"></head><body>')
    html = "Content-Type: text/html"
    for given, words in (
        (http(page, html), "Käse für alle"),
        (http(page), "Käse für alle"),
        (http(b"\xef\xbb\xbf" + page, html), "<!doctype html><html><body><p>Käse für alle"),
        (http(page, "Content-Type: application/xhtml+xml; charset=utf-8"), "Käse für alle"),
        (http(chunked, html, "Transfer-Encoding: chunked"), "Käse für alle"),
        (http(gzip.compress(page), html, "Content-Encoding: gzip"), "Käse für alle"),
        (http(latin, html + "; charset=ISO-8859-1"), "Käse für alle"),
        (http(declared, html), "Käse für alle"),
        (http(japanese_meta, html), "日本語の文章です。"),
        (http(page + b"\xff", html + "; charset=utf-8"), "Käse für alle"),
        (http(page + b"\xff", html + "; charset=no-such-code"), "Käse für alle"),
        (record(page, "resource", "text/html"), "Käse für alle"),
    ):
        (got,) = pages_of(given)
        assert got.kind == "html"
        assert got.text is not None
        assert words in got.text, given
        assert got.text.startswith("<!doctype")
    (plain,) = pages_of(record(b"words", "conversion", "text/plain"))
    assert (plain.kind, plain.text) == ("text", "words")


def test_a_stray_byte_leaves_the_rest_as_it_is() -> None:
    assert decoded("naïve".encode() + b"\xff", "utf-8") == "naïve\ufffd"


def test_records_that_hold_no_document_are_no_documents() -> None:
    kinds = ("warcinfo", "request", "metadata", "revisit")
    assert pages_of(b"".join(record(b"<html>", kind) for kind in kinds)) == []


def test_what_is_no_warc_is_an_error() -> None:
    good = http(HTML.format("x").encode(), "Content-Type: text/html")
    for content in (b"hello, this is a letter\n", good + b"\x00" * 40, good.replace(b"Content-Length", b"X")):
        with pytest.raises(ValueError, match="record"):
            pages_of(content)


def test_a_long_record_is_never_in_memory() -> None:
    """Nor is what a small one unpacks to."""
    page, html = HTML.format("x").encode(), "Content-Type: text/html"
    bomb = http(gzip.compress(b"<html>" + bytes(60_000_000)), html, "Content-Encoding: gzip")
    file = io.BytesIO(record(bytes(60_000_000)) + bomb + http(page, html))
    tracemalloc.start()
    try:
        assert [page.reason for page in read_pages(file, max_bytes=100_000)] == ["too_long", "too_long", ""]
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
