"""Words, sentences and n-grams are spaCy's and datatrove's own, however fast they are found."""

import random
import re
import unicodedata
from importlib.util import find_spec

import pytest
from datatrove.pipeline.filters.gopher_repetition_filter import (
    find_all_duplicate,
    find_duplicates,
    find_top_duplicate,
    get_n_grams,
)
from datatrove.utils.text import split_into_sentences
from datatrove.utils.word_tokenizers import SpaCyTokenizer, load_word_tokenizer
from heuristics_golden import awkward, banned, found, steady

from isoflop.curate.heuristics import lexicon as lexicon_module
from isoflop.curate.heuristics.english import KNOWN
from isoflop.curate.heuristics.hashing import word_hashes
from isoflop.curate.heuristics.lexicon import Lexicon, lexicon
from isoflop.curate.heuristics.ngrams import NGrams, duplicate_characters, top_characters
from isoflop.curate.heuristics.repetition import duplicates, split_lines, split_paragraphs
from isoflop.curate.heuristics.rule_words import RuleWords, WhitespaceWords, cut
from isoflop.curate.heuristics.sentences import count_sentences
from isoflop.curate.heuristics.spacy_words import SpacyWords
from isoflop.curate.words import Whitespace

needs_spacy = pytest.mark.skipif(find_spec("spacy") is None, reason="spaCy is not installed")


@needs_spacy
def test_words_are_spacys() -> None:
    """Token by token: installed pages, spoilt prose, and awkward pieces beside one another."""
    stock, ours = steady(SpaCyTokenizer("en")), lexicon("spacy")
    texts = [*found()[:6], *banned(), *map(awkward, range(150))]
    for text in texts:
        assert ours.read(text).spell() == stock.word_tokenize(text), text


@needs_spacy
def test_a_face_across_a_blank_keeps_its_neighbour_apart() -> None:
    """`x ):` alone has `):` as a word; after `:` it has not. The memory of chunks must not hide that."""
    ours = Lexicon(SpacyWords())
    assert ours.read("f(x ):bar").spell() == ["f(x", "):", "bar"]
    assert ours.read("foo: ):bar").spell() == ["foo", ":", ")", ":", "bar"]
    assert ours.read("foo:\n):bar").spell() == ["foo", ":", "):", "bar"]


@needs_spacy
def test_plain_words_need_not_be_asked_about() -> None:
    """Where spaCy is not asked, it would say the same: a letter in a hundred of Unicode's, every English
    special case, and words in every case, with each mark."""
    words = SpacyWords()
    letters = [chr(point) for point in range(0, 0x30000, 101) if chr(point).isalpha()]
    chunks = [chunk for letter in letters for chunk in (letter, f"X{letter}", f"{letter}y", f"x{letter}Y")]
    stems = [*KNOWN, *words._tokenizer.rules, "word", "Word", "WORD", "wORd", "woRD", "W", "w", "US", "vs"]
    chunks += [f"{stem.rstrip('.')}{mark}" for stem in stems for mark in (*".,;:!?)", "")]
    plain = {chunk: cut for chunk in chunks if chunk and (cut := words._plain(chunk)) is not None}
    assert len(plain) > 5_000
    assert words._ask(list(plain)) == list(plain.values())


@needs_spacy
def test_forgetting_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lexicon that holds next to nothing, and texts that come again."""
    texts = [awkward(seed) for seed in range(60)]
    expected = [lexicon("spacy").read(text).spell() for text in texts]
    monkeypatch.setattr(lexicon_module, "MAX_CHUNKS", 40)
    small = Lexicon(SpacyWords())
    rows = [small.read(text) for text in [*texts, *texts]]
    assert [row.spell() for row in rows] == [*expected, *expected]
    assert len(small.vocabulary.spelling) < 200
    assert {id(row.vocabulary) for row in rows} > {id(rows[-1].vocabulary)}, "nothing was forgotten"


def test_words_by_rule_and_by_blank_are_the_text() -> None:
    for text in [*banned(), *map(awkward, range(100)), "(" * 9000]:
        for chunk in text.split():
            assert "".join(cut(chunk)) == chunk
        assert Lexicon(WhitespaceWords()).read(text).spell() == text.split()
    assert cut("(don't,") == ["(", "do", "n't", ","]
    assert cut("well-known") == ["well", "-", "known"]


@needs_spacy
@pytest.mark.parametrize("kind", ["spacy", "whitespace"])
def test_sentences_are_counted_as_datatrove_counts(kind: str) -> None:
    steady(load_word_tokenizer("eng"))
    language = {"spacy": "eng", "whitespace": Whitespace()}[kind]
    counts = set()
    for text in [*banned(), *map(awkward, range(30))]:
        for line in text.splitlines():
            for shown in (line, line.strip(), f"{line.strip()}. {line}"):
                expected = len(split_into_sentences(shown, language))
                assert count_sentences(lexicon(kind), shown) == expected, shown
                assert count_sentences(lexicon(kind), shown, 2) >= min(expected, 2)
                counts.add(expected)
    assert counts >= {1, 2, 3, 4}


def test_repeated_n_grams_are_datatroves() -> None:
    """Few letters, so that words run together differently make one text: "a"+"ab" and "aa"+"b"."""
    draw, ours = random.Random(3), Lexicon(WhitespaceWords())
    seen = set()
    for _ in range(120):
        size, letters = draw.choice([1, 4, 12, 60, 200]), draw.choice(["a", "ab", "abcdefgh"])
        words = ["".join(draw.choices(letters, k=draw.randint(1, 3))) for _ in range(size)]
        row = ours.read(" ".join(words))
        tops, copies, total = NGrams(row, blanks=True), NGrams(row, blanks=False), len("".join(words))
        for n in range(1, min(size, 10) + 1):
            tops.grow(n)
            copies.grow(n)
            top, repeated = find_top_duplicate(get_n_grams(words, n)), find_all_duplicate(words, n)
            assert top_characters(tops, total, -1) == top
            assert duplicate_characters(copies, total, -1) == repeated
            for enough in (0.05, 0.2, 0.5, repeated / total, top / total):
                assert (top_characters(tops, total, enough) / total > enough) == (top / total > enough)
                bounded = duplicate_characters(copies, total, enough)
                assert (bounded / total > enough) == (repeated / total > enough)
                assert bounded in (0, repeated)
                seen.add((bounded == repeated, repeated / total > enough))
    assert len(seen) >= 3, "the bound was never used, or always"


def test_hashes_of_joined_words_do_not_know_where_they_were_cut() -> None:
    import numpy as np

    def joined(*words: str) -> int:
        hashes, shifts = word_hashes(words, np.array([len(word) for word in words]))
        total = np.uint64(0)
        with np.errstate(over="ignore"):
            for part, shift in zip(hashes, shifts, strict=True):
                total = total * shift + part
        return int(total)

    assert joined("ab", "c", "日本") == joined("a", "bc日", "本") == joined("abc日本")
    assert len({joined(text) for text in ("abc", "acb", "ab", "abca", "bca", "\0abc", "ab\0")}) == 7


def test_lines_and_paragraphs_are_split_as_datatrove_splits() -> None:
    draw = random.Random(7)
    for _ in range(3000):
        text = "".join(draw.choices("ab \n\n\n\t\r", k=draw.randint(0, 14)))
        paragraphs, lines = re.split(r"\n{2,}", text.strip()), re.split("\n+", text)
        assert split_paragraphs(text) == paragraphs
        if text:
            assert split_lines(text) == lines
        assert duplicates(lines) == find_duplicates(lines)


def test_properties_of_words() -> None:
    """Against the definitions that datatrove's Gopher filter spells out word by word."""
    from datatrove.pipeline.filters.gopher_quality_filter import STOP_WORDS
    from datatrove.utils.text import PUNCTUATION_SET

    ours = Lexicon(RuleWords())
    for text in map(awkward, range(80)):
        row = ours.read(text)
        words = row.spell()
        assert row.lengths.tolist() == [len(word) for word in words]
        assert row.symbols.tolist() == [all(c in PUNCTUATION_SET for c in word) for word in words]
        assert row.lettered == sum(any(unicodedata.category(c)[0] == "L" for c in word) for word in words)
        assert row.stop_words == len(set(STOP_WORDS) & set(words))
    assert ours.read("to be, and THE of").stop_words == 4
