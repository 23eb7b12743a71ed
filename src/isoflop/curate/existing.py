"""Is the dataset that is asked for there already? And by what would another be told apart from it?"""

import hashlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any

from rich.console import Console

from isoflop.config.base import UserError
from isoflop.config.curation.run import CurateConfig
from isoflop.curate.describe import differences
from isoflop.curate.filters.language import model_record
from isoflop.curate.input import installed
from isoflop.curate.input.sources import find_sources, fingerprint
from isoflop.curate.tokens.tokenizer import load_tokenizer
from isoflop.data.manifest import MANIFEST, DatasetError, Manifest, read_manifest

PACKAGES = (
    *("isoflop", "datatrove", "tokenizers", "numpy", "fastwarc", "resiliparse", "trafilatura", "xxhash"),
    *("fasttext-numpy2-wheel", "jusText", "pyarrow", "regex", "spacy", "tldextract"),
)
# Keys of a pipeline that name files which its blocks read.
FILE_KEYS = {
    *("evaluations", "positives", "negatives", "model", "extra_domains", "extra_urls"),
    *("stop_words", "ldnoobw", "ut1"),
}


def identify(config: CurateConfig, recipe: Callable[..., Any]) -> dict[str, Any]:
    """Everything that the tokens depend on, and a fingerprint of it."""
    files = find_sources(config.data.sources)
    code = sorted(Path(__file__).parent.rglob("*.py"))
    parts: dict[str, Any] = {
        "pipeline": config.science(),
        "recipe_sha256": _sha256(Path(inspect.getfile(recipe)).read_bytes()),
        "code_sha256": _sha256(b"".join(path.read_bytes() for path in code)),
        "versions": versions(),
        "sources": [{"path": f.path, "bytes": f.bytes} for f in files] if files else installed.sources(),
        "inputs_sha256": fingerprint(files),
    }
    if config.tokenizer.path is not None:
        load_tokenizer(config.tokenizer)
        parts["tokenizer_sha256"] = _sha256(Path(config.tokenizer.path).read_bytes())
    language = getattr(config.pipeline, "language", None)
    if language is not None:
        parts["language_model"] = model_record(language)
    parts["files"] = dict(auxiliary_files(config.pipeline.model_dump(exclude={"language": True})))
    return {**parts, "fingerprint": _sha256(json.dumps(parts, sort_keys=True).encode())}


def auxiliary_files(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(key, what names the content of its files) of each part that reads files of the user's own."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from auxiliary_files(value, f"{prefix}{key}.")
        elif key in FILE_KEYS and value:
            paths = [Path(path).expanduser() for path in ([value] if isinstance(value, str) else value)]
            files = [
                file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*")))
            ]
            stats = [(str(file), file.stat()) for file in files if file.is_file()]
            told = [f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats]
            yield f"{prefix}{key}", _sha256("\n".join(told).encode())


def complete(
    output: Path, config: CurateConfig, identity: dict[str, Any], console: Console
) -> Manifest | None:
    """The dataset at `output` where it is what is asked for. Raises UserError where it is something else."""
    if not output.exists():
        return None
    if not (output / MANIFEST).is_file():
        if output.is_dir() and not any(output.iterdir()):
            return None
        raise UserError(f"{output} is there and is no dataset; give another data.output")
    try:
        manifest = read_manifest(output)
    except DatasetError:
        if config.data.overwrite:
            return None
        raise
    then, now = manifest.model_dump(mode="json"), identity
    if then.get("fingerprint") == now["fingerprint"] and not _missing(output, manifest):
        console.print(f"complete already: {summary(output, manifest)}")
        return manifest
    if config.data.overwrite:
        return None
    changed = list(differences(now["pipeline"], manifest.pipeline)) or _other_changes(now, then)
    if changed:
        told = "; ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        hint = "data.overwrite=true builds it anew, data.output=<folder> builds another"
        raise UserError(f"{output} was built otherwise ({told}); {hint}")
    if missing := _missing(output, manifest):
        raise UserError(
            f"{output}/{missing} is missing or cut short; data.overwrite=true builds the dataset anew"
        )
    console.print(f"complete already: {summary(output, manifest)}")
    console.print(
        "isoflop's code, packages or versions were others than today's; data.overwrite=true builds it anew"
    )
    return manifest


def _other_changes(now: dict[str, Any], then: dict[str, Any]) -> list[str]:
    """Changes beyond the configuration that make another dataset. Versions and installed packages do not."""
    told = {
        "recipe_sha256": "the recipe has been edited",
        "inputs_sha256": "the input files have changed",
        "tokenizer_sha256": "the tokenizer has changed",
        "language_model": "the language model has changed",
        "files": "a file that a filter reads has changed",
    }
    return [message for key, message in told.items() if now.get(key) != then.get(key)]


def _missing(output: Path, manifest: Manifest) -> str | None:
    size = {"uint16": 2, "uint32": 4}[manifest.dtype]
    for shard in manifest.shards:
        for name, length in ((shard.file, shard.tokens * size), (f"{shard.file}.index", shard.documents * 8)):
            path = output / name
            if not path.is_file() or path.stat().st_size != length:
                return name
    return None


def versions() -> dict[str, str]:
    """What the result may depend on."""
    return {"python": python_version(), **{name: _version(name) for name in PACKAGES}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def summary(output: Path, manifest: Manifest) -> str:
    """One line about a dataset."""
    return (
        f"{output}: {manifest.total_documents:,} documents, {manifest.total_tokens:,} tokens, "
        f"vocabulary {manifest.tokenizer.vocab_size:,}"
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
