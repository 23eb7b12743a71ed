"""The words of datatrove's `simplify_text`, as 64-bit numbers, a block of texts at a time.

`simplify_text` lowers the case, writes every number as 0, turns punctuation into blanks, and takes the
marks off letters. Here the same is done to arrays of code points: which characters are blanks, which
are words, is one look-up in a table, and a word's number is a difference of two prefix sums. No word
becomes a Python object. The words are exactly datatrove's; a test goes through every code point.
"""

import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from datatrove.utils.text import NUMBERS_PATTERN, PUNCTUATION_TRANS
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Lengths = NDArray[np.int64]

BLOCK_CHARS = 1 << 16  # a block and what is derived from it stay in a core's own cache
SEGMENT_CHARS = 1 << 18
BASE = 0x9E3779B97F4A7C15  # odd, so that its powers never vanish modulo 2^64
END = "\0"  # between texts: in a text it is punctuation
BLANK = re.compile(r"\s")
# Once every digit is 0: the leftmost longest numbers with more than one character, as in NUMBERS_PATTERN.
LONG_NUMBER = re.compile(rb"0(?:0*[.,]0+|0+)")


def mix(x: Hashes) -> Hashes:
    """Steele, Lea and Flood's finaliser (SplitMix64, 2014): a bijection that leaves no structure behind."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def segments(text: str, chars: int = SEGMENT_CHARS) -> Iterator[str]:
    """`text` in pieces of `chars` to twice as many characters, cut at white space: memory stays bounded.

    Where `chars` characters follow each other without any, the cut is made all the same, and may part a word.
    """
    start = 0
    while len(text) - start > 2 * chars:
        blank = BLANK.search(text, start + chars, start + 2 * chars)
        end = blank.start() if blank else start + 2 * chars
        yield text[start:end]
        start = end
    yield text[start:]


def word_hashes(texts: Sequence[str]) -> tuple[Hashes, Lengths]:
    """The hashes of all words of `texts`, one text after another, and the number of words of each text.

    For a while it needs some 30 bytes for each character of ASCII, some 60 where there is any other:
    cut what is long into `segments`.
    """
    if all(map(str.isascii, texts)):
        codes = _ascii_codes(texts)
        return _hashed(codes, _ascii_blank()[codes], _char_values()[:128])
    points = _unicode_codes(texts)
    return _hashed(points, _space()[points], _char_values())


def simplified_words(text: str) -> list[str]:
    """`simplify_text(text).split()` as strings, several times faster."""
    text = NUMBERS_PATTERN.sub("0", text.lower()).translate(PUNCTUATION_TRANS)
    if not text.isascii():
        text = unicodedata.normalize("NFD", text).translate(_marks())
    return text.split()


def _ascii_codes(texts: Sequence[str]) -> NDArray[np.uint8]:
    joined = END.encode().join([text.encode().translate(_ascii_fold()) for text in texts])
    return np.frombuffer(LONG_NUMBER.sub(b"0", joined + END.encode()), np.uint8)


def _unicode_codes(texts: Sequence[str]) -> NDArray[np.uint32]:
    """Code points, simplified, with 0 after each text."""
    joined = END.join([text.replace(END, " ") for text in texts]) + END
    codes = _points(NUMBERS_PATTERN.sub("0", joined.lower()))
    codes[_punctuation()[codes]] = ord(" ")  # before the next line: what NFD sets free is no punctuation
    folded = codes.tobytes().decode("utf-32-le", "surrogatepass")
    codes = _points(unicodedata.normalize("NFD", folded))
    return codes[~_is_mark()[codes]]


def _points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(bytearray(text.encode("utf-32-le", "surrogatepass")), np.uint32)


def _hashed(codes: NDArray, blank: NDArray[np.bool_], values: Hashes) -> tuple[Hashes, Lengths]:
    """A word's hash: Σ value(c_i) BASE^i over its characters, i from 0, modulo 2^64, mixed."""
    edges = np.flatnonzero(blank[1:] != blank[:-1]) + 1
    if not blank[0]:
        edges = np.concatenate(([0], edges))
    starts, ends = edges[0::2], edges[1::2]  # the last code is blank: every word ends
    sums = np.zeros(len(codes) + 1, np.uint64)
    power, inverse = _powers(len(codes))
    np.multiply(values[codes], power[: len(codes)], out=sums[1:])
    np.cumsum(sums, out=sums)
    hashes = mix((sums[ends] - sums[starts]) * inverse[starts])
    texts = np.flatnonzero(codes == 0)
    return hashes, np.diff(np.searchsorted(starts, texts), prepend=0)


_POWERS: list[Hashes] = []


def _powers(size: int) -> tuple[Hashes, Hashes]:
    """BASE^i and BASE^-i modulo 2^64, for i below `size` at least."""
    if not _POWERS or len(_POWERS[0]) < size:
        room = max(size, BLOCK_CHARS)
        _POWERS[:] = [_progression(BASE, room), _progression(pow(BASE, -1, 1 << 64), room)]
    return _POWERS[0], _POWERS[1]


def _progression(base: int, size: int) -> Hashes:
    factors = np.full(size, base, np.uint64)
    factors[0] = 1
    return np.multiply.accumulate(factors)


@cache
def _char_values() -> Hashes:
    """A random-looking number for each code point."""
    return mix(np.arange(1, sys.maxunicode + 2, dtype=np.uint64) * np.uint64(BASE))


@cache
def _table(members: frozenset[int]) -> NDArray[np.bool_]:
    table = np.zeros(sys.maxunicode + 1, bool)
    table[sorted(members)] = True
    return table


@cache
def _punctuation() -> NDArray[np.bool_]:
    return _table(frozenset(PUNCTUATION_TRANS) - {0})


@cache
def _space() -> NDArray[np.bool_]:
    return _table(frozenset(c for c in range(sys.maxunicode + 1) if chr(c).isspace()) | {0})


@cache
def _marks() -> dict[int, None]:
    """The combining marks, for `str.translate` to leave out."""
    return {c: None for c in range(sys.maxunicode + 1) if unicodedata.category(chr(c)) == "Mn"}


@cache
def _is_mark() -> NDArray[np.bool_]:
    return _table(frozenset(_marks()))


@cache
def _ascii_blank() -> NDArray[np.bool_]:
    return _space()[:128] | _punctuation()[:128]


@cache
def _ascii_fold() -> bytes:
    """Lower case, 0 for digits, blanks for punctuation but for the two that stand inside numbers."""
    fold = bytearray(range(256))
    for code in range(128):
        char = chr(code).lower()
        punctuation = code in PUNCTUATION_TRANS and char not in ".,"
        fold[code] = ord("0" if char.isdigit() else " " if punctuation else char)
    return bytes(fold)
