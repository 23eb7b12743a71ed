"""The settings of deduplication: near-duplicates, exact duplicates, and n-grams seen before."""

from typing import Literal

from pydantic import Field, model_validator

from isoflop.config.base import Config, Count, Fraction, Whole
from isoflop.config.curation.recipe import Engine


class MinhashConfig(Config):
    """MinHash near-duplicates (Broder 1997), in FineWeb's shape (Penedo et al. 2024, section 3.4).

    At Jaccard similarity s two documents meet with P = 1 - (1 - s^hashes_per_bucket)^num_buckets.
    A document with fewer than `n_grams` words has no signature and is always kept.
    """

    n_grams: Count = 5
    """Words in a shingle."""
    num_buckets: Count = 14
    """Bands; a shared one makes two documents a pair."""
    hashes_per_bucket: Count = 8
    """Hashes that must all agree within a band."""
    seed: Whole = Field(default=1, lt=2**32)
    """Of the permutations."""
    engine: Engine = "fast"
    """fast: our own hashes; exact: datatrove's bit for bit, with `hash_fc`; reference: datatrove's class."""
    hash_fc: Literal["xxhash", "sha1"] = "xxhash"
    """Of a shingle's text, for the engines exact and reference."""
    words: Literal["whitespace", "spacy"] = "whitespace"
    """Of the engine reference: what blanks part in the simplified text, or spaCy's English words."""


class ExactDedupConfig(Config):
    """Documents that are the same, text for text or address for address: the first one stays."""

    by: Literal["text", "url"] = "text"
    """url: the metadata's `url`, or else the document's id; a document without either is kept."""
    normalise: Literal["none", "simplified"] = "none"
    """simplified: texts are the same when their words are, whatever the case, marks, punctuation, numbers."""
    hash_ranges: Count = 1
    """Tasks that look for duplicates, each in its share of the hashes: about 100 bytes a document in all."""

    @model_validator(mode="after")
    def _normalises_text(self) -> "ExactDedupConfig":
        if self.by == "url" and self.normalise != "none":
            raise ValueError("normalise is for texts; by=url compares addresses as they are")
        return self


class BloomConfig(Config):
    """N-grams seen before, by a Bloom filter: DCLM's `old-both` (Li et al. 2024, appendix L; its tool BFF).

    A paragraph goes when more than `threshold` of its n-grams were seen before, a document when more
    than `threshold` of all of its n-grams were.
    """

    ngram_words: Count = 13
    """Words in an n-gram; punctuation marks are words."""
    min_words: Count = 13
    """A paragraph with less than `ngram_words`, but so many at least, is one n-gram; a shorter one stays."""
    threshold: Fraction = 0.8
    false_positives: Fraction = Field(default=0.01, gt=0.0, lt=1.0)
    """The most, among n-grams that were not seen before."""
    expected_ngrams: Count = 10_000_000
    """Distinct ones of a task to make room for at once, 11 bits each; for more the filter grows."""
