"""How often a test would find a shift if it knew its true direction: more than anybody knows, what is left to win."""

from __future__ import annotations

import numpy as np
from scipy import linalg, stats

from tests.benchmarks.power.embeddings import Embeddings
from tests.benchmarks.power.peers import ALPHA
from tests.benchmarks.power.shifts import Shift

RIDGE = 0.02  # of the covariance, as a share of the mean variance


def ceiling(embeddings: Embeddings, shift: Shift, reference: int, size: int) -> float:
    """Power of the two-sided t-test along the direction in which thousands of images say that a change moves them.

    The direction is a discriminant learnt from half of the images, and its effect is measured on the other half.
    """
    clean, changed = embeddings.of(), embeddings.of(shift.change, shift.strength)
    halves = np.array_split(np.random.Generator(np.random.PCG64(0)).permutation(len(clean)), 2)
    effects = [
        _effect(clean[a], changed[a], clean[b], changed[b]) for a, b in ((halves[0], halves[1]), (halves[1], halves[0]))
    ]
    shifted = float(np.mean(effects)) * shift.share * np.sqrt(reference * size / (reference + size))
    limit = stats.norm.isf(ALPHA / 2)
    return float(stats.norm.sf(limit - shifted) + stats.norm.cdf(-limit - shifted))


def _effect(clean: np.ndarray, changed: np.ndarray, clean_apart: np.ndarray, changed_apart: np.ndarray) -> float:
    """Standardised difference of the images apart, along the discriminant of the first."""
    scale = clean.std(axis=0).astype(np.float64)
    scale[scale == 0] = 1.0
    x, y = clean / scale, changed / scale
    within = (np.cov(x, rowvar=False) + np.cov(y, rowvar=False)) / 2
    within[np.diag_indices(len(within))] += RIDGE * np.trace(within) / len(within)
    direction = linalg.solve(within, (y - x).mean(axis=0, dtype=np.float64), assume_a="pos") / scale
    first, second = clean_apart @ direction, changed_apart @ direction
    deviation = float(np.sqrt((first.var() + second.var()) / 2))
    return abs(float(second.mean() - first.mean())) / deviation if deviation else 0.0
