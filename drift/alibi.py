"""alibi-detect's detectors behind the same call: slow to import, and under the Business Source License.

Their permutation tests report the plain share of permutations that were more extreme, which can be 0; it is turned into
(1 + number) / (1 + permutations) here. Their Cramér-von Mises test takes values for continuous: on embeddings that are
half zeros it alarms on more than half of all samples without drift. So ties are broken at random before it.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from drift import permutation
from drift.errors import DriftError
from drift.result import Details, DriftResult, Member
from drift.samples import Float32, Pooled

SMALLEST = 1e-300  # a p-value that underflowed
NAMED_COLUMNS = 5  # of a test by column, so many with the smallest p-values are reported
HIDDEN = 32  # width of the networks that some detectors train
FOLDS = 5  # of the classifier: every row is predicted by a network that did not see it
EPOCHS = 10


def detect_with_alibi(pooled: Pooled, test: str, permutations: int, alpha: float, seed: int) -> DriftResult:
    """Run one of alibi-detect's detectors, torch backend on the CPU, on pooled samples.

    Where a detector has no permutation distribution, the statistic is minus the decimal logarithm of its p-value and
    the threshold that of the level.

    Raises:
        DriftError: The detector cannot work on these samples.
    """
    points = _moving_columns(pooled.points)
    if points.shape[1] == 0:  # every row is the same point: nothing can differ
        return _by_p_value(1.0, test, alpha, pooled)
    reference, current = points[: pooled.n], points[pooled.n :]
    import torch

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # alibi-detect's own, on import and on defaults
        torch.manual_seed(seed)
        state = np.random.get_state()
        np.random.seed(seed % 2**32)
        try:
            if test == "cvm":
                ranks = _ranks(points, seed)
                return _by_column(ranks[: pooled.n], ranks[pooled.n :], test, alpha, pooled)
            if test == "ks":
                return _by_column(reference, current, test, alpha, pooled)
            if test == "lsdd":
                detector = _lsdd(reference, alpha, permutations)
                return _by_permutation(detector, current, test, permutations, alpha, pooled)
            if test == "learned-kernel":
                detector = _learned_kernel(reference, alpha, permutations)
                return _by_permutation(detector, current, test, permutations, alpha, pooled)
            detector = _classifier(reference, alpha, seed) if test == "classifier" else _spot(reference, alpha, seed)
            return _by_p_value(float(detector.predict(current)["data"]["p_val"]), test, alpha, pooled)
        except (ValueError, RuntimeError) as error:
            if isinstance(error, DriftError):
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DriftError(f"alibi-detect's {test} cannot test these samples: {reason}") from error
        finally:
            np.random.set_state(state)


def _moving_columns(points: Float32) -> Float32:
    """Leave out columns that are constant over both samples: they say nothing, and some detectors divide by them."""
    return np.ascontiguousarray(points[:, np.ptp(points, axis=0) > 0])


def _ranks(points: Float32, seed: int) -> Float32:
    """Ranks of each column over both samples, ties broken at random: (N, d) → (N, d), exact in float32."""
    noise = np.random.Generator(np.random.PCG64(seed)).random(points.shape)
    ranks = np.empty_like(points)
    for column, values in enumerate(points.T):
        ranks[np.lexsort((noise[:, column], values)), column] = np.arange(len(points))
    return ranks


def _by_column(reference: Float32, current: Float32, test: str, alpha: float, pooled: Pooled) -> DriftResult:
    from alibi_detect.cd import CVMDrift, KSDrift

    detector = (KSDrift if test == "ks" else CVMDrift)(reference, p_val=alpha, correction="bonferroni")
    p_values, distances = detector.score(current)
    lowest = np.argsort(p_values, kind="stable")[:NAMED_COLUMNS]
    members = tuple(
        Member(name=f"column {column}", statistic=float(distances[column]), p_value=float(p_values[column]))
        for column in lowest
    )
    return _by_p_value(float(p_values.min()) * len(p_values), test, alpha, pooled, members)


def _by_p_value(
    p_value: float, test: str, alpha: float, pooled: Pooled, members: tuple[Member, ...] = ()
) -> DriftResult:
    p_value = min(max(p_value, SMALLEST), 1.0)
    return DriftResult(
        p_value=p_value,
        statistic=abs(math.log10(p_value)),
        threshold=-math.log10(alpha),
        is_drift=p_value <= alpha,
        test=test,
        alpha=alpha,
        permutations=0,
        null=np.empty(0),
        details=Details(reference_rows=pooled.n, current_rows=pooled.m, members=members),
    )


def _by_permutation(
    detector: Any, current: Float32, test: str, permutations: int, alpha: float, pooled: Pooled
) -> DriftResult:
    answer = detector.predict(current)["data"]
    extreme = round(float(answer["p_val"]) * permutations)
    p_value = (1 + extreme) / (1 + permutations)
    return DriftResult(
        p_value=p_value,
        statistic=float(answer["distance"]),
        threshold=float(answer["distance_threshold"]),
        is_drift=extreme < permutation.extremes(permutations, alpha),
        test=test,
        alpha=alpha,
        permutations=permutations,
        null=np.empty(0),
        details=Details(reference_rows=pooled.n, current_rows=pooled.m),
    )


def _detector_level(permutations: int, alpha: float) -> float:
    """The level at which alibi-detect's threshold fits a p-value with the observed labelling counted."""
    return (permutation.extremes(permutations, alpha) - 0.5) / permutations


def _lsdd(reference: Float32, alpha: float, permutations: int) -> Any:
    from alibi_detect.cd import LSDDDrift

    level = _detector_level(permutations, alpha)
    return LSDDDrift(reference, backend="pytorch", p_val=level, n_permutations=permutations, device="cpu")


def _learned_kernel(reference: Float32, alpha: float, permutations: int) -> Any:
    from alibi_detect.cd import LearnedKernelDrift
    from alibi_detect.utils.pytorch.kernels import DeepKernel
    from torch import nn

    width = reference.shape[1]
    projection = nn.Sequential(nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN))
    return LearnedKernelDrift(
        reference,
        DeepKernel(projection, eps=0.01),
        backend="pytorch",
        p_val=_detector_level(permutations, alpha),
        n_permutations=permutations,
        epochs=EPOCHS,
        device="cpu",
    )


def _classifier(reference: Float32, alpha: float, seed: int) -> Any:
    from alibi_detect.cd import ClassifierDrift
    from torch import nn

    width = reference.shape[1]
    model = nn.Sequential(nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2))
    return ClassifierDrift(
        reference,
        model,
        backend="pytorch",
        p_val=alpha,
        preds_type="logits",
        n_folds=FOLDS,
        train_size=None,
        epochs=EPOCHS,
        seed=seed,
        device="cpu",
    )


def _spot(reference: Float32, alpha: float, seed: int) -> Any:
    from alibi_detect.cd import SpotTheDiffDrift

    return SpotTheDiffDrift(reference, backend="pytorch", p_val=alpha, epochs=EPOCHS, seed=seed, device="cpu")
