"""A file cut into pieces is the file: every document once, in order, whoever reads it."""

import io
import json
import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from isoflop.config.base import UserError
from isoflop.curate.input.readers import ReadSources
from isoflop.curate.input.records import TRUNCATED, UNREADABLE, file_failure, too_many_failures
from isoflop.curate.input.rows import read_lines
from isoflop.curate.input.sources import SourceFile, find_sources, n_tasks, pieces


def texts(files: list[SourceFile]) -> list[tuple[str, str]]:
    return [(document.id, document.text) for document in ReadSources(files, "text").run()]


def test_lines_cut_at_any_byte_are_read_once() -> None:
    content = b'{"text": "a"}\n\n{"text": "b\xc3\xa4"}\r\n{"text": "c"}'
    file = SourceFile("x.jsonl", "jsonl", len(content), 0)
    for cut in range(len(content) + 1):
        parts = [replace(file, start=0, stop=cut), replace(file, start=cut, stop=len(content))]
        read = [record for part in parts for record in read_lines(io.BytesIO(content), part, "text")]
        assert [record.text for record in read] == ["a", "bä", "c"], cut
        assert [record.name for record in read] == ["x.jsonl@0", "x.jsonl@15", "x.jsonl@32"], cut


@pytest.mark.parametrize("piece_bytes", [100, 1000, 3333, 10**6])
def test_pieces_of_a_jsonl_file_are_the_file(piece_bytes: int, tmp_path: Path) -> None:
    draw = random.Random(piece_bytes)
    expected = ["word " * draw.randint(1, 60) for _ in range(200)]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in expected))
    files = find_sources([str(path)])
    cut = pieces(files, piece_bytes)
    assert len(cut) == -(-files[0].bytes // piece_bytes)
    assert sum(piece.bytes for piece in cut) == files[0].bytes
    assert [text for _, text in texts(cut)] == expected
    assert len({name for name, _ in texts(cut)}) == 200


def test_pieces_of_a_parquet_file_are_the_file(tmp_path: Path) -> None:
    expected = [f"text {n} " * (n % 7 + 1) for n in range(230)]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": expected}), path, row_group_size=20)
    files = find_sources([str(path)])
    cut = pieces(files, files[0].bytes // 4)
    assert 3 <= len(cut) <= 5
    assert [(piece.start, piece.stop) for piece in cut[1:]] == [
        (before.stop, after.stop) for before, after in pairwise(cut)
    ]
    assert texts(cut) == texts(files) == [(f"{path}:{n + 1}", text) for n, text in enumerate(expected)]


def test_what_cannot_be_entered_in_the_middle_is_left_whole(tmp_path: Path) -> None:
    for name in ("a.jsonl.gz", "a.jsonl.zst", "a.warc.gz", "a.warc", "a.html", "broken.parquet"):
        (tmp_path / name).write_bytes(bytes(1000))
    files = find_sources([str(tmp_path)])
    assert len(files) == 6
    assert pieces(files, 10) == files


def test_tasks_come_from_the_files_alone(tmp_path: Path) -> None:
    file = SourceFile("a.warc.gz", "warc", 1_000_000_000, 0)
    assert n_tasks([file]) == 1
    assert n_tasks([file] * 100) == 100
    assert n_tasks([replace(file, bytes=1)] * 100) == 8


def test_a_broken_file_and_a_broken_disk_are_told_apart() -> None:
    assert file_failure("a", EOFError("the end"))[0] == TRUNCATED
    assert file_failure("a", OSError("Truncated compressed stream"))[0] == TRUNCATED
    assert file_failure("a", OSError("Not a gzipped file")) == (UNREADABLE, "Not a gzipped file")
    with pytest.raises(UserError, match=r"^a: cannot be read: Input/output error"):
        file_failure("a", OSError(5, "Input/output error"))


def test_too_many_failures_are_told_with_their_reasons() -> None:
    ordinary = {"empty": 50, "not_html": 40, "too_long": 3, "no_text": 9}
    assert too_many_failures(ordinary, documents=100, files=1, most=0.0) is None
    broken = {**ordinary, "bad_json": 2, "extractor_crashed": 1}
    assert too_many_failures(broken, documents=3000, files=1, most=0.001) is None
    told = too_many_failures(broken, documents=2999, files=1, most=0.001)
    assert told is not None
    assert told.startswith(
        "3 of 2,999 documents are broken (bad_json 2, extractor_crashed 1), more than data."
    )
    assert too_many_failures({"truncated_file": 1}, documents=10**6, files=1000, most=0.001) is None
    told = too_many_failures({"truncated_file": 1}, documents=10**6, files=999, most=0.001)
    assert told is not None
    assert told.startswith("1 of 999 files are broken (truncated_file 1)")
