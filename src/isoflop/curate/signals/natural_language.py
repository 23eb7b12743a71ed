"""RedPajama v2's natural-language signals of a document, by their published names and definitions.

Where the published code surprises, its behaviour is kept: stop words are looked up among raw words as they
are written, so "The" and "don't" are none; an all-capitals word may hold digits; "......" is two ellipses.
A signal over no words is null, except the stop words' share, which is 0.
Cost: linear in the characters; most of it lies in `document.Parts`.
"""

import re

import numpy as np

from isoflop.curate.signals.document import LATIN, NOT_UPPER, UPPER, Parts

DECIMALS = 8
"""Published signals are rounded to so many."""

SENTENCE = re.compile(r"\b[^.!?]+[.!?]*")
LOREM_IPSUM = "lorem ipsum"
LOREM_IPSUM_ANY_CASE = re.compile(LOREM_IPSUM, re.IGNORECASE)
SYMBOLS = ("#", "...", "…")
ELLIPSES = ("...", "…")

Signals = dict[str, float | int | None]


def natural_language(parts: Parts, stop_words: frozenset[str] | None) -> Signals:
    """The group's signals; `rps_doc_stop_word_fraction` is null where there is no list for the language."""
    return {
        "ccnet_length": len(parts.text),
        "ccnet_nlines": parts.text.count("\n") + 1 if parts.text else 0,
        "rps_doc_curly_bracket": curly_bracket(parts),
        "rps_doc_lorem_ipsum": lorem_ipsum(parts),
        "rps_doc_num_sentences": len(SENTENCE.findall(parts.text)),
        "rps_doc_frac_lines_end_with_ellipsis": lines_end_with_ellipsis(parts),
        **raw_word_signals(parts),
        **normalized_word_signals(parts),
        "rps_doc_stop_word_fraction": None if stop_words is None else stop_word_fraction(parts, stop_words),
    }


def curly_bracket(parts: Parts) -> float:
    """ "{" and "}" by the characters of the raw text; 0 for an empty one."""
    count = parts.text.count("{") + parts.text.count("}")
    return round(count / len(parts.text), DECIMALS) if count else 0.0


def lorem_ipsum(parts: Parts) -> float:
    """Its occurrences by the characters of the normalized text, in which lines run on."""
    if "lorem" not in parts.normal_chars:
        return 0.0
    normalized = parts.normalized
    if LOREM_IPSUM not in normalized:
        return 0.0
    return round(len(LOREM_IPSUM_ANY_CASE.findall(normalized)) / len(normalized), DECIMALS)


def lines_end_with_ellipsis(parts: Parts) -> float | None:
    """The share of raw lines, blank ones among them, whose last characters before blanks are "..." or "…"."""
    n_lines = len(parts.line_ends)
    if n_lines == 0:
        return None
    if not any(mark in parts.text for mark in ELLIPSES):
        return 0.0
    return round(sum(line.rstrip().endswith(ELLIPSES) for line in raw_lines(parts)) / n_lines, DECIMALS)


def raw_lines(parts: Parts) -> list[str]:
    return parts.text.split("\n")[: len(parts.line_ends)]


def raw_word_signals(parts: Parts) -> Signals:
    """By the raw words, of which a run of marks is one too."""
    kinds, n_words = parts.raw_kinds, len(parts.raw_kinds)
    if n_words == 0:
        names = ("frac_all_caps_words", "frac_no_alph_words", "symbol_to_word_ratio")
        return {f"rps_doc_{name}": None for name in names}
    capitals = int(((kinds & (UPPER | NOT_UPPER)) == UPPER).sum())
    latin = int(((kinds & LATIN) != 0).sum())
    symbols = sum(parts.text.count(symbol) for symbol in SYMBOLS)
    return {
        "rps_doc_frac_all_caps_words": round(capitals / n_words, DECIMALS),
        "rps_doc_frac_no_alph_words": round(1.0 - latin / n_words, DECIMALS),
        "rps_doc_symbol_to_word_ratio": round(symbols / n_words, DECIMALS),
    }


def normalized_word_signals(parts: Parts) -> Signals:
    """By the normalized words. The entropy is in nats: -Σ p ln p over the shares of the unique words."""
    n_words = len(parts.words)
    if n_words == 0:
        names = ("mean_word_length", "frac_unique_words", "unigram_entropy")
        return {"rps_doc_word_count": 0, **{f"rps_doc_{name}": None for name in names}}
    shares = np.bincount(parts.word_ids) / n_words
    return {
        "rps_doc_word_count": n_words,
        "rps_doc_mean_word_length": round(int(parts.word_lengths.sum()) / n_words, DECIMALS),
        "rps_doc_frac_unique_words": round(parts.n_unique / n_words, DECIMALS),
        "rps_doc_unigram_entropy": abs(round(float(-(shares * np.log(shares)).sum()), DECIMALS)),
    }


def stop_word_fraction(parts: Parts, stop_words: frozenset[str]) -> float:
    """Stop words among the raw words; 0 where normalization leaves no word."""
    if not parts.words:
        return 0.0
    found = sum(map(stop_words.__contains__, parts.word_runs()))
    return round(found / len(parts.raw_kinds), DECIMALS)
