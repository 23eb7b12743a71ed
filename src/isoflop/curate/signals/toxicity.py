"""RedPajama v2's toxicity signals; the lists are the user's, given as paths."""

import json
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from isoflop.config.base import UserError


class BlockWords:
    """`rps_doc_ldnoobw_words`: how many sequences of normalized words are entries of a list.

    The list, meant to be that of Dirty, Naughty, Obscene, and Otherwise Bad Words, has one entry a line. As
    published, entries are taken as they stand: one with capitals or punctuation is never met.
    """

    def __init__(self, path: Path) -> None:
        entries = {line.strip() for line in _read(path, "ldnoobw").split("\n")} - {""}
        if not entries:
            raise UserError(f"{path}: has no words, one a line, for ldnoobw")
        self.single = frozenset(entry for entry in entries if " " not in entry)
        self.phrases = [tuple(entry.split(" ")) for entry in entries if " " in entry]
        self.begin = frozenset(phrase[0] for phrase in self.phrases)

    def count(self, words: list[str]) -> int:
        found = sum(map(self.single.__contains__, words))
        if self.begin.isdisjoint(words):
            return found
        at = [place for place, word in enumerate(words) if word in self.begin]
        return found + sum(
            tuple(words[place : place + len(phrase)]) == phrase for place in at for phrase in self.phrases
        )


class BlockedDomains:
    """`rps_doc_ut1_blacklist`: the category number of the document's domain, or null.

    The file maps domains to numbers, as the published preparation of the UT1 lists writes it.
    """

    def __init__(self, path: Path) -> None:
        text = _read(path, "ut1")
        try:
            mapping = json.loads(text)
        except ValueError:
            mapping = None
        if not isinstance(mapping, dict) or not all(isinstance(n, int) for n in mapping.values()):
            raise UserError(
                f'{path}: must be a JSON object of domains and category numbers, {{"a.example": 3}}'
            )
        self.categories: dict[str, int] = mapping

    def category(self, metadata: Mapping[str, object]) -> int | None:
        """By `source_domain`, or what the `url` names as its host and port."""
        domain = metadata.get("source_domain")
        if domain is None:
            try:
                domain = urlsplit(str(metadata.get("url") or "")).netloc
            except ValueError:  # an address that is none has no domain
                return None
        return self.categories.get(str(domain))


def _read(path: Path, key: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{key}={path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{key}={path}: is not UTF-8 text") from None
