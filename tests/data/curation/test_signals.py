"""Every signal is RedPajama v2's: its definition read literally, and moved by what it measures."""

import random
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from curation import prose
from signals_reading import document_values, published_signals

from isoflop.config.base import UserError
from isoflop.config.curation.signals import DOCUMENT_SIGNALS, LINE_SIGNALS, SignalsConfig
from isoflop.curate.signals.annotate import Annotator
from isoflop.curate.signals.columns import published
from isoflop.curate.signals.document import ASSIGNED, Parts, kinds

ANNOTATE = Annotator(SignalsConfig(signatures=None))
# Where rules are decided: case, marks, blanks of every kind, scripts, composed letters.
SOLID = """a The the house. don't DON'T ÉCOLE été ... … # { } javascript JavaScript! ipsum lorem Lorem • –
- 3 x_1 __init__ A1 ” " ! ? . ١٢ Ⅷ ǅ ΟΔΟΣ. 日本語 ß İ ﬀ Ⓐ ½ ² ﷺ 😀 é ſ"""
PIECES = SOLID.split()
PIECES += [
    "\n",
    "\n\n",
    "  ",
    "\t",
    "\r\n",
    "\x0b",
    "\x1c",
    "\u2000",
    "\u3000",
    "\xa0",
    "\u2028",
    "\u037e",
    "\u1fef",
]
PIECES += ["lorem ipsum", "Lorem\nIpsum", "garden river ", "\u0340", "\x00"]


def signals(text: str) -> dict[str, Any]:
    return published(ANNOTATE.signals(text))


def made_up(seed: int) -> str:
    draw = random.Random(seed)
    pieces = draw.sample(PIECES, draw.randint(1, len(PIECES)))
    count = draw.choice((0, 1, 2, 5, 20, 60, 150))
    return "".join(draw.choice(pieces) + draw.choice(("", " ", " ", " ", "\n")) for _ in range(count))


@pytest.mark.parametrize("seed", range(8))
def test_signals_are_the_definitions_on_any_text(seed: int) -> None:
    for text in [*(made_up(100 * seed + n) for n in range(40)), prose(seed, words=60) + made_up(seed)]:
        assert signals(text) == published_signals(text), repr(text)


def test_signals_are_the_definitions_on_every_character() -> None:
    """All of Unicode in one text, each between letters: what is a word, a blank, a capital, a number."""
    for begin in range(0, sys.maxunicode + 1, 4096):
        chars = [
            chr(code) for code in range(begin, min(begin + 4096, 0x110000)) if not 0xD800 <= code < 0xE000
        ]
        if any(map(str.isprintable, chars)):
            text = "a".join(chars) + " A".join(chars)
            parts, expected = ANNOTATE.signals(text), document_values_of_characters(text)
            assert {name: parts[name] for name in expected} == expected, hex(begin)


def document_values_of_characters(text: str) -> dict[str, Any]:
    """Those that do not compare n-grams with one another, which is slow in so long a text."""
    with (
        patch("signals_reading.top_n_gram"),
        patch("signals_reading.duplicate_n_grams"),
        patch("signals_reading.entropy"),
    ):
        values = document_values(text)
    return {name: value for name, value in values.items() if "gram" not in name and "entropy" not in name}


def test_no_character_beyond_the_table_has_a_kind() -> None:
    beyond = (chr(code) for code in range(ASSIGNED, sys.maxunicode + 1))
    assert not any(c.isalnum() or c.isspace() or c.isupper() or c.islower() or c.istitle() for c in beyond)
    assert not kinds()[ASSIGNED:].any()


CLOSED_FORMS = [
    ("a {b} }", "rps_doc_curly_bracket", 3 / 7),
    ("NATO met US in Rome.", "rps_doc_frac_all_caps_words", 2 / 6),  # the full stop is a word
    ("one...\ntwo…\nthree\n\n", "rps_doc_frac_lines_end_with_ellipsis", 2 / 4),
    ("call 911 , now", "rps_doc_frac_no_alph_words", 2 / 4),
    ("Lorem\n  ipsum!", "rps_doc_lorem_ipsum", 1 / 11),
    ("Don't, I say", "rps_doc_mean_word_length", (4 + 1 + 3) / 3),
    ("The cat and the dog", "rps_doc_stop_word_fraction", 2 / 5),  # "The" as it is written is none
    ("# one ...... two", "rps_doc_symbol_to_word_ratio", 3 / 4),
    ("red Red blue RED.", "rps_doc_frac_unique_words", 2 / 4),
    ("a b c d e f g h", "rps_doc_unigram_entropy", 2.07944154),  # ln 8
    ("one two - three", "rps_doc_word_count", 3),  # normalization deletes the dash
    ("Hi! Is it so? Yes. v2.0", "rps_doc_num_sentences", 5),
    ("a b c a b d", "rps_doc_frac_chars_top_2gram", 2 * 2 / 6),
    ("a a a a", "rps_doc_frac_chars_top_2gram", 3 * 2 / 4),  # overlapping ones count twice
    ("xx y z xx y z w w", "rps_doc_frac_chars_top_3gram", 2 * 4 / 10),
    ("a b cc d x a b cc d", "rps_doc_frac_chars_top_4gram", 2 * 5 / 11),
    ("a b c d e ff a b c d e", "rps_doc_frac_chars_dupe_5grams", 10 / 12),
    ("a b c d e f g a b c d e f", "rps_doc_frac_chars_dupe_6grams", 12 / 13),
    ("a b c d e f g a b c d e f", "rps_doc_frac_chars_dupe_7grams", 0.0),
    ("été", "rps_doc_mean_word_length", 5.0),  # decomposed
    ("", "rps_doc_mean_word_length", None),
    ("", "rps_doc_stop_word_fraction", 0.0),
    ("a\nb\n", "ccnet_nlines", 3),
]


@pytest.mark.parametrize(("text", "name", "value"), CLOSED_FORMS)
def test_a_document_whose_signal_can_be_told_by_hand(text: str, name: str, value: float | None) -> None:
    assert signals(text)[name] == [[0, len(text), None if value is None else pytest.approx(value, abs=6e-9)]]


def test_lines_whose_signals_can_be_told_by_hand() -> None:
    lines = ["Use JavaScript, not javascript-like.\n", "• AB1 2\n", "\n", "“Done.”"]
    found = signals("".join(lines))
    spans = [[0, 37], [37, 45], [45, 46], [46, 53]]
    assert [found["rps_lines_num_words"][n][:2] for n in range(4)] == spans
    values = {name: [span[2] for span in found[name]] for name in LINE_SIGNALS}
    assert values == {
        "rps_lines_ending_with_terminal_punctution_mark": [1, 0, 0, 1],
        "rps_lines_javascript_counts": [1, 0, 0, 0],
        "rps_lines_num_words": [4, 3, 0, 1],
        "rps_lines_numerical_chars_fraction": [0, round(2 / 7, 8), 0, 0],
        "rps_lines_start_with_bulletpoint": [0, 1, 0, 0],
        "rps_lines_uppercase_letter_fraction": [round(3 / 37, 8), 0.25, 0, round(1 / 7, 8)],
    }


PLAIN = "Early morning light fell over the quiet village.\nNobody walked to the station before nine."
REFRAIN = "a quiet morning in the old village by the sea then"
MOVES = {
    "rps_doc_curly_bracket": PLAIN + " {",
    "rps_doc_frac_all_caps_words": PLAIN.replace("light", "LIGHT"),
    "rps_doc_frac_lines_end_with_ellipsis": PLAIN + "..",
    "rps_doc_frac_no_alph_words": PLAIN.replace("nine", "9"),
    "rps_doc_frac_unique_words": PLAIN.replace("light", "morning"),
    "rps_doc_lorem_ipsum": PLAIN + " lorem ipsum",
    "rps_doc_mean_word_length": PLAIN.replace("light", "lightning"),
    "rps_doc_num_sentences": PLAIN + " So it was.",
    "rps_doc_stop_word_fraction": PLAIN.replace("the quiet", "that"),
    "rps_doc_symbol_to_word_ratio": PLAIN + " #",
    "rps_doc_unigram_entropy": PLAIN.replace("light", "morning"),
    "rps_doc_word_count": PLAIN + " more",
    "ccnet_length": PLAIN + ".",
    "ccnet_nlines": PLAIN + "\n",
    **{f"rps_doc_frac_chars_top_{n}gram": f"{PLAIN} {REFRAIN} {REFRAIN}" for n in (2, 3, 4)},
    **{f"rps_doc_frac_chars_dupe_{n}grams": f"{PLAIN} {REFRAIN} {REFRAIN}" for n in range(5, 11)},
    "rps_lines_ending_with_terminal_punctution_mark": PLAIN[:-1],
    "rps_lines_javascript_counts": PLAIN + " Javascript",
    "rps_lines_num_words": PLAIN + " more",
    "rps_lines_numerical_chars_fraction": PLAIN.replace("nine", "9"),
    "rps_lines_start_with_bulletpoint": "▪" + PLAIN,
    "rps_lines_uppercase_letter_fraction": PLAIN.replace("light", "Light"),
}


@pytest.mark.parametrize("name", [*DOCUMENT_SIGNALS, *LINE_SIGNALS])
def test_every_signal_is_moved_by_what_it_measures(name: str) -> None:
    before, after = ([span[2] for span in signals(text)[name]] for text in (PLAIN, MOVES[name]))
    assert before != after


def test_there_are_the_published_text_only_signals() -> None:
    ours = [name for name in (*DOCUMENT_SIGNALS, *LINE_SIGNALS) if name.startswith("rps_")]
    assert len(ours) == len(set(ours)) == 27


def test_lines_tile_the_text_and_agree_with_the_document() -> None:
    """Spans cover every character once; the lines' words are the document's; doubling doubles counts."""
    for seed in range(60):
        text = made_up(seed)
        found = ANNOTATE.signals(text)
        assert sum(found["line_length"]) == len(text)
        assert sum(found["rps_lines_num_words"]) == found["rps_doc_word_count"]
        doubled = ANNOTATE.signals(f"{text}\n{text}")
        assert doubled["rps_doc_word_count"] == 2 * found["rps_doc_word_count"]
        assert doubled["rps_doc_mean_word_length"] == found["rps_doc_mean_word_length"]
        if found["rps_doc_word_count"] >= 10:  # all of it is said twice
            assert doubled["rps_doc_frac_chars_dupe_10grams"] == 1.0


def test_parts_keep_lone_surrogates() -> None:
    assert Parts("a \ud800 b").words == ["a", "\ud800", "b"]


@pytest.mark.parametrize(
    ("language", "share"), [("en", 0.25), ("de-AT", 0.5), ("deu_Latn", 0.5), ("ja", None), (None, 0.25)]
)
def test_stop_words_are_the_language_s(language: str | None, share: float | None) -> None:
    """In "with zebra nicht nicht", English knows one and German two; for Japanese there is no list."""
    assert ANNOTATE.signals("with zebra nicht nicht", language)["rps_doc_stop_word_fraction"] == share


def test_stop_words_of_ones_own(tmp_path: Path) -> None:
    """By language; a language without a list has no share, and what is no list is refused."""
    path = tmp_path / "stop.json"
    path.write_text('{"en": ["House"], "ja": ["の"]}')
    annotate = Annotator(SignalsConfig(stop_words=str(path)))
    shares = [annotate.signals("the house", code)["rps_doc_stop_word_fraction"] for code in ("en", "de")]
    assert shares == [0.5, None]
    path.write_text('["the"]')
    with pytest.raises(UserError, match=r"pipeline\.signals\.stop_words: .*give a JSON object"):
        Annotator(SignalsConfig(stop_words=str(path)))
