"""Rehearsed drift: what is known of how plausible changes move images in embedding space, frozen with a reference.

Along a direction that tells a change from clean images, a change that is spread over hundreds of dimensions becomes a
shift of one number, so a test sees it earlier, and the direction that answers names the likely cause.

An image that a direction was learnt from cannot testify on it: it lies further on the clean side than a fresh image
would. Scoring each image by directions that were learnt without it (cross-fitting) mends the mean but not the variance:
images of different folds depend on each other through the directions. Where a change moves images by little, that
doubles or triples the false alarms of a small reference. So only a part of the images is learnt from. Along the
directions ``detect`` leaves that part out; in all other statistics it counts as what it is, reference, but in every
relabelling: given the learnt images, the others and the new ones are exchangeable, and the permutation test is exact
whatever was rehearsed. Learnt images and their near duplicates are recognised by a hash of their row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg

from drift.errors import DriftError
from drift.result import Cause, FloatArray

RESEMBLANCE = (
    0.6  # least cosine between the displacement of a sample and a rehearsed one for the latter to be its cause
)
NEARLY_DEAD = 0.1  # of what changes move a column by: one that varies less is dead without them
FORMAT = 3
WITHOUT_FAINT = 2  # the format before ``faint`` and ``axes``, which still serves without them

Number = TypeVar("Number", np.float32, np.float64, np.int64, np.uint64)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rehearsal:
    """What was learnt of C changes in d dimensions, frozen with a reference.

    Attributes:
        changes: Names of the changes.
        directions: (C, d) float32; a clean image's score along one has standard deviation 1.
        centre: (d,) float32 mean of the learnt clean images, whose score is 0.
        displacements: (C, C) mean score along each direction (columns) under each change (rows) as it was rehearsed.
        covariance: (C, C) of clean images' scores.
        hashes: (k,) uint64 of the embeddings of the learnt images and their near duplicates; none if it is ``apart``.
        faint: (F, d) float32 mean displacement of an image by each change when it is faint, or as it was rehearsed
            where no fainter one was; F = 0 where none is known.
        axes: (r, d) float32, principal axes along which the changes, as they were rehearsed, move single images, every
            change counting the same; r = 0 where none is known.
        reach: (d,) float32, how far the changes move the mean of each column: the root of the mean square.
    """

    changes: tuple[str, ...]
    directions: NDArray[np.float32]
    centre: NDArray[np.float32]
    displacements: FloatArray
    covariance: FloatArray
    hashes: NDArray[np.uint64]
    faint: NDArray[np.float32]
    axes: NDArray[np.float32]
    reach: NDArray[np.float32]

    @property
    def dimensions(self) -> int:
        """d, the dimension of the embeddings."""
        return int(self.directions.shape[1])

    @property
    def usable(self) -> bool:
        """Whether all numbers are finite, and clean images differ along the directions."""
        numbers = (self.directions, self.centre, self.displacements, self.covariance, self.faint, self.axes, self.reach)
        return all(np.isfinite(one).all() for one in numbers) and float(np.trace(self.covariance)) > 0

    @property
    def is_apart(self) -> bool:
        """Whether the reference that it is used with has no image that was learnt from."""
        return len(self.hashes) == 0

    def apart(self) -> Rehearsal:
        """The same for a reference of other images than those that it was learnt from, or of a part without these."""
        return replace(self, hashes=self.hashes[:0])

    def units(self, deviation: FloatArray) -> FloatArray:
        """(d,) deviation of the columns of a sample → (d,) units to standardise them by.

        A column that hardly varies but that a change wakes up, such as a dead unit, would in units of its own deviation
        be moved a thousandfold, and nothing else would count; or rounding noise would. How far it is woken serves.
        """
        return np.where(deviation < NEARLY_DEAD * self.reach, self.reach, deviation)

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
        return np.isin(row_hashes(self._points(embeddings)), self.hashes)

    def cause(self, shift: FloatArray, p_value: float) -> Cause | None:
        """Name the change whose rehearsed displacement is most like an observed one: (C,) mean score shift → cause.

        Both are compared in units of the clean images' own variation (a Mahalanobis cosine), so that directions which
        say the same are not counted twice. None if nothing rehearsed is like it.
        """
        width = len(self.changes)
        root = linalg.cholesky(self._metric(), lower=True)
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
            "faint": self.faint,
            "axes": self.axes,
            "reach": self.reach,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Rehearsal:
        """Read what ``to_arrays`` wrote; other keys are left alone, so an opened npz file will do.

        Raises:
            DriftError: Something is missing, or does not fit the rest.
        """
        try:
            written = int(_numbers(arrays["format"], np.int64).item())
            if written not in (WITHOUT_FAINT, FORMAT):
                raise DriftError(f"rehearsal format {written} is unknown: rehearse again")
            extended = written == FORMAT
            none = np.empty((0, *np.shape(arrays["centre"])), dtype=np.float32)
            rehearsal = cls(
                changes=tuple(str(name) for name in arrays["changes"]),
                directions=_numbers(arrays["directions"], np.float32),
                centre=_numbers(arrays["centre"], np.float32),
                displacements=_numbers(arrays["displacements"], np.float64),
                covariance=_numbers(arrays["covariance"], np.float64),
                hashes=_numbers(arrays["hashes"], np.uint64),
                faint=_numbers(arrays["faint"] if extended else none, np.float32),
                axes=_numbers(arrays["axes"] if extended else none, np.float32),
                reach=_numbers(arrays["reach"] if extended else np.zeros_like(arrays["centre"]), np.float32),
            )
        except KeyError as error:
            raise DriftError(f"a saved rehearsal lacks {error}: rehearse again") from None
        except (TypeError, ValueError) as error:
            raise DriftError(f"a saved rehearsal is damaged ({error}): rehearse again") from None
        width = len(rehearsal.changes)
        fits = (
            width > 0
            and np.ndim(arrays["changes"]) == 1
            and len(set(rehearsal.changes)) == width
            and rehearsal.directions.ndim == 2
            and rehearsal.directions.shape == (width, rehearsal.centre.size)
            and rehearsal.centre.ndim == 1
            and rehearsal.displacements.shape == rehearsal.covariance.shape == (width, width)
            and rehearsal.hashes.ndim == 1
            and not rehearsal.is_apart
            and rehearsal.faint.ndim == rehearsal.axes.ndim == 2
            and rehearsal.faint.shape[1] == rehearsal.axes.shape[1] == rehearsal.centre.size
            and len(rehearsal.faint) in (0, width)
            and rehearsal.reach.shape == rehearsal.centre.shape
            and not (rehearsal.reach < 0).any()
        )
        if not fits or not rehearsal.usable:
            raise DriftError("a saved rehearsal is damaged (shapes do not fit, or numbers are not finite)")
        try:
            linalg.cholesky(rehearsal._metric(), lower=True)
        except linalg.LinAlgError:
            raise DriftError("a saved rehearsal is damaged (its covariance is none): rehearse again") from None
        return rehearsal

    def _metric(self) -> FloatArray:
        """(C, C) covariance of clean images' scores, with a ridge."""
        width = len(self.changes)
        return self.covariance + 0.05 * np.trace(self.covariance) / width * np.eye(width)

    def _points(self, embeddings: ArrayLike) -> NDArray[np.float32]:
        with np.errstate(over="ignore"):
            points = np.ascontiguousarray(embeddings, dtype=np.float32)
        if points.ndim != 2 or points.shape[1] != self.dimensions:
            raise DriftError(f"the rehearsal is of {self.dimensions} dimensions, the sample of shape {points.shape}")
        if not np.isfinite(points).all():
            raise DriftError("the sample has NaN, infinite or huge values, which single precision cannot hold")
        return points


def _numbers(values: NDArray[np.generic], dtype: type[Number]) -> NDArray[Number]:
    """An array as numbers of a type that can hold them.

    Raises:
        ValueError: It holds something else.
    """
    array = np.asarray(values)
    if not np.can_cast(array.dtype, dtype, casting="same_kind"):
        raise ValueError(f"{array.dtype} instead of {np.dtype(dtype)}")
    return array.astype(dtype, copy=False)


def row_hashes(points: NDArray[np.float32]) -> NDArray[np.uint64]:
    """(k, d) embeddings → (k,) hashes of the rows."""
    digests = b"".join(hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in points)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)
