"""The words that are hashed are datatrove's, and a word's hash depends on the word alone."""

import sys
import unicodedata

import numpy as np
from curation import prose
from datatrove.utils.text import simplify_text

from isoflop.curate.dedup import words
from isoflop.curate.dedup.words import BASE, mix, segments, simplified_words, word_hashes

TRICKY = [
    "",
    " ",
    "a b.\n",
    "3.14.15 1,2,3 x12y3.4z .5 5. 1..2 1.2.3.4.5 00.0 7,",
    "٣٫١٤ 10\u06665 1٫5",
    "Ünïcode İstanbul ΣΑΣ ΟΔΟΣ. ΟΔΟΣ\u200bα a.Σ Σ",
    "why\u037e x≠y ≮z a\u0301 \u0301b \u0301 q\u0323\u0307 ạ̇",  # NFD sets ; and = free, too late to be blanks
    "\0a\0b\0",
    "don’t “quote” – dash… 日本語、テスト。 l'été",
    "\ud800 lone",
    "tab\tfeed\x0cfs\x1cnel\x85nbsp\xa0end",
]


def assigned() -> list[str]:
    """Every character that Unicode has assigned, surrogates apart."""
    found = map(chr, range(sys.maxunicode + 1))
    return [c for c in found if unicodedata.category(c) not in ("Cn", "Cs", "Co")]


def reference_hash(word: str) -> int:
    """The hash by its definition, in Python's integers."""
    total = 0
    for i, char in enumerate(word):
        value = int(mix(np.array([(ord(char) + 1) * BASE % 2**64], np.uint64))[0])
        total += value * pow(BASE, i, 2**64)
    return int(mix(np.array([total % 2**64], np.uint64))[0])


def test_words_are_datatroves_for_every_character() -> None:
    """Between letters, between digits, alone and before a letter."""
    names: dict[int, str] = {}
    chars = assigned()
    for first in range(0, len(chars), 8000):
        text = " ".join(f"a{c}b 1{c}2 {c} {c}x" for c in chars[first : first + 8000])
        expected = simplify_text(text).split()
        hashes, counts = word_hashes([text])
        assert counts.tolist() == [len(expected)]
        assert all(names.setdefault(h, w) == w for h, w in zip(hashes.tolist(), expected, strict=True))
        assert simplified_words(text) == expected
    assert len(names) == len(set(names.values()))  # and two words never share a hash


def test_each_text_has_its_own_words() -> None:
    """However texts are joined to a block, ASCII or not, in any order."""
    for texts in (TRICKY, TRICKY[::-1], TRICKY[:4], TRICKY[3:4], [prose(1), "", prose(2)]):
        expected = [simplify_text(text).split() for text in texts]
        hashes, counts = word_hashes(texts)
        assert counts.tolist() == [len(found) for found in expected]
        assert hashes.tolist() == [reference_hash(word) for found in expected for word in found]
        assert [simplified_words(text) for text in texts] == expected


def test_segments_lose_no_word() -> None:
    """Cut at white space where there is any, and made of all the text in any case."""
    text = "\n".join(prose(seed) for seed in range(20))
    cut = list(segments(text, chars=300))
    assert "".join(cut) == text
    assert max(map(len, cut)) <= 600 < len(text)
    assert [word for piece in cut for word in piece.split()] == text.split()
    assert [len(piece) for piece in segments("x" * 1500, chars=300)] == [600, 600, 300]


def test_a_block_larger_than_any_before_it() -> None:
    """The powers of the base are made as they are needed."""
    text = "ab " * words.BLOCK_CHARS
    assert set(word_hashes([text])[0].tolist()) == {reference_hash("ab")}
