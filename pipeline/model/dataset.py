"""Prepared images with their labels, their split for early stopping, and how they come in batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, eq=False)
class LabelledPixels:
    """n prepared images with the indices of their classes.

    Attributes:
        pixels: (n, size, size, 3) uint8; an array in memory or mapped from a file.
        labels: (n,) int64, 0 … classes - 1.
    """

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3 or self.pixels.dtype != np.uint8:
            raise ValueError(f"pixels are (n, size, size, 3) uint8, not {shape} {self.pixels.dtype}")
        if self.labels.shape != (shape[0],) or self.labels.dtype != np.int64:
            raise ValueError(f"labels are ({shape[0]},) int64, not {self.labels.shape} {self.labels.dtype}")
        if len(self.labels) and self.labels.min() < 0:
            raise ValueError("labels are indices of classes, 0 and up")

    def __len__(self) -> int:
        return len(self.labels)


class Turns:
    """Which images come next, epoch by epoch: a sampler that depends on seed and epoch only.

    Several processes that train together take turns: each gets every n-th image, all equally many where they learn.
    """

    def __init__(self, count: int, seed: int | None, weights: npt.NDArray[np.float64] | None = None) -> None:
        """Positions 0 … count - 1; in order without a seed; with (count,) weights drawn by them, with replacement."""
        self._count = count
        self._seed = seed
        self._weights = weights
        self.epoch = 0
        self.rank, self.ranks = 0, 1

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning as an epoch begins."""
        self.epoch = epoch

    def share(self, rank: int, ranks: int) -> None:
        """Take turns with other processes."""
        self.rank, self.ranks = rank, ranks

    def __len__(self) -> int:
        if self._seed is None:
            return len(range(self.rank, self._count, self.ranks))
        return self._count // self.ranks

    def __iter__(self) -> Iterator[int]:
        import torch

        if self._seed is None:
            order = range(self._count)
        elif self._weights is None:
            generator = torch.Generator().manual_seed(self._seed + self.epoch)
            order = torch.randperm(self._count, generator=generator).tolist()
        else:
            drawn = np.random.default_rng((self._seed, self.epoch))
            order = drawn.choice(self._count, self._count, p=self._weights / self._weights.sum()).tolist()
        return iter(order[self.rank :: self.ranks][: len(self)])


Alter = Callable[[npt.NDArray[np.uint8], Sequence[tuple[int, ...]]], npt.NDArray[np.uint8]]


class Batches:
    """A map-style data set of some of the images that hands out whole batches.

    ``DataLoader`` calls ``__getitems__`` with the indices of a batch where a data set has it: one slice of the array
    instead of a Python loop over its images.
    """

    def __init__(
        self,
        data: LabelledPixels,
        chosen: npt.NDArray[np.int64],
        alter: Alter | None = None,
        turns: Turns | None = None,
    ) -> None:
        """Images at these positions; `alter` changes them, seeded by the epoch that the turns are at."""
        self._data = data
        self._chosen = chosen
        self._alter = alter
        self._turns = turns

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        pixels, labels = self.__getitems__([index])
        return pixels[0], labels[0]

    def __getitems__(self, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels (b, size, size, 3) uint8 and labels (b,) int64 of these positions."""
        import torch

        rows = self._chosen[np.asarray(indices)]
        pixels = self._data.pixels[rows]
        if self._alter is not None:
            epoch = 0 if self._turns is None else self._turns.epoch
            pixels = self._alter(pixels, [(epoch, row, place) for place, row in enumerate(rows.tolist())])
        return torch.from_numpy(pixels), torch.from_numpy(self._data.labels[rows])


def as_it_is(batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The collate function of Batches: they are collated already."""
    return batch


def each_once(count: int, rank: int, ranks: int, largest: int) -> list[list[int]]:
    """Positions 0 … count - 1 in batches for one of several processes: all together see each position once.

    Every process gets equally many batches, because in each they wait for one another. Where there are more processes
    than positions, all see all.
    """
    if count < ranks:
        rank, ranks = 0, 1
    batches = math.ceil(math.ceil(count / ranks) / largest)
    return [batch.tolist() for batch in np.array_split(np.arange(rank, count, ranks), batches)]


def stratified_split(
    labels: npt.NDArray[np.int64], share: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Split (n,) labels into sorted positions for training and for validation.

    Every class gives its share, rounded, but at least one image of two; a class with a single image keeps it for
    training. (scikit-learn's stratified split refuses such classes, and real streams have them.)
    """
    generator = np.random.default_rng(seed)
    training, validation = [], []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        count = 0 if len(members) < 2 else min(max(round(share * len(members)), 1), len(members) - 1)
        validation.append(members[:count])
        training.append(members[count:])
    empty = np.zeros(0, dtype=np.int64)
    return np.sort(np.concatenate([empty, *training])), np.sort(np.concatenate([empty, *validation]))


def balancing(labels: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.float64]:
    """What makes every class weigh the same: (classes,) with a mean of 1 over the images; 1 for a class without any."""
    counts = np.bincount(labels, minlength=classes)
    present = counts > 0
    weights = np.ones(classes)
    weights[present] = len(labels) / (present.sum() * counts[present])
    return weights
