"""The heuristic filters of FineWeb's recipe: their thresholds, and how they are computed.

The fields of a filter are datatrove's own argument names, so that a threshold here, in datatrove's
documentation and in the papers is one and the same. `null` for a whole filter leaves it out.
"""

from typing import Literal

from pydantic import Field

from isoflop.config.base import Config, Count, Fraction, NonNegative, Positive, Whole

NGram = tuple[Count, Fraction]
"""Words in the n-gram, and the largest fraction of a document's characters."""

Words = Literal["spacy", "whitespace"]
"""spacy: punctuation marks and clitics are words of their own, as spaCy's English pipeline has it, which is
datatrove's default; whitespace: a word is what stands between blanks."""


class GopherRepetitionConfig(Config):
    """Repetition within a document (Rae et al. 2021, table A1): the largest fractions let through."""

    dup_line_frac: Fraction | None = 0.3
    """Of lines, those that stood before."""
    dup_para_frac: Fraction | None = 0.3
    """Of paragraphs, those that stood before."""
    dup_line_char_frac: Fraction | None = 0.2
    """Of characters, those in lines that stood before."""
    dup_para_char_frac: Fraction | None = 0.2
    """Of characters, those in paragraphs that stood before."""
    top_n_grams: tuple[NGram, ...] = ((2, 0.2), (3, 0.18), (4, 0.16))
    """Of characters, those in all copies of the commonest n-gram."""
    dup_n_grams: tuple[NGram, ...] = ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))
    """Of characters, those in n-grams that stood before."""
    words: Words = "spacy"


class GopherQualityConfig(Config):
    """Plausible prose (Rae et al. 2021, section A1.1)."""

    min_doc_words: Count = 50
    """Words that are not punctuation alone."""
    max_doc_words: Count = 100_000
    min_avg_word_length: NonNegative | None = 3
    """Characters, over the same words."""
    max_avg_word_length: Positive | None = 10
    max_symbol_word_ratio: Fraction | None = 0.1
    """`#` to words, and ellipses to words."""
    max_bullet_lines_ratio: Fraction | None = 0.9
    max_ellipsis_lines_ratio: Fraction | None = 0.3
    max_non_alpha_words_ratio: Fraction | None = 0.8
    """datatrove's name; it is the least fraction of words that have a letter."""
    min_stop_words: Whole = 2
    """How many of the, be, to, of, and, that, have, with must be there."""
    words: Words = "spacy"


class C4Config(Config):
    """The rules of C4 (Raffel et al. 2020, section 2.2); -1 switches a number's rule off."""

    filter_no_terminal_punct: bool = False
    """Drop lines that do not end in . ? ! or a quote; FineWeb found it to cost too much."""
    min_num_sentences: int = Field(default=5, ge=-1)
    min_words_per_line: int = Field(default=3, ge=-1)
    max_word_length: int = Field(default=1000, ge=-1)
    """Characters; a line with a longer word is dropped."""
    remove_citations: bool = True
    filter_lorem_ipsum: bool = True
    filter_javascript: bool = True
    filter_curly_bracket: bool = True
    filter_policy: bool = True
    edit_lines: bool = True
    """False: judge the document by its good lines, but keep it as it is, with blank lines and indentation."""
    words: Words = "spacy"
    """By which sentences are counted."""


class FineWebConfig(Config):
    """FineWeb's own rules (Penedo et al. 2024, section 3.6)."""

    line_punct_thr: Fraction = 0.12
    """The least fraction of lines that end in punctuation."""
    short_line_thr: Fraction = 0.67
    """The largest fraction of lines of `short_line_length` characters or fewer."""
    short_line_length: Count = 30
    char_duplicates_ratio: Fraction = 0.1
    """The most characters in lines that stood before: the paper's; the published code has 0.01."""
    new_line_ratio: NonNegative = 0.3
    """The most line ends to a word."""
    words: Words = "spacy"
