"""Rehearsed drift: directions in embedding space along which known changes move images.

A regularised linear discriminant per change tells its embeddings from clean ones. Projected on it, a change that is
spread over hundreds of dimensions becomes a shift of one number, so a test sees it earlier, and the direction that
answers names the likely cause.

An image that a direction was learnt from cannot testify on it: it lies further on the clean side than a fresh image
would. Scoring each image by directions that were learnt without it (cross-fitting) mends the mean but not the variance:
images of different folds depend on each other through the directions. Where a change moves images by little, that
doubles or triples the false alarms of a small reference. So only a part of the images is learnt from. Along the
directions ``detect`` leaves that part out; in all other statistics it counts as what it is, reference, but in every
relabelling: given the learnt images, the others and the new ones are exchangeable, and the permutation test is exact
whatever was rehearsed. Learnt images are recognised by a hash of their row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg

from drift.discriminant import Scatter
from drift.errors import DriftError
from drift.result import Cause, FloatArray
from drift.samples import as_groups, as_sample

SHARE = 1 / 3  # of the images is learnt from: directions learnt from more gain less than the comparison loses
MOST_IMAGES = 500
FOLDS = 5  # of the learnt images, to see how far a change moves images that its direction has not seen
MINIMUM_IMAGES = 4 * FOLDS
RESEMBLANCE = (
    0.6  # least cosine between the displacement of a sample and a rehearsed one for the latter to be its cause
)
FORMAT = 2


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rehearsal:
    """What was learnt of C changes in d dimensions, frozen with a reference.

    Attributes:
        changes: Names of the changes.
        directions: (C, d) float32; a clean image's score along one has standard deviation 1.
        centre: (d,) float32 mean of the learnt clean images, whose score is 0.
        displacements: (C, C) mean score along each direction (columns) under each change (rows) as it was rehearsed.
        covariance: (C, C) of clean images' scores.
        hashes: (k,) uint64 of the learnt images' embeddings.
    """

    changes: tuple[str, ...]
    directions: NDArray[np.float32]
    centre: NDArray[np.float32]
    displacements: FloatArray
    covariance: FloatArray
    hashes: NDArray[np.uint64]

    @property
    def dimensions(self) -> int:
        """d, the dimension of the embeddings."""
        return int(self.directions.shape[1])

    def scores(self, embeddings: ArrayLike) -> FloatArray:
        """Project embeddings on the rehearsed directions: (N, d) → (N, C).

        Raises:
            DriftError: The embeddings are of another dimension.
        """
        points = self._points(embeddings)
        scores: FloatArray = (points - self.centre).astype(np.float64) @ self.directions.T.astype(np.float64)
        return scores

    def learnt(self, embeddings: ArrayLike) -> NDArray[np.bool_]:
        """Which rows are images that the directions were learnt from: (N, d) → (N,).

        Raises:
            DriftError: The embeddings are of another dimension.
        """
        return np.isin(_row_hashes(self._points(embeddings)), self.hashes)

    def cause(self, shift: FloatArray, p_value: float) -> Cause | None:
        """Name the change whose rehearsed displacement is most like an observed one: (C,) mean score shift → cause.

        Both are compared in units of the clean images' own variation (a Mahalanobis cosine), so that directions which
        say the same are not counted twice. None if nothing rehearsed is like it.
        """
        width = len(self.changes)
        metric = self.covariance + 0.05 * np.trace(self.covariance) / width * np.eye(width)
        root = linalg.cholesky(metric, lower=True)
        observed = linalg.solve_triangular(root, shift, lower=True)
        rehearsed = linalg.solve_triangular(root, self.displacements.T, lower=True).T
        lengths = np.linalg.norm(rehearsed, axis=1)
        size = float(np.linalg.norm(observed))
        if size == 0 or not lengths.any():
            return None
        cosines = np.divide(rehearsed @ observed, lengths * size, out=np.zeros(width), where=lengths > 0)
        best = int(cosines.argmax())
        if cosines[best] < RESEMBLANCE:
            return None
        strength = float(cosines[best] * size / lengths[best])
        return Cause(change=self.changes[best], strength=strength, p_value=p_value)

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Plain arrays without pickled objects, for ``numpy.savez``."""
        return {
            "format": np.array(FORMAT),
            "changes": np.array(self.changes, dtype=np.str_),
            "directions": self.directions,
            "centre": self.centre,
            "displacements": self.displacements,
            "covariance": self.covariance,
            "hashes": self.hashes,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Rehearsal:
        """Read what ``to_arrays`` wrote; other keys are left alone, so an opened npz file will do.

        Raises:
            DriftError: Something is missing, or of a shape that does not fit the rest.
        """
        try:
            if int(arrays["format"]) != FORMAT:
                raise DriftError(f"rehearsal format {int(arrays['format'])} is unknown: rehearse again")
            rehearsal = cls(
                changes=tuple(str(name) for name in arrays["changes"]),
                directions=np.asarray(arrays["directions"], dtype=np.float32),
                centre=np.asarray(arrays["centre"], dtype=np.float32),
                displacements=np.asarray(arrays["displacements"], dtype=np.float64),
                covariance=np.asarray(arrays["covariance"], dtype=np.float64),
                hashes=np.asarray(arrays["hashes"], dtype=np.uint64),
            )
        except KeyError as error:
            raise DriftError(f"a saved rehearsal lacks {error}: rehearse again") from None
        width = len(rehearsal.changes)
        fits = (
            width > 0
            and rehearsal.directions.ndim == 2
            and rehearsal.directions.shape == (width, rehearsal.centre.size)
            and rehearsal.centre.ndim == 1
            and rehearsal.displacements.shape == rehearsal.covariance.shape == (width, width)
            and rehearsal.hashes.ndim == 1
        )
        if not fits:
            raise DriftError("a saved rehearsal is damaged (shapes do not fit): rehearse again")
        return rehearsal

    def _points(self, embeddings: ArrayLike) -> NDArray[np.float32]:
        points = np.ascontiguousarray(embeddings, dtype=np.float32)
        if points.ndim != 2 or points.shape[1] != self.dimensions:
            raise DriftError(f"the rehearsal is of {self.dimensions} dimensions, the sample of shape {points.shape}")
        return points


def rows_to_rehearse(rows: int, *, groups: ArrayLike | None = None, seed: int = 0) -> NDArray[np.intp]:
    """Which of so many images to learn from: a third at random, at most 500, sorted; groups stay together.

    Only these need embeddings under each change. ``groups`` are (rows,) whole numbers that near-duplicate images share,
    a negative one is an image alone.

    Raises:
        DriftError: There are too few images, or they are too much alike.
    """
    labels = np.arange(rows) if groups is None else _apart(as_groups(groups, rows, "clean"))
    wanted = max(MINIMUM_IMAGES, min(MOST_IMAGES, int(rows * SHARE)))
    distinct, group, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(distinct))
    enough = int(np.searchsorted(np.cumsum(sizes[order]), wanted)) + 1
    if len(distinct) < 2 * FOLDS or rows < 2 * MINIMUM_IMAGES or enough > len(distinct) - FOLDS:
        raise DriftError(
            f"{rows} images, {len(distinct)} of them no near duplicates of others, are too few to rehearse with: "
            f"a reference needs at least {2 * MINIMUM_IMAGES}"
        )
    chosen = np.zeros(len(distinct), dtype=bool)
    chosen[order[:enough]] = True
    return np.flatnonzero(chosen[group])


def rehearse(
    clean: ArrayLike,
    changed: Mapping[str, ArrayLike],
    *,
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
    without groups, equal rows belong together.

    Raises:
        DriftError: No change, too few images or groups, or arrays that are unfit or of different shapes.
    """
    images = as_sample(clean, "clean", minimum=1)
    if not changed:
        raise DriftError("no change to rehearse: give at least one")
    labels = _equal_rows(images) if groups is None else as_groups(groups, len(images), "clean")
    learnt = rows_to_rehearse(len(images), groups=labels, seed=seed) if rows is None else _rows(rows, len(images))
    among = learnt if rows is None else np.arange(len(learnt))  # where each change has them
    samples = [images[learnt]]
    expected = (len(images if rows is None else learnt), images.shape[1])
    for name, values in changed.items():
        sample = as_sample(values, f"{name!r}", minimum=1)
        if sample.shape != expected:
            raise DriftError(f"change {name!r} has shape {sample.shape}, expected are embeddings of shape {expected}")
        samples.append(sample[among])
    everything = np.stack(samples).astype(np.float64)  # (1 + C, k, d)
    scale = np.sqrt(everything.var(axis=1).mean(axis=0) + everything.mean(axis=1).var(axis=0))
    used = scale > 1e-9 * max(float(scale.max()), 1e-300)
    if not used.any():
        raise DriftError("no change moves any embedding: there is nothing to learn")
    centre = everything[0].mean(axis=0)
    standard = ((everything[:, :, used] - centre[used]) / scale[used]).astype(np.float32)
    fold = _folds(labels[learnt], seed)
    scatter = Scatter.of(standard, fold)
    weights = scatter.discriminants()
    spread, displacements, covariance = _held_out(scatter)
    directions = np.zeros((len(changed), images.shape[1]), dtype=np.float32)
    directions[:, used] = weights / spread[:, None] / scale[used]
    return Rehearsal(
        changes=tuple(changed),
        directions=directions,
        centre=centre.astype(np.float32),
        displacements=displacements,
        covariance=covariance,
        hashes=_row_hashes(np.ascontiguousarray(images[learnt], dtype=np.float32)),
    )


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
    labels, group = np.unique(_apart(groups), return_inverse=True)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(np.arange(len(labels)) % FOLDS)
    return order[group]


def _apart(groups: NDArray[np.integer]) -> NDArray[np.int64]:
    """Labels of groups in which each image that is alone has one of its own."""
    labels = groups.astype(np.int64)
    alone = labels < 0
    labels[alone] = labels.max(initial=0) + 1 + np.arange(alone.sum())
    return labels


def _rows(values: ArrayLike, count: int) -> NDArray[np.intp]:
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
    hashes = _row_hashes(np.ascontiguousarray(images, dtype=np.float32))
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)


def _row_hashes(points: NDArray[np.float32]) -> NDArray[np.uint64]:
    digests = b"".join(hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in points)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)
