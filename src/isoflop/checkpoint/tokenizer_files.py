"""The tokenizer beside the weights: its files go along, in the form in which transformers loads them."""

import json
import shutil
from pathlib import Path

from isoflop.config.base import UserError
from isoflop.data.manifest import MANIFEST, TOKENIZER, file_sha256, read_manifest

FILES = (
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "generation_config.json",
)
"""Of a Hugging Face folder, those that belong to the tokenizer or are asked for beside it."""


def copy_files(source: Path, out: Path) -> list[str]:
    """Copy those of FILES that `source` has; their names."""
    found = [name for name in FILES if (source / name).is_file()]
    if found:
        out.mkdir(parents=True, exist_ok=True)
    for name in found:
        shutil.copyfile(source / name, out / name)
    return found


def copy_tokenizer(source: Path | None, eos_id: int | list[int] | None, out: Path) -> list[str]:
    """Copy the tokenizer's files, and write what a token dataset's lack; what a user should know.

    Raises UserError where a dataset's tokenizer is not the one that its manifest says.
    """
    if source is None or not (source / TOKENIZER).is_file():
        where = "there is none" if source is None else f"{source / TOKENIZER} is gone"
        return [f"no tokenizer: {where}; give one with --tokenizer"]
    if (source / MANIFEST).is_file():
        manifest = read_manifest(source)
        if file_sha256(source / TOKENIZER) != manifest.tokenizer.sha256:
            raise UserError(f"{source / TOKENIZER}: is not the tokenizer that {MANIFEST} names")
    copy_files(source, out)
    if not (out / "tokenizer_config.json").is_file():
        _write_config(out, eos_id)
    return []


def eos_of(source: Path | None) -> int | None:
    """The token that ends a document in the token dataset `source`; None where that is gone."""
    if source is not None and (source / MANIFEST).is_file():
        return read_manifest(source).tokenizer.eos_id
    return None


def _write_config(out: Path, eos_id: int | list[int] | None) -> None:
    """The few lines that make transformers load a bare tokenizer.json."""
    config: dict[str, object] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    added = json.loads((out / TOKENIZER).read_text()).get("added_tokens") or []
    ends = eos_id if isinstance(eos_id, list) else [eos_id]
    eos = [token["content"] for token in added if token.get("id") in ends]
    if eos:
        config["eos_token"] = eos[0]
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
