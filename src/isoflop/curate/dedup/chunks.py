"""Words by Unicode's rules (UAX 29), as 64-bit numbers, with a memory of the chunks met so far.

White space is a word boundary, but where one of very few characters stands by it; so a text is parted at
white space first, and what stands between, a chunk, goes through the rules once.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import regex  # type: ignore[import-untyped]
import xxhash
from numpy.typing import NDArray

from isoflop.curate.dedup.words import Hashes, Lengths

T = TypeVar("T", bound=np.generic)
BOUNDARY = regex.compile(r"(?w)\b")  # w: Unicode's default word boundaries
MAX_CHUNKS = 1 << 18  # about 50 MB for a worker
MAX_CHUNK_CHARS = 1 << 24


def hash_word(word: str) -> int:
    """64 bits of a word, the same in every process; a lone surrogate has bytes of its own."""
    return xxhash.xxh3_64_intdigest(word.encode("utf-8", "surrogatepass"))


class _Ids(dict[str, int]):
    """Numbers chunks in the order in which they are first asked for, and notes the new ones."""

    def __init__(self) -> None:
        super().__init__()
        self.new: list[str] = []

    def __missing__(self, chunk: str) -> int:
        number = self[chunk] = len(self)
        self.new.append(chunk)
        return number


class ChunkWords:
    """Hashes of the words of texts. What is returned does not depend on what is remembered."""

    def __init__(self, max_chunks: int = MAX_CHUNKS) -> None:
        self.max_chunks = max_chunks
        self._forget()

    def _forget(self) -> None:
        self._ids = _Ids()
        self._hashes = np.zeros(1024, np.uint64)  # of the words of all chunks, one after another
        self._ends = np.zeros(1024, np.int64)  # of chunk i's in _hashes, at i + 1
        self._chars = 0

    def of(self, texts: Sequence[str]) -> tuple[Hashes, Lengths]:
        """The hashes of all words, text after text, and how many words each text has."""
        chunks: list[str] = []
        bounds = [0]
        for text in texts:
            chunks += text.split()
            bounds.append(len(chunks))
        if len(self._ids) > self.max_chunks or self._chars > MAX_CHUNK_CHARS:
            self._forget()
        ids = np.fromiter(map(self._ids.__getitem__, chunks), np.int64, len(chunks))
        self._learn()
        starts = self._ends[ids]
        n_words = self._ends[ids + 1] - starts
        before = np.zeros(len(ids) + 1, np.int64)
        np.cumsum(n_words, out=before[1:])
        # Word j of chunk i stands at starts[i] + j: count up, and set the count back at each chunk.
        where = np.repeat(starts - before[:-1], n_words) + np.arange(before[-1])
        return self._hashes[where], np.diff(before[bounds])

    def _learn(self) -> None:
        """The words of chunks that were numbered, but not met before."""
        chunks, self._ids.new = self._ids.new, []
        words = [[word for word in BOUNDARY.split(chunk) if word] for chunk in chunks]
        flat = [hash_word(word) for few in words for word in few]
        last = len(self._ids)
        first = last - len(chunks)
        used = int(self._ends[first])
        self._ends = _grown(self._ends, last + 1)
        self._hashes = _grown(self._hashes, used + len(flat))
        self._ends[first + 1 : last + 1] = used + np.cumsum([len(few) for few in words])
        self._hashes[used : used + len(flat)] = np.array(flat, np.uint64)
        self._chars += sum(map(len, chunks))


def _grown(array: NDArray[T], size: int) -> NDArray[T]:
    if size <= len(array):
        return array
    bigger = np.zeros(max(size, 2 * len(array)), array.dtype)
    bigger[: len(array)] = array
    return bigger
