"""Learning what is rehearsed: embeddings of some reference images, clean and under each change, become a rehearsal.

Three things are learnt, each strong where the others are not:

- a regularised linear discriminant of each change at full strength from the clean images, which also names a cause;
- how far each change moves the mean image when it is faint: a drift that sets in does not move images where a strong
  one does. Both embeddings of an image are at hand, so a few dozen images tell it well;
- the axes along which the changes move single images, in whatever direction: a rotation moves every image elsewhere and
  the mean hardly, and a change that nobody rehearsed moves images along much the same axes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg

from drift.discriminant import Scatter
from drift.errors import DriftError
from drift.permutation import check_seed
from drift.rehearsal import Rehearsal, row_hashes
from drift.result import FloatArray
from drift.samples import as_groups, as_sample

SHARE = 1 / 3  # of the images is learnt from: directions learnt from more gain less than the comparison loses
MOST_IMAGES = 500
FOLDS = 5  # of the learnt images, to see how far a change moves images that its direction has not seen
MINIMUM_IMAGES = 4 * FOLDS
EXTREME = 1e30  # embeddings beyond it, or below its inverse, leave the range of single precision once they are squared
AXES = 48  # that are kept: with nine changes more than 16 made no difference, a stream may have more changes


def rows_to_rehearse(rows: int, *, groups: ArrayLike | None = None, seed: int = 0) -> NDArray[np.intp]:
    """Which of so many images to learn from: a third at random, at least 20 and at most 500, sorted.

    Only these need embeddings under each change. ``groups`` are (rows,) whole numbers that near-duplicate images share,
    a negative one is an image alone. As everywhere, the images of a group count once: the first of them is learnt from.

    Raises:
        DriftError: There are too few images, or they are too much alike.
    """
    check_seed(seed)
    labels = np.arange(rows) if groups is None else _apart(as_groups(groups, rows, "clean"))
    distinct, first = np.unique(labels, return_index=True)
    if len(distinct) < 2 * MINIMUM_IMAGES:
        counted = "" if len(distinct) == rows else f", which count as {len(distinct)} (near duplicates once),"
        raise DriftError(
            f"{rows} images{counted} are too few to rehearse with: a reference needs at least {2 * MINIMUM_IMAGES}"
        )
    wanted = max(MINIMUM_IMAGES, min(MOST_IMAGES, int(len(distinct) * SHARE)))
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(distinct))
    return np.sort(first[order[:wanted]])


def rehearse(
    clean: ArrayLike,
    changed: Mapping[str, ArrayLike],
    *,
    faint: Mapping[str, ArrayLike] | None = None,
    rows: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> Rehearsal:
    """Learn the direction of each change from embeddings of the same images: (n, d) clean, name → (n, d) changed.

    Give the very array that becomes the reference: what is learnt from is a part of its rows, which are recognised
    again in ``drift.detect``. To save embedding what is not learnt from, ask ``rows_to_rehearse`` first, hand its
    answer in as ``rows``, and give each change's embeddings of these rows only.

    Each direction is a linear discriminant on standardised columns whose within-class covariance is shrunk by Ledoit
    and Wolf's (2004) rule. Near-duplicate images share a number in ``groups``, (n,), a negative one is an image alone;
    without groups, equal rows belong together. An image that is like a learnt one counts as learnt from.

    ``faint`` has embeddings of the same images under the same changes at about a third of the strength. For a change
    that is not among them, ``changed`` has to tell how it moves images when it is faint.

    Raises:
        DriftError: No change, a faint one that is not among the changes, too few images or groups, or arrays that are
            unfit or of different shapes.
    """
    check_seed(seed)
    images = _held(as_sample(clean, "clean", minimum=1), "clean")
    if not changed:
        raise DriftError("no change to rehearse: give at least one")
    unknown = sorted(set(faint or {}) - set(changed))
    if unknown:
        raise DriftError(f"faint has {', '.join(map(repr, unknown))}, which is not among the changes")
    labels = _equal_rows(images) if groups is None else as_groups(groups, len(images), "clean")
    learnt = rows_to_rehearse(len(images), groups=labels, seed=seed) if rows is None else _checked(rows, len(images))
    group = _apart(labels)
    if len(np.unique(group[learnt])) < 2 * FOLDS:
        raise DriftError(f"the rows to learn from are fewer than {2 * FOLDS} images without near duplicates")
    among = learnt if rows is None else np.arange(len(learnt))  # where each change has them
    expected = (len(images if rows is None else learnt), images.shape[1])

    def learnt_of(name: str, values: ArrayLike) -> NDArray[np.floating]:
        sample = _held(as_sample(values, f"{name!r}", minimum=1), f"{name!r}")
        if sample.shape != expected:
            raise DriftError(f"change {name!r} has shape {sample.shape}, expected are embeddings of shape {expected}")
        return sample[among]

    strong = {name: learnt_of(name, values) for name, values in changed.items()}
    fainter = {name: learnt_of(f"faint {name}", values) for name, values in (faint or {}).items()}
    samples = [images[learnt], *strong.values()]
    if all(np.array_equal(images[learnt], sample) for sample in strong.values()):
        raise DriftError("no change moves any embedding: there is nothing to learn")
    everything = np.stack(samples).astype(np.float64)  # (1 + C, k, d)
    scale = np.sqrt(everything.var(axis=1).mean(axis=0) + everything.mean(axis=1).var(axis=0))
    used = scale > 1e-9 * max(float(scale.max()), 1e-300)
    if not used.any():
        raise DriftError("all embeddings are the same: there is nothing to learn")
    centre = everything[0].mean(axis=0)
    standard = ((everything[:, :, used] - centre[used]) / scale[used]).astype(np.float32)
    fold = _folds(group[learnt], seed)
    scatter = Scatter.of(standard, fold)
    weights = scatter.discriminants()
    spread, displacements, covariance = _held_out(scatter)
    directions = np.zeros((len(changed), images.shape[1]), dtype=np.float32)
    directions[:, used] = weights / spread[:, None] / scale[used]
    displaced = _displacements(everything[0], [*everything[1:], *({**strong, **fainter}.values())])
    rehearsal = Rehearsal(
        changes=tuple(changed),
        directions=directions,
        centre=centre.astype(np.float32),
        displacements=displacements,
        covariance=covariance,
        hashes=row_hashes(np.ascontiguousarray(images[np.isin(group, group[learnt])], dtype=np.float32)),
        faint=displaced[len(changed) :],
        axes=np.empty((0, images.shape[1]), dtype=np.float32),
        reach=np.sqrt(np.square(displaced.astype(np.float64)).mean(axis=0)).astype(np.float32),
    )
    rehearsal = replace(rehearsal, axes=_axes(everything, rehearsal.units(everything[0].std(axis=0))))
    if not rehearsal.usable:
        raise DriftError("nothing can be learnt: clean images hardly differ")
    return rehearsal


def _held(sample: NDArray[np.floating], name: str) -> NDArray[np.floating]:
    """The sample, if single precision can hold it."""
    largest = float(np.abs(sample).max())
    if largest and not 1 / EXTREME < largest < EXTREME:
        raise DriftError(
            f"the largest number of the {name} embeddings is {largest:.3g}: single precision cannot hold them"
        )
    return sample


def _displacements(clean: FloatArray, changed: Sequence[NDArray[np.floating]]) -> NDArray[np.float32]:
    """(k, d) clean images and C changes of them → (C, d) how far each moves their mean."""
    means = [(sample - clean).mean(axis=0, dtype=np.float64) for sample in changed]
    return np.stack(means).astype(np.float32)


def _axes(everything: FloatArray, deviation: FloatArray) -> NDArray[np.float32]:
    """(1 + C, k, d) images, the clean ones first, (d,) units of the columns → (r, d) axes, in the embedding's units."""
    used = deviation > 1e-9 * max(float(deviation.max()), 1e-300)
    moved = (everything[1:, :, used] - everything[0][:, used]) / deviation[used]
    lengths = np.sqrt(np.square(moved).sum(axis=(1, 2)))
    moved = moved[lengths > 0] / lengths[lengths > 0, None, None]
    axes = np.zeros((min(AXES, int(used.sum())), everything.shape[2]), dtype=np.float32)
    if not len(moved) or not len(axes):
        return axes[:0]
    flat = moved.reshape(-1, moved.shape[2])
    rows, width = flat.shape
    if width <= rows:
        squares, found = linalg.eigh(flat.T @ flat, subset_by_index=(width - len(axes), width - 1))
        axes[:, used] = (found * np.sqrt(np.maximum(squares, 0))).T * deviation[used]
        return axes
    # The same axes from the smaller matrix: of flat = U S V', U'flat is S V'.
    axes = axes[: min(len(axes), rows)]
    _, found = linalg.eigh(flat @ flat.T, subset_by_index=(rows - len(axes), rows - 1))
    axes[:, used] = found.T @ flat * deviation[used]
    return axes


def _held_out(scatter: Scatter) -> tuple[FloatArray, FloatArray, FloatArray]:
    """How images score on directions learnt without them.

    Returns the clean images' standard deviation along each (C,), and in units of it the mean displacement of each
    change (C, C) and the clean images' covariance (C, C).
    """
    samples, fold = scatter.samples, scatter.fold
    scores = np.empty((*samples.shape[:2], len(samples) - 1))
    for k in range(FOLDS):
        scores[:, fold == k] = samples[:, fold == k] @ scatter.discriminants(without=k).T
    spread = scores[0].std(axis=0)
    spread[spread == 0] = 1.0
    scores /= spread
    means = scores.mean(axis=1)
    return spread, means[1:] - means[0], np.atleast_2d(np.cov(scores[0], rowvar=False))


def _folds(groups: NDArray[np.integer], seed: int) -> NDArray[np.int64]:
    """Fold of each image, at random, near duplicates together."""
    labels, group = np.unique(groups, return_inverse=True)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(np.arange(len(labels)) % FOLDS)
    return order[group]


def _apart(groups: NDArray[np.integer]) -> NDArray[np.int64]:
    """Labels of groups in which each image that is alone has one of its own."""
    labels = np.empty(len(groups), dtype=np.int64)
    alone = groups < 0
    _, labels[~alone] = np.unique(groups[~alone], return_inverse=True)
    labels[alone] = len(groups) + np.arange(alone.sum())
    return labels


def _checked(values: ArrayLike, count: int) -> NDArray[np.intp]:
    rows = np.asarray(values)
    fits = rows.ndim == 1 and rows.dtype.kind in "iu" and len(np.unique(rows)) == len(rows)
    if not fits or len(rows) < MINIMUM_IMAGES or rows.min() < 0 or rows.max() >= count:
        raise DriftError(
            f"rows must be at least {MINIMUM_IMAGES} different indices into the {count} clean images: "
            "ask rows_to_rehearse for them"
        )
    return rows.astype(np.intp)


def _equal_rows(images: NDArray[np.floating]) -> NDArray[np.int64]:
    """Labels that equal rows share: the index of the first of them."""
    hashes = row_hashes(np.ascontiguousarray(images, dtype=np.float32))
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)
