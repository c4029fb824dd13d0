"""What a drift costs: the accuracy to expect on images without labels, and the accuracy measured where there are some.

Average thresholded confidence (Garg et al. 2022, "Leveraging unlabeled data to predict out-of-distribution
performance"): on labelled holdout images a threshold is found so that the share of images with less confidence is the
share of wrong answers; on new images the share above the threshold is the accuracy to expect. It assumes that
a network which grows worse grows less sure of itself. Most do; one that is sure of its wrong answers fools it, so
measured accuracy, where there is some, is worth more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from drift.errors import DriftError
from drift.result import FloatArray
from drift.samples import as_sample

MINIMUM_LABELLED = 20  # holdout images; with fewer, an expected accuracy would be a guess
DRAWS = 2000
BLOCK = 2_000_000  # weights drawn at once: 16 MiB
CONFIDENCE = 0.95
FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Calibration:
    """How confident and how right the champion was on labelled images it had not been trained on.

    Attributes:
        scores: (n,) confidence in rising order: minus the entropy of the predicted probabilities.
        correct: (n,) whether the answer was right, in the same order.
    """

    scores: FloatArray
    correct: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return float(self.correct.mean())

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Plain arrays without pickled objects, for ``numpy.savez``."""
        return {"format": np.array(FORMAT), "scores": self.scores, "correct": self.correct}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Calibration:
        """Read what ``to_arrays`` wrote.

        Raises:
            DriftError: Something is missing, or of a shape that does not fit the rest.
        """
        try:
            number = int(arrays["format"])
            scores = np.asarray(arrays["scores"], dtype=np.float64)
            correct = np.asarray(arrays["correct"], dtype=np.bool_)
        except KeyError as error:
            raise DriftError(f"a saved calibration lacks {error}: freeze the reference again") from None
        if number != FORMAT:
            raise DriftError(f"calibration format {number} is unknown: freeze the reference again")
        fits = scores.ndim == 1 and scores.shape == correct.shape and len(scores) >= MINIMUM_LABELLED
        if not (fits and np.isfinite(scores).all() and (np.diff(scores) >= 0).all()):
            raise DriftError("a saved calibration is damaged (its numbers do not fit): freeze the reference again")
        return cls(scores=scores, correct=correct)


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """An accuracy on new images, beside the one on labelled holdout images. Intervals hold 95 %.

    Attributes:
        accuracy: Share of right answers, 0 … 1.
        low: Lower end of its interval.
        high: Upper end.
        images: New images that it stands on.
        baseline: Accuracy on the labelled holdout images of the reference.
        drop: baseline - accuracy; negative for a gain.
        drop_low: Lower end of its interval, which knows the baseline's own uncertainty.
        drop_high: Upper end.
        p_value: Chance of so few right answers if the accuracy has not fallen; None for one that is only expected.
    """

    accuracy: float
    low: float
    high: float
    images: int
    baseline: float
    drop: float
    drop_low: float
    drop_high: float
    p_value: float | None = None


def calibrate_harm(probabilities: ArrayLike, correct: ArrayLike) -> Calibration:
    """Learn how confidence and right answers go together: (n, c) probabilities, (n,) whether the answer was right.

    Give labelled images that the network was not trained on: on those that it was, it is surer than on any others.

    Raises:
        DriftError: Too few images, or arrays that do not fit.
    """
    scores = confidence(probabilities, minimum=MINIMUM_LABELLED)
    right = np.asarray(correct)
    if right.shape != scores.shape or right.dtype != np.bool_:
        raise DriftError(f"correct has shape {right.shape} and type {right.dtype}: one bool for each image is needed")
    order = np.argsort(scores, kind="stable")
    return Calibration(scores=scores[order], correct=right[order])


def confidence(probabilities: ArrayLike, *, minimum: int = 1) -> FloatArray:
    """Minus the entropy of predicted probabilities, in nats: (n, c) → (n,), 0 for a network that is sure.

    Raises:
        DriftError: These are no probabilities.
    """
    table = as_sample(probabilities, "predicted", minimum=minimum).astype(np.float64)
    if table.min() < 0 or table.max() > 1 + 1e-3:
        raise DriftError("probabilities lie between 0 and 1: give the model's output after the softmax")
    logarithms = np.log(table, out=np.zeros_like(table), where=table > 0)
    return np.einsum("ij,ij->i", table, logarithms)


def expected_accuracy(calibration: Calibration, probabilities: ArrayLike, *, seed: int = 0) -> Accuracy:
    """The accuracy to expect on images without labels: (m, c) probabilities → an estimate with its interval.

    The interval knows both that the holdout images are few and that the new ones are. It comes of 2,000 draws: in each,
    the holdout images have weights drawn anew (Bayesian bootstrap, Rubin 1981; half a right and half a wrong answer are
    added, so that a holdout without a mistake does not pass for proof that there are none), and the share above the
    threshold is drawn from its posterior under Jeffreys' prior. Where many images are equally confident, the threshold
    parts them in proportion. That a drift may make the network surer than it should be, no interval knows.

    Raises:
        DriftError: These are no probabilities.
    """
    scores = np.sort(confidence(probabilities))
    rng = np.random.Generator(np.random.PCG64(seed))
    known, wrong = calibration.scores, (~calibration.correct).astype(np.float64)
    count, images = len(known), len(scores)
    alone = np.full((1, count), 1 / count)
    estimate = float(_share_above(known, alone, alone @ wrong, scores)[0])
    rights, drops = [], []
    step = max(1, BLOCK // count)
    for start in range(0, DRAWS, step):
        draws = min(step, DRAWS - start)
        weights = rng.standard_exponential((draws, count))
        extra = rng.standard_gamma(0.5, (2, draws))  # half a wrong and half a right answer
        total = weights.sum(axis=1)
        mistakes = (weights @ wrong + extra[0]) / (total + extra.sum(axis=0))
        weights /= total[:, None]
        above = _share_above(known, weights, mistakes, scores)
        right = rng.beta(above * images + 0.5, (1 - above) * images + 0.5)
        rights.append(right)
        drops.append(1 - mistakes - right)
    low, high = _ends(np.concatenate(rights))
    drop_low, drop_high = _ends(np.concatenate(drops))
    baseline = calibration.accuracy
    drop = baseline - estimate
    return Accuracy(
        accuracy=estimate,
        low=min(low, estimate),
        high=max(high, estimate),
        images=images,
        baseline=baseline,
        drop=drop,
        drop_low=min(drop_low, drop),
        drop_high=max(drop_high, drop),
    )


def measured_accuracy(correct: ArrayLike, baseline: Calibration) -> Accuracy:
    """The accuracy on labelled new images, (m,) whether the answer was right, beside that on the holdout.

    The intervals are Wilson's (1927) for the accuracy and Newcombe's (1998, *Statistics in Medicine* 17:873,
    method 10) for the drop; the p-value is Fisher's exact one.

    Raises:
        DriftError: There is no image, or these are no bools.
    """
    right = np.asarray(correct)
    if right.ndim != 1 or right.dtype != np.bool_ or not len(right):
        raise DriftError(f"correct has shape {right.shape} and type {right.dtype}: one bool for each image is needed")
    accuracy, hits, hits_before = float(right.mean()), int(right.sum()), int(baseline.correct.sum())
    low, high = _wilson(hits, len(right))
    before_low, before_high = _wilson(hits_before, len(baseline))
    p_value = float(stats.hypergeom.cdf(hits, len(right) + len(baseline), hits + hits_before, len(right)))
    drop = baseline.accuracy - accuracy
    return Accuracy(
        accuracy=accuracy,
        low=low,
        high=high,
        images=len(right),
        baseline=baseline.accuracy,
        drop=drop,
        drop_low=drop - math.hypot(baseline.accuracy - before_low, high - accuracy),
        drop_high=drop + math.hypot(before_high - baseline.accuracy, accuracy - low),
        p_value=min(p_value, 1.0),
    )


def _share_above(known: FloatArray, weights: FloatArray, mistakes: FloatArray, scores: FloatArray) -> FloatArray:
    """Share of the new scores above the threshold of each draw: (k,), (B, k), (B,), (m,) → (B,).

    The threshold has the weight ``mistakes`` of the known scores below it. Scores that equal it count in the proportion
    in which the known ones that equal it lie above.
    """
    values, first = np.unique(known, return_index=True)  # blocks of equal scores
    blocks = np.add.reduceat(weights, first, axis=1)
    reached = np.cumsum(blocks, axis=1)
    # Without mistakes the threshold lies below every known score, and all new ones above it.
    at = (reached >= mistakes[:, None] - 1e-12).argmax(axis=1)  # the block in which it lies otherwise
    rows = np.arange(len(weights))
    inside = np.clip(1 - (reached[rows, at] - mistakes) / np.maximum(blocks[rows, at], 1e-300), 0, 1)
    fewer = np.searchsorted(scores, values[at], side="left")
    ties = np.searchsorted(scores, values[at], side="right") - fewer
    share = 1 - (fewer + inside * ties) / len(scores)
    return np.where(mistakes <= 1e-12, 1.0, share)


def _ends(draws: FloatArray) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _wilson(successes: int, trials: int) -> tuple[float, float]:
    """Interval of a share after Wilson (1927)."""
    z = float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    share = successes / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    return max(0.0, middle - half), min(1.0, middle + half)
