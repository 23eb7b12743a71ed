"""Words by rules of our own, near enough to spaCy's English ones that filters seldom decide otherwise.

A chunk loses punctuation from both ends, a mark at a time; what is left is cut at hyphens, commas, slashes
and full stops between letters. Addresses stay whole, and so do the words that `english` knows.
"""

import re
from collections.abc import Sequence

import regex  # type: ignore[import-untyped]
from datatrove.utils.text import TERMINAL_PUNCTUATION

from isoflop.curate.heuristics.english import FACES, KNOWN
from isoflop.curate.heuristics.spacy_words import WORD_AND_MARK

LOWER, UPPER = r"\p{Ll}\p{Lo}", r"\p{Lu}\p{Lo}"  # letters without case count as both
BEGIN = regex.compile(r"\.\.+|(?![-./\\@~¶])[\p{P}\p{So}\p{Sc}<>=`´]|\+(?!\d)")
END = regex.compile(
    r"(?:(?![-./\\@%§~¶])[\p{P}\p{So}<>`´]|['’][sS]"
    r"|(?<=\d)(?:\+|%|\p{Sc}|[kmKMGT][bB]|[KMGT]|[kcm]?m²?|[km]?g|t|yd|in|ft|lb|oz|ha|kmh|mph)"
    rf"|(?<=[\d{LOWER}\p{{P}}²+`<>])(?<![/\\])\.|(?<=[{UPPER}]{{2}})\.)$"
)
LONGEST_END = len("kmh")
INSIDE = regex.compile(
    r"\.\.+|[…\p{So}]|(?<=\d)[-+*^](?=[-\d])"
    rf"|(?<=[{LOWER}\p{{Pi}}\p{{Pf}}\p{{Ps}}\p{{Pe}}'\"])\.(?=[{UPPER}\p{{Pi}}\p{{Pf}}'\"])"
    r"|(?<=\p{L}),(?=\p{L})|(?<=[\p{L}\d])(?:--+|——|[-–—~:<>=/])(?=\p{L})"
)
ADDRESS = regex.compile(
    r"(?:[\w.+-]{2,}://)?(?:\S+@)?(?:[a-zA-Z0-9\p{L}](?:[\w-]*[a-zA-Z0-9\p{L}])?\.)+"
    rf"[{LOWER}]{{2,63}}(?::\d{{2,5}})?(?:[/?#]\S*)?$"
)

LONGEST = 4000  # characters; peeling mark by mark is quadratic, and what is longer is no word
COARSE = re.compile(r"\w+|\W")


class WhitespaceWords:
    """Words are what stands between blanks; they never depend on what stands beside them."""

    final_marks: frozenset[str] | None = None

    def split(self, chunks: Sequence[str]) -> list[list[str]]:
        return [[chunk] for chunk in chunks]

    def whole(self, text: str) -> list[str]:
        return [word for words in self.split(text.split()) for word in words]

    def borders(self, chunk: str, words: Sequence[str]) -> tuple[str, str] | None:
        return None

    def linked(self, last: str, first: str) -> bool:
        return False


class RuleWords(WhitespaceWords):
    """The rules of this page."""

    final_marks: frozenset[str] | None = frozenset(TERMINAL_PUNCTUATION)

    def split(self, chunks: Sequence[str]) -> list[list[str]]:
        return [cut(chunk) for chunk in chunks]


def cut(chunk: str) -> list[str]:
    """The words of a chunk, one or more, which together are the chunk."""
    if chunk in KNOWN:
        return KNOWN[chunk]
    if chunk.isalpha():
        return [chunk]
    if len(chunk) > LONGEST:
        return COARSE.findall(chunk)
    if WORD_AND_MARK.fullmatch(chunk) and chunk[:-1] not in KNOWN:
        return [chunk[:-1], chunk[-1]]
    core, front, back = _peel(chunk)
    words = [*front, *(KNOWN.get(core) or _inside(core)), *reversed(back)]
    return _faces(words) if len(words) > 1 else words


def _peel(core: str) -> tuple[str, list[str], list[str]]:
    """`core` without the marks around it, and these, the outermost first."""
    front: list[str] = []
    back: list[str] = []
    while core and core not in KNOWN:
        begin = BEGIN.match(core)
        start = begin.end() if begin else 0
        if start and core[start:] in KNOWN:
            return core[start:], [*front, core[:start]], back
        stop = _end(core, start)
        if stop < len(core) and core[:stop] in KNOWN:
            return core[:stop], front, [*back, core[stop:]]
        if not start and stop == len(core):
            break
        front += [core[:start]] if start else []
        back += [core[stop:]] if stop < len(core) else []
        core = core[start:stop]
    return core, front, back


def _end(core: str, start: int) -> int:
    """Where the last mark, clitic or unit of `core` begins; its length where there is none."""
    if core.endswith(".."):
        return max(start, len(core.rstrip(".")))
    end = END.search(core, max(start, len(core) - LONGEST_END))
    return end.start() if end else len(core)


def _inside(core: str) -> list[str]:
    if not core or ADDRESS.match(core):
        return [core] if core else []
    words, place = [], 0
    for match in INSIDE.finditer(core):
        if match.start() == 0:
            continue
        if match.start() > place:
            words.append(core[place : match.start()])
        words.append(match.group())
        place = match.end()
    return [*words, core[place:]] if place < len(core) else words


def _faces(words: list[str]) -> list[str]:
    """Faces put together again: `):` is one word, the longest way to say so coming first."""
    made: list[str] = []
    for word in words:
        if made and made[-1] + word in FACES:
            made[-1] += word
        else:
            made.append(word)
    return made
