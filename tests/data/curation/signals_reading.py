"""RedPajama v2's definitions read as literally as they are told: slow, and no code of ours in it."""

import hashlib
import json
import math
import re
import string
import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import justext

STOPLISTS = {"en": "English", "de": "German", "fr": "French", "es": "Spanish", "it": "Italian"}
BULLETS = "\u2022\u2023\u25b6\u25c0\u25e6\u25a0\u25a1\u25aa\u25ab\u2013"
Spans = list[list[Any]]


def normalized(text: str) -> str:
    for mark in string.punctuation:
        text = text.replace(mark, "")
    return unicodedata.normalize("NFD", re.sub(r"\s+", " ", text.lower().strip()))


def raw_words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]+", text)


def line_spans(text: str) -> list[tuple[int, int]]:
    """From each line's first character to behind its newline."""
    ends = [place + 1 for place, char in enumerate(text) if char == "\n"]
    ends += [len(text)] if text and not text.endswith("\n") else []
    return list(pairwise([0, *ends]))


def n_grams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]


def share(part: float, whole: float) -> float | None:
    return round(part / whole, 8) if whole else None


def document_values(text: str, language: str = "en") -> dict[str, Any]:
    raw, plain = raw_words(text), normalized(text)
    words = plain.split()
    lines = [text[start:end] for start, end in line_spans(text)]
    stop = {word.lower() for word in justext.get_stoplist(STOPLISTS[language])}
    letters = sum(any(char in string.ascii_letters for char in word) for word in raw)
    symbols = text.count("#") + text.count("...") + text.count("\u2026")
    n_chars = sum(len(word) for word in words)
    values: dict[str, Any] = {
        "ccnet_length": float(len(text)),
        "ccnet_nlines": float(len(text.split("\n")) if text else 0),
        "rps_doc_curly_bracket": share(sum(char in "{}" for char in text), len(text)) or 0.0,
        "rps_doc_frac_all_caps_words": share(sum(word.isupper() for word in raw), len(raw)),
        "rps_doc_frac_lines_end_with_ellipsis": share(
            sum(line.rstrip().endswith(("...", "\u2026")) for line in lines), len(lines)
        ),
        "rps_doc_frac_no_alph_words": round(1.0 - letters / len(raw), 8) if raw else None,
        "rps_doc_frac_unique_words": share(len(set(words)), len(words)),
        "rps_doc_lorem_ipsum": share(plain.count("lorem ipsum"), len(plain)) or 0.0,
        "rps_doc_mean_word_length": share(n_chars, len(words)),
        "rps_doc_num_sentences": float(len(re.findall(r"\b[^.!?]+[.!?]*", text))),
        "rps_doc_stop_word_fraction": share(sum(word in stop for word in raw), len(raw)) if words else 0.0,
        "rps_doc_symbol_to_word_ratio": share(symbols, len(raw)),
        "rps_doc_unigram_entropy": entropy(words),
        "rps_doc_word_count": len(words),
    }
    for n in (2, 3, 4):
        values[f"rps_doc_frac_chars_top_{n}gram"] = top_n_gram(words, n, n_chars)
    for n in range(5, 11):
        values[f"rps_doc_frac_chars_dupe_{n}grams"] = duplicate_n_grams(words, n, n_chars)
    return values


def entropy(words: list[str]) -> float | None:
    if not words:
        return None
    parts = [words.count(word) / len(words) for word in set(words)]
    return abs(round(math.fsum(-p * math.log(p) for p in parts), 8))


def top_n_gram(words: list[str], n: int, n_chars: int) -> float:
    """The most frequent one, the first of equals; 0 where none comes twice."""
    grams = n_grams(words, n)
    best: tuple[str, ...] = ()
    for gram in grams:
        if grams.count(gram) > max(1, grams.count(best)):
            best = gram
    return round(len("".join(best)) * grams.count(best) / n_chars, 8) if best else 0.0


def duplicate_n_grams(words: list[str], n: int, n_chars: int) -> float:
    """Characters of the words that lie in an n-gram which is met elsewhere too."""
    grams = n_grams(words, n)
    inside = {at + k for at, gram in enumerate(grams) if grams.count(gram) > 1 for k in range(n)}
    return round(sum(len(words[at]) for at in inside) / n_chars, 8) if n_chars else 0.0


def line_values(text: str) -> dict[str, list[Any]]:
    lines = [text[start:end] for start, end in line_spans(text)]
    plain = [normalized(line) for line in lines]
    return {
        "rps_lines_ending_with_terminal_punctution_mark": [
            float(line.rstrip()[-1:] in (".", "!", "?", "\u201d")) for line in lines
        ],
        "rps_lines_javascript_counts": [float(line.split().count("javascript")) for line in plain],
        "rps_lines_num_words": [len(line.split()) for line in plain],
        "rps_lines_numerical_chars_fraction": [
            share(sum(char.isnumeric() for char in line), len(line)) or 0.0 for line in plain
        ],
        "rps_lines_start_with_bulletpoint": [
            float(line.lstrip()[:1] in BULLETS and line.strip() != "") for line in lines
        ],
        "rps_lines_uppercase_letter_fraction": [
            share(sum(char.isupper() for char in line), len(line)) for line in lines
        ],
    }


def published_signals(text: str) -> dict[str, Spans]:
    """As RedPajama v2 writes them: a document's signal spans all of it, a line's its line."""
    numbers = document_values(text)
    signals: dict[str, Spans] = {name: [[0, len(text), value]] for name, value in numbers.items()}
    for name, values in line_values(text).items():
        signals[name] = [[*span, value] for span, value in zip(line_spans(text), values, strict=True)]
    if not text:
        signals["rps_lines_start_with_bulletpoint"] = [[0, 0, None]]
    return json.loads(json.dumps(signals))


def features(text: str, n: int) -> set[int]:
    """What MinHash is taken over: four bytes of the SHA-1 of each run of `n` normalized words."""
    return {
        int.from_bytes(hashlib.sha1(" ".join(gram).encode()).digest()[:4], "little")
        for gram in n_grams(normalized(text).split(), n)
    }
