"""RedPajama v2: quality signals written once beside the text, and rules over them that are cheap to change.

Source: Weber et al. 2024 (arXiv 2411.12372) and its published code and README.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field

from isoflop.config.base import Config, Count, Fault, did_you_mean

DOCUMENT_SIGNALS = (
    "ccnet_length",
    "ccnet_nlines",
    "rps_doc_curly_bracket",
    "rps_doc_frac_all_caps_words",
    "rps_doc_frac_lines_end_with_ellipsis",
    "rps_doc_frac_no_alph_words",
    "rps_doc_frac_unique_words",
    "rps_doc_lorem_ipsum",
    "rps_doc_mean_word_length",
    "rps_doc_num_sentences",
    "rps_doc_stop_word_fraction",
    "rps_doc_symbol_to_word_ratio",
    "rps_doc_unigram_entropy",
    "rps_doc_word_count",
    *(f"rps_doc_frac_chars_top_{n}gram" for n in (2, 3, 4)),
    *(f"rps_doc_frac_chars_dupe_{n}grams" for n in (5, 6, 7, 8, 9, 10)),
)
"""One number a document."""

LINE_SIGNALS = (
    "rps_lines_ending_with_terminal_punctution_mark",
    "rps_lines_javascript_counts",
    "rps_lines_num_words",
    "rps_lines_numerical_chars_fraction",
    "rps_lines_start_with_bulletpoint",
    "rps_lines_uppercase_letter_fraction",
)
"""One number for each line of a document; `line_length` is ours: its characters, the newline with them."""
LINE_LENGTH = "line_length"
LANGUAGE_SCORE = "ccnet_language_score"
LANGUAGE = "language"
BLOCK_WORDS, BLOCKED_DOMAINS = "rps_doc_ldnoobw_words", "rps_doc_ut1_blacklist"

Similarity = Annotated[float, Field(ge=0.5, le=1.0)]


class SignaturesConfig(Config):
    """MinHash signatures (the published configuration); null instead of them leaves them out."""

    similarities: tuple[Similarity, ...] = (0.7, 0.8, 0.9, 1.0)
    """Thresholds that duplicates can later be sought at; each a column `minhash_signature_<s>`."""
    n_gram: Count = 13
    """Normalized words of a feature; a shorter document has no signature and no near-duplicates."""
    n_permutations: Annotated[int, Field(ge=16, le=256)] = 128
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    """Of the permutations."""


class SignalsConfig(Config):
    """What is written beside the text: the text-only signals always, and more where files are given."""

    default_language: str = Field(default="en", pattern=r"^[A-Za-z]{2,3}([-_].*)?$")
    """Chooses the stop words of a document whose language was not identified."""
    stop_words: str | None = None
    """A JSON object of word lists by ISO 639-1 code, such as RedPajama's own; null: jusText's lists."""
    ldnoobw: str | None = None
    """A list of words and phrases, one a line, for `rps_doc_ldnoobw_words`."""
    ut1: str | None = None
    """A JSON object of domains and category numbers, for `rps_doc_ut1_blacklist`."""
    signatures: SignaturesConfig | None = SignaturesConfig()


class Rule(Config):
    """Keeps a document whose value in a column lies between the bounds, both of which let through."""

    column: str
    aggregate: Literal["mean", "sum", "min", "max", "fraction"] | None = None
    """Over the lines, for a column that has a value for each; `fraction`: of lines within the line bounds."""
    line_at_least: float | None = None
    line_at_most: float | None = None
    per: str | None = None
    """A document's column to divide by."""
    at_least: float | None = None
    at_most: float | None = None
    one_of: tuple[str, ...] | None = None
    """For a column of text, such as `language`: the values that are kept."""
    if_null: Literal["drop", "keep"] = "drop"
    """What to do where there is no value: no words, no lines, a division by zero, an unknown language."""


Rules = dict[str, Rule | None]
"""By name, which is also the reason of a drop; null leaves a rule out. The first that drops is told."""


class DuplicatesConfig(Config):
    """Duplicates among what the rules keep; the first document of a cluster stays."""

    exact: bool = True
    """By the SHA-256 of the text."""
    similarity: Similarity | None = 0.8
    """One of the thresholds that there are signatures for; null: near-duplicates stay."""


def line_columns() -> list[str]:
    return [*LINE_SIGNALS, LINE_LENGTH]


def number_columns(signals: SignalsConfig) -> list[str]:
    """The columns with one number a document that an annotation by `signals` has."""
    lists = [BLOCK_WORDS] * (signals.ldnoobw is not None) + [BLOCKED_DOMAINS] * (signals.ut1 is not None)
    return [*DOCUMENT_SIGNALS, LANGUAGE_SCORE, *lists]


def rule_faults(rules: Mapping[str, Rule | None], signals: SignalsConfig, key: str) -> Iterator[Fault]:
    """What is wrong with rules for columns that `signals` makes; `key` is where they stand."""
    numbers, lines = number_columns(signals), line_columns()
    for name, rule in rules.items():
        if rule is None:
            continue
        here = f"{key}.{name}"
        if rule.column not in [*numbers, *lines, LANGUAGE]:
            yield Fault(f"{here}.column", rule.column, _unknown(rule.column, [*numbers, *lines, LANGUAGE]))
        elif (rule.column in lines) != (rule.aggregate is not None):
            given = rule.aggregate or "null"
            told = "has a value a line; mean, sum, min, max or fraction makes one of them"
            none = "has one value a document; null is right"
            yield Fault(f"{here}.aggregate", given, f"{rule.column} {told if rule.column in lines else none}")
        if rule.per is not None and rule.per not in numbers:
            yield Fault(f"{here}.per", rule.per, _unknown(rule.per, numbers))
        yield from _bound_faults(rule, here)


def _unknown(column: str, known: list[str]) -> str:
    lists = {BLOCK_WORDS: "ldnoobw", BLOCKED_DOMAINS: "ut1"}
    if column in lists:
        return f"is there only with a list given in signals.{lists[column]}"
    return f"unknown column{did_you_mean(column, known)}"


def _bound_faults(rule: Rule, here: str) -> Iterator[Fault]:
    line_bounds = (rule.line_at_least, rule.line_at_most)
    text = rule.column == LANGUAGE
    if text != (rule.one_of is not None) or (text and (rule.at_least, rule.at_most) != (None, None)):
        yield Fault(f"{here}.one_of", list(rule.one_of or ()), "is the bound of text, and of nothing else")
    elif not text and rule.at_least is None and rule.at_most is None:
        yield Fault(here, None, "drops nothing; give it at_least or at_most, or null for the whole rule")
    if rule.at_least is not None and rule.at_most is not None and rule.at_least > rule.at_most:
        yield Fault(f"{here}.at_least", rule.at_least, f"is more than at_most={rule.at_most}: keeps nothing")
    if (rule.aggregate == "fraction") != (line_bounds != (None, None)):
        yield Fault(here, None, "line_at_least and line_at_most go with aggregate=fraction, and it with them")


def duplicates_faults(
    duplicates: DuplicatesConfig | None, signals: SignalsConfig, key: str
) -> Iterator[Fault]:
    """A similarity that there are no signatures for."""
    wanted = duplicates.similarity if duplicates is not None else None
    made = signals.signatures.similarities if signals.signatures is not None else ()
    if wanted is not None and wanted not in made:
        there = ", ".join(map(str, made)) or "none"
        yield Fault(f"{key}.similarity", wanted, f"has no signatures; there are: {there}")
