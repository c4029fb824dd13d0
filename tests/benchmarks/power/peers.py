"""Every test that is compared, ours and the peers', each as it comes: samples in, drift or not out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import drift

PERMUTATIONS = 199  # ours; alibi-detect's default is 100
ALPHA = 0.05

REHEARSED, ENSEMBLE = "Tidemark, rehearsed", "Tidemark"
MMD, KS = "alibi-detect MMD", "alibi-detect KS"
MODEL, KERNEL, RATIO, DISTANCE = "Evidently model", "Evidently mmd", "Evidently ratio", "Evidently distance"
OWN = (REHEARSED, ENSEMBLE)
PEERS = (MMD, KS, MODEL, KERNEL, RATIO, DISTANCE)


@dataclass(frozen=True, eq=False)
class Samples:
    """What a test is shown.

    Attributes:
        reference: (n, d) embeddings.
        current: (m, d).
        reference_groups: (n,) numbers that near duplicates share, None where there are none.
        current_groups: (m,) the same.
        reference_strata: (n,) classes, where samples were drawn with equal shares of them; None where not.
        current_strata: (m,) the same.
        reference_probabilities: (n, c) predicted by the network.
        current_probabilities: (m, c) the same.
        rehearsal: What was rehearsed on the reference.
        seed: Of whatever is random in a test.
    """

    reference: np.ndarray
    current: np.ndarray
    reference_groups: np.ndarray | None
    current_groups: np.ndarray | None
    reference_strata: np.ndarray | None
    current_strata: np.ndarray | None
    reference_probabilities: np.ndarray
    current_probabilities: np.ndarray
    rehearsal: Callable[[], drift.Rehearsal]
    seed: int


def judge(test: str, samples: Samples) -> tuple[bool, str]:
    """Whether a test calls it drift, and the cause that it names, if any."""
    if test in OWN:
        result = drift.detect(
            samples.reference,
            samples.current,
            rehearsal=samples.rehearsal() if test == REHEARSED else None,
            permutations=PERMUTATIONS,
            alpha=ALPHA,
            seed=samples.seed,
            reference_groups=samples.reference_groups,
            current_groups=samples.current_groups,
            reference_strata=samples.reference_strata,
            current_strata=samples.current_strata,
            reference_probabilities=samples.reference_probabilities,
            current_probabilities=samples.current_probabilities,
        )
        return result.is_drift, result.details.cause.change if result.details.cause else ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        judges: dict[str, Callable[[Samples], bool]] = {MMD: _mmd, KS: _ks}
        return judges.get(test, lambda seen: _evidently(test, seen))(samples), ""


def _mmd(samples: Samples) -> bool:
    """alibi-detect's MMD at 5 % with its default of 100 permutations."""
    import torch
    from alibi_detect.cd import MMDDrift

    torch.manual_seed(samples.seed)
    detector = MMDDrift(samples.reference, p_val=ALPHA, backend="pytorch", device="cpu")
    return bool(detector.predict(samples.current)["data"]["is_drift"])


def _ks(samples: Samples) -> bool:
    """alibi-detect's Kolmogorov–Smirnov test of every dimension, with Bonferroni's correction by default."""
    from alibi_detect.cd import KSDrift

    return bool(KSDrift(samples.reference, p_val=ALPHA).predict(samples.current)["data"]["is_drift"])


def _evidently(test: str, samples: Samples) -> bool:
    """One of Evidently's methods for embeddings with its default threshold.

    Its reports take ``model`` unless told otherwise, and bootstrap its threshold below 1,000 rows of reference.
    """
    import pandas as pd
    from evidently.legacy.metrics.data_drift import embedding_drift_methods as methods

    made = {
        MODEL: lambda: methods.model(bootstrap=len(samples.reference) < 1000),
        KERNEL: methods.mmd,
        RATIO: methods.ratio,
        DISTANCE: methods.distance,
    }[test]()
    # It changes the frames that it is given.
    return bool(made(pd.DataFrame(samples.current.copy()), pd.DataFrame(samples.reference.copy()))[1])
