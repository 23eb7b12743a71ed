"""Whatever the input is like, each of its documents is read or counted with a reason, in bounded memory."""

import gzip
import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from curation import prose
from datatrove.data import Document

from isoflop.config.base import UserError
from isoflop.config.curation.samples import SamplesConfig
from isoflop.curate.input import readers
from isoflop.curate.input.readers import ReadSources
from isoflop.curate.input.sources import find_sources, opened
from isoflop.curate.input.warc import write_pages
from isoflop.curate.samples.keep import KeepAside
from isoflop.data.aside import read_records

TEXTS = [prose(seed) for seed in range(40)]
FORMATS = ("a.warc", "a.warc.gz", "a.warc.zst", "a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet")


def write(path: Path, documents: Sequence[str] = TEXTS) -> Path:
    """`documents` in the format that the name says."""
    name = path.name
    lines = "".join(json.dumps({"text": text}) + "\n" for text in documents).encode()
    if ".warc" in name:
        pages = ((f"https://x.example/{n}", f"<html><p>{text}</p>") for n, text in enumerate(documents))
        write_pages(path.with_name("made.gz"), pages)
        body = path.with_name("made.gz").rename(path).read_bytes()
        if not name.endswith(".gz"):
            body = gzip.decompress(body)
            records = [b"WARC/1.1" + record for record in body.split(b"WARC/1.1")[1:]]
            path.write_bytes(b"".join(map(zstandard.compress, records)) if name.endswith(".zst") else body)
    elif ".jsonl" in name:
        half = len(lines) // 2  # two members, as concatenated files have
        both = (lines[:half], lines[half:])
        packed = {"gz": gzip.compress, "zst": zstandard.compress}.get(name.rpartition(".")[2], bytes)
        path.write_bytes(b"".join(map(packed, both)))
    else:
        pq.write_table(pa.table({"text": documents}), path, row_group_size=10)
    return path


def read(path: Path, **settings: Any) -> tuple[list[Document], dict[str, int]]:
    """The documents under `path`, and the step's statistics, which must add up."""
    step = ReadSources(find_sources([str(path)]), "text", **settings)
    documents = list(step.run())
    return documents, counted(step)


def counted(step: ReadSources) -> dict[str, int]:
    stats = {key: stat.total for key, stat in step.stats.stats.items()}
    reasons = {key: n for key, n in stats.items() if key.startswith("dropped_")}
    assert stats.get("total", 0) == stats.get("forwarded", 0) + stats.get("dropped", 0)
    assert stats.get("dropped", 0) == sum(reasons.values())
    return {key.removeprefix("dropped_"): n for key, n in reasons.items()}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_its_documents(name: str, tmp_path: Path) -> None:
    documents, dropped = read(write(tmp_path / name))
    assert [document.text.removeprefix("<html><p>").removesuffix("</p>") for document in documents] == TEXTS
    assert len({document.id for document in documents}) == len(TEXTS)
    assert {document.metadata["kind"] for document in documents} == {"html" if "warc" in name else "text"}
    assert dropped == {}


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "a.parquet"])
def test_what_stands_before_a_cut_is_used(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name)
    whole, _ = read(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4 + 11])
    with pytest.raises(
        UserError, match=rf"{name}: truncated_file after [\d,]+ documents: .*data\.max_failed_"
    ):
        read(path)
    documents, dropped = read(path, max_failed_fraction=1.0)
    assert dropped == {"truncated_file": 1}
    assert 0 < len(documents) < len(whole)
    assert documents == whole[: len(documents)]


def test_a_cut_parquet_file_is_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet")
    path.write_bytes(path.read_bytes()[:-100])  # the footer, without which nothing is found
    assert read(path, max_failed_fraction=1.0) == ([], {"unreadable_file": 1})


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_not_its_format_is_counted(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x00\xffthis is none of them\n" * 99)
    documents, dropped = read(tmp_path / name, max_failed_fraction=1.0)
    assert documents == []
    assert dropped == ({"not_utf8": 99} if name == "a.jsonl" else {"unreadable_file": 1})


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_file_is_counted_where_it_cannot_be_right(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    documents, dropped = read(tmp_path / name, max_failed_fraction=1.0)
    assert documents == []
    assert dropped == ({} if name in ("a.jsonl", "a.warc") else {"truncated_file": 1})


def test_so_many_broken_files_are_let_go(tmp_path: Path) -> None:
    for n in range(20):
        write(tmp_path / f"{n:02}.jsonl.gz", TEXTS[:2])
    for n in (3, 7):
        (tmp_path / f"{n:02}.jsonl.gz").write_bytes(b"")
    assert len(read(tmp_path, max_failed_fraction=0.1)[0]) == 36
    with pytest.raises(UserError, match=r"07\.jsonl\.gz: truncated_file"):
        read(tmp_path, max_failed_fraction=0.099)


def test_a_failing_disk_is_no_broken_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next try may read it: it must not be counted as lost."""

    def fails(path: Path) -> Any:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(readers, "opened", fails)
    with pytest.raises(UserError, match=r"a\.jsonl: cannot be read: Input/output error"):
        read(write(tmp_path / "a.jsonl"), max_failed_fraction=1.0)


def test_lines_without_text_have_their_reason(tmp_path: Path) -> None:
    lines = [
        b'\xef\xbb\xbf{"text": "first"}',
        b"{not json",
        b'{"body": "x"}',
        b'{"text": null}',
        b'{"text": "  "}',
        b'{"text": 7}',
        b'["a", "list"]',
        b"",
        b'{"text": "\xff"}',
        b'{"text": "not a number", "score": NaN}',
        b'{"text": "half a pair \\ud83d."}',
        b'{"text": "last"}',
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    documents, dropped = read(tmp_path / "a.jsonl")
    assert [document.text for document in documents] == ["first", "not a number", "half a pair ?.", "last"]
    assert dropped == {"bad_json": 1, "no_text_key": 3, "empty": 2, "not_utf8": 1}


def test_rows_without_text_have_their_reason(tmp_path: Path) -> None:
    texts = [b"first", b"\xff\xfe", None, b" ", b"x" * 2000, b"last"]
    for name, kind in (("binary", pa.binary()), ("string", pa.string()), ("large", pa.large_string())):
        column = pa.array(texts, pa.large_binary() if name == "large" else pa.binary()).view(kind)
        pq.write_table(pa.table({"text": column}), tmp_path / f"{name}.parquet")
        documents, dropped = read(tmp_path / f"{name}.parquet", max_document_bytes=1000)
        assert [document.text for document in documents] == ["first", "last"]
        assert dropped == {"not_utf8": 1, "empty": 2, "too_long": 1}


def test_files_of_one_document(tmp_path: Path) -> None:
    for name, body in {
        "a.html": "<p>Käse".encode(),
        "b.html": '<meta charset="latin-1"><p>Käse'.encode("latin-1"),
        "c.txt": "Käse".encode(),
        "d.txt": "Käse".encode("latin-1"),
        "e.md": b"",
        "f.txt": b"x" * 101,
    }.items():
        (tmp_path / name).write_bytes(body)
    documents, dropped = read(tmp_path, max_document_bytes=100)
    assert [document.metadata["kind"] for document in documents] == ["html", "html", "text"]
    assert all(document.text.endswith("Käse") for document in documents)
    assert dropped == {"not_utf8": 1, "empty": 1, "too_long": 1}


def test_the_address_and_the_date_are_kept(tmp_path: Path) -> None:
    rows = [
        {"text": "a", "id": 7, "url": "https://a.example", "date": "2020-01-01"},
        {"text": "b", "metadata": {"url": "https://b.example", "other": 1}},
        {"text": "c"},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    names = ("text", "id", "url", "date", "metadata")
    table = pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows])
    pq.write_table(table, tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.parquet"):
        first, second, third = read(tmp_path / name)[0]
        assert (first.id, first.metadata["url"], first.metadata["date"]) == (
            "7",
            "https://a.example",
            "2020-01-01",
        )
        assert second.metadata == {"kind": "text", "url": "https://b.example"}
        assert (third.id, third.metadata) == (f"{tmp_path / name}:3", {"kind": "text"})
    assert read(write(tmp_path / "a.warc.gz"))[0][1].metadata["url"] == "https://x.example/1"


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.txt", "a.warc"])
def test_a_giant_document_is_never_in_memory(name: str, tmp_path: Path) -> None:
    path, giant = tmp_path / name, b"word " * 10_000_000
    if name == "a.txt":
        path.write_bytes(giant)
    elif name == "a.warc":
        write(path, [giant.decode(), "small"])
    else:
        body = b'{"text": "' + giant + b'"}\n{"text": "small"}\n'
        packed = {"gz": gzip.compress, "zst": zstandard.compress}.get(name.rpartition(".")[2], bytes)
        path.write_bytes(packed(body))
    del giant
    tracemalloc.start()
    try:
        documents, dropped = read(path, max_document_bytes=500_000)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()
    assert dropped == {"too_long": 1}
    assert ["small" in document.text for document in documents] == ([] if name == "a.txt" else [True])


def test_what_is_dropped_and_what_failed_can_be_looked_at(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n{broken\n{"text": ""}\n')
    step = ReadSources(find_sources([str(tmp_path / "a.jsonl")]), "text")
    config = SamplesConfig()
    step.exclusion_writer = KeepAside(tmp_path / "aside", "read", config)
    step.failed_writer = KeepAside(tmp_path / "aside", "read", config, "failed")
    assert len(list(step.run(None, 0, 1))) == 1
    (dropped,) = read_records(tmp_path / "aside" / "dropped" / "read" / "00000.jsonl.zst")
    (failed,) = read_records(tmp_path / "aside" / "failed" / "read" / "00000.jsonl.zst")
    assert (dropped["reason"], dropped["id"]) == ("empty", f"{tmp_path / 'a.jsonl'}:3")
    assert (failed["reason"], failed["text"]) == ("bad_json", "{broken\n")


def test_tasks_share_the_files(tmp_path: Path) -> None:
    for n in range(7):
        write(tmp_path / f"{n}.jsonl", TEXTS[n * 3 : n * 3 + 3])
    step = ReadSources(find_sources([str(tmp_path)]), "text")
    shared = [[document.text for document in step.run(None, rank, 3)] for rank in range(3)]
    assert sorted(text for texts in shared for text in texts) == sorted(TEXTS[:21])
    assert [len(texts) for texts in shared] == [9, 6, 6]


def test_frames_and_members_are_one_file(tmp_path: Path) -> None:
    parts = [b"one\n", b"", b"two\n"]
    (tmp_path / "a.gz").write_bytes(b"".join(map(gzip.compress, parts)))
    (tmp_path / "a.zst").write_bytes(b"".join(map(zstandard.compress, parts)))
    for name in ("a.gz", "a.zst"):
        with opened(tmp_path / name) as file:
            assert file.read() == b"one\ntwo\n"
