"""The URL filter names the reason that datatrove's own URLFilter names, for the same lists."""

import os
import random
import string
import subprocess
import sys
import tarfile
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from datatrove.data import Document
from datatrove.pipeline.filters import URLFilter
from datatrove.pipeline.filters.base_filter import get_filter_result
from datatrove.pipeline.filters.url_filter import get_list
from datatrove.utils._import_utils import ASSETS_PATH
from pydantic import ValidationError
from tldextract import TLDExtract

from isoflop.config.base import UserError
from isoflop.config.curation.urls import UrlsConfig
from isoflop.curate.filters.sorted_hashes import contains, hash_all
from isoflop.curate.filters.urls import ARCHIVE, CompileUrlLists, UrlFilter, _lines, cache_folder, open_lists

REASONS = {"domain", "subdomain", "url", "hard_blacklisted", "soft_blacklisted", "blacklisted_subword"}


def words_of(name: str) -> list[str]:
    return sorted(get_list(ASSETS_PATH, f"{name}.txt", set()))


def perturbed(url: str, draw: random.Random) -> list[str]:
    """Addresses near `url`: those that the same rule should find, and those that it should not."""
    rest = url.partition("://")[2] or url
    host, _, path = rest.partition("/")
    letters = "".join(draw.choices(string.ascii_lowercase, k=3))
    return [
        f"http://{rest}",
        f"https://www.{rest}",
        f"http://{letters}.{rest}",
        f"http://{host}:8080/{path}",
        f"http://user:pw@{host}/{path}",
        f"http://{host.upper()}/{path}",
        f"http://{rest.upper()}",
        f"http://{host}.{letters}/{path}",
        f"http://{letters}{rest}",
        f"http://{host[1:]}/{path}",
        f"http://{host}./{path}",
        f"{rest}/",
        f"//{rest}?q={letters}#{letters}",
        f"http://{rest}%20{letters}",
        f"http://example.org/{rest}",
    ]


def addresses(hosts: list[str], pages: list[str], draw: random.Random) -> list[str]:
    """Addresses from every list, and around them."""
    seeds = [*hosts, *(f"{host}/a/b.html" for host in hosts), *pages]
    for name in ("banned_words", "banned_subwords", "soft_banned_words"):
        listed = words_of(name)
        for word in draw.sample(listed, 12):
            other = draw.choice(listed)
            seeds += [f"example.org/{word}", f"{word}.example.co.uk/x", f"my{word}s.net/{other}-{word}"]
            seeds += [
                f"example.org/{word}+{other}?{word}",
                f"example.org/{word.upper()}/{word[:2]}-{word[2:]}",
            ]
    odd = [
        "",
        "http://",
        "localhost:80",
        "http://127.0.0.1/x",
        "http://[::1]/x",
        "http://münchen.de/ü",
        "a b",
        ".",
    ]
    return [*odd[1:], *(near for seed in seeds for near in [seed, *perturbed(seed, draw)])]


def stock(domains: list[str], urls: list[str], **settings: object) -> URLFilter:
    """datatrove's filter with its own word lists, over a part of its hosts; nothing is fetched."""
    words = {name: words_of(name) for name in ("banned_words", "banned_subwords", "soft_banned_words")}
    block = URLFilter(
        extra_domains=domains, extra_urls=urls, use_integrated_lists=False, **(words | settings)
    )
    block.tldextractor = TLDExtract(suffix_list_urls=(), cache_dir=None)
    return block


@pytest.fixture(scope="module")
def listed() -> tuple[list[str], list[str]]:
    """Some of datatrove's hosts and pages."""
    draw = random.Random(0)
    with tarfile.open(ARCHIVE) as archive:
        pages = draw.sample(list(_lines(archive.extractfile("urls"), ARCHIVE)), 150)
        hosts = list(islice(_lines(archive.extractfile("domains"), ARCHIVE), 0, 100_000, 500))
    return hosts, pages


def test_reasons_are_datatroves(listed: tuple[list[str], list[str]], tmp_path: Path) -> None:
    """Thousands of addresses from its lists and around them, all with its own verdict and reason."""
    hosts, pages = listed
    (tmp_path / "hosts").write_text("# hosts\n" + "\n".join(hosts))
    (tmp_path / "pages").write_text("\n".join(pages) + "\n")
    theirs = stock(hosts, pages)
    config = UrlsConfig(
        use_integrated_lists=False,
        extra_domains=(str(tmp_path / "hosts"),),
        extra_urls=(str(tmp_path / "pages"),),
        cache=str(tmp_path / "cache"),
        **{name: tuple(words_of(name)) for name in ("banned_words", "banned_subwords", "soft_banned_words")},
    )
    ours, seen = UrlFilter(config), Counter()
    for url in addresses(hosts, pages, random.Random(1)):
        document = Document(text="x", id="", metadata={"url": url})
        verdict = get_filter_result(theirs.filter(document))
        assert get_filter_result(ours.filter(document)) == verdict, url
        seen[verdict[1]] += 1
    assert set(seen) == {*REASONS, None}
    assert min(seen.values()) >= 20, seen


def test_every_listed_host_is_found(listed: tuple[list[str], list[str]], tmp_path: Path) -> None:
    """The whole archive, compiled: as many hashes as lines, and the words of the lists are read too."""
    hosts, pages = listed
    config = UrlsConfig(cache=str(tmp_path))
    lists = open_lists(config)
    assert (len(lists.domains), len(lists.urls)) == (4_558_940, 19_587)
    assert all(contains(lists.domains, host) for host in hosts)
    assert all(contains(lists.urls, page) for page in pages)
    assert not any(contains(lists.domains, f"{host}x") for host in hosts)
    block = UrlFilter(config)
    assert block.reason(f"http://{words_of('banned_words')[0]}.example.org/") == "hard_blacklisted"
    soft = words_of("soft_banned_words")
    assert block.reason(f"http://example.org/{soft[0]}/{soft[1]}") == "soft_blacklisted"
    assert block.reason(f"http://example.org/{soft[0]}/{soft[0]}") is None
    third = UrlFilter(UrlsConfig(cache=str(tmp_path), soft_word_threshold=3))
    assert third.reason(f"http://example.org/{soft[0]}/{soft[1]}") is None
    assert third.reason(f"http://example.org/{soft[0]}/{soft[1]}-{soft[2]}") == "soft_blacklisted"
    assert isinstance(lists.domains.base, np.memmap), "mapped, not read into each worker's memory"


def test_a_changed_list_is_another_cache_entry(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("one.org\n")
    config = UrlsConfig(
        use_integrated_lists=False, extra_domains=(str(tmp_path / "hosts"),), cache=str(tmp_path / "cache")
    )
    assert UrlFilter(config).reason("http://one.org/") == "domain"
    (tmp_path / "hosts").write_text("two.org\n")
    assert UrlFilter(config).reason("http://one.org/") is None
    assert UrlFilter(config).reason("http://two.org/") == "domain"


def test_no_address_passes_and_is_counted(tmp_path: Path) -> None:
    block = UrlFilter(UrlsConfig(use_integrated_lists=False, cache=str(tmp_path)))
    documents = [Document(text="x", id=str(n), metadata={"url": ""} if n else {}) for n in range(3)]
    assert len(list(block(iter(documents)))) == 3
    stats = block.stats.to_dict()["stats"]
    assert stats["no_url"] == stats["forwarded"] == stats["total"] == 3


def test_workers_that_meet_compile_once(tmp_path: Path) -> None:
    """Three processes at once on an empty cache: all see the same whole list."""
    (tmp_path / "hosts").write_text("\n".join(f"host{n}.org" for n in range(20_000)))
    code = (
        "import sys; from isoflop.config.curation.urls import UrlsConfig;"
        "from isoflop.curate.filters.urls import *;"
        "c = UrlsConfig(use_integrated_lists=False, extra_domains=(sys.argv[1],), cache=sys.argv[2]);"
        "s = CompileUrlLists(c); s.run(); print(int(s.stats['domains'].total))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "hosts"), str(tmp_path / "cache")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[0].strip() for process in processes] == ["20000"] * 3
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pipeline\.urls\.extra_domains: .*nowhere does not exist"):
        UrlFilter(UrlsConfig(extra_domains=(str(tmp_path / "nowhere"),)))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    bad = UrlsConfig(
        use_integrated_lists=False, extra_urls=(str(tmp_path / "binary"),), cache=str(tmp_path / "cache")
    )
    with pytest.raises(UserError, match="binary: is not UTF-8 text"):
        CompileUrlLists(bad).run()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"give pipeline\.urls\.cache a folder"):
        open_lists(UrlsConfig(use_integrated_lists=False, cache=str(tmp_path / "file")))
    with pytest.raises(ValidationError):
        UrlsConfig(banned_words=("---",))  # datatrove reads it as the empty word, which drops nearly all


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder(UrlsConfig()) == Path("/somewhere/isoflop/urls")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder(UrlsConfig()) == Path(os.path.expanduser("~/.cache/isoflop/urls"))


def test_neighbouring_hashes_are_told_apart() -> None:
    """Half of all hashes do not fit a signed integer, and a float takes a thousand neighbours for one."""
    for name in map(str, range(20)):
        near = hash_all([name])[0] + np.arange(-500, 501).astype(np.uint64)
        assert contains(near, name)
        assert not contains(np.delete(near, 500), name)
    assert not contains(near[:0], name)
