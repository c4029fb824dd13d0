"""Rehearsed drift: directions in embedding space along which known changes move images.

A regularised linear discriminant per change tells its embeddings from clean ones. Projected on it, a change that is
spread over hundreds of dimensions becomes a shift of one number, so a test sees it earlier, and the direction that
answers names the likely cause.

Directions learnt on the very images that later stand as the reference would flatter those images: a fresh clean image
would score differently, and every check would be off its level. So the images are divided into folds, each fold has
directions learnt without it, and each learnt image is only ever scored by its own fold's. A fresh image is scored by a
fold drawn at random, which gives both the same distribution. Learnt images are recognised by a hash of their row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg

from drift.errors import DriftError
from drift.result import Cause, FloatArray
from drift.samples import as_sample

FOLDS = 5
MINIMUM_IMAGES = 4 * FOLDS
RESEMBLANCE = (
    0.6  # least cosine between the displacement of a sample and a rehearsed one for the latter to be its cause
)
FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rehearsal:
    """What was learnt of C changes in d dimensions, frozen with a reference.

    Attributes:
        changes: Names of the changes.
        directions: (folds, C, d) float32; a clean image's score along one has standard deviation 1.
        offsets: (folds, C) mean scores of clean images, to be subtracted.
        displacements: (C, C) mean score along each direction (columns) under each change (rows) as it was rehearsed.
        covariance: (C, C) of clean images' scores.
        hashes: (n,) uint64 of the learnt images' embeddings.
        folds: (n,) the fold that each learnt image was left out of.
    """

    changes: tuple[str, ...]
    directions: NDArray[np.float32]
    offsets: FloatArray
    displacements: FloatArray
    covariance: FloatArray
    hashes: NDArray[np.uint64]
    folds: NDArray[np.int64]

    @property
    def dimensions(self) -> int:
        """d, the dimension of the embeddings."""
        return int(self.directions.shape[2])

    def scores(self, embeddings: ArrayLike, rng: np.random.Generator) -> FloatArray:
        """Project embeddings on the rehearsed directions: (N, d) → (N, C)."""
        points = np.ascontiguousarray(embeddings, dtype=np.float32)
        if points.ndim != 2 or points.shape[1] != self.dimensions:
            raise DriftError(f"the rehearsal is of {self.dimensions} dimensions, the sample of shape {points.shape}")
        fold = self._fold_of(points, rng)
        scores = np.empty((len(points), len(self.changes)))
        for k, (directions, offsets) in enumerate(zip(self.directions, self.offsets, strict=True)):
            mine = fold == k
            scores[mine] = points[mine].astype(np.float64) @ directions.T.astype(np.float64) - offsets
        return scores

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
            "offsets": self.offsets,
            "displacements": self.displacements,
            "covariance": self.covariance,
            "hashes": self.hashes,
            "folds": self.folds,
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
                offsets=np.asarray(arrays["offsets"], dtype=np.float64),
                displacements=np.asarray(arrays["displacements"], dtype=np.float64),
                covariance=np.asarray(arrays["covariance"], dtype=np.float64),
                hashes=np.asarray(arrays["hashes"], dtype=np.uint64),
                folds=np.asarray(arrays["folds"], dtype=np.int64),
            )
        except KeyError as error:
            raise DriftError(f"a saved rehearsal lacks {error}: rehearse again") from None
        width = len(rehearsal.changes)
        fits = (
            width > 0
            and rehearsal.directions.ndim == 3
            and rehearsal.directions.shape[1] == width
            and rehearsal.offsets.shape == rehearsal.directions.shape[:2]
            and rehearsal.displacements.shape == rehearsal.covariance.shape == (width, width)
            and rehearsal.hashes.ndim == 1
            and rehearsal.hashes.shape == rehearsal.folds.shape
        )
        if not fits:
            raise DriftError("a saved rehearsal is damaged (shapes do not fit): rehearse again")
        return rehearsal

    def _fold_of(self, points: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.int64]:
        """Fold that scores each row: its own if it was learnt, else one drawn from the folds of learnt images."""
        fold = self.folds[rng.permutation(np.arange(len(points)) % len(self.folds))]
        order = np.argsort(self.hashes, kind="stable")
        hashes = _row_hashes(points)
        place = np.minimum(np.searchsorted(self.hashes, hashes, sorter=order), len(order) - 1)
        known = self.hashes[order[place]] == hashes
        fold[known] = self.folds[order[place[known]]]
        return fold


def rehearse(
    clean: ArrayLike, changed: Mapping[str, ArrayLike], *, groups: ArrayLike | None = None, seed: int = 0
) -> Rehearsal:
    """Learn the direction of each change from embeddings of the same images: (n, d) clean, name → (n, d) changed.

    Give the very array that becomes the reference; its rows are recognised again in ``drift.detect``. Each direction is
    a linear discriminant on standardised columns whose within-class covariance is shrunk by Ledoit and Wolf's (2004)
    rule. Images of one group, (n,) of any labels, such as near-duplicates, stay in one fold; without groups, equal rows
    do.

    Raises:
        DriftError: No change, too few images or groups, or arrays that are unfit or of different shapes.
    """
    base = as_sample(clean, "clean", minimum=MINIMUM_IMAGES).astype(np.float64)
    if not changed:
        raise DriftError("no change to rehearse: give at least one")
    others = {}
    for name, values in changed.items():
        others[name] = as_sample(values, f"{name!r}", minimum=1).astype(np.float64)
        if others[name].shape != base.shape:
            raise DriftError(f"change {name!r} has shape {others[name].shape}, the clean images {base.shape}")
    everything = np.stack([base, *others.values()])  # (1 + C, n, d)
    scale = np.sqrt(everything.var(axis=1).mean(axis=0) + everything.mean(axis=1).var(axis=0))
    used = scale > 1e-9 * max(float(scale.max()), 1e-300)
    if not used.any():
        raise DriftError("no change moves any embedding: there is nothing to learn")
    standard = (everything[:, :, used] - base[:, used].mean(axis=0)) / scale[used]

    n, width = len(base), len(others)
    hashes = _row_hashes(np.ascontiguousarray(clean, dtype=np.float32))
    fold = _folds(hashes if groups is None else np.asarray(groups), n, seed)
    weights = np.stack([_discriminants(standard[:, fold != k]) for k in range(FOLDS)])  # (folds, C, used)
    held_out = np.empty((1 + width, n, width))  # scores of every image, each by the directions learnt without it
    for k in range(FOLDS):
        held_out[:, fold == k] = standard[:, fold == k] @ weights[k].T
    spread = held_out[0].std(axis=0)
    spread[spread == 0] = 1.0
    weights /= spread[:, None]
    held_out /= spread
    directions = np.zeros((FOLDS, width, base.shape[1]), dtype=np.float32)
    directions[:, :, used] = weights / scale[used]
    centre = base.mean(axis=0)
    return Rehearsal(
        changes=tuple(others),
        directions=directions,
        offsets=directions.astype(np.float64) @ centre,
        displacements=(held_out[1:].mean(axis=1) - held_out[0].mean(axis=0)),
        covariance=np.atleast_2d(np.cov(held_out[0], rowvar=False)),
        hashes=hashes,
        folds=fold,
    )


def _folds(groups: NDArray[np.generic], rows: int, seed: int) -> NDArray[np.int64]:
    """Fold of each row, at random, equal groups together."""
    if groups.shape != (rows,):
        raise DriftError(f"groups has shape {groups.shape}: one label for each of the {rows} images is needed")
    labels, group = np.unique(groups, return_inverse=True)
    if len(labels) < FOLDS:
        raise DriftError(f"the images to rehearse with form {len(labels)} groups, at least {FOLDS} are needed")
    order = np.random.Generator(np.random.PCG64(seed)).permutation(np.arange(len(labels)) % FOLDS)
    return order[group]


def _discriminants(samples: FloatArray) -> FloatArray:
    """(1 + C, n, d) clean first → (C, d) discriminants of each change from the clean."""
    from sklearn.covariance import ledoit_wolf  # heavy, and only a promotion needs it

    means = samples.mean(axis=1)
    within = (samples - means[:, None]).reshape(-1, samples.shape[2])
    covariance, _ = ledoit_wolf(within, assume_centered=True)
    factor = linalg.cho_factor(covariance + 1e-9 * np.trace(covariance) / len(covariance) * np.eye(len(covariance)))
    directions: FloatArray = linalg.cho_solve(factor, (means[1:] - means[0]).T).T
    return directions


def _row_hashes(points: NDArray[np.float32]) -> NDArray[np.uint64]:
    digests = b"".join(hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in points)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)
