"""A fastText classifier for quality, trained on two sets of documents that the user has.

Nothing is downloaded. One thread trains, so that the same sets and settings give the same bytes; what is
held out is chosen by the text itself, so that copies of a document are never on both sides.
"""

import ctypes
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from xxhash import xxh3_64_intdigest

from isoflop.config.base import UserError
from isoflop.config.curation.classifier import ClassifierConfig, ClassifierTrainingConfig
from isoflop.curate.input.extract import EXTRACTORS
from isoflop.curate.input.readers import ReadSources
from isoflop.curate.input.sources import SourceFile, find_sources
from isoflop.curate.quality.linear_scorer import LinearScorer, flatten, is_linear
from isoflop.data.manifest import file_sha256

KEY = "pipeline.classifier"
LABEL = "__label__"
REPORT = "classifier.json"
MODEL = "classifier.bin"


def one_line(text: str) -> str:
    """`text` as fastText reads it: a single line, as DCLM joins it, in which no word is a label or an end."""
    return " ".join(text.strip().splitlines()).replace(LABEL, "label").replace("</s>", "s")


@dataclass
class Examples:
    """Documents as lines of a file: where each begins, and whether it is a positive one and held out."""

    file: BinaryIO
    starts: list[int] = field(default_factory=lambda: [0])
    positive: list[bool] = field(default_factory=list)
    held_out: list[bool] = field(default_factory=list)

    def add(self, line: str, positive: bool, held_out: bool) -> None:
        self.starts.append(self.starts[-1] + self.file.write(line.encode("utf-8", "replace") + b"\n"))
        self.positive.append(positive)
        self.held_out.append(held_out)

    def line(self, number: int) -> bytes:
        self.file.seek(self.starts[number])
        return self.file.read(self.starts[number + 1] - self.starts[number])

    def count(self, positive: bool, held_out: bool) -> int:
        return sum(p == positive and h == held_out for p, h in zip(self.positive, self.held_out, strict=True))


def _sha256_of_model(path: str) -> str:
    model = Path(path).expanduser()
    if not model.is_file():
        raise UserError(f"{KEY}.model: {path} does not exist; give a fastText model, or null to train one")
    return file_sha256(model)


class MakeClassifier(PipelineStep):
    """A lone task that makes the classifier in `folder`: trained on the two sets, or from the given model.

    classifier.json says how well it does on held-out documents, which model it is, and how it scores:
    `linear`, by arrays that all workers share, or `fasttext`, each worker with the whole model.
    Raises UserError where a set is absent or empty, nothing of it is left to train or to measure on, or
    the given model is none or lacks the label.
    """

    type = "🔢 - TRAINER"
    name = "classifier"

    def __init__(self, config: ClassifierConfig, folder: Path) -> None:
        super().__init__()
        self.config = config
        self.folder = folder
        self.sources: dict[str, list[SourceFile]] = {}
        self.model_sha256 = _sha256_of_model(config.model) if config.model else None
        if config.model is None:
            sets = {"positives": config.positives, "negatives": config.negatives}
            self.sources = {name: _sources(paths, name) for name, paths in sets.items()}

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        report: dict[str, Any] = {}
        path = self.folder / MODEL
        if self.config.model is None:
            report = self._train(path) | {"training": self.config.training.model_dump()}
        else:
            path = Path(self.config.model).expanduser().absolute()
        model = load_model(path, self.config.positive_label)
        linear = is_linear(model)
        if linear:
            flatten(model, LABEL + self.config.positive_label, self.folder)
        about = {
            "model": str(path),
            "sha256": file_sha256(path),
            "scorer": "linear" if linear else "fasttext",
        }
        (self.folder / REPORT).write_text(json.dumps(report | about, indent=2) + "\n")

    def _train(self, path: Path) -> dict[str, Any]:
        """Write the model to `path`; counts and measures."""
        lines, ordered = self.folder / "examples.tmp", self.folder / "training.tmp"
        with lines.open("w+b") as file:
            examples = Examples(file)
            for name in self.sources:
                self._add(examples, name)
            self._shuffled(examples, ordered)
            model = train(ordered, self.config.training)
            measured = self._measured(examples, model)
        model.save_model(str(path) + ".tmp")
        os.replace(str(path) + ".tmp", path)
        lines.unlink()
        ordered.unlink()
        return measured

    def _add(self, examples: Examples, name: str) -> None:
        training, before = self.config.training, len(examples.positive)
        for document in self._documents(name):
            line = one_line(document.text)
            if line:
                share = xxh3_64_intdigest(line, seed=training.seed) / 2**64
                examples.add(line, name == "positives", share < training.holdout_fraction)
        self.stat_update(name, value=len(examples.positive) - before)
        for held_out in (False, True) if training.holdout_fraction else (False,):
            if not examples.count(name == "positives", held_out):
                what = "measure" if held_out else "train"
                raise UserError(
                    f"{KEY}.{name}: has no document to {what} on; give more, another holdout, "
                    f"or the right {KEY}.text_key"
                )

    def _documents(self, name: str) -> Iterator[Document]:
        read = ReadSources(self.sources[name], self.config.text_key).run(None, 0, 1)
        yield from EXTRACTORS["resiliparse"]().run(read)

    def _shuffled(self, examples: Examples, path: Path) -> None:
        """Write what is trained on in a seeded order: fastText takes its lines as they come."""
        numbers = np.flatnonzero(~np.array(examples.held_out))
        order = np.random.default_rng(self.config.training.seed).permutation(numbers)
        with path.open("wb") as file:
            for number in order.tolist():
                label = ("" if examples.positive[number] else "not_") + self.config.positive_label
                file.write(f"{LABEL}{label} ".encode() + examples.line(number))

    def _measured(self, examples: Examples, model: Any) -> dict[str, Any]:
        """Counts, and precision, recall and F1 at a half and the area under the curve where held out."""
        counts = {
            f"{name}_{part}": examples.count(name == "positives", part == "held_out")
            for name in ("positives", "negatives")
            for part in ("trained", "held_out")
        }
        numbers = np.flatnonzero(examples.held_out).tolist()
        if not numbers:
            return counts
        label = LABEL + self.config.positive_label
        scores = np.array([score_line(model, examples.line(n).decode().rstrip("\n"), label) for n in numbers])
        positive = np.array(examples.positive)[numbers]
        return counts | binary_metrics(scores, positive)


def train(lines: Path, training: ClassifierTrainingConfig) -> Any:
    """The model that fastText trains on a file of labelled lines. Raises UserError where it diverges."""
    import fasttext

    try:
        with _zeroed_memory():
            return fasttext.train_supervised(
                input=str(lines),
                wordNgrams=training.word_ngrams,
                dim=training.dim,
                bucket=training.buckets,
                lr=training.learning_rate,
                epoch=training.epochs,
                minCount=training.min_count,
                seed=training.seed % 2**31,
                thread=1,
                verbose=0,
            )
    except RuntimeError as error:
        raise UserError(f"{KEY}.training: fastText says: {error}; a smaller learning_rate may do") from None


@contextmanager
def _zeroed_memory() -> Iterator[None]:
    """New memory is zero, by the C library's own switch.

    With one thread fastText 0.9.2 draws only the first tenth of its vectors, the commonest words', and
    leaves the others as the memory was found (facebookresearch/fastText#1061): large models find zeros,
    small ones what an earlier object left, so that they differ from run to run or become NaN.
    """
    m_perturb, of_zeros, off = -6, 255, 0  # mallopt(3): memory is filled with the complement of the byte
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # not glibc: large models only are sure to be the same each time
        yield
        return
    mallopt(m_perturb, of_zeros)
    try:
        yield
    finally:
        mallopt(m_perturb, off)


def load_model(path: Path, positive_label: str) -> Any:
    """A supervised fastText model. Raises UserError where there is none, or it lacks the label."""
    from fasttext.FastText import _FastText

    if not path.is_file():
        raise UserError(f"{KEY}.model: {path} does not exist; give a fastText model, or sets to train on")
    try:
        model = _FastText(str(path))
        labels = [label.removeprefix(LABEL) for label in model.get_labels()]
    except ValueError as error:
        raise UserError(f"{KEY}.model: {path} is no supervised fastText model: {error}") from None
    if positive_label not in labels:
        raise UserError(f"{KEY}.positive_label: {path} has no {positive_label}, but {', '.join(labels[:10])}")
    return model


def open_scorer(config: ClassifierConfig, folder: Path) -> Callable[[str], float]:
    """P(positive) of a prepared line, by what `MakeClassifier` left in `folder`.

    Raises UserError where it has not run.
    """
    if not (folder / REPORT).is_file():
        raise UserError(f"{folder}: no classifier was made here")
    report = json.loads((folder / REPORT).read_text())
    if report["scorer"] == "linear":
        return LinearScorer(folder).score
    model = load_model(Path(report["model"]), config.positive_label)
    return partial(score_line, model, label=LABEL + config.positive_label)


def score_line(model: Any, line: str, label: str) -> float:
    """P(label) of a prepared line, in single precision, as fastText computes it."""
    labels, scores = model.predict(line, k=-1)
    score = next((score for name, score in zip(labels, scores, strict=True) if name == label), 0.0)
    return float(np.float32(min(max(0.0, score), 1.0)))


def binary_metrics(scores: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Precision, recall and F1 at a score of a half, and the area under the ROC curve.

    The area is the chance that a positive document scores higher than a negative one, equal scores
    counting a half (Hanley & McNeil 1982).
    """
    chosen = scores >= 0.5
    n_chosen, hits = int(chosen.sum()), int((chosen & positive).sum())
    ordered = np.sort(scores)
    below, up_to = (np.searchsorted(ordered, scores, side=side) for side in ("left", "right"))
    ranks = (below + up_to + 1) / 2
    n, m = int(positive.sum()), int((~positive).sum())
    return {
        "precision": hits / max(n_chosen, 1),
        "recall": hits / n,
        "f1": 2 * hits / (n_chosen + n),
        "auc": float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m)),
    }


def _sources(paths: tuple[str, ...], name: str) -> list[SourceFile]:
    try:
        files = find_sources(paths)
    except UserError as error:
        raise UserError(str(error).replace("data.sources", f"{KEY}.{name}")) from None
    if not files:
        raise UserError(f"{KEY}.{name}: names no files; give documents to train on")
    return files
