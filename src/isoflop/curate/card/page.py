"""`DATASET_CARD.md`: the manifest in sentences, for whoever gets the dataset and not the run that made it.

Its front matter is the one of the Hugging Face hub. What a manifest does not say is left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from isoflop.curate.card.reading import how_to_read
from isoflop.data.manifest import Manifest, StageRecord

CARD = "DATASET_CARD.md"
# The hub's names for licences that it knows; https://huggingface.co/docs/hub/repositories-licenses
LICENCES = (
    "apache-2.0 mit bsd bsd-2-clause bsd-3-clause cc cc0-1.0 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 "
    "cc-by-nc-4.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 gpl gpl-2.0 gpl-3.0 lgpl lgpl-3.0 agpl-3.0 mpl-2.0 odc-by "
    "odbl pddl postgresql unlicense wtfpl zlib isc gfdl afl-3.0 artistic-2.0 bsl-1.0 epl-2.0 eupl-1.1"
)
MOST_SOURCES = 200


def write_card(root: Path, manifest: Manifest, name: str) -> Path:
    """Write the card of the dataset in `root`, which will be known as `name`; returns its path."""
    path = root / CARD
    partial = path.with_name(path.name + ".partial")
    partial.write_text(dataset_card(manifest, name), encoding="utf-8")
    partial.replace(path)
    return path


def dataset_card(manifest: Manifest, name: str) -> str:
    """The whole card, Markdown with its front matter."""
    extra = manifest.model_extra or {}
    parts = [
        _front_matter(manifest, name),
        f"# {name}\n\n{_summary(manifest)}",
        "## How to read it\n\n" + how_to_read(manifest, name),
        "## What came in and what stayed\n\n" + _totals(manifest),
        _steps(manifest),
        _resources(manifest, extra),
        "## How it was made\n\n" + _recipe(manifest, extra),
        _divergences(manifest),
        "## Sources\n\n" + _sources(manifest),
        "## Versions and seeds\n\n" + _provenance(manifest, extra),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(manifest: Manifest, name: str) -> str:
    licence = manifest.licence.lower().replace(" ", "-")
    known = {"not-stated": "unknown"}.get(licence, licence if licence in LICENCES.split() else "other")
    tags = ["isoflop", "pretraining", "tokenized"]
    fields: dict[str, Any] = {"pretty_name": name, "license": known}
    if known == "other":
        fields["license_name"] = licence[:100]
    languages = find(manifest.pipeline, "languages", "absent")
    if languages is None or isinstance(languages, list | tuple):
        fields["language"] = list(languages) if languages else ["multilingual"]
    fields |= {
        "task_categories": ["text-generation"],
        "size_categories": [size_category(manifest.total_documents)],
        "tags": tags,
    }
    return f"---\n{yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)}---"


def size_category(documents: int) -> str:
    """The hub's name for a number of rows: `1K<n<10K`."""
    bounds = [(10**3, "1K"), (10**4, "10K"), (10**5, "100K"), (10**6, "1M"), (10**7, "10M"), (10**8, "100M")]
    bounds += [(10**9, "1B"), (10**10, "10B"), (10**11, "100B"), (10**12, "1T")]
    below = ""
    for bound, label in bounds:
        if documents < bound:
            return f"{below}<n<{label}" if below else f"n<{label}"
        below = label
    return f"n>{below}"


def _summary(manifest: Manifest) -> str:
    tokenizer = manifest.tokenizer
    return (
        f"{manifest.total_tokens:,} tokens in {manifest.total_documents:,} documents, for pretraining "
        f"language models. Tokenizer {tokenizer.name} ({tokenizer.vocab_size:,} ids); every document ends "
        f"with token {tokenizer.eos_id}; documents are shuffled. Licence: {manifest.licence}."
    )


def _totals(manifest: Manifest) -> str:
    """Documents, bytes, characters and tokens of the whole, in and out."""
    extra, stages = manifest.model_extra or {}, manifest.stages
    documents_in = stages[0].documents_in if stages else None
    sizes = [source.get("bytes") for source in manifest.sources if isinstance(source, Mapping)]
    bytes_in = sum(size for size in sizes if size) if sizes and all(sizes) else None
    lengths = [length for stage in stages if (length := _extra(stage, "characters_out"))]
    per_token = lengths[-1] / manifest.total_tokens if lengths else None
    about = f"about {lengths[0] / per_token:,.0f}" if per_token else "–"
    rows = [
        ("documents", _number(documents_in), _number(manifest.total_documents)),
        ("bytes: the source files, the text that stays", _number(bytes_in), _number(extra.get("text_bytes"))),
        ("characters of extracted text", *(_number(lengths[i]) if lengths else "–" for i in (0, -1))),
        ("tokens", about, _number(manifest.total_tokens)),
    ]
    note = f"\n\n{extra['bytes_per_token']:.3f} bytes a token" if "bytes_per_token" in extra else ""
    if note and per_token:
        note += "; what was dropped was never tokenized, so its tokens are its characters by the same ratio"
    return table(("", "in", "out"), rows) + (f"{note}." if note else "")


def _steps(manifest: Manifest) -> str:
    """Every step's counts and the reasons for which it dropped."""
    if not manifest.stages:
        return ""
    sizes = any(_extra(stage, "characters_out") is not None for stage in manifest.stages)
    rows = []
    for stage in manifest.stages:
        reasons = sorted(stage.dropped.items(), key=lambda item: (-item[1], item[0]))
        told = ", ".join(f"{reason} {count:,}" for reason, count in reasons) or "–"
        row = [stage.name, f"{stage.documents_in:,}", f"{stage.documents_out:,}"]
        if sizes:
            row.append(_number(_extra(stage, "characters_out")))
        rows.append((*row, told))
    head = ["step", "documents in", "out", *(["characters out"] if sizes else []), "dropped, and why"]
    return "### Step by step\n\n" + table(head, rows)


def _resources(manifest: Manifest, extra: Mapping[str, Any]) -> str:
    """CPU time and memory of each stage, an array of tasks of their own."""
    work = extra.get("work") or []
    if not work:
        return ""
    rows = [
        (w["stage"], f"{w['tasks']:,}", _seconds(w["cpu_seconds"]), _memory(w["peak_memory_bytes"]))
        for w in work
    ]
    seconds, peak = sum(w["cpu_seconds"] for w in work), max(w["peak_memory_bytes"] for w in work)
    rows.append(("all", "", _seconds(seconds), _memory(peak)))
    text = "CPU time is of all tasks together; memory is the highest of any one task's process."
    head = ("stage", "tasks", "CPU time", "peak memory of a task")
    return f"### What it cost\n\n{table(head, rows)}\n\n{text}"


def _recipe(manifest: Manifest, extra: Mapping[str, Any]) -> str:
    """The profile with every threshold, and the models that decided."""
    lines = []
    chosen = manifest.pipeline.get("pipeline", manifest.pipeline)
    names = [(key, find(chosen, key, "")) for key in ("profile", "name")]
    told = ", ".join(f"{key.replace('name', 'recipe')} `{value}`" for key, value in names if value)
    told = told[:1].upper() + told[1:] or "The pipeline"
    lines.append(f"{told}; the whole configuration:")
    dumped = yaml.safe_dump(manifest.pipeline, sort_keys=False, allow_unicode=True, width=100)
    lines.append(f"```yaml\n{dumped}```")
    for key, what in (("language_model", "Language model"), ("quality_classifier", "Quality classifier")):
        if extra.get(key):
            lines.append(f"{what}: {_told(extra[key])}.")
    tokenizer = manifest.tokenizer
    lines.append(
        f"Tokenizer: {_told(tokenizer.model_dump())}. It stands beside the tokens as `tokenizer.json`."
    )
    return "\n\n".join(lines)


def _divergences(manifest: Manifest) -> str:
    """Where FineWeb's paper and its published code differ, and which this dataset follows."""
    rows = [(what, str(paper), str(code), used) for what, paper, code, used in divergences(manifest.pipeline)]
    if not rows:
        return ""
    text = "FineWeb's paper (Penedo et al. 2024) and its published code differ in three places."
    head = ("", "paper", "code", "this dataset")
    return f"### Paper or code\n\n{text}\n\n{table(head, rows)}"


def divergences(pipeline: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any, str]]:
    """(what, the paper's value, the code's, this pipeline's and whose it is) of each rule that it has."""
    quality = find(pipeline, "gopher_quality", None) or {}
    rules: list[tuple[str, Any, Any, Any]] = [
        ("`char_duplicates_ratio`", 0.1, 0.01, find(pipeline, "char_duplicates_ratio", "absent")),
        ("`languages` kept", ["en"], None, find(pipeline, "languages", "absent")),
        (
            "words of Gopher's alphabetic rule",
            "whitespace",
            "spacy",
            quality.get("words", "absent") if find(pipeline, "fineweb", None) else "absent",
        ),
    ]
    for what, paper, code, used in rules:
        if used == "absent":
            continue
        value = list(used) if isinstance(used, tuple) else used
        whose = "paper" if value == paper else "code" if value == code else "neither"
        yield what, _plain(paper), _plain(code), f"{_plain(value)} ({whose})"


def _sources(manifest: Manifest) -> str:
    """What went in, with licence and hash where they are known."""
    given = [source if isinstance(source, Mapping) else {"name": source} for source in manifest.sources]
    keys = list(dict.fromkeys(key for source in given for key in source))
    rows = [tuple(_told(source.get(key, "–")) for key in keys) for source in given[:MOST_SOURCES]]
    more = len(given) - len(rows)
    rest = f"\n\nand {more:,} more, in `manifest.json`." if more else ""
    return f"Licence: {manifest.licence}.\n\n{table(keys, rows)}{rest}"


def _provenance(manifest: Manifest, extra: Mapping[str, Any]) -> str:
    rows = [("seed of the documents' order", _told(extra.get("seed", "–")))]
    minhash = find(manifest.pipeline, "minhash", None)
    if isinstance(minhash, Mapping) and "seed" in minhash:
        rows.append(("seed of MinHash", str(minhash["seed"])))
    rows += [(f"`{name}`", str(version)) for name, version in (extra.get("versions") or {}).items()]
    for key in ("recipe_sha256", "code_sha256", "inputs_sha256", "fingerprint"):
        if key in extra:
            rows.append((key.replace("_sha256", ", SHA-256"), f"`{extra[key]}`"))
    rows.append(("content, SHA-256", f"`{manifest.content_sha256}`"))
    return table(("", ""), rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; what would end a cell is written otherwise."""
    cells = [list(head), ["---"] * len(head), *map(list, rows)]
    return "\n".join("| " + " | ".join(map(_cell, row)) + " |" for row in cells)


def find(tree: Any, key: str, default: Any) -> Any:
    """The first value of `key` anywhere in a tree of mappings, breadth first."""
    level = [tree]
    while level:
        for branch in level:
            if isinstance(branch, Mapping) and key in branch:
                return branch[key]
        level = [leaf for branch in level if isinstance(branch, Mapping) for leaf in branch.values()]
    return default


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def _plain(value: Any) -> str:
    if value is None:
        return "every one"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_told(item)}" for key, item in value.items())
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _extra(stage: StageRecord, key: str) -> Any:
    return (stage.model_extra or {}).get(key)


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int | float) else "–"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f} s"


def _memory(value: float | None) -> str:
    return "–" if value is None else f"{value / 2**20:,.0f} MiB"
