"""A text as RedPajama v2 cuts it up (arXiv 2411.12372; the published code, `app/src/core/document.py`).

Raw words are runs of word characters and runs of other marks (NLTK's WordPunct rule, `\\w+|[^\\w\\s]+`).
Normalized words are what blanks part once ASCII punctuation is deleted, the rest lower-cased and then
decomposed (NFD): an é counts two characters, and "don't" is one word here and three raw ones.
A line ends with its newline, which counts among its characters; nothing after the last newline is no line.

All of it comes from one array of code points and one table of their kinds, so that a document costs a few
passes of numpy and no loop over characters, whatever its script.
"""

import unicodedata
from functools import cache

import numpy as np
from numpy.typing import NDArray

WORD, SPACE, PUNCTUATION, UPPER, NOT_UPPER, NUMERIC, LATIN = (1 << bit for bit in range(7))
"""Kinds of character: `\\w`, `\\s`, ASCII punctuation, upper case, lower or title case, numeric, a-zA-Z."""

ASSIGNED = 0x40000
"""No character with a kind stands at or above this code point."""

Ints = NDArray[np.int64]


@cache
def kinds() -> NDArray[np.uint8]:
    """The kinds of every code point, as bits; 1.1 MB, made once a process in a tenth of a second."""
    table = np.zeros(0x110000, dtype=np.uint8)
    table[:ASSIGNED] = [_kinds(chr(code)) for code in range(ASSIGNED)]
    for mark in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~":
        table[ord(mark)] |= PUNCTUATION
    for letter in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ":
        table[ord(letter)] |= LATIN
    return table


def _kinds(char: str) -> int:
    if char.isspace():
        return SPACE
    upper = char.isupper()
    lower = char.islower() or (char.istitle() and not upper)
    return (
        WORD * (char.isalnum() or char == "_")
        + UPPER * upper
        + NOT_UPPER * lower
        + NUMERIC * char.isnumeric()
    )


def code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def as_text(codes: NDArray[np.uint32]) -> str:
    return codes.tobytes().decode("utf-32-le", "surrogatepass")


class Parts:
    """The raw words and lines of `text`, and the normalized ones, as the signals need them.

    `raw_kinds` has for each raw word the kinds of its characters, or-ed. `words` are the normalized words,
    `word_ids` number them by first occurrence, `line_words` counts them a line.
    """

    def __init__(self, text: str) -> None:
        codes = code_points(text)
        flags = kinds()[codes]
        self.text = text
        self.char_kinds = flags
        self.line_ends = _line_ends(codes)
        """For each line the position after its last character; a line begins where the last ended."""
        self._codes = codes

        words, blank = flags & WORD, flags & SPACE
        parted = np.ones(len(codes), dtype=bool)
        parted[1:] = (words[1:] != words[:-1]) | (blank[1:] != blank[:-1])
        starts = np.flatnonzero(parted & (blank == 0))
        self.raw_kinds = np.bitwise_or.reduceat(flags, starts) if len(starts) else flags[:0]

        kept = as_text(codes[(flags & PUNCTUATION) == 0]).lower()
        self.normal_chars = kept if kept.isascii() else unicodedata.normalize("NFD", kept)
        lines = self.normal_chars.split("\n")[: len(self.line_ends)]
        split = [line.split() for line in lines]
        self.words = [word for line in split for word in line]
        self.normalized_lines = split
        self.line_words = np.fromiter(map(len, split), dtype=np.int64, count=len(split))
        numbers = {word: number for number, word in enumerate(dict.fromkeys(self.words))}
        self.word_ids = np.fromiter(map(numbers.__getitem__, self.words), np.int64, len(self.words))
        self.n_unique = len(numbers)
        self.word_lengths = np.fromiter(map(len, self.words), dtype=np.int64, count=len(self.words))

    def word_runs(self) -> list[str]:
        """The raw words that are made of word characters, as they stand in the text."""
        return as_text(np.where(self.char_kinds & WORD, self._codes, ord(" ")).astype("<u4")).split()

    def numeric_chars(self) -> Ints:
        """Numeric characters of each normalized line."""
        if self.normal_chars.isascii():  # digits, which normalization leaves as they are
            return per_line(self.char_kinds & NUMERIC != 0, self.line_ends)
        codes = code_points(self.normal_chars)
        ends = _line_ends(codes)
        # The text's last line may have lost all it had to normalization; the others keep their newline.
        counts = np.zeros(len(self.line_ends), dtype=np.int64)
        counts[: len(ends)] = per_line(kinds()[codes] & NUMERIC != 0, ends)
        return counts

    @property
    def normalized(self) -> str:
        """The normalized words with one blank between."""
        return " ".join(self.words)


def _line_ends(codes: NDArray[np.uint32]) -> Ints:
    ends = np.flatnonzero(codes == ord("\n")) + 1
    return ends if not len(codes) or codes[-1] == ord("\n") else np.append(ends, len(codes))


def per_line(marked: NDArray[np.bool_], ends: Ints) -> Ints:
    """How many of the characters of each line are `marked`."""
    totals = np.zeros(len(marked) + 1, dtype=np.int64)
    np.cumsum(marked, out=totals[1:])
    return lengths(totals[ends])


def lengths(ends: Ints) -> Ints:
    """Of spans that lie end to end from 0, by their ends."""
    spans = ends.copy()
    spans[1:] -= ends[:-1]
    return spans
