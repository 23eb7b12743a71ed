"""Signatures are the published ones, bit for bit, and meet as often as the theory of bands says."""

import random

import numpy as np
import pytest
from curation import prose
from signals_reading import features, normalized

from isoflop.config.curation.signals import SignalsConfig, SignaturesConfig
from isoflop.curate.signals.annotate import Annotator
from isoflop.curate.signals.minhash import BLOCK, MinHasher, bands, bands_and_rows

PUBLISHED = "05d5098f1b8330b3f78316f4a3184c3f0913597e7a24ab93"


def brute_force(text: str, n_gram: int = 13, n_permutations: int = 128, seed: int = 42) -> list[int]:
    """The least of (a·h + b mod 2^64) mod (2^61 - 1) mod 2^32, in Python's own integers."""
    prime = 2**61 - 1
    draw = np.random.RandomState(seed)
    minima = []
    for _ in range(n_permutations):
        a, b = (int(draw.randint(low, prime, dtype=np.uint64)) for low in (1, 0))
        minima.append(min((a * h + b) % 2**64 % prime % 2**32 for h in features(text, n_gram)))
    return minima


@pytest.mark.parametrize("words", [13, 14, 60, 2 * BLOCK + 12, 2 * BLOCK + 13])
def test_a_signature_is_the_definition_s(words: int) -> None:
    text = " ".join(prose(words, words=words).split()[:words]) + " É ß"
    minima = MinHasher().minima(normalized(text).split())
    assert minima is not None
    assert minima.tolist() == brute_force(text)


def test_a_published_signature() -> None:
    """RedPajama v2's own code at its commit 6d2cee9 gives this for the thirteen words a … m, seed 42."""
    row = Annotator(SignalsConfig()).signals("a b c d e f g h i j k l m")
    assert row["minhash_signature_0.9"][0].hex()[:48] == PUBLISHED
    assert len(row["minhash_signature_0.7"]) == 14
    assert {len(band) for band in row["minhash_signature_0.7"]} == {4 * 9}


def test_other_shapes_are_read() -> None:
    text = prose(3)
    shape = SignaturesConfig(similarities=(0.6,), n_gram=5, n_permutations=32, seed=7)
    row = Annotator(SignalsConfig(signatures=shape)).signals(text)
    n_bands, n_rows = bands_and_rows(0.6, 32)
    expected = np.array(brute_force(text, 5, 32, 7), dtype=">u4")[: n_bands * n_rows].reshape(n_bands, -1)
    assert row["minhash_signature_0.6"] == [band.tobytes() for band in expected]


def test_a_text_shorter_than_a_feature_has_no_signature() -> None:
    row = Annotator(SignalsConfig()).signals("a b c d e f g h i j k, - l")
    assert row["rps_doc_word_count"] == 12
    assert all(row[f"minhash_signature_{s}"] is None for s in (0.7, 0.8, 0.9, 1.0))


@pytest.mark.parametrize(("similarity", "n"), [(0.7, 128), (0.8, 128), (0.9, 128), (1.0, 128), (0.75, 40)])
def test_bands_minimize_the_areas_of_error(similarity: float, n: int) -> None:
    """Against numerical integration over every shape near the chosen one, and the published four."""

    def error(b: int, r: int) -> float:
        below, above = np.linspace(0, similarity, 2001), np.linspace(similarity, 1, 2001)
        met = np.trapezoid(1 - (1 - below**r) ** b, below)
        return float(met + np.trapezoid((1 - above**r) ** b, above))

    chosen = bands_and_rows(similarity, n)
    shapes = [(b, r) for b in range(1, min(n, 24) + 1) for r in range(1, n // b + 1)]
    assert error(*chosen) <= min(error(*shape) for shape in shapes) + 1e-6
    published = {0.7: (14, 9), 0.8: (9, 13), 0.9: (5, 25), 1.0: (1, 128)}
    assert n != 128 or chosen == published[similarity]


def test_documents_meet_as_often_as_their_similarity_says() -> None:
    """Of planted pairs, those with a band in common are 1 - (1 - s^r)^b of them, within four deviations."""
    draw = random.Random(1)
    hasher = MinHasher(n_gram=1, n_permutations=128)
    expected = variance = met = 0.0
    for _ in range(400):
        common, apart = draw.randint(60, 90), 15
        names = [f"w{draw.random()}" for _ in range(common + 2 * apart)]
        one, other = names[: common + apart], names[:common] + names[common + apart :]
        first, second = hasher.minima(one), hasher.minima(other)
        assert first is not None
        assert second is not None
        met += bool(set(enumerate(bands(first, 0.7))) & set(enumerate(bands(second, 0.7))))
        p = 1 - (1 - (common / len(names)) ** 9) ** 14
        expected, variance = expected + p, variance + p * (1 - p)
    assert abs(met - expected) < 4 * variance**0.5
    assert 100 < met < 390
