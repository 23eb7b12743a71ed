"""The default corpus: the documentation that came with Python and the installed packages.

Each module, guide and readme becomes a page of HTML in a WARC file, so that the real extraction path runs.
Nothing is downloaded.
"""

import ast
import gc
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path, PurePath
from platform import python_version

from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from isoflop.curate.input.pages import guide_page, module_page, topic_page
from isoflop.curate.input.warc import write_pages
from isoflop.curate.progress import count_document

LICENCE = "mixed: PSF-2.0 and the licences of the packages named in sources"
GUIDES = (".rst", ".md", ".txt")
NOT_DOCUMENTATION = {"test", "tests", "testing", "_vendor", "vendor", "third_party", "idlelib", "licenses"}
NOT_A_GUIDE = (
    "licen",
    "copying",
    "notice",
    "authors",
    "requirements",
    "vendor",
    "top_level",
    "sources",
    "record",
)
SITE = "https://docs.example"  # a reserved name: nothing is there
FILES = 16  # WARC files, and so tasks: enough for a few workers, few enough to start quickly


@dataclass(frozen=True)
class Page:
    """Where a page's text is. `kind`: module, guide, readme (the description in METADATA) or topics."""

    kind: str
    title: str
    address: str
    path: str


def packages() -> list[Distribution]:
    """The installed packages that are not checked-out source, in order of name."""
    found = {dist.metadata["Name"].lower(): dist for dist in distributions() if dist.metadata["Name"]}
    return [
        found[name]
        for name in sorted(found)
        if "editable" not in (found[name].read_text("direct_url.json") or "")
    ]


def sources() -> list[dict[str, str]]:
    """Python and the packages, with version and licence, for the manifest."""
    python = {"name": "CPython", "version": python_version(), "licence": "PSF-2.0"}
    return [
        python,
        *({"name": d.metadata["Name"], "version": d.version, "licence": licence(d)} for d in packages()),
    ]


def licence(dist: Distribution) -> str:
    """What the package says of its licence, on one line."""
    declared = _field(dist, "License-Expression") or _field(dist, "License")
    classified = [
        c.rpartition(" :: ")[2] for c in dist.metadata.get_all("Classifier") or [] if c.startswith("License")
    ]
    first = declared.strip().partition("\n")[0]
    return first if 0 < len(first) <= 80 else ", ".join(classified) or "not stated"


def _field(dist: Distribution, name: str) -> str:
    return (dist.metadata.get_all(name) or [""])[0]


def all_pages() -> list[Page]:
    """Every page of the corpus, in an order that depends on the installed files alone."""
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    found = [Page("topics", "topics", f"{SITE}/python/topics", "")]
    for path in sorted(stdlib.rglob("*.py")):
        inside = path.relative_to(stdlib)
        if "site-packages" not in inside.parts and _is_documentation(inside):
            found.append(Page("module", _module_name(inside), f"{SITE}/python/{inside}", str(path)))
    for dist in packages():
        found += _pages_of(dist)
    return found


def _pages_of(dist: Distribution) -> Iterator[Page]:
    name = dist.metadata["Name"]
    for file in sorted(dist.files or [], key=str):
        path = Path(str(dist.locate_file(file)))
        address = f"{SITE}/{name}/{file}"
        if file.name == "METADATA" and path.is_file():
            yield Page("readme", name, address, str(path))
        elif file.suffix == ".py" and _is_documentation(file) and path.is_file():
            yield Page("module", _module_name(file), address, str(path))
        elif file.suffix in GUIDES and _is_documentation(file) and _is_guide(file) and path.is_file():
            yield Page("guide", file.name, address, str(path))


def _module_name(file: PurePath) -> str:
    """json/decoder.py → json.decoder, json/__init__.py → json."""
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _is_documentation(path: PurePath) -> bool:
    inside = path.parts[:-1]
    return not NOT_DOCUMENTATION.intersection(inside) and not any(p.startswith("test_") for p in path.parts)


def _is_guide(path: PurePath) -> bool:
    return ".dist-info" not in str(path) and not path.name.lower().startswith(NOT_A_GUIDE)


class CollectInstalled(PipelineStep):
    """Writes every `world_size`-th page, from the `rank`-th on, as `<folder>/<rank>.warc.gz`."""

    type = "📚 - CORPUS"
    name = "collect"

    def __init__(self, folder: Path, pages: list[Page]) -> None:
        super().__init__()
        self.folder = folder
        self.pages = pages

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> None:
        gc.disable()  # syntax trees are many small objects, none in a cycle: collecting halves the speed
        self.folder.mkdir(parents=True, exist_ok=True)
        written = write_pages(warc_path(self.folder, rank), self._html(self.pages[rank::world_size]))
        self.stat_update("pages", value=written)

    def _html(self, pages: list[Page]) -> Iterator[tuple[str, str]]:
        for page in pages:
            for name, html in _render(page):
                count_document()
                yield name, html


def warc_path(folder: Path, rank: int) -> Path:
    return folder / f"{rank:05d}.warc.gz"


def _render(page: Page) -> Iterator[tuple[str, str]]:
    """The address and HTML of a page, of each topic where it is the help topics; nothing without text."""
    if page.kind == "topics":
        from pydoc_data.topics import topics

        for name in sorted(topics):
            yield f"{page.address}/{name}", topic_page(name, topics[name])
        return
    body = Path(page.path).read_bytes()
    html: str | None = None
    if page.kind == "module":
        try:
            html = module_page(page.title, ast.parse(body)) if b'"""' in body or b"'''" in body else None
        except (SyntaxError, ValueError):  # a template, or source of another Python
            html = None
    else:
        text = body.decode("utf-8", errors="replace")
        text = text.partition("\n\n")[2] if page.kind == "readme" else text
        html = guide_page(page.title, text) if text.strip() else None
    if html is not None:
        yield page.address, html
