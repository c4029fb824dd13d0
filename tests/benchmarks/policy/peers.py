"""What the peers say of a night, as somebody who reads their documentation would set them up."""

from __future__ import annotations

import warnings

import numpy as np

KS, KS_STRICT = "alibi-detect KS, 5 %", "alibi-detect KS, 1/365"
MMD, EVIDENTLY = "alibi-detect MMD, 5 %", "Evidently, default"
PEERS = (KS, KS_STRICT, MMD, EVIDENTLY)
STRICT = 1 / 365


def judge(reference: np.ndarray, night: np.ndarray, wanted: frozenset[str], seed: int) -> dict[str, bool]:
    """Whether each peer that is asked calls this drift: (n, d) against (m, d) embeddings."""
    found: dict[str, bool] = {}
    if wanted & {KS, KS_STRICT}:
        smallest = _smallest_ks_p_value(reference, night) * reference.shape[1]  # Bonferroni's correction, its default
        found |= {KS: smallest < 0.05, KS_STRICT: smallest < STRICT}
    if MMD in wanted:
        found[MMD] = _mmd(reference, night, seed)
    if EVIDENTLY in wanted:
        found[EVIDENTLY] = _evidently(reference, night)
    return {name: found[name] for name in wanted}


def _smallest_ks_p_value(reference: np.ndarray, night: np.ndarray) -> float:
    """alibi-detect's default: a Kolmogorov–Smirnov test of every feature."""
    from alibi_detect.cd import KSDrift

    return float(KSDrift(reference, p_val=0.05).predict(night)["data"]["p_val"].min())


def _mmd(reference: np.ndarray, night: np.ndarray, seed: int) -> bool:
    """alibi-detect's MMD at 5 % with its default of 100 permutations."""
    import torch
    from alibi_detect.cd import MMDDrift

    torch.manual_seed(seed)
    detector = MMDDrift(reference, p_val=0.05, backend="pytorch", device="cpu")
    return bool(detector.predict(night)["data"]["is_drift"])


def _evidently(reference: np.ndarray, night: np.ndarray) -> bool:
    """Evidently's default for embeddings: a classifier, against random scores if the reference has under 1,000 rows."""
    import pandas as pd
    from evidently.legacy.metrics.data_drift.embedding_drift_methods import model

    method = model(bootstrap=len(reference) < 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bool(method(pd.DataFrame(night), pd.DataFrame(reference))[1])  # it changes the frames it is given
