"""The quality classifier learns what there is to learn, and keeps exactly what it should."""

import json
import random
from pathlib import Path

import fasttext
import numpy as np
import pytest
from datatrove.data import Document
from datatrove.pipeline.filters import FastTextClassifierFilter

from isoflop.config.base import UserError
from isoflop.config.curation.classifier import ClassifierConfig, classifier_faults
from isoflop.curate.quality.classifier import (
    MakeClassifier,
    _zeroed_memory,
    binary_metrics,
    load_model,
    one_line,
    score_line,
)
from isoflop.curate.quality.linear_scorer import LinearScorer
from isoflop.curate.quality.selection import FindThreshold, KeepQuality, ScoreDocuments, kth_largest

GOOD = ["proof", "lemma", "theorem", "energy", "entropy", "cell", "enzyme", "planet", "treaty", "verse"]
PLAIN = ["shop", "sale", "click", "menu", "offer", "cart", "login", "cheap", "deal", "coupon"]
BOTH = ["the", "of", "and", "to", "that", "is", "on", "with", "for", "page", "text", "line", "word"]
SMALL = {"dim": 8, "buckets": 2000, "learning_rate": 0.5}


def page(words: list[str], draw: random.Random) -> str:
    """Mostly common words, and a few of the topic's own."""
    return "\n".join(" ".join(draw.choices(BOTH, k=8) + draw.choices(words, k=2)) for _ in range(4))


def pages(words: list[str], count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [page(words, draw) for _ in range(count)]


def write(path: Path, texts: list[str], key: str = "text") -> str:
    path.write_text("".join(json.dumps({key: text}) + "\n" for text in texts))
    return str(path)


def config_of(
    folder: Path, positives: list[str], negatives: list[str], **settings: object
) -> ClassifierConfig:
    folder.mkdir(parents=True, exist_ok=True)
    sets = {
        "positives": [write(folder / "p.jsonl", positives)],
        "negatives": [write(folder / "n.jsonl", negatives)],
    }
    training = SMALL | settings.pop("training", {})
    return ClassifierConfig(**sets, training=training, **({"threshold": 0.5} | settings))


def trained(config: ClassifierConfig, folder: Path) -> dict[str, float]:
    MakeClassifier(config, folder).run()
    return json.loads((folder / "classifier.json").read_text())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    trained(config_of(folder / "in", pages(GOOD, 200, 1), pages(PLAIN, 200, 2)), folder)
    return folder / "classifier.bin"


def scored(
    documents: list[str], config: ClassifierConfig, folder: Path, scores: Path | None = None, rank: int = 0
) -> list[Document]:
    step = ScoreDocuments(config, folder, scores)
    return list(step((Document(text=text, id=str(n)) for n, text in enumerate(documents)), rank))


def test_two_topics_are_told_apart_and_shuffled_ones_are_not(tmp_path: Path) -> None:
    """The area under the curve is near 1 where the sets differ, and near a half where chance named them."""
    good, plain = pages(GOOD, 300, 3), pages(PLAIN, 300, 4)
    apart = trained(
        config_of(tmp_path / "a", good, plain, training={"holdout_fraction": 0.3}), tmp_path / "a"
    )
    mixed = [*good, *plain]
    random.Random(5).shuffle(mixed)
    half = config_of(tmp_path / "b", mixed[:300], mixed[300:], training={"holdout_fraction": 0.3})
    by_chance = trained(half, tmp_path / "b")
    assert min(apart[key] for key in ("auc", "precision", "recall", "f1")) > 0.99
    assert 0.35 < by_chance["auc"] < 0.65
    held_out = apart["positives_held_out"] + apart["negatives_held_out"]
    assert held_out + apart["positives_trained"] + apart["negatives_trained"] == 600
    assert 130 <= held_out <= 230


def test_same_sets_same_bytes(tmp_path: Path) -> None:
    """Twice trained, bit for bit one model, whatever the memory held before; another seed is another."""
    good, plain = pages(GOOD, 60, 6), pages(PLAIN, 60, 7)
    models = []
    for number, seed in enumerate((1, 1, 2)):
        littered = [np.full(size, number - 0.5) for size in range(1000, 20_000, 100)]
        del littered
        folder = tmp_path / str(number)
        trained(config_of(folder, good, plain, training={"seed": seed}), folder)
        models.append((folder / "classifier.bin").read_bytes())
        assert not list(folder.glob("*.tmp"))
    assert models[0] == models[1] != models[2]


def test_copies_are_held_out_together(tmp_path: Path) -> None:
    """A text that comes fifty times is trained on or measured with, never both."""
    good, plain = pages(GOOD, 8, 8) * 50, pages(PLAIN, 8, 9) * 50
    report = trained(config_of(tmp_path, good, plain, training={"holdout_fraction": 0.4}), tmp_path)
    counts = [
        report[f"{name}_{part}"] for name in ("positives", "negatives") for part in ("trained", "held_out")
    ]
    assert all(count % 50 == 0 and count for count in counts)


def test_scores_are_fasttexts_own(model: Path, tmp_path: Path) -> None:
    """A given model: fastText's probabilities of the text with blanks for line ends, datatrove's verdicts."""
    config = ClassifierConfig(model=str(model), threshold=0.5)
    assert trained(config, tmp_path)["scorer"] == "linear"
    texts = [*pages(GOOD, 20, 10), *pages(PLAIN, 20, 11), *pages(GOOD + PLAIN, 40, 12), "", "日本語 ü"]
    loaded = load_model(model, "hq")
    documents = scored(texts, config, tmp_path)
    for document in documents:
        labels, scores = loaded.predict(" ".join(document.text.split("\n")), k=2)
        assert document.metadata["quality"] == pytest.approx(
            dict(zip(labels, scores, strict=True))["__label__hq"]
        )
    theirs = FastTextClassifierFilter(str(model), keep_labels=("hq", 0.5), newline_replacement=" ")
    theirs._model = loaded
    kept = KeepQuality(config)
    verdicts = [bool(kept.filter(document) is True) for document in documents]
    assert verdicts[:-2] == [theirs.filter(document) for document in documents[:-2]]  # it drops the empty one
    assert 20 < sum(verdicts) < 62


ODD = [
    "", " ", "\t", "a", "x" * 500, f"{'ü' * 80} lemma {'日' * 30}", "proof\x0blemma\x00cell\u00a0deal",
    "  the  of ", "theorem", "neverseen", "neverseen either", "deal " * 300, "\x85 \u2028", "é e\u0301 🙂",
    "lemma" + "\x01" * 70, " ".join(GOOD), " ".join(PLAIN),
]  # fmt: skip


@pytest.mark.parametrize(("word_ngrams", "buckets"), [(1, 10), (2, 7), (2, 997), (3, 20_000), (5, 100)])
def test_the_flattened_model_is_the_model(word_ngrams: int, buckets: int, tmp_path: Path) -> None:
    """One number for each feature gives what vectors of eight gave, from near 0 to near 1."""
    training = {"word_ngrams": word_ngrams, "buckets": buckets, "epochs": 40, "learning_rate": 1.0}
    report = trained(
        config_of(tmp_path, pages(GOOD, 60, 21), pages(PLAIN, 60, 22), training=training), tmp_path
    )
    assert report["scorer"] == "linear"
    loaded, flat = load_model(tmp_path / "classifier.bin", "hq"), LinearScorer(tmp_path)
    lines = [
        one_line(text) for text in [*pages(GOOD, 9, 23), *pages(PLAIN, 9, 24), *pages(GOOD + PLAIN, 30, 25)]
    ]
    lines += ODD + [f"{lines[0]} {odd}" for odd in ODD]
    theirs = [score_line(loaded, line, "__label__hq") for line in lines]
    assert [flat.score(line) for line in lines] == pytest.approx(theirs, abs=2e-6)
    assert min(theirs) < 0.2
    assert max(theirs) > 0.8


def test_other_models_score_as_they_are(tmp_path: Path) -> None:
    """Three labels, subwords or another loss are not one number a feature: fastText itself scores them."""
    texts = {"hq": pages(GOOD, 50, 26), "cc": pages(PLAIN, 50, 27), "other": pages(GOOD + PLAIN, 50, 28)}
    for name, labels, settings in (
        ("three", ("hq", "cc", "other"), {}),
        ("subwords", ("hq", "cc"), {"minn": 2, "maxn": 3}),
        ("ova", ("hq", "cc"), {"loss": "ova"}),
    ):
        lines = [f"__label__{label} {one_line(text)}\n" for label in labels for text in texts[label]]
        (tmp_path / "lines").write_text("".join(lines))
        shape = {"bucket": 20_000, "dim": 16, "lr": 0.5, "thread": 1, "verbose": 0}
        with _zeroed_memory():
            loaded = fasttext.train_supervised(input=str(tmp_path / "lines"), **shape, **settings)
        loaded.save_model(str(tmp_path / f"{name}.bin"))
        config = ClassifierConfig(model=str(tmp_path / f"{name}.bin"), threshold=0.5)
        assert trained(config, tmp_path / name)["scorer"] == "fasttext"
        for document in scored(texts["other"][:9], config, tmp_path / name):
            labels, scores = loaded.predict(document.text.replace("\n", " "), k=-1)
            expected = dict(zip(labels, scores, strict=True))["__label__hq"]
            assert document.metadata["quality"] == pytest.approx(min(expected, 1.0))


def test_labels_in_a_text_are_words(tmp_path: Path) -> None:
    """A page that names a label neither trains it nor loses a word by it."""
    injected = [f"__label__hq __label__new {text}" for text in pages(PLAIN, 100, 13)]
    folder = tmp_path / "m"
    trained(config_of(tmp_path / "in", pages(GOOD, 100, 14), injected), folder)
    loaded = load_model(folder / "classifier.bin", "hq")
    assert sorted(loaded.get_labels()) == ["__label__hq", "__label__not_hq"]
    config = ClassifierConfig(positives=["p"], negatives=["n"], threshold=0.5)
    assert all(document.metadata["quality"] < 0.5 for document in scored(injected[:20], config, folder))
    assert one_line(" a\n__label__b\r\nc\x0b </s> d ") == "a labelb c  s d"


@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.37, 0.5, 1.0])
def test_the_fraction_is_exact(fraction: float, tmp_path: Path, model: Path) -> None:
    """Over several tasks, one of them empty: the best of all, as a plain sort has them."""
    config = ClassifierConfig(model=str(model), top_fraction=fraction)
    texts = [*pages(GOOD, 40, 15), *pages(PLAIN, 40, 16), *pages(GOOD + PLAIN, 70, 17)]
    tasks = [texts[:50], [], texts[50:120], texts[120:]]
    documents = [
        d
        for rank, share in enumerate(tasks)
        for d in scored(share, config, model.parent, tmp_path / "scores", rank)
    ]
    FindThreshold(config, tmp_path / "scores", len(tasks), tmp_path / "threshold.json").run()
    keep = KeepQuality(config, tmp_path / "threshold.json")
    kept = [document.metadata["quality"] for document in keep(iter(documents))]
    best = sorted((document.metadata["quality"] for document in documents), reverse=True)
    wanted = max(1, round(fraction * 150))
    assert sorted(kept, reverse=True) == [score for score in best if score >= best[wanted - 1]]
    assert json.loads((tmp_path / "threshold.json").read_text())["kept"] == len(kept)
    stats = keep.stats.to_dict()["stats"]
    assert stats.get("dropped_low_quality", 0) == 150 - len(kept) == stats.get("dropped", 0)


def test_kth_largest_is_the_sorts(tmp_path: Path) -> None:
    """With ties, neighbours one bit apart, both ends of the range, and files of any length."""
    draw = np.random.default_rng(0)
    for trial in range(30):
        near = np.nextafter(np.float32(0.5), np.float32(draw.integers(0, 2)), dtype=np.float32)
        pool = np.concatenate([draw.random(40), [0.0, 1.0, 0.5, near, 1e-30]]).astype(np.float32)
        parts = [draw.choice(pool, draw.integers(0, 60)) for _ in range(3)] + [pool]
        paths = []
        for number, part in enumerate(parts):
            paths.append(tmp_path / f"{trial}-{number}.npy")
            np.save(paths[-1], part)
        everything = np.sort(np.concatenate(parts))[::-1]
        for k in {1, 2, len(everything), *draw.integers(1, len(everything), 5).tolist()}:
            assert kth_largest(paths, k) == everything[k - 1]


def test_metrics_by_counting_pairs() -> None:
    draw = np.random.default_rng(1)
    for _ in range(50):
        scores = draw.choice(np.linspace(0, 1, 7), 24)
        positive = np.concatenate([[True, False], draw.random(22) < 0.4])
        measured = binary_metrics(scores, positive)
        pairs = [(a > b) + (a == b) / 2 for a in scores[positive] for b in scores[~positive]]
        hits = sum(s >= 0.5 and p for s, p in zip(scores, positive, strict=True))
        assert measured["auc"] == pytest.approx(np.mean(pairs))
        assert measured["recall"] == pytest.approx(hits / positive.sum())
        assert measured["precision"] == pytest.approx(hits / max((scores >= 0.5).sum(), 1))
        parts = measured["precision"], measured["recall"]
        assert measured["f1"] == pytest.approx(2 * parts[0] * parts[1] / max(sum(parts), 1e-9))


def test_html_and_text_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "good"
    folder.mkdir()
    for number, text in enumerate(pages(GOOD, 30, 18)):
        html = f"<html><body><main><p>{text} end.</p></main><script>click()</script></body></html>"
        (folder / f"{number}.html").write_text(html)
    negatives = write(tmp_path / "n.jsonl", pages(PLAIN, 30, 19), key="content")
    training = SMALL | {"holdout_fraction": 0.3}
    config = ClassifierConfig(
        positives=[str(folder)], negatives=[negatives], text_key="content", training=training, threshold=0.5
    )
    report = trained(config, tmp_path / "m")
    assert report["positives_trained"] + report["positives_held_out"] == 30
    model = load_model(tmp_path / "m" / "classifier.bin", "hq")
    assert "lemma" in model.get_words()
    assert not [word for word in model.get_words() if "<" in word and word != "</s>"]


def test_mistakes_are_named(tmp_path: Path, model: Path) -> None:
    texts = pages(GOOD, 100, 20)
    with pytest.raises(UserError, match=r"pipeline\.classifier\.positives: .*nowhere does not exist"):
        MakeClassifier(ClassifierConfig(positives=[str(tmp_path / "nowhere")], threshold=0.5), tmp_path)
    with pytest.raises(UserError, match=r"pipeline\.classifier\.negatives: has no document to train on"):
        trained(config_of(tmp_path / "a", texts, []), tmp_path / "a")
    with pytest.raises(UserError, match=r"positives: has no document to measure on"):
        trained(
            config_of(tmp_path / "b", texts[:1], texts, training={"holdout_fraction": 0.001}), tmp_path / "b"
        )
    with pytest.raises(UserError, match="has no good, but"):
        load_model(model, "good")
    (tmp_path / "no.bin").write_bytes(b"no model at all")
    with pytest.raises(UserError, match="is no supervised fastText model"):
        load_model(tmp_path / "no.bin", "hq")
    with pytest.raises(UserError, match=r"absent.bin does not exist"):
        load_model(tmp_path / "absent.bin", "hq")
    with pytest.raises(UserError, match="no classifier was made here"):
        scored(texts, ClassifierConfig(model=str(model), threshold=0.5), tmp_path / "nothing")
    config = ClassifierConfig(model=str(model), top_fraction=0.5)
    with pytest.raises(UserError, match=r"left no scores: 00000\.npy"):
        FindThreshold(config, tmp_path, 1, tmp_path / "x").run()


def test_faults_between_the_keys() -> None:
    def keys(**settings: object) -> list[str]:
        return [fault.key for fault in classifier_faults(ClassifierConfig(**settings), "pipeline.classifier")]

    sets = {"positives": ("a",), "negatives": ("b",)}
    name = "pipeline.classifier"
    assert keys(**sets, threshold=0.5) == keys(model="m", top_fraction=0.1) == []
    assert keys(threshold=0.5) == [f"{name}.positives", f"{name}.negatives"]
    assert keys(**sets, model="m", threshold=0.5) == [f"{name}.model"]
    assert keys(**sets) == keys(**sets, threshold=0.5, top_fraction=0.1) == [f"{name}.threshold"]
