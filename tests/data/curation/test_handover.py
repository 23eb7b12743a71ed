"""What a task keeps is read back as it was, or it is not there."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from curation import curate, prose, texts_of
from datatrove.data import Document

from isoflop.config.base import UserError
from isoflop.curate.handover import ReadTask, WriteTask, file_of

STRANGE = ["", "\n\n", "naïve — 日本語 \u2028 \x00 \r\n", "x" * 3_000_000, '{"text": 1}']


def documents() -> list[Document]:
    return [Document(text=text, id=f"d{n}", metadata={"url": "u", "n": n}) for n, text in enumerate(STRANGE)]


def test_documents_come_back_as_they_were(tmp_path: Path) -> None:
    for rank, kept in ((0, documents()), (1, [])):
        passed = list(WriteTask(tmp_path).run(iter(kept), rank, 2))
        assert passed == kept
        assert list(ReadTask(tmp_path).run(None, rank, 2)) == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000.jsonl.zst", "00001.jsonl.zst"]


def test_a_task_that_fails_leaves_nothing_that_is_taken_for_whole(tmp_path: Path) -> None:
    def broken() -> Iterator[Document]:
        yield from documents()
        raise ValueError("out of luck")

    with pytest.raises(ValueError, match="out of luck"):
        list(WriteTask(tmp_path).run(broken(), 0, 1))
    assert not file_of(tmp_path, 0).exists()
    with pytest.raises(UserError, match=r"00000.jsonl.zst: is missing"):
        list(ReadTask(tmp_path).run(None, 0, 1))


def test_half_a_surrogate_pair_loses_no_document(tmp_path: Path) -> None:
    """JSON can say it, UTF-8 cannot."""
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "half \\ud800 a pair"}\n{"text": "' + prose(1).replace("\n", " ") + '"}\n')
    manifest = curate(path, tmp_path / "out", "pipeline=none")
    assert manifest.total_documents == 2
    assert "half ? a pair" in texts_of(tmp_path / "out")
