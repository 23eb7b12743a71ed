"""Megatron's files hold the dataset's documents, by the format's definition and by datatrove's writer."""

import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from datatrove.pipeline.tokens.megatron_tokenizer import MegatronTokenizedFile
from helpers import random_documents, write_dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from isoflop.config.base import UserError
from isoflop.curate.tokens import megatron
from isoflop.curate.tokens.megatron import write_megatron
from isoflop.data.manifest import file_sha256, read_manifest

# Megatron-LM's DType codes, megatron/core/datasets/indexed_dataset.py
CODES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 6: "<f8", 7: "<f4", 8: "<u2"}


def documents_of(prefix: Path) -> list[list[int]]:
    """Every document, read with nothing but the format's definition; all of both files is accounted for."""
    index, data = prefix.with_suffix(".idx").read_bytes(), prefix.with_suffix(".bin").read_bytes()
    magic, version, code, sequences, indices = struct.unpack_from("<9sQBQQ", index)
    assert (magic, version) == (b"MMIDIDX\0\0", 1)
    at = 34
    lengths = struct.unpack_from(f"<{sequences}i", index, at)
    at += 4 * sequences
    starts = struct.unpack_from(f"<{sequences}q", index, at)
    at += 8 * sequences
    bounds = struct.unpack_from(f"<{indices}q", index, at)
    assert at + 8 * indices == len(index)
    dtype = np.dtype(CODES[code])
    assert sum(lengths) * dtype.itemsize == len(data)
    texts = [
        np.frombuffer(data, dtype, count, start).tolist()
        for count, start in zip(lengths, starts, strict=True)
    ]
    assert (bounds[0], bounds[-1]) == (0, sequences)
    return [[t for text in texts[first:last] for t in text] for first, last in pairwise(bounds)]


@pytest.mark.parametrize(("dtype", "vocab_size"), [("uint16", 2**16), ("uint32", 200_000)])
def test_every_shard_is_its_documents(tmp_path: Path, dtype: str, vocab_size: int) -> None:
    """Ids up to the largest that the dtype holds; the last shard has a single document."""
    documents = [*random_documents(39, vocab_size=vocab_size), [vocab_size - 1, 0]]
    root = write_dataset(tmp_path / "set", documents, [17, 22, 1], dtype, vocab_size)
    records = write_megatron(root, read_manifest(root).shards, dtype)
    read = [document for record in records for document in documents_of(root / record["prefix"])]
    assert read == documents
    assert [record["sequences"] for record in records] == [17, 22, 1]
    assert [file_sha256(root / f"{record['prefix']}.idx") for record in records] == [
        record["idx_sha256"] for record in records
    ]


@pytest.mark.parametrize(("dtype", "vocab_size"), [("uint16", 60_000), ("uint32", 200_000)])
def test_the_files_are_datatroves(
    tmp_path: Path, dtype: str, vocab_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte for byte; also where the documents are read a few at a time."""
    documents = random_documents(32, seed=1, vocab_size=vocab_size)
    root = write_dataset(tmp_path / "set", documents, None, dtype, vocab_size)
    monkeypatch.setattr(megatron, "DOCUMENTS_AT_ONCE", 8)
    (record,) = write_megatron(root, read_manifest(root).shards, dtype)
    theirs = MegatronTokenizedFile(str(tmp_path), "theirs", token_size=np.dtype(dtype).itemsize)
    for document in documents:
        theirs.write(document)
    theirs.close()
    for ending in (".idx", ".bin"):
        ours = (root / record["prefix"]).with_suffix(ending).read_bytes()
        assert ours == (tmp_path / "theirs").with_suffix(ending).read_bytes()


def test_decoding_gives_the_text(tmp_path: Path) -> None:
    texts = ["a house by the river", "naïve — 日本語\n\tindented", "x"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<eos>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    documents = [[*tokenizer.encode(text).ids, 0] for text in texts]
    root = write_dataset(tmp_path / "set", documents, vocab_size=300)
    (record,) = write_megatron(root, read_manifest(root).shards, "uint16")
    assert [tokenizer.decode(d[:-1]) for d in documents_of(root / record["prefix"])] == texts


def test_tokens_are_not_stored_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system can; where it cannot, they are copied. Written again, they are the same."""
    root = write_dataset(tmp_path / "set", random_documents(5))
    shards = read_manifest(root).shards
    link = root / "megatron" / "00000_documents.bin"
    first = write_megatron(root, shards, "uint16")
    assert link.samefile(root / shards[0].file)
    write_megatron(root, shards, "uint16")
    assert link.samefile(root / shards[0].file)

    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr("os.link", refuse)
    assert write_megatron(root, shards, "uint16") == first
    assert not link.samefile(root / shards[0].file)
    assert link.read_bytes() == (root / shards[0].file).read_bytes()
    assert sorted(path.name for path in link.parent.iterdir()) == [link.name, "00000_documents.idx"]


def test_what_the_format_cannot_say_is_refused(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "set", random_documents(3))
    shard = read_manifest(root).shards[0]
    (root / f"{shard.file}.index").write_bytes(struct.pack("<3Q", 1, 2**31 + 1, 2**31 + 2))
    with pytest.raises(UserError, match=r"a document has 2,147,483,648 tokens.*data\.megatron=false"):
        write_megatron(root, [shard], "uint16")
    assert not (root / "megatron" / "00000_documents.idx").exists()
    with (root / shard.file).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(UserError, match="build the dataset again"):
        write_megatron(root, [shard], "uint16")
