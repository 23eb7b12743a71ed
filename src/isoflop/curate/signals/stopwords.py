"""The stop words of a language: a list that the user gives, or jusText's (Pomikálek 2011)."""

import json
from functools import cache
from pathlib import Path

from isoflop.config.base import UserError

LANGUAGES = {
    "cs": "Czech", "da": "Danish", "de": "German", "el": "Greek", "en": "English", "es": "Spanish",
    "fi": "Finnish", "fr": "French", "hu": "Hungarian", "it": "Italian", "nl": "Dutch", "pl": "Polish",
    "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sv": "Swedish", "tr": "Turkish",
    "uk": "Ukrainian",
}  # fmt: skip
THREE_LETTERS = {"deu": "de", "eng": "en", "fra": "fr", "ita": "it", "spa": "es"}
Lists = dict[str, frozenset[str]]


def read_stop_words(path: Path) -> Lists:
    """Lists by ISO 639-1 code, from a JSON object. Raises UserError where it is not one."""
    try:
        lists = json.loads(path.read_text(encoding="utf-8"))
        return {code: frozenset(map(str.lower, words)) for code, words in lists.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        cause = " ".join(str(error).split())
        raise UserError(
            f"pipeline.signals.stop_words: {path}: {cause}; give a JSON object of word lists by language code"
        ) from None


def stop_words(language: str, given: Lists | None = None) -> frozenset[str] | None:
    """The list for a code such as "en", "en-GB" or "eng_Latn"; None where there is none."""
    code = language.replace("_", "-").partition("-")[0].lower()
    code = THREE_LETTERS.get(code, code)
    return given.get(code) if given is not None else _justext_list(code)


@cache
def _justext_list(code: str) -> frozenset[str] | None:
    from justext import get_stoplist

    return frozenset(map(str.lower, get_stoplist(LANGUAGES[code]))) if code in LANGUAGES else None
