"""The configuration of RefinedWeb's heuristics."""

from typing import Literal

from isoflop.config.base import Config, Count, Fraction, NonNegative, Positive, Whole

NGram = tuple[Count, Fraction]
"""Words in the n-gram, and the largest fraction of a document's characters in words."""


class RefinedWebTextConfig(Config):
    """What DCLM does to a page's text before its language is told (Li et al. 2024, section 4.1)."""

    remove_urls: Literal["published", "everywhere"] | None = "published"
    """published: only in pages whose first letters happen to be a top-level domain, as DCLM's code has it
    (it asks for a domain at the text's very beginning); everywhere: as it was meant."""
    max_blank_lines: Whole = 1
    """In a row; DCLM's newline rule of 2 successive line ends."""


class RefinedWebRepetitionConfig(Config):
    """Repetition within a page (Rae et al. 2021, table A1) as DCLM measures it: the largest fractions.

    Unlike in datatrove, the first of equal lines counts as repeated too, blanks and punctuation count
    neither above nor below the fraction bar, and a word in several repeated n-grams counts once.
    """

    line_frac: Fraction = 0.3
    paragraph_frac: Fraction = 0.3
    line_char_frac: Fraction = 0.2
    paragraph_char_frac: Fraction = 0.2
    top_n_grams: tuple[NGram, ...] = ((2, 0.2), (3, 0.18), (4, 0.16))
    repeated_n_grams: tuple[NGram, ...] = (
        (5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10),
    )  # fmt: skip


class RefinedWebLinesConfig(Config):
    """Lines that are no prose are taken out; a document that loses too many words is dropped.

    Penedo et al. 2023, section G.2.
    """

    max_uppercase_ratio: Fraction = 0.5
    """Of a line's characters."""
    max_numeric_ratio: Fraction = 0.999999
    """Of a line's characters."""
    remove_counters: bool = True
    """Lines such as `3 likes`."""
    min_line_words: Whole = 2
    remove_phrases: bool = True
    """`items in cart`, `Read more...` at the end, `Sign-in` at the start, in lines of ten words at most."""
    max_removed_words_ratio: Fraction = 0.05
    """Of the document's words."""


class RefinedWebConfig(Config):
    """RefinedWeb's document and line rules (Penedo et al. 2023, appendix G) as DCLM-Baseline has them."""

    min_words: Whole = 50
    max_words: Count = 100_000
    """Words that begin with a letter or a digit."""
    min_mean_word_length: NonNegative = 3
    max_mean_word_length: Positive = 10
    max_symbol_ratio: NonNegative = 0.1
    """`#` and ellipses for each word."""
    max_bullet_ratio: Fraction = 0.9
    """Of lines that begin with a bullet."""
    max_ellipsis_ratio: Fraction = 0.3
    """Of lines that end in an ellipsis."""
    max_non_alphabetic_ratio: Fraction = 0.2
    """Of words without a letter."""
    min_stop_words: Whole = 2
    """English ones, each time they stand in the text."""
    repetition: RefinedWebRepetitionConfig | None = RefinedWebRepetitionConfig()
    lines: RefinedWebLinesConfig | None = RefinedWebLinesConfig()
