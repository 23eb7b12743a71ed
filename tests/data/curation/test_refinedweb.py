"""RefinedWeb's rules decide as a literal reading of DCLM's published definitions does."""

import random
import re
from collections import Counter

import pytest
import regex
from curation import WORDS, prose
from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import get_filter_result

from isoflop.config.curation.refinedweb import (
    RefinedWebConfig,
    RefinedWebRepetitionConfig,
    RefinedWebTextConfig,
)
from isoflop.curate.filters.refinedweb import RefinedWeb, RefinedWebText, top_level_domains
from isoflop.curate.filters.refinedweb_repetition import words_of


def literal(text: str) -> tuple[str | None, str]:
    """(reason, text), sentence by sentence from the definitions; slow and plain on purpose."""

    def counted(page: str) -> int:
        return len([word for word in re.split(r"[ \n\r\t\v\f\0]", page) if word and word[0].isalnum()])

    before, words = counted(text), text.split()
    if before < 50:
        return "short_doc", text
    if before > 100_000:
        return "long_doc", text
    mean = sum(len(word) for word in words) / len(words)
    if mean < 3 or mean > 10:
        return "word_length", text
    symbols = text.count("#") + text.count("...") + text.count(". . .") + text.count("…")
    if symbols / len(words) > 0.1:
        return "symbols", text
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if sum(1 for line in lines if line[0] in "●•*-") > 0.9 * len(lines):
        return "bullets", text
    if sum(1 for line in lines if re.search(r"(\.\.\.|\. \. \.|…)$", line)) > 0.3 * len(lines):
        return "ellipses", text
    if sum(1 for word in words if not any(c.isalpha() for c in word)) / len(words) > 0.2:
        return "non_alphabetic", text
    stops = ["the", "be", "to", "of", "and", "that", "have", "with"]
    if sum(1 for word in words if word.lower() in stops) < 2:
        return "stop_words", text
    reason = literal_repetition(text)
    if reason:
        return reason, text
    text = literal_lines(text)
    if not text:
        return "no_lines", text
    return ("removed_words" if (before - counted(text)) / before > 0.05 else None), text


def literal_repetition(text: str) -> str | None:
    pieces = {
        "line": [line.strip() for line in text.split("\n") if line.strip()],
        "paragraph": [part.strip() for part in text.split("\n\n") if part.strip()],
    }
    for characters, limit in ((False, 0.3), (True, 0.2)):
        for name, parts in pieces.items():
            weight = [len(part) if characters else 1 for part in parts]
            again = sum(w for part, w in zip(parts, weight, strict=True) if parts.count(part) > 1)
            if len(parts) > 1 and again / sum(weight) > limit:
                return f"repeated_{name}_characters" if characters else f"repeated_{name}s"
    words = [part.lstrip("'’") for part in regex.split(r"(?V1w)\b", text)]
    words = [word for word in words if word and word[0].isalnum()]
    total = sum(len(word) for word in words)
    limits = {2: 0.2, 3: 0.18, 4: 0.16, 5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
    for n, limit in limits.items():
        grams = [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]
        count = Counter(grams)
        most = max(count.values(), default=1)
        if most == 1:
            continue
        if n <= 4:
            longest = max(sum(map(len, gram)) for gram in grams if count[gram] == most)
            if longest * most / total > limit:
                return f"top_{n}_gram"
        else:
            inside = {at + k for at, gram in enumerate(grams) if count[gram] > 1 for k in range(n)}
            if sum(len(words[at]) for at in inside) / total > limit:
                return f"repeated_{n}_gram"
    return None


def literal_lines(text: str) -> str:
    counter = re.compile(
        r"^\W*\d(,|\.|\d)*(K|k|M|m|B|b)?\s+"
        r"(likes|shares|comments|retweets|reposts|quotes|bookmarks|upvotes|downvotes|downloads|views|followers)\W*$"
    )
    for unwanted in (
        lambda line: len([c for c in line if c.isupper()]) / len(line) > 0.5,
        lambda line: len([c for c in line if c.isdigit()]) / len(line) > 0.999999,
        lambda line: counter.search(line.lower()),
    ):
        text = "\n".join(line for line in text.split("\n") if line == "" or not unwanted(line)).strip()
    text = "\n".join(line for line in text.split("\n") if line == "" or len(line.split()) >= 2)
    for phrase in (r"(?i)\s?items in cart", r"(?i)\s?read more...$", r"(?i)^sign-in\s?"):
        kept = []
        for line in text.split("\n"):
            if len(line.split()) <= 10:
                changed = re.sub(phrase, "", line)
                if line != "" and changed.strip() == "":
                    continue
                line = changed
            kept.append(line)
        text = "\n".join(kept).strip()
    return text


LINES = [
    "SHOP NOW AND SAVE A LOT", "MENU and more", "12345", " 123 ", "3 likes", "» 1,234.5k followers «",
    "7 likes it",
    "Home", "word", "  ", "", "3 items in cart", "items in cart", "All of it. Read more...", "Read more...",
    "read more abc", "Sign-in", "Sign-in to see that", "sign-in here", "- a bullet", "* another bullet",
    "● third", "and so on...", "to be . . .", "it ends…", "# # #", "2024-01-01 10:20 30",
    "日本語 の 文章", "ALL CAPS İÄÖ",
]  # fmt: skip


def pages() -> list[str]:
    """Prose, prose with every kind of line mixed in, little or much, and prose that repeats itself."""
    draw = random.Random(0)
    made = []
    for seed in range(700):
        parts = [line for part in prose(seed, draw.choice([30, 60, 160, 300])).split("\n") for line in [part]]
        for _ in range(draw.choice([0, 0, 1, 3, 10, 60])):
            parts.insert(draw.randint(0, len(parts)), draw.choice(LINES))
        if seed % 5 == 0:  # a phrase comes again and again
            phrase = " ".join(draw.choices(WORDS, k=draw.randint(2, 12)))
            for _ in range(draw.randint(2, 12)):
                parts.insert(draw.randint(0, len(parts)), f"{phrase} {' '.join(draw.choices(WORDS, k=3))}")
        if seed % 7 == 0:
            parts += draw.choices(parts, k=draw.randint(1, len(parts)))
        made.append(draw.choice(["\n", "\n\n", " "]).join(parts))
    numbers = " ".join(str(n) if n % 3 else draw.choice(WORDS) for n in range(400))
    plain = " ".join(
        draw.choice([word for word in WORDS if word not in "the of and to that with have be"])
        for _ in range(200)
    )
    made += [
        numbers,
        plain,
        " ".join(word * 4 for word in WORDS),
        " ".join("abcdefghij" * 40),
        "the # " * 100,
    ]
    made += [
        "\n".join(f"- {part}" for part in prose(1).split(". ")),
        "\n".join(f"{p}…" for p in prose(2).split(". ")),
    ]
    made += ["the word of " * 34_000, prose(5).upper(), "don't 3.14 e.g. U.S.A can’t 日本語 the of " * 30]
    return made


def test_every_decision_reason_and_text() -> None:
    block, seen = RefinedWeb(RefinedWebConfig()), Counter()
    for page in pages():
        reason, text = literal(page)
        document = Document(text=page, id="")
        assert get_filter_result(block.filter(document)) == (reason is None, reason), page[:300]
        if reason is None:
            assert document.text == text
        seen[reason] += 1
    wanted = {
        None, "short_doc", "long_doc", "word_length", "symbols", "bullets", "ellipses", "non_alphabetic",
        "stop_words", "repeated_lines", "repeated_line_characters", "no_lines", "removed_words", "top_2_gram",
    }  # fmt: skip
    assert wanted <= set(seen), wanted - set(seen)
    assert len([reason for reason in seen if reason and reason.endswith("_gram")]) >= 4, seen
    assert seen[None] >= 50, seen


def test_repetition_of_each_length() -> None:
    """Random pages of few words: every n-gram rule is the first to be broken by some page."""
    draw, seen = random.Random(1), Counter()
    block = RefinedWeb(RefinedWebConfig(min_stop_words=0, lines=None))
    for _ in range(1500):
        vocabulary = draw.choices(WORDS, k=draw.choice([20, 60, 200]))
        words = draw.choices(vocabulary, k=draw.randint(60, 200))
        unit = words[: draw.randint(2, 14)]
        for _ in range(draw.randint(0, 6)):
            at = draw.randint(0, len(words))
            words[at:at] = unit
        page = " the of ".join([" ".join(words), "x"])
        expected = literal(page)[0]
        if expected not in ("removed_words", "no_lines"):
            assert get_filter_result(block.filter(Document(text=page, id="")))[1] == expected
            seen[expected] += 1
    assert {f"repeated_{n}_gram" for n in (5, 6, 7)} | {"top_2_gram", None} <= set(seen), seen


def test_thresholds_are_read() -> None:
    """Each threshold, moved out of the way, lets the page pass that it alone had stopped."""
    page = prose(3, 200).replace("\n\n", " ")
    repeating = "\n".join([page, page])
    cases = [
        (" ".join(page.split()[:40]), {"min_words": 30}),
        (page, {"max_words": 1000}),
        (" ".join("a of the to be" for _ in range(20)) + " the", {"min_mean_word_length": 1}),
        (" ".join(f"{word}{word}{word}" for word in page.split()) + " the of", {"max_mean_word_length": 100}),
        (page.replace(" ", " # ", 40), {"max_symbol_ratio": 1}),
        ("\n".join(f"* {part}" for part in page.split(". ")), {"max_bullet_ratio": 1.0}),
        ("\n".join(f"{part}..." for part in page.split(". ")), {"max_ellipsis_ratio": 1.0}),
        (page.replace(" ", " 12 ", 100), {"max_non_alphabetic_ratio": 1.0}),
        (re.sub(r"(?i)\b(the|be|to|of|and|that|have|with)\b", "it", page), {"min_stop_words": 0}),
        (repeating, {"repetition": None}),
        (f"{page}\n" + "NOW AND HERE AT ONCE\n" * 5, {"lines": None}),
    ]
    off = {
        "repetition": None,
        "lines": None,
        "max_symbol_ratio": 9,
        "max_bullet_ratio": 1,
        "max_ellipsis_ratio": 1,
    }
    strict = {"max_words": 60, "max_symbol_ratio": 0.1, "max_bullet_ratio": 0.9, "max_ellipsis_ratio": 0.3}
    for text, moved in cases:
        (key,) = moved
        fixed = {key: strict[key]} if key in strict else {}
        alone = RefinedWebConfig(**({name: value for name, value in off.items() if name != key} | fixed))
        loose = RefinedWebConfig(**(off | moved))
        assert RefinedWeb(alone).filter(Document(text=text, id="")) is not True, key
        assert RefinedWeb(loose).filter(Document(text=text, id="")) is True, key


@pytest.mark.parametrize(
    ("line", "moved"),
    [
        ("NOW and HERE AND THERE", {"max_uppercase_ratio": 1.0}),
        ("12345 67890", {"max_numeric_ratio": 0.5}),
        ("300 likes", {"remove_counters": False}),
        ("word", {"min_line_words": 1}),
        ("Sign-in to see it", {"remove_phrases": False}),
    ],
)
def test_line_rules_are_read(line: str, moved: dict[str, float]) -> None:
    """A line that the default takes out, or the other way round, once its own setting is moved."""

    def lines(**settings: float) -> list[str]:
        document = Document(text=f"{prose(3, 200)}\n{line}\nend of page", id="")
        RefinedWeb(RefinedWebConfig(lines=settings)).filter(document)
        return document.text.split("\n")

    default, other = lines(), lines(**moved)
    assert (line in default) != (line in other)


@pytest.mark.parametrize("key", ["line_frac", "paragraph_frac", "line_char_frac", "paragraph_char_frac"])
def test_repetition_of_lines_and_paragraphs(key: str) -> None:
    """For each limit a page that it alone stops: few long repeated pieces, or many short ones."""
    end = "\n\n" if "paragraph" in key else "\n"
    long, short = prose(5, 60).replace("\n\n", " "), [f"see {word} the of" for word in WORDS[:6]]
    others = [f"{word} {prose(n, 12)}".replace("\n\n", " ") for n, word in enumerate(WORDS[10:18])]
    pieces = [long, long, *others] if "char" in key else [*short[:3], *short[:3], long, *others]
    free = {"line_frac": 1, "paragraph_frac": 1, "line_char_frac": 1, "paragraph_char_frac": 1}
    free |= {"top_n_grams": (), "repeated_n_grams": ()}
    document = Document(text=end.join(pieces), id="")
    reason = f"repeated_{key.split('_')[0]}" + ("_characters" if "char" in key else "s")
    for limit, verdict in ((0.2 if "char" in key else 0.3, (False, reason)), (1, True)):
        config = RefinedWebConfig(repetition=free | {key: limit}, lines=None)
        assert RefinedWeb(config).filter(document) == verdict


def test_words_are_unicodes() -> None:
    """Examples from the Unicode Standard's Annex 29 and around them."""
    quick = 'The quick ("brown") fox can’t jump 32.3 feet, right?'
    assert words_of(quick) == ["The", "quick", "brown", "fox", "can’t", "jump", "32.3", "feet", "right"]
    assert words_of("'abc' e.g. 1,000 foo_bar 日本 _x") == ["abc", "e.g", "1,000", "foo_bar", "日", "本"]


@pytest.mark.parametrize("everywhere", [True, False])
def test_urls_are_removed(everywhere: bool) -> None:
    block = RefinedWebText(RefinedWebTextConfig(remove_urls="everywhere" if everywhere else "published"))

    def cleaned(text: str) -> str:
        document = Document(text=text, id="")
        return document.text if block.filter(document) is True else "(dropped)"

    assert {"com", "org", "in", "th"} <= set(top_level_domains())
    begins = (
        "In it: see https://www.example.org/a?b=c#d and mail@firm.co.uk or a.b.nonsense now, end.Next e.g."
    )
    assert cleaned(begins) == "In it: see and or a.b.nonsense now, end.Next e.g."
    other = "#1: see https://www.example.org/a"
    assert cleaned(other) == ("#1: see" if everywhere else other)
    assert cleaned("#1: at http://10.0.0.1:80/x or 1.2.3") == "#1: at or 1.2.3"
    assert cleaned("#a\n\n\n\nb\n\nc\n\n\nd") == "#a\n\nb\n\nc\n\nd"
    assert cleaned("10.0.0.1") == "(dropped)"


def test_repetition_limits_are_read() -> None:
    page = prose(3, 200)
    phrase = " ".join(prose(4, 40).replace("\n", " ").split()[:12])
    text = ". ".join(f"{phrase} {part}" for part in page.split(". ")[:4]) + page
    strict, loose = (
        RefinedWebRepetitionConfig(),
        RefinedWebRepetitionConfig(top_n_grams=(), repeated_n_grams=()),
    )
    assert RefinedWeb(RefinedWebConfig(repetition=strict, lines=None)).filter(Document(text, "")) is not True
    assert RefinedWeb(RefinedWebConfig(repetition=loose, lines=None)).filter(Document(text, "")) is True
