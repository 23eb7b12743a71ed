"""The configuration of decontamination."""

from pydantic import Field

from isoflop.config.base import Config, Count, Fraction


class DecontaminateConfig(Config):
    """Documents that share an n-gram of words with evaluation files (Brown et al. 2020, appendix C).

    Words are runs of letters and digits, in lower case: punctuation and blanks only part them. Where a
    script writes no blanks between words (Han, kana, Thai, Lao, Khmer, Burmese), each character is one.
    """

    evaluations: tuple[str, ...] = Field(min_length=1)
    """Files or folders of JSONL, parquet (each row an item) and text (each file an item)."""
    text_keys: tuple[str, ...] = ("text",)
    """The fields of a row that make up the item, in this order; `a.b` is b in a, lists are taken whole."""
    n_gram: Count = 13
    """Words in the shared sequence."""
    min_item_words: Count = 8
    """An item of fewer than `n_gram` words is looked for whole, unless it has fewer than this."""
    min_hits: Count = 1
    """Places in the document at which a shared sequence begins; with fewer it is kept."""
    min_covered_fraction: Fraction = 0.0
    """Of the document's words, that lie in a shared sequence; with less it is kept."""
    drop: bool = True
    """False: contaminated documents are counted, and named in metadata["contaminated"], but kept."""
