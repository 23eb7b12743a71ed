"""Document text as a person is shown it."""

from isoflop.report.dataset.text import first_lines, printable, visible


def test_text_that_is_printed() -> None:
    assert printable("a\tb\r\nc\rd\x00\x9b\u2066") == "a\tb\nc\nd\\x00\\x9b\\u2066"
    assert first_lines("\n\n one  two\n\nthree\nfour\n", 2, 20) == ["one two", "three", "…"]
    assert first_lines("x" * 30, 3, 10) == ["x" * 9 + "…"]
    assert visible(" a\n\t\x00") == "␣a⏎⇥\\x00"
