"""OLMo 2's spike filter: drop what repeats a short sequence of tokens many times in a row.

It stands in the stage that tokenizes, right before the writer, because what counts is the tokens that the
model will see. The tokens are left in metadata[TOKENS] for the writer: to encode twice would double the
stage's cost, the search itself adds about a hundredth.
"""

from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter
from tokenizers import Tokenizer

from isoflop.config.curation.repeated import RepeatedConfig

TOKENS = "token_ids"
BATCH_DOCUMENTS = 1000  # tokenized together
"""Where a document's tokens are kept in its metadata: uint32, without the end of text."""
Tokens = npt.NDArray[np.integer]


class DropRepeatedTokens(BaseFilter):
    """Drops, as `repeated_n_gram`, where 1 to `max_period` tokens stand `min_repeats` times in a row.

    `tokenizer` is the tokenizer.json that the writer uses; it may be made by an earlier stage.
    """

    name = "repeated tokens"

    def __init__(self, config: RepeatedConfig, tokenizer: Path) -> None:
        super().__init__(batch_size=BATCH_DOCUMENTS)
        self.config = config
        self.tokenizer_path = tokenizer

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Encodes as the token writer does: a special token's text is text, and nothing is cut or added."""
        tokenizer = Tokenizer.from_file(str(self.tokenizer_path))
        tokenizer.encode_special_tokens = True
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        return self.filter_batch([doc])[0]

    def filter_batch(self, batch: list[Document]) -> list[bool | tuple[bool, str]]:
        texts = [document.text for document in batch]
        encoded = self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        verdicts: list[bool | tuple[bool, str]] = []
        for document, encoding in zip(batch, encoded, strict=True):
            ids = np.array(encoding.ids, dtype=np.uint32)
            period = repeated_period(ids, self.config.max_period, self.config.min_repeats)
            if period is None:
                document.metadata[TOKENS] = ids
                verdicts.append(True)
            else:
                self.stat_update(f"period_{period}")
                verdicts.append((False, "repeated_n_gram"))
        return verdicts


def repeated_period(ids: Tokens, max_period: int, min_repeats: int) -> int | None:
    """The least length of a sequence in `ids` that stands `min_repeats` (2 or more) times in a row, or None.

    Copies of p tokens, k times in a row, are (k-1)·p successive places i with ids[i] = ids[i+p]. Of so many
    successive places one is a multiple of their number, so that a look at those few settles most documents.
    """
    for period in range(1, min(max_period, len(ids) // min_repeats) + 1):
        needed = (min_repeats - 1) * period
        behind, ahead = ids[:-period], ids[period:]
        few = behind[needed - 1 :: needed] == ahead[needed - 1 :: needed]
        if few.any() and longest_run(behind == ahead) >= needed:
            return period
    return None


def longest_run(flags: npt.NDArray[np.bool_]) -> int:
    """The length of the longest run of True."""
    ends = np.flatnonzero(~flags)
    return int(np.diff(ends, prepend=-1, append=len(flags)).max()) - 1
