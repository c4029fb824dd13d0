"""Parts of a holdout that a model must not ruin, however good it is on the whole: classes, folders, batches."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.naming import quoted


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice:
    """The answers of two models on the same part of the holdout.

    Attributes:
        name: What the images have in common, such as ``class 'rose'``.
        images: How many there are.
        ours: How many of them the challenger answered right.
        theirs: How many of them the champion answered right.
        worse: How many of them the champion alone answered right.
    """

    name: str
    images: int
    ours: int
    theirs: int
    worse: int

    @property
    def loss(self) -> float:
        """Accuracy lost by the challenger; negative where it won."""
        return (self.theirs - self.ours) / self.images

    @property
    def p_value(self) -> float:
        """How often chance lets so many answers get worse, of those in which the models differ: exact sign test."""
        from scipy.stats import binomtest

        better = self.ours - self.theirs + self.worse
        differ = better + self.worse
        return 1.0 if differ == 0 else float(binomtest(self.worse, differ, 0.5, alternative="greater").pvalue)

    def to_dict(self) -> dict[str, Any]:
        """The slice as JSON values."""
        return {
            "name": self.name,
            "images": self.images,
            "challenger": self.ours,
            "champion": self.theirs,
            "p_value": self.p_value,
        }


def cut(
    parts: Mapping[str, Sequence[str | None]], ours: npt.NDArray[np.bool_], theirs: npt.NDArray[np.bool_]
) -> tuple[Slice, ...]:
    """Slices of n images: kind → what each image is in that respect, and (n,) right answers of both models.

    Images that are nothing in some respect (None) are in no slice of that kind. What two kinds cut alike, as folders
    named after classes do, is one slice, of the first kind; and what holds every image is none.

    Raises:
        ValueError: The lengths differ.
    """
    count = len(ours)
    slices: list[Slice] = []
    # A random number for each image: equal sums are equal sets, without comparing thousands of folders image by image.
    marks = np.random.Generator(np.random.PCG64(0)).integers(1 << 64, size=count, dtype=np.uint64)
    seen: set[int] = set()
    for kind, values in parts.items():
        if not len(values) == count == len(theirs):
            raise ValueError(f"{len(values)} values of {kind} for {count} and {len(theirs)} answers")
        names = sorted({value for value in values if value is not None})
        position = {name: index for index, name in enumerate(names)}
        where = np.array([len(names) if value is None else position[value] for value in values], dtype=np.int64)
        sums = np.zeros(len(names) + 1, dtype=np.uint64)
        np.add.at(sums, where, marks)
        images, right, before, worse = (
            np.bincount(where[rows], minlength=len(names) + 1) for rows in (slice(None), ours, theirs, theirs & ~ours)
        )
        for index, name in enumerate(names):
            if images[index] == count or int(sums[index]) in seen:
                continue
            seen.add(int(sums[index]))
            title = _title(kind, name)
            counts = {"ours": int(right[index]), "theirs": int(before[index]), "worse": int(worse[index])}
            slices.append(Slice(name=title, images=int(images[index]), **counts))
    return tuple(slices)


def members(parts: Mapping[str, Sequence[str | None]], names: Collection[str]) -> dict[str, npt.NDArray[np.int64]]:
    """Which rows are in some slices of `cut`, by the slices' names."""
    rows: dict[str, list[int]] = {name: [] for name in names}
    for kind, values in parts.items():
        titles = {value: _title(kind, value) for value in set(values) if value is not None}
        for row, value in enumerate(values):
            if value is not None and titles[value] in rows:
                rows[titles[value]].append(row)
    return {name: np.array(found, dtype=np.int64) for name, found in rows.items()}


def _title(kind: str, name: str) -> str:
    return f"batch {name}" if kind == "batch" else f"{kind} {quoted(name)}"
