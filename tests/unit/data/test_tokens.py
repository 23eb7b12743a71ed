"""A dataset read back is the documents written; anything else is refused by name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import random_documents, write_dataset

from isoflop.data.manifest import DatasetError
from isoflop.data.tokens import TokenDataset

DOCUMENTS = random_documents(12)
SHARDS = (5, 0, 1, 6)  # also a shard without documents
FIRST = "00000_documents.ds"


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_any_range_reads_what_was_written(tmp_path: Path, dtype: str) -> None:
    top = 60_000 if dtype == "uint16" else 3_000_000_000
    documents = [*DOCUMENTS, [top, 0]]
    dataset = TokenDataset(write_dataset(tmp_path, documents, (5, 0, 1, 7), dtype))
    stream = [token for document in documents for token in document]
    numbers = [number for number, document in enumerate(documents) for _ in document]
    assert dataset.n_tokens == len(stream)
    for start in range(0, len(stream), 3):
        for stop in range(start, len(stream) + 1, 7):
            assert dataset.read(start, stop).tolist() == stream[start:stop]
            assert dataset.documents(start, stop).tolist() == numbers[start:stop]
    assert dataset.read(0, len(stream)).tolist() == stream


@pytest.mark.parametrize(("dtype", "token_size"), [("uint16", 2), ("uint32", 4)])
def test_datatrove_writes_these_very_files(tmp_path: Path, dtype: str, token_size: int) -> None:
    tokenizer = pytest.importorskip("datatrove.pipeline.tokens.tokenizer")
    root = write_dataset(tmp_path / "ours", DOCUMENTS, dtype=dtype)
    theirs = tokenizer.TokenizedFile(str(tmp_path / "theirs"), FIRST, token_size=token_size)
    for document in DOCUMENTS:
        theirs.write(document, None)
    theirs.close()
    for name in (FIRST, FIRST + ".index"):
        assert (tmp_path / "theirs" / name).read_bytes() == (root / name).read_bytes()


@pytest.mark.parametrize("start_stop", [(-1, 2), (3, 2), (0, 10**6)])
def test_a_range_outside_the_stream_is_refused(tmp_path: Path, start_stop: tuple[int, int]) -> None:
    with pytest.raises(IndexError):
        TokenDataset(write_dataset(tmp_path, DOCUMENTS)).read(*start_stop)


def test_shards_may_lie_in_subfolders(tmp_path: Path) -> None:
    write_dataset(tmp_path, DOCUMENTS, SHARDS)
    (tmp_path / "deep").mkdir()
    for file in tmp_path.glob("*.ds*"):
        file.rename(tmp_path / "deep" / file.name)
    _edit_manifest(tmp_path, lambda m: [s.update(file="deep/" + s["file"]) for s in m["shards"]])
    assert TokenDataset(tmp_path).read(0, 5).tolist() == [t for d in DOCUMENTS for t in d][:5]


def _edit_manifest(root: Path, edit: Callable[[dict], object]) -> None:
    manifest = json.loads((root / "manifest.json").read_text())
    edit(manifest)
    (root / "manifest.json").write_text(json.dumps(manifest))


def _flip_first_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


def _swap_first_ends(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[8:16] + content[:8] + content[16:])


def _cut(path: Path, n_bytes: int = 1) -> None:
    path.write_bytes(path.read_bytes()[:-n_bytes])


def _append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0\0")


DAMAGE = {  # what is done, the file that is blamed, what is said of it
    "no dataset": (lambda r: shutil.rmtree(r), "", "does not exist"),
    "no manifest": (lambda r: (r / "manifest.json").unlink(), "", "has no manifest.json"),
    "manifest not JSON": (lambda r: _cut(r / "manifest.json"), "manifest.json", "JSON"),
    "manifest not UTF-8": (lambda r: (r / "manifest.json").write_bytes(b"\xff"), "manifest.json", "JSON"),
    "manifest lacks a key": (lambda r: _edit_manifest(r, lambda m: m.pop("dtype")), "manifest.json", "dtype"),
    "later format": (
        lambda r: _edit_manifest(r, lambda m: m.update(format_version=2)),
        "manifest.json",
        "format_version 2",
    ),
    "wrong total": (
        lambda r: _edit_manifest(r, lambda m: m.update(total_tokens=7)),
        "manifest.json",
        "total_tokens is 7, but its shards add up to",
    ),
    "wrong document total": (
        lambda r: _edit_manifest(r, lambda m: m.update(total_documents=99)),
        "manifest.json",
        "total_documents is 99, but its shards add up to 12",
    ),
    "no tokenizer": (lambda r: (r / "tokenizer.json").unlink(), "tokenizer.json", "missing"),
    "other tokenizer": (lambda r: (r / "tokenizer.json").write_text("{}"), "tokenizer.json", "sha256"),
    "no shard": (lambda r: (r / FIRST).unlink(), FIRST, "missing"),
    "shard truncated": (lambda r: _cut(r / FIRST, 2), FIRST, "truncated"),
    "shard cut inside a token": (lambda r: _cut(r / FIRST), FIRST, "truncated"),
    "shard too long": (lambda r: _append(r / FIRST), FIRST, "too long"),
    "no index": (lambda r: (r / (FIRST + ".index")).unlink(), FIRST + ".index", "missing"),
    "index truncated": (lambda r: _cut(r / (FIRST + ".index"), 8), FIRST + ".index", "truncated"),
    "index ends elsewhere": (
        lambda r: (r / (FIRST + ".index")).write_bytes(bytes(8 * SHARDS[0])),
        FIRST + ".index",
        "the last document ends at 0, but",
    ),
    "empty shard is not": (lambda r: _append(r / "00001_documents.ds"), "00001_documents.ds", "too long"),
}
HASHED = {
    "token changed": (lambda r: _flip_first_byte(r / FIRST), FIRST, "sha256"),
    "ends fall": (lambda r: _swap_first_ends(r / (FIRST + ".index")), FIRST + ".index", "ends before"),
}


@pytest.mark.parametrize("verify", ["hash", "size"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named(tmp_path: Path, damage: str, verify: str) -> None:
    harm, file, said = DAMAGE[damage]
    _expect_refusal(tmp_path, harm, file, said, verify)


@pytest.mark.parametrize("damage", HASHED)
def test_damage_within_the_right_size_is_found_by_hash_alone(tmp_path: Path, damage: str) -> None:
    harm, file, said = HASHED[damage]
    _expect_refusal(tmp_path, harm, file, said, "hash")
    TokenDataset(tmp_path, "size")


def _expect_refusal(root: Path, harm: Callable, file: str, said: str, verify: str) -> None:
    write_dataset(root, DOCUMENTS, SHARDS)
    TokenDataset(root, verify)
    harm(root)
    with pytest.raises(DatasetError) as caught:
        TokenDataset(root, verify)
    message = str(caught.value)
    assert message.startswith(f"{root / file}: ")
    assert said in message
    assert "\n" not in message


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(tmp_path, DOCUMENTS)

    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("isoflop.data.tokens.file_sha256", refuse)
    with pytest.raises(DatasetError, match=r"tokenizer.json: cannot be read: Permission denied"):
        TokenDataset(tmp_path)
