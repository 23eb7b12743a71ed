"""Megatron's `.bin` and `.idx` from a token dataset's own files, without tokenizing again.

A `.bin` is the tokens of all sequences, one after the other: byte for byte our `.ds`, so it is a hard link
to it. The `.idx` is made from the document ends; each document is one sequence. Its layout (Megatron-LM,
megatron/core/datasets/indexed_dataset.py), little-endian:

    "MMIDIDX" and two zero bytes · version 1, uint64 · dtype code, uint8
    number of sequences, uint64 · number of document indices = documents + 1, uint64
    sequence lengths in tokens, int32 each · sequence starts in bytes, int64 each
    document indices, int64 each: document d is the sequences from the d-th up to the next
"""

import os
import shutil
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from isoflop.config.base import UserError
from isoflop.data.manifest import ShardRecord, file_sha256

FOLDER = "megatron"
MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
# Megatron has no uint32; below 2³¹ an int32 has the same bytes, and no vocabulary is larger.
DTYPE_CODES = {"uint16": 8, "uint32": 4}
MOST_TOKENS = 2**31 - 1  # of one sequence: its length is an int32
DOCUMENTS_AT_ONCE = 1_000_000


def write_megatron(dataset: Path, shards: Sequence[ShardRecord], dtype: str) -> list[dict[str, Any]]:
    """`<dataset>/megatron/<shard>.{bin,idx}` for each of `shards`, and a record of each for the manifest.

    Reads only the document ends, some megabytes at a time. Raises UserError where a document has more
    tokens than the format can say, or a shard is not as long as its record has it.
    """
    folder = dataset / FOLDER
    folder.mkdir(exist_ok=True)
    return [_write_shard(dataset, folder, shard, dtype) for shard in shards]


def _write_shard(dataset: Path, folder: Path, shard: ShardRecord, dtype: str) -> dict[str, Any]:
    tokens, stem = dataset / shard.file, Path(shard.file).stem
    itemsize = np.dtype(dtype).itemsize
    if tokens.stat().st_size != shard.tokens * itemsize:
        raise UserError(
            f"{tokens}: is not {shard.tokens:,} tokens of {itemsize} bytes; build the dataset again"
        )
    index = folder / f"{stem}.idx"
    partial = index.with_name(index.name + ".partial")
    with partial.open("wb") as file:
        _write_index(file, tokens.with_name(tokens.name + ".index"), shard.documents, dtype)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(index)
    _same_bytes(tokens, folder / f"{stem}.bin")
    return {
        "prefix": f"{FOLDER}/{stem}",
        "sequences": shard.documents,
        "tokens": shard.tokens,
        "idx_sha256": file_sha256(index),
    }


def _write_index(file: BinaryIO, ends: Path, documents: int, dtype: str) -> None:
    """The `.idx`, a million documents at a time."""
    itemsize = np.dtype(dtype).itemsize
    file.write(MAGIC + struct.pack("<QBQQ", VERSION, DTYPE_CODES[dtype], documents, documents + 1))
    for starts, stops in _documents(ends):
        lengths = stops - starts
        if lengths.max() > MOST_TOKENS:
            raise UserError(
                f"{ends}: a document has {lengths.max():,} tokens, more than Megatron's {MOST_TOKENS:,}; "
                "data.megatron=false leaves its files out"
            )
        file.write(lengths.astype("<i4").tobytes())
    for starts, _ in _documents(ends):
        file.write((starts * itemsize).astype("<i8").tobytes())
    for first in range(0, documents + 1, DOCUMENTS_AT_ONCE):
        last = min(documents + 1, first + DOCUMENTS_AT_ONCE)
        file.write(np.arange(first, last, dtype="<i8").tobytes())


def _documents(ends: Path) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Where documents start and stop, in tokens, a million at a time."""
    before = 0
    with ends.open("rb") as file:
        while True:
            stops = np.fromfile(file, "<u8", DOCUMENTS_AT_ONCE).astype(np.int64)
            if not len(stops):
                return
            yield np.concatenate([[before], stops[:-1]]), stops
            before = int(stops[-1])


def _same_bytes(source: Path, target: Path) -> None:
    """`target` becomes `source` by another name, or a copy where the file system has no second names."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        partial = target.with_name(target.name + ".partial")
        shutil.copyfile(source, partial)
        partial.replace(target)
