"""What a drift test accepts: two finite samples of equal dimension, scaled so that float32 arithmetic is safe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from drift.errors import DriftError

Float32 = NDArray[np.float32]

MINIMUM_ROWS = 5  # below it there are too few distinct permutations to reach any useful level
MAXIMUM_ROWS = 10_000  # per sample: larger ones are represented by a uniform random subsample, which bounds the cost


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Pooled:
    """Two samples as one array.

    Attributes:
        points: (n + m, d) float32, the reference first; centred on the pooled mean and divided by ``scale``.
        n: Rows of the reference.
        m: Rows of the current sample.
        fixed: The first so many of the n: reference rows that stay reference in every relabelling.
        scale: What the centred values were divided by, in the units of the embedding.
        reference_rows: (n,) the rows of the given reference that are in ``points``.
        current_rows: (m,) the same for the current sample.
        strata: (n + m,) numbers; rows change their label only with others of their number. None where all may.
    """

    points: Float32
    n: int
    m: int
    fixed: int
    scale: float
    reference_rows: NDArray[np.intp]
    current_rows: NDArray[np.intp]
    strata: NDArray[np.intp] | None = None


def as_sample(values: ArrayLike, name: str, *, minimum: int = MINIMUM_ROWS) -> NDArray[np.floating]:
    """Check one sample: any real (rows, d) array → the same as floating point, finite.

    Raises:
        DriftError: It is not a table of finite real numbers with enough rows.
    """
    try:
        array = np.asarray(values)
    except ValueError:
        raise DriftError(f"the {name} sample must be a (rows, dimensions) array: its rows differ in length") from None
    if array.ndim != 2:
        raise DriftError(f"the {name} sample must be a (rows, dimensions) array, not of shape {array.shape}")
    if array.dtype.kind not in "fiub":
        raise DriftError(f"the {name} sample must hold real numbers, not {array.dtype}")
    if array.dtype.kind != "f" or array.dtype.itemsize not in (4, 8):
        array = array.astype(np.float32 if array.dtype == np.float16 else np.float64)
    rows, dimensions = array.shape
    if dimensions == 0:
        raise DriftError(f"the {name} sample has no columns: give embeddings of at least one dimension")
    if rows < minimum:
        raise DriftError(f"the {name} sample has {rows} rows, at least {minimum} are needed: pool more images")
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array).all(axis=1)).sum())
        raise DriftError(f"the {name} sample has NaN or infinite values in {bad} of {rows} rows: leave those rows out")
    return array


def pool(
    reference: ArrayLike,
    current: ArrayLike,
    rng: np.random.Generator,
    *,
    reference_groups: ArrayLike | None = None,
    current_groups: ArrayLike | None = None,
    reference_strata: ArrayLike | None = None,
    current_strata: ArrayLike | None = None,
    learnt: Callable[[NDArray[np.floating]], NDArray[np.bool_]] | None = None,
    maximum: int = MAXIMUM_ROWS,
) -> Pooled:
    """Check two samples and pool them: (n, d) and (m, d) → (n + m, d), or fewer rows.

    Of each group of near duplicates one row is drawn, and a sample of more than ``maximum`` rows is replaced by
    ``maximum`` of them, drawn uniformly and without regard to the values, so the level of a permutation test is
    untouched. Reference rows that ``learnt`` names come first and stay reference: a rehearsal has seen them, so they
    cannot be taken for current ones. Current rows that it names are left out. Rows change their label only with rows of
    their stratum, where strata are given.

    Raises:
        DriftError: A sample is unfit, the two differ in dimension, ``learnt`` names no reference row, too few groups
            are left, or strata are given for one sample only.
    """
    first, second = as_sample(reference, "reference"), as_sample(current, "current")
    if first.shape[1] != second.shape[1]:
        raise DriftError(
            f"the reference has {first.shape[1]} dimensions and the current sample {second.shape[1]}: "
            "embed both with the same model"
        )
    reference_rows = _rows(first, reference_groups, np.ones(len(first), dtype=bool), "reference", maximum, rng)
    seen = np.zeros(len(first), dtype=bool) if learnt is None else learnt(first)
    if learnt is not None and not seen.any():
        none_learnt()
    stays = seen[reference_rows]
    if (~stays).sum() < MINIMUM_ROWS:
        _too_few_unlearnt("reference", int((~stays).sum()))
    reference_rows = np.concatenate([reference_rows[stays], reference_rows[~stays]])
    fresh = np.ones(len(second), dtype=bool) if learnt is None else ~learnt(second)
    current_rows = _rows(second, current_groups, fresh, "current", maximum, rng)
    strata = _strata(reference_strata, current_strata, len(first), len(second))
    points = np.concatenate([first[reference_rows], second[current_rows]]).astype(np.float64)
    # Distances come from |x|² + |y|² - 2xy: an offset far from zero would cost all of float32's digits, and huge or
    # tiny values would leave its range.
    largest = float(np.abs(points).max())
    if largest > 0:
        points /= largest
    points -= points.mean(axis=0)
    spread = float(np.abs(points).max())
    if spread > 0:
        points /= spread
    return Pooled(
        points=points.astype(np.float32),
        n=len(reference_rows),
        m=len(current_rows),
        fixed=int(stays.sum()),
        scale=(largest or 1.0) * (spread or 1.0),
        reference_rows=reference_rows,
        current_rows=current_rows,
        strata=None if strata is None else np.concatenate([strata[0][reference_rows], strata[1][current_rows]]),
    )


def pool_probabilities(
    reference: ArrayLike | None,
    current: ArrayLike | None,
    reference_shape: tuple[int, ...],
    current_shape: tuple[int, ...],
    pooled: Pooled,
) -> Float32 | None:
    """Predicted probabilities of the pooled rows: (n, c) and (m, c) of the given samples → (N, c), None without any.

    Raises:
        DriftError: Only one sample has them, or they do not fit the samples or each other.
    """
    if reference is None and current is None:
        return None
    if reference is None or current is None:
        raise DriftError("probabilities are given for one sample only: give those of both, or of none")
    first = as_sample(reference, "reference's probabilities", minimum=1)
    second = as_sample(current, "current probabilities'", minimum=1)
    for name, side, rows in (("reference", first, reference_shape[0]), ("current", second, current_shape[0])):
        if len(side) != rows:
            raise DriftError(
                f"the {name} sample has {rows} rows and probabilities for {len(side)}: give one row for each"
            )
    if first.shape[1] != second.shape[1]:
        raise DriftError(
            f"the probabilities are of {first.shape[1]} classes in the reference and {second.shape[1]} in the current "
            "sample: predict both with the same model"
        )
    both = np.concatenate([first[pooled.reference_rows], second[pooled.current_rows]]).astype(np.float32)
    if both.min() < 0 or both.max() > 1 + 1e-3:
        raise DriftError("probabilities lie between 0 and 1: give the model's output after the softmax")
    return both


def as_groups(values: ArrayLike, rows: int, name: str) -> NDArray[np.integer]:
    """Check labels of near-duplicate groups, one for each row; a negative one is a row alone.

    Raises:
        DriftError: They are no whole numbers, or not as many as the rows.
    """
    groups = np.asarray(values)
    if groups.shape != (rows,) or groups.dtype.kind not in "iu":
        raise DriftError(
            f"the {name} groups must be whole numbers, one for each of the {rows} rows, "
            f"not {groups.dtype} of shape {groups.shape}"
        )
    return groups


def count_groups(groups: NDArray[np.integer]) -> int:
    """Groups of near duplicates, rows alone among them."""
    return int((groups < 0).sum() + len(np.unique(groups[groups >= 0])))


def _strata(
    reference: ArrayLike | None, current: ArrayLike | None, n: int, m: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
    """Strata of the rows of both samples, (n,) and (m,), or None."""
    if reference is None and current is None:
        return None
    if reference is None or current is None:
        raise DriftError("strata are given for one sample only: give those of both, or of none")
    found = [np.asarray(reference), np.asarray(current)]
    for name, values, rows in (("reference", found[0], n), ("current", found[1], m)):
        if values.shape != (rows,) or values.dtype.kind not in "iu":
            raise DriftError(
                f"the {name} strata must be whole numbers, one for each of the {rows} rows, "
                f"not {values.dtype} of shape {values.shape}"
            )
    return found[0].astype(np.intp), found[1].astype(np.intp)


def _rows(
    sample: NDArray[np.floating],
    groups: ArrayLike | None,
    usable: NDArray[np.bool_],
    name: str,
    maximum: int,
    rng: np.random.Generator,
) -> NDArray[np.intp]:
    """Sorted rows that are tested."""
    rows = np.flatnonzero(usable)
    if len(rows) < MINIMUM_ROWS:
        _too_few_unlearnt(name, len(rows))
    if groups is not None:
        labels = as_groups(groups, len(sample), name)[rows]
        if count_groups(labels) < MINIMUM_ROWS:
            raise DriftError(
                f"the {name} sample is of {count_groups(labels)} images without near duplicates, "
                f"at least {MINIMUM_ROWS} are needed: pool more images"
            )
        rows = rows[_one_of_each(labels, rng)]
    return rows[_subsample(len(rows), maximum, rng)]


def none_learnt() -> NoReturn:
    """Raise the DriftError of a rehearsal that belongs to another reference."""
    raise DriftError(
        "the rehearsal knows none of the reference's rows: give the very embeddings it was learnt from, of the same "
        "type and scale, or rehearsal.apart() if it was learnt from other images"
    )


def _too_few_unlearnt(name: str, rows: int) -> NoReturn:
    raise DriftError(
        f"the {name} sample has {rows} rows that the rehearsal was not learnt from, at least {MINIMUM_ROWS} "
        "are needed: learn from fewer images, or test without the rehearsal"
    )


def _one_of_each(groups: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.intp]:
    """Sorted rows, one at random of each group."""
    order = rng.permutation(len(groups))
    kept = groups < 0
    _, first = np.unique(groups[order], return_index=True)
    kept[order[first]] = True
    return np.flatnonzero(kept)


def _subsample(rows: int, maximum: int, rng: np.random.Generator) -> NDArray[np.intp]:
    if rows <= maximum:
        return np.arange(rows)
    return np.sort(rng.choice(rows, size=maximum, replace=False))
