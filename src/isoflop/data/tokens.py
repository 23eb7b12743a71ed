"""Token files as one stream: the shards of a dataset in the manifest's order, through memory maps."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isoflop.data.manifest import (
    MANIFEST,
    TOKENIZER,
    DatasetError,
    Manifest,
    ShardRecord,
    file_sha256,
    read_manifest,
)

AGAIN = "copy it again, or build the dataset again with `python launch/data.py`"


@dataclass(frozen=True)
class Shard:
    """One pair of files. `ends[d]` is the position, in this shard, after the last token of document d."""

    tokens: NDArray[np.unsignedinteger]
    ends: NDArray[np.uint64]
    first_token: int  # of the stream
    first_document: int  # of the stream


class TokenDataset:
    """The tokens of the dataset in `root`, numbered 0 … n_tokens-1 over all shards.

    Opening it checks every file against the manifest: presence, sizes, document ends, the tokenizer's
    SHA-256, and with `verify="hash"` the SHA-256 of every shard (each is read once) and that document
    ends never fall. Raises DatasetError, which names the file, what was found and what would do.
    """

    def __init__(self, root: Path, verify: Literal["hash", "size"] = "hash") -> None:
        self.root = root
        self.manifest = read_manifest(root)
        try:
            _check_tokenizer(root, self.manifest)
            self._shards = list(_open_shards(root, self.manifest, verify))
        except OSError as error:
            raise DatasetError(f"{error.filename}: cannot be read: {error.strerror}; {AGAIN}") from None
        self._first_tokens = np.array([shard.first_token for shard in self._shards], dtype=np.int64)

    @property
    def n_tokens(self) -> int:
        return self.manifest.total_tokens

    def read(self, start: int, stop: int) -> NDArray[np.int64]:
        """Token ids of positions start … stop-1 (stop - start,), also across shards."""
        pieces = [shard.tokens[a:b] for shard, a, b in self._pieces(start, stop)]
        return np.concatenate([np.empty(0, np.int64), *pieces], dtype=np.int64)

    def documents(self, start: int, stop: int) -> NDArray[np.int64]:
        """The document number, in the whole stream, of positions start … stop-1 (stop - start,)."""
        pieces = [_documents(shard, a, b) for shard, a, b in self._pieces(start, stop)]
        return np.concatenate([np.empty(0, np.int64), *pieces])

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[Shard, int, int]]:
        """The shards that hold start … stop-1, each with the part of it that does."""
        if not 0 <= start <= stop <= self.n_tokens:
            raise IndexError(f"tokens {start}:{stop} of a stream of {self.n_tokens}")
        at = int(np.searchsorted(self._first_tokens, start, side="right")) - 1
        while start < stop:
            shard = self._shards[at]
            here = min(stop, shard.first_token + len(shard.tokens))
            yield shard, start - shard.first_token, here - shard.first_token
            start, at = here, at + 1


def _documents(shard: Shard, start: int, stop: int) -> NDArray[np.int64]:
    """Document numbers of a shard's positions; touches only the ends that lie among them."""
    # uint64 throughout: searching a uint64 array for an int64 would copy all of it as float64
    positions = np.arange(start, stop, dtype=np.uint64)
    if len(positions) == 0:
        return positions.astype(np.int64)
    first, last = np.searchsorted(shard.ends, positions[[0, -1]], side="right")
    within = np.searchsorted(shard.ends[first : last + 1], positions, side="right")
    return within.astype(np.int64) + int(first) + shard.first_document


def _check_tokenizer(root: Path, manifest: Manifest) -> None:
    path = root / TOKENIZER
    if not path.is_file():
        raise DatasetError(f"{path}: missing; it is tokenizer {manifest.tokenizer.name}: {AGAIN}")
    _expect_sha256(path, manifest.tokenizer.sha256)


def _open_shards(root: Path, manifest: Manifest, verify: Literal["hash", "size"]) -> Iterator[Shard]:
    first_token = first_document = 0
    for record in manifest.shards:
        yield _open_shard(root, manifest, record, verify, first_token, first_document)
        first_token += record.tokens
        first_document += record.documents
    for key, total, found in (
        ("total_tokens", manifest.total_tokens, first_token),
        ("total_documents", manifest.total_documents, first_document),
    ):
        if total != found:
            path = root / MANIFEST
            raise DatasetError(f"{path}: {key} is {total:,}, but its shards add up to {found:,}; {AGAIN}")


def _open_shard(
    root: Path, manifest: Manifest, record: ShardRecord, verify: str, first_token: int, first_document: int
) -> Shard:
    path = root / record.file
    index = path.with_name(path.name + ".index")
    tokens = _map(path, np.dtype(manifest.dtype).newbyteorder("<"), record.tokens, "tokens")
    ends = _map(index, np.dtype("<u8"), record.documents, "documents")
    last = int(ends[-1]) if record.documents else 0
    if last != record.tokens:
        right = f"but {path.name} has {record.tokens:,} tokens"
        raise DatasetError(f"{index}: the last document ends at {last:,}, {right}; {AGAIN}")
    if verify == "hash":
        _expect_sha256(path, record.sha256)
        if (ends[1:] < ends[:-1]).any():
            raise DatasetError(f"{index}: a document ends before the one in front of it; {AGAIN}")
        if record.index_sha256 is not None:
            _expect_sha256(index, record.index_sha256)
    return Shard(tokens, ends, first_token, first_document)


def _map(path: Path, dtype: np.dtype, count: int, unit: str) -> NDArray:
    """The file as `count` items, not read yet."""
    if not path.is_file():
        raise DatasetError(f"{path}: missing; the manifest lists it with {count:,} {unit}: {AGAIN}")
    found, right = path.stat().st_size, count * dtype.itemsize
    if found != right:
        what = "truncated" if found < right else "too long"
        expected = f"the manifest's {count:,} {unit} × {dtype.itemsize} = {right:,}"
        raise DatasetError(f"{path}: {what}: {found:,} bytes, not {expected}; {AGAIN}")
    return np.memmap(path, dtype, mode="r") if count else np.empty(0, dtype)  # an empty file cannot be mapped


def _expect_sha256(path: Path, right: str) -> None:
    found = file_sha256(path)
    if found != right:
        raise DatasetError(f"{path}: its sha256 is {found[:12]}…, the manifest says {right[:12]}…; {AGAIN}")
