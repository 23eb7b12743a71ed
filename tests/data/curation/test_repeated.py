"""The repeated n-gram drop finds exactly the documents that a naive search finds."""

from pathlib import Path

import numpy as np
import pytest
from curation import prose
from datatrove.data import Document
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from isoflop.config.curation.repeated import RepeatedConfig
from isoflop.curate.filters.repeated_tokens import TOKENS, DropRepeatedTokens, longest_run, repeated_period


def naive(ids: list[int], max_period: int, min_repeats: int) -> int | None:
    """The definition, place by place."""
    for period in range(1, max_period + 1):
        for start in range(len(ids) - period * min_repeats + 1):
            if ids[start : start + period] * min_repeats == ids[start : start + period * min_repeats]:
                return period
    return None


def test_as_the_definition_has_it() -> None:
    """Random sequences of few symbols, with and without planted repeats of every length, cut anywhere."""
    draw = np.random.default_rng(0)
    found: dict[int | None, int] = {}
    for _ in range(3000):
        max_period, min_repeats = int(draw.integers(1, 7)), int(draw.integers(2, 7))
        symbols = int(draw.integers(1, 5))
        unit = draw.integers(0, symbols, draw.integers(1, 9))
        copies = int(draw.integers(max(1, min_repeats - 1), min_repeats + 2))
        planted = np.tile(unit, copies)[: len(unit) * copies - int(draw.integers(0, 2))]
        before, after = (draw.integers(0, symbols + 1, draw.integers(0, 30)) for _ in range(2))
        ids = np.concatenate([before, planted, after]).astype(np.uint32)
        expected = naive(ids.tolist(), max_period, min_repeats)
        assert repeated_period(ids, max_period, min_repeats) == expected, (ids, max_period, min_repeats)
        found[expected] = found.get(expected, 0) + 1
    assert min(found.get(key, 0) for key in (None, 1, 2, 3, 4, 5, 6)) >= 8, found


@pytest.mark.parametrize("period", [1, 2, 7, 13])
def test_thirty_two_copies_of_thirteen_tokens(period: int) -> None:
    """OLMo 2's own numbers: 32 copies are found wherever they stand, one token less is not."""
    ids = np.arange(100, 3100)
    unit = np.arange(period)
    for start in (0, 777, 3000):
        whole = np.insert(ids, start, np.tile(unit, 32))
        assert repeated_period(whole, 13, 32) == period
        assert repeated_period(np.insert(ids, start, np.tile(unit, 32)[:-1]), 13, 32) is None
        assert repeated_period(whole, period - 1, 32) is None
    assert repeated_period(np.tile(np.arange(14), 100), 13, 32) is None
    assert repeated_period(np.array([], dtype=np.uint32), 13, 32) is None


def test_longest_run() -> None:
    for length in range(7):
        for bits in range(2**length):
            text = format(bits, f"0{length}b") if length else ""
            flags = np.array([c == "1" for c in text], dtype=bool)
            assert longest_run(flags) == max(map(len, text.split("0")))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator([prose(n) for n in range(20)], trainer)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    bpe.save(str(path))
    return path


def test_documents_are_dropped_and_counted(tokenizer: Path) -> None:
    good = [prose(n) for n in range(5)] + ["a, b, " * 20, "Say <|endoftext|> aloud."]
    bad = [f"{prose(6)} {'4ODg' * 200} {prose(7)}", "ab " * 300, "-" * 4000]
    for batch_documents in (1, 4, 1000):
        block = DropRepeatedTokens(RepeatedConfig(), tokenizer)
        block.batch_size = batch_documents
        texts = [*good[:3], bad[0], *good[3:], *bad[1:]]
        documents = [Document(text=text, id=str(n)) for n, text in enumerate(texts)]
        kept = list(block(iter(documents)))
        assert [document.text for document in kept] == good
        stats = block.stats.to_dict()["stats"]
        counts = {key: stats[key] for key in ("total", "forwarded", "dropped", "dropped_repeated_n_gram")}
        assert counts == {
            "total": 10,
            "forwarded": 7,
            "dropped": 3,
            "dropped_repeated_n_gram": 3,
        }
        assert sum(stats[key] for key in stats if key.startswith("period_")) == 3
        plain = Tokenizer.from_file(str(tokenizer))
        plain.encode_special_tokens = True
        for document in kept:
            assert document.metadata[TOKENS].tolist() == plain.encode(document.text).ids
            assert plain.decode(document.metadata[TOKENS], skip_special_tokens=False) == document.text
