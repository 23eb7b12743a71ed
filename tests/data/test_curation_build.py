"""Text in, token dataset out: what goes in comes out, each document once, on any number of workers."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from curation import config_of, corpus, curate, edited, prose, texts_of, tokens_of, write_jsonl
from datatrove.utils.dataset import DatatroveFileDataset
from tokenizers import Tokenizer, models, pre_tokenizers

from isoflop.config.base import ConfigError
from isoflop.data.manifest import Manifest, file_sha256, read_manifest

STRANGE = [
    "def f(x):\n    if x:\n\treturn {'a': 1}\n\n\n",
    "naïve café — 日本語, Ελληνικά, עברית 🧪 \u0301combining",
    "an end of text <|endoftext|> in the middle, and at the end<|endoftext|>",
    "  blanks before and after  ",
    "\x00control\x07 characters\r\nand line ends",
    "x",
]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A dataset of everything that came in, strange texts among it."""
    folder = tmp_path_factory.mktemp("plain")
    texts = [*STRANGE, *(prose(seed) for seed in range(40))]
    curate(corpus(folder / "in", texts), folder / "out", "pipeline=none")
    return folder / "out", texts


def test_decoding_gives_back_the_text(plain: tuple[Path, list[str]]) -> None:
    root, texts = plain
    assert sorted(texts_of(root)) == sorted(texts)
    assert texts_of(root) != texts, "not shuffled"


def test_every_document_ends_with_the_one_end_of_text(plain: tuple[Path, list[str]]) -> None:
    root, texts = plain
    manifest = read_manifest(root)
    documents = tokens_of(root)
    assert len(documents) == len(texts) == manifest.total_documents
    assert sum(map(len, documents)) == manifest.total_tokens
    for tokens in documents:
        assert np.flatnonzero(tokens == manifest.tokenizer.eos_id).tolist() == [len(tokens) - 1]


def test_datatroves_own_dataset_reads_the_same_tokens(plain: tuple[Path, list[str]]) -> None:
    root, _ = plain
    shard = read_manifest(root).shards[0].file
    theirs = DatatroveFileDataset(str(root / shard), seq_len=63, token_size=2)
    ours = np.fromfile(root / shard, dtype="<u2").astype(np.int64)
    for item in (0, 3, len(theirs) - 1):
        assert theirs[item]["input_ids"].tolist() == ours[item * 64 : (item + 1) * 64].tolist()


def test_manifest_describes_the_tokens(plain: tuple[Path, list[str]]) -> None:
    root, texts = plain
    manifest = read_manifest(root)
    counts = Counter(token for tokens in tokens_of(root) for token in tokens.tolist())
    total = sum(counts.values())
    entropy = math.log(total) - sum(n * math.log(n) for n in counts.values()) / total
    extra = manifest.model_extra or {}
    assert extra["unigram_entropy_nats"] == pytest.approx(entropy, rel=1e-12)
    assert extra["bytes_per_token"] == sum(len(text.encode()) for text in texts) / total
    assert manifest.tokenizer.sha256 == file_sha256(root / "tokenizer.json")
    assert [shard.sha256 for shard in manifest.shards] == [
        file_sha256(root / s.file) for s in manifest.shards
    ]
    assert sorted(path.name for path in root.iterdir()) == sorted(
        [
            "DATASET_CARD.md",
            "kept_ids.npy",
            "manifest.json",
            "samples",
            "tokenizer.json",
            *(n for s in manifest.shards for n in (s.file, f"{s.file}.index")),
        ]
    )


def test_workers_do_not_change_the_content(tmp_path: Path) -> None:
    texts = [prose(seed) for seed in range(60)]
    source = corpus(tmp_path / "in", [*texts, *(edited(text, 1) for text in texts[::3])], files=5)
    overrides = ("pipeline.language=null",)
    one = curate(source, tmp_path / "one", *overrides, "data.workers=1")
    three = curate(source, tmp_path / "three", *overrides, "data.workers=3")
    assert one.content_sha256 == three.content_sha256
    assert read_manifest(tmp_path / "one").stages[0].documents_in == 80


def test_seed_is_the_order_and_nothing_else(tmp_path: Path) -> None:
    source = corpus(tmp_path / "in", [prose(seed) for seed in range(30)])
    for seed in (0, 1):
        curate(source, tmp_path / str(seed), "pipeline=none", f"seed={seed}")
    first, second = texts_of(tmp_path / "0"), texts_of(tmp_path / "1")
    assert first != second
    assert sorted(first) == sorted(second)


def test_shards_hold_the_tokens_they_may(tmp_path: Path) -> None:
    texts = [prose(seed) for seed in range(30)]
    manifest = curate(
        corpus(tmp_path / "in", texts), tmp_path / "out", "pipeline=none", "data.shard_tokens=2000"
    )
    longest = max(map(len, tokens_of(tmp_path / "out")))
    assert len(manifest.shards) > 2
    assert all(shard.tokens < 2000 + longest for shard in manifest.shards)
    assert sorted(texts_of(tmp_path / "out")) == sorted(texts)


def test_planted_near_duplicates_go_and_originals_stay(tmp_path: Path) -> None:
    originals = [prose(seed, words=300) for seed in range(40)]
    copies = [edited(text, seed, 0.01) for seed, text in enumerate(originals[:15])]
    source = corpus(tmp_path / "in", [*originals, *copies], files=3)
    manifest = curate(source, tmp_path / "out", "pipeline.language=null", "pipeline.pii=null")
    dedup = stage(manifest, "minhash")
    assert (dedup.documents_in, dedup.documents_out, dedup.dropped) == (55, 40, {"near_duplicate": 15})
    kept = Counter(texts_of(tmp_path / "out"))
    assert all(kept[text] == 1 for text in originals[15:])
    assert all(kept[a] + kept[b] == 1 for a, b in zip(originals[:15], copies, strict=True))


def test_a_tokenizer_of_ones_own(tmp_path: Path) -> None:
    """Over 65,536 ids need four bytes; what its file says of truncation is not obeyed."""
    vocabulary = {f"w{n}": n for n in range(70_000)} | {"<eos>": 70_000, "<unk>": 70_001}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.enable_truncation(5)
    tokenizer.save(str(tmp_path / "own.json"))
    text = " ".join(f"w{n}" for n in range(69_000, 69_400))
    source = write_jsonl(tmp_path / "in.jsonl", [text])
    own = (f"tokenizer.path={tmp_path}/own.json", "tokenizer.eos_token='<eos>'")
    manifest = curate(source, tmp_path / "out", "pipeline=none", *own)
    assert manifest.dtype == "uint32"
    assert manifest.tokenizer.vocab_size == 70_002
    assert tokens_of(tmp_path / "out")[0].tolist() == [*range(69_000, 69_400), 70_000]
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (tmp_path / "own.json").read_bytes()


def test_trained_vocabulary_is_of_the_size_asked_for(tmp_path: Path) -> None:
    source = corpus(tmp_path / "in", [prose(seed) for seed in range(20)])
    manifest = curate(source, tmp_path / "out", "pipeline=none", "tokenizer.vocab_size=300")
    assert manifest.tokenizer.vocab_size == 300
    assert Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json")).get_vocab_size() == 300


def test_faults_of_a_curation_are_told_at_once() -> None:
    wrong = ("tokenizer.vocab_size=100", "pipeline.gopher_quality.min_doc_words=200000", "data.workers=0")
    with pytest.raises(ConfigError) as caught:
        config_of(Path("x"), Path("y"), *wrong)
    assert {fault.key for fault in caught.value.faults} == {
        "tokenizer.vocab_size",
        "pipeline.gopher_quality.min_doc_words",
        "data.workers",
    }


def stage(manifest: Manifest, name: str) -> object:
    return next(record for record in manifest.stages if record.name == name)
