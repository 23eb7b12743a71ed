"""A fastText model of two labels as one number for each feature, mapped and shared by all workers.

fastText averages its features' vectors and takes the softmax of two products with them: the difference of
the two is the average of one number for each feature, the product of its vector with the difference of the
labels' vectors. A model of 0.8 GB, which each worker would hold, becomes 8 MB, and words and n-grams of a
document are hashed all at once. Features and hashes are fastText 0.9.2's, bit for bit (its dictionary.cc).
"""

import json
import math
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from isoflop.curate.filters.sorted_hashes import Hashes, mapped, save

FILES = ("words", "word_weights", "bucket_weights")
END = b"</s>"  # fastText's word for the end of a line
BLANK = np.isin(np.arange(256), list(b" \n\r\t\v\f\0"))
FNV_32 = np.uint32(2166136261), np.uint32(16777619)
FNV_64 = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
NEXT_WORD = np.uint64(116049371)
ADDED = 1e-5  # to every probability, by the logarithm that fastText's predict takes
TOGETHER = 64  # bytes of a word that are hashed for all words at once


def is_linear(model: Any) -> bool:
    """Whether `model` has two labels, whole words and the plain softmax, so that it can be flattened."""
    from fasttext.FastText import loss_name

    args = model.f.getArgs()
    plain = args.loss == loss_name.softmax and args.maxn == 0 and not model.is_quantized()
    return plain and len(model.get_labels()) == 2


def flatten(model: Any, label: str, folder: Path) -> None:
    """Write P(`label`) of `model`, which `is_linear`, into `folder`."""
    args, labels = model.f.getArgs(), model.get_labels()
    outputs = model.get_output_matrix()
    chosen = labels.index(label)
    weights = model.get_input_matrix() @ (outputs[chosen] - outputs[1 - chosen])
    words = [word.encode() for word in model.get_words()]
    keys = _hashed(b" ".join(words), END not in words)[0][: len(words)]
    order = np.argsort(keys)
    save(folder / "words.npy", keys[order])
    save(folder / "word_weights.npy", weights[: len(words)][order].astype(np.float32))
    save(folder / "bucket_weights.npy", weights[len(words) :].astype(np.float32))
    shape = {"word_ngrams": args.wordNgrams, "buckets": args.bucket}
    (folder / "linear.json").write_text(json.dumps(shape) + "\n")


class LinearScorer:
    """The probability that the flattened model in `folder` gives a line of text."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def arrays(self) -> tuple[Hashes, npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        words, word_weights, bucket_weights = (mapped(self.folder / f"{name}.npy") for name in FILES)
        return words, word_weights, bucket_weights

    @cached_property
    def shape(self) -> dict[str, int]:
        shape: dict[str, int] = json.loads((self.folder / "linear.json").read_text())
        return shape

    def score(self, line: str) -> float:
        """P(label), in single precision; 0 where the line has no feature, as fastText has no answer."""
        words, word_weights, bucket_weights = self.arrays
        keys, hashes = _hashed(line.encode("utf-8", "replace"), True)
        places = np.minimum(np.searchsorted(words, keys), len(words) - 1)
        known = places[words[places] == keys]
        total, count = word_weights[known].sum(dtype=np.float64), len(known)
        grams = hashes
        for size in range(2, self.shape["word_ngrams"] + 1):
            grams = grams[:-1] * NEXT_WORD + hashes[size - 1 :]
            total += bucket_weights[grams % np.uint64(self.shape["buckets"])].sum(dtype=np.float64)
            count += len(grams)
        if not count:
            return 0.0
        return float(np.float32(min(_sigmoid(total / count) + ADDED, 1.0)))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _hashed(line: bytes, end: bool) -> tuple[Hashes, Hashes]:
    """(64-bit key, fastText's hash) of every word of `line`, and of the end of the line if `end`.

    fastText's hash has 32 bits, kept in a signed integer that its n-grams widen to 64: so is it here.
    """
    data = np.frombuffer(line + (b" " + END if end else b"") + b" ", dtype=np.uint8)
    blank = BLANK[data]
    edges = np.flatnonzero(np.diff(blank.astype(np.int8), prepend=1, append=1))
    starts, ends = edges[::2], edges[1::2]
    order = np.argsort(starts - ends, kind="stable")  # the longest first: those with a j-th byte lead
    starts, lengths = starts[order], (ends - starts)[order]
    short = np.full(len(order), FNV_32[0])
    key = np.full(len(order), FNV_64[0])
    signed = data.view(np.int8).astype(np.int64)
    for j in range(min(int(lengths[0]), TOGETHER) if len(order) else 0):
        n = int(np.searchsorted(-lengths, -j, side="left"))
        at = starts[:n] + j
        short[:n] = (short[:n] ^ signed[at].astype(np.uint32)) * FNV_32[1]
        key[:n] = (key[:n] ^ data[at]) * FNV_64[1]
    for n in range(int(np.searchsorted(-lengths, -TOGETHER, side="left"))):
        tail = data[starts[n] + TOGETHER : starts[n] + lengths[n]].tobytes()
        short[n], key[n] = _tail(int(short[n]), int(key[n]), tail)
    back = np.empty(len(order), dtype=np.int64)
    back[order] = np.arange(len(order))
    return key[back], short[back].view(np.int32).astype(np.int64).view(np.uint64)


def _tail(short: int, key: int, tail: bytes) -> tuple[int, int]:
    """Both hashes, carried on over the rest of a long word."""
    for byte in tail:
        short = ((short ^ (byte if byte < 128 else byte | 0xFFFFFF00)) * 16777619) & 0xFFFFFFFF
        key = ((key ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return short, key
