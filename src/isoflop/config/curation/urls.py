"""The configuration of the URL filter."""

from typing import Annotated

from pydantic import Field

from isoflop.config.base import Config, Count

Word = Annotated[str, Field(pattern=r"^[a-zA-Z0-9]+$")]  # an address is split at everything else


class UrlsConfig(Config):
    """Unwanted addresses, by datatrove's URLFilter and its lists, as FineWeb has it (Penedo et al. 2024).

    The rules are those of RefinedWeb (Penedo et al. 2023, section G.1): listed hosts and pages, and words.
    """

    soft_word_threshold: Count = 2
    """So many different words of the soft list in one address drop the document."""
    use_integrated_lists: bool = True
    """datatrove's lists: 4.56 million hosts of UT1's adult and malware categories, 19,587 pages, words."""
    extra_domains: tuple[str, ...] = ()
    """Files of further hosts, one a line; `#` begins a comment line."""
    extra_urls: tuple[str, ...] = ()
    """Files of further full addresses, one a line."""
    banned_words: tuple[Word, ...] = ()
    """Further words of which one drops the document."""
    banned_subwords: tuple[Word, ...] = ()
    """Further strings that drop the document wherever they stand in its address."""
    soft_banned_words: tuple[Word, ...] = ()
    """Further words of the soft list."""
    cache: str | None = None
    """Folder for the compiled lists (37 MB); null: isoflop's folder in the user's cache."""
