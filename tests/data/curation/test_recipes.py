"""Every recipe and every part of one, from files to a dataset: what it drops is what was planted."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from curation import WORDS, corpus, curate, prose, texts_of, tokens_of, write_jsonl

from isoflop.config.base import ConfigError
from isoflop.curate.input.warc import write_pages
from isoflop.data.aside import read_records, sample_path
from isoflop.data.manifest import Manifest, StageRecord
from isoflop.data.tokens import TokenDataset

PLAIN = ("pipeline=none",)


def record(manifest: Manifest, name: str) -> StageRecord:
    (found,) = [stage for stage in manifest.stages if stage.name == name]
    return found


def html(text: str) -> str:
    paragraphs = "".join(f"<p>{part}</p>" for part in text.split("\n\n"))
    return f"<!DOCTYPE html><html><body><main><article>{paragraphs}</article></main></body></html>"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """WARC files of good pages, near copies, and one page that is no prose."""
    folder = tmp_path_factory.mktemp("crawl")
    texts = [prose(seed, words=220) for seed in range(30)]
    texts += [f"{text} And so it was." for text in texts[:6]]
    texts.append("\n\n".join(["buy now"] * 60))
    for number in range(2):
        named = [(f"http://site{i}.example/{i}", html(text)) for i, text in enumerate(texts)][number::2]
        write_pages(folder / f"{number}.warc.gz", named)
    return folder


RECIPES = {
    "fineweb-paper": ("minhash", {"near_duplicate": 6}),
    "gopher-only": ("minhash", {"near_duplicate": 6}),
    "dclm": ("refinedweb", None),
    "redpajama-gopher": ("duplicates", {"near_duplicate": 6}),
    "redpajama-c4": ("duplicates", {"near_duplicate": 6}),
    "redpajama-fineweb": ("duplicates", {"near_duplicate": 6}),
}


@pytest.mark.parametrize("profile", RECIPES)
def test_a_recipe_makes_a_dataset(pages: Path, tmp_path: Path, profile: str) -> None:
    """One that the training side opens and checks; its card and samples beside it; its counts add up."""
    manifest = curate(pages, tmp_path / "out", f"pipeline={profile}", *_open(profile), "data.megatron=true")
    step, dropped = RECIPES[profile]
    if dropped is not None:
        assert record(manifest, step).dropped == dropped
    for before, after in zip(manifest.stages, manifest.stages[1:], strict=False):
        assert before.documents_out == after.documents_in
    kept = set(texts_of(tmp_path / "out"))
    assert not any("buy now" in text for text in kept)
    assert len(kept) == manifest.total_documents == 30  # the copies are gone, or less their own sentence
    assert TokenDataset(tmp_path / "out").n_tokens == manifest.total_tokens
    dropped_by = {(stage.name, reason) for stage in manifest.stages for reason in stage.dropped}
    samples = list(read_records(sample_path(tmp_path / "out", "dropped")))
    told = {(sample["step"], sample["reason"]) for sample in samples}
    assert told == dropped_by
    card = (tmp_path / "out" / "DATASET_CARD.md").read_text()
    assert f"{manifest.total_tokens:,} tokens in 30 documents" in card
    assert (tmp_path / "out" / "megatron" / "000_tokens.bin").stat().st_size == 2 * manifest.total_tokens


def _open(profile: str) -> tuple[str, ...]:
    """Overrides that let this made-up English pass what asks for real English or for no words twice."""
    relaxed = ["pipeline.language=null"]
    if profile == "dclm":
        relaxed += ["pipeline.seen.ngram_words=6", "pipeline.seen.threshold=0.6", "data.tasks=1"]
    return tuple(relaxed)


def test_unwanted_addresses(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    lines = [
        {"text": prose(i), "url": f"http://{host}/page"} for i, host in enumerate(["good.org", "bad.org"])
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in [*lines, {"text": prose(9)}]))
    hosts = tmp_path / "hosts.txt"
    hosts.write_text("bad.org\n")
    lists = (
        f"pipeline.urls={{use_integrated_lists: false, extra_domains: [{hosts}], cache: {tmp_path / 'c'}}}"
    )
    manifest = curate(path, tmp_path / "out", *PLAIN, lists)
    assert record(manifest, "url").dropped == {"domain": 1}
    assert sorted(texts_of(tmp_path / "out")) == sorted([prose(0), prose(9)])


DCLM = ("pipeline=dclm", "pipeline.language=null", "pipeline.urls=null", "pipeline.seen=null")


@pytest.mark.parametrize(("by", "profile"), [("text", PLAIN), ("url", PLAIN), ("url", DCLM)])
def test_exact_duplicates_over_all_tasks(tmp_path: Path, by: str, profile: tuple[str, ...]) -> None:
    """The first one stays, whichever file the second is in."""
    for number in range(3):
        lines = [{"text": prose(i), "url": f"http://a.org/{i % 4}"} for i in (number, number + 1, number + 5)]
        path = tmp_path / "in" / f"{number}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    manifest = curate(
        tmp_path / "in", tmp_path / "out", *profile, f"pipeline.exact={{by: {by}}}", "data.tasks=3"
    )
    seeds = [0, 1, 5, 1, 2, 6, 2, 3, 7]
    stays = {"text": [0, 1, 2, 3, 5, 6, 7], "url": [0, 1, 2, 3]}[by]
    assert record(manifest, f"exact {by}").dropped == {f"same_{by}": len(seeds) - len(stays)}
    assert sorted(texts_of(tmp_path / "out")) == sorted(prose(seed) for seed in stays)


@pytest.mark.parametrize("profile", [PLAIN, ("pipeline=redpajama-gopher", "pipeline.language=null")])
def test_documents_that_hold_an_evaluation(tmp_path: Path, profile: tuple[str, ...]) -> None:
    item = " ".join(prose(50).split()[:20])
    texts = [prose(1), f"{prose(2)} {item.upper()} {prose(3)}", prose(4)]
    evaluation = write_jsonl(tmp_path / "exam.jsonl", [item])
    manifest = curate(
        corpus(tmp_path / "in", texts),
        tmp_path / "out",
        *profile,
        f"pipeline.decontaminate={{evaluations: [{evaluation}]}}",
    )
    assert record(manifest, "decontaminate").dropped == {"contaminated": 1}
    assert sorted(texts_of(tmp_path / "out")) == sorted([texts[0], texts[2]])


def test_tokens_that_repeat_without_end(tmp_path: Path) -> None:
    texts = [prose(1), f"{prose(2)}\n{'na ' * 100}", prose(3)]
    manifest = curate(corpus(tmp_path / "in", texts), tmp_path / "out", *PLAIN, "pipeline.repeated={}")
    plain = curate(corpus(tmp_path / "in", texts), tmp_path / "plain", *PLAIN)
    assert record(manifest, "repeated tokens").dropped == {"repeated_n_gram": 1}
    assert sorted(texts_of(tmp_path / "out")) == sorted([texts[0], texts[2]])
    encoded = {tuple(tokens.tolist()) for tokens in tokens_of(tmp_path / "plain")}
    assert {tuple(tokens.tolist()) for tokens in tokens_of(tmp_path / "out")} < encoded  # to the last token
    assert plain.total_documents == 3


def test_the_best_of_two_kinds(tmp_path: Path) -> None:
    """A classifier trained on two kinds of text keeps the one, by a threshold or by its share of the text."""
    draw = np.random.default_rng(0)
    kinds = {"good": WORDS[:40], "plain": WORDS[40:]}
    made: dict[str, Sequence[str]] = {
        kind: [" ".join(draw.choice(words, 60)) for _ in range(90)] for kind, words in kinds.items()
    }
    sets = {kind: write_jsonl(tmp_path / f"{kind}.jsonl", texts[:60]) for kind, texts in made.items()}
    source = corpus(tmp_path / "in", [*made["good"][60:70], *made["plain"][60:90]], files=3)
    base = f"positives: [{sets['good']}], negatives: [{sets['plain']}], training: {{dim: 8, buckets: 1000}}"
    for way in ("threshold: 0.5", "top_fraction: 0.25"):
        output = tmp_path / way.partition(":")[0]
        manifest = curate(source, output, *PLAIN, f"pipeline.classifier={{{base}, {way}}}")
        assert record(manifest, "quality").dropped == {"low_quality": 30}
        assert sorted(texts_of(output)) == sorted(made["good"][60:70])


def test_the_faults_of_a_recipe_are_told_together(tmp_path: Path) -> None:
    wrong: dict[str, Any] = {
        "pipeline=redpajama-gopher": (
            "pipeline.rules.word_count.at_lest=5",
            "unknown key; did you mean `at_least`",
        ),
        "pipeline=fineweb-edu": ("pipeline.classifier.top_fraction=0.1", "give files to train on"),
        "pipeline=dclm": ("pipeline.language.languages=[]", "keeps nothing"),
    }
    for profile, (override, told) in wrong.items():
        with pytest.raises(ConfigError, match=told):
            curate(tmp_path, tmp_path / "out", profile, f"+{override}" if "lest" in override else override)
