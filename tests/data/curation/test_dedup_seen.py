"""The Bloom filter by its promises, and DCLM's rule against one with sets of strings."""

import random
from collections.abc import Iterable

import numpy as np
import pytest
import regex
from curation import WORDS, edited, prose
from datatrove.data import Document

from isoflop.config.curation.dedup import BloomConfig
from isoflop.curate.dedup import chunks, seen
from isoflop.curate.dedup.bloom import BloomFilter
from isoflop.curate.dedup.chunks import ChunkWords, hash_word
from isoflop.curate.dedup.seen import DropSeen

WORD = regex.compile(r"(?w)\b")


def old_both(texts: Iterable[str], config: BloomConfig) -> list[str | None]:
    """`--remove-type old-both` of BFF with a set in the filter's place; None: the document goes."""
    known: set[tuple[str, ...]] = set()
    left: list[str | None] = []
    for text in texts:
        out, total, contained = "", 0, 0
        for number, line in enumerate(text.split("\n")):
            words = [word for word in WORD.split(line) if word.strip()]
            size = config.ngram_words
            grams = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
            if not grams and len(words) >= config.min_words:
                grams = [tuple(words)]
            hits = sum(gram in known for gram in grams)
            total, contained = total + len(grams), contained + hits
            if not (grams and hits / len(grams) > config.threshold):
                known.update(grams)
                out += ("\n" if number else "") + line
        dropped = (total and contained / total > config.threshold) or not out.strip()
        left.append(None if dropped else out)
    return left


def crawl(seed: int, pages: int = 60) -> list[str]:
    """Pages that share paragraphs, whole or edited, with short lines, blank ones, and some other scripts."""
    draw = random.Random(seed)
    stock = [prose(i, words=draw.randint(5, 60)).replace("\n\n", " ") for i in range(40)]
    stock += [
        "",
        " ",
        "Home",
        "Read more…",
        "日本語の文章がここにあります。" * 3,
        "can't 3.14 don’t e.g. x_y",
    ]
    texts = []
    for _ in range(pages):
        lines = [draw.choice(stock) for _ in range(draw.randint(1, 8))]
        texts.append("\n".join(edited(s, draw.random(), 0.02) if draw.random() < 0.3 else s for s in lines))
    return [*texts, "", " \n "]


def run(step: DropSeen, texts: Iterable[str]) -> list[str | None]:
    left = {d.id: d.text for d in step.run(Document(text=t, id=str(i)) for i, t in enumerate(texts))}
    return [left.get(str(i)) for i in range(len(list(texts)))]


SETTINGS = {
    "dclm": {},
    "short paragraphs too": {"min_words": 3},
    "short n-grams": {"ngram_words": 4, "min_words": 1, "threshold": 0.5},
    "few": {"ngram_words": 6, "min_words": 6, "threshold": 0.4},
}


@pytest.mark.parametrize("group_chars", [1 << 20, 150])
@pytest.mark.parametrize("name", SETTINGS)
def test_the_rule_is_bffs(name: str, group_chars: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text for text, whatever the paragraphs are grouped to, and what is met twice in one document."""
    monkeypatch.setattr(seen, "GROUP_CHARS", group_chars)
    config = BloomConfig(false_positives=1e-9, expected_ngrams=100_000, **SETTINGS[name])
    texts = crawl(1)
    expected = old_both(texts, config)
    assert expected.count(None) > 2
    assert sum(new not in (None, old) for new, old in zip(expected, texts, strict=True)) > 2
    assert run(DropSeen(config), texts) == expected


@pytest.mark.parametrize("parted", ["\n", None])
def test_what_goes_is_not_remembered(parted: str | None) -> None:
    """The new n-grams of a paragraph that goes do not make a later one go, in one document or in three."""
    first = [f"a{i}" for i in range(20)]
    most_is_old = [*first[8:], *(f"b{i}" for i in range(5))]  # 9 of its 14 n-grams were seen
    its_end = most_is_old[-8:]  # of which all 5 are new but in the paragraph that went
    texts = [" ".join(words) for words in (first, most_is_old, its_end)]
    step = DropSeen(BloomConfig(ngram_words=4, min_words=4, threshold=0.5))
    if parted:
        assert run(step, [parted.join(texts)]) == [f"{texts[0]}\n{texts[2]}"]
    else:
        assert run(step, texts) == [texts[0], None, texts[2]]


def test_false_positives_are_the_only_differences() -> None:
    """At DCLM's rate of 0.01, the decisions on new paragraphs are still those of a set, all but a few."""
    config = BloomConfig(expected_ngrams=5_000)
    texts = crawl(2, pages=300)
    pairs = list(zip(run(DropSeen(config), texts), old_both(texts, config), strict=True))
    assert sum(ours != exact for ours, exact in pairs) <= 0.02 * len(pairs)


def test_a_task_begins_with_nothing_seen() -> None:
    """Run again, it does not take its own documents for duplicates; what it did is counted."""
    step, texts = DropSeen(BloomConfig()), crawl(3)
    once = run(step, texts)
    assert once == old_both(texts, BloomConfig())
    totals = {k: getattr(stat, "total", stat) for k, stat in step.stats.stats.items()}
    assert totals["total"] == len(texts)
    assert totals["dropped"] == once.count(None)
    assert totals["dropped"] == totals.get("dropped_seen_document", 0) + totals.get("dropped_nothing_left", 0)
    assert totals["paragraphs"] == sum(text.count("\n") + 1 for text in texts)
    assert run(step, texts) == once


@pytest.mark.parametrize("capacity", [40_000, 500])
def test_a_filter_forgets_nothing_and_errs_seldom(capacity: int) -> None:
    """Also when it has grown sixfold; the rate of errors is within four standard errors of the promise."""
    draw = np.random.default_rng(0)
    known, others = (draw.integers(0, 2**64 - 1, 40_000, np.uint64) for _ in range(2))
    bloom = BloomFilter(capacity, 0.01)
    for part in np.split(known, 40):
        bloom.add(part)
        bloom.add(part)  # costs no room
    assert bloom.has(known).all()
    wrong = bloom.has(others).mean()
    assert 0.0005 < wrong < 0.01 + 4 * (0.01 / 40_000) ** 0.5
    # -log2(e) log2(p) bits for each number where p is 0.01 / 2, and a last layer that may be empty.
    assert bloom.memory_bytes * 8 < (11.2 if capacity == 40_000 else 3 * 20) * 40_000 + 2000 * 22


def test_words_are_unicodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the rules find them in the whole text, also when the memory of chunks is emptied again and again."""
    texts = [*crawl(4), "x  y\u00a0z 👩‍🚀 🇫🇷🇩🇪 a\u0301 l'été", " ".join(WORDS)]
    expected = [[hash_word(w) for w in WORD.split(text) if w.strip()] for text in texts]
    for limit in (chunks.MAX_CHUNKS, 20):
        words = ChunkWords(limit)
        for text, hashes in zip(texts, expected, strict=True):
            found, counts = words.of([text, "", text])
            assert found.tolist() == hashes * 2
            assert counts.tolist() == [len(hashes), 0, len(hashes)]
            assert len(words._ids) <= limit + len(text.split())  # what is remembered is bounded
