"""The signature stage of MinHash: datatrove's files, written several times faster than by datatrove.

`bucket_<b>/<rank>.minhash.sig` holds, for each document that has a shingle, the bucket's hashes (uint64)
and the document's place in its task (uint32), little-endian, sorted: what `MinhashDedupBuckets` reads.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.hashing import HashConfig, create_hash_func
from datatrove.utils.text import ngrams
from numpy.typing import NDArray

from isoflop.config.curation.dedup import MinhashConfig
from isoflop.curate.dedup.minhash import Signer
from isoflop.curate.dedup.order import PARTIAL, write_whole
from isoflop.curate.dedup.words import Hashes, Lengths, simplified_words

SUFFIX = ".minhash.sig"
BATCH_DOCUMENTS = 512
BATCH_CHARS = 1 << 20
MERSENNE_PRIME = (1 << 61) - 1


class Signs(Protocol):
    """What makes signatures of texts: `Signer`, or `DatatroveSigner`."""

    n_hashes: int

    def sign(self, texts: Sequence[str]) -> tuple[Hashes, Lengths]: ...


class DatatroveSigner:
    """datatrove's own hashes, bit for bit, of words parted by white space (engine `exact`)."""

    def __init__(self, config: MinhashConfig) -> None:
        self.n_grams = config.n_grams
        self.n_hashes = config.num_buckets * config.hashes_per_bucket
        self._hash = create_hash_func(HashConfig(precision=64, hash_fc=config.hash_fc))
        draw, prime = np.random.RandomState(config.seed), np.uint64(MERSENNE_PRIME)
        self._a = draw.randint(1, prime, dtype=np.uint64, size=(self.n_hashes, 1))
        self._b = draw.randint(0, prime, dtype=np.uint64, size=(self.n_hashes, 1))

    def sign(self, texts: Sequence[str]) -> tuple[Hashes, Lengths]:
        """Signatures (text, hash), and the number of shingles of each text."""
        signatures = np.full((len(texts), self.n_hashes), MERSENNE_PRIME - 1, np.uint64)
        counts = np.zeros(len(texts), np.int64)
        for i, text in enumerate(texts):
            grams = ngrams(simplified_words(text), self.n_grams)
            x = np.fromiter((self._hash(" ".join(gram)) for gram in grams), np.uint64)
            counts[i] = len(x)
            for first in range(0, len(x), 2048):
                permuted = (x[first : first + 2048] * self._a + self._b) % np.uint64(MERSENNE_PRIME)
                np.minimum(signatures[i], permuted.min(axis=1), out=signatures[i])
        return signatures, counts


class SignDocuments(PipelineStep):
    """Signs every document of a task; one with fewer than `n_grams` words gets none, as in datatrove.

    Memory does not grow with the documents: signatures wait in a file until they are sorted, a bucket
    at a time.
    """

    type = "🫂 - DEDUP"
    name = "🎯 MinHash stage 1"

    def __init__(self, folder: Path, config: MinhashConfig) -> None:
        super().__init__()
        self.folder = folder
        self.config = config

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> None:
        signer: Signs = (DatatroveSigner if self.config.engine == "exact" else Signer)(self.config)
        waiting = self.folder / PARTIAL / f"{rank:05d}.signatures"
        waiting.parent.mkdir(parents=True, exist_ok=True)
        places = [np.empty(0, np.uint32)]
        with waiting.open("wb") as file:
            for first, texts in self._batches(data):
                with self.track_time("batch"):
                    signatures, n_shingles = signer.sign(texts)
                    signed = n_shingles > 0
                    file.write(signatures[signed].tobytes())
                    places.append((first + np.flatnonzero(signed)).astype(np.uint32))
                    self.stat_update("total", value=len(texts))
                    self.stat_update("signed", value=int(signed.sum()))
                    self.stat_update("too_short", value=int((~signed).sum()))
        with self.track_time("batch"):
            self._write(waiting, np.concatenate(places), rank)
        waiting.unlink()

    def _batches(self, data: DocumentsPipeline) -> Iterator[tuple[int, list[str]]]:
        """The place of the first, and the texts."""
        first, texts, chars = 0, [], 0
        for doc in data:
            texts.append(doc.text)
            chars += len(doc.text)
            if len(texts) == BATCH_DOCUMENTS or chars > BATCH_CHARS:
                yield first, texts
                first, texts, chars = first + len(texts), [], 0
        if texts:
            yield first, texts

    def _write(self, waiting: Path, places: NDArray[np.uint32], rank: int) -> None:
        """The buckets' files, each sorted."""
        width, hashes = self.config.hashes_per_bucket, self.config.num_buckets * self.config.hashes_per_bucket
        shape = (len(places), hashes)
        rows = np.memmap(waiting, np.uint64, "r", shape=shape) if len(places) else np.empty(shape, np.uint64)
        for bucket in range(self.config.num_buckets):
            records = np.empty(len(places), record_type(width))
            band = np.array(rows[:, bucket * width : (bucket + 1) * width])
            order = sorted_rows(band)
            records["hashes"], records["place"] = band[order], places[order]
            name = f"bucket_{bucket:03d}/{rank:05d}{SUFFIX}"
            write_whole(self.folder, name, records.tobytes())


def record_type(hashes_per_bucket: int) -> np.dtype:
    """A line of a signature file, as datatrove has it."""
    return np.dtype([("hashes", "<u8", (hashes_per_bucket,)), ("place", "<u4")])


def sorted_rows(band: Hashes) -> NDArray[np.int64]:
    """The order that sorts the rows by their columns, first to last; of equal rows the earlier is first."""
    order = np.argsort(band[:, 0], kind="stable")
    first = band[order, 0]
    same = np.zeros(len(band) + 1, bool)
    same[1:-1] = first[1:] == first[:-1]
    tied = same[1:] | same[:-1]  # few: the other columns decide among these alone
    among = np.sort(order[tied])
    order[tied] = among[np.lexsort(band[among].T[::-1])]
    return order
