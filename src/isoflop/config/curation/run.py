"""The configuration of a curation: text in, token dataset out."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field

from isoflop.config.base import Config, Count, Fault, Fraction, Whole
from isoflop.config.curation.recipe import PipelineConfig, recipes
from isoflop.config.curation.samples import SamplesConfig
from isoflop.config.validate import validate


class SourcesConfig(Config):
    """What is read, where the dataset goes, and how many share the work."""

    sources: tuple[str, ...] = ()
    """Files or folders of WARC, JSONL, parquet, HTML, text; none: the documentation installed here."""
    output: str = Field(min_length=1)
    """Folder of the dataset, which is whole or not there."""
    overwrite: bool = False
    """Replace the dataset at `output` once the new one is whole."""
    work: str | None = None
    """Folder for what stands between stages. Given, it is kept, and any run that names it starts from the
    stages that it finds done; null: beside the output, gone at the end."""
    workers: Count | None = None
    """Processes at once; null: the cores. Never changes the result."""
    tasks: Count | None = None
    """Pieces that the input is cut into; null: from its files and bytes. Part of the result's order."""
    text_key: str = Field(default="text", min_length=1)
    """The field of JSONL and parquet that holds the text."""
    max_document_bytes: Count = 20_000_000
    """A longer document is set aside as too_long, before it is held in memory."""
    max_failed_fraction: Fraction = 0.001
    """The most of the documents, and of the files, that may be broken; what is broken is kept aside."""
    licence: str | None = None
    """Of the sources, for the manifest."""
    shard_tokens: Count = 100_000_000
    """A new shard is begun after so many tokens."""
    megatron: bool = False
    """Write `megatron/*.bin` and `.idx` too, for Megatron-LM; the tokens are stored once."""


class TokenizerConfig(Config):
    """A tokenizer.json of one's own, or a byte-level BPE trained on the text that survives."""

    path: str | None = None
    """A tokenizer.json; null: train one."""
    vocab_size: Count = 4096
    """Of the trained one, its end-of-text token included."""
    train_bytes: Count = 200_000_000
    """The most text that it is trained on, taken evenly from the tasks."""
    eos_token: str = Field(default="<|endoftext|>", min_length=1)
    """Written after every document."""


class CurateConfig(Config):
    """A curation, whole."""

    seed: Whole = 0
    """Of the documents' order."""
    data: SourcesConfig
    pipeline: Annotated[PipelineConfig, recipes]
    tokenizer: TokenizerConfig
    samples: SamplesConfig

    def science(self) -> dict[str, Any]:
        """The part that the tokens depend on, as it stands in the manifest."""
        elsewhere = {"output", "overwrite", "work", "workers", "licence", "sources", "megatron"}
        elsewhere |= {"max_failed_fraction"}  # says whether there is a result, not which
        return self.model_dump(mode="json", exclude={"data": elsewhere, "samples": True})


BYTES_AND_EOS = 257


def curation_faults(config: CurateConfig) -> Iterator[Fault]:
    """Everything wrong between the fields of `config`."""
    tokenizer = config.tokenizer
    if tokenizer.path is None and tokenizer.vocab_size < BYTES_AND_EOS:
        hint = f"is less than the 256 bytes and the end of text; {BYTES_AND_EOS} or more would do"
        yield Fault("tokenizer.vocab_size", tokenizer.vocab_size, hint)
    yield from config.pipeline.faults()


def load_curation(composed: Mapping[str, Any]) -> CurateConfig:
    """The curation that `composed` describes. Raises ConfigError with every fault."""
    return validate(composed, CurateConfig, curation_faults)
