"""Text of strangers, made fit to be shown: it must not move the cursor or colour the terminal."""

import re

# Control characters but for tab and line end, lone surrogates, and those that turn the direction of writing.
UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufeff]")


def printable(text: str) -> str:
    """`text` with what cannot be shown as `\\x1b` or `\\u202e`; line ends are `\\n` alone."""
    plain = re.sub(r"\r\n?", "\n", text)
    return UNSHOWN.sub(lambda found: _escaped(found.group()), plain)


def first_lines(text: str, lines: int, width: int) -> list[str]:
    """The first lines that are not blank, each cut to `width` characters."""
    shown = [" ".join(line.split()) for line in printable(text).splitlines()]
    kept = [line for line in shown if line]
    cut = [line if len(line) <= width else line[: width - 1] + "…" for line in kept[:lines]]
    return [*cut, "…"] if len(kept) > lines else cut


def visible(token: str) -> str:
    """A token's text with its blanks to be seen: `␣`, `⏎`, `⇥`."""
    return printable(token.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥").replace("\r", "␍"))


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
