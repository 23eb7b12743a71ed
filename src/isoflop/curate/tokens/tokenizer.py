"""From text to token files: a tokenizer, and datatrove's token writer made exact about special tokens."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.tokens import DocumentTokenizer
from datatrove.pipeline.tokens.tokenizer import TokenizedFile
from datatrove.utils.batching import batched
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from isoflop.config.base import UserError
from isoflop.config.curation.run import TokenizerConfig
from isoflop.curate.filters.repeated_tokens import TOKENS
from isoflop.curate.handover import read_documents
from isoflop.curate.progress import count_document
from isoflop.curate.tokens.encode import Encoder
from isoflop.data.manifest import file_sha256

UINT16_IDS = 2**16
BATCH_DOCUMENTS = 64  # all pieces of their texts are in memory


class MakeTokenizer(PipelineStep):
    """A lone task that writes `path`: the given file, or a BPE trained on the documents in `folder`."""

    type = "🔢 - TRAINER"
    name = "tokenizer"

    def __init__(self, config: TokenizerConfig, folder: Path, tasks: int, path: Path) -> None:
        super().__init__()
        self.config = config.model_copy(update={"path": None})
        self.sha256 = file_sha256(Path(config.path)) if config.path else None
        self._given = config
        self.folder = folder
        self.tasks = tasks
        self.path = path

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> None:
        if self._given.path is not None:
            load_tokenizer(self._given)
            self.path.write_bytes(Path(self._given.path).read_bytes())
        else:
            self.train().save(str(self.path))

    def train(self) -> Tokenizer:
        """Byte-level BPE (Radford et al. 2019): every text decodes to itself, and no token is unknown."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self.config.vocab_size,
            special_tokens=[self.config.eos_token],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(self.texts(), trainer)
        return tokenizer

    def texts(self) -> Iterator[str]:
        """The first documents of every task, up to `train_bytes` in all."""
        for rank in range(self.tasks):
            left = self.config.train_bytes // self.tasks
            for document in read_documents(self.folder, rank):
                left -= len(document.text.encode())
                if left < 0:
                    break
                count_document()
                yield document.text


def load_tokenizer(config: TokenizerConfig) -> Tokenizer:
    """The user's tokenizer. Raises UserError where it is absent, no tokenizer, or lacks the end of text."""
    assert config.path is not None
    if not Path(config.path).is_file():
        raise UserError(f"tokenizer.path: {config.path} does not exist; give a tokenizer.json")
    try:
        tokenizer = Tokenizer.from_file(config.path)
    except Exception as error:  # the Rust library raises plain Exception
        raise UserError(f"tokenizer.path: {config.path} is not a tokenizer.json: {error}") from None
    if tokenizer.token_to_id(config.eos_token) is None:
        near = [t.content for t in tokenizer.get_added_tokens_decoder().values() if t.special][:4]
        hint = f"; of its special tokens: {', '.join(near)}" if near else ""
        raise UserError(f"tokenizer.eos_token: {config.eos_token} is no token of {config.path}{hint}")
    return tokenizer


def vocab_size(tokenizer: Tokenizer) -> int:
    """One more than the largest token id: what an embedding must have rows for."""
    return max(tokenizer.get_vocab().values()) + 1


class Tokenize(DocumentTokenizer):
    """datatrove's DocumentTokenizer: end of text after each document, documents shuffled within the task.

    The text of a special token inside a document is text: only the end of a document is an end of text.
    Nothing is truncated or padded, whatever the tokenizer's file says.
    """

    name = "tokenize"

    def __init__(self, output: Path, tokenizer: Path, eos_token: str, seed: int) -> None:
        super().__init__(
            str(output), str(tokenizer), eos_token=eos_token, seed=seed, batch_size=BATCH_DOCUMENTS
        )

    @cached_property
    def tokenizer(self) -> Tokenizer:
        tokenizer: Tokenizer = DocumentTokenizer.tokenizer.func(self)
        tokenizer.encode_special_tokens = True
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    @cached_property
    def encoder(self) -> Encoder:
        return Encoder(self.tokenizer, f"<u{self.token_size}")

    @cached_property
    def eos_id(self) -> int:
        found = self.tokenizer.token_to_id(self.eos_token)
        assert isinstance(found, int)
        return found

    @cached_property
    def token_size(self) -> int:
        return 4 if vocab_size(self.tokenizer) > UINT16_IDS else 2

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> None:
        super().run(self._counted(data), rank, world_size)

    def write_unshuffled(self, data: DocumentsPipeline, filename: str) -> TokenizedFile:
        """The tokens of all documents, in one file."""
        unshuffled = TokenizedFile(
            self.output_folder,
            filename,
            upload_block_size=self.upload_block_size,
            tokenizer_name_or_path=self.tokenizer_name_or_path,
            save_final_metadata=self.save_final_metadata,  # the merge reads the size of a token from it
            token_size=self.token_size,
        )
        for batch in batched(data, self.batch_size):
            with self.track_time(unit="batch"):
                for tokens in self._encoded(batch):
                    unshuffled.write_bytes(tokens)
                    self.stat_update("tokens", value=len(tokens) // self.token_size)
        unshuffled.close()
        return unshuffled

    def _encoded(self, batch: list[Document]) -> Iterator[bytes]:
        """Each document's tokens and the end of text; those that a filter has made are not made again."""
        new = [document.text for document in batch if TOKENS not in document.metadata]
        encoded, dtype = iter(self.encoder.encode(new)), self.encoder.dtype
        end = np.array([self.eos_id], dtype).tobytes()
        for document in batch:
            made = document.metadata.pop(TOKENS, None)
            yield (next(encoded) if made is None else made.astype(dtype).tobytes()) + end

    def _counted(self, data: DocumentsPipeline) -> DocumentsPipeline:
        for document in data:
            self.stat_update("total", "forwarded")
            self.stat_update("text_bytes", value=len(document.text.encode()))
            yield document
