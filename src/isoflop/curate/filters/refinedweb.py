"""RefinedWeb's heuristics (Penedo et al. 2023) as DCLM-Baseline's published configuration has them.

The definitions are DCLM's own (Li et al. 2024, its `refinedweb` steps), in its order. They look like
Gopher's rules and are not: words are what blanks part, `*` and `●` are bullets too, stop words count each
time, and repetition is measured otherwise. Two of its oddities are kept, because its data were made so:
the dots of `Read more...` match any three characters, and see `RefinedWebTextConfig.remove_urls`.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import TypeAlias

from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter

from isoflop.config.curation.refinedweb import RefinedWebConfig, RefinedWebLinesConfig, RefinedWebTextConfig
from isoflop.curate.filters.refinedweb_repetition import repetition

SYMBOLS = ("#", "...", ". . .", "…")
BULLETS = ("●", "•", "*", "-")
ELLIPSES = ("...", ". . .", "…")
STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
FASTTEXT_WORD = re.compile(r"[^ \n\r\t\v\f\0]+")
COUNTED = (
    "likes|shares|comments|retweets|reposts|quotes|bookmarks|upvotes|downvotes|downloads|views|followers"
)
COUNTER = re.compile(rf"^\W*\d[,.\d]*[kmb]?\s+(?:{COUNTED})\W*$")
PHRASES = (
    re.compile(r"\s?items in cart", re.I),
    re.compile(r"\s?read more...$", re.I),
    re.compile(r"^sign-in\s?", re.I),
)
PHRASE_LINE_WORDS = 10
URL_TAIL = r"[-a-zA-Z0-9()@:%_+.~#?&/=]*"
IPV4 = re.compile(r"\s{0,10}\b(?:(?:https?|ftp)://)?(?:[0-2]?[0-9]{1,2}\.){3}[0-2]?[0-9]{1,2}" + URL_TAIL)
Tree: TypeAlias = "dict[str, Tree]"
HAS_DOMAIN = re.compile(r"[-a-zA-Z0-9@:%._+~#=]\.[a-z]")


class RefinedWebText(BaseFilter):
    """Takes addresses and surplus blank lines out of the text; what is then empty is dropped."""

    name = "refinedweb text"

    def __init__(self, config: RefinedWebTextConfig) -> None:
        super().__init__()
        self.config = config

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        if self.config.remove_urls is not None:
            doc.text = without_urls(doc.text, self.config.remove_urls == "everywhere")
            if not doc.text:
                return False, "empty"
        ends = self.config.max_blank_lines + 1
        doc.text = re.sub(rf"\n{{{ends + 1},}}", "\n" * ends, doc.text)
        return True


class RefinedWeb(BaseFilter):
    """The rules for documents, then those for lines, which change the text.

    Reasons: short_doc, long_doc, no_words, word_length, symbols, bullets, ellipses, non_alphabetic,
    stop_words; repeated_lines, repeated_paragraphs, repeated_line_characters,
    repeated_paragraph_characters, top_<n>_gram, repeated_<n>_gram; no_lines, removed_words.
    """

    name = "refinedweb"

    def __init__(self, config: RefinedWebConfig) -> None:
        super().__init__()
        self.config = config

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        rules = self.config
        words = count_words(doc.text)
        reason = document_fault(doc.text, words, rules)
        if reason is None and rules.repetition is not None:
            reason = repetition(doc.text, rules.repetition)
        if reason is None and rules.lines is not None:
            doc.text = good_lines(doc.text, rules.lines)
            if not doc.text:
                reason = "no_lines"
            elif not words or (words - count_words(doc.text)) / words > rules.lines.max_removed_words_ratio:
                reason = "removed_words"
        return True if reason is None else (False, reason)


def document_fault(text: str, n_words: int, rules: RefinedWebConfig) -> str | None:
    """The first rule for whole documents that `text` breaks, or None; `n_words` is `count_words`'s."""
    if n_words < rules.min_words:
        return "short_doc"
    if n_words > rules.max_words:
        return "long_doc"
    words = text.split()
    if not words:
        return "no_words"
    if not rules.min_mean_word_length <= sum(map(len, words)) / len(words) <= rules.max_mean_word_length:
        return "word_length"
    if sum(map(text.count, SYMBOLS)) / len(words) > rules.max_symbol_ratio:
        return "symbols"
    lines = [stripped for line in text.split("\n") if (stripped := line.strip())]
    if sum(line.startswith(BULLETS) for line in lines) > rules.max_bullet_ratio * len(lines):
        return "bullets"
    if sum(line.endswith(ELLIPSES) for line in lines) > rules.max_ellipsis_ratio * len(lines):
        return "ellipses"
    # isalpha() settles nearly every word at once; only what has other characters is looked into
    other = sum(not word.isalpha() and not any(map(str.isalpha, word)) for word in words)
    if other / len(words) > rules.max_non_alphabetic_ratio:
        return "non_alphabetic"
    if sum(word in STOP_WORDS for word in text.lower().split()) < rules.min_stop_words:
        return "stop_words"
    return None


def count_words(text: str) -> int:
    """Words that begin with a letter or a digit, between the blanks that fastText knows."""
    return sum(word[0].isalnum() for word in FASTTEXT_WORD.findall(text))


def good_lines(text: str, rules: RefinedWebLinesConfig) -> str:
    """`text` without the lines and phrases that `rules` are against; blank lines stay between lines.

    One rule after the other, and the text's ends stripped between them: a line is what the rule before left.
    """
    text = _keep(
        text, lambda line: sum(map(str.isupper, line)) / len(line) <= rules.max_uppercase_ratio
    ).strip()
    text = _keep(
        text, lambda line: sum(map(str.isdigit, line)) / len(line) <= rules.max_numeric_ratio
    ).strip()
    if rules.remove_counters:
        text = _keep(text, lambda line: not COUNTER.search(line.lower())).strip()
    text = _keep(text, lambda line: len(line.split()) >= rules.min_line_words)
    for phrase in PHRASES if rules.remove_phrases else ():
        lines = [(line, _without(phrase, line)) for line in text.split("\n")]
        text = "\n".join(after for line, after in lines if not line or after.strip()).strip()
    return text


def _keep(text: str, good: Callable[[str], bool]) -> str:
    return "\n".join(line for line in text.split("\n") if not line or good(line))


def _without(phrase: re.Pattern[str], line: str) -> str:
    return phrase.sub("", line) if len(line.split()) <= PHRASE_LINE_WORDS else line


def without_urls(text: str, everywhere: bool) -> str:
    """`text` without addresses on known top-level domains, and without IPv4 addresses.

    Unless `everywhere`, the former go only where the text begins with the letters of such a domain.
    """
    if (everywhere or text[:64].lower().startswith(top_level_domains())) and HAS_DOMAIN.search(text):
        text = url_pattern().sub("", text)
    return IPV4.sub("", text)


@cache
def top_level_domains() -> tuple[str, ...]:
    """Those of the public suffix list that tldextract ships, which are IANA's; nothing is fetched."""
    from tldextract import TLDExtract

    suffixes = TLDExtract(suffix_list_urls=(), cache_dir=None).tlds
    return tuple(sorted(suffix for suffix in suffixes if "." not in suffix))


@cache
def url_pattern() -> re.Pattern[str]:
    """Blanks, an optional scheme, a dotted name that ends in a top-level domain, and what follows."""
    tree: Tree = {}
    for domain in top_level_domains():
        node = tree
        for letter in domain:
            node = node.setdefault(letter, {})
        node[""] = {}
    host = rf"[-a-zA-Z0-9@:%._+~#=]{{1,256}}\.{_branches(tree)}\b"
    return re.compile(rf"\s{{0,10}}(?:(?:https?|ftp)://)?{host}{URL_TAIL}")


def _branches(node: Tree) -> str:
    """A pattern of the words in a tree of letters: each letter is tried once, not once for each word."""
    ways = [re.escape(letter) + _branches(below) for letter, below in sorted(node.items()) if letter]
    if not ways:
        return ""
    return f"(?:{'|'.join(ways)})" + ("?" if "" in node else "")
