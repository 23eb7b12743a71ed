"""The benchmark corpus: real HTML from the documentation packages of the Debian and PyPI registries.

Packages are fetched by name with the registries' ordinary clients, unpacked (nothing is installed), and their
pages are dealt out over gzipped WARC files: prose, reference, code and tables, in more than twenty languages
and several encodings, with near-duplicates (translations left in English, two releases of one manual).
`corpus.json` names the packages with version, licence and count, and each file with its SHA-256.

    python benchmarks/corpus.py FOLDER [--shards 8] [--per-package 3000] [--without-pypi]

Fetched packages are kept in FOLDER, so that a second call fetches only what is absent; a complete corpus of
the same arguments is left as it is. It needs `apt-get` and `dpkg-deb` (Debian, Ubuntu).
"""

import argparse
import gzip
import json
import random
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from isoflop.curate.input.warc import write_pages
from isoflop.data.manifest import file_sha256

DEBIAN = {  # what each package's own copyright file says
    "anarchism": "GPL-2+",
    "apache2-doc": "Apache-2.0",
    "debian-faq": "its own: any use under the same notice",
    "debian-faq-de": "its own: any use under the same notice",
    "debian-faq-fr": "its own: any use under the same notice",
    "debian-faq-ru": "its own: any use under the same notice",
    "debian-handbook": "GPL-2+ or CC-BY-SA-3.0+",
    "debian-reference-de": "GPL-2+",
    "debian-reference-en": "GPL-2+",
    "debian-reference-es": "GPL-2+",
    "debian-reference-fr": "GPL-2+",
    "debian-reference-it": "GPL-2+",
    "debian-reference-ja": "GPL-2+",
    "developers-reference": "GPL-2+",
    "git-doc": "GPL-2",
    "installation-guide-amd64": "GPL-2",
    "libboost1.81-doc": "BSL-1.0",
    "postgresql-doc-15": "PostgreSQL",
    "python-django-doc": "BSD-3-Clause",
    "python-pandas-doc": "BSD-3-Clause",
    "python-sqlalchemy-doc": "MIT",
    "python3.11-doc": "PSF-2.0",
    "rust-doc": "MIT or Apache-2.0",
}
PYPI = {"docutils": "public domain", "lxml": "BSD-3-Clause", "mako": "MIT", "sqlalchemy": "MIT"}
PAGE = re.compile(r"\.x?html?(\.[a-z-]{2,5})?(\.[a-z0-9-]+)?(\.gz)?$")  # index.html.de, index.html.ja.utf8
SITE = "https://{package}.example.com/{path}"  # a reserved name: nothing is there
SEED = 0


@dataclass(frozen=True)
class Package:
    """A fetched package: its unpacked pages, in order of path."""

    registry: str
    name: str
    version: str
    licence: str
    pages: list[Path]
    root: Path


def main() -> None:
    """Build the corpus, or find it complete."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--per-package", type=int, default=3000, help="the most pages, taken evenly")
    parser.add_argument("--without-pypi", action="store_true")
    options = parser.parse_args()
    arguments = {
        "shards": options.shards,
        "per_package": options.per_package,
        "pypi": not options.without_pypi,
    }
    if complete(options.folder, arguments):
        print(f"{options.folder}: complete already")
        return
    registries = [("debian", DEBIAN), *([] if options.without_pypi else [("pypi", PYPI)])]
    with tempfile.TemporaryDirectory(dir=_made(options.folder)) as scratch:
        packages = []
        for registry, names in registries:
            for name, licence in names.items():
                package = fetch(registry, name, licence, options.folder / "packages", Path(scratch) / name)
                packages.append(take(package, options.per_package))
                print(
                    f"{registry:<7} {name:<26} {package.version:<24} {len(packages[-1].pages):>5} pages",
                    flush=True,
                )
        shards = write(packages, options.folder, options.shards)
    about = [
        {k: v for k, v in asdict(p).items() if k not in ("pages", "root")} | {"pages": len(p.pages)}
        for p in packages
    ]
    described = {"arguments": arguments, "packages": about, "shards": shards}
    (options.folder / "corpus.json").write_text(json.dumps(described, indent=1) + "\n")
    print(f"{sum(s['pages'] for s in shards):,} pages in {len(shards)} files, {options.folder}")


def complete(folder: Path, arguments: dict[str, object]) -> bool:
    """Whether `folder` has a corpus of these arguments, every file as it was written."""
    try:
        described = json.loads((folder / "corpus.json").read_text())
        return described["arguments"] == arguments and all(
            file_sha256(folder / shard["file"]) == shard["sha256"] for shard in described["shards"]
        )
    except (OSError, ValueError, KeyError):
        return False


def fetch(registry: str, name: str, licence: str, kept: Path, root: Path) -> Package:
    """Fetch `name` into `kept`, unless it is there, and unpack it into `root`."""
    file = _archive(kept / name)
    if file is None:
        command = ["apt-get", "-q", "download", name]
        if registry == "pypi":
            command = [sys.executable, "-m", "pip", "-q", "download", "--no-deps", "--no-binary", name, name]
        done = subprocess.run(command, cwd=_made(kept / name), capture_output=True, text=True)
        file = _archive(kept / name)
        if done.returncode or file is None:
            sys.exit(f"{name}: {' '.join(command)} failed: {done.stderr.strip()[-300:]}")
    if registry == "pypi":
        with tarfile.open(file) as archive:
            archive.extractall(_made(root), filter="data")
        version = file.name.removesuffix(".tar.gz").rpartition("-")[2]
    else:
        subprocess.run(["dpkg-deb", "-x", str(file), str(root)], check=True)
        shown = subprocess.run(
            ["dpkg-deb", "-f", str(file), "Version"], capture_output=True, text=True, check=True
        )
        version = shown.stdout.strip()
        for copyright in root.glob("usr/share/doc/*/copyright"):
            shutil.copy(copyright, file.parent / "copyright")
    pages = sorted(p for p in root.rglob("*") if PAGE.search(p.name) and p.is_file() and not p.is_symlink())
    return Package(registry, name, version, licence, pages, root)


def take(package: Package, most: int) -> Package:
    """At most so many of the package's pages, evenly over its paths."""
    pages = package.pages
    if len(pages) > most:
        pages = [pages[i * len(pages) // most] for i in range(most)]
    return Package(**{**vars(package), "pages": pages})


def write(packages: list[Package], folder: Path, shards: int) -> list[dict[str, object]]:
    """Deal the pages out at random, always the same, so that every file is a sample of the whole."""
    pages = [(package, page) for package in packages for page in package.pages]
    random.Random(SEED).shuffle(pages)
    described = []
    for number in range(shards):
        mine = pages[number::shards]
        path = folder / f"{number:05d}.warc.gz"
        count = write_pages(path, records(mine))
        bytes_in = sum(page.stat().st_size for _, page in mine)
        described.append(
            {"file": path.name, "pages": count, "html_bytes": bytes_in, "sha256": file_sha256(path)}
        )
        print(f"{path}  {count:,} pages, {bytes_in / 1e6:.0f} MB of HTML", flush=True)
    return described


def records(pages: list[tuple[Package, Path]]) -> Iterator[tuple[str, bytes]]:
    """The address and the bytes of each page, in its own encoding."""
    seen: Counter[str] = Counter()
    for package, page in pages:
        body = page.read_bytes()
        address = SITE.format(package=package.name.replace(".", "-"), path=page.relative_to(package.root))
        seen[address] += 1
        assert seen[address] == 1, f"{address} is there twice"
        yield address, gzip.decompress(body) if page.name.endswith(".gz") else body


def _archive(folder: Path) -> Path | None:
    return next((p for pattern in ("*.deb", "*.tar.gz") for p in sorted(folder.glob(pattern))), None)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    main()
