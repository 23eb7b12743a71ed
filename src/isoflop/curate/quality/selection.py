"""Documents scored by a fastText classifier, and the best of them kept.

A threshold can be applied at once. A fraction needs all scores first: each task leaves its own in a file,
and a lone task finds the score at the border, exactly, in two passes over counts of their bits.
"""

import json
from array import array
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters.base_filter import BaseFilter

from isoflop.config.base import UserError
from isoflop.config.curation.classifier import ClassifierConfig
from isoflop.curate.filters.sorted_hashes import save
from isoflop.curate.quality.classifier import one_line, open_scorer

QUALITY = "quality"
"""Where a document's score is kept in its metadata: the probability of the positive label, a float32."""
Scores = npt.NDArray[np.float32]


class ScoreDocuments(PipelineStep):
    """Sets metadata["quality"] by the classifier that `MakeClassifier` left in the folder `classifier`.

    Leaves the task's scores in the folder `scores`, where a fraction is to be kept.
    """

    type = "🏷 - SCORE"
    name = "quality"

    def __init__(self, config: ClassifierConfig, classifier: Path, scores: Path | None = None) -> None:
        super().__init__()
        self.config = config
        self.classifier = classifier
        self.scores = scores

    @cached_property
    def score(self) -> Callable[[str], float]:
        return open_scorer(self.config, self.classifier)

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        found = array("f")
        for document in data:
            with self.track_time():
                score = self.score(one_line(document.text))
            document.metadata[QUALITY] = score
            self.stat_update(QUALITY, value=score, unit="doc")
            found.append(score)
            yield document
        if self.scores is not None:
            save(scores_file(self.scores, rank), np.array(found, dtype=np.float32))


class FindThreshold(PipelineStep):
    """A lone task that writes to `output` the score of the last document within `top_fraction`.

    Raises UserError where a task has left no scores.
    """

    type = "🏷 - SCORE"
    name = "threshold"

    def __init__(self, config: ClassifierConfig, scores: Path, tasks: int, output: Path) -> None:
        super().__init__()
        self.top_fraction = config.top_fraction
        self.scores = scores
        self.tasks = tasks
        self.output = output

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> None:
        paths = [scores_file(self.scores, task) for task in range(self.tasks)]
        absent = [path.name for path in paths if not path.is_file()]
        if absent:
            raise UserError(
                f"{self.scores}: tasks have left no scores: {', '.join(absent[:5])}; run them again"
            )
        assert self.top_fraction is not None
        total = sum(len(np.load(path, mmap_mode="r")) for path in paths)
        wanted = max(1, round(self.top_fraction * total))
        threshold = kth_largest(paths, wanted) if total else 0.0
        kept = sum(int(np.count_nonzero(np.load(path) >= np.float32(threshold))) for path in paths)
        record = {"threshold": threshold, "documents": total, "wanted": wanted, "kept": kept}
        self.output.write_text(json.dumps(record) + "\n")


class KeepQuality(BaseFilter):
    """Drops, as `low_quality`, what scores less than the threshold: the given one, or `FindThreshold`'s."""

    name = "quality"

    def __init__(self, config: ClassifierConfig, found: Path | None = None) -> None:
        super().__init__()
        self.given = config.threshold
        self.found = found

    @cached_property
    def threshold(self) -> float:
        if self.found is None:
            assert self.given is not None
            return self.given
        return float(json.loads(self.found.read_text())["threshold"])

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        return True if doc.metadata[QUALITY] >= self.threshold else (False, "low_quality")


def scores_file(folder: Path, rank: int) -> Path:
    return folder / f"{rank:05d}.npy"


def kth_largest(paths: Sequence[Path], k: int) -> float:
    """The k-th largest of the scores in `paths`, however many there are, in a megabyte.

    Scores are not negative, so their bits, read as whole numbers, are in their order: the upper half of
    the bits is counted first, then the lower half of those that share the upper half found.
    """
    upper, k = _from_the_top(paths, k, None)
    lower, _ = _from_the_top(paths, k, upper)
    return float(np.array([upper << 16 | lower], dtype=np.uint32).view(np.float32)[0])


def _from_the_top(paths: Sequence[Path], k: int, upper: int | None) -> tuple[int, int]:
    """(the 16 bits that the k-th largest has, how many of those with these bits are wanted)."""
    counts = np.zeros(2**16, dtype=np.int64)
    for path in paths:
        bits = np.load(path).view(np.uint32)
        part = bits >> 16 if upper is None else bits[bits >> 16 == upper] & 0xFFFF
        counts += np.bincount(part, minlength=2**16)
    above = np.cumsum(counts[::-1])  # of these bits and of greater ones
    place = int(np.searchsorted(above, k))
    return 2**16 - 1 - place, k - (int(above[place - 1]) if place else 0)
