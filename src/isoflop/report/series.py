"""Curves made light enough for a page, without hiding a spike."""

import numpy as np

MOST_POINTS = 1500
SMOOTHED_FROM = 20  # rows; fewer are drawn as they are


def thinned(values: np.ndarray, most: int = MOST_POINTS) -> np.ndarray:
    """Indices to draw, at most about `most`: of each stretch its lowest and its highest value, and both ends."""
    if len(values) <= most:
        return np.arange(len(values))
    finite = np.isfinite(values)
    known = np.where(finite, values, values[finite].mean() if finite.any() else 0.0)
    kept = {0, len(values) - 1}
    for stretch in np.array_split(np.arange(len(values)), most // 2):
        kept |= {int(stretch[known[stretch].argmin()]), int(stretch[known[stretch].argmax()])}
    return np.array(sorted(kept))


def smoothed(values: np.ndarray) -> np.ndarray:
    """Exponential moving average over some 3 % of the rows, corrected for its start (Kingma and Ba 2015, §3)."""
    keep = 1 - 1 / max(1.0, 0.03 * len(values))
    out, average, weight = np.empty(len(values)), 0.0, 0.0
    for i, value in enumerate(values):
        if np.isfinite(value):
            average, weight = keep * average + (1 - keep) * value, keep * weight + (1 - keep)
        out[i] = average / weight if weight else np.nan
    return out
