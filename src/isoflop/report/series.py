"""Curves made light enough for a page, without hiding a spike."""

import numpy as np

MOST_POINTS = 1500
WINDOW = 0.08
SMOOTHED_FROM = 20  # rows; fewer are drawn as they are


def thinned(values: np.ndarray, most: int = MOST_POINTS) -> np.ndarray:
    """Indices to draw, about `most`: of each stretch its lowest and its highest value, and both ends."""
    if len(values) <= most:
        return np.arange(len(values))
    finite = np.isfinite(values)
    known = np.where(finite, values, values[finite].mean() if finite.any() else 0.0)
    kept = {0, len(values) - 1}
    for stretch in np.array_split(np.arange(len(values)), most // 2):
        kept |= {int(stretch[known[stretch].argmin()]), int(stretch[known[stretch].argmax()])}
    return np.array(sorted(kept))


def smoothed(values: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Each value's mean over the rows whose `along` is within 8 % of its own, nan left out.

    Such a window is even on a logarithmic axis: no lag at the steep start, little noise at the end.
    """
    finite = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    start = np.searchsorted(along, along / (1 + WINDOW), side="left")
    stop = np.searchsorted(along, along * (1 + WINDOW), side="right")
    n_inside = counts[stop] - counts[start]
    return np.where(n_inside > 0, (sums[stop] - sums[start]) / np.maximum(n_inside, 1), np.nan)
