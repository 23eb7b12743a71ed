"""DCLM's deduplication: paragraphs and documents most of whose n-grams were seen before.

The rule is that of BFF's `--remove-type old-both`, which DCLM-Baseline was made with (Li et al. 2024,
section 4.3; `process_line_oldboth` in dedup/bff/src/main.rs of mlfoundations/dclm, read at commit
361714b). It depends on the order of the documents: here that of the task, from an empty filter, so a task
that is run again decides the same. Documents of two tasks do not meet, as those of BFF's shards do not: one
task for all of the input, or as many as there are groups within which to deduplicate.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.writers.disk_base import DiskWriter
from numpy.typing import NDArray

from isoflop.config.curation.dedup import BloomConfig
from isoflop.curate.dedup.bloom import BloomFilter
from isoflop.curate.dedup.chunks import ChunkWords
from isoflop.curate.dedup.minhash import shingles
from isoflop.curate.dedup.words import Hashes, Lengths, segments

GROUP_CHARS = 1 << 20


@dataclass(frozen=True)
class Paragraphs:
    """N-grams (flat), how many each paragraph has, which were seen before, and which paragraphs go."""

    ngrams: Hashes
    counts: Lengths
    seen: NDArray[np.bool_]
    go: NDArray[np.bool_]


class DropSeen(BaseFilter):
    """Takes paragraphs out of a document, or drops it, where their n-grams were seen before.

    A paragraph ends at a line feed; its n-grams are looked up before any of them is added, and only
    those of a paragraph that stays are added. The document goes by the n-grams of all its paragraphs.
    What is left of the text is as BFF leaves it: a paragraph goes with the line feed before it.
    """

    name = "seen n-grams"

    def __init__(self, config: BloomConfig, exclusion_writer: DiskWriter | None = None) -> None:
        super().__init__(exclusion_writer)
        self.config = config

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        self._words = ChunkWords()
        self._filter = BloomFilter(self.config.expected_ngrams, self.config.false_positives)
        yield from super().run(data, rank, world_size)
        self.stat_update("filter_bytes", value=self._filter.memory_bytes, unit="task")
        del self._words, self._filter

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Judge a document, and shorten its text."""
        paragraphs = doc.text.split("\n")
        paragraphs[1:] = [f"\n{paragraph}" for paragraph in paragraphs[1:]]
        stay: list[str] = []
        n_ngrams = n_seen = 0
        for group in _groups(paragraphs):
            judged = self._judge(group)
            n_ngrams += len(judged.ngrams)
            n_seen += int(judged.seen.sum())
            stay += [text for text, goes in zip(group, judged.go.tolist(), strict=True) if not goes]
            self._filter.add(judged.ngrams[np.repeat(~judged.go, judged.counts)])
        self.stat_update("paragraphs", value=len(paragraphs))
        self.stat_update("paragraphs_seen", value=len(paragraphs) - len(stay))
        if n_ngrams and n_seen / n_ngrams > self.config.threshold:
            return False, "seen_document"
        doc.text = "".join(stay)
        return (True, "") if doc.text.strip() else (False, "nothing_left")

    def _judge(self, paragraphs: list[str]) -> Paragraphs:
        """Which of the paragraphs go, given what stays of those before them."""
        ngrams, counts = self._ngrams(paragraphs)
        seen = self._filter.has(ngrams)
        go = self._too_many(seen, counts)
        again = ~seen  # of these, the ones that stand in the group more than once
        _, which, times = np.unique(ngrams[again], return_inverse=True, return_counts=True)
        again[again] = times[which] > 1
        added: set[int] = set()
        ends = np.cumsum(counts)
        for i in np.unique(np.searchsorted(ends, np.flatnonzero(again), side="right")).tolist():
            here = np.arange(ends[i] - counts[i], ends[i])[again[ends[i] - counts[i] : ends[i]]]
            values = ngrams[here].tolist()
            seen[here] = [value in added for value in values]
            go[i] = seen[ends[i] - counts[i] : ends[i]].sum() / counts[i] > self.config.threshold
            if not go[i]:
                added.update(values)
        return Paragraphs(ngrams, counts, seen, go)

    def _too_many(self, seen: NDArray[np.bool_], counts: Lengths) -> NDArray[np.bool_]:
        known = np.bincount(np.repeat(np.arange(len(counts)), counts), seen, len(counts))
        return known / np.maximum(counts, 1) > self.config.threshold

    def _ngrams(self, paragraphs: list[str]) -> tuple[Hashes, Lengths]:
        """All n-grams, paragraph by paragraph, and how many each has: one, where it is short."""
        if len(paragraphs) == 1:
            pieces = [self._words.of([piece]) for piece in segments(paragraphs[0], GROUP_CHARS)]
            words = np.concatenate([hashes for hashes, _ in pieces])
            n_words = np.array([len(words)])
        else:
            words, n_words = self._words.of(paragraphs)
        size = self.config.ngram_words
        ngrams, counts = shingles(words, n_words, size)
        short = np.flatnonzero((n_words < size) & (n_words >= self.config.min_words))
        if not len(short):
            return ngrams, counts
        ends = np.cumsum(n_words)
        whole = [shingles(words[ends[i] - n_words[i] : ends[i]], n_words[[i]], n_words[i])[0] for i in short]
        places = np.cumsum(counts)[short]
        counts[short] = 1
        return np.insert(ngrams, places, np.concatenate(whole)), counts


def _groups(paragraphs: list[str]) -> Iterator[list[str]]:
    """Paragraphs to be judged together, about a million characters; a longer one alone."""
    group: list[str] = []
    chars = 0
    for paragraph in paragraphs:
        if group and chars + len(paragraph) > GROUP_CHARS:
            yield group
            group, chars = [], 0
        group.append(paragraph)
        chars += len(paragraph)
    yield group
