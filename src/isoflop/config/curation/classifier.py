"""The configuration of the quality classifier."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from isoflop.config.base import Config, Count, Fault, Positive, Seed, UnitInterval

TopFraction = Annotated[float, Field(gt=0.0, le=1.0)]


class ClassifierTrainingConfig(Config):
    """fastText's supervised training (Joulin et al. 2017), in one thread: the same sets, the same model."""

    word_ngrams: Count = 2
    """Words in the longest n-gram that is a feature."""
    dim: Count = 100
    """Of the features' vectors. Training takes 4 · dim · (words + buckets) bytes, 0.8 GB by default; scoring
    needs a hundredth of it, once for all workers."""
    buckets: Count = 2_000_000
    """That the n-grams of two words and more are hashed into."""
    learning_rate: Positive = 0.1
    epochs: Count = 5
    min_count: Count = 1
    """A rarer word is no feature."""
    seed: Seed = 42
    """Of the initial vectors, the order of the documents and the held-out part."""
    holdout_fraction: UnitInterval = 0.1
    """Of the documents, by their text; they measure the model and are not trained on."""


class ClassifierConfig(Config):
    """A fastText quality classifier, as DCLM selects with (Li et al. 2024, section 4.4)."""

    positives: tuple[str, ...] = ()
    """Files or folders of good documents, to train on."""
    negatives: tuple[str, ...] = ()
    """Files or folders of ordinary documents, to train on."""
    text_key: str = Field(default="text", min_length=1)
    """The field of their JSONL and parquet that holds the text."""
    model: str | None = None
    """A supervised fastText model (.bin or .ftz) instead of training."""
    positive_label: str = Field(default="hq", pattern=r"^\S+$")
    """The label whose probability is the quality, without `__label__`."""
    training: ClassifierTrainingConfig = ClassifierTrainingConfig()
    threshold: float | None = Field(default=None, ge=0.0, le=1.0)
    """The least quality that is kept; 0.018112 with DCLM's published model."""
    top_fraction: TopFraction | None = None
    """The fraction of documents that is kept, the best; with equal scores at the border, all of them."""


def classifier_faults(config: ClassifierConfig, key: str) -> Iterator[Fault]:
    """Everything wrong between the fields of `config`, which stands under `key`."""
    if config.model is None:
        for name, paths in (("positives", config.positives), ("negatives", config.negatives)):
            if not paths:
                yield Fault(f"{key}.{name}", "[]", f"give files to train on, or a trained {key}.model")
    elif config.positives or config.negatives:
        hint = f"is not trained further; leave out {key}.positives and {key}.negatives, or the model"
        yield Fault(f"{key}.model", config.model, hint)
    if (config.threshold is None) == (config.top_fraction is None):
        hint = "give one of threshold and top_fraction"
        yield Fault(f"{key}.threshold", config.threshold, f"with top_fraction={config.top_fraction}: {hint}")
