"""Which classes drifted: the same test for each predicted class, with Holm's (1979) correction over the classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import SeedSequence
from numpy.typing import ArrayLike, NDArray

from drift import permutation
from drift.detection import detect
from drift.errors import DriftError
from drift.rehearsal import Rehearsal
from drift.samples import MINIMUM_ROWS, as_groups, as_sample, count_groups, none_learnt

RESOLUTION = 2  # smallest p-value that can be reached lies so many times below what the strictest comparison asks for
MOST_PERMUTATIONS = 100_000  # of one class: what more classes at a stricter level would need is not drawn
PROMISING = 10  # a class gets a second look if its first p-value is at most so many times the smallest possible


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassDrift:
    """The images of one predicted class, then and now.

    Attributes:
        name: Of the class.
        reference_images: How many images of the reference are predicted to be of it.
        current_images: The same of the current sample.
        p_value: Of this class alone; None if either sample has too few images of it.
        adjusted_p_value: Holm's, over all classes that were tested.
        is_drift: Whether the adjusted p-value is at most alpha.
    """

    name: str
    reference_images: int
    current_images: int
    p_value: float | None
    adjusted_p_value: float | None
    is_drift: bool


def detect_by_class(
    reference: ArrayLike,
    current: ArrayLike,
    *,
    reference_classes: ArrayLike,
    current_classes: ArrayLike,
    classes: Sequence[str],
    min_images: int = 10,
    test: str = "ensemble",
    rehearsal: Rehearsal | None = None,
    permutations: int = 999,
    alpha: float = 0.05,
    seed: int = 0,
    reference_groups: ArrayLike | None = None,
    current_groups: ArrayLike | None = None,
) -> tuple[ClassDrift, ...]:
    """Test each predicted class on its own: (n, d) and (m, d) embeddings → one record a class, in the given order.

    The chance that any class is named without drift is at most ``alpha``. Where the correction asks for smaller
    p-values than ``permutations`` can reach, a class whose p-value is small is tested again with more, at most 100,000.
    The second answer replaces the first. That keeps it valid: below the bar for a second look it is small no more often
    than the second, above the bar no more often than the first.

    Args:
        reference: (n, d) embeddings.
        current: (m, d) embeddings by the same network.
        reference_classes: (n,) index of the class predicted for each row.
        current_classes: (m,) the same for the current sample.
        classes: Names by index.
        min_images: A class with fewer images in either sample is not tested.
        test: As of ``detect``.
        rehearsal: As of ``detect``.
        permutations: At least so many for each class.
        alpha: Level of all classes together.
        seed: Of everything random.
        reference_groups: As of ``detect``.
        current_groups: As of ``detect``.

    Raises:
        DriftError: No right answer can be given: unfit samples, classes or settings.
    """
    permutation.check_level(permutations, alpha)
    permutation.check_seed(seed)
    if test != "ensemble":
        rehearsal = None
    names = tuple(str(name) for name in classes)
    sides = (
        _Side.of(reference, reference_classes, reference_groups, rehearsal, len(names), "reference"),
        _Side.of(current, current_classes, current_groups, rehearsal, len(names), "current"),
    )
    if rehearsal is not None and not rehearsal.is_apart and sides[0].tested.all():
        none_learnt()
    least = max(min_images, MINIMUM_ROWS)
    tested = [index for index in range(len(names)) if all(side.distinct(index) >= least for side in sides)]
    needed = min(math.ceil(RESOLUTION * len(tested) / alpha), MOST_PERMUTATIONS)
    p_values: dict[int, float] = {}
    for index in tested:
        seeds = [int(word) for word in SeedSequence([seed, index]).generate_state(2)]
        p_value = _p_value(sides, index, test, rehearsal, permutations, seeds[0])
        if permutations < needed and p_value * (1 + permutations) <= PROMISING:
            p_value = _p_value(sides, index, test, rehearsal, needed, seeds[1])
        p_values[index] = p_value
    adjusted = _holm(p_values)
    return tuple(
        ClassDrift(
            name=name,
            reference_images=len(sides[0].part(index)[0]),
            current_images=len(sides[1].part(index)[0]),
            p_value=p_values.get(index),
            adjusted_p_value=adjusted.get(index),
            is_drift=adjusted.get(index, 1.0) <= alpha,
        )
        for index, name in enumerate(names)
    )


_Part = tuple[NDArray[np.floating], NDArray[np.integer] | None]  # embeddings and groups of some rows


@dataclass(frozen=True, slots=True)
class _Side:
    """One sample with the class that was predicted for each row."""

    embeddings: NDArray[np.floating]
    classes: NDArray[np.integer]
    groups: NDArray[np.integer] | None
    tested: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        embeddings: ArrayLike,
        classes: ArrayLike,
        groups: ArrayLike | None,
        rehearsal: Rehearsal | None,
        count: int,
        name: str,
    ) -> _Side:
        sample = as_sample(embeddings, name, minimum=1)
        labels = np.asarray(classes)
        if labels.shape != (len(sample),) or labels.dtype.kind not in "iu":
            raise DriftError(
                f"the {name} classes must be whole numbers, one for each of the {len(sample)} rows, "
                f"not {labels.dtype} of shape {labels.shape}"
            )
        if labels.size and (labels.min() < 0 or labels.max() >= count):
            raise DriftError(f"the {name} classes must lie from 0 to {count - 1}: each is the index of a name")
        tested = np.ones(len(sample), dtype=bool) if rehearsal is None else ~rehearsal.learnt(sample)
        return cls(sample, labels, None if groups is None else as_groups(groups, len(sample), name), tested)

    def part(self, index: int) -> _Part:
        """Rows of one class."""
        rows = np.flatnonzero(self.classes == index)
        return self.embeddings[rows], None if self.groups is None else self.groups[rows]

    def distinct(self, index: int) -> int:
        """Images of one class that can be tested, near duplicates counted once."""
        rows = np.flatnonzero((self.classes == index) & self.tested)
        return len(rows) if self.groups is None else count_groups(self.groups[rows])


def _p_value(
    sides: tuple[_Side, _Side], index: int, test: str, rehearsal: Rehearsal | None, permutations: int, seed: int
) -> float:
    if rehearsal is not None and sides[0].tested[sides[0].classes == index].all():
        rehearsal = rehearsal.apart()  # learnt from images of other classes
    (reference, reference_groups), (current, current_groups) = (side.part(index) for side in sides)
    return detect(
        reference,
        current,
        test=test,
        rehearsal=rehearsal,
        permutations=permutations,
        alpha=0.5,  # the correction decides
        seed=seed,
        reference_groups=reference_groups,
        current_groups=current_groups,
    ).p_value


def _holm(p_values: Mapping[int, float]) -> dict[int, float]:
    """p-values by class → adjusted: each times the number not smaller, made monotone, at most 1."""
    adjusted: dict[int, float] = {}
    largest = 0.0
    for rank, index in enumerate(sorted(p_values, key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
