"""The card says what the manifest says, and what it tells a reader to run does run."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import write_dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from isoflop.curate.card.page import dataset_card, divergences, size_category, table, write_card
from isoflop.curate.tokens.megatron import write_megatron
from isoflop.data.manifest import Manifest, read_manifest

TEXTS = ["a house by the river", "naïve — 日本語", "and a last one"]
PIPELINE = {
    "seed": 3,
    "pipeline": {
        "name": "fineweb-code",
        "language": {"languages": ["en", "de"], "language_threshold": 0.65},
        "gopher_quality": {"words": "spacy"},
        "fineweb": {"char_duplicates_ratio": 0.01, "words": "spacy"},
        "minhash": {"seed": 11},
    },
}
STAGES: list[dict[str, Any]] = [
    {
        "name": "read",
        "documents_in": 12_345,
        "documents_out": 12_000,
        "dropped": {"empty": 300, "a|pipe <b>": 45},
        "seconds": 1.5,
        "characters_out": 900_001,
    },
    {
        "name": "gopher quality",
        "documents_in": 12_000,
        "documents_out": 3,
        "dropped": {"short": 11_997},
        "seconds": 2.5,
        "characters_out": 1_234,
    },
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three documents in two shards, of bytes as tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({"<eos>": 0} | {c: n + 1 for n, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    documents = [[*tokenizer.encode(text).ids, 0] for text in TEXTS]
    made = tokenizer.to_str().encode()
    return write_dataset(
        tmp_path_factory.mktemp("sets") / "tiny", documents, [2, 1], vocab_size=257, tokenizer=made
    )


def described(root: Path, **more: Any) -> Manifest:
    plain = read_manifest(root).model_dump(mode="json")
    return Manifest.model_validate({**plain, "pipeline": PIPELINE, "stages": STAGES, **more})


def front(card: str) -> dict[str, Any]:
    (yaml_text,) = re.findall(r"\A---\n(.*?)\n---\n", card, re.DOTALL)
    read: dict[str, Any] = yaml.safe_load(yaml_text)
    return read


def rows(card: str) -> list[list[str]]:
    """The cells of every table's rows."""
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in card.splitlines()
        if line.startswith("|")
    ]


def test_what_it_says_to_run_runs(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    manifest = described(dataset)
    records = write_megatron(dataset, manifest.shards, manifest.dtype)
    card = write_card(dataset, described(dataset, megatron=records), "tiny").read_text()
    snippets = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(snippets) == 4
    monkeypatch.chdir(dataset.parent)
    results = []
    for snippet in snippets[:3]:
        names: dict[str, Any] = {}
        exec(snippet, names)
        results.append(names)
    ours, theirs, plain = results
    assert len(ours["tokens"]) == manifest.shards[0].tokens  # the window is no longer than the shard
    assert theirs["tokens"].tolist() == ours["tokens"].tolist()
    assert [Path(file.file_path).name for file in theirs["windows"].files] == [
        s.file for s in manifest.shards
    ]
    assert plain["text"] == TEXTS[0]
    (prefix,) = re.findall(r'IndexedDataset\("(.*?)"\)', snippets[3])
    assert Path(f"{prefix}.idx").is_file()
    assert Path(f"{prefix}.bin").is_file()


def test_counts_and_reasons_are_the_manifests(dataset: Path) -> None:
    work = [
        {"stage": "filter", "tasks": 1200, "cpu_seconds": 71.25, "peak_memory_bytes": 300 * 2**20},
        {"stage": "merge", "tasks": 1, "cpu_seconds": 2.0, "peak_memory_bytes": 2**20},
    ]
    sources = [{"path": "a", "bytes": 7_000}, {"path": "b", "bytes": 654}]
    more = {"bytes_per_token": 1.5, "text_bytes": 77, "work": work, "sources": sources}
    read = rows(dataset_card(described(dataset, **more), "tiny"))
    tokens = read_manifest(dataset).total_tokens
    assert ["documents", "12,345", "3"] in read
    assert ["bytes: the source files, the text that stays", "7,654", "77"] in read
    assert ["characters of extracted text", "900,001", "1,234"] in read
    assert ["tokens", f"about {900_001 / 1_234 * tokens:,.0f}", f"{tokens:,}"] in read
    assert ["read", "12,345", "12,000", "900,001", "empty 300, a\\|pipe &lt;b> 45"] in read
    assert ["gopher quality", "12,000", "3", "1,234", "short 11,997"] in read
    assert ["filter", "1,200", "71.2 s", "300 MiB"] in read
    assert ["all", "", "73.2 s", "300 MiB"] in read


def test_what_is_not_known_is_left_out(dataset: Path) -> None:
    """A manifest with the keys that must be there and no other."""
    card = dataset_card(read_manifest(dataset), "tiny")
    assert "Paper or code" not in card
    assert "Step by step" not in card
    assert "What it cost" not in card
    assert "None" not in card
    assert ["documents", "–", "3"] in rows(card)
    assert "language" not in front(card)


@pytest.mark.parametrize(
    ("licence", "front_matter"),
    [
        ("CC-BY-4.0", {"license": "cc-by-4.0"}),
        ("not stated", {"license": "unknown"}),
        ("mixed: see sources", {"license": "other", "license_name": "mixed:-see-sources"}),
    ],
)
def test_front_matter_is_the_hubs(dataset: Path, licence: str, front_matter: dict[str, str]) -> None:
    fields = front(dataset_card(described(dataset, licence=licence), "tiny"))
    assert front_matter.items() <= fields.items()
    assert ("license_name" in fields) == ("license_name" in front_matter)
    assert fields["language"] == ["en", "de"]
    assert fields["size_categories"] == ["n<1K"]


@pytest.mark.parametrize(
    ("documents", "category"),
    [
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (99_999_999, "10M<n<100M"),
        (10**12 - 1, "100B<n<1T"),
        (10**12, "n>1T"),
    ],
)
def test_size_categories(documents: int, category: str) -> None:
    assert size_category(documents) == category


@pytest.mark.parametrize(
    ("ratio", "languages", "words", "whose"),
    [
        (0.1, ["en"], "whitespace", ["paper"] * 3),
        (0.01, None, "spacy", ["code"] * 3),
        (0.05, ["fr"], "whitespace", ["neither", "neither", "paper"]),
    ],
)
def test_each_divergence_is_told(ratio: float, languages: Any, words: str, whose: list[str]) -> None:
    pipeline = {
        "filters": {"language": {"languages": languages}, "gopher_quality": {"words": words}},
        "fineweb": {"char_duplicates_ratio": ratio},
    }
    assert [re.findall(r"\((\w+)\)", used)[0] for *_, used in divergences(pipeline)] == whose


def test_sources_show_licence_and_hash(dataset: Path) -> None:
    known = {"path": "crawl/0.warc.gz", "sha256": "ab12", "licence": "CC0-1.0"}
    many = [known, "by hand", *({"path": f"{n}.jsonl"} for n in range(300))]
    card = dataset_card(described(dataset, sources=many), "tiny")
    read = rows(card)
    assert ["path", "sha256", "licence", "name"] in read
    assert ["crawl/0.warc.gz", "ab12", "CC0-1.0", "–"] in read
    assert ["–", "–", "–", "by hand"] in read
    assert "and 102 more" in card


def test_a_cell_cannot_break_its_table() -> None:
    assert table(("a",), [("x | y\nz",)]).splitlines()[-1] == "| x \\| y z |"
