"""Near duplicates: images of one group say the same thing again, so that one of them counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Image


def near_groups(ids: NDArray[np.int64], images: Mapping[int, Image]) -> NDArray[np.int64]:
    """(n,) ids of images → (n,) numbers that near duplicates share; an image that is known no more is like no other."""
    found = ((image_id, images.get(image_id)) for image_id in ids.tolist())
    return np.array([(image.near_group if image else None) or image_id for image_id, image in found], np.int64)


def different_pictures(images: Sequence[Image]) -> int:
    """How many images these are, near duplicates counted once."""
    return len({image.near_group or image.id for image in images})


def one_of_each(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) groups → rows of the first image of each, sorted."""
    return np.sort(np.unique(groups, return_index=True)[1])


def labelled_of_each(groups: NDArray[np.int64], labels: Sequence[str | None]) -> NDArray[np.int64]:
    """(n,) groups and n labels → rows of the first labelled image of each group that has one, sorted."""
    labelled = np.array([row for row, label in enumerate(labels) if label is not None], np.int64)
    return labelled[one_of_each(groups[labelled])]


def sampled(groups: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """At most so many of n rows at random, sorted; where groups are left out, it is for other groups.

    Near duplicates are drawn where there is room, for what counts images rather than pictures, such as the classes'
    shares.
    """
    if len(groups) <= most:
        return np.arange(len(groups))
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(groups))
    first = np.zeros(len(groups), np.bool_)
    first[one_of_each(groups[order])] = True
    return np.sort(np.concatenate([order[first], order[~first]])[:most])
