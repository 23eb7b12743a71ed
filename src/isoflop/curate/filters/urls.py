"""The URL filter: datatrove's decisions and reasons, without its network and its 600 MB in every worker.

datatrove reads 4.56 million hosts into a Python set, anew in each task. Here they are hashed once for the
machine, into a folder of the user's cache that is named by the lists' content, and mapped by every worker.
A cache and not the build's own folder: the lists are the same for all builds, and four seconds and 18 MB
of archive for each would be most of a small one's time.
"""

import fcntl
import hashlib
import io
import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.filters.url_filter import get_list, normalize, parse_list
from datatrove.utils._import_utils import ASSETS_PATH

from isoflop.config.base import UserError
from isoflop.config.curation.urls import UrlsConfig
from isoflop.curate.filters.sorted_hashes import Hashes, contains, hash_all, mapped, save

ARCHIVE = Path(ASSETS_PATH) / "url_filterblacklistsv0_3_0.tar.gz"
KEYS = ("domains", "urls")
LAYOUT = b"xxh3-64 sorted 1"  # of the compiled files: another layout is another cache entry
BETWEEN_WORDS = re.compile(r"[^a-zA-Z0-9]+")


@dataclass(frozen=True)
class UrlLists:
    """Sorted hashes of the listed hosts and of the listed addresses."""

    domains: Hashes
    urls: Hashes


class UrlFilter(BaseFilter):
    """Drops by the address in metadata["url"]: for the same lists, what datatrove's URLFilter drops.

    Reasons: domain, subdomain, url, hard_blacklisted, soft_blacklisted, blacklisted_subword. A document
    without an address passes, and is counted as `no_url`. Registered domains are told by the public suffix
    list that tldextract ships; datatrove would fetch today's.
    """

    name = "url"
    _requires_dependencies = ["tldextract", ("ahocorasick", "pyahocorasick")]  # noqa: RUF012

    def __init__(self, config: UrlsConfig) -> None:
        super().__init__()
        check_lists(config)
        self.config = config
        self.content = fingerprint(config)  # lists are known by what is in them

    @cached_property
    def lists(self) -> UrlLists:
        return open_lists(self.config)

    @cached_property
    def hard(self) -> frozenset[str]:
        return self._words("banned_words", self.config.banned_words)

    @cached_property
    def soft(self) -> frozenset[str]:
        return self._words("soft_banned_words", self.config.soft_banned_words)

    @cached_property
    def subwords(self) -> Any:
        """An Aho-Corasick automaton, or None where there are no such words."""
        import ahocorasick

        automaton = ahocorasick.Automaton()
        for word in sorted(self._words("banned_subwords", self.config.banned_subwords)):
            automaton.add_word(word, word)
        automaton.make_automaton()
        return automaton if len(automaton) else None

    @cached_property
    def extract(self) -> Any:
        """Host and suffix of an address, with nothing fetched and nothing kept on the disk."""
        from tldextract import TLDExtract

        return TLDExtract(suffix_list_urls=(), cache_dir=None)

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        url = doc.metadata.get("url")
        if not url:
            self.stat_update("no_url")
            return True
        reason = self.reason(url)
        return True if reason is None else (False, reason)

    def reason(self, url: str) -> str | None:
        """Why `url` is unwanted, or None. The order is datatrove's: the first rule that holds is named."""
        parts = self.extract(url)
        registered = f"{parts.domain}.{parts.suffix}" if parts.domain and parts.suffix else ""
        if contains(self.lists.domains, registered):
            return "domain"
        if contains(self.lists.domains, parts.fqdn):
            return "subdomain"
        if contains(self.lists.urls, url):
            return "url"
        words = set(BETWEEN_WORDS.split(url))
        if not self.hard.isdisjoint(words):
            return "hard_blacklisted"
        if len(self.soft & words) >= self.config.soft_word_threshold:
            return "soft_blacklisted"
        if self.subwords is not None and next(self.subwords.iter(normalize(url)), None) is not None:
            return "blacklisted_subword"
        return None

    def _words(self, name: str, own: tuple[str, ...]) -> frozenset[str]:
        words: set[str] = parse_list(own)
        if self.config.use_integrated_lists:
            words = get_list(ASSETS_PATH, f"{name}.txt", words)
        return frozenset(words)


class CompileUrlLists(PipelineStep):
    """A lone task that compiles the lists where they are not yet: the workers then only map them."""

    type = "🗂 - LISTS"
    name = "url lists"

    def __init__(self, config: UrlsConfig) -> None:
        super().__init__()
        check_lists(config)
        self.config = config
        self.content = fingerprint(config)  # lists are known by what is in them

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> None:
        lists = open_lists(self.config)
        self.stat_update("domains", value=len(lists.domains))
        self.stat_update("urls", value=len(lists.urls))


def own_lists(config: UrlsConfig) -> dict[str, tuple[str, ...]]:
    """The user's files for each kind of list."""
    return dict(zip(KEYS, (config.extra_domains, config.extra_urls), strict=True))


def check_lists(config: UrlsConfig) -> None:
    """Raises UserError where a list that the user names is absent."""
    for key, paths in own_lists(config).items():
        for path in paths:
            if not Path(path).is_file():
                raise UserError(
                    f"pipeline.urls.extra_{key}: {path} does not exist; give a file, a line for each"
                )


def open_lists(config: UrlsConfig) -> UrlLists:
    """The compiled lists, mapped; compiled first where the cache lacks them.

    Raises UserError where a list of the user's own is no text or the cache cannot be written.
    """
    folder = cache_folder(config) / fingerprint(config)
    try:
        if not _is_compiled(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with _one_at_a_time(folder / "lock"):
                if not _is_compiled(folder):
                    for key in KEYS:
                        save(folder / f"{key}.npy", _compile(config, key))
        return UrlLists(*(mapped(folder / f"{key}.npy") for key in KEYS))
    except OSError as error:
        cause = error.strerror or error
        raise UserError(f"{folder}: {cause}; give pipeline.urls.cache a folder to write in") from None


def _is_compiled(folder: Path) -> bool:
    return all((folder / f"{key}.npy").is_file() for key in KEYS)


def cache_folder(config: UrlsConfig) -> Path:
    """Where compiled lists are kept, for all builds of this user."""
    if config.cache is not None:
        return Path(config.cache).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "isoflop" / "urls"


def fingerprint(config: UrlsConfig) -> str:
    """Of the lists' content: other lists are another entry of the cache, wherever they lie."""
    digest = hashlib.sha256(LAYOUT)
    for key, path in _files(config):
        digest.update(f"\0{key}\0{hashlib.sha256(path.read_bytes()).hexdigest()}".encode())
    return digest.hexdigest()[:16]


def _files(config: UrlsConfig) -> Iterator[tuple[str, Path]]:
    if config.use_integrated_lists:
        yield "archive", ARCHIVE
    for key, paths in own_lists(config).items():
        yield from ((key, Path(path)) for path in paths)


def _compile(config: UrlsConfig, key: str) -> Hashes:
    """The sorted hashes of the `domains` or of the `urls`."""
    parts = [hash_all(_lines(path.open("rb"), path)) for path in map(Path, own_lists(config)[key])]
    if config.use_integrated_lists:
        with tarfile.open(ARCHIVE) as archive:
            member = archive.extractfile(key)
            assert member is not None
            parts.append(hash_all(_lines(member, ARCHIVE)))
    return np.unique(np.concatenate([hash_all(()), *parts]))


def _lines(file: IO[bytes], path: Path) -> Iterator[str]:
    """What datatrove's parse_list keeps of a list of hosts or addresses, a line at a time."""
    with io.TextIOWrapper(file, encoding="utf-8") as text:
        try:
            yield from (line.strip() for line in text if line.strip() and line[0] != "#")
        except UnicodeDecodeError:
            raise UserError(f"{path}: is not UTF-8 text; give a list, a line for each") from None


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """The first worker compiles, the others wait; where the file system knows no locks, all compile."""
    with path.open("w") as lock:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
