"""A memory of words changes no token: every text has the ids that the library gives it."""

import random
from pathlib import Path

import numpy as np
import pytest
import regex
from curation import prose
from datatrove.data import Document
from datatrove.pipeline.tokens import DocumentTokenizer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from isoflop.curate.tokens import encode
from isoflop.curate.tokens.encode import Encoder
from isoflop.curate.tokens.tokenizer import Tokenize

EOS = "<|endoftext|>"
WHITE = " \t\n\r\x0b\x0c\x1c\x1f\x85\xa0\u1680\u180e\u2003\u2028\u200b\u3000\ufeff"
POOL = (
    "aeIOstrv'dlm 0123 ٣ Ⅷ²½.,;:!?-_(){}<|>éßñüÆżжשلあ語한🙂👩‍💻ñ\x00\x7f"
    + WHITE
    + "\u0558\u208f\ua7ce\U000107bb"
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=[EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator([prose(seed) for seed in range(20)], trainer)
    made.encode_special_tokens = True
    return made


def strings(seed: int, n: int) -> list[str]:
    """Strings in which what splits text meets in every way, and prose between."""
    draw = random.Random(seed)
    odd = ["".join(draw.choices(POOL, k=draw.randint(0, 30))) for _ in range(n)]
    return [*odd, *(f"{prose(i)} it's we'll {odd[i]}\n\n" for i in range(20)), f"a {EOS} b", "x" * 5000, ""]


def ids(encoded: list[bytes]) -> list[list[int]]:
    return [np.frombuffer(one, "<u2").tolist() for one in encoded]


@pytest.mark.parametrize("most_pieces", [200_000, 3])
def test_every_text_has_the_librarys_ids(tokenizer: Tokenizer, most_pieces: int) -> None:
    encoder = Encoder(tokenizer, "<u2", most_pieces)
    assert encoder.remembers
    texts = strings(most_pieces, 3000)
    for start in range(0, len(texts), 100):
        part = texts[start : start + 100]
        assert ids(encoder.encode(part)) == [tokenizer.encode(text).ids for text in part]


def test_the_memory_has_a_bound(tokenizer: Tokenizer) -> None:
    encoder = Encoder(tokenizer, "<u2", most_pieces=10)
    encoder.encode(["a b c d e f g h i j k l m n o p", "x" * 100])
    assert len(encoder._ids) == 16
    encoder.encode(["z"])
    assert len(encoder._ids) == 1


def test_characters_that_the_libraries_class_differently(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where their Unicode tables are of other years: here one that takes e for a sign."""
    odd = (
        encode.PIECE.pattern.replace(r"\p{L}", "[^e\\P{L}]")
        .replace(r"\s\p", r"\s\p")
        .replace("[^\\s[^e\\P{L}]", "[^\\s\\p{L}")
    )
    monkeypatch.setattr(encode, "PIECE", regex.compile(odd.replace(r"| ?[^\s", r"| ?e| ?[^\s")))
    assert encode.PIECE.findall("the end") == ["th", "e", " e", "nd"]
    encoder = Encoder(tokenizer, "<u2")
    texts = ["the end of it", "not so", "one and the other", "bad luck"]
    assert ids(encoder.encode(texts)) == [tokenizer.encode(text).ids for text in texts]
    assert encoder._foreign == {"e"}


def test_other_tokenizers_are_left_to_the_library(tokenizer: Tokenizer) -> None:
    described = tokenizer.to_str()
    spaced, lower, split, whole, added = (Tokenizer.from_str(described) for _ in range(5))
    whole.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    spaced.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    lower.normalizer = normalizers.Lowercase()
    split.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    added.add_tokens(["the end"])
    for other in (spaced, lower, split, whole, added):
        other.encode_special_tokens = True
        encoder = Encoder(other, "<u2")
        texts = ["The end 1999", *strings(1, 50)]
        assert not encoder.remembers
        assert ids(encoder.encode(texts)) == [other.encode(text).ids for text in texts]


def test_the_files_are_datatroves(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    texts = [text for text in strings(2, 300) if EOS not in text]
    theirs = DocumentTokenizer(str(tmp_path / "theirs"), str(path), eos_token=EOS, seed=7)
    for step in (theirs, Tokenize(tmp_path / "ours", path, EOS, 7)):
        step.run(iter([Document(text=text, id=str(n)) for n, text in enumerate(texts)]), 0, 1)
    files = [
        {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("theirs", "ours")
    ]
    assert files[0] == files[1]
    assert len(files[0]) == 3
