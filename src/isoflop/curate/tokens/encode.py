"""Text to the bytes of its token ids, with a memory of words: what `tokenizers` gives, in half the time.

Byte-level BPE (Radford et al. 2019) splits text by one regular expression, and merges within each piece
alone: a piece has the same ids wherever it stands. Most pieces have been seen before. Here text is split by
the same expression in Python, and only new pieces go to the library.
"""

import json
from collections.abc import Iterable, Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np
import regex  # type: ignore[import-untyped]
from tokenizers import Tokenizer

PIECE = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
MOST_PIECES = 200_000
LONGEST_PIECE = 48  # characters, of one that is remembered: a longer one is hardly ever seen again
CONTEXTS = ("a{}a", "1{}1", "!{}!", " {} ")  # one piece where it is a letter, a number, neither, a space


class Encoder:
    """Encodes texts whole: nothing is cut, padded or added, and special tokens in them are text.

    Where the tokenizer is not byte-level BPE as GPT-2's, and where a text has a character that the Unicode
    tables of the two libraries class differently, the library does it all. The memory, of at most some
    `most_pieces` pieces or 40 MB, never changes an id.
    """

    def __init__(self, tokenizer: Tokenizer, dtype: str, most_pieces: int = MOST_PIECES) -> None:
        described = tokenizer.to_str()
        self._library = Tokenizer.from_str(described)
        self._library.encode_special_tokens = True
        self._library.no_truncation()
        self._library.no_padding()
        self.dtype, self.most_pieces = dtype, most_pieces
        self.remembers = splits_as_gpt2(json.loads(described))
        self._ids: dict[str, bytes] = {}
        self._seen: set[str] = set()
        self._foreign: set[str] = set()

    def encode(self, texts: Sequence[str]) -> list[bytes]:
        """The ids of each text, as `dtype`."""
        if not self.remembers:
            return self._by_library(texts)
        if len(self._ids) > self.most_pieces:
            self._ids.clear()
        split = [PIECE.findall(text) for text in texts]
        new = [piece for piece in set().union(*split) if piece not in self._ids]
        self._classify(new)
        self._ids.update(zip(new, self._by_library(new), strict=True))
        encoded = [b"".join(map(self._ids.__getitem__, pieces)) for pieces in split]
        for piece in new:
            if len(piece) > LONGEST_PIECE:
                del self._ids[piece]
        odd = (
            [i for i, text in enumerate(texts) if not self._foreign.isdisjoint(text)] if self._foreign else []
        )
        for i, ids in zip(odd, self._by_library([texts[i] for i in odd]), strict=True):
            encoded[i] = ids
        return encoded

    def _by_library(self, texts: Sequence[str]) -> list[bytes]:
        ids = [one.ids for one in self._library.encode_batch_fast(texts, add_special_tokens=False)]
        packed = np.fromiter(chain.from_iterable(ids), self.dtype).tobytes()
        ends = np.cumsum([0, *map(len, ids)]) * np.dtype(self.dtype).itemsize
        return [packed[start:end] for start, end in pairwise(ends.tolist())]

    def _classify(self, pieces: Iterable[str]) -> None:
        """Find the new characters among `pieces` of which the library thinks otherwise."""
        for character in set().union(*pieces) - self._seen:
            self._seen.add(character)
            if not self._agrees(character):
                self._foreign.add(character)

    def _agrees(self, character: str) -> bool:
        for context in CONTEXTS:
            text = context.format(character)
            theirs = [span for _, span in self._library.pre_tokenizer.pre_tokenize_str(text)]
            if theirs != [match.span() for match in PIECE.finditer(text)]:
                return False
        return True


def splits_as_gpt2(described: dict[str, Any]) -> bool:
    """Whether a tokenizer.json is byte-level BPE that splits by `PIECE` and does nothing else to text."""
    model, split = described["model"], described["pre_tokenizer"] or {}
    return (
        model["type"] == "BPE"
        and not model.get("dropout")
        and not model.get("continuing_subword_prefix")
        and not model.get("end_of_word_suffix")
        and described["normalizer"] is None
        and split.get("type") == "ByteLevel"
        and split.get("use_regex", True)
        and not split.get("add_prefix_space", True)
        and all(token["special"] for token in described["added_tokens"])
    )
